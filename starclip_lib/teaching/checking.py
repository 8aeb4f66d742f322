"""How answers to exercises are compared with the right ones: numbers, words, and functions that students wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy import units

from starclip_lib.support.errors import one_line

Answer = float | str | bool | Callable[..., Any]
_TRUTH = dict.fromkeys(("true", "yes", "right", "t", "y"), True) | dict.fromkeys(
    ("false", "no", "wrong", "f", "n"), False
)
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
# A number as text: its digits, perhaps divided by others, perhaps with a power of ten, and what stands behind it.
_DIGITS = r"[+-]?(?:\d[\d,_ ]*\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_NUMBER = re.compile(rf"({_DIGITS})\s*(?:/\s*({_DIGITS}))?\s*([^\d\s].*)?")
_POWER = re.compile(r"\s*[x×·*]\s*10\s*(?:\^|\*\*)\s*([+-]?\d+)")


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
    unit: str = ""  # of a number: astropy's name, or what is counted; answers may state it
    also: tuple[str, ...] = ()
    trials: tuple[tuple[Any, ...], ...] = ()

    def is_right(self, answer: Answer) -> bool:
        """Whether an answer is right, within the tolerance or in another accepted spelling."""
        if self.trials:
            return callable(answer) and not first_difference(self, answer)
        return any(same(answer, right, self.tolerance, self.unit) for right in (self.right, *self.also))


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


def same(answer: Any, other: Any, tolerance: float, unit: str = "") -> bool:
    """Whether two answers are the same number, word or truth value."""
    if isinstance(other, bool):
        return (_TRUTH.get(_spelling(answer)) if isinstance(answer, str) else answer) is other
    if isinstance(other, str):
        return isinstance(answer, str) and _spelling(answer) == _spelling(other)
    return any(math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-9) for one in numbers(answer, unit))


def numbers(answer: Any, unit: str = "") -> list[float]:
    """The numbers that an answer may mean, in the exercise's unit: "1,728" is 1728 or 1.728; empty if it is none."""
    if isinstance(answer, str):
        return _numbers_of_text(answer, unit)
    if isinstance(answer, units.Quantity):
        return _converted([answer.value], answer.unit, unit) if np.size(answer) == 1 else []
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return []
    return [float(answer)]


def _numbers_of_text(text: str, unit: str) -> list[float]:
    plain = _POWER.sub(r"e\1", text.strip().casefold().replace("−", "-").lstrip("≈~= "))
    plain = re.sub(r"^10\s*(?:\^|\*\*)\s*", "1e", plain)
    word, _, rest = plain.partition(" ")
    found = _NUMBER.fullmatch(f"{_WORDS.index(word)} {rest}".strip() if word in _WORDS else plain)
    if found is None:
        return []
    values = [a / b for a in _readings(found[1]) for b in _readings(found[2] or "1") if b]
    behind = (found[3] or "").strip(" .")
    # The text as it was given has the capitals that units need.
    return _converted(values, text.strip(" .")[-len(behind) :] if behind else unit, unit)


def _readings(digits: str) -> list[float]:
    """A number whose comma may separate thousands or decimals."""
    together = re.sub(r"[_ ]", "", digits)
    commas = together.count(",")
    thousands = re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?(e.*)?", together)
    decimal = commas == 1 and "." not in together
    if not commas:
        return [float(together)]
    return [float(together.replace(",", ""))] * bool(thousands) + [float(together.replace(",", "."))] * decimal


def _converted(values: list[float], given: Any, wanted: str) -> list[float]:
    """Numbers in the unit that is wanted; empty if the given unit does not measure the same."""
    if str(given).casefold().removesuffix("s") == wanted.casefold().removesuffix("s"):
        return values
    try:
        known = {"per cent": "%", "percent": "%", "Angstroms": "Angstrom", "sigma": "", "σ": ""}
        factor = units.Unit(known.get(str(given), given)).to(units.Unit(wanted))
    except (ValueError, TypeError):  # what astropy does not know, or cannot convert
        return []
    return [value * factor for value in values]


def _spelling(answer: str) -> str:
    """A word as it is compared: no capitals, and neither blanks nor brackets, dashes, slashes, quotes or full stop."""
    return re.sub(r"[^a-z0-9.@]", "", answer.casefold()).rstrip(".") or answer


def single(answer: Any) -> Any:
    """The one value of an array, a list or NumPy's own number; anything else as it is."""
    if isinstance(answer, list | tuple) and len(answer) == 1:
        return single(answer[0])
    alone = isinstance(answer, np.ndarray | np.generic) and not isinstance(answer, units.Quantity) and answer.size == 1
    return answer.item() if alone else answer
