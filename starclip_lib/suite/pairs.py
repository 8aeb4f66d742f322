"""How well pairs are told from strangers: top-k % accuracy, and the control of shuffled pairs (PAPERCLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from starclip_lib.metrics.retrieval import ranks_between
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.suite.resampling import Interval, WeightedStatistic, bootstrap, intervals, mean_statistic, numbers_of
from starclip_lib.support.errors import DataError

_FEWEST = 20  # stars
PERCENTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


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


def _reached(ranks: np.ndarray, candidates: int, percents: tuple[float, ...]) -> np.ndarray:
    """Whether each query's own star is among the best k % of the candidates, (n, len(percents)).

    A fraction of a candidate counts in proportion, so chance is k % exactly.
    """
    return np.clip(np.array(percents) / 100 * candidates - ranks[:, None] + 1, 0, 1)


def top_percent_curve(
    queries: Embeddings,
    candidates: Embeddings,
    *,
    percents: tuple[float, ...] = PERCENTS,
    n_resamples: int = 500,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top-k % accuracy (PAPERCLIP, equation 2) and the ends of its 95 % interval over stars, each (len(percents),).

    Stars are ranked by their best view, so that a star with many views has no better chance.
    """
    ranks = ranks_between(queries, candidates, by_star=True)
    star, n_stars = numbers_of(queries.star_id)
    reached: WeightedStatistic = mean_statistic(_reached(ranks, len(np.unique(candidates.star_id)), percents), star)
    return bootstrap(reached, n_stars, n_resamples=n_resamples, seed=seed)


def shuffled(embeddings: Embeddings, seed: int) -> Embeddings:
    """The same points under the names of other stars, no star under its own: pairs of different stars."""
    stars, row = np.unique(embeddings.star_id, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(stars))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)  # one cycle through all stars: none keeps its place
    return replace(embeddings, star_id=stars[other][row])


def judged(a: Embeddings, b: Embeddings, **options: Any) -> dict[str, Interval]:
    """Two measures of how well the sides of a space are aligned that ask for no star."""
    return {
        "instrument told by trees": leakage(a, b, **options),
        "mutual neighbours of ten": mutual_neighbours(a, b, **options),
    }


def searches(states: Mapping[str, Mapping[str, Embeddings]], seed: int) -> dict[str, tuple[Embeddings, Embeddings]]:
    """Queries and candidates of the test stars: NIRSpec in each state, the way back, and the shuffled control."""
    test = {state: (group["nirspec"].take("test"), group["apogee"].take("test")) for state, group in states.items()}
    nirspec, apogee = test["after"]
    return {
        **{f"NIRSpec → APOGEE, {state}": pair for state, pair in test.items()},
        "APOGEE → NIRSpec, after": (apogee, nirspec),
        "NIRSpec → APOGEE, shuffled": (nirspec, shuffled(apogee, seed)),
    }


def judged_states(states: Mapping[str, Mapping[str, Embeddings]], **options: Any) -> dict[str, dict[str, Interval]]:
    """`judged` for each state, and for the first twenty coordinates of the last, which both instruments share."""
    sides = {state: [group[name].take("test") for name in ("nirspec", "apogee")] for state, group in states.items()}
    sides["after, first 20 coordinates"] = [replace(side, z=side.z[:, :20]) for side in sides["after"]]
    return {state: judged(*pair, **options) for state, pair in sides.items()}
