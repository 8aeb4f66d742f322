"""Handouts of notebooks without their solutions."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from starclip_lib import cli
from starclip_lib.pipeline.classroom import write_handouts
from starclip_lib.teaching.exercises import EXERCISES

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def returned(path: Path, **answers: str) -> Path:
    """A notebook with an exercise for each answer, '_' for the dot in its name."""
    cells = [
        nbformat.v4.new_code_cell(f'{source}\nstarclip.check("{name.strip("x").replace("_", ".")}", answer)')
        for name, source in answers.items()
    ]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    return path


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_handouts_have_no_solution_and_all_exercises(notebook: Path, tmp_path: Path) -> None:
    before, book = nbformat.read(notebook, 4), nbformat.read(write_handouts([notebook], tmp_path)[0], 4)
    text = "\n".join(cell.source for cell in book.cells)
    assert "<details>" not in text
    assert "Solution" not in text
    exercises = [name for name in EXERCISES if f'"{name}"' in "\n".join(cell.source for cell in before.cells)]
    assert all(f'check("{name}", answer)' in text for name in exercises)
    assert text.count("answer = None") >= len(exercises)
    assert "## Questions" in text
    code = [[cell.source for cell in nb.cells if cell.cell_type == "code"] for nb in (before, book)]
    assert len(code[0]) == len(code[1])


def test_answers_given_are_blanked(tmp_path: Path) -> None:
    solved = returned(tmp_path / "a" / "x.ipynb", x00_1="answer = 0.01")
    text = write_handouts([solved], tmp_path / "out")[0].read_text()
    assert "answer = 0.01" not in text
    assert "answer = None" in text


def test_a_handout_replaces_nothing_but_a_handout(tmp_path: Path, capsys) -> None:
    notebook = returned(tmp_path / "x.ipynb", x00_1="answer = None")
    assert cli.main(["handout", str(notebook), "--output", str(tmp_path)]) == 1
    assert "is there and no handout" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main(["handout", str(notebook), "--output", str(tmp_path / "out")]) == 0
    other = returned(tmp_path / "other" / "x.ipynb", x00_1="answer = None")
    assert cli.main(["handout", str(notebook), str(other), "--output", str(tmp_path / "out")]) == 1
    assert "two of the notebooks are named x.ipynb" in capsys.readouterr().err


def test_what_is_no_notebook_gets_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.ipynb").write_text("{no notebook")
    assert cli.main(["handout", str(tmp_path / "x.ipynb"), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "is no Jupyter notebook" in error
    assert error.count("\n") == 1
