"""Exact search for similar spectra: by cosine and, where spectra know how well they know their labels, Bayes factor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

from starclip_lib.inference.posterior import log_bayes_factor
from starclip_lib.support.threads import side_by_side

RERANKED = 50  # candidates compared by exact Bayes factors, where there is posterior
_TIE = 1e-9  # cosines closer than this are the same: float64 sums of unit vectors are good to 1e-15
_BLOCK_VALUES = 16_000_000  # similarities held at once, 128 MB


class SimilarityIndex:
    """Exact cosine search among candidates `z` (m, dim) of any length; `star_id` may repeat (several views of a star).

    Nothing larger than a block of queries times the candidates is held in memory. `dtype` is that of the unit vectors
    that are kept; float32 halves the memory, with cosines exact to 1e-7. With the candidates' packed posteriors (m,
    230), the nearest can be ranked by exact Bayes factors.
    """

    def __init__(
        self, z: np.ndarray, star_id: np.ndarray, dtype: type = np.float64, posterior: np.ndarray | None = None
    ):
        if len(z) != len(star_id) or len(z) == 0:
            raise ValueError(f"need as many vectors as identifiers and at least one, got {len(z)} and {len(star_id)}")
        self.z, self.star_id, self.posterior = unit_vectors(z, dtype), np.asarray(star_id), posterior

    def __len__(self) -> int:
        return len(self.z)

    def _similarities(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        if queries.ndim != 2 or queries.shape[1] != self.z.shape[1]:
            raise ValueError(f"queries must have shape (n, {self.z.shape[1]}), not {queries.shape}")
        step = max(1, _BLOCK_VALUES // len(self.z))
        for start in range(0, len(queries), step):
            rows = slice(start, min(start + step, len(queries)))
            yield rows, unit_vectors(queries[rows], self.z.dtype) @ self.z.T

    def search(
        self,
        queries: np.ndarray,
        k: int,
        among: np.ndarray | None = None,
        *,
        posterior: np.ndarray | None = None,
        rerank: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar candidates of each query, best first."""
        n = len(self) if among is None else len(among)
        if not 1 <= k <= n:
            raise ValueError(f"k must be between 1 and the {n} candidates, not {k}")
        if rerank:
            place, cosine = self.search(queries, min(n, max(k, rerank)), among)
            count = min(n, rerank)
            order = np.argsort(-self.log_bayes_factors(posterior, place[:, :count]), axis=1, kind="stable")
            order = np.concatenate([order, np.tile(np.arange(count, place.shape[1]), (len(order), 1))], axis=1)[:, :k]
            return np.take_along_axis(place, order, axis=1), np.take_along_axis(cosine, order, axis=1)
        place = np.empty((len(queries), k), np.int64)
        cosine = np.empty((len(queries), k))
        for rows, similarity in self._similarities(queries):
            similarity = similarity if among is None else similarity[:, among]
            top = np.sort(np.argpartition(-similarity, k - 1, axis=1)[:, :k], axis=1)
            order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1, kind="stable")
            place[rows] = np.take_along_axis(top, order, axis=1)
            cosine[rows] = np.take_along_axis(similarity, place[rows], axis=1)
        return place if among is None else among[place], cosine

    def log_bayes_factors(self, posterior: np.ndarray | None, place: np.ndarray) -> np.ndarray:
        """Log Bayes factors (n, k) of queries with the candidates at positions (n, k)."""
        if posterior is None or self.posterior is None:
            raise ValueError("ranking by Bayes factors needs the posterior of the queries and of the candidates")
        known, (n, k) = self.posterior, place.shape
        width = min(k, _BLOCK_VALUES // 2000)
        step = max(1, _BLOCK_VALUES // (width * 2000))
        out = np.empty((n, k))

        def fill(block: tuple[slice, slice]) -> None:
            out[block] = log_bayes_factor(posterior[block[0]], known[place[block]])

        blocks = [(slice(i, i + step), slice(j, j + width)) for i in range(0, n, step) for j in range(0, k, width)]
        side_by_side(fill, blocks)
        return out

    def first_hit_ranks(
        self,
        queries: np.ndarray,
        star_id: np.ndarray,
        exclude: np.ndarray | None = None,
        by_star: bool = False,
        posterior: np.ndarray | None = None,
    ) -> np.ndarray:
        """Rank (n,) of the first view of the query's own star among the candidates (FRank of equations 4.9 and 4.10).

        `exclude` is the position of a candidate to leave out for each query (itself, in a search within one modality);
        `by_star` ranks stars by their best view instead of views; with posteriors of the queries (n, 230) the nearest
        50 candidates are ranked by Bayes factors. With g other candidates ahead, and t others tied with h views of the
        star, the expected rank is g + (t + h + 1) / (h + 1); infinite if the star is not among the candidates.
        """
        codes = np.unique(np.concatenate([self.star_id, np.asarray(star_id)]), return_inverse=True)[1]
        candidate, wanted = codes[: len(self)], codes[len(self) :]
        grouped = np.argsort(candidate, kind="stable")
        starts = np.flatnonzero(np.diff(candidate[grouped], prepend=-1))
        ranks = np.full(len(queries), np.inf)
        for rows, similarity in self._similarities(queries):
            if exclude is not None:
                similarity[np.arange(len(similarity)), exclude[rows]] = -np.inf
            if posterior is not None:
                self._rerank(similarity, posterior[rows])
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

    def _rerank(self, similarity: np.ndarray, posterior: np.ndarray) -> None:
        """Put the nearest candidates (in place) into the order of their Bayes factors, ahead of all others."""
        count = min(RERANKED, similarity.shape[1])
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        place = rankdata(
            -self.log_bayes_factors(posterior, nearest).round(9), method="dense", axis=1
        )  # equal ones stay equal
        excluded = np.isneginf(np.take_along_axis(similarity, nearest, axis=1))
        np.put_along_axis(similarity, nearest, np.where(excluded, -np.inf, 2 + count - place), axis=1)


def unit_vectors(z: np.ndarray, dtype: type | np.dtype = np.float64) -> np.ndarray:
    """Bring vectors to unit length. Raises ValueError if one of them is zero or not finite: it has no direction."""
    z = np.asarray(z, dtype)
    length = np.linalg.norm(z, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(length) & (length > 0)))[0])
        raise ValueError(f"vector number {bad} is zero or not finite; it has no direction to compare")
    return z / length
