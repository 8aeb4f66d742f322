"""How answers to exercises are compared with the right ones: numbers, words, and functions that students wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from starclip_lib.support.errors import one_line

Answer = float | str | bool | Callable[..., Any]


@dataclass(frozen=True)
class Exercise:
    """The answer to an exercise: why it is right, other spellings of it, and hints for wrong answers.

    Where the right answer is a function, the student's function must return the same for the arguments in `trials`.
    """

    right: Answer
    because: str
    hint: str
    hints: Mapping[Any, str] = field(default_factory=dict)  # for particular wrong answers
    tolerance: float = 0.02  # relative, of numbers
    also: tuple[str, ...] = ()
    trials: tuple[tuple[Any, ...], ...] = ()

    def is_right(self, answer: Answer) -> bool:
        """Whether an answer is right, within the tolerance or in another accepted spelling."""
        if self.trials:
            return callable(answer) and not first_difference(self, answer)
        return any(same(answer, right, self.tolerance) for right in (self.right, *self.also))


def first_difference(exercise: Exercise, function: Callable[..., Any]) -> str:
    """What a student's function did at the first trial with a wrong result; empty if there is none."""
    assert callable(exercise.right)
    for number, arguments in enumerate(exercise.trials, start=1):
        wanted = np.asarray(exercise.right(*arguments), float)
        try:
            found = np.asarray(function(*arguments), float)
        except Exception as error:  # of the student's code, whatever it is
            return f"(trial {number}: {type(error).__name__}: {one_line(str(error))[:200]})"
        if found.shape != wanted.shape:
            return f"(trial {number}: your result has shape {found.shape}, the right one {wanted.shape})"
        if not np.allclose(found, wanted, rtol=exercise.tolerance, atol=1e-9):
            worst = np.unravel_index(np.argmax(np.abs(found - wanted)), wanted.shape)
            return f"(trial {number}: yours {found[worst]:.4g}, right {wanted[worst]:.4g})"
    return ""


def same(answer: Any, other: Any, tolerance: float) -> bool:
    """Whether two answers are the same number or word."""
    if isinstance(other, str) or isinstance(answer, str):
        return _spelling(answer) == _spelling(other)
    if isinstance(other, bool) or isinstance(answer, bool):
        return answer is other
    return not callable(answer) and math.isclose(float(answer), float(other), rel_tol=tolerance, abs_tol=1e-9)


def _spelling(answer: Any) -> str:
    """A word as it is compared: no capitals, and neither blanks nor brackets, dashes, slashes or quotes."""
    return re.sub(r"[^a-z0-9.@]", "", str(answer).casefold()) or str(answer)
