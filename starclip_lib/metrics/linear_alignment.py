"""A linear alignment of two instruments: canonical correlations, regularised on validation stars."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from scipy.linalg import svd
from sklearn.decomposition import PCA

from starclip_lib.data.selection import in_parts
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics.baselines import Inputs
from starclip_lib.metrics.retrieval import mrr, ranks_between
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import ViewSampler

_STARS = 2048  # test stars whose views are held together
_PAIRS = 12_000  # training stars; the paper has 11,875
_VIEWS = 30_000  # of training stars that are held in memory, 33 kB each
_CHOOSE = 500  # validation stars that choose the regularisation
_COMPONENTS = (30, 60, 120, 200)
_PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)


class CanonicalCorrelation:
    """Linear alignment of two instruments: directions in which pairs correlate most, weighted by their correlations.

    `a` (n * n_views, p) and `b` (n, q) are inputs of training pairs, `n_views` consecutive rows of a for each row of b.
    They are overwritten: copies of them would fill the memory. Each side is reduced to `n_components` principal
    components first. Raises DataError if there are fewer pairs than twice the components.
    """

    def __init__(self, a: np.ndarray, b: np.ndarray, n_components: int = 60, n_directions: int = 30, seed: int = 0):
        if len(b) < 2 * n_components:
            raise DataError(f"{len(b)} pairs are too few for canonical correlations of {n_components} components")
        n_views = len(a) // len(b)
        self._pca = [
            PCA(n_components, whiten=True, svd_solver="randomized", random_state=seed, copy=False) for _ in range(2)
        ]
        white_a, white_b = (pca.fit_transform(side) for pca, side in zip(self._pca, (a, b), strict=True))
        norm = np.sqrt((len(a) - 1) * n_views * (len(b) - 1))
        self._product = white_a.T @ np.repeat(white_b, n_views, axis=0) / norm
        self.regularise(n_components, n_directions)

    def regularise(self, n_components: int, n_directions: int, penalty: float = 0.0) -> None:
        """Use the first components only, with a ridge of `penalty` times the largest variance on either side."""
        variances = [pca.explained_variance_[:n_components] for pca in self._pca]
        weights = [np.sqrt(x / (x + penalty * x[0])) for x in variances]
        left, found, right = svd(weights[0][:, None] * self._product[:n_components, :n_components] * weights[1])
        self.correlations = np.minimum(found[:n_directions], 1)
        self._turn = weights[0][:, None] * left[:, :n_directions], weights[1][:, None] * right[:n_directions].T

    def components(self, inputs: np.ndarray, side: int) -> np.ndarray:
        """Whitened principal components (m, n_components) of the inputs of side 0 (a) or 1 (b)."""
        return self._pca[side].transform(inputs)

    def directions(self, components: np.ndarray, side: int) -> np.ndarray:
        """Vectors (m, n_directions) of the components of side 0 (a) or 1 (b), to be compared by cosine."""
        turn = self._turn[side]
        return (components[:, : len(turn)] @ turn * self.correlations).astype(np.float32)


def align_linearly(data: PairedSpectra, telescope: ViewSampler) -> dict[str, Embeddings]:
    """Embeddings of the test stars, 'nirspec' and 'apogee', by regularised canonical correlations.

    The correlations are those of at most 12,000 training stars, in views of their own; the number of components and the
    penalty are those with the best mean reciprocal rank on at most 500 validation stars.
    """
    train = data.rows("train", _PAIRS)
    n_views = max(1, min(2 * telescope.n_views, _VIEWS // len(train)))
    fresh = replace(telescope, n_views=n_views, seed=telescope.seed + 1)
    nirspec = Inputs(replace(fresh, n_views=1).views(data.nirspec, train)[:, 0], data.nirspec.instrument)
    apogee = Inputs(data.apogee.flux[train], data.apogee.instrument)
    sizes = sorted({min(size, len(train) // 4) for size in _COMPONENTS})
    views = nirspec.of_views(data.nirspec, train, fresh)
    cca = CanonicalCorrelation(views, apogee(data.apogee.flux[train]), sizes[-1], min(30, sizes[-1]), telescope.seed)

    def components(rows: np.ndarray) -> list[np.ndarray]:
        parts = in_parts(rows, _STARS)
        a = [cca.components(nirspec.of_views(data.nirspec, part, telescope), 0) for part in parts]
        b = [cca.components(apogee(data.apogee.flux[part]), 1) for part in in_parts(rows, _STARS)]
        return [np.concatenate(a), np.concatenate(b)]

    def embedded(known: list[np.ndarray], rows: np.ndarray) -> dict[str, Embeddings]:
        vectors = (
            cca.directions(x, side).reshape(len(rows), -1, cca.correlations.size) for side, x in enumerate(known)
        )
        return {
            name: as_embeddings(z, data.star_id[rows], data.split[rows])
            for name, z in zip(("nirspec", "apogee"), vectors, strict=True)
        }

    val = data.rows("val", _CHOOSE)
    known, found = components(val), {}
    for size, penalty in product(sizes, _PENALTIES):
        cca.regularise(size, min(30, size), penalty)
        sides = embedded(known, val)
        found[size, penalty] = mrr(ranks_between(sides["nirspec"], sides["apogee"]))
    size, penalty = max(found, key=found.__getitem__)
    cca.regularise(size, min(30, size), penalty)
    test = data.rows("test")
    return embedded(components(test), test)
