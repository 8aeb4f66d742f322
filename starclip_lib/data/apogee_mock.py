"""Ideal APOGEE spectra made to look observed: velocity, line-spread function, sky, noise, bad pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from starclip_lib.physics.instruments import APOGEE, SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.settings.data import ObservationParams

# Airglow OH lines that leave residuals in the H band (vacuum Angstrom, to 1 Angstrom), and rotational bands of the
# molecules that absorb there: band origin and rotational constant [1/cm], step in J between lines.
_OH_LINES = np.array(
    [15187, 15241, 15288, 15332, 15395, 15432, 15510, 15540, 15546, 15598, 15631, 15655, 15703, 15833, 15848]
    + [15869, 15973, 16031, 16080, 16129, 16195, 16235, 16317, 16351, 16389, 16442, 16476, 16502, 16554, 16689]
    + [16709, 16733, 16841, 16904, 16955]
)  # fmt: skip
_TELLURIC_BANDS = {"CO2": ((6227.9, 6347.9), 0.390, 2), "CH4": ((6005.0,), 5.24, 1)}
_AIR_TEMPERATURE = 180.0  # K / (h c / k) in 1/cm: 260 K
BLOCK = 256  # spectra observed at once: keeps the complex intermediates below 20 MB each
_NOISE: tuple[tuple[int, ...], ...] = ((), (), (len(_OH_LINES),), (len(_TELLURIC_BANDS),), (APOGEE.n_pix,))


def sky_pattern() -> tuple[np.ndarray, np.ndarray]:
    """Residuals that sky subtraction and telluric correction leave, the same for every star, each with a maximum of 1.

    Emission (n_lines, 8575) has one OH line a row, absorption (n_molecules, 8575) one molecule.
    """
    sigma = APOGEE.wavelength / APOGEE.resolution * SIGMA_PER_FWHM

    def profiles(centres: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((APOGEE.wavelength - centres[:, None]) / sigma) ** 2)

    bands = []
    for origins, constant, step in _TELLURIC_BANDS.values():
        lower = np.arange(0, 40, step)  # rotational quantum number of the lower state
        strength = (2 * lower + 1) * np.exp(-constant * lower * (lower + 1) / _AIR_TEMPERATURE)
        branches = np.concatenate([2 * constant * (lower + 1), -2 * constant * lower])  # R and P of a rigid rotor
        lines = [(np.tile(strength, 2) / strength.max()) @ profiles(1e8 / (origin + branches)) for origin in origins]
        bands.append(np.sum(lines, axis=0))
    absorption = np.array(bands)
    return profiles(_OH_LINES), absorption / absorption.max(axis=1, keepdims=True)


def shift_and_broaden(flux: np.ndarray, velocity: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Spectra on APOGEE's grid with another radial velocity and another line-spread function.

    A Doppler shift is a translation on a grid of log wavelength and a Gaussian's width is a factor in Fourier space, so
    both are exact up to the ends of the grid, which lie off the chips.
    """
    step = np.log(APOGEE.wavelength[1] / APOGEE.wavelength[0]) * SPEED_OF_LIGHT  # km/s per pixel
    sigma = SPEED_OF_LIGHT / APOGEE.resolution * SIGMA_PER_FWHM / step  # pixels
    k = 2 * np.pi * np.fft.rfftfreq(APOGEE.n_pix)
    change = 0.5 * sigma**2 * (width[:, None] ** 2 - 1) * k**2 + 1j * (velocity[:, None] / step) * k
    return np.fft.irfft(np.fft.rfft(flux - 1.0, axis=1) * np.exp(-change), n=APOGEE.n_pix, axis=1) + 1.0


def draw_snr(n_stars: int, settings: ObservationParams, rng: np.random.Generator) -> np.ndarray:
    """Signal-to-noise ratios per pixel: a power law between the survey's cut and its brightest stars."""
    low, high, index = settings.snr_min, settings.snr_max, settings.snr_index
    bottom = (high / low) ** -index
    return low * (1 - rng.random(n_stars) * (1 - bottom)) ** (-1 / index)


def standard_noise(n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
    """The Gaussian numbers of mean 0 and width 1 that spectra are observed with, 256 spectra at a time."""
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        yield tuple(rng.standard_normal((m, *shape)) for shape in _NOISE)


def observe_apogee(
    flux: np.ndarray,
    snr: np.ndarray,
    settings: ObservationParams,
    rng: np.random.Generator,
    bad: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Make ideal APOGEE spectra look like reduced ones."""
    n, n_pix = flux.shape
    out = np.empty((n, n_pix), np.float32)
    emission, absorption = sky_pattern()
    for start, (velocity, width, sky, tellurics, pixels) in zip(
        range(0, n, BLOCK), standard_noise(n, rng), strict=True
    ):
        rows = slice(start, start + BLOCK)
        block = shift_and_broaden(flux[rows], settings.rv_residual * velocity, 1 + settings.lsf_residual * width)
        block += settings.sky_residual * sky @ emission
        block -= settings.telluric_residual * tellurics @ absorption
        block += pixels / snr[rows, None]
        out[rows] = block
    ivar = np.repeat((snr**2).astype(np.float32)[:, None], n_pix, axis=1)
    empty = ~APOGEE.on_detector | ((bad or rng).random((n, n_pix), dtype=np.float32) < settings.bad_pixels)
    out[empty], ivar[empty] = APOGEE.fill_value, 0
    return out, ivar
