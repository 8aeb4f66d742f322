"""Line-spread functions: how wide an instrument makes a line, and the emulator's sharpest spectra made as wide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from starclip_lib.physics.instruments import NIRSPEC_SHARP, SHARP_FWHM, SIGMA_PER_FWHM

_REACH = 4.5  # standard deviations at which a kernel ends
SHARPEST = 2.8  # Angstrom: nearer to the sharp spectra's own width a kernel is narrower than a pixel
_SAMPLED = 0.6  # pixels, standard deviation from which on a Gaussian's samples have its width


@dataclass(frozen=True)
class LineSpread:
    """A Gaussian line-spread function, its width a table over wavelength."""

    wavelength: tuple[float, ...]  # vacuum Angstrom, increasing
    fwhm: tuple[float, ...]  # full width at half maximum there, Angstrom; linear in between, constant beyond the ends

    def __call__(self, wavelength: np.ndarray) -> np.ndarray:
        """Full width at half maximum."""
        return np.interp(wavelength, self.wavelength, self.fwhm)


def broadening(fwhm: np.ndarray) -> sparse.csr_array:
    """The matrix that brings spectra of the sharp grid to a line-spread function."""
    n, step = NIRSPEC_SHARP.n_pix, NIRSPEC_SHARP.wavelength[1] - NIRSPEC_SHARP.wavelength[0]
    sigma = np.sqrt(np.maximum(fwhm, SHARPEST) ** 2 - SHARP_FWHM**2) * SIGMA_PER_FWHM / step
    offset = np.arange(-(reach := int(np.ceil(_REACH * sigma.max()))), reach + 1)
    weight = np.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    narrow = sigma < _SAMPLED  # there a sampled Gaussian is too narrow; three pixels of the right variance are not
    sides = np.where(np.abs(offset) == 1, 0.5, np.where(offset == 0, -1.0, 0.0))
    weight[narrow] = (offset == 0) + sigma[narrow, None] ** 2 * sides
    column = np.clip(np.arange(n)[:, None] + offset, 0, n - 1)
    row = np.repeat(np.arange(n), len(offset))
    return sparse.csr_array((weight.ravel(), (row, column.ravel())), shape=(n, n))
