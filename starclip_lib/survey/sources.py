"""What can be embedded, cut into tasks: our data sets, APOGEE's aspcapStar and apStar files, NIRSpec's spectra."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.observed.analysis import continuum_of, model_input, prepare_if_good
from starclip_lib.observed.files import read_observed
from starclip_lib.observed.finder import APOGEE, DATA_SET, SPECTRUM, find_files
from starclip_lib.observed.identity import counted_in, repeats, tell_targets_apart
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.giants import giant_templates
from starclip_lib.physics.instruments import INSTRUMENTS
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import printable_path, regular_file
from starclip_lib.survey.apogee import ApogeeSpectrum, normalised, read_ap_star, read_aspcap_star
from starclip_lib.survey.formats import Input, part_name

ROWS = 1024  # of a data set in one task: 34 MB of NIRSpec flux
FILES = 256  # in one task
_TEMPLATES = 64  # spectra that velocities are measured with
DATA, APOGEE_FILES, NIRSPEC_FILES = "data set", "aspcapStar", "observed"


@dataclass(frozen=True)
class Task:
    """Spectra of one instrument that one worker embeds together."""

    kind: str  # `DATA`, `APOGEE_FILES` or `NIRSPEC_FILES`
    instrument: str  # 'apogee' or 'nirspec'
    inputs: tuple[Input, ...]

    @property
    def key(self) -> str:
        """The same inputs, the same key: that of the part of the store."""
        return part_name(self.instrument, self.inputs)


@dataclass(eq=False)
class Batch:
    """Spectra on an instrument's grid, ready for its encoder, and what could not be read."""

    star_id: list[str]
    file: list[str]
    row: list[int]  # of a data set, else the number of the spectrum in its file
    flux: np.ndarray  # (n, n_pix): float32
    failed: list[tuple[str, int, str]]
    observed: list[ObservedSpectrum]  # of NIRSpec files, in the same order: what `starclip observe` would fit
    simulated: bool = False  # whether the spectra are emulated, as those of a simulated data set


def find_inputs(
    paths: Iterable[Path], instruments: Sequence[str], callback: Callable[[str], None] | None = None
) -> tuple[list[Task], list[tuple[str, int, str]]]:
    """Look through files and folders, and cut what is there into tasks; the same files make the same tasks.

    Also returns (file, row, reason) of data sets that cannot be opened. `instruments` are the sides of a data set that
    are wanted. Raises DataError if a path is missing, or nothing that can be embedded is found.
    """
    tasks: list[Task] = []
    failed: list[tuple[str, int, str]] = []
    spectra: dict[str, list[Input]] = {APOGEE_FILES: [], NIRSPEC_FILES: []}
    found = find_files(paths, (SPECTRUM, APOGEE, DATA_SET))
    for given, sort in found.files.items():
        path = given.absolute()  # links are not followed to their targets' names: only their own tell what they are
        try:
            one = _seen(printable_path(path, "the file"))
            if sort != DATA_SET:
                spectra[APOGEE_FILES if sort == APOGEE else NIRSPEC_FILES].append(one)
                continue
            n = _data_set_of(one).n_stars
        except StarclipError as error:
            failed.append((one_line(os.fsencode(path).decode("utf-8", "backslashreplace")), 0, str(error)))
            continue
        blocks = [replace(one, start=start, stop=min(start + ROWS, n)) for start in range(0, n, ROWS)]
        tasks += [Task(DATA, instrument, (block,)) for instrument in instruments for block in blocks]
    spectra[NIRSPEC_FILES], n_repeats = _told_apart(spectra[NIRSPEC_FILES])
    for kind, instrument in ((APOGEE_FILES, "apogee"), (NIRSPEC_FILES, "nirspec")):
        listed = spectra[kind]
        tasks += [Task(kind, instrument, tuple(listed[i : i + FILES])) for i in range(0, len(listed), FILES)]
    if not tasks and not failed:
        raise DataError(
            f"nothing to embed ({found.summary()}): give data sets (.h5), aspcapStar, apStar or NIRSpec files, or "
            "folders of these"
        )
    if callback is not None:
        single = "spectrum set aside: its exposures are in another file"
        several = "spectra set aside: their exposures are in other files"
        more = f"; {n_repeats} {single if n_repeats == 1 else several}" if n_repeats else ""
        callback(one_line(found.summary()) + more)
    return tasks, failed


def _told_apart(inputs: Sequence[Input]) -> tuple[list[Input], int]:
    """The inputs with what their spectra are in view of each other, as in `starclip observe`; how many are repeats.

    Memory: a few numbers for each spectrum.
    """
    spectra: list[ObservedSpectrum] = []
    origin: list[tuple[int, int]] = []
    for number, one in enumerate(inputs):
        try:
            read = read_observed(one.file, OBSERVED)
        except StarclipError:  # embedding it reports what is wrong
            continue
        for row, spectrum in enumerate(read):
            damage, nothing = "; ".join(spectrum.faults(OBSERVED)), np.empty(0)
            ends = spectrum.wavelength[[0, -1]] if len(spectrum.wavelength) else nothing
            spectra.append(
                replace(
                    spectrum, wavelength=ends, flux=nothing, ivar=nothing, flagged=nothing, bad=nothing, damage=damage
                )
            )
            origin.append((number, row))
    before = [spectrum.target for spectrum in spectra]
    tell_targets_apart(spectra)
    found = repeats(spectra, [not spectrum.damage for spectrum in spectra])
    stars: dict[int, list[tuple[int, str]]] = {}
    set_aside: dict[int, list[tuple[int, str]]] = {}
    for i, (number, row) in enumerate(origin):
        if spectra[i].target != before[i]:
            stars.setdefault(number, []).append((row, spectra[i].target))
        if i in found:
            set_aside.setdefault(number, []).append((row, counted_in(spectra[found[i]])))
    told = [
        replace(one, stars=tuple(stars.get(number, ())), repeats=tuple(set_aside.get(number, ())))
        for number, one in enumerate(inputs)
    ]
    return told, len(found)


def read_batches(task: Task, params: Params) -> Batch:
    """The spectra of a task; one that cannot be read costs a line, and not the others."""
    batch, flux = Batch([], [], [], np.empty((0, INSTRUMENTS[task.instrument].n_pix), np.float32), [], []), []

    def take(one: Input, row: int, name: str, spectrum: np.ndarray) -> None:
        batch.star_id.append(name)
        batch.file.append(one.file)
        batch.row.append(row)
        flux.append(spectrum)

    for one in task.inputs:
        try:
            if task.kind == DATA:
                data = _data_set_of(one)
                batch.simulated = task.instrument == "nirspec" or data.source == "simulate"
                for row, spectrum, reason in _of_data_set(data, task.instrument, one):
                    if spectrum is None:
                        batch.failed.append((one.file, row, reason))
                    else:
                        take(one, row, str(data.star_id[row]), spectrum)
            elif task.kind == APOGEE_FILES:
                apogee = _apogee(one)
                take(one, 0, apogee.star_id, apogee.flux)
            else:
                stars = dict(one.stars)
                for row, (seen, spectrum, reason) in enumerate(_observed(one, params)):
                    if spectrum is None:
                        batch.failed.append((one.file, row, reason))
                    else:
                        take(one, row, stars.get(row, seen.target or seen.name), spectrum)
                        batch.observed.append(seen)
        except StarclipError as error:
            where = f"none of rows {one.start} to {one.stop - 1}: " if task.kind == DATA else ""
            batch.failed.append((one.file, one.start, f"{where}{error}"))
    batch.flux = np.stack(flux).astype(np.float32) if flux else batch.flux
    return batch


def _seen(path: Path) -> Input:
    status = regular_file(path).stat()
    return Input(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _data_set_of(one: Input) -> PairedSpectra:
    """A data set as a run reads it: everything declared is checked, spectra are when they are asked for."""
    return PairedSpectra.read(one.file, memory=0)


def _of_data_set(data: PairedSpectra, side: str, one: Input) -> list[tuple[int, np.ndarray | None, str]]:
    """Rows of a data set with their spectra, or with what is wrong with them."""
    spectra: SpectrumSet = getattr(data, side)

    def checked(start: int, stop: int) -> np.ndarray:
        flux, mask = np.asarray(spectra.flux[start:stop]), np.asarray(spectra.mask[start:stop])
        SpectrumSet(spectra.instrument, flux, mask).check_together(one.file)
        return flux

    rows = range(one.start, one.stop)
    try:
        return [(row, flux, "") for row, flux in zip(rows, checked(one.start, one.stop), strict=True)]
    except DataError:  # in which of them?
        found: list[tuple[int, np.ndarray | None, str]] = []
        for row in rows:
            try:
                found.append((row, checked(row, row + 1)[0], ""))
            except DataError as error:
                found.append((row, None, str(error)))
        return found


def _apogee(one: Input) -> ApogeeSpectrum:
    raw = not Path(one.file).name.startswith("aspcapStar")
    return normalised(read_ap_star(one.file)) if raw else read_aspcap_star(one.file)


def _observed(one: Input, params: Params) -> Iterator[tuple[ObservedSpectrum, np.ndarray | None, str]]:
    """Spectra of a file as `starclip observe` takes them, and as the encoder does."""
    settings = params.observed
    continuum = continuum_of(params)
    set_aside = dict(one.repeats)
    for row, seen in enumerate(read_observed(one.file, OBSERVED)):
        if row in set_aside:
            yield seen, None, set_aside[row]
            continue
        star, faults = prepare_if_good(seen.within(settings), giant_templates(_TEMPLATES), continuum, settings)
        yield seen, None if star is None else model_input(star, star.flux[None], params)[0], faults
