"""Line-spread functions: those of NIRSpec's gratings, and a width, a resolution or a table that a user gives."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.lsf import LineSpread
from starclip_lib.storage.csv_files import read_csv
from starclip_lib.support.errors import DataError

DEFAULT = "G140H/F100LP/slit"


def parse_lsf(text: str) -> LineSpread:
    """A line-spread function from its description; DataError if it is none, or narrower than the emulator's spectra.

    The description is a width in Angstrom that is the same everywhere ('3.9'), a constant resolution ('R=2000'), the
    name of a CSV file with columns `wavelength` and `fwhm`, both in Angstrom, or a setting of NIRSpec such as
    'G140M/F100LP/MSA'.
    """
    text = text.strip()
    if text.upper() in nirspec_settings():
        found = nirspec_settings()[text.upper()]
    elif text.upper().startswith("R="):
        resolution = _number(text[2:], text)
        ends = (5000.0, 30000.0)
        found = LineSpread(ends, tuple(end / resolution for end in ends))
    elif text.lower().endswith(".csv"):
        found = _table(Path(text))
    else:
        found = LineSpread((13500.0,), (_number(text, text),))
    emulator = default_emulator()
    widths = found(emulator.fine.wavelength)
    if widths.min() < emulator.narrowest:
        raise DataError(
            f"line-spread function {text}: {widths.min():.2f} Angstrom is narrower than the emulator's spectra "
            f"({emulator.narrowest:.2f} Angstrom); broaden the spectrum to that width or more and give its new width"
        )
    if widths.max() > 100:
        raise DataError(f"line-spread function {text}: wider than 100 Angstrom, no lines are left; FWHM is in Angstrom")
    return found


@cache
def nirspec_settings() -> dict[str, LineSpread]:
    """Line-spread functions by grating, filter and mode; nirspec-lsf.csv has them, each with its source."""
    with as_file(files(__package__) / "nirspec-lsf.csv") as path:
        table = read_csv(path, text=("grating", "filter", "mode", "source"))
    return {
        "/".join(map(str, setting)).upper(): LineSpread(tuple(rows["wavelength"]), tuple(rows["fwhm"]))
        for setting, rows in table.groupby(["grating", "filter", "mode"], sort=False)
    }


def _number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1e6:
        raise DataError(
            f"line-spread function {whole!r:.80}: expected a width in Angstrom (3.9), a resolution (R=2000), a CSV "
            f"file with columns wavelength and fwhm, or a setting of NIRSpec: {', '.join(nirspec_settings())}"
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
