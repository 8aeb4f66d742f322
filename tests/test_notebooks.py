"""The notebooks: their form, that pairs agree, that they run, and that they print what they should.

The outputs stored in a notebook are those of the default run.  The tagged cells are compared with the outputs of the
small run, which is made here once; `make run PARAMS=params/small.yaml` then finds it up to date.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from pathlib import Path
from statistics import median

import jupytext
import nbformat
import pytest
from conftest import ROOT
from filelock import FileLock
from nbval.plugin import coalesce_streams, metadata_tags

from starclip_lib.lab.notebooks import every_notebook
from starclip_lib.lab.refresh import CHECKED, CHECKED_FILE, checked_outputs, formats_page, parameters_page
from starclip_lib.lab.runner import run_evaluation, run_pipeline
from starclip_lib.run import Run

SOURCES = [ROOT / "notebooks" / f"{name}.py" for name in every_notebook()]
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def read(source: Path) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The notebook as its .py says and as it is committed."""
    return jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def code_lines(cell: nbformat.NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def statements(cell: nbformat.NotebookNode) -> int:
    return len(ast.parse(re.sub(r"^%", "#", cell.source, flags=re.M)).body)


@each_notebook
def test_pairs_agree(source: Path) -> None:
    written, committed = read(source)
    assert [(c.cell_type, c.source) for c in committed.cells] == [(c.cell_type, c.source) for c in written.cells], (
        "run `make notebooks`"
    )
    assert [c.metadata.get("tags", []) for c in committed.cells] == [c.metadata.get("tags", []) for c in written.cells]


def test_the_number_of_a_notebook_is_its_place() -> None:
    names = [source.stem for source in SOURCES]
    assert names == sorted(names)
    for source, after in itertools.pairwise(SOURCES):
        assert f"({after.stem}.ipynb)" in jupytext.read(source).cells[-1].source, f"{source.stem} leads elsewhere"


@each_notebook
def test_few_modules_are_imported(source: Path) -> None:
    """At most eight modules of the package, five in the tour, thirteen in the notebook of all methods."""
    modules = set()
    for cell in jupytext.read(source).cells:
        code = "" if cell.cell_type != "code" else re.sub(r"^%", "#", cell.source, flags=re.M)
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "starclip_lib":
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                modules |= {name if is_module(name) else node.module for name in inner}
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names if alias.name.split(".")[0] == "starclip_lib"}
    assert len(modules) <= {"00_tour": 5, "12_baselines": 13}.get(source.stem, 8), sorted(modules)


@each_notebook
def test_form(source: Path) -> None:
    notebook, _ = read(source)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lengths = [code_lines(cell) for cell in code]
    assert median(map(statements, code)) <= 5
    assert max(lengths) <= 30
    defining = [code_lines(cell) for cell in code if re.search(r"^\s*(def|class) ", cell.source, re.M)]
    assert len(defining) <= 1, "logic belongs in the package; a notebook may define the one function that it teaches"
    assert max(defining, default=0) <= 12
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert len(prose.split()) >= 4 * sum(lengths)
    opening = notebook.cells[0].source
    for part in ("# ", "**Purpose.**", "**After this notebook you can**", "needs | makes | time on 2 cores | last run"):
        assert part in opening, part
    assert "## Questions" in prose
    assert [cell.metadata.get("tags") for cell in code].count(["parameters"]) == 1


@each_notebook
def test_committed_outputs(source: Path) -> None:
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size < 600_000
    _, notebook = read(source)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    for output in outputs:
        if output.output_type == "stream":
            assert output.name == "stdout"
        else:
            texts = ({"text/plain"}, {"text/plain", "text/html"}, {"text/plain", "text/markdown"})
            assert set(output.data) in ({"image/png"}, *texts)
    assert any("image/png" in output.get("data", {}) for output in outputs), "a reader of the web page sees no picture"
    assert "/tmp/" not in path.read_text()


@each_notebook
def test_what_is_compared_is_there(source: Path) -> None:
    written, _ = read(source)
    wanted = json.loads((ROOT / CHECKED_FILE).read_text())[source.stem]
    assert len(wanted) == sum(CHECKED in cell.metadata.get("tags", []) for cell in written.cells) > 0
    assert all(wanted), "a cell without outputs would pass unchecked"


def test_the_page_of_parameters_is_up_to_date() -> None:
    assert (ROOT / "docs" / "parameters.md").read_text() == parameters_page(), "run `make pages`"
    assert (ROOT / "docs" / "data-formats.md").read_text() == formats_page(), "run `make pages`"
    assert "| `epochs` | `60` |" in parameters_page().split("## mockstarclip.align.train")[1].split("##")[0]


@pytest.fixture(scope="session")
def small_report() -> Path:
    """The report of params/small.yaml with its evaluation: the project's own run, made unless it is current."""
    run = Run.open(ROOT / "params" / "small.yaml")
    run.folder.parent.mkdir(exist_ok=True)
    with FileLock(run.folder.parent / "small.test.lock"):
        run_pipeline(run)
        run_evaluation(run)
    return run.report


def comparable(outputs: list[dict]) -> list[dict]:
    """As nbval compares them: pieces of a stream together, without the number of the cell."""
    joined = coalesce_streams([nbformat.from_dict(output) for output in outputs])
    return [{key: value for key, value in output.items() if key != "execution_count"} for output in joined]


@each_notebook
def test_it_runs_without_warnings_and_prints_what_is_committed(source: Path, small_report: Path) -> None:
    executed = nbformat.read(small_report / f"{source.stem}.ipynb", as_version=4)
    wanted = json.loads((ROOT / CHECKED_FILE).read_text())[source.stem]
    for cell, expected in zip(checked_outputs(executed), wanted, strict=True):
        assert comparable(cell) == comparable(expected), "if it is right: make notebooks"
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    warnings = "".join(output.text for output in outputs if output.get("name") == "stderr")
    assert not warnings, "such as a figure with an empty axis"


def test_a_reader_can_check_a_notebook_with_nbval() -> None:
    """The tag is nbval's, and a notebook that reads no run prints in every run what is committed."""
    assert metadata_tags[CHECKED] == "check"
    name = "00b_contrastive_from_scratch"
    _, committed = read(ROOT / "notebooks" / f"{name}.py")
    wanted = json.loads((ROOT / CHECKED_FILE).read_text())[name]
    assert [comparable(cell) for cell in checked_outputs(committed)] == [comparable(cell) for cell in wanted]
