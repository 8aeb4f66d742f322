"""StarCLIP's space with its stars in it: where a spectrum lies, which APOGEE stars are near, what its labels are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.linear_model import LinearRegression

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics.probing import fit_probe
from starclip_lib.metrics.retrieval import SimilarityIndex
from starclip_lib.models.embeddings import Embeddings, encode
from starclip_lib.models.encoders import Encoder


@dataclass(eq=False)
class Space:
    """The stars of a data set as StarCLIP embeds them, and its encoder for further spectra.

    Parameters
    ----------
    data : PairedSpectra
    encoder : Encoder
        Of NIRSpec spectra.
    nirspec, apogee : Embeddings
        Of all stars, some mock views and one spectrum of each.
    """

    data: PairedSpectra
    encoder: Encoder
    nirspec: Embeddings
    apogee: Embeddings

    def embed(self, flux: np.ndarray) -> np.ndarray:
        """Unit vectors (n, dim) of NIRSpec spectra.

        Parameters
        ----------
        flux : ndarray, shape (n, 8192)
            Relative to the continuum, 1 where there is no data.

        Returns
        -------
        ndarray, shape (n, dim)
        """
        return encode(self.encoder, flux)

    @cached_property
    def known(self) -> Embeddings:
        """Views of the training and validation stars, whose labels may be used."""
        return self.nirspec.take("train", "val")

    @cached_property
    def probe(self) -> LinearRegression:
        """The linear probe, fitted to the known views: `predict` reads labels (n, 20) in K and dex off vectors."""
        return fit_probe(self.known, self.data.labels_of(self.known.star_id))

    def read(self, z: np.ndarray) -> np.ndarray:
        """Labels that the linear probe reads off vectors.

        Parameters
        ----------
        z : ndarray, shape (n, dim)

        Returns
        -------
        ndarray, shape (n, 20)
            In K and dex.
        """
        return self.probe.predict(z.astype(np.float64))

    @cached_property
    def probe_error(self) -> np.ndarray:
        """Root mean square error (20,) of the linear probe on single views of the test stars, in K and dex."""
        test = self.nirspec.take("test")
        error = self.read(test.z) - self.data.labels_of(test.star_id)
        return np.sqrt((error**2).mean(axis=0))

    @cached_property
    def index(self) -> SimilarityIndex:
        """The APOGEE spectra, to search among."""
        return SimilarityIndex(self.apogee.z, self.apogee.star_id)

    def nearest(self, z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The APOGEE stars nearest to vectors, best first.

        Parameters
        ----------
        z : ndarray, shape (n, dim)
        k : int

        Returns
        -------
        star_id : ndarray of str, shape (n, k)
            Identifiers.
        cosine : ndarray, shape (n, k)
        """
        place, cosine = self.index.search(z, min(k, len(self.index)))
        return self.apogee.star_id[place], cosine
