"""Damaged data sets and embeddings, made from their declarations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cases import Case, fingerprint
from damage import NASTY, whole_file

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.posterior import Posterior
from starclip_lib.models.embeddings import Embeddings, read_embeddings, write_embeddings
from starclip_lib.settings.data import DataParams
from starclip_lib.storage.formats import DATA_SET, EMBEDDINGS
from starclip_lib.storage.schema import Member

GROUP = "starclip/nirspec"
STARS = 40


@cache
def good_files(folder: Path) -> dict[str, Path]:
    data = simulate_survey(STARS, 1, DataParams(n_stars=STARS))
    data.write(folder / "data.h5")
    z = np.random.default_rng(0).normal(size=(50, 21)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ids = np.array([f"star{n}" for n in range(50)])
    known = Posterior.of(np.zeros((50, 20)), np.tile(np.eye(20) / 2, (50, 1, 1))).packed
    embeddings = Embeddings(z, ids, np.zeros(50, int), np.zeros(50, np.uint8), known)
    write_embeddings(folder / "embeddings.h5", {GROUP: embeddings})
    return {"data set": folder / "data.h5", "embeddings": folder / "embeddings.h5"}


def open_data_set(path: Path) -> str:
    data = PairedSpectra.read(path, with_ivar=True)
    sides = [getattr(side, key) for side in (data.apogee, data.nirspec) for key in ("flux", "mask")]
    about = json.dumps([data.source, data.seed, data.provenance], sort_keys=True)
    return fingerprint(data.star_id, data.labels, data.label_errors, data.split, data.apogee.ivar, *sides, about)


def open_embeddings(path: Path) -> str:
    found = read_embeddings(path, GROUP)
    return fingerprint(found.z, found.star_id, found.view, found.split, found.posterior)


def edited(good: Path, edit: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = Path(shutil.copy(good, folder))
        with h5py.File(path, "a") as file:
            edit(file)
        return path

    return make


def replaced(key: str, value: Any, **options: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        attributes = dict(file[key].attrs) if key in file else {}
        if key in file:
            del file[key]
        dataset = file.create_dataset(key, data=value, **options)
        dataset.attrs.update(attributes)

    return edit


def members_cases(kind: str, good: Path, door: Callable, members: dict[str, Member], prefix: str) -> Iterator[Case]:
    with h5py.File(good) as file:
        arrays = {name: file[prefix + name][()] for name in members if prefix + name in file}
    for name, member in members.items():
        if name not in arrays:
            continue
        key, array = prefix + name, arrays[name]
        for what, edit, accepted in damaged_member(key, array, member):
            yield Case(f"{kind}: {name}: {what}", edited(good, edit), door, accepted)


def damaged_member(key: str, array: np.ndarray, member: Member) -> Iterator[tuple[str, Callable, str]]:
    def remove(file: h5py.File) -> None:
        del file[key]

    def group(file: h5py.File) -> None:
        remove(file)
        file.create_group(key)

    def soft_link(file: h5py.File) -> None:
        remove(file)
        file[key] = h5py.SoftLink(f"/{key}")

    def external(file: h5py.File) -> None:
        remove(file)
        file[key] = h5py.ExternalLink("elsewhere.h5", "/x")

    def moved(file: h5py.File) -> None:
        file.move(key, "aside")
        file[key] = h5py.SoftLink("/aside")

    def declared_only(rows: int) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            remove(file)
            shape = (rows, *array.shape[1:])
            dtype = array.dtype if array.dtype.kind != "O" else "S20"
            file.create_dataset(key, shape, dtype, chunks=(min(rows, 1000), *array.shape[1:]), compression="gzip")

        return edit

    def virtual(file: h5py.File) -> None:
        remove(file)
        layout = h5py.VirtualLayout(array.shape, "f4")
        layout[...] = h5py.VirtualSource("elsewhere.h5", "x", array.shape)
        file.create_virtual_dataset(key, layout)

    yield "missing", remove, "any" if member.optional else "never"
    yield "a group", group, "never"
    yield "a link to itself", soft_link, "never"
    yield "a link to another file", external, "never"
    yield "a link within the file", moved, "never"
    yield "a billion rows that nobody stored", declared_only(10**9), "never"
    yield "as many rows, not stored", declared_only(len(array)), "never"
    yield "virtual", virtual, "never"
    yield "nothing in it", replaced(key, h5py.Empty("f4")), "never"
    yield "one number", replaced(key, 1.0), "never"
    yield "one text", replaced(key, "hello"), "never"
    yield "complex", replaced(key, np.ones(array.shape, complex)), "never"
    yield "records", replaced(key, np.zeros(array.shape, [("a", "f4"), ("b", "i4")])), "never"
    yield (
        "one more dimension",
        replaced(key, array[..., None] if array.dtype.kind != "O" else np.zeros((3, 3))),
        "never",
    )
    yield "one row less", replaced(key, array[:-1]), "never"
    yield "no rows", replaced(key, np.zeros((0, *array.shape[1:]))), "never"
    if array.ndim > 1:
        yield "one column less", replaced(key, array[:, :-1]), "never"
        yield "flat", replaced(key, array.ravel()), "never"
    if member.kind != "text":
        yield "text", replaced(key, np.full(array.shape, b"hello")), "never"
    if member.kind == "float":
        yield "bits", replaced(key, np.ones(array.shape, bool)), "never"
        low, high = np.min(member.low), np.max(member.high)
        for value in (np.nan, np.inf, -np.inf, 1e30, -1e30, -9999.0, low - 1, high * 1.01 + 1):
            for where in ("all", "first", "last"):
                yield f"{value:g} in {where}", replaced(key, placed(array, value, where)), _outside(value, member)
        for dtype in (">f4", "f8", "f2"):
            yield f"as {dtype}", replaced(key, array.clip(-6e4, 6e4).astype(dtype)), "any"
    elif member.kind in ("integer", "boolean"):
        yield "real numbers", replaced(key, np.full(array.shape, 0.5)), "never"
        for value in (-1, 9, 200, 2**40):
            yield (
                f"the number {value}",
                replaced(key, placed(array.astype(np.int64), value, "first")),
                (
                    "any"
                    if member.kind == "integer" and np.max(member.high) >= value >= 0 and key.endswith("view")
                    else "never"
                ),
            )
        if member.kind == "boolean":
            yield "integers 0 and 1", replaced(key, array.astype(np.uint8)), "any"
            yield "everything masked", replaced(key, np.ones(array.shape, bool)), "never"
    elif member.kind == "text":
        for what, text in NASTY.items():
            values = [text.encode() if "\0" not in text else b"a", *[str(n).encode() for n in range(1, len(array))]]
            if what != "NUL":
                yield what, replaced(key, np.array(values, object), dtype=h5py.string_dtype()), "never"
        yield "no UTF-8", replaced(key, np.full(array.shape, b"\xff\xfe"), dtype=h5py.string_dtype()), "never"
        yield (
            "all alike",
            replaced(key, np.full(array.shape, b"same", "S4"), dtype=h5py.string_dtype()),
            ("never" if member.unique else "any"),
        )


def placed(array: np.ndarray, value: float, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        out = array.astype(np.float64 if isinstance(value, float) else np.int64)
    if where == "all":
        out[...] = value
    else:
        out.flat[0 if where == "first" else -1] = value
    return out


def _outside(value: float, member: Member) -> str:
    inside = np.isfinite(value) and (value >= np.min(member.low)) and (value <= np.max(member.high))
    return "any" if inside else "never"


def attribute_cases(good: Path) -> Iterator[Case]:
    with h5py.File(good) as file:
        names = list(file.attrs)
    values = {
        "a number": 3.5, "a list": [1, 2], "complex": 1j, "NaN": np.nan, "two megabytes": "m" * 2**21, "half JSON": '{"a": ',
        "deep": "[" * 5000 + "]" * 5000, "digits": "9" * 10000, "markup": "<script>alert(1)</script>", "null": h5py.Empty("f4"),
    }  # fmt: skip
    for name in names:

        def remove(file: h5py.File, name: str = name) -> None:
            del file.attrs[name]

        seal = name == "attributes_crc32"
        yield Case(
            f"data set: attribute {name} missing", edited(good, remove), open_data_set, "any" if seal else "never"
        )
        for what, value in values.items():

            def change(file: h5py.File, name: str = name, value: Any = value) -> None:
                if name in file.attrs:
                    del file.attrs[name]
                if isinstance(value, str) and len(value) > 60000:
                    file.attrs.create(name, np.bytes_(value[:60000]))
                else:
                    file.attrs[name] = value

            yield Case(f"data set: attribute {name} is {what}", edited(good, change), open_data_set)


def cases(folder: Path, seed: int) -> Iterator[Case]:
    files = good_files(folder)
    for kind, door, members, prefix in (
        ("data set", open_data_set, DATA_SET, ""),
        ("embeddings", open_embeddings, EMBEDDINGS, f"{GROUP}/"),
    ):
        good = files[kind]
        yield from members_cases(kind, good, door, members, prefix)
        yield from whole_file(
            kind, good.read_bytes(), good.stem, ".h5", door, 250, 25, seed, checked=True, reference=door(good)
        )
    yield from attribute_cases(files["data set"])
