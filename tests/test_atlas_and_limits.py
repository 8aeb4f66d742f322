from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from starclip_lib.data.simulate import perturb
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.fisher import (
    bounds,
    cramer_rao,
    flux_responses,
    gap_cost,
    information,
    information_density,
    median_bound,
    rms_bound,
)
from starclip_lib.metrics.atlas import principal_components, thin, umap_map
from starclip_lib.metrics.ideal import (
    IdealMatcher,
    catalogue_covariance,
    draw_true_labels,
    ideal_retrieval,
    ideal_scores,
    without_errors,
)
from starclip_lib.metrics.view_information import ViewInformation, snr_from_ivar, view_information
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.physics.labels import ASPCAP_ERROR, FE, LABELS, PUBLISHED_SPREAD
from starclip_lib.support.errors import DataError


def test_principal_components_are_the_singular_vectors(rng: np.random.Generator) -> None:
    z = rng.normal(size=(100, 5)) * [5, 3, 2, 1, 0.5]
    xy, fractions = principal_components(z)
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(fractions, s**2 / (s**2).sum())
    np.testing.assert_allclose(np.abs(xy), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    with pytest.raises(DataError, match="needs more than 2 points, 2 given"):
        principal_components(z[:2])


def test_umap_says_when_there_are_too_few_points() -> None:
    with pytest.raises(DataError, match="UMAP with 15 neighbours needs more points than that, 10 given"):
        umap_map(np.ones((10, 3)), 15, 0.1, 0)


def test_thinning_is_seeded_and_bounded() -> None:
    points = Embeddings(np.ones((50, 2)), np.arange(50), np.arange(50), np.arange(50))
    assert (thin(points, 20, 1) == thin(points, 20, 1)).all()
    assert len(thin(points, 20, 1)) == len(set(thin(points, 20, 1))) == 20
    assert thin(points, 99, 1).tolist() == list(range(50))


@pytest.fixture
def star(survey) -> np.ndarray:
    return survey.labels[4].astype(float)


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_bound_of_each_label_is_what_is_left_of_its_gradient(instrument, star: np.ndarray) -> None:
    """An independent way to the same bound: project a gradient off all others; 1 / (SNR |rest|) is the error."""
    emulator, snr = default_emulator(), 80.0
    flux = emulator(star[None], instrument)[0].astype(float)
    wave = instrument.wavelength
    x = 2 * np.arange(len(wave)) / (len(wave) - 1) - 1
    nuisance = [flux * x**k for k in range(9)] + [np.gradient(flux, wave) * wave / SPEED_OF_LIGHT]
    rows = np.concatenate([emulator.gradient(star, instrument), nuisance])[:, instrument.on_detector].astype(float)
    bound = cramer_rao(emulator, star, instrument, snr)
    for i in range(20):
        others = np.delete(rows, i, axis=0)
        others = others / np.linalg.norm(others, axis=1, keepdims=True)
        rest = rows[i] - others.T @ np.linalg.lstsq(others.T, rows[i], rcond=1e-13)[0]
        assert bound[i] == pytest.approx(1 / (snr * np.linalg.norm(rest)), rel=1e-3), LABELS[i]


def test_bound_falls_with_snr_and_grows_with_every_nuisance(star: np.ndarray) -> None:
    emulator = default_emulator()
    low, high = (cramer_rao(emulator, star, NIRSPEC, snr) for snr in (50.0, 100.0))
    np.testing.assert_allclose(low, 2 * high, rtol=1e-9)
    assert (cramer_rao(emulator, star, NIRSPEC, 100.0, continuum_degree=2) <= high * (1 + 1e-9)).all()
    missing = (NIRSPEC.wavelength > 12000) & (NIRSPEC.wavelength < 12374)
    assert (cramer_rao(emulator, star, NIRSPEC, 100.0, missing=missing) >= high * (1 - 1e-9)).all()


def test_labels_that_cannot_be_told_apart_are_named(star: np.ndarray) -> None:
    few = np.ones(NIRSPEC.n_pix, bool)
    few[:12] = False
    with pytest.raises(DataError, match="NIRSpec: the pixels left cannot tell apart"):
        cramer_rao(default_emulator(), star, NIRSPEC, 100.0, missing=few)


def test_a_label_without_a_trace_has_an_infinite_bound_and_with_a_prior_that_of_the_prior(star: np.ndarray) -> None:
    nothing = np.ones(NIRSPEC.n_pix, bool)
    assert np.isinf(cramer_rao(default_emulator(), star, NIRSPEC, 100.0, missing=nothing)).all()
    prior = np.diag(PUBLISHED_SPREAD**2)
    np.testing.assert_allclose(bounds(np.zeros((20, 20)), NIRSPEC, prior), PUBLISHED_SPREAD)
    half = np.eye(20)
    half[3, 3] = 0
    assert np.flatnonzero(np.isinf(bounds(half, NIRSPEC))).tolist() == [3]
    np.testing.assert_allclose(bounds(np.eye(20), NIRSPEC, prior), PUBLISHED_SPREAD / np.sqrt(2))


def test_information_of_independent_spectra_adds_up(star: np.ndarray) -> None:
    one = information(default_emulator(), star, NIRSPEC, 50.0)
    np.testing.assert_allclose(bounds(4 * one, NIRSPEC), bounds(one, NIRSPEC) / 2)
    np.testing.assert_allclose(information(default_emulator(), star, NIRSPEC, 100.0), 4 * one, rtol=1e-6)


def test_gradients_agree_with_central_differences(star: np.ndarray) -> None:
    emulator = default_emulator()
    gradient = emulator.gradient(star, NIRSPEC)
    for i, step in ((0, 4.0), (1, 0.02), (FE, 0.01), (19, 0.01)):
        change = np.zeros(20)
        change[i] = step
        up, down = emulator((star + change)[None], NIRSPEC)[0], emulator((star - change)[None], NIRSPEC)[0]
        difference = (up.astype(float) - down) / (2 * step)
        assert np.abs(difference - gradient[i]).max() < 0.02 * np.abs(gradient[i]).max()


def test_the_line_width_as_a_nuisance_is_a_derivative_by_broadening(star: np.ndarray) -> None:
    """Broadening by 1 % must lie along the nuisance, so an error in the width costs information on every label."""
    flux = default_emulator()(star[None], NIRSPEC)[0].astype(float)
    sigma = np.median(NIRSPEC.wavelength / NIRSPEC.resolution) * SIGMA_PER_FWHM / np.diff(NIRSPEC.wavelength).mean()
    k = 2 * np.pi * np.fft.rfftfreq(NIRSPEC.n_pix)  # the kernel is narrower than a pixel, so in Fourier space
    broader = np.fft.irfft(np.fft.rfft(flux) * np.exp(-0.5 * sigma**2 * (1.02**2 - 1) * k**2), NIRSPEC.n_pix)
    derivative = flux_responses(default_emulator(), star, NIRSPEC, 2, line_width=True)[-1]
    middle = slice(3800, 4400)  # where the width is that of the middle
    change = (broader - flux)[middle]
    assert np.corrcoef(change, derivative[middle])[0, 1] > 0.99
    assert np.polyfit(derivative[middle], change, 1)[0] == pytest.approx(0.02, rel=0.15)
    known, free = (cramer_rao(default_emulator(), star, NIRSPEC, 100.0, line_width=w) for w in (False, True))
    assert (free >= known * (1 - 1e-9)).all()
    assert free[1] > known[1]


def test_information_density_integrates_to_the_information_of_a_label_alone(star: np.ndarray) -> None:
    density = information_density(default_emulator(), star, NIRSPEC, 100.0)
    gradient = default_emulator().gradient(star, NIRSPEC) * PUBLISHED_SPREAD[:, None] * 100
    total = (density * np.gradient(NIRSPEC.wavelength)).sum(axis=1)
    np.testing.assert_allclose(total, (gradient[:, NIRSPEC.on_detector] ** 2).sum(axis=1), rtol=1e-3)


def test_a_gap_never_helps(star: np.ndarray) -> None:
    cost = gap_cost(default_emulator(), star[None], NIRSPEC, np.array([11000.0, 15000.0]), 374.0)
    assert cost.shape == (2, 20)
    assert (cost >= 1 - 1e-9).all()
    assert cost.max() > 1.02


def test_catalogue_errors_have_the_covariance_with_which_they_are_drawn(rng: np.random.Generator) -> None:
    labels = np.zeros((100_000, 20))
    drawn = perturb(labels, np.tile(ASPCAP_ERROR, (100_000, 1)), rng)
    expected = catalogue_covariance()
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(np.cov(drawn.T) / scale, expected / scale, atol=0.015)


def test_the_ideal_matcher_is_right_as_often_as_the_bayes_factor_allows(rng: np.random.Generator) -> None:
    """Two stars at a distance d in one label, known to sigma from both sides: wrong with probability Phi(-d / 2 sigma).

    (The difference of the two squared distances is Gaussian.)
    """
    spread, trials, wrong = PUBLISHED_SPREAD, 3000, 0
    prior = np.diag(spread**2) * 1e4
    info = np.full((2, 1, 1), 1.0) * np.eye(20)  # sigma = one spread in every label
    labels = np.zeros((2, 20))
    labels[1, 4] = 2 * spread[4]
    for _ in range(trials):
        sure = np.tile(np.eye(20) * 1e8, (2, 1, 1))
        matcher = IdealMatcher((labels, info), (labels, sure), np.zeros((20, 20)), (np.zeros(20), prior), rng)
        wrong += matcher.ranks(np.array([0, 1]), np.array([0, 1]))[0] > 1
    assert wrong / trials == pytest.approx(norm.cdf(-1), abs=0.02)


def test_the_ideal_matcher_is_perfect_without_noise_and_at_chance_without_information(survey, rng) -> None:
    labels = survey.labels[:40].astype(float)
    population = labels.mean(axis=0), np.cov(survey.labels.T.astype(float))
    star = np.arange(40)
    for info, least, most in ((1e8, 1, 1), (0, 0, 0.2)):
        matrices = np.tile(np.eye(20) * info, (40, 1, 1))
        matcher = IdealMatcher((labels, matrices), (labels, matrices), np.zeros((20, 20)), population, rng)
        for backwards in (False, True):
            some = matcher.ranks(star, star, np.array([5, 9]), backwards=backwards)
            np.testing.assert_array_equal(some, matcher.ranks(star, star, backwards=backwards)[[5, 9]])
            assert least <= (matcher.ranks(star, star, backwards=backwards) == 1).mean() <= most


def test_ideal_scores_ask_for_all_views_of_some_stars(survey, rng) -> None:
    labels = survey.labels[:30].astype(float)
    views, star = np.repeat(labels, 2, axis=0), np.arange(30) * 7
    population = labels.mean(axis=0), np.cov(survey.labels.T.astype(float))
    info = [np.tile(np.eye(20) * 4.0, (n, 1, 1)) for n in (60, 30)]
    matcher = IdealMatcher((views, info[0]), (labels, info[1]), np.zeros((20, 20)), population, rng)
    there, back = ideal_scores(matcher, np.repeat(star, 2), star, 12)
    assert (there["queries"], there["candidates"], back["queries"], back["candidates"]) == (24, 30, 12, 60)
    ranks = matcher.ranks(np.repeat(star, 2), star)[:24]
    assert there["success@1"] == (ranks == 1).mean()
    assert there["mrr"] == pytest.approx((1 / ranks).mean())
    assert back["mrr"] == pytest.approx((1 / matcher.ranks(np.repeat(star, 2), star, backwards=True)[:12]).mean())


@pytest.fixture
def errors() -> np.ndarray:
    """Covariance of large catalogue errors."""
    return catalogue_covariance(0.5 * PUBLISHED_SPREAD)


def test_bayes_factors_between_catalogue_and_truth_are_those_of_joint_gaussians(errors, survey, rng) -> None:
    labels, scale = survey.labels[:6].astype(float), np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
    population = labels.mean(axis=0), np.cov(survey.labels.T.astype(float))
    info = [np.array([np.diag(rng.uniform(1, 50, 20)) for _ in range(3)]) for _ in range(2)]
    matcher = IdealMatcher((labels[:3], info[0]), (labels[3:], info[1]), errors, population, rng)
    prior, mean = population[1] / scale, population[0] / PUBLISHED_SPREAD
    noise = [np.linalg.inv(x + np.linalg.inv(100 * prior)) for x in info]
    for i in range(3):
        for j in range(3):
            x, y = matcher.estimates[0][i], matcher.estimates[1][j]
            one, two = prior + errors / scale + noise[0][i], prior + noise[1][j]
            joint = multivariate_normal(np.tile(mean, 2), np.block([[one, prior], [prior, two]]))
            expected = joint.logpdf(np.concatenate([x, y]))
            expected -= multivariate_normal(mean, one).logpdf(x) + multivariate_normal(mean, two).logpdf(y)
            assert matcher.log_factor(i)[j] == pytest.approx(expected, rel=1e-3, abs=1e-3)
            assert matcher.log_factor(j, backwards=True)[i] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_catalogue_errors_alone_make_the_matcher_as_wrong_as_they_should(rng: np.random.Generator) -> None:
    """Two stars at a distance d, known exactly but for an error s of one label on one side: wrong in Phi(-d / 2 s)."""
    spread, wrong, trials = PUBLISHED_SPREAD, 0, 2000
    extra, sure = np.diag(np.full(20, 1e-6) * spread**2), np.tile(np.eye(20) * 1e8, (2, 1, 1))
    extra[4, 4] = spread[4] ** 2
    truth = np.zeros((2, 20))
    truth[1, 4] = 2 * spread[4]
    for _ in range(trials):
        catalogue = truth + rng.multivariate_normal(np.zeros(20), extra, 2)
        population = np.zeros(20), np.diag(spread**2) * 1e4
        matcher = IdealMatcher((catalogue, sure), (truth, sure), extra, population, rng)
        wrong += matcher.ranks(np.array([0, 1]), np.array([0, 1]))[0] > 1
    assert wrong / trials == pytest.approx(norm.cdf(-1), abs=0.03)


def test_true_labels_are_drawn_as_they_may_be_given_the_catalogue(errors, rng: np.random.Generator) -> None:
    mean, true = PUBLISHED_SPREAD, np.diag(PUBLISHED_SPREAD**2) + 0.5 * np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
    np.testing.assert_allclose(without_errors(true + errors, errors), true)
    catalogue = rng.multivariate_normal(mean, true + errors, 40_000)
    drawn = draw_true_labels(catalogue, np.broadcast_to(errors, (40_000, 20, 20)), (mean, true), rng)
    scale = np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
    np.testing.assert_allclose(np.cov(drawn.T) / scale, true / scale, atol=0.04)
    np.testing.assert_allclose(np.cov((catalogue - drawn).T) / scale, errors / scale, atol=0.04)
    exact = draw_true_labels(catalogue[:5], np.zeros((5, 20, 20)), (mean, true), rng)
    np.testing.assert_allclose(exact, catalogue[:5], rtol=1e-6, atol=1e-6)


def test_pairs_between_instruments_differ_by_the_errors_of_the_catalogue(survey: PairedSpectra) -> None:
    """Spectra without noise: between instruments the errors decide, between mock and extended mock nothing does."""
    rows, sure = survey.rows("test"), np.tile(np.eye(20) * 1e8, (len(survey.rows("test")), 1, 1, 1))
    side = ViewInformation(rows, survey.labels[rows].astype(float), sure, np.full((len(rows), 1), 1e4))
    shares = {}
    for factor in (0.0, 1.0, 30.0):
        wrong = replace(survey, label_errors=factor * survey.label_errors)
        found = ideal_retrieval(wrong, side, side, side, len(rows), seed=1)
        assert found["mock_to_extended"]["success@1"] == found["extended_to_mock"]["success@1"] == 1
        shares[factor] = found["nirspec_to_apogee"]["success@1"]
    assert shares[0.0] == 1
    assert shares[30.0] < 0.5


def test_noise_is_read_from_the_inverse_variances(survey: PairedSpectra) -> None:
    rows = np.array([3, 9])
    expected = np.sqrt(survey.apogee.ivar[rows].max(axis=1))  # one value a star, 0 where there is no data
    np.testing.assert_allclose(snr_from_ivar(survey.apogee, rows, 1.0), expected, rtol=1e-6)
    assert snr_from_ivar(survey.nirspec, rows, 77.0).tolist() == [77, 77]


def test_views_have_the_information_of_their_own_noise_and_gaps(survey: PairedSpectra, star: np.ndarray) -> None:
    flux = np.full((1, 2, NIRSPEC.n_pix), 0.9)
    flux[0, 1, 2000:2400] = NIRSPEC.fill_value
    info = view_information(default_emulator(), star[None], flux, np.array([[50.0, 80.0]]), NIRSPEC)
    missing = np.zeros(NIRSPEC.n_pix, bool)
    missing[2000:2400] = True
    np.testing.assert_allclose(info[0, 0], information(default_emulator(), star, NIRSPEC, 50.0))
    np.testing.assert_allclose(info[0, 1], information(default_emulator(), star, NIRSPEC, 80.0, missing=missing))
    both = np.sqrt((bounds(info[0, 0], NIRSPEC) ** 2 + bounds(info[0, 1], NIRSPEC) ** 2) / 2)
    np.testing.assert_allclose(rms_bound(info[0], NIRSPEC), both)


def test_median_bound_has_every_label(survey) -> None:
    bounds = median_bound(default_emulator(), survey.labels[:3].astype(float), NIRSPEC, 100.0)
    assert list(bounds) == list(LABELS)
    assert all(np.isfinite(value) and value > 0 for value in bounds.values())
