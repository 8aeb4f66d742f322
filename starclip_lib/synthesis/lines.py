"""Lists of spectral lines: the tables that the package brings, and those of users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.files import damage_refused, regular_file
from starclip_lib.synthesis.chemistry import opened_table

CALIBRATIONS = ("arcturus", "apogee", "listed")
_NOT_IN = np.iinfo(np.int16).min
_FILE_BYTES = 256 * 2**20  # of a list of lines
# What the columns of a table of lines can hold, and their units.
_BOUNDS = {
    "wavelength": (8000.0, 20000.0, "Angstrom"),
    "excitation": (0.0, 40.0, "eV"),
    "log_gf": (-20.0, 5.0, "dex"),
    "log_gamma": (-12.0, -4.0, "dex (rad/s cm^3 at 10,000 K)"),
}


@dataclass(frozen=True, eq=False)
class LineList:
    """Lines, sorted by wavelength.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Vacuum Angstrom.
    species_names : tuple of str
        Such as 'Fe I', 'Ti II', 'CN'.
    species : ndarray, shape (n,)
        Index into `species_names`.
    excitation : ndarray, shape (n,)
        Energy of the lower level, eV.
    log_gf : ndarray, shape (n,)
    log_gamma : ndarray, shape (n,)
        log10 of the van der Waals width per hydrogen atom at 10,000 K, rad/s cm^3.
    brackett : float
        Factor on the opacity of the Brackett lines of hydrogen.
    """

    wavelength: np.ndarray
    species_names: tuple[str, ...]
    species: np.ndarray
    excitation: np.ndarray
    log_gf: np.ndarray
    log_gamma: np.ndarray
    brackett: float = 0.5

    def between(self, first: float, last: float) -> LineList:
        """The lines between two wavelengths."""
        return self.where((self.wavelength >= first) & (self.wavelength <= last))

    def table(self) -> pd.DataFrame:
        """The lines as a table, to be changed and given to `synthesise`."""
        return pd.DataFrame(
            {
                "wavelength_vacuum": self.wavelength,
                "species": np.array(self.species_names)[self.species],
                "excitation": self.excitation,
                "log_gf": self.log_gf,
                "log_gamma": self.log_gamma,
            }
        )

    def where(self, chosen: np.ndarray) -> LineList:
        """The lines that a mask (n,) chooses."""
        names = ("wavelength", "species", "excitation", "log_gf", "log_gamma")
        columns = {name: getattr(self, name)[chosen] for name in names}
        return LineList(species_names=self.species_names, brackett=self.brackett, **columns)


@cache
def line_list(calibration: str = "arcturus") -> LineList:
    """A list that the package brings (tables/README.md): 'arcturus', 'apogee' or 'listed'.

    'listed' has strengths and damping as published, 'apogee' strengths fitted to giants on APOGEE's chips, 'arcturus'
    those and strengths and damping fitted to the atlas of Arcturus.
    """
    if calibration not in CALIBRATIONS:
        raise ConfigError(f"unknown line data '{calibration}'; there are {', '.join(CALIBRATIONS)}")
    with opened_table("lines.npz") as table:
        coded = table[f"log_gf_{calibration}"]
        there = coded != _NOT_IN
        gamma = table["log_gamma_arcturus" if calibration == "arcturus" else "log_gamma_listed"]
        return LineList(
            wavelength=np.cumsum(table["wavelength_steps"], dtype=np.int64)[there] * 1e-4,
            species_names=tuple(str(name) for name in table["species_names"]),
            species=table["species"][there].astype(np.int64),
            excitation=table["excitation"][there] * 1e-4,
            log_gf=coded[there] * 1e-3,
            log_gamma=gamma[there] * 1e-3,
            brackett=float(table["brackett"][("listed", "apogee", "arcturus").index(calibration)]),
        )


def vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of wavelengths in air, Angstrom (Morton 2000, inverted as VALD does)."""
    s = 1e8 / wavelength**2  # (1/micron)^2
    index = (
        1 + 0.00008336624212083 + 0.02408926869968 / (130.1065924522 - s) + 0.0001599740894897 / (38.92568793293 - s)
    )
    return wavelength * index


def as_line_list(lines: str | Path | LineList | pd.DataFrame) -> LineList:
    """A list of lines from its name, or from a table with the columns of `LineList.table`, also as a CSV file.

    The column of wavelengths is `wavelength_vacuum` or `wavelength_air`, in Angstrom.
    """
    if isinstance(lines, LineList):
        return lines
    if isinstance(lines, pd.DataFrame):
        return _from_table(lines, "line list")
    if isinstance(lines, str) and lines in CALIBRATIONS:
        return line_list(lines)
    if str(lines).lower().endswith(".csv"):
        path = regular_file(lines, "give the path of a line list", _FILE_BYTES)
        with damage_refused(path, "cannot be read as a table of lines"):
            table = pd.read_csv(path, compression=None)
        return _from_table(table, str(path))
    raise ConfigError(
        f"unknown line data {lines!r:.80}; there are {', '.join(CALIBRATIONS)}, or the path of a .csv file"
    )


def _from_table(table: pd.DataFrame, where: str) -> LineList:
    media = [name for name in ("wavelength_vacuum", "wavelength_air") if name in table]
    if len(media) != 1:
        raise DataError(f"{where}: one column of wavelengths is expected, named wavelength_vacuum or wavelength_air")
    if missing := {"species", "excitation", "log_gf", "log_gamma"} - set(table.columns):
        raise DataError(f"{where}: columns are missing: {', '.join(sorted(missing))}")
    columns = {}
    for name, (low, high, unit) in _BOUNDS.items():
        column = media[0] if name == "wavelength" else name
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(float)
        wrong = np.flatnonzero(~((numbers >= low) & (numbers <= high)))
        if len(wrong):
            raise DataError(
                f"{where}: {column} of line {wrong[0] + 1} is {table[column].iloc[wrong[0]]}; "
                f"{low:g} to {high:g} {unit} is expected"
            )
        columns[name] = numbers
    known = line_list().species_names
    names = table["species"].astype(str).str.strip()
    if not (there := names.isin(known)).all():
        raise DataError(f"{where}: unknown species {names[~there].iloc[0]!r:.40}; there are {', '.join(known)}")
    if media[0] == "wavelength_air":
        columns["wavelength"] = vacuum(columns["wavelength"])
    columns["species"] = np.searchsorted(known, names.to_numpy(str))
    order = np.argsort(columns["wavelength"], kind="stable")
    sorted_columns = {name: column[order] for name, column in columns.items()}
    return LineList(species_names=known, brackett=line_list().brackett, **sorted_columns)
