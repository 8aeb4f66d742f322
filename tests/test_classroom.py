"""Handouts of notebooks without their solutions."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from starclip_lib.lab import cli
from starclip_lib.teaching.classroom import mark_returned, write_handouts
from starclip_lib.teaching.exercises import EXERCISES
from starclip_lib.teaching.marking import mark

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
    solved = returned(tmp_path / "a" / "x.ipynb", x06_2="answer = 0.001")
    text = write_handouts([solved], tmp_path / "out")[0].read_text()
    assert "answer = 0.001" not in text
    assert "answer = None" in text


def test_a_handout_replaces_nothing_but_a_handout(tmp_path: Path, capsys) -> None:
    notebook = returned(tmp_path / "x.ipynb", x06_2="answer = None")
    assert cli.main(["handout", str(notebook), "--output", str(tmp_path)]) == 1
    assert "is there and no handout" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main(["handout", str(notebook), "--output", str(tmp_path / "out")]) == 0
    other = returned(tmp_path / "other" / "x.ipynb", x06_2="answer = None")
    assert cli.main(["handout", str(notebook), str(other), "--output", str(tmp_path / "out")]) == 1
    assert "two of the notebooks are named x.ipynb" in capsys.readouterr().err


def test_what_is_no_notebook_gets_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.ipynb").write_text("{no notebook")
    assert cli.main(["handout", str(tmp_path / "x.ipynb"), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "is not a Jupyter notebook" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("answer = 0.001", "right"),
        ("answer = 1 / 1_000", "right"),
        ("answer = np.exp(math.log(0.001))", "right"),
        ("answer = 0.5\nanswer = round(1) * 1e-3", "right"),
        ("answer = 0.02", "not yet"),
        ("answer = 'chance'", "not yet"),
        ("answer = None", "blank"),
        ("", "blank"),
        ("answer = data.n_stars", "by hand"),
        ("answer = __import__('os').remove('mark')", "by hand"),
        ("answer = open('mark').read()", "by hand"),
        ("while True: pass\nanswer = 0.001", "right"),
        ("answer = 10 ** 10 ** 10", "by hand"),
        ("answer = 9 ** 9 ** 9 ** 9", "by hand"),
        ("answer = 1 / 0", "by hand"),
        ("answer = " + "(" * 500 + "1" + ")" * 500, "by hand"),
        ("answer = 0.001 if", "by hand"),
        ("starclip.check = print\nanswer = 7", "not yet"),
        ("answer: float = 0.001", "right"),
        ("answer, b = 0.001, 2", "by hand"),
        ("if True:\n    answer = 0.001", "by hand"),
        ("answer = 0\nanswer += 0.001", "by hand"),
        ("(answer := 0.001)", "by hand"),
        ("for answer in (1, 0.001): pass", "by hand"),
        ("answer = 0.001\nx" + ".a" * 900 + "()", "right"),
    ],
)
def test_marks_are_read_and_nothing_is_run(source: str, found: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mark").write_text("mine")
    returned(tmp_path / "class" / "ann.ipynb", x06_2=source)
    table = mark_returned(tmp_path / "class")
    assert table.values.tolist() == [["ann.ipynb", "06.2", found]]
    assert (tmp_path / "mark").read_text() == "mine"


def test_an_exercise_that_is_checked_in_another_way_is_for_the_lecturer() -> None:
    assert mark('starclip.check("06.2", 0.001)') == {"06.2": "by hand"}
    assert mark("print(starclip.check('06.2', answer))") == {"06.2": "by hand"}


def test_a_class_is_marked_and_what_cannot_be_read_says_so(tmp_path: Path, capsys) -> None:
    returned(tmp_path / "class" / "ann" / "00.ipynb", x06_2="answer = 0.001", x00_2="answer = 'apogee'")
    returned(tmp_path / "class" / "bob" / "00.ipynb", x06_2="answer = 0.5", x00_2="answer = None")
    (tmp_path / "class" / "eve.ipynb").write_text("{")
    assert cli.main(["mark", str(tmp_path / "class"), "--output", str(tmp_path / "marks.csv")]) == 0
    printed = capsys.readouterr().out
    assert "2 of 4 exercises are right" in printed
    assert "eve.ipynb" in printed
    assert "is not a Jupyter notebook" in printed
    assert (tmp_path / "marks.csv").read_text().count("right") == 2
    assert cli.main(["mark", str(tmp_path / "nowhere")]) == 1
    assert "no notebook" in capsys.readouterr().err


@pytest.mark.parametrize("name", EXERCISES)
def test_every_right_answer_is_marked_right_and_a_function_by_hand(name: str, tmp_path: Path) -> None:
    code, mark = f"answer = {EXERCISES[name].right!r}", "right"
    if EXERCISES[name].trials:
        code, mark = "answer = of_mine", "by hand"  # nothing that a student wrote is run
    returned(tmp_path / "x.ipynb", **{f"x{name.replace('.', '_')}": code})
    assert mark_returned(tmp_path)["mark"].tolist() == [mark]
