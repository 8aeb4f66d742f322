"""The notebooks: their form, that pairs agree, and through nbval that they run and print what they should.

What is committed in a notebook was shown by the default run; what nbval compares with is that of the small one.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import jupytext
import nbformat
import pytest
from conftest import ROOT
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from starclip_lib.lab.formats_page import formats_page
from starclip_lib.lab.notebooks import every_notebook
from starclip_lib.lab.refresh import CHECKED, CHECKED_FILE, parameters_page

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
def test_what_nbval_checks_is_there(source: Path) -> None:
    written, _ = read(source)
    wanted = json.loads((ROOT / CHECKED_FILE).read_text())[source.stem]
    assert len(wanted) == sum(CHECKED in cell.metadata.get("tags", []) for cell in written.cells) > 0
    assert all(wanted), "nbval would pass a cell without outputs unchecked"


def test_the_page_of_parameters_is_up_to_date() -> None:
    assert (ROOT / "docs" / "parameters.md").read_text() == parameters_page(), "run `make pages`"
    assert (ROOT / "docs" / "data-formats.md").read_text() == formats_page(), "run `make pages`"
    assert "| `epochs` | `60` |" in parameters_page().split("## mockstarclip.align.train")[1].split("##")[0]


def test_every_notebook_runs_and_prints_what_is_committed(tmp_path: Path) -> None:
    """nbval on copies with params/small.yaml put in compares the outputs of the tagged cells; no figure is empty."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").mkdir()
    copies = []
    for source in SOURCES:
        notebook = load_notebook_node(str(source.with_suffix(".ipynb")))
        checked = iter(json.loads((ROOT / CHECKED_FILE).read_text())[source.stem])
        for cell in notebook.cells:
            if CHECKED in cell.metadata.get("tags", []):
                cell.outputs = [nbformat.from_dict(output) for output in next(checked)]
        notebook = parameterize_notebook(notebook, {"params_file": "../params/small.yaml"})
        copies.append(tmp_path / "notebooks" / f"{source.stem}.ipynb")
        nbformat.write(notebook, copies[-1])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval-lax",
        "--nbval-cell-timeout=600",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    strict = {**os.environ, "PYTHONWARNINGS": "error:figure"}  # an empty axis stops its notebook
    done = subprocess.run([*command, *copies], cwd=tmp_path, env=strict, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
