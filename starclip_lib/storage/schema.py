"""What the arrays of a file must be: declared once, for readers, writers, documentation and tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from starclip_lib.support.errors import DataError

Kind = Literal["float", "integer", "boolean", "text"]
_KINDS = {"float": "f", "integer": "iu", "boolean": "biu", "text": "UO"}
_ENDLESS = 1e30  # a bound that is there for numbers to be numbers
_BLOCK = 2**23  # values looked at together: their copies take some 32 MB
# A name that is harmless wherever it is shown: letters of any script and digits, blanks, and what catalogues use.
_NAME = re.compile(r"[\w+*(\[][\w.+\-*:,()\[\]#=~@' ]{0,63}")


@dataclass(frozen=True)
class Member:
    """One array of a file, or one column of a table."""

    meaning: str  # for people
    kind: Kind = "float"  # A boolean may be stored as the integers 0 and 1
    shape: tuple[str | int, ...] = ("N",)  # names such as 'N' stand for sizes that all members of a file share
    stored: str = "float32"  # NumPy's name of the type that is written
    unit: str = ""
    # bounds of the values; one for each place of the last axis, or one for all.  What is bounded must be finite
    low: float | tuple[float, ...] = -np.inf
    high: float | tuple[float, ...] = np.inf
    finite: bool = True  # False where NaN and infinity mean "no data" (in files that others write)
    unique: bool = False  # no value twice
    optional: bool = False  # may be absent
    hint: str = ""  # what to do about values out of bounds
    axes: tuple[str, ...] = ("row", "column")  # what messages call a place on each axis

    @property
    def range_text(self) -> str:
        """Its bounds for people, '' if there are none."""
        if isinstance(self.low, tuple) or isinstance(self.high, tuple):  # one after the other, and where they change
            pairs = list(zip(*np.broadcast_arrays(self.low, self.high), strict=True))
            texts = [f"{low:g} to {high:g}" for low, high in dict.fromkeys(pairs)]
            return f"{', '.join(texts[:-1])}, then {texts[-1]}"
        if np.isinf(self.low) and np.isinf(self.high):
            return ""
        return f"{self.low:g} to {self.high:g}" if self.high < _ENDLESS else f"{self.low:g} or more"


def check_kind(dtype: np.dtype, member: Member, where: str) -> None:
    """Raise DataError unless a type is of the member's kind."""
    if dtype.kind not in _KINDS[member.kind]:
        wanted = {"float": "real numbers", "integer": "integers", "boolean": "true and false"}.get(member.kind, "text")
        raise DataError(f"{where} holds {_called(dtype)}, expected {wanted}")


def _called(dtype: np.dtype) -> str:
    names = {"c": "complex numbers", "f": "real numbers", "b": "true and false", "V": "records", "O": "objects"}
    return names.get(dtype.kind, "text" if dtype.kind in "SU" else "integers" if dtype.kind in "iu" else str(dtype))


def check_shape(shape: tuple[int, ...], member: Member, sizes: dict[str, int], where: str) -> None:
    """Raise DataError unless a shape is the member's; sizes seen for the first time are noted."""
    expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in member.shape)
    fits = len(shape) == len(expected) and all(
        isinstance(wanted, str) or wanted == size for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        shown = f"({', '.join(map(str, expected))}{',' if len(expected) == 1 else ''})"
        raise DataError(f"{where} has shape {shape}, expected {shown}")
    sizes.update({name: size for name, size in zip(member.shape, shape, strict=True) if isinstance(name, str)})


def check_values(array: np.ndarray, member: Member, where: str, first: int = 0) -> None:
    """Raise DataError, naming the first place, unless all values are within the member's bounds."""
    if member.kind == "text":
        _check_names(array, where)
    elif array.dtype.kind != "b":
        _check_range(array, member, where, first)
    if member.unique:
        names, counts = np.unique(array, return_counts=True)
        if (repeats := len(array) - len(names)) > 0:
            first = names[counts > 1][0]
            raise DataError(f"{where} has {repeats} repeats, {first} among them; drop duplicate stars first")


def _check_range(array: np.ndarray, member: Member, where: str, first: int) -> None:
    step = max(1, _BLOCK // max(1, array[:1].size))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        with np.errstate(invalid="ignore"):
            good = (block.min() >= np.max(member.low)) and (block.max() <= np.min(member.high))  # fast, for most
            if good and member.finite and np.isfinite(block.min()) and np.isfinite(block.max()):
                continue
            outside = ~((block >= member.low) & (block <= member.high))
        if member.finite:
            outside |= ~np.isfinite(block)
        else:
            outside &= np.isfinite(block)
        if outside.any():
            raise DataError(f"{where} {_complaint(block, outside, first + start, member)}")


def _complaint(block: np.ndarray, outside: np.ndarray, start: int, member: Member) -> str:
    """What is wrong with values, the first place in words, and what to do."""
    first = tuple(int(i) for i in np.argwhere(outside)[0])
    value = block[first]
    place = ", ".join(f"{axis} {i}" for axis, i in zip(member.axes, (first[0] + start, *first[1:]), strict=False))
    hint = f"; {member.hint}" if member.hint else ""
    if not np.isfinite(value):
        return f"is not finite in {outside.sum()} {member.axes[block.ndim - 1]}s, first in {place}{hint}"
    low, high = (np.broadcast_to(bound, block.shape)[first] for bound in (member.low, member.high))
    unit = f" {member.unit}" if member.unit else ""
    return f"holds {value:g} ({place}), expected {low:g} to {high:g}{unit}{hint}"


def _check_names(array: np.ndarray, where: str) -> None:
    bad = next((name for name in array.tolist() if not isinstance(name, str) or not _NAME.fullmatch(name)), None)
    if bad is not None:
        raise DataError(
            f"{where} holds {str(bad)[:64]!r}; a name has 1 to 64 letters, digits, blanks or .+-*:,()[]#=~@'"
        )


def as_boolean(array: np.ndarray, where: str) -> np.ndarray:
    """A mask as booleans: integers 0 and 1 count as such. Raises DataError if there are other numbers."""
    if array.dtype.kind not in "biu":
        raise DataError(f"{where} holds {_called(array.dtype)}, expected true and false")
    if array.dtype.kind != "b" and array.size and (array.min() < 0 or array.max() > 1):
        raise DataError(f"{where} holds the numbers {array.min()} to {array.max()}, expected 0 and 1 (true: no data)")
    return array.astype(bool, copy=False)


def check_arrays(arrays: Mapping[str, Any], members: Mapping[str, Member], where: str) -> None:
    """Raise DataError unless arrays in memory are what a file of them must hold."""
    sizes: dict[str, int] = {}
    present = {  # what lies on disk is read block by block
        key: array if getattr(array, "on_disk", False) else np.asarray(array)
        for key, array in arrays.items()
        if array is not None
    }
    for key, array in present.items():
        check_kind(array.dtype, members[key], f"{where}: {key}")
        check_shape(array.shape, members[key], sizes, f"{where}: {key}")
    for key, array in present.items():
        check_values(array, members[key], f"{where}: {key}")
