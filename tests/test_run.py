from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from starclip_lib import stages
from starclip_lib.run import Run
from starclip_lib.settings.params import changed_params
from starclip_lib.stages import STAGES
from starclip_lib.storage.tensor_files import resume_file
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import project_root

CHAIN = ("data.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt")


def changed(run: Run, **sections: Any) -> Run:
    """The run of the same project with other settings."""
    return Run(changed_params(run.params, sections), run.root)


def instead(monkeypatch: pytest.MonkeyPatch, file: str, make: Callable[..., None]) -> None:
    """Let a stage's file be made by something else."""
    monkeypatch.setitem(STAGES, file, replace(STAGES[file], make=make))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every maker writes its file's name, and notes what it was called with."""
    calls: list[tuple[Any, ...]] = []

    def make(path: Path, *arguments: Any, watch: object) -> None:
        calls.append((path.name, *arguments, watch))
        path.write_text(path.name)

    for file in STAGES:
        instead(monkeypatch, file, make)
    monkeypatch.setattr("starclip_lib.data.spectra.PairedSpectra.read", lambda path, memory: f"read from {path.name}")
    return calls


def build_chain(run: Run) -> None:
    for file in CHAIN:
        run.build(file)


def test_a_file_is_made_once(run: Run, made: list) -> None:
    build_chain(run)
    run.build("data.h5")
    assert [call[0] for call in made] == list(CHAIN)
    assert all(run.is_current(file) for file in CHAIN)


def test_the_data_set_is_read_once_and_anew_when_it_was_made_anew(run: Run, made: list, monkeypatch) -> None:
    run.build("data.h5")
    reads: list[Path] = []
    monkeypatch.setattr(
        "starclip_lib.data.spectra.PairedSpectra.read", lambda path, memory: reads.append(path) or object()
    )
    first = run.data
    assert run.data is first
    run.path("data.h5").unlink()
    run.build("data.h5")
    assert run.data is not first
    assert reads == [run.path("data.h5")] * 2


def test_what_a_file_depends_on_makes_it_outdated_and_nothing_else_does(run: Run, made: list) -> None:
    build_chain(run)
    later = changed(run, starclip={"logit_scale": 3.0})
    assert later.is_current("nirspec.ckpt")
    assert not later.is_current("starclip.ckpt")
    encoder = changed(run, pretrain={"nirspec_input": "clean"})
    assert encoder.is_current("data.h5")
    assert not encoder.is_current("starclip.ckpt")  # through its inputs
    assert not changed(run, seed=99).is_current("data.h5")
    assert changed(run, atlas={"n_neighbours": 40}).is_current("starclip.ckpt")


def test_another_version_of_the_package_makes_files_outdated(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "package_digest", lambda: "another")
    assert not any(finished.is_current(file) for file in STAGES)


def test_a_missing_or_outdated_input_says_which_notebook_to_run(run: Run, made: list) -> None:
    with pytest.raises(DataError, match=r"runs/small/data.h5 is missing: run notebook 01_data first"):
        run.data  # noqa: B018
    with pytest.raises(DataError, match=r"runs/small/data.h5 is missing: run notebook 01_data first"):
        run.build("apogee.ckpt")
    build_chain(run)
    with pytest.raises(
        DataError, match=r"starclip.ckpt was made with other parameters or code: run notebook 04_starclip"
    ):
        changed(run, starclip={"logit_scale": 3.0}).need("starclip.ckpt")
    with pytest.raises(DataError, match=r"data\.h5 was made with other parameters or code: run notebook 01_data"):
        changed(run, seed=9).build("apogee.ckpt")


def test_a_file_that_was_exchanged_by_hand_is_not_taken_for_ours(run: Run, made: list) -> None:
    build_chain(run)
    run.path("data.h5").write_text("something else")
    with pytest.raises(DataError, match="run notebook 01_data"):
        run.need("data.h5")


def test_a_checkpoint_survives_a_crash_but_not_a_change_of_parameters(
    run: Run, made: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_chain(run)
    seen = []

    def crash(path: Path, *_: object, watch: object) -> None:
        resume_file(path).write_text("three epochs")
        raise KeyboardInterrupt

    def look(path: Path, *_: object, watch: object) -> None:
        seen.append(resume_file(path).exists())
        path.write_text("x")

    for first, then in ((3.0, 3.0), (4.0, 5.0)):
        instead(monkeypatch, "starclip.ckpt", crash)
        with pytest.raises(KeyboardInterrupt):
            changed(run, starclip={"logit_scale": first}).build("starclip.ckpt")
        instead(monkeypatch, "starclip.ckpt", look)
        changed(run, starclip={"logit_scale": then}).build("starclip.ckpt")
    assert seen == [True, False]


def test_training_makes_the_whole_plan_and_only_what_is_missing(run: Run, made: list) -> None:
    said: list[str] = []
    run.train(said.append)
    assert said == [f"{file} ..." for file in STAGES]
    run.path("supervised.ckpt").unlink()
    made.clear()
    run.train(lambda line: None)
    assert [call[0] for call in made] == ["supervised.ckpt"]  # what depends on it was made of the same


def test_files_of_another_version_are_stale_and_made_anew(run: Run, made: list) -> None:
    """Runs before 0.2.0 kept their books in the same place, under other digests."""
    run.folder.mkdir(parents=True)
    for file in STAGES:
        run.path(file).write_text("old")
    records = {file: {"identity": "x", "bytes": 3} for file in STAGES}
    (run.folder / "stages.json").write_text(json.dumps(records))
    assert repr(run).endswith(": nothing up to date")
    for file, stage in STAGES.items():
        message = rf"runs/small/{file} was made with other parameters or code: run notebook {stage.notebook} first"
        with pytest.raises(DataError, match=message):
            run.need(file)
    with pytest.raises(DataError, match=r"starclip.ckpt was made with other parameters or code"):
        run.model("starclip")
    run.train(lambda line: None)
    assert [call[0] for call in made] == list(STAGES)
    assert all(run.is_current(file) for file in STAGES)
    assert json.loads((run.folder / "stages.json").read_text()).keys() == STAGES.keys()


def test_damaged_records_are_an_error(run: Run, made: list) -> None:
    build_chain(run)
    (run.folder / "stages.json").write_text("{")
    with pytest.raises(DataError, match=r"stages.json is not JSON .*; make the run again"):
        run.is_current("data.h5")


def test_metrics_are_kept_by_section(run: Run) -> None:
    run.save_metrics("data", {"n_stars": 3})
    run.save_metrics("pca", {"starclip": [0.5]})
    assert run.metrics() == {"data": {"n_stars": 3}, "pca": {"starclip": [0.5]}}
    for part in ("a", "b"):
        run.save_metrics(f"evaluation.{part}", {"x": part})
    assert run.metrics(without=["evaluation.b", "pca"]) == {"data": {"n_stars": 3}, "evaluation": {"a": {"x": "a"}}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.save_metrics("bad", {"x": float("nan")})
    names = [f"{name}.json" for name in ("data", "evaluation.a", "evaluation.b", "pca")]
    assert sorted(path.name for path in (run.folder / "metrics").iterdir()) == names  # no half-written one


def test_the_project_is_found_from_within_and_missed_outside(run: Run, tmp_path_factory) -> None:
    assert project_root(run.root / "notebooks") == run.root
    outside = tmp_path_factory.mktemp("outside")
    assert project_root(outside, run.root / "params") == run.root
    with pytest.raises(DataError, match="run from inside a clone of the project"):
        project_root(outside)


def test_a_flipped_bit_is_not_up_to_date(trained: Run) -> None:
    for file in ("starclip.ckpt", "embeddings.h5", "data.h5"):
        assert trained.is_current(file)
        path = trained.path(file)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert not trained.is_current(file)
        with pytest.raises(DataError, match=rf"{file} has changed since it was made \(another size or checksum\): run"):
            trained.need(file)
