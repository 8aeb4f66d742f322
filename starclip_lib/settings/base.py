"""What all groups of settings have in common."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _increasing(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] < pair[1]:
        raise ValueError("the first number must be smaller than the second")
    return pair


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and values of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed, checked as if it had been read; raises pydantic's ValidationError."""
        return type(self).model_validate({**dict(self), **values})


def _place(text: str) -> str:
    if len(text) > 1000 or not text.isprintable():
        raise ValueError("a path has at most 1,000 letters and no control characters")
    return text


def _wavelengths(pair: tuple[float, float]) -> tuple[float, float]:
    if not (pair[0] >= 1000 and pair[1] <= 1e6):
        raise ValueError("wavelengths are in Angstrom, between 1,000 and 1,000,000")
    return pair


# Bounds are there for slips of the pen: beyond them a run could not end, or mean anything.
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NotNegative = Annotated[float, Field(ge=0, le=1e6)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Few = Annotated[int, Field(ge=1, le=1000)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Range = Annotated[tuple[float, float], AfterValidator(_increasing)]
Wavelengths = Annotated[Range, AfterValidator(_wavelengths)]
Place = Annotated[str, AfterValidator(_place)]


def check_order(low: tuple[str, float], high: tuple[str, float]) -> None:
    """Raise ValueError, naming both settings, if the lower one exceeds the higher one."""
    if low[1] > high[1]:
        raise ValueError(f"{low[0]} ({low[1]:g}) must not exceed {high[0]} ({high[1]:g})")
