"""`starclip benchmark-real`: measurements of real stars judged by known labels, clusters and repeats."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.table import QTable

from starclip_lib import __version__
from starclip_lib.lab import figures
from starclip_lib.lab.labelled import KEYS, labelled
from starclip_lib.lab.observing import write_tables
from starclip_lib.observed.combining import noise_covariance
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.measured import SET_ASIDE, Measured
from starclip_lib.observed.measurements import measured_table
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.spectrum import OBSERVED
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import WIDE, giants
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.run import Run
from starclip_lib.storage.csv_files import csv_header, read_csv, write_csv
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path
from starclip_lib.support.threads import Callback
from starclip_lib.survey.benchmark import LABELS as SCORED
from starclip_lib.survey.benchmark import (
    answers,
    cache_folder,
    fetch,
    files_in,
    frozen_table,
    read_measured,
    score_lines,
)
from starclip_lib.survey.download import Unreachable

Row = dict[str, object]
_THREE = (TEFF, LOGG, FE)
_CATALOGUE = {"teff": "Teff", "logg": "log g", "fe_h": "[Fe/H]"}
_CLUSTER = "cluster"
# What stars of a cluster should agree in, and the rows (4, 20) that make it of labels.
_AGREEING = ("[Fe/H]", "[Mg/Fe]", "[Si/Fe]", "[Ca/Fe]")
_ROWS = np.eye(N_LABELS)[[FE, *(LABELS.index(name) for name in ("Mg", "Si", "Ca"))]]
_ROWS[1:, FE] -= 1


def check_choice(arguments: argparse.Namespace) -> None:
    """Raise DataError unless the options of the command say one thing: a folder, a frozen benchmark, or a score."""
    given = arguments.folder or arguments.found
    if (arguments.score or arguments.table) and (not arguments.score or arguments.table is None or given):
        raise DataError("a score needs --table FILE --score, and neither spectra nor a folder")
    if not arguments.score and (arguments.folder is None) == (arguments.fetch is None):
        raise DataError("give a folder of spectra, or --fetch nirspec-giants-v1")
    if arguments.found and not arguments.fetch:
        raise DataError("--folder tells where the files of a frozen benchmark are: give --fetch nirspec-giants-v1, too")
    for name, value in (("--lsf", arguments.lsf), ("--population", arguments.population != WIDE)):
        if arguments.params is not None and value:
            raise DataError(f"{name} is not for networks: leave it out, or leave out --params")


def benchmark_real(
    folder: Path,
    output: Path,
    callback: Callback,
    labels: Path | None = None,
    lsf: str = "",
    run: Run | None = None,
    population: str = WIDE,
    reading: Mapping[str, Any] | None = None,
) -> QTable:
    """Measure real stars whose labels or cluster are known; a row for each one that could be measured.

    The table of labels is a CSV in the folder, or `labels`: `teff`, `logg`, `fe_h`, or `cluster`, or all of them, with
    the name of a `file`, or of a star in `source_name` or `star`. With a `run` its networks are judged in place of
    fits; `reading` is as for `observe`. Raises DataError if the table is missing, or if no star can be measured.
    """
    giants(population)  # an unknown name is refused before anything is read
    table = _catalogue(labels or _only_csv(folder))
    return _judged(folder, folder, table, output, callback, lsf, run, population, reading)[0]


def frozen_benchmark(
    name: str,
    output: Path,
    callback: Callback,
    folder: Path | None = None,
    lsf: str = "",
    run: Run | None = None,
    population: str = WIDE,
    reading: Mapping[str, Any] | None = None,
) -> QTable:
    """Measure the spectra of a frozen benchmark (`survey.benchmark`) and score the answers.

    Files are downloaded into a cache, or looked for by name in `folder`. Also writes answers.csv, which is a table that
    `score_table` takes. Raises DataError in one line, for example if the network cannot be reached.
    """
    giants(population)
    table = frozen_table(name)
    if folder is None:
        folder = cache_folder(name)
        callback(f"{name}: {len(table)} spectra, kept in {folder}")
        try:
            lines = fetch(table, folder)
        except Unreachable as error:
            raise Unreachable(f"{error}; --folder FOLDER takes files that are there") from error
        for line in lines:
            callback(line)
    paths, lines = files_in(table, folder)
    for line in lines:
        callback(one_line(line))
    out, files = _judged(paths, folder, table, output, callback, lsf, run, population, reading)
    measured = answers(
        files, np.array([out[name] for name in SCORED]).T, np.array([out[f"{n}_error"] for n in SCORED]).T
    )
    write_csv(measured, output / "answers.csv")
    callback(f"\n{name}: {output / 'answers.csv'} has the answers; scores of the spectra that are usable:")
    for line in score_lines(table, measured):
        callback(line)
    ruined = set(table["file"][~table["usable"]]) & {path.name for path in paths}
    callback(f"{len(ruined - set(files))} of {len(ruined)} spectra with a ruined extraction were set aside")
    return out


def score_table(name: str, path: Path, callback: Callback) -> None:
    """Score the answers that any method has written for a frozen benchmark; DataError if the table is not right."""
    table, measured = frozen_table(name), read_measured(path)
    if unknown := sorted(set(measured["file"]) - set(table["file"])):
        callback(one_line(f"{len(unknown)} rows are of other files and not used, such as {unknown[0]}"))
    callback(f"{name}, {path.name}")
    for line in score_lines(table, measured):
        callback(line)


def _judged(
    source: Path | Sequence[Path],
    folder: Path,
    table: pd.DataFrame,
    output: Path,
    callback: Callback,
    lsf: str,
    run: Run | None,
    population: str,
    reading: Mapping[str, Any] | None,
) -> tuple[QTable, list[str]]:
    """The measured stars beside their catalogue, and the names of their files."""
    rows = [row for row in table.to_dict("records") if _known(row) or _cluster(row)]
    settings, notes = OBSERVED if run is None else run.params.observed, list[str]()
    pairs = labelled(
        read_spectra(source, settings, callback=notes.append, **(reading or {})), rows, folder, notes.append
    )
    if not pairs:
        raise DataError(f"no spectrum in {folder} has labels: its table must name files (column file) or targets")
    named = {spectrum.name: row for spectrum, row in pairs}
    stars = [spectrum for spectrum, _ in pairs]
    found = measure(stars, lsf, callback=callback, population=population) if run is None else []
    results = measured_table(found) if run is None else run.network_labels(stars)
    good = results[[str(verdict) != SET_ASIDE for verdict in results["verdict"]]]
    if not len(good):
        raise DataError(f"none of {len(pairs)} labelled stars in {folder} can be measured: {results['reason'][0]}")
    names = [str(name) for name in good["name"]]
    measured, sigma = (
        np.array([u.Quantity(good[f"{start}{LABELS[i]}"]).value for i in _THREE]).T for start in ("", "sigma_")
    )
    catalogue = np.array([[named[name].get(key, np.nan) for key in _CATALOGUE] for name in names], float)
    off, out = measured - catalogue, QTable(good["name", "verdict", "reason", "velocity"])
    for k, name in enumerate(_CATALOGUE):
        out[name], out[f"{name}_catalogue"] = measured[:, k], catalogue[:, k]
        out[f"{name}_error"], out[f"{name}_pull"] = sigma[:, k], off[:, k] / sigma[:, k]
    out.meta["emulator"] = default_emulator().version
    out.meta["population"] = population if run is None else "of the run"
    callback(f"\nemulator {default_emulator().version}, starclip {__version__}, population {out.meta['population']}")
    judged = np.isfinite(off).all(axis=1)
    if judged.any():
        for line in _differences([n for n, j in zip(names, judged, strict=True) if j], off[judged], sigma[judged]):
            callback(line)
    if any(_cluster(row) for row in named.values()):
        out[_CLUSTER] = [_cluster(named[name]) for name in names]
        if run is not None:
            callback("\ncluster scatter and repeats are for fits: leave out --params")
        for line in clusters([one for one in found if not one.set_aside], named):
            callback(line)
    paths = write_tables(out, output, "benchmark")
    if judged.any():
        paths.append(output / "benchmark.png")
        shown = [name for name, j in zip(names, judged, strict=True) if j]
        with atomic_path(paths[-1]) as part:
            figure = figures.against_catalogue(shown, measured[judged], sigma[judged], catalogue[judged])
            figure.savefig(part, dpi=110)
    callback(f"\n{', '.join(path.name for path in paths)} in {output}")
    for line in notes:
        callback(line)
    file_of = {spectrum.name: Path(spectrum.file).name for spectrum in stars}
    return out, [file_of[name] for name in names]


def clusters(found: Sequence[Measured], rows: Mapping[str, Row]) -> list[str]:
    """Scatter of the stars of each cluster, and of repeats of a star, against the claimed noise, as lines of text.

    `rows` holds the row of the table for the name of each spectrum. Neither needs a catalogue. The errors of synthesis
    and scale, which similar stars share, are not part of the claim.
    """
    values = np.array([_ROWS @ one.labels for one in found if not one.set_aside])
    noise = np.array([np.diag(_ROWS @ noise_covariance(one.fits[0]) @ _ROWS.T) for one in found])
    stars, groups = np.array([one.target for one in found]), np.array([_cluster(rows[one.name]) for one in found])
    lines = []
    for group in dict.fromkeys(groups[groups != ""]):
        members = [
            np.flatnonzero((stars == star) & (groups == group)) for star in dict.fromkeys(stars[groups == group])
        ]
        if len(members) > 1:
            means = np.array([values[i].mean(axis=0) for i in members])
            claimed = np.sqrt(np.mean([noise[i].mean(axis=0) / len(i) for i in members], axis=0))
            lines += _scatter(f"{group}, {len(members)} stars ({sum(map(len, members))} spectra)", means, claimed)
        for i in members:
            if len(i) > 1:
                lines += _scatter(f"{stars[i[0]]}, {len(i)} spectra", values[i], np.sqrt(noise[i].mean(axis=0)))
    return lines


def _scatter(title: str, values: np.ndarray, claimed: np.ndarray) -> list[str]:
    """Mean and scatter of values (n, 4), and the scatter over the noise (4,) that is claimed."""
    spread = values.std(axis=0, ddof=1)
    width = max(len("scatter over claimed noise"), len(title))
    lines = ["", f"{title:<{width}}  " + "  ".join(f"{name:>8}" for name in _AGREEING)]
    for name, numbers, form in (
        ("mean", values.mean(axis=0), "+.2f"),
        ("scatter", spread, ".3f"),
        ("scatter over claimed noise", spread / claimed, ".2f"),
    ):
        lines.append(f"{name:<{width}}  " + "  ".join(format(number, form).rjust(8) for number in numbers))
    return lines


def _known(row: Row) -> bool:
    return all(np.isfinite(float(str(row.get(name, "nan")))) for name in _CATALOGUE)


def _cluster(row: Row) -> str:
    """The cluster that a row names; empty if none."""
    return str(row[_CLUSTER]).strip() if isinstance(row.get(_CLUSTER), str) else ""


def _differences(names: Sequence[str], off: np.ndarray, sigma: np.ndarray) -> list[str]:
    """Differences (n, 3) to a catalogue with their claimed errors, and their means, as lines of text."""
    width = max(len("difference over sigma, rms"), *map(len, names))
    lines = ["", f"{'measured minus catalogue':<{width}}  {'Teff [K]':>12}  {'log g':>13}  {'[Fe/H]':>13}"]
    for name, d, s in zip(names, off, sigma, strict=True):
        cells = f"{d[0]:>+6.0f} ± {s[0]:>3.0f}  {d[1]:>+6.2f} ± {s[1]:.2f}  {d[2]:>+6.2f} ± {s[2]:.2f}"
        lines.append(f"{name:<{width}}  {cells}")
    mean, rms, pull = off.mean(axis=0), np.sqrt((off**2).mean(axis=0)), np.sqrt(((off / sigma) ** 2).mean(axis=0))
    for name, (a, b, c), sign in (("mean", mean, "+"), ("root mean square", rms, "")):
        lines.append(f"{name:<{width}}  {a:>{sign}6.0f}{'':8}{b:>{sign}6.2f}{'':9}{c:>{sign}6.2f}")
    a, b, c = pull
    return [*lines, f"{'difference over sigma, rms':<{width}}  {a:>6.2f}{'':8}{b:>6.2f}{'':9}{c:>6.2f}"]


def _only_csv(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give the folder of the spectra")
    tables = [path for path in sorted(folder.glob("*.csv")) if path.is_file()]
    several = [path for path in tables if set(_CATALOGUE) <= set(csv_header(path)) or _CLUSTER in csv_header(path)]
    if len(several) != 1:
        found = ", ".join(path.name for path in several) or "none"
        raise DataError(
            f"{folder} must hold one CSV with columns {', '.join(_CATALOGUE)}, or cluster; found {found}; use --labels"
        )
    return several[0]


def _catalogue(path: Path) -> pd.DataFrame:
    table = read_csv(path, text=(*KEYS, _CLUSTER))
    if not set(KEYS) & set(table):
        raise DataError(f"{path} has none of the columns {', '.join(KEYS)}; one of them must name files or stars")
    for name in _CATALOGUE:
        if name not in table and _CLUSTER not in table:
            raise DataError(f"{path} has no column {name}; teff [K], logg and fe_h [dex] are needed, or cluster")
        if name in table:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    return table
