"""Exercises: every answer is checked, and the notebooks use each of them once, with its solution folded below."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.constants import c
from conftest import ROOT

from starclip_lib.lab.notebooks import every_notebook
from starclip_lib.support.errors import DataError
from starclip_lib.teaching.exercises import EXERCISES, check, is_right


def nearest(query: np.ndarray, candidates: np.ndarray) -> int:
    angles = [np.arccos(one @ query / np.sqrt((one @ one) * (query @ query))) for one in candidates]
    return angles.index(min(angles))


def at_rest(wavelength: np.ndarray, velocity: float) -> np.ndarray:
    return wavelength / (1 + velocity * u.km / u.s / c).to_value("")


def longer_exposure(bound: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.exp(2 * (np.log(bound) - np.log(wanted)))


def van_trees(information: np.ndarray, prior: np.ndarray) -> list[float]:
    root = np.linalg.cholesky(prior)  # in units of the prior, its precision is the unit matrix
    whitened = np.linalg.solve(np.eye(len(prior)) + root.T @ information @ root, root.T)
    return [np.sqrt(row @ column) for row, column in zip(root, whitened.T, strict=True)]


def paired_interval(difference: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    means = sorted(sum(difference[i] for i in row) / len(row) for row in draws)
    return tuple(np.percentile(means, [2.5, 97.5]))


def found_at_one_per_cent(normal: np.ndarray, planted: np.ndarray) -> float:
    limit = sorted(normal)[-len(normal) // 100]
    return sum(score > limit for score in planted) / len(planted)


def pit(samples: np.ndarray, truth: np.ndarray) -> list[float]:
    return [sum(sample < one for sample in row) / len(row) for row, one in zip(samples, truth, strict=True)]


def lora(x: np.ndarray, weight: np.ndarray, down: np.ndarray, up: np.ndarray) -> np.ndarray:
    return x @ weight.T + (x @ down.T) @ up.T


# Worked out by hand, not taken from the module.
ANSWERS = {
    "00.1": 1728, "00.2": "apogee", "00b.1": 4.094, "00b.2": 1.0986, "01.1": 8.33, "01.2": 24.4, "02.1": 0.02,
    "02.2": 8, "03.1": 1.0, "03.2": 0.99, "04.1": 6.238, "04.2": 0.002, "05.1": " mock ", "05.2": 15, "06.1": 0.583,
    "06.2": 0.001, "07.1": 0.1, "07.2": False, "08.1": 0.75, "08.2": 0.5, "08b.1": 2.294,
    "08b.2": 0.707, "09.1": nearest, "09.2": "[fe/h]", "10.1": at_rest, "10.2": 1, "11.1": longer_exposure,
    "11.2": 1.488, "11b.1": " si i ", "11b.2": 0.602,
    "12.1": van_trees, "12.2": False, "13.1": paired_interval, "13.2": "undecided", "13b.1": 0.9165, "13b.2": "linear",
    "14.1": found_at_one_per_cent, "14.2": 5.7, "15.1": pit, "15.2": "narrow", "16.1": lora, "16.2": 4,
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
    check("06.2", "0.0002")
    assert "five candidates" in capsys.readouterr().out
    check("14.2", 0.0566)
    assert "asks for per cent" in capsys.readouterr().out
    check("07.2", True)
    assert "not yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("01.1", 8), ("09.2", "Fe/H"), ("09.2", " 'Fe' "), ("12.2", "No"), ("13.2", "Un-decided."),
        ("15.2", "too narrow"),
        ("01.1", "8.3"), ("01.1", "8,33"), ("01.1", "≈ 8.3"), ("01.1", "Eight"), ("01.1", "25/3"), ("01.1", [8.3]),
        ("00.1", "1,728"), ("00.1", "1728 pixels"), ("00.1", "1 728"), ("00.1", "1.728e3"), ("00.1", np.array([1728])),
        ("01.2", "24.4 km/s"), ("01.2", "24400 m/s"), ("01.2", 24.4 * u.km / u.s), ("01.2", "24.4 km s-1"),
        ("03.2", "99 %"), ("03.2", "0,99"), ("03.2", "99 per cent"), ("06.2", "1e-3"), ("06.2", "10^-3"),
        ("06.2", "0.1%"),
        ("06.2", "1 × 10^-3"), ("06.2", "1/1000"), ("06.2", ".001"), ("04.1", "6,238"), ("05.2", "15 negatives"),
        ("07.2", "FALSE"), ("07.2", "no"), ("07.2", np.False_), ("10.2", "1 sigma"), ("11b.2", "0.6 dex"),
        ("14.2", "5.7 %"), ("14.2", "5,7"), ("14.2", 5.7 * u.percent), ("16.2", "four"), ("16.2", "4.0"),
    ],
)  # fmt: skip
def test_other_spellings_and_rounded_answers_are_right(name: str, answer: Any) -> None:
    assert is_right(name, answer)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("03.1", "1 %"), ("14.2", 0.057), ("01.2", "24.4 m/s"), ("01.2", "24.4 Å"), ("07.2", "yes"), ("07.2", 0),
        ("03.1", True), ("16.2", [4, 4]), ("16.2", {}), ("16.2", "4 or 5"), ("16.2", ""), ("06.2", "1e-3e"),
        ("10.2", "1 / 0"),
        ("02.2", "8 km"), ("13.2", 0), ("05.2", "5 10"),
    ],
)  # fmt: skip
def test_other_units_and_several_answers_are_not_right(name: str, answer: Any, capsys: pytest.CaptureFixture) -> None:
    check(name, answer)
    assert capsys.readouterr().out.startswith(f"{name}: not yet. Hint: ")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda query, candidates: np.argmax(candidates @ query), "yours"),  # forgets the lengths
        (lambda query, candidates: candidates @ query, r"your result has shape (40,), the right one ()"),
        (lambda query: 0, "TypeError"),
        (3.0, "the answer is a function itself"),
    ],
)
def test_what_a_wrong_function_did_is_told(function: Any, said: str, capsys: pytest.CaptureFixture) -> None:
    check("09.1", function)
    out = capsys.readouterr().out
    assert out.startswith("09.1: not yet. Hint: ")
    assert said in out
    assert out.count("\n") == 1


def test_a_function_is_no_number() -> None:
    assert not is_right("14.2", lambda: 5.7)


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
