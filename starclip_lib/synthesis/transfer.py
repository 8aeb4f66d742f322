"""Radiative transfer: the flux that leaves an atmosphere in local thermodynamic equilibrium."""

from __future__ import annotations

import numpy as np
from numba import njit

from starclip_lib.synthesis.constants import LN10, SECOND_RADIATION

DEEP = 25.0  # optical depth below which nothing is seen
_BLOCK = 32  # wavelengths between which the Planck function is straight (2e-4 of the wavelength)
# Gauss-Legendre: cosines of four angles to the vertical, and their weights
COSINES = 0.5 + 0.5 * np.polynomial.legendre.leggauss(4)[0]
WEIGHTS = 0.5 * np.polynomial.legendre.leggauss(4)[1]


@njit(cache=True, fastmath=True)
def _flux(
    opacity: np.ndarray,
    per_opacity: np.ndarray,
    half_step: np.ndarray,
    above: float,
    temperature: np.ndarray,
    wavelength: np.ndarray,
    cosines: np.ndarray,
    weights: np.ndarray,
    block: int,
) -> np.ndarray:
    n_depth, n = opacity.shape
    out = np.empty(n)
    source, slope, step = np.empty(n_depth), np.empty(n_depth), np.empty(n_depth)
    for j in range(n):
        if j % block == 0:
            # Planck function over 2 h c^2 / wavelength^5, here and at the last wavelength of the block
            end = min(j + block, n) - 1
            for k in range(n_depth):
                source[k] = 1 / np.expm1(SECOND_RADIATION / (wavelength[j] * temperature[k]))
                slope[k] = 1 / np.expm1(SECOND_RADIATION / (wavelength[end] * temperature[k]))
                slope[k] = (slope[k] - source[k]) / max(end - j, 1)
        elif block > 1:
            for k in range(n_depth):
                source[k] += slope[k]
        step[0] = opacity[0, j] * above
        depth, used = step[0], n_depth
        for k in range(1, n_depth):
            step[k] = (opacity[k, j] * per_opacity[k] + opacity[k - 1, j] * per_opacity[k - 1]) * half_step[k - 1]
            depth += step[k]
            if depth > DEEP:
                used = k + 1
                break
        flux = 0.0
        for m in range(cosines.size):
            inverse = 1 / cosines[m]
            # at the bottom the source function goes on as a straight line
            intensity = source[used - 1] + (source[used - 1] - source[used - 2]) / step[used - 1] * cosines[m]
            for k in range(used - 1, 0, -1):
                # the source function is a straight line between two depths
                d = step[k] * inverse
                if d < 0.3:
                    # 1 - exp(-d), and what of it weighs the lower depth, as series
                    lost = d * (1 - d / 2 * (1 - d / 3 * (1 - d / 4 * (1 - d / 5 * (1 - d / 6)))))
                    lower = d / 2 * (1 - d * 2 / 3 * (1 - d * 3 / 8 * (1 - d * 4 / 15 * (1 - d * 5 / 24))))
                else:
                    lost = 1 - np.exp(-d)
                    lower = (lost - d * (1 - lost)) / d
                intensity += lower * source[k] + (lost - lower) * source[k - 1] - lost * intensity
            lost = 1 - np.exp(-step[0] * inverse)
            flux += weights[m] * cosines[m] * (intensity + lost * (source[0] - intensity))
        out[j] = flux
    return out


def emergent_flux(
    opacity: np.ndarray,
    standard: np.ndarray,
    log_tau: np.ndarray,
    temperature: np.ndarray,
    wavelength: np.ndarray,
    close: bool = True,
) -> np.ndarray:
    """Flux over 4 pi h c^2 / wavelength^5, (m,), at wavelengths (m,) in Angstrom.

    `opacity` (n_depth, m) and `standard` (n_depth,), which the optical depths `log_tau` belong to, are in cm^-1.
    `close` says that wavelengths are as close as those of a synthesis.
    """
    tau = 10**log_tau
    block = _BLOCK if close else 1
    geometry = (tau / standard, 0.5 * np.diff(log_tau) * LN10, tau[0] / standard[0])
    return _flux(opacity, *geometry, temperature, wavelength, COSINES, WEIGHTS, block)
