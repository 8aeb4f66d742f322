"""Intervals by bootstrap: stars are resampled with all their views, never single views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_BLOCK_VALUES = 20_000_000  # numbers of stars times resamples held at once, 160 MB


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its bootstrap interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """As `metrics.json` holds it."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


WeightedStatistic = Callable[[np.ndarray], np.ndarray]  # weights of the stars (b, n) -> values (b, ...)


def star_weights(n_stars: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each star is drawn in each resample: (n_resamples, n_stars) counts, each row summing to n_stars."""
    if n_stars < 2 or n_resamples < 2:
        raise ValueError(f"need at least two stars and two resamples, got {n_stars} and {n_resamples}")
    return np.random.default_rng(seed).multinomial(n_stars, np.full(n_stars, 1 / n_stars), size=n_resamples)


def bootstrap(
    statistic: WeightedStatistic, n_stars: int, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Percentile interval of a statistic of stars (Efron and Tibshirani 1993, chapter 13).

    The same seed draws the same stars, so a statistic that is a difference of two models is a paired one.
    """
    estimate = statistic(np.ones((1, n_stars)))[0]
    step = max(1, _BLOCK_VALUES // n_stars)
    weights = star_weights(n_stars, n_resamples, seed).astype(float)
    values = np.concatenate([statistic(weights[i : i + step]) for i in range(0, n_resamples, step)])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return estimate, low, high


def intervals(statistic: WeightedStatistic, n_stars: int, **options: Any) -> list[Interval]:
    """`bootstrap` of a statistic with values (b, m), as m intervals."""
    return [Interval(*map(float, ends)) for ends in zip(*bootstrap(statistic, n_stars, **options), strict=True)]


def mean_statistic(values: np.ndarray, star: np.ndarray) -> WeightedStatistic:
    """Mean over the views of the weighted stars."""
    columns = values.reshape(len(values), -1)
    total, count = _by_star(columns, star), _by_star(np.ones((len(star), 1)), star)
    return lambda weights: (weights @ total) / (weights @ count)


def r2_statistic(true: np.ndarray, predicted: np.ndarray, star: np.ndarray) -> WeightedStatistic:
    """Coefficient of determination of each label (equation 4.2), (b, k), where the views of weighted stars count."""
    centre = true.mean(axis=0)  # keeps the sums of squares from cancelling
    y = true - centre
    count = _by_star(np.ones((len(star), 1)), star)
    first, second, residual = (_by_star(x, star) for x in (y, y**2, (predicted - true) ** 2))

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights @ second - (weights @ first) ** 2 / (weights @ count)
        return 1 - (weights @ residual) / total

    return statistic


def difference(a: WeightedStatistic, b: WeightedStatistic) -> WeightedStatistic:
    """The statistic a - b on the same stars: a paired difference."""
    return lambda weights: a(weights) - b(weights)


def numbers_of(star_id: np.ndarray) -> tuple[np.ndarray, int]:
    """Star numbers (m,) from 0, and how many stars there are, of the identifiers of views."""
    stars, number = np.unique(star_id, return_inverse=True)
    return number, len(stars)


def _by_star(values: np.ndarray, star: np.ndarray) -> np.ndarray:
    out = np.zeros((int(star.max()) + 1, values.shape[1]))
    np.add.at(out, star, values)
    return out
