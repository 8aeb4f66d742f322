"""Damaged embedding stores, made from their declaration: `survey/formats.py`."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cases import Case, fingerprint
from damage import NASTY, no_file_at_all, put, whole_file

from starclip_lib.survey.formats import (
    ABOUT,
    SCHEMA,
    About,
    Input,
    Part,
    read_about,
    schema_of,
    write_about,
    write_part,
    write_table,
)
from starclip_lib.survey.searching import found_table, search
from starclip_lib.survey.store import FAILED, Store

MADE = About(model="m.ckpt", model_sha256="0" * 64, emulator="e", package="p", dim=5, posterior=True)
ODD = {
    "null": None,
    "text": "a",
    "negative": -1,
    "huge": 10**12,
    "a list": [],
    "a folder": {},
    "NaN": float("nan"),
    "true": True,
}
FREE_TEXT = ("file", "verdict", "from_prior")


def made_store(folder: Path) -> Path:
    """Three parts of four spectra."""
    rng = np.random.default_rng(3)
    write_about(folder, MADE)
    for number in range(3):
        part = Part(model_sha256="0" * 64, instrument="nirspec", rows=4, inputs=(Input("f", 1, number),))
        rows = {"star_id": [f"S{number}-{i}" for i in range(4)], "file": ["f"] * 4, "row": range(4),
                "instrument": ["nirspec"] * 4, "verdict": ["good"] * 4, "labels_from": ["fit"] * 4,
                "from_prior": ["[Na/H]"] * 4}  # fmt: skip
        z, root = rng.normal(size=(4, 5)), rng.normal(size=(4, 20, 20))
        factor = np.linalg.cholesky(np.eye(20) + root @ root.transpose(0, 2, 1))
        kept = np.concatenate([rng.normal(size=(4, 20)), factor[:, *np.tril_indices(20)]], axis=1)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        write_part(folder, MADE, part, rows, z.astype(np.float32), rng.normal(size=(4, 20)), np.ones((4, 20)), kept)
    (folder / FAILED).write_text("file,row,reason\ng,0,damaged\n")
    return folder


def open_store(path: Path) -> str:
    """Everything that a store holds, and what a search finds in it."""
    store = Store(path.parent)
    tables = [table.to_pydict() for _, table in store.blocks([*SCHEMA, "embedding", "posterior"])]
    kept = store.posteriors(np.arange(len(store)))
    found = search(store, np.eye(5)[:1], 3, posterior=kept[:1])
    about = store.about.model_copy(update={"model": ""})  # that may be corrected by hand
    made = [part.model_dump_json() for part in store.made_from().values()]
    return fingerprint(
        about.model_dump_json(), *made, json.dumps(tables), kept, found.ln_b, str(found_table(store, ["q"], found))
    )


def write_failed(path: Path) -> int:
    return Store(path.parent).write_failed()


def columns(good: pa.Table) -> Iterator[tuple[str, pa.Table, str]]:
    """Tables that differ from the declared one, and whether what they hold may be accepted."""
    for number, field in enumerate(good.schema):
        values = good.column(number).to_pylist()

        def other(first: Any, kind: pa.DataType = field.type, field=field, number=number, values=values) -> pa.Table:
            nullable = first is None or pa.types.is_list(kind)
            array = pa.array([first, *values[1:]], kind)
            return good.set_column(number, pa.field(field.name, kind, nullable=nullable), array)

        yield f"{field.name} is missing", good.remove_column(number), "never"
        yield f"{field.name} is null", other(None), "never"
        yield f"{field.name} is there twice", good.append_column(field, good.column(number)), "never"
        if pa.types.is_string(field.type):
            for what, text in NASTY.items():
                harmless = field.name in FREE_TEXT and text.isprintable() and len(text) < 5000
                yield f"{field.name} is {what}", other(text), "any" if harmless or what == "path" else "never"
            yield f"{field.name} is a number", good.set_column(number, field.name, pa.array([1.0] * 4)), "never"
        elif pa.types.is_fixed_size_list(field.type):
            width = field.type.list_size
            free = pa.list_(pa.float32())
            yield f"{field.name} is of any length", other([1.0], free), "never"
            yield f"{field.name} is too long", other_width(good, number, width + 1), "never"
            for value in (0.0, np.nan, np.inf, 1e30):
                yield f"{field.name} is {value}", other([value] * width), "never"
        else:
            whole = pa.types.is_integer(field.type)
            for value in (-1, 2**31 - 1) if whole else (np.nan, np.inf, -np.inf, 1e30, -1.0):
                known = value == 2**31 - 1 or (value == -1.0 and field.name[:6] != "sigma_" and not whole)
                known = known or (field.name[:6] == "sigma_" and value != value)
                yield f"{field.name} is {value}", other(value), "any" if known else "never"
            yield f"{field.name} is text", good.set_column(number, field.name, pa.array(["a"] * 4)), "never"
            yield f"{field.name} is a long number", other(values[0], pa.float64()), "never"
    yield "one row less", good.slice(1), "never"
    yield "no rows", good.slice(0, 0), "never"
    yield "each row twice", pa.concat_tables([good, good]), "never"
    yield "columns in another order", good.select(good.column_names[::-1]), "never"
    yield "one column more", good.append_column("more", pa.array([1] * 4)), "never"


def other_width(good: pa.Table, number: int, width: int) -> pa.Table:
    field = good.schema.field(number)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), width)
    array = pa.array([[0.1] * width] * 4, kind)
    return good.set_column(number, pa.field(field.name, kind, nullable=False), array)


def cases(folder: Path, seed: int) -> Iterator[Case]:
    good = made_store(folder / "good_store")
    first = sorted(good.glob("part-*"))[0]
    table = pq.read_table(first)
    metadata = dict(table.schema.metadata)
    plain = table.replace_schema_metadata(None)
    reference = open_store(good / ABOUT)

    def within(name: str, make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        """The good store around a file that is made."""

        def made(place: Path) -> Path:
            for path in good.iterdir():
                if path.name != name:
                    shutil.copy(path, place)
            return make(place)

        return made

    def of_file(kind: str, path: Path, flips: int, cuts: int) -> Iterator[Case]:
        whole = partial(whole_file, checked=True, reference=reference, seed=seed)
        for case in whole(kind, path.read_bytes(), path.stem, path.suffix, open_store, flips, cuts):
            gone = path == first and case.name.endswith((": missing", ": below a file"))  # a store of two parts
            yield replace(case, make=within(path.name, case.make), accepted="any" if gone else case.accepted)

    yield from of_file("store part", first, 150, 30)
    yield from of_file("store.json", good / ABOUT, 100, 20)
    for what, make in no_file_at_all("failed", ".csv"):
        if what not in ("missing", "below a file"):
            yield Case(f"store failed.csv: {what}", within(FAILED, make), write_failed)
    for what, changed, accepted in columns(plain):

        def table_of(place: Path, changed: pa.Table = changed) -> Path:
            pq.write_table(changed.replace_schema_metadata(metadata), place / first.name, write_page_checksum=True)
            return place / first.name

        yield Case(f"store part: {what}", within(first.name, table_of), open_store, accepted)  # type: ignore[arg-type]
    described = json.loads(metadata[b"starclip"])
    texts = {f"{key} is {what}": {**described, key: value} for key in described for what, value in ODD.items()}
    texts |= {f"without {key}": {k: v for k, v in described.items() if k != key} for key in described}
    texts |= {"one key more": {**described, "more": 1}, "a list": [described], "nothing": {}}
    texts |= {f"input is {what}": {**described, "inputs": [{**described["inputs"][0], "file": text}]}
              for what, text in NASTY.items()}  # fmt: skip
    for what, changed in texts.items():
        yield Case(f"store metadata: {what}", within(first.name, partial(sealed, first.name, plain, json.dumps(changed))),
                   open_store, "any" if what in ("failed is a list", "without failed") else "never")  # fmt: skip
    for what, text in {"no JSON": "{", "nested": "[" * 10_000, "a megabyte": json.dumps("m" * 2**20)}.items():
        yield Case(f"store metadata: {what}", within(first.name, partial(sealed, first.name, plain, text)), open_store)
    about = MADE.model_dump()
    for key in about:
        for what, value in ODD.items():
            made = partial(about_of, {**about, key: value})
            fine = key in ("model", "emulator", "package") and what == "text"
            same = key == "posterior" and what == "true"
            yield Case(
                f"store.json: {key} is {what}", within(ABOUT, made), open_store, "any" if fine or same else "never"
            )
    yield Case("store: a part that is a copy", within("", partial(copied, first, "part-copy.parquet")), open_store)
    yield Case("store: a part of another model", within("", partial(of_another_model, plain)), open_store)
    yield Case("store: inputs are in two parts", within("", partial(twice, plain)), open_store)


def sealed(name: str, table: pa.Table, text: str, place: Path) -> Path:
    """A part with other metadata, whose checksum is right."""
    metadata = {"starclip": text, "starclip_crc32": str(zlib.crc32(text.encode()))}
    pq.write_table(table.replace_schema_metadata(metadata), place / name, write_page_checksum=True)
    return place / name


def about_of(content: dict[str, Any], place: Path) -> Path:
    """store.json with other content, whose checksum is right."""
    seal = zlib.crc32(json.dumps({**content, "model": ""}, sort_keys=True).encode())
    return put(place / ABOUT, json.dumps({**content, "crc32": seal}).encode())


def copied(path: Path, name: str, place: Path) -> Path:
    shutil.copy(path, place / name)
    return place / name


def of_another_model(table: pa.Table, place: Path) -> Path:
    part = Part(model_sha256="1" * 64, instrument="nirspec", rows=4, inputs=(Input("g", 1, 1),))
    return write_table(place, table.cast(schema_of(read_about(place))), part)


def twice(table: pa.Table, place: Path) -> Path:
    inputs = tuple(Input("f", 1, number) for number in range(2))
    part = Part(model_sha256="0" * 64, instrument="nirspec", rows=4, inputs=inputs)
    return write_table(place, table.cast(schema_of(read_about(place))), part)
