"""Finding the same star, or similar ones: exact cosine search, SuccessRate@k and MRR, and chance.

Where we differ from the paper: a hit is decided by star id, candidates that tie with the first hit share their ranks
(the expected rank), and every candidate is counted once, so identical copies do not push each other down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import gammaln
from scipy.stats import norm

from starclip_lib.models.contrastive import info_nce
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.support.errors import DataError

RANKS = (1, 5, 10, 50)
PAIRS = (("nirspec", "apogee"), ("mock", "extended"))  # kinds of spectra between which models search, both ways


def ranks_between(
    queries: Embeddings, candidates: Embeddings, by_star: bool = False, exclude_self: bool = False
) -> np.ndarray:
    """Rank of the first hit of every query among the candidates.

    Where both carry posterior, the nearest candidates are ranked by exact Bayes factors.
    """
    index = SimilarityIndex(candidates.z, candidates.star_id, posterior=candidates.posterior)
    exclude = np.arange(len(queries)) if exclude_self else None
    posterior = None if candidates.posterior is None else queries.posterior
    return index.first_hit_ranks(queries.z, queries.star_id, exclude, by_star, posterior)


def ranks_of(misfit: np.ndarray, star_id: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Expected rank (n,) of the first hit of queries, from misfits (n, m): the smallest is the best, equal ones tie."""
    hit = star_id[:, None] == candidates
    best = np.where(hit, misfit, np.inf).min(axis=1, keepdims=True)
    tied = misfit == best
    return (misfit < best).sum(axis=1) + (tied.sum(axis=1) + 1) / ((tied & hit).sum(axis=1) + 1)


def scores_both_ways(a: str, b: str, embeddings: Mapping[str, Embeddings]) -> dict[str, dict[str, float | int]]:
    """Retrieval scores between two kinds of spectra: 'a_to_b' and 'b_to_a', as `metrics.json` holds them."""
    return {
        f"{x}_to_{y}": retrieval_scores(ranks_between(embeddings[x], embeddings[y]), len(embeddings[y]))
        for x, y in ((a, b), (b, a))
    }


def success_rate(ranks: np.ndarray, k: int) -> float:
    """Fraction of queries whose first hit is among the first k (equation 4.9)."""
    return float(np.mean(ranks <= k))


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank of the first hit (equation 4.10)."""
    return float(np.mean(1 / ranks))


def retrieval_scores(ranks: np.ndarray, candidates: int) -> dict[str, float | int]:
    """SuccessRate@1, 5, 10, 50 and MRR as `metrics.json` holds them."""
    scores: dict[str, float | int] = {f"success@{k}": success_rate(ranks, k) for k in RANKS}
    return {**scores, "mrr": mrr(ranks), "queries": len(ranks), "candidates": candidates}


def wilson_interval(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion among n independent trials (Wilson 1927).

    For the mean of values between 0 and 1, such as reciprocal ranks, it is wider than necessary.
    """
    z2 = norm.ppf((1 + level) / 2) ** 2
    centre, shrink = share + z2 / (2 * n), 1 + z2 / n
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2)))
    return max(0.0, float((centre - half) / shrink)), min(1.0, float((centre + half) / shrink))


def with_intervals(scores: Mapping[str, float | int], n_stars: int) -> dict[str, Any]:
    """Scores with 95 % Wilson intervals under 'interval'; a star is one trial, however many views of it search."""
    shares = [*(f"success@{k}" for k in RANKS), "mrr"]
    return {**scores, "interval": {name: list(wilson_interval(scores[name], n_stars)) for name in shares}}


def methods_table(methods: Mapping[str, Mapping[str, Embeddings]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Retrieval scores of several methods in both directions between each two kinds of spectra that they embed."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for name, sides in methods.items():
        table[name] = {}
        for a, b in PAIRS:
            if (a in sides) != (b in sides):
                raise DataError(f"method '{name}' has only one of {a} and {b}; give embeddings of both")
            if a not in sides:
                continue
            stars = np.unique(sides[a].star_id)
            if not np.array_equal(stars, np.unique(sides[b].star_id)):
                raise DataError(f"method '{name}': {a} and {b} hold different stars; give those of the same stars")
            found = scores_both_ways(a, b, sides)
            table[name] |= {direction: with_intervals(x, len(stars)) for direction, x in found.items()}
    return table


def information_bound(a: Embeddings, b: Embeddings, logit_scale: float) -> dict[str, float]:
    """Lower bound of the mutual information of two kinds of spectra, log N minus the contrastive loss (equation 2.13).

    Of the first views of N stars that both hold, in nats; `largest` is log N, which no loss can exceed.
    """
    a, b = a.of_view(0), b.of_view(0)
    if not np.array_equal(a.star_id, b.star_id):
        raise DataError("the mutual information needs the same stars in the same order on both sides")
    loss = float(info_nce(torch.from_numpy(a.z).double(), torch.from_numpy(b.z).double(), logit_scale))
    return {"nats": float(np.log(len(a))) - loss, "largest": float(np.log(len(a)))}


def chance_scores(queries: int, candidates: int, views: int) -> dict[str, float | int]:
    """What a random ranking reaches, exactly, with `views` hits among the candidates.

    The first hit comes after rank r with probability C(candidates - views, r) / C(candidates, r).
    """
    if not 1 <= views <= candidates:
        raise ValueError(f"need between 1 and {candidates} hits among the candidates, not {views}")
    r = np.arange(candidates + 1)
    misses = np.maximum(candidates - views - r, 0)
    log_miss = (
        gammaln(candidates - views + 1) - gammaln(misses + 1) + gammaln(candidates - r + 1) - gammaln(candidates + 1)
    )
    beyond = np.where(r <= candidates - views, np.exp(log_miss), 0.0)
    scores: dict[str, float | int] = {f"success@{k}": float(1 - beyond[min(k, candidates)]) for k in RANKS}
    first = beyond[:-1] - beyond[1:]
    return {**scores, "mrr": float(np.sum(first / r[1:])), "queries": queries, "candidates": candidates}


def retrieval_table(scores: dict[str, dict[str, dict[str, float | int]]]) -> pd.DataFrame:
    """One row for each model and direction, as the paper's Table 3."""
    rows = {
        (model, direction.replace("_to_", " → ")): {
            **{f"R@{k}": values[f"success@{k}"] for k in RANKS},
            "MRR": values["mrr"],
            "queries": values["queries"],
            "candidates": values["candidates"],
        }
        for model, directions in scores.items()
        for direction, values in directions.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round(3).rename_axis(["model", "direction"])
