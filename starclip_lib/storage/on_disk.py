"""Rows of a large array that stay where they are until they are asked for."""

from __future__ import annotations

import h5py
import numpy as np
from h5py import h5s

from starclip_lib.storage.schema import Member, as_boolean, check_values
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import check_memory, damage_refused


class RowsOnDisk:
    """The rows of an array in an HDF5 file that stays open: read, and checked, whenever they are asked for.

    It answers what an array would: `len`, `shape`, `dtype`, and rows by number, slice or array of numbers, which come
    as arrays. `numpy.asarray` reads everything, if there is memory for it. `rows` selects and orders rows of the file.
    """

    on_disk = True

    def __init__(self, array: h5py.Dataset, member: Member, where: str, rows: np.ndarray | None = None):
        self._array, self._member, self._where, self._rows = array, member, where, rows
        self.shape: tuple[int, ...] = (len(array) if rows is None else len(rows), *array.shape[1:])
        self.dtype = np.dtype(bool if member.kind == "boolean" else member.stored)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | list | np.ndarray) -> np.ndarray:
        wanted = np.arange(len(self))[key]
        rows = np.atleast_1d(wanted if self._rows is None else self._rows[wanted])
        member, where = self._member, self._where
        out = np.empty((len(rows), *self.shape[1:]), self._array.dtype)
        with damage_refused(self._array.file.filename, "is damaged or truncated", "make it again"):
            if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
                self._array.read_direct(out, np.s_[rows[0] : rows[0] + len(rows)])
            else:
                self._read_single(rows, out)
        if member.kind == "boolean":
            out = as_boolean(out, where)
        try:
            check_values(out, member, where)
        except DataError:
            for place, row in enumerate(rows):  # which one it is
                check_values(out[place : place + 1], member, where, int(row))
            raise
        out = out.astype(self.dtype, copy=False)
        return out[0] if np.ndim(wanted) == 0 else out

    def _read_single(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Row by row, without what h5py does for each selection: that would take longer than reading."""
        width, space, place = self.shape[1:], self._array.id.get_space(), h5s.create_simple(out.shape)
        corner = (0,) * len(width)
        for number, row in enumerate(rows.tolist()):
            space.select_hyperslab((row, *corner), (1, *width))
            place.select_hyperslab((number, *corner), (1, *width))
            self._array.id.read(place, space, out)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        check_memory(len(self) * int(np.prod(self.shape[1:])) * self.dtype.itemsize, self._where)
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, rows: np.ndarray) -> RowsOnDisk:
        """Some of the rows, still on disk."""
        chosen = rows if self._rows is None else self._rows[rows]
        return RowsOnDisk(self._array, self._member, self._where, chosen)


class RowsReplaced:
    """`rows` of which those at `places` are `others`, without a copy of the rest; it answers as `RowsOnDisk` does."""

    on_disk = True  # not an in-memory array

    def __init__(self, rows: Rows, places: np.ndarray, others: np.ndarray):
        self._rows, self._others = rows, others
        self.shape = (len(rows), *others.shape[1:])
        self._place = np.full(len(rows), -1)
        self._place[places] = np.arange(len(places))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | list | np.ndarray) -> np.ndarray:
        wanted = np.arange(len(self))[key]
        out, place = np.array(self._rows[np.atleast_1d(wanted)]), self._place[np.atleast_1d(wanted)]
        out[place >= 0] = self._others[place[place >= 0]]
        return out[0] if np.ndim(wanted) == 0 else out


Rows = np.ndarray | RowsOnDisk | RowsReplaced
