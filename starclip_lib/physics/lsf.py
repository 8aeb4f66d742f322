"""Line-spread functions: how wide an instrument makes a line, and sharper spectra made as wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from starclip_lib.physics.instruments import SIGMA_PER_FWHM

_REACH = 4.5  # standard deviations at which a kernel ends
_SAMPLED = 0.6  # pixels, standard deviation from which on a Gaussian's samples have its width


@dataclass(frozen=True)
class LineSpread:
    """A Gaussian line-spread function, its width a table over wavelength."""

    wavelength: tuple[float, ...]  # vacuum Angstrom, increasing
    fwhm: tuple[float, ...]  # full width at half maximum there, Angstrom; linear in between, constant beyond the ends

    def __call__(self, wavelength: np.ndarray) -> np.ndarray:
        """Full width at half maximum."""
        return np.interp(wavelength, self.wavelength, self.fwhm)


def broadening(grid: np.ndarray, grid_fwhm: float, wavelength: np.ndarray, fwhm: np.ndarray) -> sparse.csr_array:
    """The matrix (n_pix, n_grid) that brings spectra of a grid in equal steps to a line-spread function.

    `grid_fwhm` is the full width at half maximum that the spectra have, `fwhm` (n_pix,) the one wanted at `wavelength`
    (n_pix,), all in Angstrom. Where the two are alike the spectra are interpolated.
    """
    step = grid[1] - grid[0]
    sigma = np.sqrt(np.maximum(fwhm**2 - grid_fwhm**2, 0)) * SIGMA_PER_FWHM / step
    place = (wavelength - grid[0]) / step
    nearest = np.rint(place).astype(int)
    part = (place - nearest)[:, None]
    offset = np.arange(-(reach := max(int(np.ceil(_REACH * sigma.max())), 1)), reach + 1)
    narrow = sigma < _SAMPLED  # there a sampled Gaussian is too narrow; three pixels of the right variance are not
    weight = np.exp(-0.5 * ((offset - part) / np.maximum(sigma, _SAMPLED)[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    moment = sigma[narrow, None] ** 2 + part[narrow] ** 2
    sides = (np.abs(offset) == 1) * (moment + offset * part[narrow]) / 2
    weight[narrow] = sides + (offset == 0) * (1 - moment)
    column = (nearest[:, None] + offset).clip(0, len(grid) - 1)
    row = np.repeat(np.arange(len(wavelength)), len(offset))
    return sparse.csr_array((weight.ravel(), (row, column.ravel())), shape=(len(wavelength), len(grid)))
