"""Stores are declared: whatever is not what was written is seen, and named in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_stores import ABOUT, filled, part_of, random_posteriors, rows_of

from starclip_lib.inference.posterior import log_bayes_factor
from starclip_lib.support.errors import DataError
from starclip_lib.survey import formats
from starclip_lib.survey.formats import SCHEMA, SIMULATIONS, About, Input, Part, read_about, write_part
from starclip_lib.survey.searching import found_table, match_words, no_match, search
from starclip_lib.survey.store import Store


def everything(folder: Path) -> tuple:
    """All that a store holds, as its readers get it."""
    store = Store(folder)
    names = [*SCHEMA, "embedding", *(["posterior"] if store.about.posterior else [])]
    tables = [table.to_pydict() for _, table in store.blocks(names)]
    return store.about, list(store.made_from().values()), len(store), json.dumps(tables)


def test_flipped_bits_are_seen(tmp_path: Path, rng: np.random.Generator) -> None:
    """Each of 400 bits: the store is refused in one line, or nothing that is read has changed."""
    store = filled(tmp_path, rng, (6,), posterior=True)
    (path,) = store.parts
    good, before, seen = path.read_bytes(), everything(tmp_path), 0
    places = np.concatenate([rng.integers(len(good), size=250), len(good) - 1 - rng.integers(6000, size=150)])
    for place in places:
        damaged = bytearray(good)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert everything(tmp_path) == before, f"byte {place}"
        except DataError as error:
            assert path.name in str(error) or "part-" in str(error)  # noqa: PT017
            seen += 1
    assert seen > 200


def test_a_changed_store_json_is_seen(tmp_path: Path, rng: np.random.Generator) -> None:
    path = filled(tmp_path, rng).folder / "store.json"
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        try:
            found = Store(tmp_path).about
        except DataError:
            continue
        assert found.model_copy(update={"model": "a model"}) == ABOUT  # its path may be corrected by hand
    for content, said in (
        ({"format": 1, "dim": 5}, "a store of format 1, this version reads 3"),
        ({"format": 3, "dim": 5}, "is not what was written"),
        ([1], "does not hold what it should"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=said):
            Store(tmp_path)


def rewritten(path: Path, change) -> None:
    """A part whose table has been changed by somebody who writes valid checksums."""
    table = pq.read_table(path)
    pq.write_table(change(table), path, write_page_checksum=True, write_statistics=False)


def with_column(name: str, change):
    """A change of one column, given and returned as a list."""

    def changed(table: pa.Table) -> pa.Table:
        number = table.schema.get_field_index(name)
        field = table.schema.field(number)
        return table.set_column(number, field, pa.array(change(table.column(number).to_pylist()), field.type))

    return changed


def first(value):
    return lambda column: [value, *column[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_column("embedding", first([np.nan] * 5)), "not of unit length"),
        (with_column("embedding", first([0.0] * 5)), "not of unit length"),
        (with_column("embedding", first([2.0] + [0.0] * 4)), "not of unit length"),
        (with_column("posterior", first([0.0] * 230)), "not a posterior"),
        (with_column("posterior", first([np.inf] * 230)), "not a posterior"),
        (with_column("Teff", first(np.nan)), "Teff holds values that are not finite"),
        (with_column("sigma_Fe", first(-1.0)), "sigma_Fe holds values that are not finite, or out of range"),
        (with_column("star_id", first("<script>alert(1)</script>")), "star_id holds '<script>"),
        (with_column("star_id", first("\x1b[31mS")), "star_id holds"),
        (with_column("verdict", first("good\nbad")), "verdict holds text"),
        (with_column("file", first("a\x00b")), "file holds text"),
        (with_column("instrument", first("hubble")), "instrument holds text"),
        (with_column("labels_from", first("")), "labels_from holds text"),
        (with_column("row", first(-1)), "row holds negative numbers"),
        (lambda t: t.slice(1), "holds 5 rows, 6 were written"),
        (lambda t: t.drop_columns(["Teff"]), "its column Teff is missing"),
        (lambda t: t.replace_schema_metadata({}), "metadata are not what was written"),
        (
            lambda t: t.replace_schema_metadata({**t.schema.metadata, b"starclip": b"{}"}),
            "metadata are not what was written",
        ),
        (
            lambda t: t.set_column(
                t.schema.get_field_index("star_id"), pa.field("star_id", pa.string()), [t.column("star_id").to_pylist()]
            ),
            "its column star_id is missing or of another kind",  # it may hold nulls now
        ),
        (
            lambda t: t.set_column(
                t.schema.get_field_index("embedding"), "embedding", pa.array(t.column("embedding").to_pylist())
            ),
            "its column embedding is missing or of another kind",  # of any length
        ),
    ],
)
def test_values_that_no_version_writes_are_refused(tmp_path: Path, rng: np.random.Generator, change, said: str) -> None:
    store = filled(tmp_path, rng, (6,), posterior=True)
    rewritten(store.parts[0], lambda table: table)
    everything(tmp_path)  # that alone is no fault
    rewritten(store.parts[0], change)
    with pytest.raises(DataError, match=said):
        everything(tmp_path)


def test_copies_and_parts_of_other_stores_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    store = filled(tmp_path / "a", rng)
    shutil.copy(store.parts[0], store.folder / "part-0123456789abcdef.parquet")
    with pytest.raises(DataError, match=rf"is a copy of {store.parts[0].name}; delete one of them"):
        len(Store(store.folder))
    (store.folder / "part-0123456789abcdef.parquet").unlink()
    other = ABOUT.model_copy(update={"model_sha256": "1" * 64})
    Store.create(tmp_path / "b", other)
    part = Part(model_sha256="1" * 64, instrument="nirspec", rows=1, inputs=(Input("g", 1, 1),))
    z, labels = np.eye(5, dtype=np.float32)[:1], np.zeros((1, 20))
    written = write_part(tmp_path / "b", other, part, rows_of(["S"], ["nirspec"]), z, labels, labels)
    shutil.copy(written, store.folder)
    with pytest.raises(DataError, match="was made with another model than this store; delete it"):
        len(Store(store.folder))
    (store.folder / written.name).unlink()
    twice = part.model_copy(update={"model_sha256": "0" * 64, "inputs": (Input("f", 1, 0), Input("f", 1, 9))})
    write_part(store.folder, ABOUT, twice, rows_of(["S"], ["nirspec"]), z, labels, labels)
    with pytest.raises(DataError, match="both hold f; run the same starclip embed again"):
        len(Store(store.folder))


def test_what_a_store_says_of_itself_is_checked(tmp_path: Path) -> None:
    formats.write_about(tmp_path, ABOUT)
    assert read_about(tmp_path) == ABOUT
    with pytest.raises(ValueError, match="model_sha256"):
        About(**{**ABOUT.model_dump(), "model_sha256": "x"})
    with pytest.raises(ValueError, match="instrument"):
        Part(**{**part_of(1).model_dump(), "instrument": "hubble"})


def test_posteriors_keep_eleven_bits(tmp_path: Path, rng: np.random.Generator) -> None:
    store, kept = filled(tmp_path, rng, (6,), posterior=True), random_posteriors(rng, 6)
    table = next(store.blocks(["posterior"]))[1]
    assert np.isfinite(formats.vectors(table, "posterior")).all()
    np.testing.assert_allclose(formats._rounded(kept), kept, rtol=2**-11)


def test_the_nearest_are_ranked_by_bayes_factors(tmp_path: Path, rng: np.random.Generator) -> None:
    """Against all Bayes factors computed at once: the best of the shortlist, in order, and the words for no match."""
    store = filled(tmp_path, rng, (40, 30), posterior=True)
    posterior = store.posteriors(np.arange(70))
    z = np.concatenate([formats.vectors(table) for _, table in store.blocks(["embedding"])])
    queries, own = rng.normal(size=(3, 5)), posterior[[3, 50, 69]]
    found = search(store, queries, 5, posterior=own)
    cosine = queries @ z.T / np.linalg.norm(queries, axis=1)[:, None]
    for row in range(3):
        near = np.argsort(-cosine[row], kind="stable")[:50]
        ln_b = log_bayes_factor(own[row : row + 1], posterior[near][None])[0]
        order = np.argsort(-ln_b)[:5]
        assert found.place[row].tolist() == near[order].tolist()
        np.testing.assert_allclose(found.ln_b[row], ln_b[order], rtol=1e-6)
    assert "ranked by Bayes factor" in found.ranking
    table = found_table(store, list("abc"), found)
    assert ((table["match"] == "no match") == (table["ln_B"] < 0)).all()
    assert no_match(np.array([-1746.0, 0.1])).tolist() == [True, False]
    few = search(store, queries, 5, "Teff > 1.5", posterior=own)  # of a handful of candidates
    assert ((few.place < 0) == np.isnan(few.ln_b)).all()
    by_cosine = search(store, queries, 5)
    assert by_cosine.ln_b is None
    assert "ranked by cosine" in by_cosine.ranking
    assert "match" not in found_table(store, list("abc"), by_cosine)


def test_errors_of_simulations_exclude_no_match(tmp_path: Path, rng: np.random.Generator) -> None:
    """What a model of simulations makes of observed APOGEE spectra has errors that are too small."""
    store = filled(tmp_path, rng, (6,), posterior=True)
    found = search(store, rng.normal(size=(2, 5)), 6, posterior=random_posteriors(rng, 2).astype(np.float32))
    known = found_table(store, ["a", "b"], found)
    assert set(known.match) <= {"no match", "possible"}
    table = found_table(store, ["a", "b"], found, [True, False])
    assert table[table["query"] == "a"].match.tolist() == known[known["query"] == "a"].match.tolist()
    assert set(table[table["query"] == "b"].match) == {"not known"}
    assert match_words(np.array([-5.0, 5.0, -5.0]), pd.Series(["fit", "fit", SIMULATIONS])).tolist() == [
        "no match",
        "possible",
        "not known",
    ]
