"""What an embedding store holds, declared: its metadata and columns, how they are written, and what is checked.

A damaged byte is seen: Parquet's checksums cover the values, a CRC-32 the metadata, the schema is compared as a whole,
and values are checked when they are read.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from starclip_lib.inference.posterior import WIDTH, is_posterior
from starclip_lib.physics.instruments import INSTRUMENTS
from starclip_lib.physics.labels import LABELS
from starclip_lib.storage.json_files import parse_json, read_json, write_json
from starclip_lib.storage.schema import Member, check_values
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import atomic_path, damage_refused, digest

FORMAT = 3
ABOUT = "store.json"
FIT, MODEL, SIMULATIONS = "fit", "model", "model of simulations"  # where labels come from
AGAIN = "delete it and run starclip embed again"
_ROW = {
    "star_id": pa.string(),
    "file": pa.string(),
    "row": pa.int32(),
    "instrument": pa.string(),
    "verdict": pa.string(),
    "labels_from": pa.string(),
    "from_prior": pa.string(),  # of a fit: the labels whose value is mostly the prior's, separated by commas
}
LABEL_COLUMNS = (*LABELS, *(f"sigma_{label}" for label in LABELS))
SCHEMA = {**_ROW, **dict.fromkeys(LABEL_COLUMNS, pa.float32())}  # besides embedding and posterior
_MANTISSA = 11  # bits of a posterior's numbers, as float16 has: ranks stay, and half of the bytes compress to nothing
_LARGEST = 1e9  # of a posterior's numbers, and of labels
_TEXT = 5000  # characters: a path has 4,096 at most
_NAME = (
    r"^[A-Za-z0-9_+*(\[][A-Za-z0-9_.+\-*:,()\[\]#=~@' ]{0,63}$"  # what most names are; the others are looked at singly
)

Natural = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1, max_length=_TEXT)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Input:
    """One file, or some rows of one, as it was when it was looked at: bytes, and nanoseconds since 1970.

    Of observed spectra, by number in the file: `stars` are those whose star is another one than the file tells, with
    its name; `repeats` those that are set aside since their exposures are in another file, with that reason.
    """

    file: Text
    size: Natural
    modified: Natural
    start: Natural = 0
    stop: Natural = 0
    stars: tuple[tuple[Natural, Text], ...] = ()
    repeats: tuple[tuple[Natural, Text], ...] = ()


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class About(_Declared):
    """What made a store; two stores of one model can be compared, others cannot."""

    format: int = FORMAT
    model: Text
    model_sha256: Sha256
    emulator: Text
    package: Text
    dim: Annotated[int, Field(ge=2, le=4096)]
    posterior: bool


class Part(_Declared):
    """What one file of a store was made from."""

    model_sha256: Sha256
    instrument: Annotated[str, Field(pattern="^(apogee|nirspec)$")]
    rows: Natural
    inputs: tuple[Input, ...]
    failed: tuple[tuple[str, int, str], ...] = ()

    @property
    def name(self) -> str:
        """Of its file: the same inputs, the same name."""
        return part_name(self.instrument, self.inputs)


def part_name(instrument: str, inputs: Sequence[Input]) -> str:
    """The name of the file that holds what was read from some inputs."""
    return f"part-{digest([instrument, [asdict(one) for one in inputs]])[:16]}.parquet"


def schema_of(about: About) -> pa.Schema:
    """The columns of a part: none of them may hold nulls."""

    def numbers(n: int) -> pa.DataType:
        return pa.list_(pa.field("element", pa.float32(), nullable=False), n)

    kinds = {**_ROW, "embedding": numbers(about.dim)}
    kinds |= {"posterior": numbers(WIDTH)} if about.posterior else {}
    kinds |= {name: SCHEMA[name] for name in LABEL_COLUMNS}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


def write_about(folder: Path, about: About) -> None:
    """Write store.json with a checksum of all but the model's path, which a user may correct."""
    content = about.model_dump()
    write_json(folder / ABOUT, {**content, "crc32": _seal({**content, "model": ""})})


def read_about(folder: Path) -> About:
    """Read store.json and check that it is what was written."""
    path, cure = folder / ABOUT, "restore it, or embed into a new folder"
    content = read_json(path, dict[str, Any], damaged=cure)
    if content.get("format") != FORMAT:
        raise DataError(
            f"{path}: a store of format {content.get('format')!s:.20}, this version reads {FORMAT}; "
            "embed into a new folder"
        )
    seal = content.pop("crc32", None)
    if seal != _seal({**content, "model": ""}):
        raise DataError(f"{path} is not what was written (checksum); {cure}")
    return parse_json(json.dumps(content), str(path), About)


def write_part(
    folder: Path,
    about: About,
    part: Part,
    rows: dict[str, Any],
    z: np.ndarray,
    labels: np.ndarray,
    sigma: np.ndarray,
    posterior: np.ndarray | None = None,
) -> Path:
    """Write one part, whole or not at all: z (n, dim), labels and sigma (n, 20) in K and dex, posterior (n, 230)."""
    columns = {name: pa.array(rows[name], kind) for name, kind in _ROW.items()}
    columns["embedding"] = _lists(z)
    if posterior is not None:
        columns["posterior"] = _lists(_rounded(posterior))
    for name, values in zip(LABEL_COLUMNS, np.concatenate([labels, sigma], axis=1).T.astype(np.float32), strict=True):
        columns[name] = pa.array(values)
    schema = schema_of(about)
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    return write_table(folder, table, part)


def write_table(folder: Path, table: pa.Table, part: Part) -> Path:
    """Write the rows of a part under its name."""
    text = part.model_dump_json()
    split = {"posterior.list.element": "BYTE_STREAM_SPLIT"} if "posterior" in table.column_names else None
    sealed = table.replace_schema_metadata({"starclip": text, "starclip_crc32": str(zlib.crc32(text.encode()))})
    with atomic_path(folder / part.name) as path:
        pq.write_table(
            sealed,
            path,
            compression="zstd",
            use_dictionary=list(_ROW),
            column_encoding=split,
            write_page_checksum=True,
            write_statistics=False,  # they have no checksum
        )
    return folder / part.name


def opened_part(path: Path, about: About) -> tuple[pq.ParquetFile, Part]:
    """A part of a store, of which nothing but the metadata has been read and checked."""
    if not path.is_file():
        raise DataError(f"{path} has gone: another command is changing this store; wait until it is done")
    with damage_refused(path, "is damaged, or is not a Parquet file", AGAIN):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        found = file.schema_arrow
        metadata = found.metadata or {}
    wanted = schema_of(about)
    if not found.remove_metadata().equals(wanted):
        there = {field.name: field for field in found}
        wrong = [field.name for field in wanted if field.name not in there or there[field.name] != field] or ["order"]
        raise DataError(f"{path}: its column {wrong[0]} is missing or of another kind; {AGAIN}")
    text = metadata.get(b"starclip", b"")
    if metadata.get(b"starclip_crc32", b"") != str(zlib.crc32(text)).encode():
        raise DataError(f"{path}: its metadata are not what was written (checksum); {AGAIN}")
    part = parse_json(text, f"{path}: its metadata", Part)
    if part.model_sha256 != about.model_sha256:
        raise DataError(f"{path} was made with another model than this store; delete it")
    if part.name != path.name:
        raise DataError(f"{path} is a copy of {part.name}; delete one of them")
    check_count(file.metadata.num_rows, part, path)
    return file, part


def check_count(n: int, part: Part, path: Path) -> None:
    """Raise DataError unless a part has as many rows as were written."""
    if n != part.rows:
        raise DataError(f"{path} holds {n} rows, {part.rows} were written; {AGAIN}")


def check_rows(table: pa.Table, path: Path) -> None:
    """Raise DataError, naming the column, unless the values of some rows of a part are what they should be."""
    for name in table.column_names:
        where, column = f"{path}: {name}", table.column(name)
        if name == "embedding":
            length = np.linalg.norm(vectors(table), axis=1)
            if not (np.abs(length - 1) < 1e-3).all():
                raise DataError(f"{where} holds vectors that are not of unit length; {AGAIN}")
        elif name == "posterior":
            if not is_posterior(vectors(table, name)).all():
                raise DataError(f"{where} holds numbers that are not a posterior; {AGAIN}")
        elif name in LABEL_COLUMNS:
            values = column.to_numpy()
            fine = np.abs(values) < _LARGEST
            if name.startswith("sigma_"):  # NaN: nothing is known about the error
                fine = np.isnan(values) | (fine & (values >= 0))
            if not fine.all():
                raise DataError(f"{where} holds values that are not finite, or out of range; {AGAIN}")
        elif name == "row":
            if len(column) and pc.min(column).as_py() < 0:
                raise DataError(f"{where} holds negative numbers; {AGAIN}")
        else:
            _check_text(column, name, where)


def _check_text(column: pa.ChunkedArray, name: str, where: str) -> None:
    if name == "star_id":
        odd = column.filter(pc.invert(pc.match_substring_regex(column, _NAME)))
        if len(odd):
            check_values(np.array(odd.to_pylist(), object), Member("name", "text"), where)
        return
    known = {"instrument": [*INSTRUMENTS], "labels_from": [FIT, MODEL, SIMULATIONS]}.get(name)
    if known is not None:
        fine = pc.is_in(column, pa.array(known, pa.string()))
    else:
        fine = pc.and_(pc.utf8_is_printable(column), pc.less_equal(pc.utf8_length(column), _TEXT))
    if pc.all(fine).as_py() is False:
        raise DataError(f"{where} holds text that this version would not write; {AGAIN}")


def vectors(table: pa.Table, name: str = "embedding") -> np.ndarray:
    """A column of lists as an array (n, width), float32."""
    column = table.column(name).combine_chunks()
    return np.asarray(column.flatten()).reshape(-1, column.type.list_size)


def _lists(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def _rounded(values: np.ndarray) -> np.ndarray:
    """float32 rounded to `_MANTISSA` significant bits."""
    drop = 24 - _MANTISSA
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return (((bits + (1 << (drop - 1))) >> drop) << drop).astype(np.uint32).view(np.float32)


def _seal(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
