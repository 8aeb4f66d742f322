"""Writing a data set, whole arrays or spectra block by block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from starclip_lib.data.spectrum_set import SpectrumSet, observed_members
from starclip_lib.physics.instruments import INSTRUMENTS, Instrument
from starclip_lib.physics.labels import LABELS, UNITS
from starclip_lib.storage.formats import DATA_SET, OBSERVED, SCHEMA_VERSION
from starclip_lib.storage.hdf5 import Rows, new_member, write_member, written_hdf5
from starclip_lib.storage.schema import check_arrays, check_values

_LABELLED = {"names": list(LABELS), "units": list(UNITS)}
_MORE: dict[str, dict[str, Any]] = {  # attributes of arrays besides those that are declared
    "labels": _LABELLED,
    "label_errors": _LABELLED,
    **{f"{name}/wavelength": {"medium": "vacuum"} for name in INSTRUMENTS},
    **{f"{name}/flux": {"no_data_value": instrument.fill_value} for name, instrument in INSTRUMENTS.items()},
}


class DataSetFile:
    """A data set that is being written."""

    def __init__(self, file: h5py.File, where: str):
        self._file, self._where = file, where

    def put(self, arrays: Mapping[str, Rows | None]) -> None:
        """Write whole arrays."""
        for name, array in arrays.items():
            if array is not None:
                write_member(self._file, name, array, DATA_SET[name], **_MORE.get(name, {}))

    def put_stars(self, arrays: Mapping[str, Rows | None]) -> None:
        """Write what there is of each star besides its spectra, once all of these are written."""
        check_arrays(arrays, DATA_SET, self._where)
        self.put(arrays)

    def put_observed(self, found: Mapping[str, Any]) -> None:
        """Check and write the observed NIRSpec spectra of the test stars, if there are any."""
        if found:
            found["observed"].check_together(f"{self._where}: {OBSERVED}")
            self.put_stars(observed_members(found["observed"], found["observed_labels"]))

    def put_rows(self, instrument: Instrument, rows: slice, n_stars: int, **blocks: np.ndarray) -> None:
        """Check and write some of the spectra of an instrument; with the first of them, its grid."""
        for key, block in blocks.items():
            name = f"{instrument.name}/{key}"
            check_values(block, DATA_SET[name], f"{self._where}: {name}", rows.start)
        SpectrumSet(instrument, **blocks).check_together(f"{self._where}, from star {rows.start}")
        if instrument.name not in self._file:
            self.put({f"{instrument.name}/wavelength": instrument.wavelength})
        for key, block in blocks.items():
            name = f"{instrument.name}/{key}"
            if name not in self._file:
                new_member(self._file, name, (n_stars, instrument.n_pix), DATA_SET[name], **_MORE.get(name, {}))
            self._file[name][rows] = block


@contextmanager
def written_data_set(path: str | Path, source: str, seed: int, provenance: Mapping[str, Any]) -> Iterator[DataSetFile]:
    """A new file of a data set, which appears under its name only when it is complete."""
    about = {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": json.dumps(dict(provenance)),
    }
    with written_hdf5(path, about) as file:
        yield DataSetFile(file, str(path))
