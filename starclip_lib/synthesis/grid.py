"""The wavelengths of a synthesis: equal steps in ln(wavelength), and a coarse grid for what is smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starclip_lib.support.errors import DataError

FIRST, LAST = 8870.0, 18120.0  # vacuum Angstrom; lines are listed from 18 Angstrom before to here
STEP = 1 / 150_000  # of ln(wavelength): 2.0 km/s
# The continuum bends where a photon no longer detaches the electron of H-, or ionises hydrogen in its fourth level.
_BENDS = (14584.0, 14588.0, 16418.9, 16419.1)
COARSE = np.sort(np.concatenate([np.geomspace(FIRST - 10, LAST + 10, 170), _BENDS]))


@dataclass(frozen=True)
class Grid:
    """`size` wavelengths of a synthesis, the first of number `start` of the whole range."""

    start: int
    size: int

    @property
    def wavelength(self) -> np.ndarray:
        """(size,), vacuum Angstrom."""
        return FIRST * np.exp(STEP * np.arange(self.start, self.start + self.size))

    def pixel(self, wavelength: np.ndarray) -> np.ndarray:
        """Where wavelengths lie on the grid, in pixels."""
        return np.log(wavelength / FIRST) / STEP - self.start


def grid(first: float = FIRST, last: float = LAST) -> Grid:
    """The part of the range between two wavelengths, vacuum Angstrom."""
    if not FIRST <= first < last <= LAST:  # false for NaN
        raise DataError(
            f"wavelengths {first:g} to {last:g} Angstrom: the synthesis reaches from {FIRST:g} to {LAST:g} (vacuum)"
        )
    start = int(np.ceil(np.log(first / FIRST) / STEP - 1e-9))
    return Grid(start, int(np.log(last / FIRST) / STEP + 1e-9) - start + 1)


def coarse_cells(wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of `COARSE` that each wavelength lies in, and how far in (0 to 1)."""
    cell = np.clip(np.searchsorted(COARSE, wavelength) - 1, 0, len(COARSE) - 2)
    return cell, (wavelength - COARSE[cell]) / (COARSE[cell + 1] - COARSE[cell])
