"""FITS files that others write: opened in bounded memory, read only if they are what was declared."""

from __future__ import annotations

import gzip
import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from starclip_lib.storage.schema import Member, as_boolean, check_kind, check_shape, check_values
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused, read_bytes, regular_file, size_text

SPECTRUM_BYTES = 128 * 2**20  # of a file of spectra, unpacked; those of M71 have 6 MB
_BLOCK = 2880  # bytes
_HEADERS = 2**20  # bytes in which the headers of a catalogue begin
_MOST_TABLES = 5000
_COUNTS = re.compile(
    rb"(?:NAXIS   |TFIELDS )= *(\d{4,})"
)  # of axes and columns: 999 is the most that the standard allows


@contextmanager
def opened_fits(path: str | Path, limit: int = SPECTRUM_BYTES) -> Iterator[fits.HDUList]:
    """A FITS file for reading, gzipped or not, all of it in memory."""
    with read_through(path):
        content = read_bytes(path, limit)
        if content.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                content = packed.read(limit + 1)
        if len(content) > limit:
            raise DataError(f"{path} unpacks to more than {size_text(limit)}, which no such file does")
        if not content.startswith(b"SIMPLE  =") or len(content) % _BLOCK:
            raise ValueError(f"its {len(content):,} bytes are not whole blocks of a FITS file")
        _check_counts(content)
        with fits.open(io.BytesIO(content), memmap=False, lazy_load_hdus=True) as hdus:
            check_sizes(hdus, len(content))
            yield hdus


@contextmanager
def mapped_fits(path: str | Path) -> Iterator[fits.HDUList]:
    """A FITS file too large for memory, of which rows are read when they are asked for."""
    with read_through(path):
        size = regular_file(path).stat().st_size
        if not size or size % _BLOCK:
            raise ValueError(f"its {size:,} bytes are not whole blocks of a FITS file")
        with Path(path).open("rb") as file:
            _check_counts(file.read(_HEADERS))
        with fits.open(path, memmap=True, lazy_load_hdus=True) as hdus:
            check_sizes(hdus, size)
            yield hdus


def _check_counts(content: bytes) -> None:
    """Raise ValueError if a header declares more axes or columns than there can be: astropy would count them all."""
    if found := _COUNTS.search(content):
        raise ValueError(f"{found[0][:8].decode().strip()} is {found[1].decode()[:20]}")


@contextmanager
def read_through(path: str | Path) -> Iterator[None]:
    """Whatever astropy stumbles over becomes one line that names the file; it warns of nothing."""
    with damage_refused(path, "is truncated or no FITS file"), warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        yield


def check_sizes(hdus: fits.HDUList, length: int) -> None:
    """Raise ValueError if headers declare more than the `length` of the file in bytes; nothing is allocated before."""
    for number, hdu in enumerate(hdus):
        declared = hdu.size
        if number > _MOST_TABLES:
            raise ValueError(f"more than {_MOST_TABLES:,} tables")
        if declared < 0 or hdu.fileinfo()["datLoc"] + declared > length:
            raise ValueError(f"HDU {number} declares {declared:,} bytes, the file has {length:,} in all")
        if hdu.header.get("DATASUM") and hdu.verify_datasum() == 0:
            raise ValueError(f"the checksum of HDU {number} is not that of its data")


def read_columns(hdu: Any, members: Mapping[str, Member], where: str, hint: str = "") -> dict[str, np.ndarray]:
    """Columns of a table."""
    if not isinstance(hdu, fits.BinTableHDU):
        raise DataError(f"{where} is not a table")
    return checked_columns(hdu.columns.names, lambda name: hdu.data[name], members, where, hint)


def checked_columns(
    names: Sequence[str],
    column: Callable[[str], Any],
    members: Mapping[str, Member],
    where: str,
    hint: str = "",
) -> dict[str, np.ndarray]:
    """The declared columns of a table of these `names`, compared without case as FITS wants it; errors as above."""
    there = {name.upper(): name for name in reversed(names)} | {name: name for name in names}
    missing = [name for name, member in members.items() if not ({name, name.upper()} & set(there) or member.optional)]
    if missing:
        raise DataError(f"{where} has no column {', '.join(missing)}{f' {hint}' if hint else ''}")
    sizes: dict[str, int] = {}
    found = {}
    for name, member in members.items():
        own = there.get(name, there.get(name.upper()))
        if own is None:
            continue
        array, place = np.asarray(column(own)), f"{where}, column {name}"
        check_kind(array.dtype, member, place)
        check_shape(array.shape, member, sizes, place)
        if member.kind == "boolean":
            found[name] = as_boolean(array, place)
        else:
            check_values(array, member, place)
            found[name] = array.astype(float) if member.kind == "float" else array
    return found


def read_image(hdu: Any, member: Member, where: str) -> np.ndarray:
    """The first row of an image."""
    if not isinstance(hdu, fits.ImageHDU | fits.PrimaryHDU | fits.CompImageHDU) or hdu.data is None:
        raise DataError(f"{where} is not an image with data")
    array = np.atleast_2d(hdu.data)[0]
    check_kind(array.dtype, member, where)
    check_shape(array.shape, member, {}, where)
    check_values(array, member, where)
    return array
