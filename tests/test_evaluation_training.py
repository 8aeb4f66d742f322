"""Transfer, ablation and scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import r2_score

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.training import AlignParams, CorruptionParams, EncoderParams, TrainParams
from starclip_lib.suite import ablation, domains, scaling, transfer
from starclip_lib.suite.scaling import fit_power_law
from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded
from starclip_lib.training.batches import SpectrumSource
from starclip_lib.transforms.corruptions import mock

CPU = torch.device("cpu")
SMALL = EncoderParams(width=16, depth=1)


@pytest.fixture
def encoder(survey: PairedSpectra) -> Encoder:
    encoder = make_encoder(NIRSPEC, SMALL, seed=1)
    encoder.fit_scaling(torch.from_numpy(survey.nirspec.flux))
    return encoder.eval()


def test_every_strategy_starts_as_the_network_it_was_given(encoder: Encoder, survey: PairedSpectra) -> None:
    flux = survey.nirspec.flux[:8]
    for strategy in transfer.STRATEGIES:
        start = transfer.prepared(encoder, strategy).eval()
        np.testing.assert_allclose(transfer.predict(start, flux), transfer.predict(encoder, flux), atol=1e-3)


def test_lora_of_rank_zero_is_the_frozen_network(encoder: Encoder, survey: PairedSpectra) -> None:
    flux, labels = survey.nirspec.flux[:20], np.ones((20, 20), np.float32)
    tuned = transfer.fine_tune(encoder, flux, labels, "lora", learning_rate=1e-3, rank=0, steps=20)
    np.testing.assert_array_equal(transfer.predict(tuned, flux), transfer.predict(encoder, flux))
    moved = transfer.fine_tune(encoder, flux, labels, "lora", learning_rate=1e-3, rank=2, steps=20)
    assert np.abs(transfer.predict(moved, flux) - transfer.predict(encoder, flux)).max() > 1e-3


def test_lora_trains_only_its_small_matrices(encoder: Encoder) -> None:
    tuned = transfer.prepared(encoder, "lora", rank=3)
    layers = [m for m in encoder.modules() if isinstance(m, torch.nn.Linear)]
    expected = sum(3 * (layer.in_features + layer.out_features) for layer in layers)
    assert sum(p.numel() for p in tuned.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("strategy", ["adapter", "lora", "full"])
def test_fine_tuning_learns_and_leaves_the_original_alone(
    encoder: Encoder, survey: PairedSpectra, strategy: transfer.Strategy
) -> None:
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    flux = survey.nirspec.flux[:40]
    labels = transfer.predict(encoder, flux) + 1  # a constant offset between the domains
    options = {"learning_rate": transfer.RATES[strategy][1], "steps": 150}
    tuned = transfer.fine_tune(encoder, flux, labels, strategy, **options)
    left = np.abs(transfer.predict(tuned, flux) - labels).mean()
    assert left < 0.9  # from 1; full fine-tuning goes in the smallest steps
    assert all((before[k] == v).all() for k, v in encoder.state_dict().items())
    again = transfer.fine_tune(encoder, flux, labels, strategy, **options)
    np.testing.assert_array_equal(transfer.predict(again, flux), transfer.predict(tuned, flux))


def test_curve_has_every_strategy_and_size_with_intervals(encoder: Encoder, survey: PairedSpectra) -> None:
    labels = LabelScaler.fit(survey.labels).transform(survey.labels).astype(np.float32)
    flux = survey.nirspec.flux
    few, test = (flux[:40], labels[:40]), (flux[40:100], labels[40:100])
    options = {"sizes": (5, 20), "repeats": 2, "steps": 5, "n_resamples": 200}
    curve, rates = transfer.transfer_curve(encoder, few, test, **options)
    assert all(rates[s][n] in transfer.RATES[s] for s in transfer.STRATEGIES[1:] for n in (5, 20))
    assert list(curve) == list(transfer.STRATEGIES)
    assert list(curve["zero_shot"]) == [0]
    zero = curve["zero_shot"][0]
    assert zero.value == pytest.approx(r2_score(test[1], transfer.predict(encoder, test[0])), rel=1e-3)
    for strategy in transfer.STRATEGIES[1:]:
        assert list(curve[strategy]) == [5, 20]
        assert all(interval.low < interval.value < interval.high for interval in curve[strategy].values())
    with pytest.raises(ValueError, match="250 labelled stars were asked for, but there are 32"):  # 8 choose rates
        transfer.transfer_curve(encoder, few, test)


def test_the_learning_rate_is_the_one_that_is_best_on_stars_never_drawn(
    encoder: Encoder, survey: PairedSpectra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of the held-out fifth alone decide: if they are as the network says, the smallest steps win."""
    flux = survey.nirspec.flux[:40]
    shifted = transfer.predict(encoder, flux) + 3
    options = {"sizes": (10,), "repeats": 1, "steps": 150, "n_resamples": 50}
    usual = {strategy: transfer.RATES[strategy][1] for strategy in transfer.STRATEGIES[1:]}
    monkeypatch.setattr(transfer, "RATES", {strategy: (1e-6, rate) for strategy, rate in usual.items()})
    _, rates = transfer.transfer_curve(encoder, (flux, shifted), (flux, shifted), **options)
    assert rates == {strategy: {10: rate} for strategy, rate in usual.items()}
    held_out = shifted.copy()
    held_out[transfer.drawable(40) :] -= 3
    _, rates = transfer.transfer_curve(encoder, (flux, held_out), (flux, shifted), **options)
    assert rates == {strategy: {10: 1e-6} for strategy in usual}


def test_lower_resolution_widens_a_line_to_what_it_should_be() -> None:
    middle = np.median(NIRSPEC.wavelength)
    step = np.diff(NIRSPEC.wavelength).mean()
    line = np.zeros((1, NIRSPEC.n_pix))
    line[0, NIRSPEC.n_pix // 2] = 1
    seen = gaussian_filter1d(line, middle / NIRSPEC.resolution * SIGMA_PER_FWHM / step, axis=1)
    low = domains.lower_resolution(seen, NIRSPEC, 1500)
    x = NIRSPEC.wavelength - NIRSPEC.wavelength[NIRSPEC.n_pix // 2]
    sigma = np.sqrt((low[0] * x**2).sum() / low.sum())
    assert sigma == pytest.approx(middle / 1500 * SIGMA_PER_FWHM, rel=0.01)
    with pytest.raises(ValueError, match="must be below"):
        domains.lower_resolution(line, NIRSPEC, 5000)


def pair_sources(survey: PairedSpectra, rows: np.ndarray) -> tuple[SpectrumSource, SpectrumSource]:
    no_labels = np.zeros((len(rows), 20), np.float32)
    return tuple(SpectrumSource(spectra, rows, no_labels, CPU) for spectra in (survey.nirspec, survey.apogee))


@pytest.fixture
def two_encoders(survey: PairedSpectra, encoder: Encoder) -> tuple[Encoder, Encoder]:
    apogee = make_encoder(APOGEE, SMALL, seed=2)
    apogee.fit_scaling(torch.from_numpy(survey.apogee.flux))
    return encoder, apogee


def test_variants_train_what_they_should(survey: PairedSpectra, two_encoders: tuple[Encoder, Encoder]) -> None:
    settings = AlignParams(train=TrainParams(epochs=1, batch_size=32))
    train, val = pair_sources(survey, np.arange(96)), pair_sources(survey, np.arange(96, 128))
    before = [{k: v.clone() for k, v in e.state_dict().items()} for e in two_encoders]
    for variant in ablation.VARIANTS:
        model, history = ablation.train_variant(variant, two_encoders, train, val, settings, seed=3)
        assert history.epochs == 1
        inner = model.encoder_a.features if variant == "head" else model.encoder_a
        after = inner.state_dict()
        changed = any((after[k] != v).any() for k, v in before[0].items())
        assert changed == (variant != "head")
    for encoder, state in zip(two_encoders, before, strict=True):
        assert all((state[k] == v).all() for k, v in encoder.state_dict().items())


def test_shuffled_pairs_teach_nothing(survey: PairedSpectra, two_encoders: tuple[Encoder, Encoder]) -> None:
    """On pairs of strangers the validation loss stays at log(n), chance; on true pairs it does not."""
    settings = AlignParams(train=TrainParams(epochs=12, batch_size=40, learning_rate=1e-3), logit_scale=15.0)
    train, val = pair_sources(survey, np.arange(120)), pair_sources(survey, np.arange(120, 160))
    losses = {
        variant: min(ablation.train_variant(variant, two_encoders, train, val, settings, seed=3)[1].val_loss)
        for variant in ("full", "shuffled")
    }
    assert losses["shuffled"] > np.log(40) - 0.1
    assert losses["full"] < np.log(40) - 0.6


@pytest.fixture
def views(survey: PairedSpectra) -> tuple[scaling.Views, scaling.Views, scaling.Views]:
    rows = tuple(survey.rows(split) for split in ("train", "val", "test"))
    labels = LabelScaler.fit(survey.labels).transform(survey.labels)
    corruption = mock(CorruptionParams())
    return scaling.compressed(survey.nirspec, rows, labels, corruption, n_components=30, n_views=4, seed=1)


def test_compressed_views_are_scaled_components_of_the_mock_telescopes_views(
    survey: PairedSpectra, views: tuple[scaling.Views, ...]
) -> None:
    train, val, _ = views
    n_train, n_val = (len(survey.rows(split)) for split in ("train", "val"))
    assert train.inputs.shape == (n_train, 4, 30)
    assert val.inputs.shape == (n_val, 1, 30)
    np.testing.assert_allclose(train.inputs.mean(dim=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(train.inputs.std(dim=(0, 1), correction=0), 1, rtol=1e-3)


def test_a_training_is_repeated_with_twice_the_steps_until_that_gains_nothing(
    views: tuple[scaling.Views, ...],
) -> None:
    once = scaling.converged(40, 16, views, steps=25, doublings=0, seed=1)
    longer = scaling.converged(40, 16, views, steps=25, doublings=4, tolerance=-1e9, seed=1)
    assert (once.steps, longer.steps) == (25, 400)
    assert longer.val_error < once.val_error
    assert once.gain == np.inf
    stopped = scaling.converged(40, 16, views, steps=25, doublings=4, tolerance=1.0, seed=1)
    assert stopped.steps == 50  # no doubling lowers an error by more than all of it
    net, _ = scaling._fitted(16, scaling.Views(views[0].inputs[:3], views[0].labels[:3]), views[1], 20, 1)
    with torch.no_grad():
        error = net(views[2].inputs[:, 0]) - views[2].labels
    by_hand = sum(float(np.sqrt(np.mean(column.numpy() ** 2))) for column in error.T) / 20
    assert scaling._rmse(net, views[2]) == pytest.approx(by_hand, rel=1e-3)
    with pytest.raises(ValueError, match="900 training stars were asked for, but there are 100"):
        scaling.converged(900, 16, views, steps=5)


def test_the_noise_bound_grows_with_the_noise(survey: PairedSpectra) -> None:
    spread = survey.labels.std(axis=0)
    bounds = [
        scaling.noise_bound(
            survey, survey.rows("test"), mock(CorruptionParams(snr_min=snr, snr_max=snr)), spread, n_stars=4
        )
        for snr in (300.0, 30.0)
    ]
    assert 0 < bounds[0] < bounds[1] < 1  # never more than the population's own spread


def test_a_failed_fit_is_told_from_one_that_determines_the_exponent() -> None:
    assert scaling.PowerLaw(0.5, 0.7, 0.02, 100.0, 0.2, 0.01).determined
    assert not scaling.PowerLaw(0.5, 0.01, 0.02, 100.0, 1.87, 0.01).determined
    assert not scaling.PowerLaw(0.5, 0.7, 0.02, 100.0, 0.6, 0.01).determined
    assert not scaling.PowerLaw(0.5, 3.0, 0.02, 100.0, 0.1, 0.01).determined


def test_a_domain_smooths_before_it_corrupts(survey: PairedSpectra) -> None:
    rows, corruption = np.array([5, 2]), mock(CorruptionParams())
    for resolution, clean in (
        (None, survey.nirspec.flux[rows]),
        (1500.0, domains.lower_resolution(survey.nirspec.flux[rows], NIRSPEC, 1500.0)),
    ):
        domain = domains.Domain("mine", corruption, resolution)
        np.testing.assert_array_equal(domain.clean(survey.nirspec, rows), clean)
        expected = corruption(torch.from_numpy(clean), seeded("cpu", 8)).numpy()
        np.testing.assert_array_equal(domain.observe(survey.nirspec, rows, 8), expected)


def test_a_power_law_is_recovered_with_its_uncertainty(rng: np.random.Generator) -> None:
    n = np.array([100, 200, 400, 800, 1600, 3200, 6400.0])
    exact = fit_power_law(n, 0.02 + 0.5 * (n / 800) ** -0.7)
    assert (exact.index, exact.floor) == (pytest.approx(0.7, abs=1e-3), pytest.approx(0.02, abs=1e-3))
    np.testing.assert_allclose(exact(n), 0.02 + 0.5 * (n / 800) ** -0.7, rtol=1e-3)
    pulls = []
    for _ in range(60):
        sigma = 0.03 * exact(n)
        law = fit_power_law(n, exact(n) + sigma * rng.normal(size=len(n)), sigma)
        pulls.append((law.index - 0.7) / law.index_error)
    assert 0.6 < np.std(pulls) < 1.5
    with pytest.raises(DataError, match="at least four sizes, not 3"):
        fit_power_law(n[:3], n[:3])
