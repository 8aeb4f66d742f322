"""What a user writes for a line-spread function: a width, a resolution, or a table in a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.physics.instruments import NIRSPEC_SHARP
from starclip_lib.physics.lsf import SHARPEST, LineSpread
from starclip_lib.storage.csv_files import read_csv
from starclip_lib.support.errors import DataError

DEFAULT = "3.9"  # Angstrom: G140H, between the 3.4 and 4.5 of emission lines in its fixed slits
G140M = "13"  # Angstrom: R about 1,000


def line_spread(text: str) -> LineSpread:
    """A line-spread function from how a user says it.

    Parameters
    ----------
    text : str
        A width in Angstrom that is the same everywhere ('3.9'), a constant resolution ('R=2000'), or the name of a CSV
        file with columns `wavelength` and `fwhm`, both in Angstrom.

    Raises
    ------
    DataError
        If it is none of these, or narrower than the emulator's sharpest spectra.
    """
    text = text.strip()
    if text.upper().startswith("R="):
        resolution = _number(text[2:], text)
        ends = (5000.0, 30000.0)
        found = LineSpread(ends, tuple(end / resolution for end in ends))
    elif text.lower().endswith(".csv"):
        found = _table(Path(text))
    else:
        found = LineSpread((13500.0,), (_number(text, text),))
    narrowest = float(found(NIRSPEC_SHARP.wavelength).min())
    if narrowest < SHARPEST:
        raise DataError(
            f"line-spread function {text}: {narrowest:.2f} Angstrom is narrower than the emulator's spectra "
            f"({SHARPEST} Angstrom); broaden the spectrum to {SHARPEST} Angstrom or more and say so"
        )
    if float(found(NIRSPEC_SHARP.wavelength).max()) > 100:
        raise DataError(f"line-spread function {text}: wider than 100 Angstrom, no lines are left; FWHM is in Angstrom")
    return found


def _number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1e6:
        raise DataError(
            f"line-spread function {whole!r:.80}: expected a width in Angstrom (3.9), a resolution (R=2000), or a CSV "
            "file with columns wavelength and fwhm"
        )
    return value


def _table(path: Path) -> LineSpread:
    table = read_csv(path)
    if not {"wavelength", "fwhm"} <= set(table.columns):
        raise DataError(f"{path} has no columns wavelength and fwhm; both are needed, in Angstrom")
    wavelength, fwhm = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("wavelength", "fwhm"))
    if len(wavelength) < 1 or not (np.diff(wavelength) > 0).all() or not (np.isfinite(fwhm) & (fwhm > 0)).all():
        raise DataError(f"{path}: wavelengths must increase, and every fwhm must be a number above 0 (Angstrom)")
    if not 1000 < wavelength[0] < 100_000:
        raise DataError(f"{path}: begins at wavelength {wavelength[0]:g}; Angstrom are expected")
    return LineSpread(tuple(wavelength), tuple(fwhm))
