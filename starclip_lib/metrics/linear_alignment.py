"""The best linear alignment of two instruments: canonical correlations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import svd
from sklearn.decomposition import PCA

from starclip_lib.data.selection import in_parts
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.metrics.baselines import Inputs
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.transforms.views import MockTelescope

_STARS = 2048  # test stars whose views are held together
_PAIRS = 12_000  # training stars; the paper has 11,875


class CanonicalCorrelation:
    """Linear alignment of two instruments: directions in which pairs correlate most, weighted by their correlations.

    Parameters
    ----------
    a, b : ndarray, shape (n * n_views, p) and (n, q)
        Inputs of training pairs, `n_views` consecutive rows of a for each row of b.  Overwritten: copies of them would
        fill the memory.
    n_components : int
        Principal components that each side is reduced to first.
    n_directions : int
    seed : int

    Raises
    ------
    DataError
        If there are fewer pairs than twice the components.

    References
    ----------
    Hotelling (1936), computed from the singular values of the product of the whitened components.
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
        left, self.correlations, right = svd(white_a.T @ np.repeat(white_b, n_views, axis=0) / norm)
        self.correlations = np.minimum(self.correlations[:n_directions], 1)
        self._turn = left[:, :n_directions], right[:n_directions].T

    def project(self, inputs: np.ndarray, side: int) -> np.ndarray:
        """Vectors (m, n_directions) of the inputs of one side, to be compared by cosine.

        Parameters
        ----------
        inputs : ndarray, shape (m, p) or (m, q)
        side : int
            0 (a) or 1 (b).

        Returns
        -------
        ndarray, shape (m, n_directions)
        """
        return self._pca[side].transform(inputs) @ self._turn[side] * self.correlations


def align_linearly(data: PairedSpectra, telescope: MockTelescope) -> dict[str, Embeddings]:
    """Embeddings of the test stars, 'nirspec' and 'apogee', by canonical correlations of the training stars' views.

    They are those of at most 12,000 training stars, whose views are held in memory.

    Parameters
    ----------
    data : PairedSpectra
    telescope : MockTelescope

    Returns
    -------
    dict of str to Embeddings
    """
    train, test = data.rows("train", _PAIRS), data.rows("test")
    once = replace(telescope, n_views=1)
    nirspec = Inputs(once.views(data.nirspec, train)[:, 0], data.nirspec.instrument)
    apogee = Inputs(data.apogee.flux[train], data.apogee.instrument)
    n_components = min(60, len(train) // 4)
    cca = CanonicalCorrelation(
        nirspec.of_views(data.nirspec, train, telescope),
        apogee(data.apogee.flux[train]),
        n_components,
        min(30, n_components),
        telescope.seed,
    )
    look = {
        "nirspec": lambda rows: nirspec.of_views(data.nirspec, rows, telescope),
        "apogee": lambda rows: apogee(data.apogee.flux[rows]),
    }
    out = {}
    for side, (name, inputs) in enumerate(look.items()):
        z = np.concatenate([cca.project(inputs(part), side).astype(np.float32) for part in in_parts(test, _STARS)])
        z = z.reshape(len(test), -1, cca.correlations.size)
        out[name] = as_embeddings(z, data.star_id[test], data.split[test])
    return out
