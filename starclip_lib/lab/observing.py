"""`starclip observe`: spectra in, tables, figures and pages out; no run, no training."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table
from matplotlib.figure import Figure

from starclip_lib.data.tables import printable
from starclip_lib.lab import figures
from starclip_lib.lab.report import write_page
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.measuring import Measured, measure, measured_table, twins
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.giants import FROM_PRIOR, WIDE, giants
from starclip_lib.physics.labels import FE, LABELS, LOGG, PLAIN, TEFF, UNITS
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path, whole_folder

Say = Callable[[str], None]
_THREE = (TEFF, LOGG, FE)


def observe(
    paths: Sequence[Path],
    output: Path,
    say: Say,
    spread: str = "",
    priors: Path | None = None,
    combine: bool = False,
    population: str = WIDE,
    reading: Mapping[str, Any] | None = None,
) -> list[Measured]:
    """Measure observed spectra; write observed.ecsv, .parquet and .vot, and a page for each star.

    `paths` are files or folders of files, `priors` a table for `observed.priors.read_priors`, `population` one of
    `physics.giants.POPULATIONS`; with `combine` the spectra of one target count as one star. `reading` is what
    `read_spectra` is told besides: air, wavelength_unit, flux_unit. Raises DataError if nothing can be read.
    """
    giants(population)  # an unknown name is refused before anything is read
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; tables and pages need a folder: give another one with --output")
    told: list[str] = []
    spectra = read_spectra(list(paths), OBSERVED, say=told.append, **(reading or {}))
    known, complaints = ({}, []) if priors is None else read_priors(priors, _names(spectra))
    for line in complaints:
        say(one_line(line))
    found = measure(spectra, spread, known, say=say, population=population)
    if combine:
        found = combined(found, population)
    table = measured_table(found)
    with whole_folder(output, [one.file for one in spectra if one.file]) as part:
        written = write_tables(table, part)
        pages = [_write_star(one, part) for one in found if one.fits]
    say("")
    for line in summary(found):
        say(line)
    say(f"\n{len(written)} tables ({', '.join(path.name for path in written)}) and {len(pages)} pages in {output}")
    for line in told:
        say(line)
    return found


def _names(spectra: Sequence[ObservedSpectrum]) -> set[str]:
    return {name for spectrum in spectra for name in (spectrum.name, spectrum.target)}


def summary(found: Sequence[Measured]) -> list[str]:
    """The first numbers to look at, a line for each star, and which labels are the prior's."""
    width = max([len(one.name) for one in found] + [4])
    lines = [
        f"{'star':<{width}}  {'Teff [K]':>12}  {'log g':>11}  {'[Fe/H]':>12}  {'prior':^14}  {'velocity':>17}  verdict"
    ]
    for one in found:
        if one.labels is None or one.prior_fraction is None:
            lines.append(f"{one.name:<{width}}  {'':>12}  {'':>11}  {'':>12}  {'':>14}  {'':>17}  {one.verdict}")
            continue
        teff, logg, feh = (f"{one.labels[i]:.{d}f} ± {one.sigma[i]:.{d}f}" for i, d in ((TEFF, 0), (LOGG, 2), (FE, 2)))
        share = " ".join(f"{one.prior_fraction[i]:.2f}" for i in _THREE)
        velocity = np.mean([fit.velocity for fit in one.fits])
        error = np.sqrt(np.sum([fit.velocity_error**2 for fit in one.fits])) / len(one.fits)
        several = f"; {len(one.fits)} spectra, scatter {one.scatter:.1f} sigma" if len(one.fits) > 1 else ""
        lines.append(
            f"{one.name:<{width}}  {teff:>12}  {logg:>11}  {feh:>12}  {share:>14}  {velocity:>6.1f} ± {error:.1f} km/s"
            f"  {one.domain}{several}"
        )
        if one.from_prior:
            lines.append(f"{'':<{width}}  from the prior: {one.from_prior}")
    return [
        *lines,
        "prior: standard deviation after over before the spectrum, of Teff, log g and [Fe/H]; "
        f"labels above {FROM_PRIOR:g} are listed as from the prior",
    ]


def write_tables(table: QTable, folder: Path, name: str = "observed") -> list[Path]:
    """Write a table as ECSV, Parquet and VOTable (TOPCAT), under a name without its ending."""
    paths = []
    table = printable(table)
    for ending, options in (
        ("ecsv", {"format": "ascii.ecsv"}),
        ("parquet", {"format": "parquet"}),
        ("vot", {"format": "votable"}),
    ):
        paths.append(folder / f"{name}.{ending}")
        with atomic_path(paths[-1]) as part, tempfile.TemporaryDirectory() as plain:
            written = Path(plain, part.name)  # Parquet's library takes no folder whose name is not UTF-8
            (_for_votable(table) if ending == "vot" else Table(table)).write(written, overwrite=True, **options)
            shutil.copyfile(written, part)
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
    rows: list[tuple[object, ...]] = []
    if one.labels is not None and one.prior_fraction is not None:
        drawn.append(("The twenty labels beside the emulator's domain", figures.labels_in_domain(one)))
        near = Table(twins(one)).to_pandas().to_dict("records")
        rows = list(zip(LABELS, PLAIN, UNITS, one.labels, one.sigma, one.prior_fraction, strict=True))
    return write_page(
        folder / f"{one.name}.html",
        "measured",
        star=one,
        fit=one.fits[0],
        pictures=[(text, _embedded(figure)) for text, figure in drawn],
        twins=near,
        labels=rows,
        limit=FROM_PRIOR,
    )


def _embedded(figure: Figure) -> str:
    """A figure as base64 of a PNG, so that a page is one file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    return base64.b64encode(content.getvalue()).decode()
