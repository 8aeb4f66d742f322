"""The two spectrographs: wavelength grids, where they have data, resolution, and resampling onto their grids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from starclip_lib.support.errors import DataError

SPEED_OF_LIGHT = 299792.458  # km/s
# Where line strengths were fitted to giants, on APOGEE's chips; vacuum Angstrom.
CHIPS = ((15168.0, 15792.0), (15881.0, 16417.0), (16500.0, 16937.0))
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
MAD_PER_SIGMA = float(norm.ppf(0.75))  # median absolute deviation of a Gaussian, over its standard deviation


@dataclass(frozen=True, eq=False)
class Instrument:
    """A wavelength grid and what is known about every spectrum on it.

    Parameters
    ----------
    name : str
        Key of the instrument in files ('apogee', 'nirspec').
    title : str
        How figures call it.
    wavelength : ndarray, shape (n_pix,)
        float64, vacuum Angstrom, increasing.
    resolution : float
        Wavelength / FWHM of the Gaussian line-spread function.
    fill_value : float
        Flux written where there is none (0 in APOGEE, 1 in NIRSpec).
    chips : tuple of tuple of int
        Pixel ranges [start, stop) that hold data.
    constant_fwhm : float
        FWHM in Angstrom of a line-spread function that is alike at all wavelengths; 0 where the resolution is.
    """

    name: str
    title: str
    wavelength: np.ndarray
    resolution: float
    fill_value: float
    chips: tuple[tuple[int, int], ...]
    constant_fwhm: float = 0.0

    @property
    def fwhm(self) -> np.ndarray:
        """FWHM (n_pix,) of the line-spread function, Angstrom."""
        return np.full(self.n_pix, self.constant_fwhm) if self.constant_fwhm else self.wavelength / self.resolution

    @property
    def n_pix(self) -> int:
        """Number of pixels."""
        return len(self.wavelength)

    @property
    def on_detector(self) -> np.ndarray:
        """(n_pix,) bool, true on the detector chips."""
        on = np.zeros(self.n_pix, bool)
        for start, stop in self.chips:
            on[start:stop] = True
        return on


# aspcapStar: log10 of vacuum Angstrom, CRVAL1 4.179, CDELT1 6e-6; the three chips as in the DR17 spectra.
APOGEE = Instrument(
    "apogee",
    "APOGEE",
    10 ** (4.179 + 6e-6 * np.arange(8575)),
    22500.0,
    0.0,
    ((246, 3274), (3585, 6080), (6344, 8335)),
)
# The paper's grid for G140H/F100LP: 8,192 pixels from 9,000 to 18,000 Angstrom at R = 2,700.
NIRSPEC = Instrument("nirspec", "NIRSpec", np.linspace(9000.0, 18000.0, 8192), 2700.0, 1.0, ((0, 8192),))
INSTRUMENTS = {instrument.name: instrument for instrument in (APOGEE, NIRSPEC)}


def on_chips(wavelength: np.ndarray) -> np.ndarray:
    """Which wavelengths lie on the chips."""
    return np.any([(first < wavelength) & (wavelength < last) for first, last in CHIPS], axis=0)


def check_grid(wavelength: np.ndarray, instrument: Instrument, where: str) -> None:
    """Raise DataError unless `wavelength` is the instrument's grid (to 0.01 Angstrom)."""
    if wavelength.shape != instrument.wavelength.shape:
        raise DataError(
            f"{where}: the wavelength grid has {wavelength.size} pixels, {instrument.title} has {instrument.n_pix}"
        )
    worst = float(np.abs(wavelength - instrument.wavelength).max())
    if not worst < 0.01:
        raise DataError(
            f"{where}: the wavelength grid differs from {instrument.title}'s by up to {worst:.3g} Angstrom "
            f"(expected {instrument.wavelength[0]:.2f} to {instrument.wavelength[-1]:.2f}, vacuum)"
        )


def resample(
    wavelength: np.ndarray, flux: np.ndarray, bad: np.ndarray, instrument: Instrument
) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation onto an instrument's grid, with the mask.

    An output pixel has data if both input pixels around it are good and lie no further apart than three times their
    usual spacing.
    """
    grid, good = instrument.wavelength, ~bad
    if good.sum() < 2:
        return np.full(grid.shape, instrument.fill_value), np.ones(grid.shape, bool)
    wave, value = wavelength[good], flux[good]
    right = np.clip(np.searchsorted(wave, grid), 1, len(wave) - 1)
    spacing = np.median(np.diff(wavelength))
    mask = (grid < wave[0]) | (grid > wave[-1]) | (wave[right] - wave[right - 1] > 3 * spacing)
    return np.where(mask, instrument.fill_value, np.interp(grid, wave, value)), mask
