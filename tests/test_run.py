from __future__ import annotations

import json
from pathlib import Path

import pytest

from starclip_lib import run as run_module
from starclip_lib.errors import DataError
from starclip_lib.models.checkpoint import resume_file
from starclip_lib.run import Run, project_root
from starclip_lib.settings.params import Params


def changed(run: Run, **sections: dict) -> Run:
    content = run.params.model_dump(mode="json")
    for section, values in sections.items():
        content[section] = {**content[section], **values} if isinstance(values, dict) else values
    return Run(Params.model_validate_json(json.dumps(content)), run.root)


def make(text: str):
    return lambda path: path.write_text(text)


def build_chain(run: Run) -> None:
    for file in ("data.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt"):
        run.folder.mkdir(parents=True, exist_ok=True)
        run.build(file, make(file))


def test_a_file_is_made_once(run: Run) -> None:
    build_chain(run)
    run.build("data.h5", make("again"))
    assert run.path("data.h5").read_text() == "data.h5"
    assert run.is_current("data.h5")


def test_what_a_file_depends_on_makes_it_outdated_and_nothing_else_does(run: Run) -> None:
    build_chain(run)
    later = changed(run, starclip={"logit_scale": 3.0})
    assert later.is_current("nirspec.ckpt")
    assert not later.is_current("starclip.ckpt")
    encoder = changed(run, pretrain={"nirspec_input": "clean"})
    assert encoder.is_current("data.h5")
    assert not encoder.is_current("starclip.ckpt")  # through its inputs
    assert not changed(run, seed=99).is_current("data.h5")
    assert changed(run, atlas={"n_neighbours": 40}).is_current("starclip.ckpt")


def test_code_that_makes_a_file_counts_too(run: Run, monkeypatch) -> None:
    build_chain(run)
    real = run_module._code_digest
    monkeypatch.setattr(run_module, "_code_digest", lambda names: real(names) + ("x" if "training" in names else ""))
    assert run.is_current("data.h5")
    assert not run.is_current("apogee.ckpt")


def test_a_missing_or_outdated_input_says_which_notebook_to_run(run: Run) -> None:
    with pytest.raises(DataError, match=r"runs/small/data.h5 is missing: run notebook 01_data first"):
        run.data()
    build_chain(run)
    with pytest.raises(
        DataError, match=r"starclip.ckpt was made with other parameters or code: run notebook 04_starclip"
    ):
        changed(run, starclip={"logit_scale": 3.0}).need("starclip.ckpt")
    with pytest.raises(DataError, match=r"data\.h5 was made with other parameters or code: run notebook 01_data"):
        changed(run, seed=9).build("apogee.ckpt", make("x"))


def test_a_file_that_was_exchanged_by_hand_is_not_taken_for_ours(run: Run) -> None:
    build_chain(run)
    run.path("data.h5").write_text("something else")
    with pytest.raises(DataError, match="run notebook 01_data"):
        run.need("data.h5")


def test_a_checkpoint_survives_a_crash_but_not_a_change_of_parameters(run: Run) -> None:
    build_chain(run)

    def crash(path: Path) -> None:
        resume_file(path).write_text("three epochs")
        raise KeyboardInterrupt

    later = changed(run, starclip={"logit_scale": 3.0})
    with pytest.raises(KeyboardInterrupt):
        later.build("starclip.ckpt", crash)
    seen = []
    later.build("starclip.ckpt", lambda path: seen.append(resume_file(path).exists()) or path.write_text("x"))
    with pytest.raises(KeyboardInterrupt):
        changed(run, starclip={"logit_scale": 4.0}).build("starclip.ckpt", crash)
    other = changed(run, starclip={"logit_scale": 5.0})
    other.build("starclip.ckpt", lambda path: seen.append(resume_file(path).exists()) or path.write_text("x"))
    assert seen == [True, False]


def test_damaged_records_are_an_error(run: Run) -> None:
    build_chain(run)
    (run.folder / "stages.json").write_text("{")
    with pytest.raises(DataError, match=r"stages.json is damaged; delete the folder"):
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
