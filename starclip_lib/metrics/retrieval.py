"""Finding the same star, or similar ones: exact cosine search, SuccessRate@k and MRR, and chance.

Where we differ from the paper: a hit is decided by star id, candidates that tie with the first hit share their ranks
(the expected rank), and every candidate is counted once, so identical copies do not push each other down.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import gammaln

from starclip_lib.metrics.similarity import SimilarityIndex
from starclip_lib.models.embeddings import Embeddings

RANKS = (1, 5, 10, 50)


def ranks_between(
    queries: Embeddings, candidates: Embeddings, by_star: bool = False, exclude_self: bool = False
) -> np.ndarray:
    """Rank of the first hit of every query among the candidates.

    Where both carry evidence, the nearest candidates are ranked by exact Bayes factors.

    Parameters
    ----------
    queries, candidates : Embeddings
    by_star : bool
        Rank stars by their best view.
    exclude_self : bool
        The queries are the candidates, and none may find itself.

    Returns
    -------
    ndarray, shape (n,)
    """
    index = SimilarityIndex(candidates.z, candidates.star_id, evidence=candidates.evidence)
    exclude = np.arange(len(queries)) if exclude_self else None
    evidence = None if candidates.evidence is None else queries.evidence
    return index.first_hit_ranks(queries.z, queries.star_id, exclude, by_star, evidence)


def scores_both_ways(a: str, b: str, embeddings: Mapping[str, Embeddings]) -> dict[str, dict[str, float | int]]:
    """Retrieval scores between two kinds of spectra: 'a_to_b' and 'b_to_a', as `metrics.json` holds them.

    Parameters
    ----------
    a, b : str
    embeddings : mapping of str to Embeddings

    Returns
    -------
    dict of str to dict
    """
    return {
        f"{x}_to_{y}": retrieval_scores(ranks_between(embeddings[x], embeddings[y]), len(embeddings[y]))
        for x, y in ((a, b), (b, a))
    }


def success_rate(ranks: np.ndarray, k: int) -> float:
    """Fraction of queries whose first hit is among the first k (equation 4.9).

    Parameters
    ----------
    ranks : ndarray, shape (n,)
    k : int

    Returns
    -------
    float
    """
    return float(np.mean(ranks <= k))


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank of the first hit (equation 4.10).

    Parameters
    ----------
    ranks : ndarray, shape (n,)

    Returns
    -------
    float
    """
    return float(np.mean(1 / ranks))


def retrieval_scores(ranks: np.ndarray, candidates: int) -> dict[str, float | int]:
    """SuccessRate@1, 5, 10, 50 and MRR as `metrics.json` holds them.

    Parameters
    ----------
    ranks : ndarray, shape (n,)
    candidates : int
        How many there were.

    Returns
    -------
    dict of str to float or int
    """
    scores: dict[str, float | int] = {f"success@{k}": success_rate(ranks, k) for k in RANKS}
    return {**scores, "mrr": mrr(ranks), "queries": len(ranks), "candidates": candidates}


def chance_scores(queries: int, candidates: int, views: int) -> dict[str, float | int]:
    """What a random ranking reaches, exactly, with `views` hits among the candidates.

    The first hit comes after rank r with probability C(candidates - views, r) / C(candidates, r).

    Parameters
    ----------
    queries, candidates, views : int

    Returns
    -------
    dict of str to float or int
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
    """One row for each model and direction, as the paper's Table 3.

    Parameters
    ----------
    scores : dict of str to dict
        Model to direction to the scores of `retrieval_scores`.

    Returns
    -------
    DataFrame
    """
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
