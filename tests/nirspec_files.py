"""Observed NIRSpec spectra that the tests make, and the files that PypeIt would write of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT


def spec1d_table(
    name: str, wave: np.ndarray, flux: np.ndarray, snr: float = 100.0, good=None, drop: str = ""
) -> fits.BinTableHDU:
    columns = {
        "OPT_WAVE": wave,
        "OPT_COUNTS": flux,
        "OPT_COUNTS_IVAR": np.full(len(wave), 1e-2),
        "OPT_MASK": np.ones(len(wave), bool) if good is None else good,
    }
    formats = {"OPT_MASK": "L"}
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(key, formats.get(key, "D"), array=value) for key, value in columns.items() if key != drop],
        name=name,
    )
    hdu.header["DMODCLS"], hdu.header["HIERARCH SMASH_SNR"] = "SpecObj", snr
    return hdu


def write_spec1d(path: Path, *tables: fits.BinTableHDU) -> Path:
    primary = fits.PrimaryHDU()
    primary.header["TARGET"] = "star_1"
    detector = fits.BinTableHDU.from_columns([fits.Column("gain", "D", array=[1.0])], name="MSC01-DETECTOR")
    fits.HDUList([primary, *tables, detector]).writeto(path)
    return path


def observe(template: np.ndarray, velocity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A star at a velocity, with a continuum, noise and the gap of the detectors, on 2.35 Angstrom pixels."""
    wave = np.concatenate([np.arange(9700, 11400, 2.35), np.arange(11774, 16584, 2.35)])
    rest = wave / (1 + velocity / SPEED_OF_LIGHT)
    continuum = 400 * (1 + 0.3 * np.sin(wave / 1500)) * (wave / 12000) ** -1.2
    return wave, continuum * (np.interp(rest, NIRSPEC.wavelength, template) + rng.normal(0, 0.008, len(wave)))


def spec1d_bytes(path: Path, flux: np.ndarray, rng: np.random.Generator) -> bytes:
    """The content of a file with a star (8192,) that recedes by 20 km/s; it is left at `path`."""
    write_spec1d(path, spec1d_table("SPAT1-SLIT1-MSC01", *observe(flux, 20.0, rng)))
    return path.read_bytes()
