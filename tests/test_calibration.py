"""The coordinates in which cosines are log Bayes factors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from scipy.stats import multivariate_normal

from starclip_lib.models.calibration import calibrated
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.contrastive import partner_first
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.params import load_params
from starclip_lib.settings.training import EncoderParams
from starclip_lib.support.errors import ConfigError, DataError


@pytest.fixture
def predictions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 3,000 stars as two instruments give them, well for some and badly for others, with common errors."""
    truth = rng.standard_normal((3000, 20)) @ rng.normal(0.3, 0.3, (20, 20))
    error = np.geomspace(0.02, 1.0, 20)
    common = rng.standard_normal((3000, 1, 1)) * 0.2
    a = truth[:, None] + error * rng.standard_normal((3000, 2, 20)) + common
    b = 0.8 * truth[:, None] + 0.5 * error * rng.standard_normal((3000, 2, 20)) + 0.3
    return a, b


def spheres(a: np.ndarray, b: np.ndarray, lift: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    *coordinates, scale = calibrated(a, b, lift)
    z = []
    for instrument, side, own in zip((NIRSPEC, APOGEE), (a, b), coordinates, strict=True):
        encoder = make_encoder(instrument, EncoderParams(width=8, lift=lift), seed=0)
        encoder.coordinates = own.double()
        z.append(encoder.to_sphere(torch.from_numpy(side[:, 0])))
        assert z[-1].shape[1] == encoder.dim == 23
    return *z, scale


def test_scaled_cosines_are_log_bayes_factors(predictions) -> None:
    a, b = predictions
    z_a, z_b, scale = spheres(a, b, lift=3000.0)
    x, y = a.reshape(-1, 20), b.reshape(-1, 20)
    joint, few = np.cov(x, y, rowvar=False), slice(0, 60)
    pairs = np.concatenate([np.repeat(a[few, 0], 60, axis=0), np.tile(b[few, 0], (60, 1))], axis=1)
    mean = np.concatenate([x.mean(axis=0), y.mean(axis=0)])
    expected = multivariate_normal(mean, joint).logpdf(pairs)
    expected -= multivariate_normal(mean[:20], joint[:20, :20]).logpdf(pairs[:, :20])
    expected -= multivariate_normal(mean[20:], joint[20:, 20:]).logpdf(pairs[:, 20:])
    logits = scale * (z_a[few] @ z_b[few].T).numpy().ravel()
    off = logits - logits.mean() - (expected - expected.mean())
    assert expected.std() > 100  # pairs of other stars are far less likely
    assert np.abs(off).max() < 1e-3 * expected.std()


def test_calibrated_spheres_find_more_partners_than_labels_do(predictions) -> None:
    a, b = predictions
    z_a, z_b, _ = spheres(a, b, lift=30.0)
    plain = [F.normalize(F.pad(torch.from_numpy(side[:, 0]), (0, 1), value=30.0), dim=1) for side in (a, b)]
    assert partner_first(z_a, z_b) > 0.99
    assert partner_first(*plain) < 0.9


def test_spectra_far_out_keep_a_gradient(predictions) -> None:
    first, _, _ = calibrated(*predictions, lift=30.0)
    encoder: Encoder = make_encoder(NIRSPEC, EncoderParams(width=8, lift=30.0), seed=0)
    encoder.coordinates = first
    labels = torch.full((2, 20), 50.0, requires_grad=True)
    encoder.to_sphere(labels)[:, 0].sum().backward()
    assert torch.isfinite(labels.grad).all()


def test_too_few_stars_are_refused(predictions) -> None:
    with pytest.raises(DataError, match=r"starclip.calibrate needs 200 validation stars, and there are 199"):
        calibrated(*(side[:199] for side in predictions), lift=30.0)
    with pytest.raises(
        ConfigError, match=r"needs 200 validation stars, of 1000 stars there are 125; raise data.n_stars"
    ):
        load_params(ROOT / "params" / "quick.yaml", {"data": {"n_stars": 1000}})


def test_labels_that_do_not_differ_are_refused(predictions) -> None:
    a, b = predictions
    with pytest.raises(DataError, match=r"starclip.calibrate: an encoder predicts labels that .* train it for longer"):
        calibrated(np.zeros_like(a), b, lift=30.0)


def test_mixed_precision_leaves_the_sphere_as_it_is(predictions) -> None:
    encoder = make_encoder(NIRSPEC, EncoderParams(width=8, lift=30.0), seed=0)
    encoder.coordinates = calibrated(*predictions, lift=30.0)[0]
    labels = torch.from_numpy(predictions[0][:50, 0]).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder.to_sphere(labels)
    assert torch.equal(mixed, encoder.to_sphere(labels))


def test_a_sphere_without_lift_is_refused() -> None:
    changes = {"starclip": {"calibrate": True}, "pretrain": {"encoder": {"lift": 0.0}}}
    with pytest.raises(ConfigError, match=r"starclip.calibrate needs a lift"):
        load_params(ROOT / "params" / "quick.yaml", changes)


def test_coordinates_come_back_from_a_file(predictions, tmp_path: Path) -> None:
    encoder = make_encoder(NIRSPEC, EncoderParams(width=8, lift=30.0), seed=0)
    encoder.coordinates = calibrated(*predictions, lift=30.0)[0]
    flux, scaler = torch.rand(3, 8192), LabelScaler.fit(np.random.default_rng(0).normal(size=(9, 20)))
    Model({"nirspec": encoder}, scaler, History()).save(tmp_path / "a.ckpt")
    back = Model.load(tmp_path / "a.ckpt").encoders["nirspec"]
    with torch.no_grad():
        assert torch.equal(back.embed(flux), encoder.embed(flux))
