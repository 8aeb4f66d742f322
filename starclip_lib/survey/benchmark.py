"""Frozen benchmarks of real spectra: tables of files with labels, addresses and hashes, download, and scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.storage.csv_files import read_csv
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import file_digest
from starclip_lib.survey.download import Downloader

NAMES = ("nirspec-giants-v1",)
LABELS = {"teff": ("Teff [K]", 0), "logg": ("log g", 2), "fe_h": ("[Fe/H]", 2)}  # column: title, digits
_TEXT = ("file", "star", "cluster", "label_source", "spectrum_source", "address", "sha256")
_DRAWS = 4000  # bootstrap samples
_SEED = 0


def frozen_table(name: str) -> pd.DataFrame:
    """The table of a benchmark, a row a spectrum; DataError for an unknown name.

    Columns: file, star, cluster, usable (whether its extraction is), teff, logg, fe_h with `..._error` (empty where the
    source gives none), label_source, spectrum_source, address, sha256.
    """
    if name not in NAMES:
        raise DataError(f"unknown benchmark {name!r:.60}; choose one of {', '.join(NAMES)}")
    with as_file(files(__package__) / f"{name}.csv") as path:
        return read_csv(path, text=_TEXT)


def cache_folder(name: str) -> Path:
    """Where downloaded files of a benchmark are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "starclip" / name


def fetch(table: pd.DataFrame, folder: Path, downloader: Downloader | None = None) -> list[str]:
    """Download the files of a benchmark that are not in the folder yet; a line about each that could not be had.

    Raises Unreachable if there is no network.
    """
    jobs = [
        (row.address, folder / row.file, lambda path, wanted=row.sha256: _check(path, wanted))
        for row in table.itertuples()
    ]
    missing, failed = (downloader or Downloader()).fetch_all(jobs, "spectra")
    return [one_line(reason) for reason in (*missing.values(), *failed.values())]


def _check(path: Path, wanted: str) -> None:
    if file_digest(path) != wanted:
        raise DataError(f"{path} is not the file of the benchmark: its SHA-256 differs")


def files_in(table: pd.DataFrame, folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a benchmark that lie anywhere in a folder, by name; lines about those that are missing or differ.

    Raises DataError if there is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the folder of the downloaded spectra")
    wanted = dict(zip(table["file"], table["sha256"], strict=True))
    there: dict[str, Path] = {}
    lines = []
    for place, _, names in os.walk(folder):
        for file in sorted(set(names) & set(wanted) - set(there)):
            path = Path(place) / file
            if file_digest(path) == wanted[file]:
                there[file] = path
            else:
                lines.append(f"{path} is not the file of the benchmark (its SHA-256 differs); it is not used")
    if not there:
        raise DataError(f"{folder} holds none of the {len(wanted)} files of the benchmark; --fetch downloads them")
    if missing := [file for file in wanted if file not in there]:
        lines.append(f"{len(missing)} of {len(wanted)} files are not in {folder}: {', '.join(missing[:9])}")
    return [there[file] for file in wanted if file in there], lines


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval from resampling stars."""

    value: float
    low: float
    high: float

    def text(self, digits: int, sign: str = "") -> str:
        """'value [low, high]'."""
        return f"{self.value:{sign}.{digits}f} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"


def scores(table: pd.DataFrame, measured: pd.DataFrame) -> dict[str, dict[str, Score]]:
    """Mean difference, root mean square and pull of each label, over the stars of `measured` that have labels.

    `measured` has a column `file`, labels under their names, and their errors in `..._error` if it gives any. Several
    files of one star count as one star.
    """
    both = _joined(table, measured)
    found: dict[str, dict[str, Score]] = {}
    for label in (label for label in LABELS if label in both):
        off = both[label] - both[f"{label}_known"]
        known = both[f"{label}_error_known"].fillna(0)
        errors = both[f"{label}_error"] if f"{label}_error" in both else pd.Series(np.nan, both.index)
        rows = pd.DataFrame({"star": both["star"], "off": off, "pull": off / np.hypot(errors, known)})
        stars = rows[np.isfinite(rows["off"])].groupby("star", sort=False).mean()
        if not len(stars):
            continue
        found[label] = {
            "n": Score(len(stars), len(stars), len(stars)),
            "mean": _bootstrapped(stars["off"].to_numpy(), np.mean),
            "rms": _bootstrapped(stars["off"].to_numpy(), _rms),
        }
        if np.isfinite(stars["pull"]).all():
            found[label]["pull"] = _bootstrapped(stars["pull"].to_numpy(), _rms)
    return found


def score_lines(table: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    """The scores of a method as lines of text; DataError if its table has no star of the benchmark."""
    found = scores(table, measured)
    if not found:
        raise DataError("the table has no labels of a star of the benchmark: it needs file and teff, logg or fe_h")
    lines = [f"{'':<9}  {'stars':>5}  {'mean difference':>24}  {'root mean square':>22}  {'pull, rms':>19}"]
    for label, (title, digits) in LABELS.items():
        if label in found:
            one = found[label]
            pull = one["pull"].text(2) if "pull" in one else "no errors given"
            lines.append(
                f"{title:<9}  {one['n'].value:>5.0f}  {one['mean'].text(digits, '+'):>24}  "
                f"{one['rms'].text(digits):>22}  {pull:>19}"
            )
    both = _joined(table, measured)
    if "fe_h" in both:
        for cluster, rows in both[np.isfinite(both["fe_h"]) & (both["cluster"].fillna("") != "")].groupby("cluster"):
            stars = rows.groupby("star")["fe_h"].mean()
            if len(stars) > 1:
                lines.append(f"{cluster}: [Fe/H] {stars.mean():+.2f}, scatter {stars.std():.3f} ({len(stars)} stars)")
    usable = table[table["usable"]]
    absent = sorted(set(usable["file"]) - set(both["file"]))
    if absent:
        lines.append(f"{len(absent)} of {len(usable)} spectra have no answer: {', '.join(absent[:9])}")
    return [*lines, "intervals: 95 %, from resampling the stars"]


def read_measured(path: Path) -> pd.DataFrame:
    """A method's answers from a CSV table; DataError if columns are missing, repeated or not numbers."""
    measured = read_csv(path, text=("file",))
    if "file" not in measured or not set(LABELS) & set(measured):
        raise DataError(f"{path} needs a column file and one of {', '.join(LABELS)}; errors stand in teff_error, ...")
    if twice := measured["file"][measured["file"].duplicated()].tolist():
        raise DataError(f"{path} has two rows for {twice[0]:.80}; give one answer for each file")
    for column in (*LABELS, *(f"{label}_error" for label in LABELS)):
        if column in measured:
            values = pd.to_numeric(measured[column], errors="coerce")
            if (values.isna() & measured[column].notna()).any():
                raise DataError(f"{path}: column {column} holds text, expected numbers")
            if column.endswith("_error") and (values <= 0).any():
                raise DataError(f"{path}: column {column} has errors of 0 or below; leave the cell empty if unknown")
            measured[column] = values
    return measured


def _joined(table: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """The usable spectra of a benchmark beside the answers of a method."""
    known = table[table["usable"]].drop(columns=["label_source", "spectrum_source", "address", "sha256"])
    names = {name: f"{name}_known" for label in LABELS for name in (label, f"{label}_error")}
    columns = ["file", *(name for name in names if name in measured)]
    return known.rename(columns=names).merge(measured[columns], on="file")


def _rms(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    return np.asarray(np.sqrt(np.mean(np.square(values), axis=axis)))


def _bootstrapped(values: np.ndarray, statistic: object) -> Score:
    """A statistic of values (n,) of stars, with the interval from resampling them."""
    assert callable(statistic)
    rng = np.random.default_rng(_SEED)
    drawn = values[rng.integers(len(values), size=(_DRAWS, len(values)))]
    low, high = np.percentile(statistic(drawn, axis=1), (2.5, 97.5))
    return Score(float(statistic(values)), float(low), float(high))


def answers(names: Sequence[str], labels: np.ndarray, sigma: np.ndarray) -> pd.DataFrame:
    """A method's table from labels (n, 3) and their errors."""
    columns = dict(zip(LABELS, labels.T, strict=True))
    columns |= {f"{label}_error": error for label, error in zip(LABELS, sigma.T, strict=True)}
    return pd.DataFrame({"file": list(names), **columns}).round(4)
