from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib.settings.params import Params, load_params, merge_assignments, parse_assignment
from starclip_lib.support.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


RUNS = [path for path in sorted((ROOT / "params").glob("*.yaml")) if not path.name.startswith("emulator")]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_every_parameter_file_of_the_project_is_valid(path: Path) -> None:
    assert load_params(path).name == path.stem


def test_only_what_is_named_differs_from_the_defaults(tmp_path: Path) -> None:
    params = load_params(write(tmp_path, "starclip:\n  train:\n    learning_rate: 1e-3\n"))
    assert params.starclip.train.learning_rate == 1e-3
    assert params.changed(name="quick", starclip=Params().starclip) == Params()


def test_overrides_go_through_the_same_checks_and_keep_what_they_do_not_name(tmp_path: Path) -> None:
    path = write(tmp_path, "starclip:\n  logit_scale: 20.0\n  train: {epochs: 3}\n")
    params = load_params(path, {"starclip": {"train": {"batch_size": 9}}})
    assert (params.starclip.logit_scale, params.starclip.train.epochs, params.starclip.train.batch_size) == (20.0, 3, 9)
    with pytest.raises(ConfigError, match=r"unknown key .starclip\.trian."):
        load_params(path, {"starclip": {"trian": {}}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("starclip: {train: {epoch: 3}}", r"mine.yaml: unknown key 'starclip.train.epoch'; did you mean 'epochs'\?"),
        ("xyzzy: 1", r"unknown key 'xyzzy'; known keys: name, seed"),
        ("data: {n_stars: 2.5}", r"mine.yaml: data.n_stars: input should be a valid integer"),
        ("data: {n_stars: '100'}", r"data.n_stars: input should be a valid integer"),
        ("data: {n_stars: 3}", r"data.n_stars: must be at least 40, or 0 for all stars of data.file, not 3"),
        ("seed: true", r"seed: input should be a valid integer"),
        ("data: {teff_range: [5000, 4000]}", r"data.teff_range: .*smaller than the second"),
        ("data: {n_stars: 100}", r"^\S+mine.yaml: mockstarclip.n_stars \(250\) must not exceed data.n_stars \(100\)$"),
        ("device: gpu", r"device: string should match pattern"),
        ("corruption: {gaps: {model: joint}}", r"corruption.gaps.model: input should be 'detector' or 'independent'"),
        ("pretrain:\n  apogee:\n", r"pretrain.apogee: input should be an object, not None"),
        ("seed: 1\nseed: 2", r"mine.yaml: not a YAML file: .*duplicate key"),
        ("seed: [1", r"mine.yaml: not a YAML file"),
        ("- 1\n- 2", r"expected 'key: value' lines, found list"),
        ("seed: 2026-11-21", r"a value is not a number, text, list or mapping"),
    ],
)
def test_a_bad_file_gets_one_line_that_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_params(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: no such parameter file"):
        load_params(tmp_path / "nowhere.yaml")


def test_assignments_are_read_as_yaml_and_merged() -> None:
    assert parse_assignment("a.b=1e-3") == {"a": {"b": 0.001}}
    assert merge_assignments(["a.b=1", "a.c=[1, 2]", "a.b=3"]) == {"a": {"b": 3, "c": [1, 2]}}
    for bad in ("a.b", "=3"):
        with pytest.raises(ConfigError, match="expected key=value"):
            parse_assignment(bad)
    with pytest.raises(ConfigError, match="not YAML"):
        parse_assignment("a=[1")


def test_every_setting_is_documented_where_its_name_does_not_say_all() -> None:
    undocumented, seen = [], [Params]
    for section in seen:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                seen.append(inner)
            elif not field.description:
                undocumented.append(f"{section.__name__}.{name}")
    assert set(undocumented) <= {"TrainParams.batch_size"}
