"""How well two instruments are aligned: whether a classifier tells them apart, and whether neighbours are the same."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from starclip_lib.metrics.similarity import SimilarityIndex
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.suite.resampling import Interval, WeightedStatistic, intervals, mean_statistic
from starclip_lib.support.errors import DataError

_FEWEST = 20  # stars


def _paired(a: Embeddings, b: Embeddings) -> tuple[np.ndarray, np.ndarray]:
    """First views of the stars that both have, in the same order."""
    first_a, first_b = a.of_view(0), b.of_view(0)
    _, row_a, row_b = np.intersect1d(first_a.star_id, first_b.star_id, return_indices=True)
    if len(row_a) < _FEWEST:
        raise DataError(f"{len(row_a)} stars are seen by both instruments, too few to compare neighbourhoods")
    return first_a.z[row_a].astype(np.float64), first_b.z[row_b].astype(np.float64)


def leakage(a: Embeddings, b: Embeddings, *, n_resamples: int = 500, seed: int = 0) -> Interval:
    """Share of embeddings whose instrument boosted trees can tell: 0.5 is perfect alignment, 1 is none.

    Each is judged by trees that have not seen its star (five folds).
    """
    x, y = _paired(a, b)
    n = len(x)
    wanted, star = np.repeat([0, 1], n), np.tile(np.arange(n), 2)
    trees = HistGradientBoostingClassifier(random_state=seed, max_iter=100)
    told = cross_val_predict(trees, np.concatenate([x, y]), wanted, groups=star, cv=GroupKFold(5))
    right: WeightedStatistic = mean_statistic((told == wanted).astype(float)[:, None], star)
    return intervals(right, n, n_resamples=n_resamples, seed=seed)[0]


def mutual_neighbours(a: Embeddings, b: Embeddings, *, k: int = 10, n_resamples: int = 500, seed: int = 0) -> Interval:
    """Share of a star's k nearest stars that are the same for both instruments (Huh et al. 2024).

    Chance is k / (n - 1).
    """
    sets = []
    for z in _paired(a, b):
        own = np.arange(len(z))
        place = SimilarityIndex(z, own).search(z, k + 1)[0]
        # a star may lie on others, and not be among those nearest to itself
        sets.append([set(row[row != star][:k].tolist()) for row, star in zip(place, own, strict=True)])
    shared = np.array([len(one & other) / k for one, other in zip(*sets, strict=True)])
    same: WeightedStatistic = mean_statistic(shared, np.arange(len(shared)))
    return intervals(same, len(shared), n_resamples=n_resamples, seed=seed)[0]
