"""From an embedding back to spectra, of its own and of the other instrument (as SpecCLIP's decoders do)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from starclip_lib.data.selection import in_parts
from starclip_lib.data.spectrum_set import SpectrumSet, mean_of_data
from starclip_lib.physics.instruments import Instrument
from starclip_lib.run import Run
from starclip_lib.storage.hdf5 import Rows
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import ViewSampler, mock_telescope

MOST_HELD, MOST_JUDGED = 12_000, 5000  # stars whose spectra are held in memory, and that are judged, of a survey


@dataclass(eq=False)
class SpectrumBasis:
    """Principal components of an instrument's spectra, which decoders predict the coefficients of.

    Only pixels that hold data in at least half of the spectra are described (`covered`).
    """

    pca: PCA  # fitted
    on_detector: np.ndarray

    @classmethod
    def fit(cls, flux: np.ndarray, fill_value: float, n_components: int = 50, seed: int = 0) -> SpectrumBasis:
        """From training spectra (n, n_pix); missing pixels count as the mean of the others."""
        if len(flux) <= n_components:
            raise DataError(f"{len(flux)} spectra are too few for {n_components} principal components")
        on_detector = (flux == fill_value).mean(axis=0) < 0.5
        pca = PCA(n_components, svd_solver="randomized", random_state=seed)
        return cls(pca.fit(filled(flux[:, on_detector], fill_value)), on_detector)

    def coefficients(self, flux: Rows, fill_value: float) -> np.ndarray:
        """Coefficients (n, n_components) of spectra (n, n_pix); missing pixels count as the basis's mean."""
        values = (flux[part][:, self.on_detector] for part in in_parts(np.arange(len(flux))))
        return np.concatenate(
            [self.pca.transform(np.where(part == fill_value, self.pca.mean_, part)) for part in values]
        )

    def spectra(self, coefficients: np.ndarray) -> np.ndarray:
        """Spectra (n, n_pix) of coefficients (n, n_components), NaN where nothing is known."""
        out = np.full((len(coefficients), len(self.on_detector)), np.nan, np.float32)
        out[:, self.on_detector] = self.pca.inverse_transform(coefficients)
        return out


def filled(flux: np.ndarray, fill_value: float) -> np.ndarray:
    """Spectra (n, n_pix) with the mean of the other spectra in pixels without data."""
    return np.where(flux == fill_value, mean_of_data(flux, fill_value), flux)


def view_coefficients(
    basis: SpectrumBasis, spectra: SpectrumSet, rows: np.ndarray, telescope: ViewSampler
) -> np.ndarray:
    """Coefficients (len(rows) * n_views, n_components) of corrupted views, in the order of `as_embeddings`.

    What a linear method sees of an observation; gaps count as the mean spectrum.
    """
    out = np.empty((len(rows), telescope.n_views, basis.pca.n_components_))
    for place, view, batch in telescope.blocks(spectra, rows):
        out[place, view] = basis.coefficients(batch.numpy(), spectra.instrument.fill_value)
    return out.reshape(-1, out.shape[2])


class Decoder:
    """Predicts spectra from vectors: embeddings, or coefficients of another instrument's spectra.

    A 'network' has one hidden layer; 'linear' is ridge regression with the penalty of leave-one-out, the best linear
    predictor, which a network must beat to be worth having.
    """

    def __init__(self, basis: SpectrumBasis, kind: str = "network", width: int = 256, seed: int = 0):
        regressors = {
            "network": MLPRegressor(
                hidden_layer_sizes=(width,), early_stopping=True, n_iter_no_change=15, max_iter=1000, random_state=seed
            ),
            "linear": RidgeCV(np.logspace(-6, 3, 10)),
        }
        self.basis, self.regressor = basis, make_pipeline(StandardScaler(), regressors[kind])

    def fit(self, z: np.ndarray, coefficients: np.ndarray) -> Decoder:
        """Learn from vectors (m, dim) and the basis's coefficients (m, n_components) of the same stars."""
        self.scale = coefficients.std()  # one for all: components count as much as they matter in the spectrum
        self.regressor.fit(np.asarray(z, np.float64), coefficients / self.scale)
        return self

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Spectra (m, n_pix), NaN in pixels the basis does not cover."""
        return self.basis.spectra(self.regressor.predict(np.asarray(z, np.float64)) * self.scale)


def train_decoders(run: Run) -> tuple[dict[tuple[str, str], Decoder], dict[str, dict[str, Any]]]:
    """Decoders from each instrument's embedding to each one's spectra, and their scores beside a linear method's.

    Scores are of test stars, by 'NIRSpec → APOGEE', ..., then by method: `spectrum_scores` in `regions`. The linear
    method reads the observed spectrum itself.
    """
    data, params = run.data, run.params
    train, test, some = data.rows("train"), data.rows("test", MOST_JUDGED), data.rows("train", MOST_HELD)
    many, once = mock_telescope(params), mock_telescope(params, n_views=1)
    sets = {"nirspec": data.nirspec, "apogee": data.apogee}
    titles = {"nirspec": "NIRSpec", "apogee": "APOGEE"}
    bases = {
        name: SpectrumBasis.fit(s.flux[some], s.instrument.fill_value, params.evaluation.n_components, params.seed)
        for name, s in sets.items()
    }
    weights = {name: bases[name].coefficients(s.flux, s.instrument.fill_value) for name, s in sets.items()}
    seen = {
        "nirspec": lambda rows, telescope: view_coefficients(bases["nirspec"], data.nirspec, rows, telescope),
        "apogee": lambda rows, telescope: weights["apogee"][rows],
    }
    decoders, scores = {}, {}
    for source, target in product(sets, sets):
        embedded, part, basis = run.embeddings(f"starclip/{source}"), sets[target], bases[target]
        known = embedded.take("train")
        wanted = weights[target][data.rows_of(known.star_id)]
        network = Decoder(basis, "network", seed=params.seed).fit(known.z, wanted)
        linear = Decoder(basis, "linear").fit(seen[source](train, many), wanted)
        predicted = {
            "network, from the embedding": network.predict(embedded.of_view(0).z[test]),
            "linear, from the spectrum": linear.predict(seen[source](test, once)),
        }
        mean, parts = basis.spectra(np.zeros((1, params.evaluation.n_components)))[0], regions(part.instrument)
        decoders[source, target] = network
        scores[f"{titles[source]} → {titles[target]}"] = {
            kind: spectrum_scores(part.flux[test], flux, mean, part.instrument, parts)
            for kind, flux in predicted.items()
        }
    return decoders, scores


def regions(instrument: Instrument, width: float = 1500.0) -> list[tuple[float, float]]:
    """Wavelength regions (Angstrom) for scores: the chips, divided into parts of about `width`."""
    out = []
    for start, stop in instrument.chips:
        low, high = instrument.wavelength[start], instrument.wavelength[stop - 1]
        edges = np.linspace(low, high, max(1, round((high - low) / width)) + 1)
        out += [(float(a), float(b)) for a, b in pairwise(edges)]
    return out


def spectrum_scores(
    true: np.ndarray, predicted: np.ndarray, mean: np.ndarray, instrument: Instrument, parts: list[tuple[float, float]]
) -> dict[str, list[float]]:
    """How well spectra are predicted in each wavelength region."""
    use = np.isfinite(predicted) & np.isfinite(true) & (true != instrument.fill_value) & np.isfinite(mean)
    residual = np.where(use, true - predicted, 0) ** 2
    scatter = np.where(use, true - np.where(np.isfinite(mean), mean, 0), 0) ** 2
    scores: dict[str, list[float]] = {"r2": [], "rms": []}
    for low, high in parts:
        inside = (instrument.wavelength >= low) & (instrument.wavelength <= high)
        total, count = residual[:, inside].sum(), use[:, inside].sum()
        scores["r2"].append(float(1 - total / scatter[:, inside].sum()))
        scores["rms"].append(float(np.sqrt(total / count)))
    return scores
