"""Damaged files of the paper: frames in HDF5 and in a pickle."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from apogee_files import catalogue
from cases import Case, fingerprint
from damage import gzip_bomb, put, whole_file

from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LABELS
from starclip_lib.survey.allstar import catalogue_labels
from starclip_lib.survey.original import import_original
from starclip_lib.survey.pandas_files import read_frame_hdf, read_frame_pickle

N = 12


class Hostile:
    """What unpickling must never run."""

    def __reduce__(self) -> tuple:
        return (os.mkdir, ("owned",))


def frames() -> dict[str, Any]:
    stars = catalogue(N)
    labels = catalogue_labels(stars)[0]
    return {
        "wavelength": pd.Series(NIRSPEC.wavelength),
        "labels": pd.DataFrame(labels, columns=LABELS),
        "spectra": pd.DataFrame(default_emulator()(labels, NIRSPEC)),
        "allstar": stars,
        "apogee": pd.DataFrame(np.random.default_rng(0).uniform(0.8, 1.0, (N, 8575)).astype(np.float32)),
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    for key in ("wavelength", "labels", "spectra"):
        if key in content:
            content[key].to_hdf(folder / "jwst.h5", key=key)
    if "allstar" in content:
        content["allstar"].to_hdf(folder / "allstar.h5", key="allstar")
    if "apogee" in content:
        with gzip.open(folder / "spectra.pkl.gz", "wb", 1) as file:
            pickle.dump(content["apogee"], file, protocol=4)
    return folder / "jwst.h5"


def open_all(path: Path) -> str:
    folder = path.parent
    data = import_original(path, folder / "allstar.h5", folder / "spectra.pkl.gz", callback=lambda line: None)
    return fingerprint(data.star_id, data.labels, data.apogee.flux, data.nirspec.flux)


def open_pickle(path: Path) -> str:
    frame = read_frame_pickle(path)
    return fingerprint(frame.to_numpy(np.float64))


def open_frame(path: Path) -> str:
    return fingerprint(*(read_frame_hdf(path, key).to_numpy(np.float64) for key in ("wavelength", "labels")))


def cases(folder: Path, seed: int) -> Iterator[Case]:
    good = frames()
    for key, frame in good.items():
        for what, other, accepted in others(key, frame):
            changed = {name: value for name, value in {**good, key: other}.items() if value is not None}

            def make(folder: Path, changed: dict = changed) -> Path:
                return write(folder, changed)

            yield Case(f"original: {key}: {what}", make, open_all, accepted)
    stars: pd.DataFrame = good["allstar"]
    for column in stars.columns:
        if column.endswith(("_FLAG", "FLAG", "TARG")) or column in ("TELESCOPE", "FIELD", "SNR", "VSCATTER"):
            continue
        for what, value in {"missing": None, "text": "abc", "NaN": np.nan, "1e30": 1e30, "objects": object()}.items():
            other = stars.drop(columns=column) if value is None else stars.assign(**{column: value})
            if what == "objects":
                other = stars.assign(**{column: [str(n) * 70 for n in range(N)]})
            # the labels of the other file are taken; rows of one name are one star
            harmless = (what == "NaN" and not column.endswith(("_ERR", "_ID"))) or (column, what) == (
                "APOGEE_ID",
                "text",
            )

            def make_column(folder: Path, other: pd.DataFrame = other) -> Path:
                return write(folder, {**good, "allstar": other})

            yield Case(f"original: column {column}: {what}", make_column, open_all, "any" if harmless else "never")
    small = pd.DataFrame(np.arange(600.0).reshape(20, 30))
    packed = gzip.compress(pickle.dumps(small, protocol=4))
    reference = fingerprint(small.to_numpy())
    yield from whole_file(
        "pickle", packed, "a", ".pkl.gz", open_pickle, 150, 25, seed, checked=True, reference=reference
    )
    plain = pickle.dumps(small, protocol=4)
    yield from whole_file("plain pickle", plain, "a", ".pkl", open_pickle, 150, 25, seed, checked=False, reference=None)
    hdf = write(folder, {key: good[key] for key in ("wavelength", "labels")}).read_bytes()
    yield from whole_file("pandas HDF5", hdf, "a", ".h5", open_frame, 150, 25, seed, checked=False, reference=None)
    for what, content in {
        "hostile": Hostile(), "hostile inside": pd.DataFrame({"a": [Hostile()]}), "a mapping": {"a": 1}, "a text": "hello", "three dimensions": np.ones((2, 2, 2)),
        "a frame of objects": pd.DataFrame({"a": ["x", {}]}), "nothing": None, "a number": 3,
    }.items():  # fmt: skip
        yield Case(f"pickle: {what}", lambda f, c=content: put(f / "a.pkl", pickle.dumps(c)), open_pickle_numbers)
    for what, start in {"zeros": b"", "a pickle and then zeros": plain}.items():

        def bomb(folder: Path, start: bytes = start) -> Path:
            return gzip_bomb(folder / "a.pkl.gz", start, 2**30)

        yield Case(f"pickle: a bomb of {what}", bomb, open_pickle)
    array = pickle.dumps(np.zeros((3, 3)))
    for size in (b"\x8a\x05\x00\xe4\x0b\x54\x02", b"J\xff\xff\xff\x7f"):
        content = array.replace(b"K\x03K\x03", size + b"K\x03", 1)
        yield Case(f"pickle: an array of {size!r} rows", lambda f, c=content: put(f / "a.pkl", c), open_pickle)


def open_pickle_numbers(path: Path) -> str:
    from starclip_lib.physics.instruments import APOGEE
    from starclip_lib.survey.original import _fluxes

    return fingerprint(_fluxes(read_frame_pickle(path), APOGEE, str(path)))


def others(key: str, frame: Any) -> Iterator[tuple[str, Any, str]]:
    values = frame.to_numpy()
    numeric = key != "allstar"

    def like(array: np.ndarray) -> Any:
        return pd.Series(array) if array.ndim == 1 else pd.DataFrame(array)

    yield "missing", None, "never"
    yield "one row less", frame.iloc[:-1], "never"
    yield "no rows", frame.iloc[:0], "never"
    yield "a series of text", pd.Series(["a"] * N), "never"
    if numeric:
        for value in (np.nan, np.inf, 0.0, 1e30, -1.0):
            accepted = "never"
            yield f"{value:g} everywhere", like(np.full(values.shape, value)), accepted
        yield "complex", like(values.astype(complex)), "never"
        some = values if values.ndim == 1 else values[:, :50]  # pandas is slow with thousands of columns of text
        yield "text", like(some.astype(str).astype(object)), "never"
    if numeric and values.ndim == 2:
        yield "one column less", like(values[:, :-1]), "never"
        yield "turned", like(values.T), "any" if key in ("spectra", "apogee") else "never"
        yield "one spectrum of NaN", like(np.where(np.arange(N)[:, None] == 3, np.nan, values)), "never"
    if key == "labels":
        yield "kilokelvin", frame.assign(Teff=frame["Teff"] / 1000), "any"
