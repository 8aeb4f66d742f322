"""Temperature against optical depth: MARCS giants, or seven models of giants, interpolated.

Both were brought to the optical depth of this package's own continuous opacity (docs/make_synthesis_tables.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline

from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.synthesis.chemistry import opened_table

STRUCTURES = ("marcs", "seven")
TEFF, LOGG, FE = (3600.0, 5500.0), (0.0, 3.7), (-2.3, 0.6)  # where T(tau) is interpolated, or extrapolated by a little


@dataclass(frozen=True, eq=False)
class Marcs:
    """T / Teff of MARCS models on a grid of Teff, log g, [Fe/H]; [alpha/Fe] follows [Fe/H]."""

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]  # Teff (8,), log g (8,) and [Fe/H] (6,)
    over_teff: np.ndarray  # (8, 8, 6, n_depth)

    def __call__(self, teff: float, logg: float, fe: float) -> np.ndarray:
        """T at `LOG_TAU`: cubic splines, which go on as straight lines beyond the grid."""
        values = self.over_teff
        for axis, label in zip(self.axes, (teff, logg, fe), strict=True):
            spline = CubicSpline(axis, values, bc_type="natural")
            inside = float(np.clip(label, axis[0], axis[-1]))
            values = spline(inside) + (label - inside) * spline(inside, 1)
        return np.maximum.accumulate(values * teff)


@dataclass(frozen=True, eq=False)
class SevenModels:
    """T / Teff of seven models: linear in Teff, log g, [Fe/H], corrected near each of them (docs/emulator.md)."""

    linear: np.ndarray  # (4, n_depth), constant, and slopes in (Teff - 4500 K) / 1000 K, log g - 1.5 and [Fe/H]
    centres: np.ndarray  # (7, 3), labels of the models over `lengths`
    corrections: np.ndarray  # (7, n_depth)
    lengths: np.ndarray  # (3,)

    def __call__(self, teff: float, logg: float, fe: float) -> np.ndarray:
        """T at `LOG_TAU`."""
        nearness = np.exp(-0.5 * ((self.centres - np.array([teff, logg, fe]) / self.lengths) ** 2).sum(axis=1))
        over_teff = np.array([1, (teff - 4500) / 1000, logg - 1.5, fe]) @ self.linear + nearness @ self.corrections
        return np.maximum.accumulate(over_teff * teff)


@cache
def temperatures(name: str = "marcs") -> Callable[[float, float, float], np.ndarray]:
    """A function of Teff, log g and [Fe/H]: 'marcs' or 'seven' (the structure of abinitio-2)."""
    if name not in STRUCTURES:
        raise ConfigError(f"unknown structure '{name}'; there are {', '.join(STRUCTURES)}")
    with opened_table("atmospheres.npz") as table:
        if name == "seven":
            columns = ("seven_linear", "seven_centres", "seven_corrections", "seven_lengths")
            return SevenModels(*(table[column] for column in columns))
        axes = (table["marcs_teff"], table["marcs_logg"], table["marcs_fe"])
        return Marcs(axes, table["marcs_over_teff"].astype(np.float64))


def check_labels(teff: float, logg: float, fe: float) -> None:
    """Raise DataError unless the grid of atmospheres reaches these labels."""
    for what, value, (low, high) in (("Teff", teff, TEFF), ("log g", logg, LOGG), ("[Fe/H]", fe, FE)):
        if not low <= value <= high:
            raise DataError(f"{what} {value:g} is outside the grid of atmospheres, {low:g} to {high:g}")
