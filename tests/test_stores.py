"""Embedding stores: the same whoever fills them and however often they were stopped; exact search."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from apogee_files import write_ap, write_aspcap
from distributed import Client
from nirspec_files import spec1d_bytes

from starclip_lib.lab import cli
from starclip_lib.lab.surveying import embed_files, search_store
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.support.errors import DataError, SystemFault
from starclip_lib.support.files import atomic_path
from starclip_lib.survey import sources
from starclip_lib.survey.apogee import normalised, read_ap_star
from starclip_lib.survey.cluster import cluster, compute
from starclip_lib.survey.embedding import Done, Setup, describe_model, embed_task
from starclip_lib.survey.formats import SCHEMA, About, Input, Part, vectors, write_part
from starclip_lib.survey.searching import found_table, search
from starclip_lib.survey.sources import Task
from starclip_lib.survey.store import Store, condition

ABOUT = About(model="a model", model_sha256="0" * 64, emulator="e", package="p", dim=5, posterior=False)


def random_posteriors(rng: np.random.Generator, n: int, spread: float = 1.0) -> np.ndarray:
    """Posteriors as they are kept: means, and Cholesky factors of precisions above the prior's."""
    mean = spread * rng.normal(size=(n, 20))
    root = rng.normal(size=(n, 20, 20))
    factor = np.linalg.cholesky(np.eye(20) + 10 * root @ root.transpose(0, 2, 1))
    return np.concatenate([mean, factor[:, *np.tril_indices(20)]], axis=1)


def rows_of(names: list[str], instruments: list[str]) -> dict:
    n = len(names)
    return {"star_id": names, "file": ["f"] * n, "row": range(n), "instrument": instruments,
            "verdict": ["good"] * n, "labels_from": ["model"] * n, "from_prior": [""] * n}  # fmt: skip


def part_of(n: int, number: int = 0) -> Part:
    return Part(model_sha256="0" * 64, instrument="nirspec", rows=n, inputs=(Input("f", 1, number),))


def filled(
    folder: Path, rng: np.random.Generator, sizes: tuple[int, ...] = (40, 1, 25), posterior: bool = False
) -> Store:
    """A store of unit vectors with labels drawn at random."""
    about = ABOUT.model_copy(update={"posterior": posterior})
    Store.create(folder, about)
    order = sorted(range(len(sizes)), key=lambda place: part_of(0, place).name)  # as a store has its parts
    for number, (n, place) in enumerate(zip(sizes, order, strict=True)):
        part = part_of(n, place)
        z = rng.normal(size=(n, 5)).astype(np.float32)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        rows = rows_of([f"S{number}-{i}" for i in range(n)], ["nirspec" if i % 2 else "apogee" for i in range(n)])
        labels, kept = rng.normal(size=(n, 20)), random_posteriors(rng, n) if posterior else None
        write_part(folder, about, part, rows, z, labels, 0.1 + 0 * labels, kept)
    return Store(folder)


def whole(store: Store) -> pd.DataFrame:
    """Everything in a store, by what it was read from."""
    table = pd.concat([pq.read_table(path).to_pandas() for path in store.parts])
    return table.sort_values(["file", "row", "instrument"]).reset_index(drop=True)


def same(a: Store, b: Store) -> bool:
    x, y = whole(a), whole(b)
    return (
        [p.name for p in a.parts] == [p.name for p in b.parts]
        and np.array_equal(np.stack(x.embedding), np.stack(y.embedding))
        and x[list(SCHEMA)].equals(y[list(SCHEMA)])
    )


# conditions


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("Fe < -1 and Mg - Fe > 0.2", lambda t: (t.Fe < -1) & (t.Mg - t.Fe > 0.2)),
        ("not (Fe > 0 or C >= 0.5)", lambda t: ~((t.Fe > 0) | (t.C >= 0.5))),
        ("-0.5 < Fe <= 0.5", lambda t: (t.Fe > -0.5) & (t.Fe <= 0.5)),
        ("2 * Fe + 1 / 2 < -(Mg)", lambda t: 2 * t.Fe + 1 / 2 < -t.Mg),
        ("instrument == 'apogee' and sigma_Fe < 1", lambda t: t.instrument == "apogee"),
    ],
)
def test_conditions_are_those_of_pandas(tmp_path: Path, rng: np.random.Generator, text: str, python) -> None:
    store = filled(tmp_path, rng)
    table = pd.concat([pq.read_table(path).to_pandas() for path in store.parts], ignore_index=True)
    places = np.concatenate([place for place, _ in store.blocks(["star_id"], text)])
    assert 0 < len(places) < len(store)
    assert np.array_equal(places, np.flatnonzero(python(table)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Feh < -1", "did you mean 'Fe'"),
        ("teff > 4000", "did you mean 'Teff'"),
        ("__import__('os').system('true') < 1", "is neither column nor number"),
        ("Fe.real < 1", "is neither column nor number"),
        ("Fe", "is not a comparison"),
        ("(lambda: 1)() < 2", "is neither column nor number"),
        ("Fe < ", "cannot be read"),
        ("Fe ** 9 ** 9 ** 9 < 1", "is neither column nor number"),
        ("(" * 300 + "Fe < 1", "cannot be read"),
        ("Fe < 1 and " * 200 + "Fe < 1", "characters"),
        ("", "cannot be read"),
        ("star_id < 3", "compares text with numbers"),
        ("Fe < 'x'", "compares text with numbers"),
        ("row < " + "9" * 400, "cannot be read"),
    ],
)
def test_what_is_no_condition_is_named_and_never_run(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said.replace("(", "\\(")):
        condition(text, SCHEMA)


# search


@pytest.mark.parametrize("where", ["", "Fe < 0 and instrument == 'apogee'"])
def test_search_is_exact(tmp_path: Path, rng: np.random.Generator, where: str, monkeypatch) -> None:
    store = filled(tmp_path, rng, (400, 3, 97))
    monkeypatch.setattr("starclip_lib.survey.store.BLOCK", 64)
    z = np.concatenate([vectors(table) for _, table in store.blocks(["embedding"])])
    among = np.concatenate([place for place, _ in store.blocks(["star_id"], where)])
    queries = rng.normal(size=(7, 5))
    found = search(store, queries, 6, where)
    place, cosine = found.place, found.cosine
    expected, similarity = SimilarityIndex(z, np.arange(len(z)).astype(str)).search(queries, 6, among)
    assert np.array_equal(place, expected)
    assert np.allclose(cosine, similarity, atol=1e-12)
    table = found_table(store, list("abcdefg"), found)
    assert list(table["query"]) == [letter for letter in "abcdefg" for _ in range(6)]
    assert not where or (table.Fe < 0).all()


def test_ties_go_to_the_first_and_few_candidates_are_no_error(tmp_path: Path, rng: np.random.Generator) -> None:
    store = Store.create(tmp_path, ABOUT)
    z = np.tile(np.eye(5, dtype=np.float32)[:1], (30, 1))
    rows = rows_of([str(i) for i in range(30)], ["apogee"] * 30)
    labels = np.arange(600.0).reshape(30, 20)
    write_part(tmp_path, ABOUT, part_of(30), rows, z, labels, labels)
    assert search(store, z[:1], 4).place.tolist() == [[0, 1, 2, 3]]
    found = search(store, z[:1], 5, "Teff < 35")  # two of them
    assert found.place.tolist() == [[0, 1, -1, -1, -1]]
    assert np.isnan(found.cosine[0, 2:]).all()
    assert len(found_table(store, ["q"], found)) == 2


def test_slips_of_a_search(tmp_path: Path, rng: np.random.Generator, capsys) -> None:
    store = filled(tmp_path / "store", rng)
    with pytest.raises(DataError, match="whose embeddings have 5"):
        search(store, np.ones((2, 4)), 3)
    with pytest.raises(DataError, match=r"no spectrum of .* meets 'Fe < -99'"):
        search(store, np.ones((1, 5)), 3, "Fe < -99")
    for arguments, said in (
        ([str(tmp_path / "nowhere"), "--star", "S0-1"], "is not an embedding store"),
        ([str(store.folder), "--star", "S0-99"], "has no star 'S0-99'"),
        ([str(store.folder)], "give either files of spectra or --star"),
        ([str(store.folder), "--star", "S0-1", "--where", "Fee < 1"], "did you mean 'Fe'"),
        ([str(store.folder), "--star", "S0-1", "--output", str(tmp_path / "t.xyz")], "not a kind of table"),
        ([str(store.folder), str(tmp_path)], "the model of this store is gone"),
    ):
        assert cli.main(["search", *arguments]) == 1
        assert said in capsys.readouterr().err
    store.parts[0].write_bytes(b"PAR1" + bytes(100))
    assert cli.main(["search", str(store.folder), "--star", "S0-1"]) == 1
    assert "delete it and run starclip embed again" in capsys.readouterr().err


def test_tables_of_what_was_found_are_read_by_others(tmp_path: Path, rng: np.random.Generator) -> None:
    from astropy.table import Table

    store = filled(tmp_path / "store", rng)
    for name in ("found.ecsv", "found.parquet", "found.csv", "found.vot"):
        table = search_store(store.folder, [], ["S0-3", "S0-4"], 3, "", tmp_path / name, lambda line: None)
        read = pd.read_parquet(tmp_path / name) if name.endswith("parquet") else Table.read(tmp_path / name).to_pandas()
        assert len(read) == len(table) == 6
        assert set(read["query"]) == {"S0-3", "S0-4"}


def test_nothing_is_divided_by_zero_into_an_error(tmp_path: Path, rng: np.random.Generator) -> None:
    store = filled(tmp_path, rng)
    assert sum(len(place) for place, _ in store.blocks(["star_id"], "Fe / 0 > 1")) == (whole(store).Fe > 0).sum()


def test_a_search_sees_one_state_of_a_store(tmp_path: Path, rng: np.random.Generator) -> None:
    store = filled(tmp_path, rng)
    found = search(store, rng.normal(size=(3, 5)), 4)
    before = found_table(store, list("abc"), found)
    shutil.copy(store.parts[1], tmp_path / "part-0000000000000000a.parquet")  # another command writes on
    assert found_table(store, list("abc"), found).equals(before)
    store.parts[2].unlink()
    with pytest.raises(DataError, match="another command is changing this store"):
        list(store.blocks(["embedding"]))


def test_foreign_parts_are_refused_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    store = filled(tmp_path, rng)
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "part-x.parquet")
    with pytest.raises(DataError, match=r"part-x.parquet: its column star_id is missing"):
        len(Store(store.folder))


# embedding


@pytest.fixture
def pieces(monkeypatch) -> None:
    """Small tasks, so that there are several."""
    monkeypatch.setattr(sources, "ROWS", 40)
    monkeypatch.setattr(sources, "FILES", 2)


@contextmanager
def in_this_process(*_: object) -> Iterator[Client]:
    """A worker that is a thread: one of Dask's processes takes seconds to import what it needs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker's
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        yield client
    torch.set_num_threads(threads)


def embedded(run: Run, paths: list[Path], output: Path, workers: int = 0, said: list | None = None) -> Store:
    """The store of some files, made by a thread or, with a number of workers, by processes."""
    callback = (said if said is not None else []).append
    with pytest.MonkeyPatch.context() as patch:
        if not workers:
            patch.setattr("starclip_lib.survey.cluster.cluster", in_this_process)
        return embed_files(paths, run, output, ("nirspec", "apogee"), workers, "", callback)


@pytest.fixture(scope="module")
def of_the_run(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The stars of the finished run; read it."""
    return embedded(finished, [finished.folder / "data.h5"], tmp_path_factory.mktemp("of_the_run") / "store")


def test_two_workers_make_the_store_of_one(finished: Run, tmp_path: Path, pieces) -> None:
    one = embedded(finished, [finished.folder / "data.h5"], tmp_path / "one")  # in this process
    two = embedded(finished, [finished.folder / "data.h5"], tmp_path / "two", workers=2)
    assert len(one) == 2 * finished.data.n_stars
    assert same(one, two)
    # and they are the embeddings that the package computes by itself
    from starclip_lib.models.encoding import encode

    table = whole(one)
    flux = np.where(finished.data.apogee.mask, finished.data.apogee.instrument.fill_value, finished.data.apogee.flux)
    ours = np.stack(table[table.instrument == "apogee"].embedding)
    assert np.allclose(ours, encode(finished.model("starclip").encoders["apogee"], flux), atol=1e-3)
    assert list(table[table.instrument == "apogee"].star_id) == list(finished.data.star_id)


def test_spectra_before_normalisation_are_normalised(finished: Run, tmp_path: Path, pieces) -> None:
    from starclip_lib.models.encoding import encode

    flux, mask = finished.data.apogee.flux[0], finished.data.apogee.mask[0]
    curve = 40 * (1 + 0.2 * np.sin(np.linspace(0, 4, 8575)))
    path = write_ap(tmp_path / "apStar-r12-2M0.fits", flux * curve, np.full(8575, 0.3), mask.astype(int))
    dark = write_ap(tmp_path / "apStar-r12-2M1.fits", flux * -curve, np.full(8575, 0.3), mask.astype(int))
    table = whole(embedded(finished, [path, dark], tmp_path / "store"))
    assert list(table.star_id) == ["2M0"]
    expected = encode(finished.model("starclip").encoders["apogee"], normalised(read_ap_star(path)).flux[None])
    np.testing.assert_allclose(np.stack(table.embedding), expected, atol=1e-3)
    assert "is not a star" in pd.read_csv(tmp_path / "store" / "failed.csv").reason[0]


def test_a_second_run_does_what_is_new_and_a_damaged_file_costs_a_line(
    finished: Run, tmp_path: Path, rng: np.random.Generator, pieces
) -> None:
    sky, store = tmp_path / "sky", tmp_path / "store"
    sky.mkdir()
    for number in range(3):
        spec1d_bytes(sky / f"spec1d_{number}.fits", finished.data.nirspec.flux[number], rng)
    write_aspcap(sky / "aspcapStar-r12-star.fits", finished.data.apogee.flux[0], np.full(8575, 0.01))
    (sky / "spec1d_broken.fits").write_bytes((sky / "spec1d_0.fits").read_bytes()[:5000])
    said: list[str] = []
    first = embedded(finished, [sky], store, said=said)
    assert len(first) == 4
    failed = pd.read_csv(store / "failed.csv")
    assert len(failed) == 1
    assert "spec1d_broken.fits" in failed.file[0]
    assert failed.reason[0]
    before = whole(first)
    said.clear()
    embedded(finished, [sky], store, said=said)
    assert any("3 of 3 parts are there already" in line for line in said)
    spec1d_bytes(sky / "spec1d_a.fits", finished.data.nirspec.flux[7], rng)  # sorts into the middle
    after = whole(embedded(finished, [sky], store))
    assert len(after) == 5
    kept = after[after.file.isin(before.file)].reset_index(drop=True)
    assert np.array_equal(np.stack(kept.embedding), np.stack(before.embedding))
    (sky / "spec1d_1.fits").unlink()
    spec1d_bytes(sky / "spec1d_1.fits", finished.data.nirspec.flux[9], rng)  # another star under an old name
    said.clear()
    changed = whole(embedded(finished, [sky], store, said=said))
    assert any("1 file has changed since" in line for line in said)
    assert len(changed) == 5
    assert len(pd.read_csv(store / "failed.csv")) == 1


def test_of_a_part_only_what_has_changed_is_made_anew(
    finished: Run, tmp_path: Path, rng: np.random.Generator, pieces
) -> None:
    sky = tmp_path / "sky"
    sky.mkdir()
    for number in range(3):
        spec1d_bytes(sky / f"spec1d_{number}.fits", finished.data.nirspec.flux[number], rng)
    before = whole(embedded(finished, [sky], tmp_path / "store"))
    (sky / "spec1d_0.fits").unlink()
    spec1d_bytes(sky / "spec1d_0.fits", finished.data.nirspec.flux[8], rng)
    after = whole(embedded(finished, [sky / "spec1d_0.fits"], tmp_path / "store"))  # the others are not named
    assert list(after.file) == list(before.file)
    moved = [not np.array_equal(a, b) for a, b in zip(after.embedding, before.embedding, strict=True)]
    assert moved == [True, False, False]


def test_a_data_set_that_has_grown_replaces_what_it_was(finished: Run, tmp_path: Path, pieces) -> None:
    path = tmp_path / "data.h5"
    shutil.copy(finished.folder / "data.h5", path)
    first = embedded(finished, [path], tmp_path / "store")
    finished.data.write(path)  # the same stars, written anew
    second = embedded(finished, [path], tmp_path / "store")
    assert len(second) == len(first)


def test_a_damaged_data_set_costs_lines_and_not_the_others(finished: Run, tmp_path: Path) -> None:
    import h5py

    shutil.copy(finished.folder / "data.h5", tmp_path / "bad.h5")
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        del file["nirspec/flux"]
    store = embedded(finished, [tmp_path / "bad.h5", finished.folder / "data.h5"], tmp_path / "store")
    assert len(store) == 2 * finished.data.n_stars  # as a run, which refuses it as a whole
    failed = pd.read_csv(tmp_path / "store" / "failed.csv")
    assert len(failed) == 1
    assert "nirspec/flux is missing" in failed.reason[0]
    embedded(finished, [finished.folder / "data.h5"], tmp_path / "store")
    assert len(pd.read_csv(tmp_path / "store" / "failed.csv")) == 1  # it is still not embedded


def test_a_data_set_comes_through_the_door_of_a_run(finished: Run, tmp_path: Path) -> None:
    """What a run refuses is refused here: the file by its name, a bad spectrum by its row."""
    import h5py

    def shift(file: h5py.File) -> None:
        file["nirspec/wavelength"][...] = file["nirspec/wavelength"][...] + 100

    def turn(file: h5py.File) -> None:
        file["apogee/wavelength"][...] = file["apogee/wavelength"][...][::-1]

    def name(text: str) -> Callable:
        def change(file: h5py.File) -> None:
            kind = h5py.string_dtype("utf-8", 64)
            names = [text.encode(), *(one.encode() for one in file["star_id"].asstr()[1:])]
            del file["star_id"]
            file.create_dataset("star_id", data=np.array(names, kind), dtype=kind)

        return change

    changes: dict[str, tuple[Callable, str]] = {
        "shifted": (shift, "nirspec/wavelength"),
        "reversed": (turn, "apogee/wavelength"),
        "gridless": (lambda file: file["nirspec"].pop("wavelength"), "nirspec/wavelength is missing"),
        "markup": (name("<b>S</b>"), "star_id holds '<b>S</b>'"),
        "escape": (name("S\x1b[0m"), "star_id holds"),
        "lines": (name("S\nT"), "star_id holds"),
        "unsealed": (lambda file: file.attrs.modify("seed", 99), "checksum"),
        "future": (lambda file: file.attrs.modify("schema_version", 99), "schema_version 99"),
    }
    for file, (change, said) in changes.items():
        path = tmp_path / f"{file}.h5"
        shutil.copy(finished.folder / "data.h5", path)
        with h5py.File(path, "r+") as opened:
            change(opened)
        with pytest.raises(DataError, match=re.escape(said)):
            embedded(finished, [path], tmp_path / "store")
    assert not (tmp_path / "store").exists()

    shutil.copy(finished.folder / "data.h5", tmp_path / "pixel.h5")
    with h5py.File(tmp_path / "pixel.h5", "r+") as opened:
        opened["nirspec/flux"][3, 4000] = 1e30
        opened["nirspec/flux"][5, 4000] = np.nan
    store = embedded(finished, [tmp_path / "pixel.h5"], tmp_path / "store")
    assert len(store) == 2 * finished.data.n_stars - 2
    failed = pd.read_csv(tmp_path / "store" / "failed.csv")
    assert failed.row.tolist() == [3, 5]
    assert failed.reason.str.contains("nirspec/flux").all()
    assert np.isfinite(np.stack(whole(store).embedding)).all()


def test_links_and_endings_of_any_case_are_found(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sky").mkdir()
    spec1d_bytes(tmp_path / "elsewhere" / "spec1d_a.FITS", finished.data.nirspec.flux[1], rng)
    spec1d_bytes(tmp_path / "sky" / "spec1d_b.fit", finished.data.nirspec.flux[2], rng)
    (tmp_path / "sky" / "notes.txt").write_text("the weather was fine\n")
    (tmp_path / "sky" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sky" / "again").symlink_to(tmp_path / "sky")
    said: list[str] = []
    tasks, failed = sources.find_inputs([tmp_path / "sky"], ["nirspec"], said.append)
    assert [Path(one.file).name for task in tasks for one in task.inputs] == ["spec1d_a.FITS", "spec1d_b.fit"]
    assert not failed
    assert "3 files found, 2 used, 1 left out" in said[0]


def test_where_labels_come_from_is_marked(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    """Models of simulations have no errors of their own for spectra that were observed; fits have."""
    spec1d_bytes(tmp_path / "spec1d_0.fits", finished.data.nirspec.flux[0], rng)
    write_aspcap(tmp_path / "aspcapStar-r12-star.fits", finished.data.apogee.flux[0], np.full(8575, 0.01))
    paths = [tmp_path / "spec1d_0.fits", tmp_path / "aspcapStar-r12-star.fits", finished.folder / "data.h5"]
    table = whole(embedded(finished, paths, tmp_path / "store"))
    data = table.file.str.endswith("data.h5")
    assert set(table.labels_from[data]) == {"model"}
    assert table.labels_from[~data].tolist() == ["model of simulations", "fit"]
    assert np.isnan(table.sigma_Teff[table.labels_from == "model of simulations"]).all()
    assert (table.sigma_Teff[table.labels_from == "fit"] > 20).all()  # the error of the synthesis


def test_a_store_knows_its_model(of_the_run: Store) -> None:
    store = of_the_run
    about = store.about.model_copy(update={"emulator": "abinitio-0"})
    with pytest.raises(DataError, match=r"was made with emulator .* not abinitio-0"):
        Store.create(store.folder, about)
    about = store.about.model_copy(update={"model_sha256": "f" * 64})
    with pytest.raises(DataError, match="was made with model_sha256"):
        Store.create(store.folder, about)


def test_queries_from_files_find_themselves(finished: Run, of_the_run: Store, tmp_path: Path) -> None:
    store = of_the_run
    write_aspcap(tmp_path / "aspcapStar-r12-star.fits", finished.data.apogee.flux[11], np.full(8575, 0.01))
    found = search_store(
        store.folder, [tmp_path / "aspcapStar-r12-star.fits"], [], 1, "instrument == 'apogee'", None, lambda line: None
    )
    assert list(found.star_id) == [finished.data.star_id[11]]
    star = str(finished.data.star_id[3])
    found = search_store(store.folder, [], [star], 3, "", None, lambda line: None)
    assert star not in set(found.star_id)  # its own spectra do not count


@pytest.mark.parametrize("whom", ["command", "worker"])
def test_killed_at_any_moment_nothing_is_lost(finished: Run, tmp_path: Path, pieces, whom: str) -> None:
    whole_store = embedded(finished, [finished.folder / "data.h5"], tmp_path / "whole")
    project = tmp_path / "project"
    shutil.copytree(finished.root, project)
    code = (
        "import sys; from starclip_lib.survey import sources; sources.ROWS = 40\n"
        "from starclip_lib.lab.cli import main\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[1:]))"
    )
    script = tmp_path / "embed.py"
    script.write_text(code)
    data = finished.folder / "data.h5"
    command = [sys.executable, script, "embed", data, "--params", finished.folder, "--output", tmp_path / "killed"]
    process = subprocess.Popen([*map(str, command), "--workers", "1"], cwd=finished.root, stdout=subprocess.PIPE)
    for _ in range(6000):
        if list((tmp_path / "killed").glob("part-*")):
            break
        assert process.poll() is None, "it ended before anything could be killed"
        time.sleep(0.05)
    import psutil

    if whom == "command":
        process.send_signal(signal.SIGKILL)
        process.wait(120)
    else:
        children = psutil.Process(process.pid).children(recursive=True)
        busiest = max(children, key=lambda child: child.memory_info().rss)
        busiest.kill()
        assert process.wait(1200) == 0
    again = embedded(finished, [data], tmp_path / "killed")
    assert same(again, whole_store)
    assert not list((tmp_path / "killed").glob(".part-*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.h5"], "no such file or folder"),
        (["empty"], "nothing to embed"),
        (["data.h5", "--scheduler", "tcp://127.0.0.1:9"], "cannot be reached"),
        (["data.h5", "--workers", "-1"], "--workers -1"),
    ],
)
def test_slips_get_one_line(trained: Run, arguments: list[str], said: str, monkeypatch, capsys) -> None:
    monkeypatch.chdir(trained.root)
    monkeypatch.setattr("starclip_lib.survey.cluster._PATIENCE", 2)
    shutil.copy(trained.folder / "data.h5", "data.h5")
    Path("empty").mkdir()
    assert cli.main(["embed", *arguments, "--params", str(trained.folder)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_full_disk_leaves_whole_parts_and_says_how_much_is_missing(finished: Run, tmp_path: Path, pieces) -> None:
    model = finished.path("starclip.ckpt")
    setup = Setup(str(tmp_path), str(model), describe_model(model), finished.params.model_dump_json())
    Store.create(tmp_path, setup.about)
    tasks, _ = sources.find_inputs([finished.folder / "data.h5"], ["nirspec"])
    assert len(tasks) == 4

    def work(task: Task, setup: Setup) -> Done:
        if len(list(tmp_path.glob("part-*"))) == 2:
            with atomic_path(tmp_path / "part-full.parquet") as path:
                path.write_bytes(b"half of it")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return embed_task(task, setup)

    with (
        in_this_process() as client,
        pytest.raises(SystemFault, match=r"the disk is full; .*; 2 of 4 parts are finished, about \d+ kB more"),
    ):
        compute(client, tasks, setup, lambda line: None, work)
    assert len(Store(tmp_path)) == 80
    assert not list(tmp_path.glob(".*part*"))


def test_two_commands_in_one_store(finished: Run, tmp_path: Path) -> None:
    from starclip_lib.support.files import locked

    with locked(tmp_path / "store"), pytest.raises(DataError, match="another process is working there"):
        embedded(finished, [finished.folder / "data.h5"], tmp_path / "store")


def test_labels_stand_under_their_names(finished: Run, of_the_run: Store) -> None:
    table = whole(of_the_run)
    assert set(table.columns) == {*SCHEMA, "embedding"}
    side = table[table.instrument == "nirspec"]
    scatter = [np.corrcoef(side[name], finished.data.labels[:, i])[0, 1] for i, name in enumerate(LABELS[:2])]
    assert np.isfinite(scatter).all()


def test_workers_that_cannot_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(**options: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("starclip_lib.survey.cluster.LocalCluster", killed)
    with pytest.raises(SystemFault, match=r"^no worker could be started \(Nanny failed to start\.\); run the same"):  # noqa: SIM117
        with cluster(1, "", lambda line: None):
            pass
