"""Handouts without solutions; marks of returned notebooks, of which none is trusted."""

from __future__ import annotations

import csv
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from starclip_lib import cli
from starclip_lib.pipeline import classroom
from starclip_lib.pipeline.classroom import Mark, mark_folder, overview, write_handout, write_marks
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


def marks(folder: Path) -> dict[str, str]:
    return {mark.exercise: mark.verdict for mark in mark_folder(folder)}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_handouts_have_no_solution_and_all_exercises(notebook: Path, tmp_path: Path) -> None:
    before, book = nbformat.read(notebook, 4), nbformat.read(write_handout(notebook, tmp_path), 4)
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
    text = write_handout(solved, tmp_path / "out").read_text()
    assert "answer = 0.01" not in text
    assert "answer = None" in text


def test_a_handout_never_replaces_its_notebook(tmp_path: Path, capsys) -> None:
    notebook = returned(tmp_path / "x.ipynb", x00_1="answer = None")
    assert cli.main(["handout", str(notebook), "--output", str(tmp_path)]) == 1
    assert "would replace" in capsys.readouterr().err


def test_right_wrong_and_missing_answers(tmp_path: Path) -> None:
    returned(
        tmp_path / "anna.ipynb",
        x00_1="answer = 10 / 1000",
        x00_2="answer = 'nirspec'",
        x01_1="answer = np.float64(22500) / 2700",
        x01_2="answer = None",
        x12_2="answer = np.bool_(False)",
        x02_1="answer = 'two per cent'",
    )
    assert marks(tmp_path) == {
        "00.1": "right", "00.2": "wrong", "01.1": "right", "01.2": "no answer", "12.2": "right", "02.1": "wrong",
    }  # fmt: skip


def test_what_needs_other_cells_is_not_judged(tmp_path: Path) -> None:
    returned(tmp_path / "ben.ipynb", x00_1="answer = run.n / 1000", x00_2="answer = 'APOGEE'")
    found = marks(tmp_path)
    assert found["00.1"].startswith("does not run by itself: NameError")
    assert found["00.2"] == "right"


def test_loops_floods_and_crashes_cost_only_themselves(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(classroom, "_SECONDS", 3)
    returned(tmp_path / "a.ipynb", x00_1="while True: pass")
    returned(tmp_path / "b.ipynb", x00_1="answer = 'x' * 10**11")
    returned(tmp_path / "c.ipynb", x00_1="import os; os._exit(3)")
    returned(tmp_path / "d.ipynb", x00_1="raise SystemExit")
    returned(tmp_path / "e.ipynb", x00_1="print('right ' * 10**6); answer = 0.01")
    (tmp_path / "f.ipynb").write_text("{no notebook")
    returned(tmp_path / "g.ipynb")
    found = {mark.file: mark.verdict for mark in mark_folder(tmp_path)}
    assert found["a.ipynb"].startswith("not judged")
    assert found["b.ipynb"].startswith("does not run by itself: MemoryError")
    assert found["c.ipynb"].startswith("not judged")
    assert found["d.ipynb"].startswith("does not run by itself: SystemExit")
    assert found["e.ipynb"] == "right"
    assert "is no Jupyter notebook" in found["f.ipynb"]
    assert found["g.ipynb"] == "has no exercises of ours"


def test_returned_cells_write_no_files_and_see_no_secrets(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "7")
    target = tmp_path / "written"
    returned(
        tmp_path / "a.ipynb",
        x00_1=f"f = open({str(target)!r}, 'w'); f.write('x'); f.close(); answer = 0.01",
        x00_2="import os; answer = os.environ['SECRET']",
    )
    found = marks(tmp_path)
    assert not target.exists() or target.stat().st_size == 0
    assert found["00.1"] != "right"
    assert "KeyError" in found["00.2"]


def test_saying_right_is_not_being_right(tmp_path: Path) -> None:
    returned(tmp_path / "a.ipynb", x00_1="starclip.check = lambda *_: print('00.1: right'); answer = 5")
    assert marks(tmp_path)["00.1"] in {"wrong", "no answer"}


def test_marks_are_a_table_without_formulas(tmp_path: Path, capsys) -> None:
    returned(tmp_path / "in" / "anna" / "x.ipynb", x00_1="answer = 0.01", x00_2="answer = '=HYPERLINK()'")
    assert cli.main(["mark", str(tmp_path / "in"), "--output", str(tmp_path / "marks.csv")]) == 0
    assert "x.ipynb: 1 of 2 right (00.2 wrong)" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "marks.csv").open()))
    assert [row["answer"] for row in rows] == ["0.01", "'=HYPERLINK()"]
    write_marks([Mark("-a", "00.1", "wrong", "-3.5")], tmp_path / "two.csv")
    assert next(csv.DictReader((tmp_path / "two.csv").open()))["answer"] == "-3.5"
    assert overview([Mark("a", "", "is no notebook")]) == ["a: 0 of 0 right (is no notebook)"]


def test_folders_are_checked(tmp_path: Path, capsys) -> None:
    assert cli.main(["mark", str(tmp_path / "nowhere")]) == 1
    assert cli.main(["mark", str(tmp_path)]) == 1
    assert "holds no notebook" in capsys.readouterr().err
