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

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed, checked as if it had been read; raises pydantic's ValidationError."""
        return type(self).model_validate({**dict(self), **values})


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[tuple[float, float], AfterValidator(_increasing)]
