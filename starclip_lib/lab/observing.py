"""`starclip observe`: spectra in; tables, a page for each star and one for all out; no run, no training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from starclip_lib.data.tables import printable
from starclip_lib.lab.pages import write_pages
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.measured import Catalogue, model_atlas
from starclip_lib.observed.measurements import Measurements, measured_table, summary
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.giants import WIDE, giants
from starclip_lib.physics.labels import LABELS, N_LABELS
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
    store: Path | None = None,
) -> Measurements:
    """Measure observed spectra; write tables (observed.ecsv, .parquet, .vot), index.html and a page for each star.

    `paths` are files or folders of files, `priors` a table for `observed.priors.read_priors`, `population` one of
    `physics.giants.POPULATIONS`; with `combine` the spectra of one target count as one star. `reading` holds further
    options of `read_spectra`: air, wavelength_unit, flux_unit. Neighbours are those in the APOGEE spectra of `store`
    (a folder of `starclip embed`), else in the model atlas. Raises DataError if nothing can be read.
    """
    giants(population)  # an unknown name is refused before anything is read
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; tables and pages need a folder: give another one with --output")
    catalogue = model_atlas() if store is None else apogee_stars(store)
    notes: list[str] = []
    spectra = read_spectra(list(paths), OBSERVED, callback=notes.append, **(reading or {}))
    known, complaints = ({}, []) if priors is None else read_priors(priors, _names(spectra))
    for line in complaints:
        callback(one_line(line))
    found = measure(spectra, lsf, known, callback=callback, population=population)
    if combine:
        found = combined(found, population)
    options = {
        "line-spread function": lsf or "that of each file's grating, filter and mode",
        "prior": f"{population}" + (f", and {priors.name}" if priors is not None else ""),
    }
    with whole_folder(output, [one.file for one in spectra if one.file]) as part:
        written = write_tables(measured_table(found, covariance=True), part)
        write_pages(found, part, catalogue, [path.name for path in written], options, [*complaints, *notes])
    callback("")
    for line in summary(found):
        callback(line)
    names = ", ".join(path.name for path in written)
    callback(f"\n{len(written)} tables ({names}), index.html and {len(found)} pages in {output}")
    for line in notes:
        callback(line)
    return found


def _names(spectra: Sequence[ObservedSpectrum]) -> set[str]:
    return {name for spectrum in spectra for name in (spectrum.name, spectrum.target)}


def apogee_stars(folder: Path) -> Catalogue:
    """The stars of a store whose APOGEE spectra have labels; memory: 120 bytes a spectrum.

    Raises DataError if it is not a store, or has none.
    """
    from starclip_lib.survey.store import Store

    columns = ["star_id", *LABELS, *(f"sigma_{label}" for label in LABELS)]
    names, labels, sigma = list[str](), [np.empty((0, N_LABELS), np.float32)], [np.empty((0, N_LABELS), np.float32)]
    for _, table in Store(folder).blocks(columns, "instrument == 'apogee'"):
        names += table.column("star_id").to_pylist()
        for rows, start in ((labels, ""), (sigma, "sigma_")):
            rows.append(np.column_stack([table.column(f"{start}{label}").to_numpy() for label in LABELS]))
    if not names:
        raise DataError(f"{folder} holds no APOGEE spectra; give a store that starclip embed has made of some")
    typical = np.nan_to_num(np.nanmedian(np.concatenate(sigma), axis=0))
    title = f"store {folder.resolve().name}"
    return Catalogue(title, np.concatenate(labels).astype(float), np.array(names), typical.astype(float))


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
