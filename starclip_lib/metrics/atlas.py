"""Maps of the embedding: principal components and UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.neighbors import NearestNeighbors

from starclip_lib.models.embeddings import Embeddings
from starclip_lib.settings.evaluation import AtlasParams
from starclip_lib.support.errors import DataError

if TYPE_CHECKING:
    from umap import UMAP


_SAMPLE = 4000  # vectors that the axes of a map are found from
_UMAP_SEARCHES = 4096  # points from which on it looks for neighbours by itself, approximately
_UMAP_DIMENSIONS = 50


def thin(points: Embeddings, n: int, seed: int) -> np.ndarray:
    """Sorted positions of at most n points, drawn at random, for a map that stays readable."""
    order = np.random.default_rng(seed).permutation(len(points))
    return np.sort(order[:n])


def principal_components(z: np.ndarray, n_components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Project embeddings (m, dim) on their first principal components."""
    if len(z) <= n_components:
        raise DataError(f"a map needs more than {n_components} points, {len(z)} given")
    pca = PCA(svd_solver="full").fit(z)
    return pca.transform(z)[:, :n_components], pca.explained_variance_ratio_


def fit_map(
    parts: Sequence[np.ndarray], kind: str, settings: AtlasParams, seed: int
) -> tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """A map 'PCA' or 'UMAP' of several sets of unit vectors (n, dim), and what places further ones on it.

    Axes are found from at most 4,000 of the vectors; UMAP gets at most 50 dimensions.
    """
    few = [np.linspace(0, len(part) - 1, min(len(part), _SAMPLE // len(parts))).astype(int) for part in parts]
    sample = np.concatenate([part[rows] for part, rows in zip(parts, few, strict=True)])
    if kind == "PCA":
        transform = PCA(2, svd_solver="randomized", random_state=seed).fit(sample).transform
        return [transform(part) for part in parts], transform
    reduce: Callable[[np.ndarray], np.ndarray] = np.asarray
    if sample.shape[1] > _UMAP_DIMENSIONS:  # without centring: it keeps cosines
        reduce = TruncatedSVD(_UMAP_DIMENSIONS, random_state=seed).fit(sample).transform
    umap = fit_umap(
        np.concatenate([reduce(part) for part in parts]), settings.n_neighbours, settings.min_distance, seed
    )
    places = np.split(umap.embedding_, np.cumsum([len(part) for part in parts])[:-1])
    return places, lambda z: umap.transform(reduce(z))


def umap_map(z: np.ndarray, n_neighbours: int, min_distance: float, seed: int) -> np.ndarray:
    """UMAP of embeddings (m, dim) by cosine distance: coordinates (m, 2)."""
    return fit_umap(z, n_neighbours, min_distance, seed, placing=False).embedding_


def fit_umap(z: np.ndarray, n_neighbours: int, min_distance: float, seed: int, placing: bool = True) -> UMAP:
    """The same, and if `placing` ready to place new vectors on the map as well (`.transform`).

    Repeats on one machine, not across machines. The first call in a session compiles for about 20 s; without `placing`,
    neighbours are found exactly and nothing has to be compiled for it.
    """
    if len(z) <= n_neighbours:
        raise DataError(f"UMAP with {n_neighbours} neighbours needs more points than that, {len(z)} given")
    import umap  # takes seconds, so it is imported only where a map is made

    known = {}
    if not placing and len(z) >= _UMAP_SEARCHES:
        distance, place = (
            NearestNeighbors(n_neighbors=n_neighbours, metric="cosine", algorithm="brute").fit(z).kneighbors(z)
        )
        known = {"precomputed_knn": (place, distance, None)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")  # a seed means one thread; that is what we ask for
        warnings.filterwarnings(
            "ignore", message="precomputed_knn"
        )  # nothing will be placed; that is what was asked for
        settings = {"n_neighbors": n_neighbours, "min_dist": min_distance, "metric": "cosine", "random_state": seed}
        return umap.UMAP(**settings, **known).fit(z)
