"""The paper's own files turned into a data set of this project."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.data.spectra import UNDIVIDED, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, Instrument, check_grid
from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS, TEFF
from starclip_lib.storage.formats import DATA_SET, MAX_FLUX
from starclip_lib.storage.hdf5 import opened_hdf5
from starclip_lib.storage.schema import check_values
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import check_memory
from starclip_lib.survey.allstar import LABEL_COLUMNS, catalogue_labels
from starclip_lib.survey.pandas_files import read_frame_hdf, read_frame_pickle

UNPAIRED_ROW = 11215  # of apogee_dr17.h5: a star without a NIRSpec spectrum
KNOWN_COUNTS = {19_799: 19_001}  # rows before and after duplicates are dropped, as published
_TOLERANCE = 3.0  # labels of both files must agree to so many catalogue errors


def import_original(
    jwst: str | Path,
    allstar: str | Path,
    spectra: str | Path,
    unpaired_row: int = UNPAIRED_ROW,
    callback: Callable[[str], None] = print,
) -> PairedSpectra:
    """Read the three files, pair their rows, and drop repeated stars; DataError names the file that does not fit.

    `jwst` is JWST_APOGEE.h5 with the pandas keys `wavelength` (8192, or a frame with the grid in its first row),
    `labels` (n, 20; Teff in kK or K) and `spectra`. `allstar` is apogee_dr17.h5 with the pandas key `allstar`: n rows,
    or n + 1 with `unpaired_row` to be left out. `spectra` holds the APOGEE fluxes, rows of 8575 pixels: n or n + 1 as
    in `allstar`, or one for each different star in the order of first appearance, as published; a pickled frame (.pkl,
    .pkl.gz; read without running anything in it) or an HDF5 file with one frame or array. All three are held in memory,
    and the fluxes once more in float32.
    """
    for path in (jwst, allstar, spectra):
        _check_downloaded(Path(path))
    grid = _numbers(read_frame_hdf(jwst, "wavelength"), f"{jwst}, key 'wavelength'").astype(np.float64)
    wavelength = grid[0] if grid.shape[1] == NIRSPEC.n_pix and len(grid) else grid.ravel()
    check_grid(wavelength, NIRSPEC, f"{jwst}, key 'wavelength'")
    labels = _labels(read_frame_hdf(jwst, "labels"), f"{jwst}, key 'labels'")
    nirspec = _fluxes(read_frame_hdf(jwst, "spectra"), NIRSPEC, f"{jwst}, key 'spectra'")
    n = len(labels)
    if len(nirspec) != n:
        raise DataError(f"{jwst}: {len(nirspec)} spectra but {n} rows of labels")
    catalogue = _paired(read_frame_hdf(allstar, "allstar"), n, unpaired_row, str(allstar))
    apogee = _fluxes(_read_spectra(spectra), APOGEE, str(spectra))

    if not isinstance(catalogue, pd.DataFrame) or not catalogue.columns.is_unique:
        raise DataError(f"{allstar}, key 'allstar' is not a table with a name for each column")
    for name in ("APOGEE_ID", *LABEL_COLUMNS):
        if name not in catalogue:
            raise DataError(f"{allstar}: no column {name}")
        if name in LABEL_COLUMNS and catalogue[name].dtype.kind not in "fiu":
            raise DataError(f"{allstar}, column {name} holds no real numbers")
    names = catalogue["APOGEE_ID"]
    if names.dtype.kind in "biufc":
        raise DataError(f"{allstar}, column APOGEE_ID holds numbers, expected names")
    expected, errors = catalogue_labels(catalogue)
    _check_pairing(labels, expected, f"{jwst} and {allstar}")
    star_id = np.array([name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names])
    star_id = np.char.strip(star_id)
    first = np.sort(np.unique(star_id, return_index=True)[1])
    if n in KNOWN_COUNTS and len(first) != KNOWN_COUNTS[n]:
        raise DataError(
            f"{allstar}: {n:,} rows hold {len(first):,} different stars, the paper's hold {KNOWN_COUNTS[n]:,}; "
            "these are not the files of the paper, or their rows were changed"
        )
    if len(apogee) != len(first):  # else the repeated stars have been dropped, as in the published file
        apogee = _paired(apogee, n, unpaired_row, str(spectra))[first]
    measured = np.isfinite(errors[first]).all(1)
    rows, apogee = first[measured], apogee[measured]
    callback(
        f"{n:,} rows, {n - len(first):,} of them repeat a star; {len(first) - len(rows):,} stars lack a label's error"
    )

    mask = (apogee == APOGEE.fill_value) | ~(np.abs(apogee) < MAX_FLUX) | ~APOGEE.on_detector
    apogee = np.where(mask, np.float32(APOGEE.fill_value), apogee)
    try:
        return PairedSpectra(
            star_id=star_id[rows],
            labels=labels[rows].astype(np.float32),
            label_errors=errors[rows].astype(np.float32),
            split=np.full(len(rows), UNDIVIDED, np.uint8),
            apogee=SpectrumSet(APOGEE, apogee, mask),
            nirspec=SpectrumSet(NIRSPEC, nirspec[rows], np.zeros((len(rows), NIRSPEC.n_pix), bool)),
            source="original",
            seed=0,
            provenance={"files": [Path(path).name for path in (jwst, allstar, spectra)], "rows": n},
        )
    except DataError as error:
        raise DataError(f"{jwst}, {allstar} and {spectra} make no {error}") from None


def _check_downloaded(path: Path) -> None:
    """Raise DataError for the pointer that a clone without Git LFS leaves in place of a large file."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(40).startswith(b"version https://git-lfs"):
                raise DataError(
                    f"{path} is a Git LFS pointer, not the file: install Git LFS and run `git lfs pull` there"
                )


def _read_spectra(path: str | Path) -> pd.DataFrame:
    if ".pkl" in Path(path).suffixes or ".pickle" in Path(path).suffixes:
        return read_frame_pickle(path)
    with opened_hdf5(path, damaged="give a pickle (.pkl, .pkl.gz) or an HDF5 file") as file:
        keys = list(file)
    if len(keys) != 1:
        raise DataError(f"{path}: expected one key, found {one_line(', '.join(keys)) or 'none'}")
    return read_frame_hdf(path, keys[0])


def _fluxes(frame: pd.DataFrame, instrument: Instrument, where: str) -> np.ndarray:
    """(n, n_pix) float32 with one spectrum a row, whichever way the frame lies."""
    flux = _numbers(frame, where).astype(np.float32, copy=False)
    if flux.shape[1] != instrument.n_pix and flux.shape[0] == instrument.n_pix:
        flux = np.ascontiguousarray(flux.T)
    if flux.shape[1] != instrument.n_pix:
        raise DataError(f"{where}: shape {flux.shape}, expected {instrument.n_pix} pixels a spectrum")
    if instrument is NIRSPEC:  # computed, so every pixel has data; APOGEE's are observed, and masked where not finite
        check_values(flux, DATA_SET["nirspec/flux"], where)
    return flux


def _numbers(frame: pd.DataFrame, where: str) -> np.ndarray:
    """A frame as real numbers; nothing is allocated if it declares more than this machine can hold."""
    check_memory(8 * frame.shape[0] * frame.shape[1], where)
    kinds = {getattr(dtype, "kind", "O") for dtype in frame.dtypes}
    if not kinds <= set("fiu"):
        raise DataError(f"{where}: not a table of real numbers")
    with np.errstate(over="ignore"):
        return frame.to_numpy()


def _labels(frame: pd.DataFrame, where: str) -> np.ndarray:
    if frame.shape[1] != len(LABELS):
        raise DataError(f"{where}: {frame.shape[1]} columns, expected {len(LABELS)}: {', '.join(LABELS)}")
    labels = _numbers(frame, where).astype(np.float64)
    if len(labels) and np.median(labels[:, TEFF]) < 100:  # kilokelvin
        labels[:, TEFF] *= 1000
    return labels


def _paired(table: pd.DataFrame | np.ndarray, n: int, unpaired_row: int, where: str) -> pd.DataFrame | np.ndarray:
    """The n rows that have a NIRSpec spectrum."""
    if len(table) == n:
        return table
    if len(table) != n + 1 or unpaired_row > n:
        raise DataError(f"{where}: {len(table)} rows for {n} NIRSpec spectra; expected {n}, or one more")
    if isinstance(table, pd.DataFrame):
        return table.drop(index=table.index[unpaired_row]).reset_index(drop=True)
    return np.delete(table, unpaired_row, axis=0)


def _check_pairing(labels: np.ndarray, expected: np.ndarray, where: str) -> None:
    """The same star in the same row: the labels of both files agree."""
    difference = np.abs(labels - expected) / ASPCAP_ERROR
    agree = np.mean(~(difference > _TOLERANCE), axis=0)  # a label without measurement says nothing
    worst = int(np.argmin(agree))
    if agree[worst] < 0.99:
        raise DataError(
            f"{where}: {LABELS[worst]} of the two files agrees in only {agree[worst]:.0%} of the rows; "
            f"either the rows are not those of the same stars, or the columns are not in the order {', '.join(LABELS)}"
        )
