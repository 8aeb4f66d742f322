"""StarCLIP's space with its stars in it: where a spectrum lies, which APOGEE stars are near, what its labels are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.linear_model import LinearRegression

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.posterior import combined_views
from starclip_lib.metrics.probing import fit_probe
from starclip_lib.metrics.similarity import RERANKED, SimilarityIndex
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.encoding import encode, encode_with_evidence
from starclip_lib.models.newton import NewtonEncoder


@dataclass(eq=False)
class Space:
    """The stars of a data set as StarCLIP embeds them, and its encoder for further spectra.

    Parameters
    ----------
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
        """Unit vectors (n, dim) of NIRSpec spectra."""
        return encode(self.encoder, flux)

    def point(self, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Unit vectors (n, dim) of NIRSpec spectra and, if the encoder knows its errors, evidence (n, 230)."""
        return encode_with_evidence(self.encoder, flux)

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
        """Labels of NIRSpec spectra and their uncertainties.

        An encoder that knows its errors says them for each spectrum; of others, the linear probe reads the labels, and
        its error on single views of test stars is the uncertainty of all.
        """
        if not isinstance(self.encoder, NewtonEncoder):
            labels = self.read(self.embed(flux))
            return labels, np.broadcast_to(self.probe_error, labels.shape), [""] * len(labels)
        with torch.no_grad():
            found = self.encoder.estimate(torch.from_numpy(flux))
        scale = self.encoder.label_std.numpy()
        sigma = found.covariance.diagonal(dim1=1, dim2=2).sqrt().numpy() * scale
        return found.labels.numpy() * scale + self.encoder.label_mean.numpy(), sigma, found.remarks

    def measure_star(self, star_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels of a star from all its mock observations, with uncertainties as in `measure`."""
        z, evidence = self.views(star_id)
        if evidence is None:
            return self.read(z).mean(axis=0, keepdims=True), self.probe_error[None]
        assert isinstance(self.encoder, NewtonEncoder)
        return self.encoder.physical(*combined_views(evidence, np.zeros(len(z)))[1:])

    def views(self, star_id: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Unit vectors (n_views, dim) of a star's mock observations and, if there is some, their evidence."""
        own, evidence = self.nirspec.star_id == star_id, self.nirspec.evidence
        return self.nirspec.z[own], None if evidence is None else evidence[own]

    @cached_property
    def index(self) -> SimilarityIndex:
        """The APOGEE spectra, to search among."""
        return SimilarityIndex(self.apogee.z, self.apogee.star_id, evidence=self.apogee.evidence)

    def nearest(self, z: np.ndarray, k: int, evidence: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The APOGEE stars nearest to vectors, best first."""
        known = evidence is not None and self.index.evidence is not None
        rerank = RERANKED if known else 0
        place, cosine = self.index.search(z, min(k, len(self.index)), evidence=evidence, rerank=rerank)
        return self.apogee.star_id[place], cosine

    def by_evidence(self, z: np.ndarray, k: int, evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The k APOGEE stars most probably the same as each spectrum, with cosines and log Bayes factors, all (n, k).

        Among the nearest by cosine, at least fifty of them, those with the largest Bayes factors; best first.
        """
        n = len(self.index)
        place, cosine = self.index.search(z, min(n, max(k, RERANKED)))
        factor = self.index.log_bayes_factors(evidence, place)
        order = np.argsort(-factor, axis=1, kind="stable")[:, :k]
        place, cosine, factor = (np.take_along_axis(x, order, axis=1) for x in (place, cosine, factor))
        return self.apogee.star_id[place], cosine, factor
