"""StarCLIP's space with its stars in it: where a spectrum lies, which APOGEE stars are near, what its labels are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.linear_model import LinearRegression

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Estimator
from starclip_lib.models.encoding import encode, encode_for_search
from starclip_lib.models.similarity import RERANKED, SimilarityIndex
from starclip_lib.settings.params import Params
from starclip_lib.transforms.views import mock_telescope


@dataclass(eq=False)
class EmbeddingIndex:
    """The stars of a data set as StarCLIP embeds them, and its encoder for further spectra."""

    data: PairedSpectra
    params: Params
    encoder: Estimator  # of NIRSpec spectra
    nirspec: Embeddings  # of all stars, some mock views and one spectrum of each
    apogee: Embeddings

    def embed(self, flux: np.ndarray) -> np.ndarray:
        """Unit vectors (n, dim) of NIRSpec spectra."""
        return encode(self.encoder, flux)

    def point(self, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Unit vectors (n, dim) of NIRSpec spectra and, of fits, packed posteriors (n, 230)."""
        return encode_for_search(self.encoder, flux)

    @cached_property
    def known(self) -> Embeddings:
        """Views of the training and validation stars, whose labels may be used."""
        return self.nirspec.take("train", "val")

    @cached_property
    def probe(self) -> LinearRegression:
        """The linear probe, fitted to the known views: `predict` reads labels (n, 20) in K and dex off vectors."""
        return fit_probe(self.known, self.data.labels_of(self.known.star_id))

    def read(self, z: np.ndarray) -> np.ndarray:
        """Labels that the linear probe reads off vectors."""
        return self.probe.predict(z.astype(np.float64))

    @cached_property
    def probe_error(self) -> np.ndarray:
        """Root mean square error (20,) of the linear probe on single views of the test stars, in K and dex."""
        test = self.nirspec.take("test")
        error = self.read(test.z) - self.data.labels_of(test.star_id)
        return np.sqrt((error**2).mean(axis=0))

    def measure(self, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Labels (n, 20) of NIRSpec spectra, their standard deviations, and warnings ('' where there is none)."""
        found = self.encoder.posterior(torch.from_numpy(flux))
        return *self.encoder.population.with_errors(found), list(found.warnings) or [""] * len(found)

    def measure_star(self, star_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels (1, 20) of a star from all its mock observations, and their standard deviations."""
        row = self.data.row(star_id)
        flux = mock_telescope(self.params).views(self.data.nirspec, np.array([row]))[0]
        found = self.encoder.posterior(torch.from_numpy(flux))
        return self.encoder.population.with_errors(found.combine(np.zeros(len(found)))[1])

    def views(self, star_id: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Unit vectors (n_views, dim) of a star's mock observations and, if there is some, their posterior."""
        own, posterior = self.nirspec.star_id == star_id, self.nirspec.posterior
        return self.nirspec.z[own], None if posterior is None else posterior[own]

    @cached_property
    def index(self) -> SimilarityIndex:
        """The APOGEE spectra, to search among."""
        return SimilarityIndex(self.apogee.z, self.apogee.star_id, posterior=self.apogee.posterior)

    def nearest(self, z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The APOGEE stars nearest to vectors, best first, and their cosines."""
        place, cosine = self.index.search(z, min(k, len(self.index)))
        return self.apogee.star_id[place], cosine

    def by_posterior(self, z: np.ndarray, k: int, posterior: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k APOGEE stars most probably the same as each spectrum, with cosines and log Bayes factors, all (n, k).

        Among the nearest by cosine, at least fifty of them, those with the largest Bayes factors; best first.
        """
        n = len(self.index)
        place, cosine = self.index.search(z, min(n, max(k, RERANKED)))
        factor = self.index.log_bayes_factors(posterior, place)
        order = np.argsort(-factor, axis=1, kind="stable")[:, :k]
        place, cosine, factor = (np.take_along_axis(x, order, axis=1) for x in (place, cosine, factor))
        return self.apogee.star_id[place], cosine, factor


def fit_probe(known: Embeddings, labels: np.ndarray) -> LinearRegression:
    """The linear probe itself, to read labels from single spectra."""
    return LinearRegression().fit(known.z.astype(np.float64), labels)
