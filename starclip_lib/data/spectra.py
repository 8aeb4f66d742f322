"""The data set: pairs of APOGEE and NIRSpec spectra with labels, split by star once, and its file format."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import ValidationError

from starclip_lib.data.spectrum_set import SpectrumSet, file_bytes, observed_members, observed_of
from starclip_lib.data.star import Star
from starclip_lib.data.writing import written_data_set
from starclip_lib.physics.instruments import INSTRUMENTS
from starclip_lib.physics.labels import LABELS
from starclip_lib.storage.formats import DATA_SET, OBSERVED, SCHEMA_VERSION, DataSetAttributes, check_wavelengths
from starclip_lib.storage.hdf5 import (
    Rows,
    attributes_of,
    check_sealed,
    opened_hdf5,
    read_members,
)
from starclip_lib.storage.json_files import parse_json
from starclip_lib.storage.schema import check_arrays
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import check_disk

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
    source : str
        Where the data come from, with `seed` and `provenance`.
    provenance : dict
        Must be JSON.
    observed : SpectrumSet, optional
        Observed NIRSpec spectra of the test stars, in their order, beside the computed ones.
    observed_labels : ndarray, shape (test stars, 20), optional
        The labels that these were made at, where they are known.
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
    observed: SpectrumSet | None = None
    observed_labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        for key in ("star_id", "labels", "label_errors", "split"):
            setattr(self, key, np.asarray(getattr(self, key)))
        self.check("data set")

    @property
    def n_stars(self) -> int:
        """Number of stars."""
        return len(self.star_id)

    def rows(self, split: str, at_most: int | None = None) -> np.ndarray:
        """Row numbers of the 'train', 'val' or 'test' stars.

        Parameters
        ----------
        split : {'train', 'val', 'test'}
        at_most : int, optional
            If there are more, so many are taken evenly: where spectra of all are held in memory, 33 kB each.
        """
        rows = np.flatnonzero(self.split == SPLITS.index(split))
        n = len(rows) if at_most is None else min(at_most, len(rows))
        return rows[np.arange(n) * len(rows) // max(n, 1)]

    def row(self, star_id: str) -> int:
        """The row of a star.

        Parameters
        ----------
        star_id : str
            In any case, with blanks around it or not.

        Raises
        ------
        DataError
            With the most similar identifiers, if there is none; if several differ only in case.
        """
        wanted = str(star_id).strip()
        rows = np.flatnonzero(self.star_id == wanted)
        if len(rows):
            return int(rows[0])
        by_lower: dict[str, list[int]] = {}
        for row, name in enumerate(self.star_id.tolist()):
            by_lower.setdefault(str(name).lower(), []).append(row)
        same = by_lower.get(wanted.lower(), [])
        if len(same) > 1:
            names = ", ".join(self.star_id[same[:5]])
            raise DataError(f"{len(same)} stars of this data set are called '{wanted:.60}' but for case: give {names}")
        if same:
            return same[0]
        alike = difflib.get_close_matches(wanted.lower(), by_lower, 3, 0.5)
        close = [str(self.star_id[by_lower[name][0]]) for name in alike]
        hint = f"; similar: {', '.join(close)}" if close else f"; identifiers look like {self.star_id[0]}"
        raise DataError(f"no star '{wanted:.60}' in this data set{hint}")

    def star(self, star_id: str) -> Star:
        """Everything there is about one star."""
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
        """Row numbers (m,) of stars by identifier, repeats allowed. Raises DataError naming the first unknown."""
        order = np.argsort(self.star_id)
        place = np.minimum(np.searchsorted(self.star_id, star_id, sorter=order), self.n_stars - 1)
        rows = order[place]
        missing = self.star_id[rows] != star_id
        if missing.any():
            raise DataError(f"{missing.sum()} stars have no labels in the data set, {star_id[missing][0]} among them")
        return rows

    def labels_of(self, star_id: np.ndarray) -> np.ndarray:
        """Catalogue labels (m, 20), float64, of stars by identifier. Raises DataError as `rows_of`."""
        return self.labels[self.rows_of(star_id)].astype(np.float64)

    def with_observed(self) -> PairedSpectra:
        """The data set with the observed NIRSpec spectra of test stars in place of the computed ones, in memory.

        Raises DataError if it has none.
        """
        if self.observed is None:
            raise DataError("this data set has no observed NIRSpec spectra; data.world: realistic makes some")
        flux, mask = (np.array(array[0 : self.n_stars]) for array in (self.nirspec.flux, self.nirspec.mask))
        test = self.rows("test")
        flux[test], mask[test] = self.observed.flux[0 : len(test)], self.observed.mask[0 : len(test)]
        return replace(self, nirspec=SpectrumSet(self.nirspec.instrument, flux, mask))

    def labels_of_observed(self) -> np.ndarray:
        """Labels (test stars, 20) at which observed NIRSpec spectra were made; the catalogue's if these are unknown."""
        known = self.labels[self.rows("test")] if self.observed_labels is None else self.observed_labels
        return known.astype(np.float64)

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
        """
        check_arrays(self._members(), DATA_SET, where)
        self._check_together(where)

    def _check_together(self, where: str) -> None:
        divided = not (self.split == UNDIVIDED).all()
        if divided and not np.isin(self.split, range(len(SPLITS))).all():
            raise DataError(f"{where}: split must hold 0 (train), 1 (val) and 2 (test) only")
        empty = [name for name, count in self.split_counts().items() if divided and count < 2]
        if empty or not self.n_stars:
            raise DataError(
                f"{where}: too few stars: {self.n_stars} in all leave fewer than 2 for {' and '.join(empty or SPLITS)}"
            )
        for spectra in (self.apogee, self.nirspec, self.observed):
            if spectra is not None and not spectra.on_disk:
                spectra.check_together(where)
        if self.observed is not None and len(self.observed.flux) != len(self.rows("test")):
            raise DataError(
                f"{where}: observed_nirspec has {len(self.observed.flux)} spectra, but there are "
                f"{len(self.rows('test'))} test stars; make the data set again"
            )

    def write(self, path: str | Path) -> None:
        """Write the data set as HDF5; the file appears under its name only when it is complete.

        Raises
        ------
        DataError
            If the disk has not that much room.
        """
        check_disk(file_bytes(self.n_stars), Path(path), f"a data set of {self.n_stars:,} stars")
        with written_data_set(path, self.source, self.seed, self.provenance) as file:
            file.put(self._members())

    def _members(self) -> dict[str, Rows | None]:
        """All arrays under the names that they have in a file."""
        arrays: dict[str, Rows | None] = {
            key: getattr(self, key) for key in ("star_id", "labels", "label_errors", "split")
        }
        for spectra in (self.apogee, self.nirspec):
            arrays |= {f"{spectra.instrument.name}/wavelength": spectra.instrument.wavelength, **spectra.members()}
        if self.observed is not None:
            arrays |= observed_members(self.observed, self.observed_labels)
        return arrays

    @classmethod
    def read(cls, path: str | Path, with_ivar: bool = False, memory: float = np.inf) -> PairedSpectra:
        """Read and check a data set.

        Parameters
        ----------
        with_ivar : bool
            ivar, which training does not need, only on request.
        memory : float
            Bytes; spectra that take more stay on disk, and each is read and checked when it is asked for.

        Raises
        ------
        DataError
            Names the file and what is missing or wrong in it.
        """
        make = "notebook 01_data makes it (or: starclip run PARAMS)"
        with opened_hdf5(path, make, "make it again (the data set of a run: notebook 01_data)") as file:
            return cls._read(file, str(path), with_ivar, memory)

    @classmethod
    def _read(cls, file: h5py.File, where: str, with_ivar: bool, memory: float) -> PairedSpectra:
        try:
            attributes = attributes_of(file, where)
            about = DataSetAttributes.model_validate(attributes)
        except ValidationError as error:
            problem = error.errors()[0]
            raise DataError(
                f"{where}: attribute {'.'.join(map(str, problem['loc']))}: {problem['msg']}; "
                "rebuild the file with notebook 01_data"
            ) from None
        if about.schema_version != SCHEMA_VERSION:
            raise DataError(f"{where}: schema_version {about.schema_version}, this version reads {SCHEMA_VERSION}")
        check_sealed(attributes, where)
        for name, instrument in INSTRUMENTS.items():
            check_wavelengths(file, name, instrument, where)
        leave_out = () if with_ivar else ("apogee/ivar", "nirspec/ivar")
        arrays = read_members(file, DATA_SET, where, leave_out, memory=memory)
        names = tuple(map(str, attributes_of(file["labels"], where).get("names", ())))
        if names != LABELS:
            raise DataError(f"{where}: labels are {', '.join(names) or 'not named'}; expected {', '.join(LABELS)}")
        sides = {
            name: SpectrumSet(instrument, *(arrays.get(f"{name}/{key}") for key in ("flux", "mask", "ivar")))  # type: ignore[arg-type]  # read_members has seen to them
            for name, instrument in INSTRUMENTS.items()
        }
        data = cls.__new__(cls)  # every array has been looked at; what follows has the file's name in the message
        data.__dict__.update(
            {key: arrays[key] for key in ("star_id", "labels", "label_errors", "split")},
            source=about.source,
            seed=about.seed,
            provenance=parse_json(about.provenance, f"{where}: provenance", dict[str, Any]),
            observed=observed_of(arrays, where),
            observed_labels=arrays.get(f"{OBSERVED}/labels"),
            **sides,
        )
        data._check_together(where)
        return data
