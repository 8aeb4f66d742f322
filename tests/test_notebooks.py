"""The committed notebooks: their form, that pairs agree, and through nbval that they run and print what they should."""

from __future__ import annotations

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

from starclip_lib.pipeline.notebooks import every_notebook
from starclip_lib.pipeline.refresh import CHECKED, parameters_page

SOURCES = [ROOT / "notebooks" / f"{name}.py" for name in every_notebook()]
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def read(source: Path) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The notebook as its .py says and as it is committed."""
    return jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_lines(cell: nbformat.NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


@each_notebook
def test_pairs_agree(source: Path) -> None:
    written, committed = read(source)
    assert [(c.cell_type, c.source) for c in committed.cells] == [(c.cell_type, c.source) for c in written.cells], (
        "run `make notebooks`"
    )
    assert [c.metadata.get("tags", []) for c in committed.cells] == [c.metadata.get("tags", []) for c in written.cells]


@each_notebook
def test_form(source: Path) -> None:
    notebook, _ = read(source)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lengths = [code_lines(cell) for cell in code]
    assert median(lengths) <= 5
    assert max(lengths) <= 30
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.M) for cell in code)
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
    assert path.stat().st_size < 300_000
    _, notebook = read(source)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    tagged = [cell for cell in notebook.cells if CHECKED in cell.metadata.get("tags", [])]
    assert tagged, "no cell is checked by nbval"
    for cell in tagged:
        assert cell.outputs, f"nbval would pass this cell unchecked: {cell.source}"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if CHECKED not in cell.metadata.get("tags", []):
                assert list(output.data) == ["image/png"]
    assert "/tmp/" not in path.read_text()


def test_the_page_of_parameters_is_up_to_date() -> None:
    assert (ROOT / "docs" / "parameters.md").read_text() == parameters_page(), "run `make notebooks`"
    assert "| `epochs` | `60` |" in parameters_page().split("## mockstarclip.align.train")[1].split("##")[0]


def test_every_notebook_runs_and_prints_what_is_committed(tmp_path: Path) -> None:
    """nbval on copies with params/small.yaml put in; it compares the outputs of the tagged cells."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "notebooks").mkdir()
    copies = []
    for source in SOURCES:
        notebook = load_notebook_node(str(source.with_suffix(".ipynb")))
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
    done = subprocess.run([*command, *copies], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
