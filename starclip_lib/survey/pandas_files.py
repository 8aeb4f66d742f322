"""Files of pickled or HDF-stored pandas frames, read without running anything that is in them.

`pandas.read_pickle` executes whatever a pickle asks for, and so do pandas and PyTables with the pickles inside their
HDF5 files.  Here an unpickler looks every name up in a short list of NumPy's and pandas' own constructors, and refuses
all others.
"""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from pathlib import Path
from pickle import Unpickler, UnpicklingError
from typing import IO, Any, cast

import h5py
import numpy as np
import pandas as pd

from starclip_lib.storage.hdf5 import check_stored, opened_hdf5
from starclip_lib.support.errors import DataError, StarclipError, SystemFault, is_refusal, one_line, system_message
from starclip_lib.support.files import check_memory, regular_file, size_text, unpacked_limit

_MOST_AFTER = 2**20  # bytes after a pickle
_PICKLED = 2**30  # bytes of a column of text


class _Refused(UnpicklingError):
    """Names what a pickle asked for."""


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; any other codec is refused, since some of them unpack or transform at will."""
    if encoding != "latin1":
        raise _Refused(f"the codec {encoding}")
    return text.encode("latin1")


# Name in the file -> name now (modules and classes have moved between versions).
_ALLOWED = {
    **{f"numpy.{core}.{name}": f"numpy._core.{name}" for core in ("core", "_core")
       for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")},
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": "numpy.dtype",
    "builtins.slice": "builtins.slice",
    "__builtin__.slice": "builtins.slice",
    "pandas.DataFrame": "pandas.DataFrame",
    "pandas.core.frame.DataFrame": "pandas.DataFrame",
    "pandas.Series": "pandas.Series",
    "pandas.core.series.Series": "pandas.Series",
    "pandas.core.internals.managers.BlockManager": "pandas.core.internals.managers.BlockManager",
    "pandas.core.internals.managers.SingleBlockManager": "pandas.core.internals.managers.SingleBlockManager",
    "pandas._libs.internals._unpickle_block": "pandas._libs.internals._unpickle_block",
    "pandas.core.indexes.base._new_Index": "pandas.core.indexes.base._new_Index",
    "pandas.Index": "pandas.Index",
    "pandas.core.indexes.base.Index": "pandas.Index",
    **{f"pandas.core.indexes.numeric.{name}": "pandas.Index" for name in ("Int64Index", "Float64Index", "UInt64Index")},
    "pandas.RangeIndex": "pandas.RangeIndex",
    "pandas.core.indexes.range.RangeIndex": "pandas.RangeIndex",
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked",
    "pandas.arrays.StringArray": "pandas.arrays.StringArray",
    "pandas.core.arrays.string_.StringArray": "pandas.arrays.StringArray",
    "pandas.StringDtype": "pandas.StringDtype",
    "pandas.core.arrays.string_.StringDtype": "pandas.StringDtype",
}  # fmt: skip


class _Restricted(Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if asked == "_codecs.encode":
            return _latin1
        if asked not in _ALLOWED:
            raise _Refused(asked)
        home, _, attribute = _ALLOWED[asked].rpartition(".")
        return getattr(importlib.import_module(home), attribute)


def restricted_load(file: IO[bytes], where: str) -> Any:
    """The content of a pickle, if it is made of NumPy arrays, pandas frames and plain values.

    Anything else is neither imported nor run: DataError names `where` and the first such thing.
    """
    try:
        return _Restricted(file).load()
    except StarclipError:
        raise
    except _Refused as error:
        raise DataError(
            f"{where}: refused, it asks for {error}. Only NumPy arrays and pandas frames are read from a pickle, since "
            "anything else could run code; ask for the data as HDF5 instead"
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        if is_refusal(error):
            raise SystemFault(system_message(error, where)) from error
        raise DataError(f"{where}: truncated or not a pickle ({one_line(str(error))})") from error


def read_frame_pickle(path: str | Path) -> pd.DataFrame:
    """A data frame or two-dimensional array from a pickle, gzipped or not."""
    regular_file(path)
    try:
        with Path(path).open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            limit = unpacked_limit(Path(path).stat().st_size)
            plain: IO[bytes] = cast(IO[bytes], _Bounded(file, limit, str(path))) if zipped else file
            content = restricted_load(plain, str(path))
            _read_to_end(plain, str(path))
    except OSError as error:
        raise SystemFault(system_message(error, path)) from error
    if isinstance(content, np.ndarray) and content.ndim == 2:
        return pd.DataFrame(content)
    if not isinstance(content, pd.DataFrame):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected a pandas DataFrame")
    return content


class _Bounded(io.BufferedReader):
    """A gzipped file that unpacks to no more than a limit; more is a trap, not data."""

    def __init__(self, file: IO[bytes], limit: int, where: str):
        super().__init__(cast(io.RawIOBase, _Counted(gzip.GzipFile(fileobj=file), limit, where)))


class _Counted(io.RawIOBase):
    def __init__(self, packed: gzip.GzipFile, limit: int, where: str):
        self._packed, self._left, self._where = packed, limit, where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._packed.readinto(buffer)
        except (OSError, EOFError, zlib.error) as error:  # a wrong checksum among them
            if is_refusal(error):
                raise SystemFault(system_message(error, self._where)) from error
            raise DataError(f"{self._where}: truncated or damaged ({one_line(str(error))})") from error
        self._left -= count
        if self._left < 0:
            raise DataError(f"{self._where}: unpacks to far more than spectra do; it is not read on")
        return count


def _read_to_end(file: IO[bytes], where: str) -> None:
    """Read what follows the pickle, which ends in gzip's checksum; there cannot be much."""
    if len(file.read(_MOST_AFTER + 1)) > _MOST_AFTER:
        raise DataError(f"{where}: more than {_MOST_AFTER:,} bytes follow what it holds")


def read_frame_hdf(path: str | Path, key: str) -> pd.DataFrame:
    """A pandas frame or series (as one column) from an HDF5 file that pandas wrote, in either of its two formats."""
    with opened_hdf5(path) as file:
        if key not in file:
            raise DataError(f"{path}: no key '{key}'; it has {one_line(', '.join(sorted(file))) or 'none'}")
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            raise DataError(f"{path}, key '{key}' is a link to elsewhere, which is not followed")
        group, where = file[key], f"{path}, key '{key}'"
        if isinstance(group, h5py.Dataset):
            return pd.DataFrame(_array(group, where))
        kind = _text(group.attrs.get("pandas_type", b"nothing"))
        if kind == "frame":
            return _fixed(group, where)
        if kind == "series":
            return pd.DataFrame({0: _values(group["values"], where)})
        if kind in ("frame_table", "series_table"):
            return _table(group, where)
        raise DataError(f"{where}: pandas calls it '{kind}', expected a frame or a series")


def _array(dataset: Any, where: str) -> np.ndarray:
    """All of a stored array, unless it is none, lies elsewhere or declares more than the file can hold."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.ndim > 2:
        raise DataError(f"{where}: {getattr(dataset, 'name', 'a member')} is not an array of one or two dimensions")
    check_stored(dataset, where)
    if dataset.nbytes > unpacked_limit(dataset.id.get_storage_size()):
        raise DataError(f"{where}: {dataset.name} would unpack to {size_text(dataset.nbytes)}, which no spectra do")
    check_memory(dataset.nbytes, where)
    return dataset[()]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _values(dataset: h5py.Dataset, where: str) -> np.ndarray:
    """An array in pandas' fixed format; strings are pickled there."""
    if "PSEUDOATOM" in dataset.attrs:
        if dataset.shape != (1,) or dataset.id.get_storage_size() > _PICKLED:
            raise DataError(f"{where}: {dataset.name} holds no pickled text of a sensible size")
        return restricted_load(io.BytesIO(dataset[0].tobytes()), where)
    array = _array(dataset, where)
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array


def _fixed(group: h5py.Group, where: str) -> pd.DataFrame:
    order = _values(group["axis0"], where)
    columns: dict[Any, np.ndarray] = {}
    n_blocks = int(group.attrs["nblocks"])
    if not 0 <= n_blocks <= len(group):
        raise DataError(f"{where}: {n_blocks} blocks are declared, which are not there")
    for number in range(n_blocks):
        block = np.asarray(_values(group[f"block{number}_values"], where))
        block = block[:, None] if block.ndim == 1 else block  # a column of text
        items = _values(group[f"block{number}_items"], where)
        if np.array_equal(items, order):  # a single block: no copy column by column
            return pd.DataFrame(block, columns=order)
        columns |= {name: block[:, column] for column, name in enumerate(items)}
    return pd.DataFrame({name: columns[name] for name in order})


def _table(group: h5py.Group, where: str) -> pd.DataFrame:
    table = group["table"]
    rows = _array(table, where)
    columns: dict[Any, np.ndarray] = {}
    for field in rows.dtype.names or ():
        if field == "index":
            continue
        names = restricted_load(io.BytesIO(bytes(table.attrs[f"{field}_kind"])), where)
        block = rows[field].reshape(len(rows), -1)
        block = np.char.decode(block, "utf-8") if block.dtype.kind == "S" else block
        columns |= {name: block[:, column] for column, name in enumerate(names)}
    ((_, order),) = restricted_load(io.BytesIO(bytes(group.attrs["non_index_axes"])), where)
    return pd.DataFrame({name: columns[name] for name in order})
