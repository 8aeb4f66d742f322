"""`starclip observe`: spectra in, tables, figures and pages out; no run, no training."""

from __future__ import annotations

import base64
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy import units as u
from astropy.table import QTable, Table
from matplotlib.figure import Figure

from starclip_lib.data.tables import printable
from starclip_lib.lab import figures
from starclip_lib.lab.report import write_page
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.measured import Measured, nearest_neighbours
from starclip_lib.observed.measurements import Measurements, measured_table, summary
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.giants import FROM_PRIOR, WIDE, giants
from starclip_lib.physics.labels import LABELS, PLAIN, UNITS
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path, whole_folder
from starclip_lib.support.threads import Callback


def observe(
    paths: Sequence[Path],
    output: Path,
    callback: Callback,
    lsf: str = "",
    priors: Path | None = None,
    combine: bool = False,
    population: str = WIDE,
    reading: Mapping[str, Any] | None = None,
) -> Measurements:
    """Measure observed spectra; write observed.ecsv, .parquet and .vot, and a page for each star.

    `paths` are files or folders of files, `priors` a table for `observed.priors.read_priors`, `population` one of
    `physics.giants.POPULATIONS`; with `combine` the spectra of one target count as one star. `reading` holds further
    options of `read_spectra`: air, wavelength_unit, flux_unit. Raises DataError if nothing can be read.
    """
    giants(population)  # an unknown name is refused before anything is read
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; tables and pages need a folder: give another one with --output")
    notes: list[str] = []
    spectra = read_spectra(list(paths), OBSERVED, callback=notes.append, **(reading or {}))
    known, complaints = ({}, []) if priors is None else read_priors(priors, _names(spectra))
    for line in complaints:
        callback(one_line(line))
    found = measure(spectra, lsf, known, callback=callback, population=population)
    if combine:
        found = combined(found, population)
    table = measured_table(found, covariance=True)
    with whole_folder(output, [one.file for one in spectra if one.file]) as part:
        written = write_tables(table, part)
        pages = [_write_star(one, part) for one in found if one.fits]
    callback("")
    for line in summary(found):
        callback(line)
    callback(f"\n{len(written)} tables ({', '.join(path.name for path in written)}) and {len(pages)} pages in {output}")
    for line in notes:
        callback(line)
    return found


def _names(spectra: Sequence[ObservedSpectrum]) -> set[str]:
    return {name for spectrum in spectra for name in (spectrum.name, spectrum.target)}


def write_tables(table: QTable, folder: Path, name: str = "observed") -> list[Path]:
    """Write a table as ECSV, Parquet and VOTable (TOPCAT), the covariance in the last two; `name` has no ending."""
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
            _in_form(table, ending).write(written, overwrite=True, **options)
            shutil.copyfile(written, part)
    return paths


def _in_form(table: QTable, ending: str) -> Table:
    """The table without what a file of this kind cannot show: long rows of text, or units unknown to VOTable."""
    out = Table(table)
    if ending == "ecsv" and "covariance" in out.colnames:
        out.remove_column("covariance")
    for name in out.colnames if ending == "vot" else ():
        if out[name].unit == u.dex:
            out[name].unit, out[name].description = None, "in dex"
        elif out[name].unit == u.Angstrom:
            out[name] = out[name].quantity.to(u.nm)
    return out


def _write_star(one: Measured, folder: Path) -> Path:
    drawn = [("Observed spectrum, best model and residuals", figures.fitted_spectrum(one))]
    near: list[dict[str, object]] = []
    rows: list[tuple[object, ...]] = []
    if not one.set_aside and one.prior_fraction is not None:
        drawn.append(("The twenty labels beside the emulator's domain", figures.labels_in_domain(one)))
        near = Table(nearest_neighbours(one)).to_pandas().to_dict("records")
        rows = list(zip(LABELS, PLAIN, UNITS, one.labels, one.sigma, one.prior_fraction, strict=True))
    return write_page(
        folder / f"{one.name}.html",
        "measured",
        star=one,
        fit=one.fits[0],
        pictures=[(text, _embedded(figure)) for text, figure in drawn],
        neighbours=near,
        labels=rows,
        limit=FROM_PRIOR,
    )


def _embedded(figure: Figure) -> str:
    """A figure as base64 of a PNG, so that a page is one file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    return base64.b64encode(content.getvalue()).decode()
