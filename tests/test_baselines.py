from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics import baselines
from starclip_lib.metrics.baselines import Inputs, Views
from starclip_lib.metrics.linear_alignment import CanonicalCorrelation, align_linearly
from starclip_lib.metrics.retrieval import ranks_between, ranks_of
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LABELS, PUBLISHED_SPREAD
from starclip_lib.settings.training import CorruptionParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.corruptions import mock
from starclip_lib.transforms.views import ViewSampler


def test_missing_pixels_are_at_the_mean(rng: np.random.Generator) -> None:
    flux = rng.uniform(0.5, 1.5, (6, APOGEE.n_pix)).astype(np.float32)
    flux[:3, 5] = flux[:, 9] = APOGEE.fill_value
    inputs = Inputs(flux, APOGEE)
    assert inputs.mean[5] == pytest.approx(flux[3:, 5].mean(), rel=1e-3)
    x = inputs(flux)
    assert (x[:3, 5] == 0).all()
    assert (x[:, 9] == 0).all()
    np.testing.assert_allclose(x[:, 100], flux[:, 100] - flux[:, 100].mean(), atol=1e-3)


def linear_problem(rng: np.random.Generator) -> tuple[Views, Views, np.ndarray, np.ndarray]:
    directions = rng.normal(size=(20, 300))
    labels = rng.normal(size=(260, 20)) * np.linspace(1, 100, 20) + 50
    x = ((labels - 50) / np.linspace(1, 100, 20) @ directions + 0.1 * rng.normal(size=(260, 300))).astype(np.float32)
    train, val = Views(x[:150], labels[:150]), Views(x[150:200], labels[150:200])
    return train, val, x[200:], labels[200:]


def test_linear_baselines_solve_a_linear_problem(rng: np.random.Generator) -> None:
    train, val, x, labels = linear_problem(rng)
    for predicted in (baselines.ridge(train, val)(x), baselines.pca_ridge(train)(x)):
        assert predicted.shape == labels.shape
        error = ((predicted - labels) ** 2).mean(axis=0) / labels.var(axis=0)
        assert error.max() < 0.02
    near = baselines.raw_neighbours(train)(train.x)
    assert (np.abs(near - train.labels) < 0.05 * train.labels.std(axis=0)).all()  # each is its own nearest neighbour


def test_simple_methods_read_every_view_of_the_test_stars(survey: PairedSpectra) -> None:
    """They learn from two views of each training star; here they are put together by hand for one of the methods."""
    telescope = ViewSampler(mock(CorruptionParams()), 3, seed=1)
    found = baselines.simple_methods(survey, telescope, seed=0)
    train, test = survey.rows("train"), survey.rows("test")
    assert {name: labels.shape for name, labels in found.items()} == dict.fromkeys(
        ("ridge", "PCA + ridge", "nearest spectra"), (3 * len(test), 20)
    )
    two = ViewSampler(telescope.corruption, 2, seed=1).views(survey.nirspec, train).reshape(-1, NIRSPEC.n_pix)
    inputs = Inputs(two, NIRSPEC)
    known = Views(inputs(two), np.repeat(survey.labels[train], 2, axis=0))
    judged = inputs(telescope.views(survey.nirspec, test).reshape(-1, NIRSPEC.n_pix))
    np.testing.assert_allclose(found["nearest spectra"], baselines.raw_neighbours(known)(judged), rtol=1e-3)
    true = np.repeat(survey.labels[test], 3, axis=0)
    for name, labels in found.items():
        error = ((labels - true) ** 2).mean(axis=0) / true.var(axis=0)
        assert error[0] < 0.7, name  # Teff: better than the mean


def test_the_section_of_metrics_has_every_label_by_name() -> None:
    rmse = dict(zip(LABELS, np.arange(1.0, 21.0), strict=True))
    limits = {"limit": np.full(20, 2.0), "limit_extended": np.full(20, 4.0)}
    section = baselines.as_metrics(
        {"ridge": {"rmse": rmse}}, limits, {"n": 3.0}, (np.array([50.0]), np.ones((1, 20))), {"cca": {}}
    )
    assert section["over_limit"]["ridge"] == {name: value / 2 for name, value in rmse.items()}
    assert section["limit_extended"] == dict.fromkeys(LABELS, 4.0)
    assert section["by_snr"] == {"snr": [50.0], "over_limit": [[1.0] * 20]}
    assert json.loads(json.dumps(section)) == section


def test_least_squares_reads_labels_off_nearly_perfect_spectra(survey: PairedSpectra) -> None:
    rows = survey.rows("test")[:2]
    noisy = survey.nirspec.flux[rows].copy()
    noisy[:, 3000:3300] = NIRSPEC.fill_value
    found = baselines.least_squares_labels(noisy, np.full(2, 5000.0), NIRSPEC)
    assert (np.abs(found - survey.labels[rows]) < 0.3 * PUBLISHED_SPREAD).all()


def test_canonical_correlations_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    shared = rng.normal(size=(2000, 2))
    a = np.concatenate([shared + 0.5 * rng.normal(size=shared.shape), rng.normal(size=(2000, 2))], axis=1)
    b = np.concatenate([rng.normal(size=(2000, 1)), shared[:, ::-1] + 0.5 * rng.normal(size=shared.shape)], axis=1)
    ours = CanonicalCorrelation(a.copy(), b.copy(), n_components=3, n_directions=2)
    x, y = CCA(2).fit_transform(a, b)
    theirs = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(2)]
    np.testing.assert_allclose(ours.correlations, theirs, atol=0.05)  # a is reduced to three components here
    u, v = (ours.directions(ours.components(x, i), i) / ours.correlations for i, x in enumerate((a, b)))
    np.testing.assert_allclose(u.T @ v / 1999, np.diag(ours.correlations), atol=1e-3)
    with pytest.raises(DataError, match="100 pairs are too few for canonical correlations of 60"):
        CanonicalCorrelation(a[:100], b[:100])


def test_several_views_of_a_star_count_as_so_many_pairs(rng: np.random.Generator) -> None:
    b = rng.normal(size=(200, 5)) * np.arange(1, 6)
    a = np.repeat(b[:, :3], 2, axis=0) + rng.normal(size=(400, 3))
    views = CanonicalCorrelation(a.copy(), b.copy(), n_components=3, n_directions=3)
    pairs = CanonicalCorrelation(a.copy(), np.repeat(b, 2, axis=0), n_components=3, n_directions=3)
    np.testing.assert_allclose(views.correlations, pairs.correlations, rtol=1e-9)
    for side, inputs in enumerate((a, b)):
        one, other = (np.abs(x.directions(x.components(inputs, side), side)) for x in (views, pairs))
        np.testing.assert_allclose(one, other, rtol=0.01, atol=1e-6)


def test_a_penalty_is_that_of_ridge_in_both_blocks(rng: np.random.Generator) -> None:
    """Canonical correlations of (S_aa + p I)^-1/2 S_ab (S_bb + p' I)^-1/2, from the covariances themselves."""
    a = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    b = a[:, :3] @ rng.normal(size=(3, 3)) + rng.normal(size=(500, 3))
    ours = CanonicalCorrelation(a.copy(), b.copy(), n_components=3, n_directions=3)
    ours.regularise(2, 2, penalty=0.3)
    parts = [x - x.mean(0) for x in (a, b)]
    scores = [x @ np.linalg.svd(x, full_matrices=False)[2][:2].T for x in parts]
    roots = []
    for x in scores:
        variance = x.T @ x / 499
        roots.append(np.diag(1 / np.sqrt(np.diag(variance) + 0.3 * variance[0, 0])))
    expected = np.linalg.svd(roots[0] @ (scores[0].T @ scores[1] / 499) @ roots[1])[1]
    np.testing.assert_allclose(ours.correlations, expected, rtol=1e-3)


def test_linear_alignment_finds_more_partners_than_chance(survey: PairedSpectra) -> None:
    found = align_linearly(survey, ViewSampler(mock(CorruptionParams()), 2, seed=1))
    n = len(survey.rows("test"))
    assert (len(found["nirspec"]), len(found["apogee"])) == (2 * n, n)
    assert (ranks_between(found["nirspec"], found["apogee"]) == 1).mean() > 5 / n


def test_apogee_at_the_resolution_of_nirspec_is_what_nirspec_sees(survey: PairedSpectra) -> None:
    """Both from the emulator at the same labels, without noise: they agree but for the shape of the line spread."""
    labels = survey.labels[:5].astype(float)
    sharp, wanted = (default_emulator()(labels, instrument) for instrument in (APOGEE, NIRSPEC))
    sharp[:, ~APOGEE.on_detector] = APOGEE.fill_value
    sharp[1, 4000:4400] = APOGEE.fill_value
    pixels, blurred, good = baselines.apogee_as_nirspec(sharp)
    assert good[0].all()
    wave = NIRSPEC.wavelength[pixels]
    lost = (wave > APOGEE.wavelength[4040]) & (wave < APOGEE.wavelength[4360])
    assert not good[1, lost].any()
    assert np.abs(blurred - wanted[:, pixels])[good].max() < 0.02
    assert np.abs(blurred - wanted[:, pixels])[good].std() < 0.3 * np.std(wanted[:, pixels] - wanted[:, pixels].mean())


def test_the_overlap_finds_partners_and_ties_those_without_common_pixels(survey: PairedSpectra) -> None:
    clean = baselines.overlap_scores(survey, ViewSampler())
    n = len(survey.rows("test"))
    assert clean["nirspec_to_apogee"]["success@1"] > 0.5
    assert (clean["nirspec_to_apogee"]["candidates"], clean["apogee_to_nirspec"]["queries"]) == (n, n)

    class Blind:
        """Sees nothing where APOGEE looks."""

        n_views = 1

        def views(self, spectra, rows: np.ndarray) -> np.ndarray:
            return np.where(NIRSPEC.wavelength > 15_000, 1, spectra.flux[rows])[:, None].astype(np.float32)

    blind = baselines.overlap_scores(survey, Blind())
    for scores in blind.values():
        assert scores["mrr"] == pytest.approx(2 / (n + 1))  # every rank is the expected one


def test_ranks_of_misfits_are_expected_ones() -> None:
    misfit = np.array([[3.0, 1.0, 2.0, 5.0], [2.0, 2.0, 2.0, 1.0], [np.inf] * 4])
    found = ranks_of(misfit, np.array(["a", "a", "b"]), np.array(["a", "b", "a", "c"]))
    assert found.tolist() == [2, 1 + 4 / 3, 5 / 2]


def test_views_at_once_are_the_views_one_by_one(survey: PairedSpectra) -> None:
    rows = np.array([3, 70, 9])
    telescope = ViewSampler(mock(CorruptionParams()), 2, seed=7)
    views = telescope.views(survey.nirspec, rows)
    assert views.shape == (3, 2, NIRSPEC.n_pix)
    np.testing.assert_array_equal(views[1:2], telescope.views(survey.nirspec, rows[1:2]))
    inputs = Inputs(views[:, 0], NIRSPEC)
    every = inputs.of_views(survey.nirspec, rows, telescope)
    np.testing.assert_array_equal(every, inputs(views.reshape(6, -1)))
    assert (
        np.abs(default_emulator()(survey.labels[rows].astype(float), NIRSPEC) - survey.nirspec.flux[rows]).max() < 1e-3
    )
