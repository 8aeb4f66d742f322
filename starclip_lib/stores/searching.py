"""The k most similar spectra of a store, in one pass over the disk: all are compared, to the digits of float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from starclip_lib.errors import DataError
from starclip_lib.metrics.similarity import unit_vectors
from starclip_lib.stores.store import Store, vectors

_MARGIN = 8  # candidates beyond k that are kept: float32 knows cosines to 1e-7, then float64 decides


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


def search(
    store: Store, queries: np.ndarray, k: int, where: str = "", but: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar spectra of each query, best first.

    Memory: a block of the store and the best candidates, whatever the store's size.

    Parameters
    ----------
    store : Store
    queries : ndarray, shape (n, dim)
    k : int
    where : str
        Condition that candidates have to meet, such as "Fe < -1 and instrument == 'apogee'".
    but : sequence of str, optional
        For each query the star whose spectra do not count.

    Returns
    -------
    place : ndarray of int, shape (n, k)
        In the store; -1 where fewer than k meet the condition.
    cosine : ndarray, shape (n, k)
        float64; NaN there.

    Raises
    ------
    DataError
        If the queries are not of the store's model, or no candidate meets the condition.
    """
    if queries.ndim != 2 or queries.shape[1] != store.about.dim:
        raise DataError(
            f"queries of shape {queries.shape} are not of this store, whose embeddings have {store.about.dim}"
        )
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")
    exact, asked = unit_vectors(queries), unit_vectors(queries, np.float32)
    k = min(k, max(len(store), 1))
    best = _Best.none(len(queries), k + _MARGIN, store.about.dim)
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
    order = np.lexsort((best.place, -cosine), axis=1)[:, :k]
    cosine, place = np.take_along_axis(cosine, order, axis=1), np.take_along_axis(best.place, order, axis=1)
    return place, np.where(place < 0, np.nan, cosine)


def found_table(store: Store, names: list[str], place: np.ndarray, cosine: np.ndarray) -> pd.DataFrame:
    """What was found, a row a candidate.

    Parameters
    ----------
    store : Store
    names : list of str
        Of the queries.
    place, cosine : ndarray, shape (n, k)
        As `search` returns them.

    Returns
    -------
    DataFrame
        query, number, cosine, and the store's columns.
    """
    there = place.ravel() >= 0
    query = np.repeat(np.arange(len(place)), place.shape[1])[there]
    number = np.tile(np.arange(1, place.shape[1] + 1), len(place))[there]
    rows = store.rows(place.ravel()[there]).reset_index(drop=True)
    front = {"query": np.asarray(names)[query], "number": number, "cosine": cosine.ravel()[there]}
    return pd.concat([pd.DataFrame(front), rows], axis=1)
