"""Each statistic of the judge against a closed form, another library, or a case whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.training import CorruptionParams
from starclip_lib.suite import benchmark, pairs, strata
from starclip_lib.suite.resampling import (
    Interval,
    bootstrap,
    difference,
    intervals,
    mean_statistic,
    numbers_of,
    r2_statistic,
    star_weights,
)
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.corruptions import mock
from starclip_lib.transforms.views import ViewSampler, measured_snr


def test_weights_are_draws_of_whole_stars() -> None:
    weights = star_weights(30, 400, seed=1)
    assert weights.shape == (400, 30)
    assert (weights.sum(axis=1) == 30).all()
    assert weights.var() == pytest.approx(1 - 1 / 30, rel=0.1)  # binomial
    assert (weights == star_weights(30, 400, seed=1)).all()


def test_bootstrap_of_a_mean_agrees_with_scipy(rng: np.random.Generator) -> None:
    x = rng.normal(size=200)
    ours = intervals(mean_statistic(x, np.arange(200)), 200, n_resamples=8000)[0]
    theirs = stats.bootstrap((x,), np.mean, method="percentile", n_resamples=8000, rng=1).confidence_interval
    assert ours.value == pytest.approx(x.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_the_interval_covers_the_truth_as_often_as_it_says(rng: np.random.Generator) -> None:
    """95 % intervals of the mean of 60 Gaussian stars with three equal views each, 400 times: 95 % within 3 sigma."""
    star = np.repeat(np.arange(60), 3)
    hits = 0
    for seed in range(400):
        x = np.repeat(rng.normal(size=60), 3)
        interval = intervals(mean_statistic(x, star), 60, n_resamples=400, seed=seed)[0]
        hits += interval.low <= 0 <= interval.high
    assert 0.90 < hits / 400 < 0.98  # the percentile bootstrap of 60 is a little too narrow


def test_views_of_a_star_do_not_make_the_interval_narrower(rng: np.random.Generator) -> None:
    x, star = rng.normal(size=100), np.arange(100)
    once = intervals(mean_statistic(x, star), 100)[0]
    five_times = intervals(mean_statistic(np.repeat(x, 5), np.repeat(star, 5)), 100)[0]
    assert five_times.high - five_times.low == pytest.approx(once.high - once.low, rel=1e-9)


def test_r2_of_weighted_stars_is_that_of_repeated_ones(rng: np.random.Generator) -> None:
    true = rng.normal(size=(40, 3)) + np.array([4500.0, 0, 2])
    predicted = true + 0.3 * rng.normal(size=true.shape)
    star = np.repeat(np.arange(20), 2)
    statistic = r2_statistic(true, predicted, star)
    weights = star_weights(20, 5, seed=3)
    for row, values in zip(weights, statistic(weights), strict=True):
        rows = np.concatenate([np.flatnonzero(star == s) for s in np.repeat(np.arange(20), row)])
        np.testing.assert_allclose(values, r2_score(true[rows], predicted[rows], multioutput="raw_values"))


def test_a_paired_difference_is_narrower_than_two_intervals(rng: np.random.Generator) -> None:
    true = rng.normal(size=(300, 1))
    shared = rng.normal(size=true.shape)
    a, b = true + 0.5 * shared, true + 0.5 * shared + 0.1 * rng.normal(size=true.shape)
    star = np.arange(300)
    first, second = r2_statistic(true, a, star), r2_statistic(true, b, star)
    paired = intervals(difference(first, second), 300)[0]
    assert not paired.low <= 0 <= paired.high
    alone = intervals(first, 300)[0]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    nothing = intervals(difference(first, first), 300)[0]
    assert (nothing.low, nothing.high) == (0, 0)


def test_the_bootstrap_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    x = mean_statistic(rng.normal(size=50), np.arange(50))
    whole = bootstrap(x, 50, n_resamples=100)
    monkeypatch.setattr("starclip_lib.suite.resampling._BLOCK_VALUES", 350)
    np.testing.assert_allclose(bootstrap(x, 50, n_resamples=100), whole)


def test_one_star_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two stars"):
        star_weights(1, 100, seed=0)


def test_intervals_are_shown_and_saved() -> None:
    interval = Interval(0.5, 0.4, 0.6)
    assert str(interval) == "0.500 [0.400, 0.600]"
    assert interval.as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6}


def test_stars_are_numbered_by_name() -> None:
    number, count = numbers_of(np.array(["b", "a", "b"]))
    assert (number.tolist(), count) == ([1, 0, 1], 2)


def test_linear_and_neighbour_probes_match_their_definitions(rng: np.random.Generator) -> None:
    z, new = rng.normal(size=(80, 3)), rng.normal(size=(10, 3))
    labels = z @ rng.normal(size=(3, 2)) + 5
    np.testing.assert_allclose(benchmark.fit_regressor("linear", z, labels).predict(z), labels, atol=1e-10)
    knn = benchmark.fit_regressor("knn", z, labels, neighbours=1)
    scaled = (new - z.mean(0)) / z.std(0), (z - z.mean(0)) / z.std(0)
    nearest = np.linalg.norm(scaled[0][:, None] - scaled[1], axis=2).argmin(axis=1)
    np.testing.assert_allclose(knn.predict(new), labels[nearest])


def test_only_the_network_reads_what_is_not_linear(rng: np.random.Generator) -> None:
    z = rng.normal(size=(2000, 2))
    labels = np.stack([np.abs(z[:, 0]), z[:, 1]], axis=1)
    scores = {
        kind: r2_score(labels[1500:, 0], benchmark.fit_regressor(kind, z[:1500], labels[:1500]).predict(z[1500:])[:, 0])
        for kind in benchmark.KINDS
    }
    assert scores["linear"] < 0.1
    assert min(scores["mlp"], scores["knn"]) > 0.9


def test_a_probe_needs_enough_spectra(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="'linear' on 21 dimensions needs at least 23 spectra, not 20"):
        benchmark.fit_regressor("linear", rng.normal(size=(20, 21)), np.zeros((20, 2)))


def test_views_are_probed_star_by_star(survey: PairedSpectra, rng: np.random.Generator) -> None:
    """The views' vectors are the labels, turned and shifted: a linear probe reads them without error."""
    turn = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    z = ((survey.labels - survey.labels.mean(0)) / survey.labels.std(0) @ turn + 3)[:, None]
    every = as_embeddings(np.repeat(z, 2, axis=1), survey.star_id, survey.split)
    probed = benchmark.probe_views("linear", every, survey)
    assert probed.star_id.tolist() == np.repeat(survey.star_id[survey.rows("test")], 2).tolist()
    np.testing.assert_array_equal(probed.true, survey.labels_of(probed.star_id))
    np.testing.assert_allclose(probed.error / survey.labels.std(0), 0, atol=1e-4)
    np.testing.assert_allclose(probed.train_r2, 1)
    with pytest.raises(DataError, match="no training or no test stars"):
        benchmark.probe_views("linear", every.take("train", "val"), survey)


def test_noise_and_gap_are_measured_back(rng: np.random.Generator) -> None:
    clean = 1 - 0.2 * rng.random((4, NIRSPEC.n_pix))
    snr = np.array([30.0, 80, 150, 300])
    seen = clean * 1.01 + rng.normal(size=clean.shape) / snr[:, None]
    seen[:, 3000:3300] = seen[:, 7900:] = seen[:, :100] = NIRSPEC.fill_value
    seen[1, 500:510] = NIRSPEC.fill_value  # some dead pixels are no gap
    seen[3, 100:7900] = clean[3, 100:7900]
    seen[3, 100:7900] += rng.normal(size=7800) / 300
    np.testing.assert_allclose(measured_snr(clean, seen, NIRSPEC.fill_value), snr, rtol=0.05)
    start = strata.gap_start(seen, NIRSPEC.wavelength, NIRSPEC.fill_value)
    np.testing.assert_allclose(start[:3], NIRSPEC.wavelength[3000])
    assert np.isnan(start[3])


def test_conditions_of_views_are_those_of_each_view(survey: PairedSpectra) -> None:
    telescope, rows = ViewSampler(mock(CorruptionParams()), 2, seed=5), np.array([33, 4, 90])
    snr, gap = strata.view_conditions(survey.nirspec, rows, telescope)
    views, expected = telescope.views_and_snr(survey.nirspec, rows)
    np.testing.assert_allclose(snr, expected, rtol=1e-6)
    for view in range(2):
        start = strata.gap_start(views[:, view], NIRSPEC.wavelength, NIRSPEC.fill_value)
        np.testing.assert_array_equal(gap[:, view], start)


def test_crowded_places_have_more_neighbours(rng: np.random.Generator) -> None:
    known = np.concatenate([0.01 * rng.normal(size=(200, 2)), 10 + rng.normal(size=(200, 2))])
    counts = strata.neighbour_count(np.array([[0.0, 0], [10, 10], [90, 90]]), known)
    assert counts[0] == 200
    assert 0 < counts[1] < 100
    assert counts[2] == 0


def test_strata_hold_each_view_once_and_their_own_error(rng: np.random.Generator) -> None:
    condition = rng.random(1000)
    error = np.where(condition < 0.5, 1.0, 3.0)
    star = np.repeat(np.arange(200).astype(str), 5)
    bins = strata.stratified(error**2, star, condition, n_bins=4)
    assert sum(b.views for b in bins) == 1000
    assert [round(b.rmse.value) for b in bins] == [1, 1, 3, 3]
    condition[:10] = np.nan
    assert sum(b.views for b in strata.stratified(error**2, star, condition, n_bins=4)) == 990
    by = strata.by_condition(np.tile(error[:, None], 20), star, {"SNR": condition}, ("Fe",), n_bins=4)
    saved = strata.as_dict(by)["SNR"]["Fe"]
    assert [round(b["rmse"]["value"]) for b in saved] == [1, 1, 3, 3]
    assert sum(b["views"] for b in saved) == 990


def random_pairs(rng: np.random.Generator, n: int = 300, views: int = 2) -> tuple[Embeddings, Embeddings]:
    star = np.array([f"s{i:03d}" for i in range(n)])
    z = rng.normal(size=(n, 8))
    a = Embeddings(
        np.repeat(z, views, axis=0), np.repeat(star, views), np.tile(np.arange(views), n), np.zeros(n * views)
    )
    return a, Embeddings(z.copy(), star, np.zeros(n, int), np.zeros(n))


def test_top_percent_of_queries_at_every_place_is_the_percentage() -> None:
    """Fifty candidates on an arc, and one query at its end for each: their ranks are 1 to 50."""
    angle = np.linspace(0, 1.5, 50)
    z, star = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([f"s{i:02d}" for i in range(50)])
    candidates = Embeddings(z, star, np.zeros(50, int), np.zeros(50))
    queries = replace(candidates, z=np.repeat(z[:1], 50, axis=0))
    np.testing.assert_allclose(pairs.top_percent_curve(queries, candidates)[0], np.array(pairs.PERCENTS) / 100)
    first = pairs.top_percent_curve(candidates, candidates, percents=(2.0, 1.0))[0]  # half a candidate counts half
    assert first.tolist() == [1, 0.5]


def test_shuffled_pairs_are_at_chance_and_true_ones_are_not(rng: np.random.Generator) -> None:
    a, b = random_pairs(rng)
    true, _, _ = pairs.top_percent_curve(a, b, percents=(1.0, 10.0))
    assert (true == 1).all()
    mixed = pairs.shuffled(b, seed=4)
    assert not (mixed.star_id == b.star_id).any()
    assert sorted(mixed.star_id) == sorted(b.star_id)
    _, low, high = pairs.top_percent_curve(a, mixed, percents=(1.0, 10.0))
    assert (low <= np.array([0.01, 0.1]) + 0.004).all()
    assert (high >= np.array([0.01, 0.1]) - 0.004).all()
