"""One embedding store: a folder of Parquet files, written part by part, and read in blocks.

    store.json            what made it: model, emulator, versions
    part-<key>.parquet    some hundred to thousand spectra each; the key is a digest of what they were read from
    failed.csv            files and rows that could not be embedded, and why

Any reader of Parquet opens `part-*.parquet` (pandas, polars, DuckDB; TOPCAT and astropy one by one).  A part is there
whole or not at all, and records what it was made from, so a second run finds out what is new.
"""

from __future__ import annotations

import ast
import operator
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from starclip_lib.inference.posterior import WIDTH
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import atomic_path, damage_refused, printable_path, regular_file
from starclip_lib.survey.formats import (
    ABOUT,
    AGAIN,
    SCHEMA,
    About,
    Input,
    Part,
    check_count,
    check_rows,
    opened_part,
    read_about,
    vectors,
    write_about,
    write_table,
)

_LONGEST = 1000  # characters
_COMPARED: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMPUTED: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: pc.divide,  # by zero: infinite, as floating point has it
}
_JOINED: dict[type, Callable] = {ast.And: operator.and_, ast.Or: operator.or_}
FAILED = "failed.csv"
BLOCK = 65_536  # rows read at once
_FAILED_BYTES = 2**30


def condition(text: str, columns: Mapping[str, pa.DataType]) -> pc.Expression:
    """A condition as pyarrow evaluates it."""
    if len(text) > _LONGEST:
        raise DataError(f"the condition has {len(text):,} characters, at most {_LONGEST:,} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found = _logical(tree, columns, text)
        pa.table({name: pa.array([], kind) for name, kind in columns.items()}).filter(found)  # text is not a number
        return found
    except pa.ArrowException:
        raise DataError(f"the condition {text[:80]!r} compares text with numbers") from None
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise DataError(f"the condition {text[:80]!r} cannot be read; such as: Fe < -1 and Mg - Fe > 0.2") from None


def columns_of(text: str, columns: Collection[str]) -> list[str]:
    """The columns that stand in a condition that has been read."""
    named = {node.id for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Name)}
    return [name for name in columns if name in named]


def _logical(node: ast.AST, columns: Collection[str], text: str) -> Any:
    if isinstance(node, ast.BoolOp):
        return reduce(_JOINED[type(node.op)], [_logical(part, columns, text) for part in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_logical(node.operand, columns, text)
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARED for op in node.ops):
        sides = [_value(part, columns, text) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        return reduce(operator.and_, [_COMPARED[type(op)](left, right) for op, left, right in pairs])
    raise DataError(f"in the condition, {_shown(node, text)} is not a comparison; such as: Fe < -1 and Mg - Fe > 0.2")


def _value(node: ast.AST, columns: Collection[str], text: str) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in columns:
            near = get_close_matches(node.id, columns, 1, 0) or sorted(columns)
            raise DataError(f"the condition names {node.id!r}, which is not a column; did you mean {near[0]!r}?")
        return pc.field(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return pc.scalar(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return pc.scalar(float(node.value))  # 1 / 2 is not 0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand, columns, text)
        return pc.negate(inner) if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        return _COMPUTED[type(node.op)](_value(node.left, columns, text), _value(node.right, columns, text))
    raise DataError(f"in the condition, {_shown(node, text)} is neither column nor number")


def _shown(node: ast.AST, text: str) -> str:
    return repr((ast.get_source_segment(text.strip(), node) or text)[:60])


class Store:
    """A store that is there."""

    def __init__(self, folder: Path):
        printable_path(folder, "the store")
        if not (folder / ABOUT).is_file():
            raise DataError(f"{folder} is not an embedding store: it has no {ABOUT}; starclip embed makes one")
        self.folder = folder
        self.about = read_about(folder)

    @classmethod
    def create(cls, folder: Path, about: About) -> Store:
        """Open a store to add to it, or begin a new one; DataError if something else filled it, naming what differs."""
        if not (folder / ABOUT).is_file():
            if folder.is_dir() and any(path.suffix == ".parquet" for path in folder.iterdir()):
                raise DataError(f"{folder} has Parquet files but no {ABOUT}; give another folder with --output")
            write_about(folder, about)
        store = cls(folder)
        for key in ("emulator", "model_sha256", "dim", "posterior"):
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
        """Its files and how many rows each has; DataError if two of them hold the same."""
        found, owner = [], dict[tuple[str, Input], Path]()
        for path, made in self.made_from().items():
            found.append((path, made.rows))
            for one in made.inputs:
                other = owner.setdefault((made.instrument, one), path)
                if other != path:
                    raise DataError(f"{path} and {other.name} both hold {one.file}; run the same starclip embed again")
        return found

    def __len__(self) -> int:
        return sum(count for _, count in self.counts)

    def __repr__(self) -> str:
        return f"{len(self):,} embeddings of {self.about.dim} numbers in {self.folder}, by {self.about.model}"

    def made_from(self) -> dict[Path, Part]:
        """What each part was made from."""
        return {path: self._opened(path)[1] for path in self.parts}

    def write_failed(self, more: Sequence[tuple[str, int, str]] = ()) -> int:
        """Bring failed.csv up to date, with (file, row, reason) of what no part knows of; how many lines it has."""
        made = self.made_from().values()
        failed = {line for part in made for line in part.failed} | set(more)
        known = {one.file for part in made for one in part.inputs} | {file for file, *_ in failed}
        path = self.folder / FAILED
        if os.path.lexists(path):  # what an earlier command could not open, and this one did not look at
            with damage_refused(regular_file(path, limit=_FAILED_BYTES), "is damaged", "delete it"):
                before = pd.read_csv(path, keep_default_na=False, dtype={"file": str, "row": int, "reason": str})
                lines = before[["file", "row", "reason"]].itertuples(index=False, name=None)
                failed |= {line for line in lines if line[0] not in known}
        with atomic_path(path) as part:
            pd.DataFrame(sorted(failed), columns=["file", "row", "reason"]).to_csv(part, index=False)
        return len(failed)

    def drop(self, path: Path, files: set[str]) -> None:
        """Take the spectra of some files out of a part; what is left is written before the part is deleted."""
        file, made = self._opened(path)
        with damage_refused(path, "is damaged", AGAIN):
            table = file.read()
        check_count(len(table), made, path)
        inputs = tuple(one for one in made.inputs if one.file not in files)
        if inputs:
            left = table.filter(~pc.field("file").isin(sorted(files)))
            failed = tuple(line for line in made.failed if line[0] not in files)
            write_table(
                self.folder, left, made.model_copy(update={"inputs": inputs, "failed": failed, "rows": len(left)})
            )
        path.unlink()

    def blocks(self, columns: Sequence[str], where: str = "") -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Row numbers (n,) and `columns` of the rows that meet the condition `where`, a block at a time."""
        chosen = condition(where, SCHEMA) if where else None
        wanted = list(dict.fromkeys([*columns, *(columns_of(where, SCHEMA) if where else ())]))
        begin = 0
        for path in self.parts:
            file, made = self._opened(path)
            batches, end = file.iter_batches(BLOCK, columns=wanted), begin + made.rows
            while True:
                with damage_refused(path, "is damaged", AGAIN):
                    batch = next(batches, None)
                if batch is None:
                    check_count(begin - end + made.rows, made, path)
                    break
                table, place = pa.Table.from_batches([batch]), np.arange(begin, begin + batch.num_rows)
                check_rows(table, path)
                begin += batch.num_rows
                if chosen is not None:
                    table = table.append_column("place", pa.array(place)).filter(chosen)
                    place = table.column("place").to_numpy()
                yield place, table

    def rows(self, place: np.ndarray) -> pd.DataFrame:
        """Rows of the store, in the order of `place` (n,), without embeddings and posteriors."""
        found = [table.to_pandas().set_index(inside) for inside, table in self._taken(place, list(SCHEMA))]
        return pd.concat(found).sort_index() if found else pd.DataFrame(columns=list(SCHEMA))

    def posteriors(self, place: np.ndarray) -> np.ndarray:
        """Posteriors (n, 230) of rows of the store; memory: these and one part."""
        out = np.empty((len(place), WIDTH), np.float32)
        for inside, table in self._taken(place, ["posterior"]):
            out[inside] = vectors(table, "posterior")
        return out

    def _taken(self, place: np.ndarray, columns: list[str]) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Rows of one part after the other, with their positions in `place`."""
        ends = np.cumsum([count for _, count in self.counts])
        number = np.searchsorted(ends, place, side="right")
        for part in np.unique(number):
            path, count = self.counts[part]
            inside = np.flatnonzero(number == part)
            file, made = self._opened(path)
            with damage_refused(path, "is damaged", AGAIN):
                table = file.read(columns=columns)
            check_count(len(table), made, path)
            table = table.take(place[inside] - (ends[part] - count))
            check_rows(table, path)
            yield inside, table

    def _opened(self, path: Path) -> tuple[pq.ParquetFile, Part]:
        return opened_part(path, self.about)
