"""Exercises: every answer is checked, and the notebooks use each of them once, with its solution folded below."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from starclip_lib.lab.notebooks import every_notebook
from starclip_lib.support.errors import DataError
from starclip_lib.teaching.exercises import EXERCISES, check, is_right

# Worked out by hand, not taken from the module.
ANSWERS = {
    "00.1": 1728, "00.2": "apogee", "00b.1": 4.094, "00b.2": 1.0986, "01.1": 8.33, "01.2": 24.4, "02.1": 0.02,
    "02.2": 8, "03.1": 1.0, "03.2": 0.99, "04.1": 6.238, "04.2": 0.002, "05.1": " mock ", "05.2": 15, "06.1": 0.583,
    "06.2": 0.001, "07.1": 0.1, "07.2": False, "08.1": 0.75, "08.2": 0.5, "08b.1": 2.294,
    "08b.2": 0.707, "09.1": "r@1", "09.2": "[fe/h]", "10.1": 1.3,
    "10.2": 1, "11.1": 1.488, "11.2": 500, "12.1": 0.3, "12.2": False, "13.1": "undecided", "13.2": 5, "14.1": 0.96,
    "14.2": 5.7, "15.1": 0.8, "15.2": "narrow", "16.1": 4096, "16.2": 4,
}  # fmt: skip


@pytest.mark.parametrize("name", EXERCISES)
def test_right_wrong_and_waiting(name: str, capsys: pytest.CaptureFixture) -> None:
    check(name, ANSWERS[name])
    assert capsys.readouterr().out.startswith(f"{name}: right, ")
    check(name, None)
    assert "waiting for your answer" in capsys.readouterr().out
    for wrong in (-12345.0, "nothing of the sort", *EXERCISES[name].hints):
        check(name, wrong)
        assert capsys.readouterr().out.startswith(f"{name}: not yet. Hint: ")


def test_particular_mistakes_get_their_own_hint(capsys: pytest.CaptureFixture) -> None:
    check("06.2", 0.0002)
    assert "five candidates" in capsys.readouterr().out
    check("07.2", True)
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "answer"), [("01.1", 8), ("09.1", "SuccessRate@1"), ("09.2", "Fe/H"), ("15.2", "too narrow")]
)
def test_other_spellings_and_rounded_answers_are_right(name: str, answer: float | str) -> None:
    assert is_right(name, answer)


def test_unknown_exercises_are_errors() -> None:
    with pytest.raises(DataError, match=r"no exercise 99\.1; there are 00\.1"):
        check("99.1", 1)


def test_notebooks_use_each_exercise_once_and_fold_its_solution() -> None:
    used = []
    for name in every_notebook():
        text = (ROOT / "notebooks" / f"{name}.py").read_text()
        found = re.findall(r'starclip\.check\("([\w.]+)", answer\)\n\n# %% \[markdown\]\n# <details><summary>', text)
        assert len(found) == text.count("starclip.check(") == 2, name
        assert {exercise.split(".")[0] for exercise in found} == {name.split("_")[0]}
        used += found
    assert sorted(used) == sorted(EXERCISES)
