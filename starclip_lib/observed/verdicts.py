"""The verdicts on measured stars: the one vocabulary of screens, tables, pages and documents."""

from __future__ import annotations

from collections.abc import Iterable

GOOD, EDGE, DOUBTFUL, OUTSIDE, SET_ASIDE = "good", "at the edge", "doubtful", "outside", "set aside"
# From best to worst, with the meaning that docs/glossary.md has.
VERDICTS = {
    GOOD: "the labels may be used with their errors",
    EDGE: "a label lies within one standard deviation of the emulator's limit, or an element was held there",
    DOUBTFUL: "something contradicts one giant seen through this line-spread function: two stars, other line widths, "
    "wavelengths in air",
    OUTSIDE: "Teff, log g or [Fe/H] lies beyond the emulator's domain, or is unlike any giant's: do not use the labels",
    SET_ASIDE: "there is no measurement",
}


def verdict_of(warnings: Iterable[str]) -> str:
    """The worst verdict among warnings, each of which begins with its verdict and a colon; 'good' without any."""
    order = list(VERDICTS)
    return max((warning.partition(": ")[0] for warning in warnings), key=order.index, default=GOOD)


def reason_of(warnings: Iterable[str]) -> str:
    """The texts of warnings without their verdicts, the worst first."""
    order = list(VERDICTS)
    parts = [warning.partition(": ") for warning in warnings]
    return "; ".join(text for _, _, text in sorted(parts, key=lambda part: -order.index(part[0])))
