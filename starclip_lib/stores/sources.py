"""What can be embedded, cut into tasks: our data sets, APOGEE's aspcapStar and apStar files, NIRSpec's spectra."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from starclip_lib.data.formats import DATA_SET
from starclip_lib.data.hdf5 import dataset_of, opened_hdf5
from starclip_lib.data.instruments import INSTRUMENTS
from starclip_lib.errors import DataError, StarclipError
from starclip_lib.files import digest
from starclip_lib.observed.analysis import model_input, prepare_if_good
from starclip_lib.observed.files import read_observed
from starclip_lib.observed.giants import giant_templates
from starclip_lib.settings.params import Params
from starclip_lib.surveys.apogee import normalised, read_ap_star, read_aspcap_star
from starclip_lib.transforms.continuum import PseudoContinuum

ROWS = 1024  # of a data set in one task: 34 MB of NIRSpec flux
FILES = 256  # in one task
_TEMPLATES = 64  # spectra that velocities are measured with
DATA, APOGEE_FILES, NIRSPEC_FILES = "data set", "aspcapStar", "observed"


@dataclass(frozen=True)
class Input:
    """One file, or some rows of one, as it was when it was looked at.

    Parameters
    ----------
    file : str
        Absolute.
    size, modified : int
        Bytes, and nanoseconds since 1970.
    start, stop : int
        Rows of a data set; 0 and 0 for a file of spectra.
    """

    file: str
    size: int
    modified: int
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Task:
    """Spectra of one instrument that are embedded together, by whoever is free.

    Parameters
    ----------
    kind : str
        `DATA`, `APOGEE_FILES` or `NIRSPEC_FILES`.
    instrument : str
        'apogee' or 'nirspec'.
    inputs : tuple of Input
    """

    kind: str
    instrument: str
    inputs: tuple[Input, ...]

    @property
    def key(self) -> str:
        """A digest of what goes in: the same inputs, the same part of the store."""
        return digest([self.kind, self.instrument, [vars(one) for one in self.inputs]])[:16]


@dataclass(eq=False)
class Batch:
    """Spectra on an instrument's grid, ready for its encoder, and what could not be read.

    Parameters
    ----------
    star_id, file : list of str
    row : list of int
        Of a data set, else the number of the spectrum in its file.
    flux : ndarray, shape (n, n_pix)
        float32.
    failed : list of (file, row, reason)
    """

    star_id: list[str]
    file: list[str]
    row: list[int]
    flux: np.ndarray
    failed: list[tuple[str, int, str]]


def find_inputs(paths: Iterable[Path], instruments: Sequence[str]) -> tuple[list[Task], list[tuple[str, int, str]]]:
    """Look through files and folders, and cut what is there into tasks; the same files make the same tasks.

    Parameters
    ----------
    paths : iterable of Path
    instruments : sequence of str
        Which sides of a data set are wanted.

    Returns
    -------
    tasks : list of Task
    failed : list of (file, row, reason)
        Data sets that cannot be opened.

    Raises
    ------
    DataError
        If a path is missing, or nothing that can be embedded is found.
    """
    tasks: list[Task] = []
    failed: list[tuple[str, int, str]] = []
    spectra: dict[str, list[Input]] = {APOGEE_FILES: [], NIRSPEC_FILES: []}
    for path in dict.fromkeys(found for given in paths for found in _files(given)):
        if (shown := os.fsencode(path).decode("utf-8", "backslashreplace")) != str(path):
            failed.append((shown, 0, "its name is no text; rename it"))
            continue
        one = _seen(path)
        if path.suffix in (".h5", ".hdf5"):
            try:
                with opened_hdf5(path) as file:
                    n = dataset_of(file, "star_id", DATA_SET["star_id"], {}, f"{path}: star_id").shape[0]  # type: ignore[union-attr]  # it is not optional
            except StarclipError as error:
                failed.append((str(path), 0, str(error)))
                continue
            blocks = [replace(one, start=start, stop=min(start + ROWS, n)) for start in range(0, n, ROWS)]
            tasks += [Task(DATA, instrument, (block,)) for instrument in instruments for block in blocks]
        else:
            kind = APOGEE_FILES if path.name.startswith(("aspcapStar", "apStar", "asStar")) else NIRSPEC_FILES
            spectra[kind].append(one)
    for kind, instrument in ((APOGEE_FILES, "apogee"), (NIRSPEC_FILES, "nirspec")):
        listed = spectra[kind]
        tasks += [Task(kind, instrument, tuple(listed[i : i + FILES])) for i in range(0, len(listed), FILES)]
    if not tasks and not failed:
        kinds = "data sets (.h5), aspcapStar, apStar, spec1d or x1d files"
        raise DataError(f"nothing to embed: give {kinds}, or folders of these")
    return tasks, failed


def read_batches(task: Task, params: Params) -> Batch:
    """The spectra of a task; one that cannot be read costs a line, and not the others.

    Parameters
    ----------
    task : Task
    params : Params
        Of the run whose encoder is going to see them.

    Returns
    -------
    Batch
    """
    batch, flux = Batch([], [], [], np.empty((0, INSTRUMENTS[task.instrument].n_pix), np.float32), []), []
    if task.kind == DATA:
        try:
            return _data_set(task)
        except StarclipError as error:
            (one,) = task.inputs
            batch.failed.append((one.file, one.start, f"none of rows {one.start} to {one.stop - 1}: {error}"))
            return batch
    read = {APOGEE_FILES: _apogee, NIRSPEC_FILES: _observed}[task.kind]
    for one in task.inputs:
        try:
            for number, (name, spectrum, reason) in enumerate(read(one, params)):
                if spectrum is None:
                    batch.failed.append((one.file, number, reason))
                    continue
                batch.star_id.append(name)
                batch.file.append(one.file)
                batch.row.append(number)
                flux.append(spectrum)
        except StarclipError as error:
            batch.failed.append((one.file, 0, str(error)))
    batch.flux = np.stack(flux).astype(np.float32) if flux else batch.flux
    return batch


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.name.endswith((".fits", ".fits.gz", ".h5")) and p.is_file())
        # links are not followed to their targets' names: only their own say what they are
        yield from (p.absolute() for p in found if not p.name.startswith("."))
    elif path.exists():
        yield path.absolute()
    else:
        raise DataError(f"{path}: no such file or folder")


def _seen(path: Path) -> Input:
    status = path.stat()
    return Input(str(path), status.st_size, status.st_mtime_ns)


def _data_set(task: Task) -> Batch:
    (one,) = task.inputs
    side, rows = task.instrument, slice(one.start, one.stop)
    sizes: dict[str, int] = {}
    instrument, where = INSTRUMENTS[side], one.file
    with opened_hdf5(one.file) as file:
        wanted = {name: f"{side}/{name}" for name in ("flux", "mask")} | {"star_id": "star_id"}
        found = {
            key: dataset_of(file, name, DATA_SET[name], sizes, f"{where}: {name}")  # type: ignore[arg-type]
            for key, name in wanted.items()
        }
        names = [str(name) for name in found["star_id"].asstr()[rows]]  # type: ignore[union-attr]  # none is optional
        flux, mask = (np.asarray(found[key][rows]) for key in ("flux", "mask"))  # type: ignore[index]
    flux = np.where(mask.astype(bool), instrument.no_data, flux).astype(np.float32)
    fine = np.isfinite(flux).all(axis=1)
    failed = [(where, one.start + int(row), "its flux is not finite") for row in np.flatnonzero(~fine)]
    names = [name for name, good in zip(names, fine, strict=True) if good]
    places = (one.start + np.flatnonzero(fine)).tolist()
    return Batch(names, [where] * len(names), places, flux[fine], failed)


def _apogee(one: Input, params: Params) -> Iterator[tuple[str, np.ndarray | None, str]]:
    raw = not Path(one.file).name.startswith("aspcapStar")
    spectrum = normalised(read_ap_star(one.file)) if raw else read_aspcap_star(one.file)
    yield spectrum.star_id, spectrum.flux, ""


def _observed(one: Input, params: Params) -> Iterator[tuple[str, np.ndarray | None, str]]:
    settings = params.observed
    continuum = PseudoContinuum(params.corruption.continuum_spacing or settings.continuum_spacing)
    for spectrum in read_observed(one.file, settings):
        star, faults = prepare_if_good(spectrum, giant_templates(_TEMPLATES), continuum, settings)
        yield spectrum.name, None if star is None else model_input(star, star.flux[None], params)[0], faults
