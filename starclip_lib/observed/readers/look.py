"""A first look at a file: its FITS headers or the names of its columns, without reading what it holds."""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

FITS, HDF5, VOTABLE, TEXT, BINARY = "FITS", "HDF5", "VOTable", "text", "binary"
_BLOCK = 2880
_LONGEST_HEADER = 2**20  # bytes
_MOST_TABLES = 5000
_UNPACKED = 2**20  # bytes of a gzipped file that are looked at
_TEXT = 2**16  # bytes of a text file that are looked at
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_CARD = re.compile(r"(?:HIERARCH +)?([^=]+?) *= *('(?:[^']|'')*'|[^/]*)")
_FIELD = re.compile(r"<FIELD\b[^>]*?\bname\s*=\s*[\"']([^\"']*)[\"']", re.IGNORECASE)
_NAMES_A_SPECTRUM = re.compile(r"wave|lambda|flux", re.IGNORECASE)

Header = dict[str, str]


@dataclass(frozen=True)
class Look:
    """What is known of a file before it is read."""

    name: str  # of the file, without its folder
    form: str  # `FITS`, `HDF5`, `VOTABLE`, `TEXT` or `BINARY`
    # of a FITS file: the cards of each HDU as text, without quotes and blanks around them
    headers: tuple[Header, ...] = ()
    columns: tuple[str, ...] = ()  # of a table in text: the names of its columns; empty if it has no header
    n_numbers: int = 0  # of a table in text without header: the number of its columns of numbers
    whole: bool = True  # False where the end of the file, or of what is looked at, came before the end of the headers

    @property
    def primary(self) -> Header:
        """The first header."""
        return self.headers[0] if self.headers else {}

    @property
    def table_columns(self) -> list[str]:
        """The names of the columns of all tables of a FITS file."""
        return [value for header in self.headers[1:] for key, value in header.items() if key.startswith("TTYPE")]

    def extensions(self, key: str) -> list[str]:
        """The value of a card in every header after the first that has it."""
        return [header[key] for header in self.headers[1:] if key in header]


def look(path: Path) -> Look:
    """Look at a regular file; OSError if the system does not allow it."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            file.seek(0)
            content, whole = _unpacked(file)
            found = _looked(path.name, io.BytesIO(content))
            return replace(found, whole=found.whole and whole)
        file.seek(0)
        return _looked(path.name, file)


def _unpacked(file: BinaryIO) -> tuple[bytes, bool]:
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            content = packed.read(_UNPACKED + 1)
    except (OSError, EOFError, zlib.error):
        return b"", False
    return content[:_UNPACKED], len(content) <= _UNPACKED


def _looked(name: str, file: BinaryIO) -> Look:
    start = file.read(_BLOCK)
    if start.startswith(b"SIMPLE  ="):
        file.seek(0)
        headers, whole = _headers(file)
        return Look(name, FITS, tuple(headers), whole=whole)
    if start.startswith(b"\x89HDF\r\n"):
        return Look(name, HDF5)
    if b"\0" in start and not start.startswith(_UTF_16):
        return Look(name, BINARY)
    text = decoded(start + file.read(_TEXT))
    if "<VOTABLE" in text:
        return Look(name, VOTABLE, columns=tuple(field.strip() for field in _FIELD.findall(text)))
    columns, numbers = _text_columns(text.splitlines())
    return Look(name, TEXT, columns=columns, n_numbers=numbers)


def decoded(content: bytes) -> str:
    """The text of a table, whether spreadsheets wrote it (UTF-16, Latin-1) or others (UTF-8)."""
    if content.startswith(_UTF_16):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _headers(file: BinaryIO) -> tuple[list[Header], bool]:
    """The headers of a FITS file, found by stepping over what they say their data take."""
    size = file.seek(0, io.SEEK_END)
    place, headers = 0, list[Header]()
    while place < size and len(headers) <= _MOST_TABLES:
        file.seek(place)
        cards = bytearray()
        while (block := file.read(_BLOCK)) and len(cards) < _LONGEST_HEADER:
            cards += block
            if b"END".ljust(80) in block and _ends(block):
                break
        else:
            return headers, False
        header = _parsed(bytes(cards))
        headers.append(header)
        length = _data_bytes(header)
        if length is None or place + len(cards) + length > size:
            return headers, False
        place += len(cards) + -(-length // _BLOCK) * _BLOCK
    return headers, place == size


def _ends(block: bytes) -> bool:
    return any(block[i : i + 8] == b"END     " for i in range(0, len(block), 80))


def _parsed(cards: bytes) -> Header:
    header: Header = {}
    for place in range(0, len(cards), 80):
        card = cards[place : place + 80]
        if card[8:10] == b"= " or card.startswith(b"HIERARCH"):
            found = _CARD.match(card.decode("ascii", "replace"))
            if found is not None:
                value = found[2].strip()
                header.setdefault(found[1].strip().upper(), value.strip("'").replace("''", "'").strip())
    return header


def _data_bytes(header: Header) -> int | None:
    """Bytes of the data after a header; None if it does not tell."""

    def number(key: str, default: int = 0) -> int:
        value = header.get(key, str(default))
        if not re.fullmatch(r"[+-]?\d{1,12}", value):
            raise ValueError
        return int(value)

    try:
        axes = [number(f"NAXIS{axis}") for axis in range(1, number("NAXIS") + 1)] if number("NAXIS") < 1000 else [-1]
        if min(axes, default=0) < 0:
            return None
        pixels = math.prod(axes) if axes else 0
        length = abs(number("BITPIX")) // 8 * number("GCOUNT", 1) * (number("PCOUNT") + pixels)
        return length if length >= 0 else None
    except ValueError:
        return None


def _text_columns(lines: list[str]) -> tuple[tuple[str, ...], int]:
    """Names of the columns of a table in text, or how many columns of numbers it has without names.

    The names stand in the first line, or in the last comment before the numbers; a comment with another number of
    names leaves the table unknown.
    """
    comment: list[str] = []
    for line in lines:
        if line.lstrip().startswith("#") or not line.strip():
            comment = _words(line.strip().lstrip("#")) if line.strip() else comment
            continue
        words = _words(line)
        if not all(_is_number(word) for word in words):
            return tuple(words), 0
        if len(comment) == len(words) and not any(_is_number(word) for word in comment):
            return tuple(comment), len(words)
        return (), 0 if _NAMES_A_SPECTRUM.search(" ".join(comment)) else len(words)
    return (), 0


def _words(line: str) -> list[str]:
    mark = next((mark for mark in (",", ";", "\t") if mark in line), None)
    unspaced = line if mark else re.sub(r"\s+(?=[\[(])", "", line)  # 'flux [Jy]' is one word
    return [word.strip(" \t\r\"'") for word in unspaced.strip().rstrip(mark or "").split(mark)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
