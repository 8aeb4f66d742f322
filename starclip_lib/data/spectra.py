"""The data set: pairs of APOGEE and NIRSpec spectra with labels, split by star once, and its file format."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from starclip_lib.data.instruments import INSTRUMENTS, Instrument, check_grid
from starclip_lib.data.labels import LABELS, N_LABELS, UNITS
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.data.star import Star
from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path

SCHEMA_VERSION = 1
SPLITS = ("train", "val", "test")
UNDIVIDED = 255  # in place of a split, for all stars of an archive: a run divides those that it takes


@dataclass(eq=False, repr=False)
class PairedSpectra:
    """Stars with catalogue labels and one spectrum from each instrument.

    Parameters
    ----------
    star_id : ndarray of str, shape (n,)
        Unique.
    labels, label_errors : ndarray, shape (n, 20)
        float32, in K and dex.
    split : ndarray of uint8, shape (n,)
        0 train, 1 val, 2 test: made once, used by every stage; 255 (`UNDIVIDED`) throughout in archives.
    apogee, nirspec : SpectrumSet
    source : str
        Where the data come from, with `seed` and `provenance`.
    seed : int
    provenance : dict
        Must be JSON.
    """

    star_id: np.ndarray
    labels: np.ndarray
    label_errors: np.ndarray
    split: np.ndarray
    apogee: SpectrumSet
    nirspec: SpectrumSet
    source: str
    seed: int
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check("data set")

    @property
    def n_stars(self) -> int:
        """Number of stars."""
        return len(self.star_id)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of the 'train', 'val' or 'test' stars.

        Parameters
        ----------
        split : {'train', 'val', 'test'}

        Returns
        -------
        ndarray of int
        """
        return np.flatnonzero(self.split == SPLITS.index(split))

    def row(self, star_id: str) -> int:
        """The row of a star.

        Parameters
        ----------
        star_id : str

        Returns
        -------
        int

        Raises
        ------
        DataError
            With the most similar identifiers, if there is none.
        """
        rows = np.flatnonzero(self.star_id == star_id)
        if len(rows):
            return int(rows[0])
        close = difflib.get_close_matches(star_id, self.star_id.tolist(), 3, 0.5)
        hint = f"; similar: {', '.join(close)}" if close else f"; identifiers look like {self.star_id[0]}"
        raise DataError(f"no star '{star_id}' in this data set{hint}")

    def star(self, star_id: str) -> Star:
        """Everything there is about one star.

        Parameters
        ----------
        star_id : str

        Returns
        -------
        Star

        Raises
        ------
        DataError
            As `row`.
        """
        row = self.row(star_id)
        return Star(
            str(self.star_id[row]),
            row,
            SPLITS[self.split[row]],
            self.labels[row].astype(np.float64),
            self.label_errors[row].astype(np.float64),
            self.apogee.flux[row].copy(),
            self.nirspec.flux[row].copy(),
        )

    def rows_of(self, star_id: np.ndarray) -> np.ndarray:
        """Row numbers of stars by identifier, repeats allowed.

        Parameters
        ----------
        star_id : ndarray of str, shape (m,)

        Returns
        -------
        ndarray of int, shape (m,)

        Raises
        ------
        DataError
            Naming the first, if some of them are not in the data set.
        """
        order = np.argsort(self.star_id)
        place = np.minimum(np.searchsorted(self.star_id, star_id, sorter=order), self.n_stars - 1)
        rows = order[place]
        missing = self.star_id[rows] != star_id
        if missing.any():
            raise DataError(f"{missing.sum()} stars have no labels in the data set, {star_id[missing][0]} among them")
        return rows

    def labels_of(self, star_id: np.ndarray) -> np.ndarray:
        """Catalogue labels of stars by identifier.

        Parameters
        ----------
        star_id : ndarray of str, shape (m,)

        Returns
        -------
        ndarray, shape (m, 20)
            float64.

        Raises
        ------
        DataError
            As `rows_of`.
        """
        return self.labels[self.rows_of(star_id)].astype(np.float64)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.split_counts().items() if count)
        counts = counts or "not divided yet"
        return f"{self.n_stars:,} stars ({counts}), {self.source}; labels and spectra of APOGEE and NIRSpec"

    def split_counts(self) -> dict[str, int]:
        """Number of train, val and test stars."""
        return {name: len(self.rows(name)) for name in SPLITS}

    def check(self, where: str) -> None:
        """Raise DataError, naming the file and array, unless everything a stage relies on holds.

        Parameters
        ----------
        where : str
            What the message begins with.

        Raises
        ------
        DataError
        """
        n = self.n_stars
        if len(np.unique(self.star_id)) != n:
            raise DataError(
                f"{where}: star_id has {n - len(np.unique(self.star_id))} repeats; drop duplicate stars first"
            )
        for key, array, shape in (
            ("labels", self.labels, (n, N_LABELS)),
            ("label_errors", self.label_errors, (n, N_LABELS)),
            ("split", self.split, (n,)),
        ):
            if array.shape != shape:
                raise DataError(f"{where}: {key} has shape {array.shape}, expected {shape}")
            if not np.isfinite(array).all():
                raise DataError(f"{where}: {key} holds NaN or infinite values; drop those stars")
        divided = not (self.split == UNDIVIDED).all()
        if divided and not np.isin(self.split, range(len(SPLITS))).all():
            raise DataError(f"{where}: split must hold 0 (train), 1 (val) and 2 (test) only")
        empty = [name for name, count in self.split_counts().items() if divided and count < 2]
        if empty:
            raise DataError(f"{where}: too few stars: {n} in all leave fewer than 2 for {' and '.join(empty)}")
        self.apogee.check(n, where)
        self.nirspec.check(n, where)

    def write(self, path: str | Path) -> None:
        """Write the data set as HDF5; the file appears under its name only when it is complete.

        Parameters
        ----------
        path : str or Path
        """
        with atomic_path(path) as part, h5py.File(part, "w") as file:
            file.attrs.update(
                schema_version=SCHEMA_VERSION,
                source=self.source,
                seed=self.seed,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                provenance=json.dumps(self.provenance),
            )
            file.create_dataset("star_id", data=self.star_id.astype(object), dtype=h5py.string_dtype())
            for key, array in (("labels", self.labels), ("label_errors", self.label_errors)):
                file.create_dataset(key, data=array.astype(np.float32))
                file[key].attrs.update(names=list(LABELS), units=list(UNITS))
            file.create_dataset("split", data=self.split).attrs["meaning"] = "0 train, 1 val, 2 test; 255 not divided"
            for name, spectra in (("apogee", self.apogee), ("nirspec", self.nirspec)):
                _write_spectra(file.create_group(name), spectra)

    @classmethod
    def read(cls, path: str | Path, with_ivar: bool = False) -> PairedSpectra:
        """Read and check a data set.

        Parameters
        ----------
        path : str or Path
        with_ivar : bool
            ivar, which training does not need, only on request.

        Returns
        -------
        PairedSpectra

        Raises
        ------
        DataError
            Names the file and what is missing or wrong in it.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing; notebook 01_data makes it (or: starclip run PARAMS)")
        try:
            with h5py.File(path) as file:
                return cls._read(file, str(path), with_ivar)
        except OSError as error:
            raise DataError(f"{path} is truncated or not HDF5 ({error}); delete it and run notebook 01_data") from error

    @classmethod
    def _read(cls, file: h5py.File, where: str, with_ivar: bool) -> PairedSpectra:
        try:
            if file.attrs["schema_version"] != SCHEMA_VERSION:
                raise DataError(
                    f"{where}: schema_version {file.attrs['schema_version']}, this version reads {SCHEMA_VERSION}"
                )
            names = tuple(file["labels"].attrs["names"])
            if names != LABELS:
                raise DataError(f"{where}: labels are {', '.join(names)}; expected {', '.join(LABELS)}")
            spectra = {name: _read_spectra(file[name], INSTRUMENTS[name], where, with_ivar) for name in INSTRUMENTS}
            data = cls.__new__(cls)  # checks below, with the file's name in the message
            data.__dict__.update(
                star_id=file["star_id"].asstr()[:],
                labels=file["labels"][:],
                label_errors=file["label_errors"][:],
                split=file["split"][:],
                source=str(file.attrs["source"]),
                seed=int(file.attrs["seed"]),
                provenance=json.loads(file.attrs["provenance"]),
                **spectra,
            )
        except KeyError as error:
            raise DataError(f"{where}: {error.args[0]}; rebuild the file with notebook 01_data") from error
        data.check(where)
        return data


def _write_spectra(group: h5py.Group, spectra: SpectrumSet) -> None:
    wavelength = group.create_dataset("wavelength", data=spectra.instrument.wavelength)
    wavelength.attrs.update(unit="Angstrom", medium="vacuum")
    options = {"chunks": (1, spectra.instrument.n_pix), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    for key in ("flux", "mask", "ivar"):
        array = getattr(spectra, key)
        if array is not None:
            group.create_dataset(key, data=array, **options)
    group["flux"].attrs.update(unit="relative to the continuum", no_data_value=spectra.instrument.no_data)
    group["mask"].attrs["meaning"] = "true where there is no data"


def _read_spectra(group: h5py.Group, instrument: Instrument, where: str, with_ivar: bool) -> SpectrumSet:
    wavelength = group["wavelength"][:]
    flux = group["flux"]
    if flux.shape[1:] != wavelength.shape:
        raise DataError(
            f"{where}: {instrument.name}/flux has {flux.shape[-1]} pixels but {instrument.name}/wavelength has "
            f"{len(wavelength)}. Rebuild it with notebook 01_data, or give the matching grid."
        )
    check_grid(wavelength, instrument, f"{where}: {instrument.name}/wavelength")
    ivar = group["ivar"][:] if with_ivar and "ivar" in group else None
    return SpectrumSet(instrument, flux[:].astype(np.float32, copy=False), group["mask"][:], ivar)
