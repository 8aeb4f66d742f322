"""`starclip observe` and `starclip benchmark-real`: spectra in, tables, figures and pages out; no run, no training."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.table import QTable, Table
from matplotlib.figure import Figure

from starclip_lib import __version__, figures
from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.labels import FE, LABELS, LOGG, PLAIN, TEFF, UNITS
from starclip_lib.errors import DataError, one_line
from starclip_lib.files import atomic_path, safe_name
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import find_observed, read_spectra
from starclip_lib.observed.measuring import Measured, measure, measured_table, twins
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.pipeline.report import write_page
from starclip_lib.run import Run
from starclip_lib.settings.evaluation import ObservedParams

Say = Callable[[str], None]
_KEYS = ("file", "source_name", "star")
_THREE = (TEFF, LOGG, FE)
_CATALOGUE = {"teff": "Teff", "logg": "log g", "fe_h": "[Fe/H]"}


def observe(
    paths: Sequence[Path], output: Path, say: Say, spread: str = "", priors: Path | None = None, combine: bool = False
) -> list[Measured]:
    """Measure observed spectra; write observed.ecsv, .parquet and .vot, and a page for each star.

    Parameters
    ----------
    paths : sequence of Path
        Files, or folders of files.
    output : Path
        Folder for what is written.
    say : callable
        Is given a line of text.
    spread : str
        The line-spread function, see `data.line_spread.line_spread`.
    priors : Path, optional
        Table for `observed.priors.read_priors`.
    combine : bool
        Spectra of one target count as one star.

    Returns
    -------
    list of Measured

    Raises
    ------
    DataError
        In one line, if nothing can be read.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; tables and pages need a folder: give another one with --output")
    spectra = _spectra(paths)
    known, complaints = ({}, []) if priors is None else read_priors(priors, _names(spectra))
    for line in complaints:
        say(one_line(line))
    found = measure(spectra, spread, known, say=say)
    if combine:
        found = combined(found)
    table = measured_table(found)
    written = write_tables(table, output)
    pages = [_write_star(one, output) for one in found if one.fits]
    say("")
    for line in summary(found):
        say(line)
    say(f"\n{len(written)} tables ({', '.join(path.name for path in written)}) and {len(pages)} pages in {output}")
    return found


def _spectra(paths: Sequence[Path], settings: ObservedParams = OBSERVED) -> list[ObservedSpectrum]:
    files: list[Path] = []
    for path in paths:
        files += find_observed(path) if path.is_dir() else [path]
    files = list({path.resolve(): path for path in reversed(files)}.values())[::-1]
    return read_spectra(files if len(files) > 1 else files[0], settings)


def _names(spectra: Sequence[ObservedSpectrum]) -> set[str]:
    return {name for spectrum in spectra for name in (spectrum.name, spectrum.target)}


def summary(found: Sequence[Measured]) -> list[str]:
    """The numbers a person wants first: a line for each star.

    Parameters
    ----------
    found : sequence of Measured

    Returns
    -------
    list of str
    """
    width = max([len(one.name) for one in found] + [4])
    lines = [f"{'star':<{width}}  {'Teff [K]':>12}  {'log g':>11}  {'[Fe/H]':>12}  {'velocity':>14}  verdict"]
    for one in found:
        if one.labels is None:
            lines.append(f"{one.name:<{width}}  {'':>12}  {'':>11}  {'':>12}  {'':>14}  {one.verdict}")
            continue
        teff, logg, feh = (f"{one.labels[i]:.{d}f} ± {one.sigma[i]:.{d}f}" for i, d in ((TEFF, 0), (LOGG, 2), (FE, 2)))
        velocity = np.mean([fit.velocity for fit in one.fits])
        error = np.sqrt(np.sum([fit.velocity_error**2 for fit in one.fits])) / len(one.fits)
        several = f"; {len(one.fits)} spectra, scatter {one.scatter:.1f} sigma" if len(one.fits) > 1 else ""
        lines.append(
            f"{one.name:<{width}}  {teff:>12}  {logg:>11}  {feh:>12}  {velocity:>6.1f} ± {error:.1f} km/s"
            f"  {one.domain}{several}"
        )
    return lines


def write_tables(table: QTable, folder: Path, name: str = "observed") -> list[Path]:
    """Write a table as ECSV, Parquet and VOTable (TOPCAT).

    Parameters
    ----------
    table : QTable
    folder : Path
    name : str
        Of the files, without their endings.

    Returns
    -------
    list of Path
    """
    paths = []
    for ending, options in (
        ("ecsv", {"format": "ascii.ecsv"}),
        ("parquet", {"format": "parquet"}),
        ("vot", {"format": "votable"}),
    ):
        paths.append(folder / f"{name}.{ending}")
        with atomic_path(paths[-1]) as part:
            (_for_votable(table) if ending == "vot" else Table(table)).write(part, overwrite=True, **options)
    return paths


def _for_votable(table: QTable) -> Table:
    """The same table in units that the standard knows: no Angstrom; dex, which is none, is said in words."""
    out = Table(table)
    for name in out.colnames:
        if out[name].unit == u.dex:
            out[name].unit, out[name].description = None, "in dex"
        elif out[name].unit == u.Angstrom:
            out[name] = out[name].quantity.to(u.nm)
    return out


def _write_star(one: Measured, folder: Path) -> Path:
    drawn = [("Observed spectrum, best model and what is left", figures.fitted_spectrum(one))]
    near: list[dict[str, object]] = []
    if one.labels is not None:
        drawn.append(("The twenty labels beside the emulator's domain", figures.labels_in_domain(one)))
        near = Table(twins(one)).to_pandas().to_dict("records")
    return write_page(
        folder / f"{one.name}.html",
        "measured",
        star=one,
        fit=one.fits[0],
        pictures=[(text, _embedded(figure)) for text, figure in drawn],
        twins=near,
        labels=[] if one.labels is None else list(zip(LABELS, PLAIN, UNITS, one.labels, one.sigma, strict=True)),
    )


def _embedded(figure: Figure) -> str:
    """A figure as base64 of a PNG, so that a page is one file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    return base64.b64encode(content.getvalue()).decode()


def benchmark_real(
    folder: Path, output: Path, say: Say, labels: Path | None = None, spread: str = "", run: Run | None = None
) -> QTable:
    """Measure real stars whose labels are known, and say how far off they come out.

    Parameters
    ----------
    folder : Path
        Of spectra, with a table of labels: a CSV with `teff`, `logg`, `fe_h` and either `file` or the star's name in
        `source_name` or `star`.
    output : Path
    say : callable
    labels : Path, optional
        The table, if it lies elsewhere or the folder has several.
    spread : str
        The line-spread function.
    run : Run, optional
        Whose networks are judged in place of fits.

    Returns
    -------
    QTable
        A row for each labelled star that could be measured.

    Raises
    ------
    DataError
        If there is no such table, or none of its stars can be measured.
    """
    table = _catalogue(labels or _only_csv(folder))
    rows = [row for row in table.to_dict("records") if all(np.isfinite(row[name]) for name in _CATALOGUE)]
    pairs = _labelled(_spectra([folder], OBSERVED if run is None else run.params.observed), rows)
    if not pairs:
        raise DataError(f"no spectrum in {folder} has labels: its table must name files (column file) or targets")
    spectra = [spectrum for spectrum, _ in pairs]
    given = {spectrum.name: [row[name] for name in _CATALOGUE] for spectrum, row in pairs}
    found = measured_table(measure(spectra, spread, say=say)) if run is None else run.labels(spectra)
    good = found[[str(verdict) == "good" for verdict in found["verdict"]]]
    if not len(good):
        raise DataError(f"none of {len(pairs)} labelled stars in {folder} can be measured: {found['verdict'][0]}")
    names = [str(name) for name in good["name"]]
    measured, sigma = (
        np.array([u.Quantity(good[f"{start}{LABELS[i]}"]).value for i in _THREE]).T for start in ("", "sigma_")
    )
    catalogue = np.array([given[name] for name in names], float)
    off, out = measured - catalogue, QTable(good["name", "domain", "velocity"])
    for k, name in enumerate(_CATALOGUE):
        out[name], out[f"{name}_catalogue"] = measured[:, k], catalogue[:, k]
        out[f"{name}_error"], out[f"{name}_pull"] = sigma[:, k], off[:, k] / sigma[:, k]
    out.meta["emulator"] = default_emulator().version
    say(f"\nemulator {default_emulator().version}, starclip {__version__}")
    for line in _differences(names, off, sigma):
        say(line)
    paths = write_tables(out, output, "benchmark")
    with atomic_path(output / "benchmark.png") as part:
        figures.against_catalogue(names, measured, sigma, catalogue).savefig(part, dpi=110)
    say(f"\n{', '.join(path.name for path in paths)} and benchmark.png in {output}")
    return out


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
        raise DataError(f"{folder}: no such folder")
    tables = [path for path in sorted(folder.glob("*.csv")) if path.is_file()]
    several = [path for path in tables if set(_CATALOGUE) <= set(_header(path))]
    if len(several) != 1:
        found = ", ".join(path.name for path in several) or "none"
        raise DataError(f"{folder} must hold one CSV with columns {', '.join(_CATALOGUE)}; found {found}; use --labels")
    return several[0]


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip() for name in file.readline(100_000).split(",")]


def _catalogue(path: Path) -> pd.DataFrame:
    try:
        names = dict.fromkeys(_KEYS, str)
        table = pd.read_csv(path, nrows=1_000_000, dtype=names, skipinitialspace=True, compression=None)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    for name in _CATALOGUE:
        if name not in table:
            raise DataError(f"{path} has no column {name}; teff [K], logg and fe_h [dex] are needed")
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def _labelled(
    spectra: Sequence[ObservedSpectrum], rows: Sequence[dict[str, object]]
) -> list[tuple[ObservedSpectrum, dict[str, object]]]:
    """Each spectrum that a row of a catalogue names, with that row."""
    by_file: dict[str, dict[str, object]] = {}
    by_name: dict[str, dict[str, object]] = {}
    for line in rows:
        if isinstance(line.get("file"), str):
            by_file.setdefault(str(line["file"]), line)
        for key in _KEYS[1:]:
            if isinstance(line.get(key), str):
                by_name.setdefault(safe_name(line[key]), line)
    sources = Counter(spectrum.file for spectrum in spectra)
    found = []
    for spectrum in spectra:
        row: dict[str, object] | None = by_name.get(spectrum.target) or by_name.get(spectrum.name)
        if sources[spectrum.file] == 1:  # of several sources in a file, its name says nothing about which
            row = by_file.get(Path(spectrum.file).name) or row
        if row is not None:
            found.append((spectrum, row))
    return found
