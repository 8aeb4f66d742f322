"""CSV tables: one reader with limits for those that users give, and a writer whose cells no spreadsheet computes."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import damage_refused, read_bytes

_BYTES = 8 * 2**20  # about 100,000 stars; the memory that is taken stays below 0.5 GB
_COLUMNS = 200
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_csv(path: str | Path, text: Collection[str] = ()) -> pd.DataFrame:
    """A table with a line of column names, of at most 8 MB and 200 columns; the columns `text` are not made numbers.

    Raises DataError in one line, SystemFault if the file cannot be read.
    """
    with damage_refused(path, "cannot be read as a table of comma-separated values"):
        content = read_bytes(path, _BYTES).decode("utf-8-sig")
        header: list[str] = []
        for number, row in enumerate(csv.reader(io.StringIO(content), skipinitialspace=True, strict=True), start=1):
            header = header or row
            if len(header) > _COLUMNS:
                raise ValueError(f"it has {len(header):,} columns, more than {_COLUMNS}")
            if any(cell.strip() for cell in row[len(header) :]):
                raise ValueError(f"row {number} has {len(row):,} cells, the first row {len(header)}")
        if twice := next((name for name in header if header.count(name) > 1), None):
            raise ValueError(f"two columns are named {twice[:40]!r}")
        names = {name: str for name in header if name.strip() in text}
        table = pd.read_csv(io.StringIO(content), dtype=names, skipinitialspace=True, index_col=False)
    table.columns = table.columns.astype(str).str.strip()
    return table


def csv_header(path: Path) -> list[str]:
    """The column names of a CSV file; none if it is not a file of text."""
    try:
        return list(read_csv(path).columns)
    except DataError:
        return []


def write_csv(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    plain = table.copy()
    for name in plain.columns:
        if not pd.api.types.is_numeric_dtype(plain[name]):
            plain[name] = plain[name].map(_plain)
    plain.to_csv(path, index=False, float_format=float_format)


def _plain(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    line = one_line(cell)
    return f"'{line}" if cell.startswith(_FORMULA) or line.startswith(_FORMULA) else line
