"""Files as the APOGEE survey writes them: a catalogue whose rows pass every cut, and spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.physics.labels import ELEMENTS, FE, LOGG, TEFF
from starclip_lib.survey.allstar import CATALOGUE_COLUMNS

GRID = {"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1}


def image(array: np.ndarray, **header: object) -> fits.ImageHDU:
    return fits.ImageHDU(array, fits.Header({**GRID, **header}))


def write_aspcap(path: Path, flux: np.ndarray, error: np.ndarray, **header: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus = [fits.PrimaryHDU(), image(flux.astype(">f4"), **header), image(error.astype(">f4")), image(flux)]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def write_ap(path: Path, flux: np.ndarray, error: np.ndarray, bits: np.ndarray) -> Path:
    hdus = [fits.PrimaryHDU(), image(flux, BUNIT="Flux (10^-17 erg/s/cm^2/Ang)"), image(error), image(bits)]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def catalogue(n: int = 60, seed: int = 2) -> pd.DataFrame:
    """Rows that pass every cut."""
    stars = simulate_survey(n, seed)
    table = {
        "APOGEE_ID": [f"2M{number:08d}+{number:07d}" for number in range(n)],
        "TELESCOPE": ["apo25m", "lco25m"] * (n // 2),
        "FIELD": ["000+02", "N6791-RV_MGA"] * (n // 2),
        "SNR": np.linspace(210, 900, n),
        "VSCATTER": np.full(n, 0.1),
        "TEFF": stars.labels[:, TEFF],
        "TEFF_ERR": stars.label_errors[:, TEFF],
        "LOGG": stars.labels[:, LOGG],
        "LOGG_ERR": stars.label_errors[:, LOGG],
        "FE_H": stars.labels[:, FE],
        "FE_H_ERR": np.full(n, 0.01),
    }
    for column, element in enumerate(ELEMENTS, start=2):
        if element != "Fe":
            table[f"{element.upper()}_FE"] = stars.labels[:, column] - stars.labels[:, FE]
            table[f"{element.upper()}_FE_ERR"] = np.full(n, 0.02)
    frame = pd.DataFrame(table)
    for name in set(CATALOGUE_COLUMNS) - set(frame):
        frame[name] = np.zeros(n, np.int32)
    return frame[list(CATALOGUE_COLUMNS)]
