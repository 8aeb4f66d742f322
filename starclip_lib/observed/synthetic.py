"""A synthetic spec1d file, for those who have no observed spectrum yet: made like one, and named as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.support.files import atomic_path

NAME = "SYNTHETIC"
VELOCITY = 62.0  # km/s, by which it recedes
_SNR = 120.0  # per pixel
_PIXEL = 2.35  # Angstrom, as G140H's
_DETECTORS = ((9700.0, 14100.0), (14480.0, 18500.0))  # Angstrom; between them is the gap


def write_synthetic(path: Path, data: PairedSpectra, seed: int) -> Path:
    """Write a test star of a data set as PypeIt would have extracted it from a NIRSpec exposure.

    The star's ab initio spectrum is shifted by `VELOCITY`, sampled on two detectors with a gap between them, multiplied
    by a response that wiggles by per cents, and given noise and a few bad pixels.  Its line-spread function is that of
    the ab initio spectra (R = 2,700), so it needs no broadening: set `observed.fwhm` to 7.
    """
    rng = np.random.default_rng([seed, 10])
    row = data.rows("test")[0]
    wave = np.concatenate([np.arange(low, high, _PIXEL) for low, high in _DETECTORS])
    rest = wave / (1 + VELOCITY / SPEED_OF_LIGHT)
    response = 900 * np.exp(-(((wave - 13500) / 6000) ** 2)) * (1 + 0.02 * np.sin(wave / 90) + 0.01 * np.cos(wave / 41))
    counts = response * np.interp(rest, NIRSPEC.wavelength, data.nirspec.flux[row])
    sigma = response / _SNR
    counts = counts + sigma * rng.standard_normal(len(wave))
    good = (rest < NIRSPEC.wavelength[-1]) & (rng.random(len(wave)) > 0.004)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("OPT_WAVE", "D", array=wave),
            fits.Column("OPT_COUNTS", "D", array=np.where(good, counts, 0)),
            fits.Column("OPT_COUNTS_IVAR", "D", array=np.where(good, sigma**-2.0, 0)),
            fits.Column("OPT_MASK", "L", array=good),
        ],
        name="SPAT0100-SLIT0001-MSC01",
    )
    table.header["DMODCLS"], table.header["S2N"] = "SpecObj", _SNR
    primary = fits.PrimaryHDU()
    primary.header["TARGET"] = NAME
    primary.header["COMMENT"] = f"synthetic: star {data.star_id[row]} of a simulated data set, no observation"
    with atomic_path(path) as part:
        fits.HDUList([primary, table]).writeto(part, overwrite=True)
    return path
