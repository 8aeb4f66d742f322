"""Doors under Hypothesis: whatever stands behind them, they open or say in one line why not.

The budget is 200 examples a door (some seconds each), the same ones every time; `make campaign` tries thousands of
damages that are meant.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starclip_lib.models.embeddings import as_embeddings, read_embeddings, write_embeddings
from starclip_lib.observed.files import read_observed
from starclip_lib.settings.params import load_params, merge_assignments
from starclip_lib.storage.json_files import parse_json
from starclip_lib.support.errors import StarclipError

budget = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Where bytes of a file are replaced, as parts of its length, and by what.
damage = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=80)), min_size=1, max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
sections = st.sampled_from(
    ["name", "seed", "device", "data", "corruption", "pretrain", "starclip", "observed", "evaluation"]
)


def opens_or_says_why(door, path: Path) -> None:
    said = message_of(lambda: door(path))
    assert said is None or (said.isprintable() and path.name in said)


def message_of(action) -> str | None:
    """What an action was refused with; None if it was done."""
    try:
        action()
    except StarclipError as error:
        return str(error)
    return None


def damaged(good: bytes, pieces: list[tuple[float, bytes]], reach: int) -> bytes:
    content = bytearray(good)
    for place, piece in pieces:
        start = int(place * (min(reach, len(content)) - 1))
        content[start : start + len(piece)] = piece
    return bytes(content)


@budget
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_parameter_files_of_anything(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    opens_or_says_why(load_params, path)


@budget
@given(st.dictionaries(sections, values, max_size=3))
def test_parameter_files_that_look_like_some(tmp_path: Path, content: dict) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(content))
    opens_or_says_why(load_params, path)


@budget
@given(st.text(max_size=60))
def test_assignments(text: str) -> None:
    said = message_of(lambda: merge_assignments([text]))
    assert said is None or said.isprintable()


@budget
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_json(content: bytes) -> None:
    opens_or_says_why(lambda path: parse_json(content, str(path), dict[str, dict[str, int]]), Path("a.json"))


@cache
def good_spec1d() -> bytes:
    columns = {"OPT_WAVE": "D", "OPT_COUNTS": "D", "OPT_COUNTS_IVAR": "D", "OPT_MASK": "L"}
    arrays = (np.linspace(11000, 13000, 800), np.ones(800), np.ones(800), np.ones(800, bool))
    made = [fits.Column(key, form, array=array) for (key, form), array in zip(columns.items(), arrays, strict=True)]
    table = fits.BinTableHDU.from_columns(made, name="SPAT1-SLIT1-MSC01")
    table.header["DMODCLS"], table.header["S2N"] = "SpecObj", 100.0
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(out)
    return out.getvalue()


@pytest.mark.parametrize("reach", [9000, 10**9], ids=["headers", "everything"])
def test_fits(tmp_path: Path, reach: int) -> None:
    path = tmp_path / "spec1d_a.fits"
    path.write_bytes(good_spec1d())
    assert len(read_observed(path)) == 1

    @budget
    @given(damage)
    def door(pieces: list[tuple[float, bytes]]) -> None:
        path.write_bytes(damaged(good_spec1d(), pieces, reach))
        opens_or_says_why(read_observed, path)

    door()


@pytest.mark.parametrize("reach", [3000, 10**9], ids=["structures", "everything"])
def test_hdf5(tmp_path: Path, reach: int) -> None:
    path = tmp_path / "e.h5"
    z = np.eye(4)[np.arange(40) % 4][:, None]
    write_embeddings(path, {"a/b": as_embeddings(z, np.arange(40).astype(str), np.zeros(40))})
    good = path.read_bytes()

    def same(path: Path) -> None:
        np.testing.assert_array_equal(read_embeddings(path, "a/b").z, z[:, 0])

    @budget
    @given(damage)
    def door(pieces: list[tuple[float, bytes]]) -> None:
        path.write_bytes(damaged(good, pieces, reach))
        opens_or_says_why(same, path)

    door()
