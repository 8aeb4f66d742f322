"""Declarations of arrays: what they refuse, and the checksums of the files that are written by them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.storage.formats import DATA_SET, EMBEDDINGS
from starclip_lib.storage.hdf5 import opened_hdf5, read_members, write_member, written_hdf5
from starclip_lib.storage.schema import Member, as_boolean, check_arrays, check_values
from starclip_lib.support.errors import DataError

TABLE = {
    "a": Member("numbers", shape=("N", 3), low=(0, 0, -1), high=(1, 2, 1), axes=("star", "label")),
    "b": Member("flags", "boolean", ("N",), "bool"),
    "c": Member("names", "text", ("N",), "text", unique=True),
}


def arrays(n: int = 5) -> dict[str, np.ndarray]:
    return {"a": np.full((n, 3), 0.5), "b": np.zeros(n, bool), "c": np.arange(n).astype(str)}


def test_bounds_are_found_as_by_brute_force(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks or not, with bounds for each column, the first offender is named."""
    for block in (1, 7, 10**6):
        monkeypatch.setattr("starclip_lib.storage.schema._BLOCK", block)
        for _ in range(50):
            values = rng.uniform(-0.2, 1.2, (9, 3))
            values[rng.random((9, 3)) < 0.05] = np.nan
            bad = [
                (i, j)
                for i in range(9)
                for j in range(3)
                if not (TABLE["a"].low[j] <= values[i, j] <= TABLE["a"].high[j])
            ]
            if not bad:
                check_values(values, TABLE["a"], "x")
                continue
            with pytest.raises(DataError, match=rf"star {bad[0][0] if block > 1 else ''}"):
                check_values(values, TABLE["a"], "x")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("a", np.ones((5, 3), complex), "a holds complex numbers, expected real numbers"),
        ("a", np.ones((5, 2)), r"a has shape \(5, 2\), expected \(N, 3\)"),
        ("a", np.full((5, 3), 9.0), r"a holds 9 \(star 0, label 0\), expected 0 to 1"),
        ("b", np.zeros(4, bool), r"b has shape \(4,\), expected \(5,\)"),
        ("b", np.zeros(5), "b holds real numbers, expected true and false"),
        ("c", np.array(["a"] * 5), "c has 4 repeats"),
        ("c", np.array(["<b>", "1", "2", "3", "4"]), "c holds '<b>'; a name has 1 to 64 letters"),
        ("c", np.array(["a\u202eb", "1", "2", "3", "4"]), ".*a name has 1 to 64 letters"),
        ("c", np.array(["x" * 65, "1", "2", "3", "4"]), ".*a name has 1 to 64 letters"),
    ],
)
def test_arrays_that_are_not_what_was_declared(key: str, value: np.ndarray, message: str) -> None:
    check_arrays(arrays(), TABLE, "file")
    with pytest.raises(DataError, match=f"^file: {message}"):
        check_arrays({**arrays(), key: value}, TABLE, "file")


def test_masks_of_zeros_and_ones_are_masks() -> None:
    assert as_boolean(np.array([0, 1], np.int64), "m").tolist() == [False, True]
    with pytest.raises(DataError, match="m holds the numbers 0 to 2, expected 0 and 1"):
        as_boolean(np.array([0, 2]), "m")


def test_a_written_table_is_read_as_it_was_and_every_flipped_bit_of_its_data_is_seen(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "t.h5"
    content = {**arrays(400), "a": rng.random((400, 3)).astype(np.float32)}
    with written_hdf5(path, {"made": "here"}) as file:
        for key, array in content.items():
            write_member(file, key, array, TABLE[key])
    with opened_hdf5(path) as file:
        again = read_members(file, TABLE, "t")
    for key, array in content.items():
        np.testing.assert_array_equal(again[key], array)
    good = path.read_bytes()
    start = good.index(content["a"].tobytes()[:64])
    for place in rng.integers(start, start + content["a"].nbytes, 40):
        flipped = bytearray(good)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"t\.h5 is damaged"), opened_hdf5(path) as file:
            read_members(file, TABLE, "t")


def test_zeros_that_unpack_without_end_are_not_read(tmp_path: Path) -> None:
    path, wide = tmp_path / "t.h5", Member("numbers", shape=("N", 100_000))
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.zeros((900, 100_000), np.float32), chunks=(100, 100_000), compression="gzip")
    with pytest.raises(DataError, match=r"t would unpack \d+ kB to 360 MB"), opened_hdf5(path) as file:
        read_members(file, {"a": wide}, "t")


def test_attributes_of_a_data_set_are_sealed(survey: PairedSpectra, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "data.h5"
    survey.write(path)
    with h5py.File(path, "a") as file:
        file.attrs["provenance"] = '{"emulator": "another"}'
    with pytest.raises(DataError, match=r"data\.h5: its attributes are not those that were written \(checksum\)"):
        PairedSpectra.read(path)
    monkeypatch.setenv("STARCLIP_CHECKSUMS", "skip")
    assert PairedSpectra.read(path).provenance == {"emulator": "another"}


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("labels", lambda a: a / [1000, *[1] * 19], r"labels holds 4\.\d+ \(star 0, label 0\), expected 1500 to 60000"),
        ("label_errors", lambda a: -a, "label_errors holds -"),
        ("apogee.mask", lambda a: a | True, "apogee/(flux must be 0 wherever|mask leaves 0 pixels of star 0)"),
        ("nirspec.flux", lambda a: a * 0, "nirspec/flux of star 0 is nowhere above 0"),
        ("split", lambda a: a + 3, "split must hold 0"),
    ],
)
def test_data_sets_that_mean_nothing(survey: PairedSpectra, key: str, change, message: str) -> None:
    side, _, name = key.rpartition(".")
    with np.errstate(invalid="ignore"):
        value = change(getattr(getattr(survey, side) if side else survey, name))
    value = value.astype(np.float32) if value.dtype == np.float64 else value
    changes = {side: replace(getattr(survey, side), **{name: value})} if side else {name: value}
    with pytest.raises(DataError, match=message):
        replace(survey, **changes)


def test_every_member_is_explained() -> None:
    assert all(member.meaning for member in (*DATA_SET.values(), *EMBEDDINGS.values()))
    assert EMBEDDINGS["view"].range_text == "0 to 2.14748e+09"
    assert DATA_SET["labels"].range_text == "1500 to 60000, -2 to 7, then -8 to 5"
