"""The data set of a run: simulated, or drawn from a file of real spectra."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from starclip_lib.data.selection import draw_rows, inside_cuts, split_by_star
from starclip_lib.data.simulate import simulate_survey, write_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet, spectra_bytes
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.params import Params
from starclip_lib.storage.hdf5 import Rows, RowsOnDisk
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import check_memory

_STAR_BYTES = 120_000  # at the peak of a simulation


def make_data_set(settings: DataParams, seed: int, root: Path, memory: float = np.inf) -> PairedSpectra:
    """The data set of the settings, simulated or from `settings.file`, cut, sampled and split."""
    if not settings.file:
        check_memory(_STAR_BYTES * settings.n_stars, f"data.n_stars {settings.n_stars:,}")
        return simulate_survey(settings.n_stars, seed, settings)
    everything = PairedSpectra.read(data_file(settings, root), with_ivar=True, memory=memory)
    keep = np.all(list(inside_cuts(everything.labels, settings).values()), axis=0)
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(keep)[draw_rows(int(keep.sum()), settings.n_stars, rng)]
    return PairedSpectra(
        star_id=everything.star_id[rows],
        labels=everything.labels[rows],
        label_errors=everything.label_errors[rows],
        split=split_by_star(everything.star_id[rows], settings.split, rng),
        apogee=_take(everything.apogee, rows),
        nirspec=_take(everything.nirspec, rows),
        source=everything.source,
        seed=seed,
        provenance={**everything.provenance, "file": settings.file},
    )


def write_data_set(path: Path, root: Path, params: Params, watch: object = None) -> None:
    """Make the data set of a run and write it."""
    settings, memory = params.data, params.memory * 1e9
    if not settings.file and spectra_bytes(settings.n_stars) > memory:
        write_survey(path, settings.n_stars, params.seed, settings)
    else:
        make_data_set(settings, params.seed, root, memory).write(path)


def data_file(settings: DataParams, root: Path) -> Path:
    """Path of the file of real spectra. Raises DataError saying how to get one, if it is not there."""
    path = root / settings.file
    if not path.is_file():
        raise DataError(
            f"data.file {settings.file} is missing: make it with 'starclip fetch apogee' or 'starclip import-original'"
        )
    return path


def _take(spectra: SpectrumSet, rows: np.ndarray) -> SpectrumSet:
    def some(array: Rows) -> Rows:
        return array.take(rows) if isinstance(array, RowsOnDisk) else array[rows]

    ivar = None if spectra.ivar is None else some(spectra.ivar)
    return SpectrumSet(spectra.instrument, some(spectra.flux), some(spectra.mask), ivar)
