"""Densities and attenuation against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from starclip_lib.suite.attenuation import LinearFit, slope
from starclip_lib.suite.densities import (
    LEVELS,
    adaptive_densities,
    gaussian_densities,
    neighbour_densities,
)
from starclip_lib.support.errors import DataError


def test_true_gaussians_are_calibrated(rng: np.random.Generator) -> None:
    mean, sigma = rng.normal(size=4000), rng.uniform(0.5, 2, 4000)
    true = mean + sigma * rng.normal(size=4000)
    densities = gaussian_densities(mean, sigma)
    assert stats.kstest(densities.pit(true), "uniform").statistic < 0.03
    assert densities.coverage(true, 0.68) == pytest.approx(0.68, abs=0.025)
    assert densities.coverage(true, 0.95) == pytest.approx(0.95, abs=0.015)


def test_pit_of_a_gaussian_is_its_distribution_function(rng: np.random.Generator) -> None:
    true = rng.normal(size=500)
    pit = gaussian_densities(np.zeros(500), np.ones(500)).pit(true)
    inside = np.abs(true) < 2.5
    np.testing.assert_allclose(pit[inside], stats.norm.cdf(true[inside]), atol=2e-3)
    assert (pit[true > 3] == (1 + LEVELS[-1]) / 2).all()


def test_crps_of_gaussians(rng: np.random.Generator) -> None:
    mean, sigma, true = rng.normal(size=200), rng.uniform(0.1, 3, 200), rng.normal(size=200)
    z = (true - mean) / sigma  # in closed form (Gneiting et al. 2005)
    exact = sigma * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    direct = integrate.quad(lambda x: (stats.norm.cdf(x, mean[0], sigma[0]) - (x > true[0])) ** 2, -30, 30, limit=300)
    assert exact[0] == pytest.approx(direct[0], abs=1e-3)
    np.testing.assert_allclose(gaussian_densities(mean, sigma).crps(true), exact, rtol=0.02, atol=2e-3)


def test_recalibration_repairs_densities_of_the_wrong_width(rng: np.random.Generator) -> None:
    mean = rng.normal(size=6000)
    true = mean + rng.normal(size=6000)
    narrow = gaussian_densities(mean[:3000], np.full(3000, 0.5))
    assert narrow.coverage(true[:3000], 0.68) < 0.45
    pit = gaussian_densities(mean[3000:], np.full(3000, 0.5)).pit(true[3000:])
    repaired = narrow.recalibrated(pit)
    assert repaired.coverage(true[:3000], 0.68) == pytest.approx(0.68, abs=0.03)
    assert repaired.crps(true[:3000]).mean() < narrow.crps(true[:3000]).mean()


def test_neighbours_values_are_the_density(rng: np.random.Generator) -> None:
    known = np.array([[0.0], [0.1], [0.2], [9.0]])
    values = np.array([1.0, 2.0, 3.0, 100.0])
    density = neighbour_densities(np.array([[0.1]]), known, values, 3)
    assert density.quantiles[0, len(LEVELS) // 2] == 2
    assert (density.quantiles.min(), density.quantiles.max()) == (1, 3)
    moved = neighbour_densities(np.array([[0.1]]), known, values, 3, centre=np.array([10.0]))
    np.testing.assert_allclose(moved.quantiles, density.quantiles + 10)
    with pytest.raises(DataError, match="5 neighbours were asked for among 4"):
        neighbour_densities(np.zeros((1, 1)), known, values, 5)


def test_few_neighbours_where_the_label_changes_fast_many_where_it_does_not(rng: np.random.Generator) -> None:
    """The label is steep for x < 0 and flat with noise for x > 0; k follows, and the densities are calibrated."""

    def labels(x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, 60 * x, 0) + rng.normal(size=len(x))

    known, calibration, new = (rng.uniform(-1, 1, n) for n in (4000, 2000, 1000))
    values, true_c, true = labels(known), labels(calibration), labels(new)
    densities, k = adaptive_densities(
        new[:, None], known[:, None], values, (calibration[:, None], true_c), choices=(8, 32, 128, 512)
    )
    assert np.median(k[new < -0.1]) < np.median(k[new > 0.1])
    assert densities.coverage(true, 0.68) == pytest.approx(0.68, abs=0.06)


def noisy(rng: np.random.Generator, n: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, 1))
    return x + sigma * rng.normal(size=x.shape), 3 + 2 * x


def test_one_noisy_input_attenuates_as_the_formula_says(rng: np.random.Generator) -> None:
    x, y = noisy(rng, 40_000, 0.8)
    new, true = noisy(rng, 40_000, 0.8)
    plain, corrected = LinearFit(x, y), LinearFit(x, y, 0.64)
    assert slope(true, plain.predict(new))[0] == pytest.approx(1 / (1 + 0.64), rel=0.02)  # signal over signal + noise
    assert slope(true, corrected.predict(new))[0] == pytest.approx(1, rel=0.02)
    assert corrected.weights[0, 0] == pytest.approx(2, rel=0.02)


def test_without_noise_it_is_least_squares(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    fit = LinearFit(x, y)
    design = np.column_stack([np.ones(50), x])
    expected = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(fit.predict(x), expected, atol=1e-10)


def test_more_noise_than_signal_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="the noise is larger than the signal"):
        LinearFit(rng.normal(size=(100, 2)), np.zeros((100, 1)), 2.0)
