"""What a user knows about stars besides their spectra: photometric Teff, an isochrone's log g."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF
from starclip_lib.storage.csv_files import read_csv
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import safe_name

COLUMNS = {"teff": (TEFF, 2500.0, 8000.0), "logg": (LOGG, -1.0, 5.5), "fe_h": (FE, -4.0, 1.0)}


def read_priors(path: Path, names: Collection[str]) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """Read a table of priors: columns `star` and any of `teff` [K], `logg`, `fe_h` [dex], each with `..._error`.

    Parameters
    ----------
    names : collection of str
        Names and targets of the spectra that are there.

    Returns
    -------
    priors : dict of str to tuple of ndarray
        Precisions (20,) and values (20,) by star.
    complaints : list of str
        A line for each star or number that is not used, and why.

    Raises
    ------
    DataError
        If the file is no such table.
    """
    table = read_csv(path, text=("star",))
    wanted = {"star", *(f"{name}{end}" for name in COLUMNS for end in ("", "_error"))}
    if unknown := sorted(set(map(str, table.columns)) - wanted):
        raise DataError(f"{path}: unknown column {unknown[0]!r}; known are {', '.join(sorted(wanted))} (K and dex)")
    if "star" not in table or not set(COLUMNS) & set(table.columns):
        raise DataError(f"{path} needs a column star and one of {', '.join(COLUMNS)}")
    for name in set(COLUMNS) & set(table.columns):
        if f"{name}_error" not in table:
            raise DataError(f"{path} has {name} without {name}_error: a prior is worth what its error says")
    priors, complaints = {}, []
    for row in table.to_dict("records"):
        star, precision, value = safe_name(row["star"]), np.zeros(N_LABELS), np.zeros(N_LABELS)
        if star in priors:
            complaints.append(f"{path}: a second row for {star:.60}; only the first is used")
            continue
        if star not in names:
            complaints.append(f"{path}: there is no spectrum of {star:.60}; its prior is not used")
            continue
        for name, (label, low, high) in COLUMNS.items():
            given, width = (pd.to_numeric(row.get(key, np.nan), errors="coerce") for key in (name, f"{name}_error"))
            if pd.isna(given) and (name not in row or pd.isna(row[name])):
                continue
            if not (low <= given <= high and 1e-4 * (high - low) < width < high - low):
                unit = "K" if label == TEFF else "dex"
                complaints.append(
                    f"{path}: {star:.60} has {name} {row[name]} ± {row[f'{name}_error']}, no {unit}; not used"
                )
                continue
            precision[label], value[label] = width**-2.0, given
        priors[star] = precision, value
    return priors, complaints
