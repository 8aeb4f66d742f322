"""The two grids of an emulator, how a synthesis is brought onto them, and how spectra are kept."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import sparse

from starclip_lib.physics.instruments import APOGEE, SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.support.errors import DataError
from starclip_lib.synthesis import grid
from starclip_lib.synthesis.synthesise import MACROTURBULENCE, SyntheticSpectrum

FINE_FWHM = 1.2  # Angstrom, at all wavelengths
FINE = np.linspace(8960.0, 18040.0, 18161)  # vacuum Angstrom, in steps of 0.5
GRIDS = {"apogee": APOGEE.wavelength, "fine": FINE}
_WIDTH = {"apogee": APOGEE.wavelength / APOGEE.resolution, "fine": np.full(len(FINE), FINE_FWHM)}
_REACH = 5.0  # standard deviations at which a kernel ends
# Depths (1 - flux) from -0.1 to 1.2 are kept as 16-bit integers, to 1e-5.
_LOWEST, _PER_DEPTH = -0.1, 50_000


@cache
def _kernel(name: str) -> sparse.csr_array:
    """The matrix that brings a whole synthesis to a grid: Gaussian line-spread function and macroturbulence."""
    at, n = GRIDS[name], grid.grid().size
    sigma = np.hypot(_WIDTH[name] * SIGMA_PER_FWHM / at, MACROTURBULENCE / np.sqrt(2) / SPEED_OF_LIGHT) / grid.STEP
    place = np.log(at / grid.FIRST) / grid.STEP
    reach = int(np.ceil(_REACH * sigma.max()))
    column = np.rint(place).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * ((column - place[:, None]) / sigma[:, None]) ** 2)
    weight[np.abs(column - place[:, None]) > _REACH * sigma[:, None]] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.repeat(np.arange(len(at)), column.shape[1])
    return sparse.csr_array((weight.ravel(), (row, column.ravel())), shape=(len(at), n))


def sampled(spectrum: SyntheticSpectrum) -> dict[str, np.ndarray]:
    """Depths (1 - flux) of a whole synthesis on each grid, as 16-bit integers (`depths` reads them)."""
    depth = 1 - spectrum.flux
    return {name: _packed(_kernel(name) @ depth) for name in GRIDS}


def _packed(depth: np.ndarray) -> np.ndarray:
    number = np.rint((depth - _LOWEST) * _PER_DEPTH)
    if not ((number >= 0) & (number <= 65_535)).all():
        raise DataError(f"a synthesis has depths from {depth.min():.3g} to {depth.max():.3g}; they cannot be kept")
    return number.astype(np.uint16)


def depths(packed: np.ndarray) -> np.ndarray:
    """What `sampled` has packed, float32."""
    return packed.astype(np.float32) / np.float32(_PER_DEPTH) + np.float32(_LOWEST)
