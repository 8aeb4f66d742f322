"""HDF5 files of declared members: written with checksums, read only if they are what was declared.

Arrays carry Fletcher-32 for every chunk and HDF5's own structures Jenkins' lookup3 (both verified by HDF5 itself);
attributes, and text of variable length in files of others, have no such thing, so a CRC-32 of all attributes is one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5s

from starclip_lib.storage.schema import Member, as_boolean, check_kind, check_shape, check_values
from starclip_lib.support.errors import NO_LOCKS, DataError, system_number
from starclip_lib.support.files import (
    atomic_path,
    check_memory,
    checksums_wanted,
    damage_refused,
    regular_file,
    size_text,
    unpacked_limit,
)

CHECKSUM = "attributes_crc32"
_ATTRIBUTE_BYTES = 2**20
_MOST_ATTRIBUTES = 100
_CHUNK = 65536  # values
_WIDE = 1000  # more values in a row: these are spectra
_ROWS = 512  # spectra written at once
_MANY = 2**29  # values of spectra that are read row by row, for which unpacking takes three times as long as reading
_COMPRESSED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
Attributes = dict[str, Any]


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


@contextmanager
def opened_hdf5(path: str | Path, missing: str = "", damaged: str = "") -> Iterator[h5py.File]:
    """An HDF5 file for reading; `missing` and `damaged` tell what to do then.

    Any error of HDF5 becomes one line: DataError for the content, SystemFault for what the system refused.
    """
    path = regular_file(path, missing)
    with damage_refused(path, "is damaged, truncated or not HDF5", damaged), hdf5_file(path) as file:
        yield file


@contextmanager
def written_hdf5(path: str | Path, attributes: Attributes | None = None) -> Iterator[h5py.File]:
    """A new HDF5 file, atomically; the attributes of the file are sealed with a checksum."""
    with atomic_path(path) as part, hdf5_file(part, "w", libver="v110") as file:
        if attributes:
            file.attrs.update(attributes)
            file.attrs[CHECKSUM] = np.uint32(_crc(attributes_of(file, str(path))))
        yield file


def hdf5_file(path: str | Path, mode: str = "r", **options: Any) -> h5py.File:
    """An HDF5 file, opened without locks where the file system has none."""
    try:
        return h5py.File(path, mode, locking="best-effort", **options)
    except OSError as error:
        if system_number(error) not in NO_LOCKS:
            raise
        return h5py.File(path, mode, locking=False, **options)


def write_member(file: h5py.File, name: str, array: Rows, member: Member, **attributes: Any) -> None:
    """Write an array as it is declared, with a checksum; large ones compressed, one row a chunk."""
    dtype: Any = member.stored
    if dtype == "text":
        encoded = [str(text).encode() for text in np.asarray(array)]
        dtype = h5py.string_dtype("utf-8", max(map(len, encoded), default=1))
        array = np.array(encoded, dtype)
    dataset = new_member(file, name, array.shape, member, dtype, **attributes)
    step = _ROWS if int(np.prod(array.shape[1:])) > _WIDE else max(1, len(array))
    for start in range(0, len(array), step):
        dataset[start : start + step] = np.asarray(array[start : start + step], dtype)


def new_member(
    file: h5py.File, name: str, shape: tuple[int, ...], member: Member, dtype: Any = None, **attributes: Any
) -> h5py.Dataset:
    """An array of a file to be filled, as `write_member` makes it."""
    options: dict[str, Any] = {}
    if shape[0]:
        width = int(np.prod(shape[1:]))
        rows = 1 if width > _WIDE else max(1, min(shape[0], _CHUNK // width))
        packed = width > _WIDE and (member.kind != "float" or shape[0] * width < _MANY)
        options = {"fletcher32": True, "chunks": (rows, *shape[1:]), **(_COMPRESSED if packed else {})}
    dataset = file.create_dataset(name, shape, member.stored if dtype is None else dtype, **options)
    dataset.attrs.update({"meaning": member.meaning, **({"unit": member.unit} if member.unit else {}), **attributes})
    return dataset


def check_sealed(attributes: Attributes, where: str) -> None:
    """Raise DataError if the attributes of a file are not those that were written (other programs write none)."""
    if checksums_wanted() and CHECKSUM in attributes and attributes[CHECKSUM] != _crc(attributes):
        raise DataError(f"{where}: its attributes are not those that were written (checksum); make the file again")


def _crc(attributes: Attributes) -> int:
    content = {key: value for key, value in attributes.items() if key != CHECKSUM}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def attributes_of(item: h5py.Group | h5py.Dataset, where: str) -> Attributes:
    """The attributes of a group or array as plain Python values."""
    found = {}
    if len(item.attrs) > _MOST_ATTRIBUTES:
        raise DataError(f"{where}: {len(item.attrs):,} attributes are more than {_MOST_ATTRIBUTES}")
    for name in item.attrs:
        if item.attrs.get_id(name).get_storage_size() > _ATTRIBUTE_BYTES:
            raise DataError(f"{where}: the attribute {name} has more than {_ATTRIBUTE_BYTES:,} bytes")
        value = item.attrs[name]
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        found[name] = value.decode() if isinstance(value, bytes) else value
    return found


def dataset_of(file: h5py.File, name: str, member: Member, sizes: dict[str, int], where: str) -> h5py.Dataset | None:
    """An array of a file, not read yet: of the declared kind and shape, and stored in full."""
    item: Any = file
    for part in name.split("/"):
        if not isinstance(item, h5py.Group) or part not in item:
            if member.optional:
                return None
            raise DataError(f"{where} is missing")
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise DataError(f"{where} is a link to elsewhere, which is not followed; store the array itself")
        item = item[part]
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise DataError(f"{where} is {'empty' if isinstance(item, h5py.Dataset) else 'a group'}, expected an array")
    if member.kind == "text":
        if h5py.check_string_dtype(item.dtype) is None:
            check_kind(item.dtype, member, where)
            raise DataError(f"{where} is not a text of HDF5")
    else:
        check_kind(item.dtype, member, where)
    check_shape(item.shape, member, sizes, where)
    check_stored(item, where)
    return item


def check_stored(dataset: h5py.Dataset, where: str) -> None:
    """Raise DataError unless all that an array declares is stored in this file."""
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{where} lies in another file, which is not read; store the array itself")
    if dataset.chunks:
        there = dataset.id.get_num_chunks()
        expected = int(np.prod([-(-size // step) for size, step in zip(dataset.shape, dataset.chunks, strict=True)]))
        whole = there == expected
    else:
        whole = dataset.id.get_storage_size() >= dataset.nbytes
    if not whole:
        raise DataError(f"{where} declares {dataset.shape} values, but not all of them are stored in the file")


def read_members(
    file: h5py.File,
    members: Mapping[str, Member],
    where: str,
    leave_out: Sequence[str] = (),
    prefix: str = "",
    memory: float = np.inf,
) -> dict[str, Any]:
    """The arrays of a file; nothing is read before all of them have the right kind and size.

    Members of `leave_out` are checked but not read.  If the arrays take more than `memory` bytes, spectra stay in the
    file, and their values are checked when they are read.
    """
    sizes: dict[str, int] = {}
    found, arrays = {}, dict[str, Any]()
    for name, member in members.items():
        dataset = dataset_of(file, name, member, sizes, f"{where}: {prefix}{name}")
        if dataset is not None and name not in leave_out:
            found[name] = dataset
    needed = sum(dataset.nbytes for dataset in found.values())
    if needed > unpacked_limit(stored := sum(dataset.id.get_storage_size() for dataset in found.values())):
        raise DataError(f"{where} would unpack {size_text(stored)} to {size_text(needed)}, which no spectra do")
    stay = {name for name, dataset in found.items() if needed > memory and int(np.prod(dataset.shape[1:])) > _WIDE}
    check_memory(sum(dataset.nbytes for name, dataset in found.items() if name not in stay), where)
    for name, dataset in found.items():
        member, place = members[name], f"{where}: {prefix}{name}"
        if name in stay:
            arrays[name] = RowsOnDisk(hdf5_file(file.filename)[dataset.name], member, place)
            continue
        array = _text(dataset, place) if member.kind == "text" else dataset[()]
        if member.kind == "boolean":
            array = as_boolean(array, place)
        check_values(array, member, place)
        arrays[name] = array if member.kind in ("text", "boolean") else array.astype(member.stored, copy=False)
    return arrays


def _text(dataset: h5py.Dataset, where: str) -> np.ndarray:
    texts = dataset.asstr()[()].tolist()
    if any(len(text) > 1000 for text in texts):
        raise DataError(f"{where} holds texts of more than 1,000 letters, expected names")
    return np.array(texts, dtype=str) if texts else np.empty(0, "U1")
