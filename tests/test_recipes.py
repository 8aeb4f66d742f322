from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.data.selection import mock_stars, select_evenly
from starclip_lib.data.spectra import SPLITS
from starclip_lib.metrics.baselines import raw_spectra
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoding import predict_labels
from starclip_lib.physics.labels import FE, LabelScaler
from starclip_lib.run import Run
from starclip_lib.settings.params import changed_params
from starclip_lib.support.errors import DataError
from starclip_lib.training import recipes

ERRORS = ("readout", "offset", "error")  # of predictions, learned after each training


def test_stars_are_spread_as_evenly_as_the_data_allow(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.uniform(0, 1, 3), rng.uniform(1, 2, 200), rng.uniform(2, 3, 50)])
    values[0], values[-1] = 0, 3  # so that the three bins are 0-1, 1-2 and 2-3
    chosen = select_evenly(values, 63, 3, rng)
    counts = np.histogram(values[chosen], [0, 1, 2, 3])[0]
    assert counts[0] == 3  # all there are
    assert sorted(counts[1:]) == [30, 30]
    assert len(set(chosen)) == 63
    assert len(select_evenly(values, len(values), 3, rng)) == len(values)
    with pytest.raises(DataError, match="300 stars were asked for, but there are only 253"):
        select_evenly(values, 300, 3, rng)


def test_mock_stars_stay_in_their_split(survey, params) -> None:
    stars = mock_stars(survey, params)
    assert {name: len(rows) for name, rows in stars.items()} == {"train": 30, "val": 6, "test": 40}
    for name, rows in stars.items():
        assert set(rows) <= set(survey.rows(name))
    again = mock_stars(survey, params)
    assert all((again[name] == rows).all() for name, rows in stars.items())


def test_too_many_mock_stars_are_refused(survey, params) -> None:
    greedy = changed_params(params, {"data": {"n_stars": 400}, "mockstarclip": {"n_stars": 400}})
    with pytest.raises(DataError, match=r"mockstarclip.n_stars 400 takes 250 train stars, but there are 100; lower it"):
        mock_stars(survey, greedy)


def test_scalers_are_fitted_on_training_stars_only(survey, finished: Run) -> None:
    expected = LabelScaler.fit(survey.labels[survey.rows("train")])
    for name in ("apogee", "nirspec", "supervised", "starclip", "mockstarclip", "supervised_extended"):
        assert (finished.model(name).scaler.mean == expected.mean).all(), name
    scaling = finished.model("nirspec").encoders["nirspec"].scaling
    training = torch.from_numpy(survey.nirspec.flux[survey.rows("train")])
    torch.testing.assert_close(scaling.mean, training.mean(0), rtol=1e-3, atol=1e-3)


def test_the_published_leak_can_be_rebuilt(survey, params, tmp_path: Path) -> None:
    leaky = changed_params(params, {"pretrain": {"leak": True}})
    recipes.train_encoder(tmp_path / "leak.ckpt", survey, leaky, "apogee")
    model = Model.load(tmp_path / "leak.ckpt")
    assert (model.scaler.mean == LabelScaler.fit(survey.labels).mean).all()  # all stars, the test's too
    scaling = model.encoders["apogee"].scaling
    assert not torch.allclose(scaling.mean, torch.from_numpy(survey.apogee.flux[survey.rows("train")]).mean(0))


def test_emulated_stars_need_the_emulator_that_made_the_data(survey, params, tmp_path: Path) -> None:
    emulated = changed_params(params, {"pretrain": {"nirspec_stars": "emulated"}})
    recipes.train_encoder(tmp_path / "n.ckpt", survey, emulated, "nirspec")
    assert Model.load(tmp_path / "n.ckpt").history.epochs == 4
    foreign = replace(survey, provenance={}, source="original")
    with pytest.raises(DataError, match=r"nirspec_stars: 'emulated' would mix spectra .* \(original\)"):
        recipes.train_encoder(tmp_path / "m.ckpt", foreign, emulated, "nirspec")
    recipes.train_encoder(tmp_path / "a.ckpt", foreign, emulated, "apogee")  # the other instrument does not care


def test_mockstarclip_freezes_one_encoder_and_tunes_the_head_of_the_other(finished: Run) -> None:
    start = finished.model("starclip").encoders["nirspec"]
    model = finished.model("mockstarclip").encoders
    for key, value in start.state_dict().items():
        assert torch.equal(model["mock"].state_dict()[key], value)
        same = torch.equal(model["extended"].state_dict()[key], value)
        assert key in ERRORS or same == (not key.startswith("head")), key


def test_calibration_is_fitted_to_validation_stars_and_inherited(
    survey, params, finished: Run, tmp_path, monkeypatch
) -> None:
    chosen = changed_params(params, {"data": {"n_stars": 1600}, "starclip": {"calibrate": True}})
    start = [finished.path("nirspec.ckpt"), finished.path("apogee.ckpt")]
    with pytest.raises(DataError, match=r"starclip.calibrate needs 200 validation stars, and there are 20"):
        recipes.train_starclip(tmp_path / "s.ckpt", survey, chosen, *start)
    monkeypatch.setattr("starclip_lib.models.calibration.CALIBRATION_STARS", 60)
    split = survey.split.copy()
    split[survey.rows("train")[:40]] = SPLITS.index("val")
    more = replace(survey, split=split)
    recipes.train_starclip(tmp_path / "s.ckpt", more, chosen, *start)
    model = Model.load(tmp_path / "s.ckpt")
    predicted = predict_labels(model, survey.apogee, more.rows("val"))[:, 0]
    offset = model.scaler.inverse(model.encoders["apogee"].coordinates.offset.numpy())
    np.testing.assert_allclose(offset, predicted.mean(axis=0), rtol=1e-3, atol=1e-3)
    lengths = [encoder.coordinates(torch.zeros(1, 20)).shape for encoder in model.encoders.values()]
    assert lengths == [(1, 22), (1, 22)]
    recipes.train_mockstarclip(tmp_path / "m.ckpt", more, chosen, tmp_path / "s.ckpt")
    for encoder in Model.load(tmp_path / "m.ckpt").encoders.values():
        assert torch.equal(encoder.coordinates.weight, model.encoders["nirspec"].coordinates.weight)


def test_the_extended_baseline_tunes_the_head_of_the_supervised_one(finished: Run) -> None:
    start, tuned = (finished.model(name).encoders["nirspec"] for name in ("supervised", "supervised_extended"))
    for key, value in start.state_dict().items():
        same = torch.equal(tuned.state_dict()[key], value)
        assert key in ERRORS or same == (not key.startswith("head")), key


def test_no_checkpoint_is_left_behind(finished: Run) -> None:
    assert not list(finished.folder.glob("*.resume"))
    assert not list(finished.folder.glob(".*"))


def test_embeddings_cover_all_stars_and_their_views(survey, params, finished: Run) -> None:
    nirspec, apogee, extended = (
        finished.embeddings(name) for name in ("starclip/nirspec", "starclip/apogee", "mockstarclip/extended")
    )
    n_views = params.corruption.n_views
    assert (len(nirspec), len(apogee)) == (n_views * survey.n_stars, survey.n_stars)
    np.testing.assert_allclose(np.linalg.norm(nirspec.z, axis=1), 1, rtol=1e-3)
    assert set(apogee.take("test").star_id) == set(survey.star_id[survey.rows("test")])
    assert len(extended) == n_views * (30 + 6 + 40)


def test_raw_baseline_sees_the_same_test_stars(survey, params) -> None:
    raw = raw_spectra(survey, params)
    assert raw["nirspec"].z.shape == (40 * params.corruption.n_views, 8192)
    assert raw["apogee"].z.shape == (40, 8192)
    assert (raw["apogee"].z[0] == survey.apogee.flux[survey.rows("test")[0], 246 : 246 + 8192]).all()
    assert set(raw["mock"].star_id) == set(raw["extended"].star_id)


def test_metallicities_of_the_mock_stars_are_flatter_than_the_surveys(survey, params) -> None:
    rows = mock_stars(survey, params)["train"]
    assert survey.labels[rows, FE].std() > survey.labels[survey.rows("train"), FE].std()
