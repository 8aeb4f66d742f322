"""The k most similar spectra of a store: all are compared by cosine, and the nearest by their posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from starclip_lib.inference.posterior import DIAGONAL, log_bayes_factor
from starclip_lib.models.similarity import RERANKED, unit_vectors
from starclip_lib.support.errors import DataError
from starclip_lib.survey.formats import SIMULATIONS, vectors
from starclip_lib.survey.store import Store

_MARGIN = 8  # candidates beyond k that are kept: float32 knows cosines to 1e-7, then float64 decides
_TOGETHER = 200  # queries whose candidates' posteriors are in memory at once: 10 MB, and 200 MB while they are compared


@dataclass(eq=False)
class _Best:
    """The best candidates of each query so far: cosines in float32, places in the store and vectors."""

    cosine: np.ndarray
    place: np.ndarray
    z: np.ndarray

    @classmethod
    def none(cls, n: int, k: int, dim: int) -> _Best:
        return cls(np.full((n, k), -np.inf, np.float32), np.full((n, k), -1), np.zeros((n, k, dim), np.float32))

    def take(self, similarity: np.ndarray, place: np.ndarray, z: np.ndarray) -> None:
        """Look at a block of m candidates: similarity (n, m), place (m,), z (m, dim)."""
        k = self.cosine.shape[1]
        for row in np.flatnonzero(similarity.max(axis=1, initial=-np.inf) > self.cosine.min(axis=1)):
            new = np.flatnonzero(similarity[row] > self.cosine[row].min())
            if len(new) > k:
                new = new[np.argpartition(-similarity[row, new], k - 1)[:k]]
            cosine = np.concatenate([self.cosine[row], similarity[row, new]])
            places, both = np.concatenate([self.place[row], place[new]]), np.concatenate([self.z[row], z[new]])
            keep = np.lexsort((places, -cosine))[:k]
            self.cosine[row], self.place[row], self.z[row] = cosine[keep], places[keep], both[keep]


@dataclass(frozen=True, eq=False)
class Nearest:
    """What a search found, best first."""

    place: np.ndarray  # (n, k), rows of the store; -1 where fewer than k meet the condition
    cosine: np.ndarray  # (n, k): float64; NaN there
    # (n, k), log Bayes factor of "one star" against "two stars", by which candidates are then ranked; NaN there
    ln_b: np.ndarray | None = None

    @property
    def ranking(self) -> str:
        """What the order means, for people."""
        if self.ln_b is None:
            return "ranked by cosine: there are no posteriors to compare"
        return f"ranked by Bayes factor, ln B, among the {max(RERANKED, self.place.shape[1])} nearest by cosine"


def no_match(ln_b: np.ndarray) -> np.ndarray:
    """Where a Bayes factor says that two spectra are of two stars rather than of one."""
    return np.asarray(ln_b) < 0


def match_words(ln_b: np.ndarray, labels_from: pd.Series, is_known: np.ndarray | bool = True) -> np.ndarray:
    """'possible' or 'no match'; 'not known' where the errors of a posterior are those of simulated spectra.

    `is_known` tells it of the queries, `labels_from` of the candidates.
    """
    known = np.asarray(labels_from != SIMULATIONS) & is_known
    return np.where(known, np.where(no_match(ln_b), "no match", "possible"), "not known")


def search(
    store: Store,
    queries: np.ndarray,
    k: int,
    where: str = "",
    but: Sequence[str] | None = None,
    posterior: np.ndarray | None = None,
) -> Nearest:
    """The k most similar spectra of each query (n, dim), among those that meet the condition `where`.

    A condition is such as "Fe < -1 and instrument == 'apogee'". Spectra of the star in `but` do not count for its
    query. With packed posteriors of the queries (n, 230), and of the store's spectra, the nearest 50 by cosine are
    ranked by exact Bayes factors, as in a run. Memory: a block of the store and the best candidates, whatever the
    store's size. Raises DataError if the queries are not of the store's model, or no candidate meets the condition.
    """
    if queries.ndim != 2 or queries.shape[1] != store.about.dim:
        raise DataError(
            f"queries of shape {queries.shape} are not of this store, whose embeddings have {store.about.dim}"
        )
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")
    exact, asked = unit_vectors(queries), unit_vectors(queries, np.float32)
    k = min(k, max(len(store), 1))
    ranked = posterior is not None and store.about.posterior
    wanted = max(k, RERANKED) if ranked else k
    best = _Best.none(len(queries), wanted + _MARGIN, store.about.dim)
    for place, table in store.blocks(["embedding"] if but is None else ["embedding", "star_id"], where):
        if len(place):
            z = vectors(table)
            similarity = asked @ z.T
            for row, star in enumerate(but or ()):
                similarity[row, pc.equal(table.column("star_id"), star).to_numpy()] = -np.inf
            best.take(similarity, place, z)
    if (best.place < 0).all():
        raise DataError(f"no spectrum of {store.folder} meets {where!r}" if where else f"{store.folder} is empty")
    cosine = np.einsum("nd,nkd->nk", exact, best.z.astype(np.float64)) / np.linalg.norm(best.z, axis=2).clip(1e-30)
    cosine[best.place < 0] = -np.inf
    order = np.lexsort((best.place, -cosine), axis=1)[:, :wanted]
    cosine, place = np.take_along_axis(cosine, order, axis=1), np.take_along_axis(best.place, order, axis=1)
    cosine = np.where(place < 0, np.nan, cosine)
    if posterior is None or not ranked:
        return Nearest(place, cosine)
    return rank_by_posterior(store, Nearest(place, cosine), posterior, k)


def rank_by_posterior(store: Store, found: Nearest, posterior: np.ndarray, k: int) -> Nearest:
    """The best k of what was found by cosine, in the order of the Bayes factors with the queries' posteriors."""
    ln_b = np.full(found.place.shape, -np.inf)
    for start in range(0, len(ln_b), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        there = found.place[some] >= 0
        kept = np.zeros((*there.shape, posterior.shape[1]), np.float32)
        kept[..., DIAGONAL] = 1  # of candidates that are not there: the prior
        kept[there] = store.posteriors(found.place[some][there])
        ln_b[some] = np.where(there, log_bayes_factor(posterior[some], kept), -np.inf)
    order = np.argsort(-ln_b, axis=1, kind="stable")[:, :k]
    place, cosine, ln_b = (np.take_along_axis(one, order, axis=1) for one in (found.place, found.cosine, ln_b))
    return Nearest(place, cosine, np.where(place < 0, np.nan, ln_b))


def found_table(store: Store, names: list[str], found: Nearest, is_known: Sequence[bool] | None = None) -> pd.DataFrame:
    """What was found, a row a candidate; `is_known` tells of each query whether its errors are those of its kind."""
    there = found.place.ravel() >= 0
    query = np.repeat(np.arange(len(found.place)), found.place.shape[1])[there]
    number = np.tile(np.arange(1, found.place.shape[1] + 1), len(found.place))[there]
    rows = store.rows(found.place.ravel()[there]).reset_index(drop=True)
    front: dict[str, object] = {"query": np.asarray(names)[query], "number": number}
    if found.ln_b is not None:
        ln_b = found.ln_b.ravel()[there]
        known = np.ones(len(names), bool) if is_known is None else np.asarray(is_known, bool)
        front |= {"ln_B": ln_b, "match": match_words(ln_b, rows["labels_from"], known[query])}
    front["cosine"] = found.cosine.ravel()[there]
    return pd.concat([pd.DataFrame(front), rows], axis=1)
