"""One embedding store: a folder of Parquet files, written part by part, and read in blocks.

    store.json            what made it: model, emulator, versions
    part-<key>.parquet    some hundred to thousand spectra each; the key is a digest of what they were read from
    failed.csv            files and rows that could not be embedded, and why

Any reader of Parquet opens `part-*.parquet` (pandas, polars, DuckDB; TOPCAT and astropy one by one).  A part is there
whole or not at all, and knows what it was made from, so a second run finds out what is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from starclip_lib.data.json_files import parse_json, read_json, write_json
from starclip_lib.data.labels import LABELS
from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path, damage_refused, digest
from starclip_lib.stores.conditions import columns_of, condition

ABOUT = "store.json"
FAILED = "failed.csv"
BLOCK = 65_536  # rows read at once
_ROW = {
    "star_id": pa.string(),
    "file": pa.string(),
    "row": pa.int32(),
    "instrument": pa.string(),
    "verdict": pa.string(),
}
LABEL_COLUMNS = (*LABELS, *(f"sigma_{label}" for label in LABELS))
SCHEMA = {  # besides the embedding
    **_ROW,
    **dict.fromkeys(LABEL_COLUMNS, pa.float32()),
}
_ANEW = "delete it and run starclip embed again"


class About(BaseModel):
    """What made a store; two stores of one model can be compared, others cannot."""

    format: int = 1
    model: str
    model_sha256: str
    emulator: str
    package: str
    dim: int


class Store:
    """A store that is there.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        If it is none, or one of a format that this version does not know.
    """

    def __init__(self, folder: Path):
        if not (folder / ABOUT).is_file():
            raise DataError(f"{folder} is no embedding store: it has no {ABOUT}; starclip embed makes one")
        self.folder = folder
        self.about = read_json(folder / ABOUT, About, damaged="restore it, or embed into a new folder")
        if self.about.format != 1:
            raise DataError(f"{folder}: a store of format {self.about.format}, this version reads 1")

    @classmethod
    def create(cls, folder: Path, about: About) -> Store:
        """Open a store to add to it, or begin a new one.

        Parameters
        ----------
        folder : Path
        about : About
            What is going to fill it.

        Returns
        -------
        Store

        Raises
        ------
        DataError
            If it was filled by something else, naming what differs.
        """
        if not (folder / ABOUT).is_file():
            if folder.is_dir() and any(path.suffix == ".parquet" for path in folder.iterdir()):
                raise DataError(f"{folder} has Parquet files but no {ABOUT}; give another folder with --output")
            write_json(folder / ABOUT, about.model_dump())
        store = cls(folder)
        for key in ("emulator", "model_sha256", "dim"):
            was, now = getattr(store.about, key), getattr(about, key)
            if was != now:
                raise DataError(
                    f"{folder} was made with {key} {str(was)[:12]} ({store.about.model}), not {str(now)[:12]}; "
                    "embed into a new folder with --output"
                )
        return store

    @cached_property
    def parts(self) -> list[Path]:
        """Its files as they were when first asked for, in an order that depends on what they hold only."""
        return sorted(self.folder.glob("part-*.parquet"))

    @cached_property
    def counts(self) -> list[tuple[Path, int]]:
        """Its files and how many rows each has."""
        return [(path, self._opened(path).metadata.num_rows) for path in self.parts]

    def __len__(self) -> int:
        return sum(count for _, count in self.counts)

    def __repr__(self) -> str:
        return f"{len(self):,} embeddings of {self.about.dim} numbers in {self.folder}, by {self.about.model}"

    def made_from(self) -> dict[Path, dict[str, Any]]:
        """What each part was made from: its `inputs`, their `instrument`, and the `failed` among them.

        Returns
        -------
        dict
        """
        found = {}
        for path in self.parts:
            text = (self._opened(path).schema_arrow.metadata or {}).get(b"starclip", b"{}")
            found[path] = {
                "inputs": [],
                "failed": [],
                "instrument": "",
                **parse_json(text, f"{path}: its metadata", dict[str, Any]),
            }
        return found

    def write_failed(self, more: Sequence[tuple[str, int, str]] = ()) -> int:
        """Bring failed.csv up to date.

        Parameters
        ----------
        more : sequence of (file, row, reason)
            What no part knows of.

        Returns
        -------
        int
            How many could not be embedded.
        """
        made = self.made_from().values()
        failed = {tuple(line) for part in made for line in part["failed"]} | set(more)
        known = {one["file"] for part in made for one in part["inputs"]} | {file for file, *_ in failed}
        if (self.folder / FAILED).is_file():  # what an earlier command could not open, and this one did not look at
            with damage_refused(self.folder / FAILED, "is damaged", "delete it"):
                before = pd.read_csv(self.folder / FAILED, keep_default_na=False).itertuples(index=False, name=None)
                failed |= {line for line in before if line[0] not in known}
        with atomic_path(self.folder / FAILED) as path:
            pd.DataFrame(sorted(failed), columns=["file", "row", "reason"]).to_csv(path, index=False)
        return len(failed)

    def drop(self, path: Path, files: set[str]) -> None:
        """Take the spectra of some files out of a part; what is left is there before the part goes.

        Parameters
        ----------
        path : Path
            Of the part.
        files : set of str
        """
        with damage_refused(path, "is damaged", _ANEW):
            table = pq.read_table(path)
        made = parse_json(table.schema.metadata[b"starclip"], f"{path}: its metadata", dict[str, Any])
        made["inputs"] = [one for one in made["inputs"] if one["file"] not in files]
        made["failed"] = [line for line in made["failed"] if line[0] not in files]
        if made["inputs"]:
            left = table.filter(~pc.field("file").isin(sorted(files)))
            with atomic_path(self.folder / f"part-{digest(made['inputs'])[:16]}.parquet") as part:
                _write(left.replace_schema_metadata({"starclip": json.dumps(made)}), part)
        path.unlink()

    def blocks(self, columns: Sequence[str], where: str = "") -> Iterator[tuple[np.ndarray, pa.Table]]:
        """The store from beginning to end, a block at a time.

        Parameters
        ----------
        columns : sequence of str
            What is wanted of each row, such as 'embedding'.
        where : str
            Condition that rows have to meet, see `conditions.condition`.

        Yields
        ------
        place : ndarray of int, shape (n,)
            Where the rows stand in the store.
        table : pyarrow.Table
        """
        chosen = condition(where, SCHEMA) if where else None
        wanted = list(dict.fromkeys([*columns, *(columns_of(where, SCHEMA) if where else ())]))
        begin = 0
        for path in self.parts:
            batches = self._opened(path).iter_batches(BLOCK, columns=wanted)
            while True:
                with damage_refused(path, "is damaged", _ANEW):
                    batch = next(batches, None)
                if batch is None:
                    break
                table, place = pa.Table.from_batches([batch]), np.arange(begin, begin + batch.num_rows)
                begin += batch.num_rows
                if chosen is not None:
                    table = table.append_column("place", pa.array(place)).filter(chosen)
                    place = table.column("place").to_numpy()
                yield place, table

    def rows(self, place: np.ndarray) -> pd.DataFrame:
        """Rows of the store without their embeddings.

        Parameters
        ----------
        place : ndarray of int, shape (n,)

        Returns
        -------
        DataFrame
            In the order of `place`.
        """
        ends = np.cumsum([count for _, count in self.counts])
        part = np.searchsorted(ends, place, side="right")
        found = []
        for number in np.unique(part):
            path, count = self.counts[number]
            inside = np.flatnonzero(part == number)
            table = self._opened(path).read(columns=list(SCHEMA)).take(place[inside] - (ends[number] - count))
            found.append(table.to_pandas().set_index(inside))
        return pd.concat(found).sort_index() if found else pd.DataFrame(columns=list(SCHEMA))

    def _opened(self, path: Path) -> pq.ParquetFile:
        if not path.is_file():
            raise DataError(f"{path} has gone: another command is changing this store; wait until it is done")
        with damage_refused(path, "is no Parquet file, or damaged", _ANEW):
            file = pq.ParquetFile(path)
        wanted = {**SCHEMA, "embedding": pa.list_(pa.float32(), self.about.dim)}
        there = {field.name: field.type for field in file.schema_arrow}
        if wrong := [name for name, kind in wanted.items() if there.get(name) != kind]:
            raise DataError(f"{path}: its column {wrong[0]} is missing or of another kind; {_ANEW}")
        return file


def vectors(table: pa.Table) -> np.ndarray:
    """The embeddings (n, dim) of a block, float32.

    Parameters
    ----------
    table : pyarrow.Table
        With a column 'embedding'.

    Returns
    -------
    ndarray, shape (n, dim)
    """
    column = table.column("embedding").combine_chunks()
    return np.asarray(column.flatten()).reshape(-1, column.type.list_size)


def write_part(
    folder: Path,
    key: str,
    rows: dict[str, Any],
    z: np.ndarray,
    labels: np.ndarray,
    sigma: np.ndarray,
    made_from: dict[str, Any],
) -> Path:
    """Write one part, whole or not at all.

    Parameters
    ----------
    folder : Path
        Of the store.
    key : str
    rows : dict
        star_id, file, row, instrument and verdict of each spectrum.
    z : ndarray, shape (n, dim)
        Embeddings.
    labels, sigma : ndarray, shape (n, 20)
        K and dex.
    made_from : dict
        'inputs', 'instrument' and 'failed', JSON.

    Returns
    -------
    Path
    """
    columns = {name: pa.array(rows[name], kind) for name, kind in _ROW.items()}
    flat = pa.array(np.ascontiguousarray(z, np.float32).ravel())
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, z.shape[1])
    for name, values in zip(LABEL_COLUMNS, np.concatenate([labels, sigma], axis=1).T.astype(np.float32), strict=True):
        columns[name] = pa.array(values)
    table = pa.table(columns).replace_schema_metadata({"starclip": json.dumps(made_from)})
    with atomic_path(folder / f"part-{key}.parquet") as path:
        _write(table, path)
    return folder / f"part-{key}.parquet"


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", use_dictionary=list(_ROW))
