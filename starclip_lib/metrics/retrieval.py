"""Finding the same star, or similar ones: exact cosine search, SuccessRate@k and MRR, and chance.

Where we differ from the paper: a hit is decided by star id, candidates that tie with the first hit share their ranks
(the expected rank), and every candidate is counted once, so identical copies do not push each other down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.special import gammaln

from starclip_lib.models.embeddings import Embeddings

_TIE = 1e-9  # cosines closer than this are the same: float64 sums of unit vectors are good to 1e-15
_BLOCK_VALUES = 16_000_000  # similarities held at once, 128 MB
RANKS = (1, 5, 10, 50)


class SimilarityIndex:
    """Exact cosine search among candidates.

    Nothing larger than a block of queries times the candidates is held in memory.

    Parameters
    ----------
    z : ndarray, shape (m, dim)
        Vectors of any length, not zero.
    star_id : ndarray of str, shape (m,)
        Identifiers, several views of a star allowed.
    dtype : type
        Of the unit vectors that are kept; float32 halves the memory, and knows cosines to 1e-7.
    """

    def __init__(self, z: np.ndarray, star_id: np.ndarray, dtype: type = np.float64):
        if len(z) != len(star_id) or len(z) == 0:
            raise ValueError(f"need as many vectors as identifiers and at least one, got {len(z)} and {len(star_id)}")
        self.z, self.star_id = unit_vectors(z, dtype), np.asarray(star_id)

    def __len__(self) -> int:
        return len(self.z)

    def _similarities(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        if queries.ndim != 2 or queries.shape[1] != self.z.shape[1]:
            raise ValueError(f"queries must have shape (n, {self.z.shape[1]}), not {queries.shape}")
        step = max(1, _BLOCK_VALUES // len(self.z))
        for start in range(0, len(queries), step):
            rows = slice(start, min(start + step, len(queries)))
            yield rows, unit_vectors(queries[rows], self.z.dtype) @ self.z.T

    def search(self, queries: np.ndarray, k: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar candidates of each query, best first.

        Parameters
        ----------
        queries : ndarray, shape (n, dim)
        k : int
        among : ndarray of int, shape (p,), optional
            Positions of the candidates that count; None for all.

        Returns
        -------
        positions : ndarray of int, shape (n, k)
            Among the candidates.
        cosines : ndarray, shape (n, k)
            Cosine similarities; equal ones in their order.
        """
        n = len(self) if among is None else len(among)
        if not 1 <= k <= n:
            raise ValueError(f"k must be between 1 and the {n} candidates, not {k}")
        place = np.empty((len(queries), k), np.int64)
        cosine = np.empty((len(queries), k))
        for rows, similarity in self._similarities(queries):
            similarity = similarity if among is None else similarity[:, among]
            top = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
            order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1, kind="stable")
            place[rows] = np.take_along_axis(top, order, axis=1)
            cosine[rows] = np.take_along_axis(similarity, place[rows], axis=1)
        return place if among is None else among[place], cosine

    def first_hit_ranks(
        self, queries: np.ndarray, star_id: np.ndarray, exclude: np.ndarray | None = None, by_star: bool = False
    ) -> np.ndarray:
        """Rank of the first view of the query's own star among the candidates (FRank of equations 4.9 and 4.10).

        Parameters
        ----------
        queries : ndarray, shape (n, dim)
        star_id : ndarray of str, shape (n,)
            Of the queries.
        exclude : ndarray of int, shape (n,), optional
            Position of a candidate to leave out for each query (itself, in a search within one modality).
        by_star : bool
            Rank stars by their best view instead of views.

        Returns
        -------
        ndarray, shape (n,)
            float64: with g other candidates ahead, and t others tied with h views of the star, the expected rank is
            g + (t + h + 1) / (h + 1).  Infinite if the star is not among the candidates.
        """
        codes = np.unique(np.concatenate([self.star_id, np.asarray(star_id)]), return_inverse=True)[1]
        candidate, wanted = codes[: len(self)], codes[len(self) :]
        grouped = np.argsort(candidate, kind="stable")
        starts = np.flatnonzero(np.diff(candidate[grouped], prepend=-1))
        ranks = np.full(len(queries), np.inf)
        for rows, similarity in self._similarities(queries):
            if exclude is not None:
                similarity[np.arange(len(similarity)), exclude[rows]] = -np.inf
            own = candidate
            if by_star:
                similarity = np.maximum.reduceat(similarity[:, grouped], starts, axis=1)
                own = candidate[grouped][starts]
            hit = own == wanted[rows, None]
            best = np.where(hit, similarity, -np.inf).max(axis=1, keepdims=True)
            tied = (similarity >= best - _TIE) & (similarity <= best + _TIE)
            ahead = (similarity > best + _TIE).sum(axis=1)
            tied_hits = (tied & hit).sum(axis=1)
            expected = ahead + (tied.sum(axis=1) + 1) / (tied_hits + 1)
            ranks[rows] = np.where(np.isfinite(best[:, 0]), expected, np.inf)
        return ranks


def ranks_between(
    queries: Embeddings, candidates: Embeddings, by_star: bool = False, exclude_self: bool = False
) -> np.ndarray:
    """Rank of the first hit of every query among the candidates.

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
    index = SimilarityIndex(candidates.z, candidates.star_id)
    exclude = np.arange(len(queries)) if exclude_self else None
    return index.first_hit_ranks(queries.z, queries.star_id, exclude, by_star)


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


def unit_vectors(z: np.ndarray, dtype: type | np.dtype = np.float64) -> np.ndarray:
    """Bring vectors to unit length.

    Parameters
    ----------
    z : ndarray, shape (n, dim)
    dtype : type
        To compute in.

    Returns
    -------
    ndarray, shape (n, dim)

    Raises
    ------
    ValueError
        If one of them is zero or not finite: it has no direction.
    """
    z = np.asarray(z, dtype)
    length = np.linalg.norm(z, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(length) & (length > 0)))[0])
        raise ValueError(f"vector number {bad} is zero or not finite; it has no direction to compare")
    return z / length


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
