"""What macroturbulence and a spectrograph do to a spectrum: Gaussian broadening, and sampling."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import fftconvolve

from starclip_lib.physics.instruments import SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.support.errors import DataError
from starclip_lib.synthesis.grid import STEP

_REACH = 5  # standard deviations at which a kernel ends
_SHARPEST = 0.8  # steps of the grid: a narrower Gaussian cannot be sampled


def broadened(
    wavelength: np.ndarray, flux: np.ndarray, sampled_at: np.ndarray, fwhm: np.ndarray, macroturbulence: float
) -> np.ndarray:
    """Normalised flux (m,) on the grid of a synthesis, broadened, at other wavelengths (k,); all in Angstrom.

    `fwhm` (m,) is that of the Gaussian line-spread function at each wavelength of the grid; `macroturbulence` in km/s
    is the velocity at which its Gaussian has fallen to 1/e.
    """
    turbulence = macroturbulence / np.sqrt(2) / SPEED_OF_LIGHT
    sigma = np.hypot(fwhm * SIGMA_PER_FWHM / wavelength, turbulence)  # in ln(wavelength)
    if not sigma.min() >= _SHARPEST * STEP:
        raise DataError(
            f"a line-spread function of {fwhm.min():.3g} Angstrom and {macroturbulence:g} km/s of macroturbulence is "
            f"too sharp for a synthesis in steps of {STEP * SPEED_OF_LIGHT:.1f} km/s; take a wider one"
        )
    # On a coordinate that counts standard deviations, the kernel is the same everywhere.
    place = np.concatenate([[0.0], np.cumsum(0.5 * (1 / sigma[1:] + 1 / sigma[:-1]) * STEP)])
    at = np.interp(np.log(sampled_at), np.log(wavelength), place)
    if not (at.min() >= _REACH and at.max() <= place[-1] - _REACH):
        raise DataError(
            f"wavelengths {sampled_at[0]:.6g} to {sampled_at[-1]:.6g} Angstrom reach within {_REACH} standard "
            f"deviations of the synthesis's ends, {wavelength[0]:.6g} and {wavelength[-1]:.6g}; synthesise "
            "a longer stretch"
        )
    step = STEP / sigma.max()
    even = np.arange(0.0, place[-1] + step, step)
    depth = CubicSpline(place, 1 - flux)(np.minimum(even, place[-1]))
    n = int(_REACH / step) + 1
    kernel = np.exp(-0.5 * (np.arange(-n, n + 1) * step) ** 2)
    depth = fftconvolve(depth, kernel / kernel.sum(), mode="same")
    return 1 - CubicSpline(even, depth)(at)
