"""What simple methods reach on the same spectra: a network that does not beat them is not worth its GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import svd
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from starclip_lib.data.fitting import fit_spectrum
from starclip_lib.data.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.data.labels import by_name
from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import PairedSpectra, SpectrumSet, mean_of_data
from starclip_lib.errors import DataError
from starclip_lib.metrics.probing import Scores
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.settings.params import Params
from starclip_lib.transforms.views import MockTelescope, extended_telescope, mock_telescope

_PENALTIES = np.logspace(-2, 4, 7)


class Inputs:
    """Spectra as linear methods want them: missing pixels at the mean of the training spectra.

    flux : (m, n_pix) training spectra
    """

    def __init__(self, flux: np.ndarray, instrument: Instrument):
        self.no_data = instrument.no_data
        self.mean = mean_of_data(flux, self.no_data)

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Deviations (m, n_pix) from the mean training spectrum, 0 in missing pixels."""
        return np.where(flux == self.no_data, 0, flux - self.mean).astype(np.float32)

    def of_views(self, spectra: SpectrumSet, rows: np.ndarray, telescope: MockTelescope) -> np.ndarray:
        """The same of a telescope's views, star by star, (len(rows) * n_views, n_pix); holds nothing but the result."""
        out = np.empty((len(rows), telescope.n_views, len(self.mean)), np.float32)
        for place, view, batch in telescope.blocks(spectra, rows):
            out[place, view] = self(batch.numpy())
        return out.reshape(-1, len(self.mean))


@dataclass(eq=False)
class Views:
    """Inputs (m, n_pix) of the views of some stars, and their labels (m, 20)."""

    x: np.ndarray
    labels: np.ndarray


def ridge(train: Views, val: Views, test: np.ndarray) -> np.ndarray:
    """Labels (m, 20) by ridge regression on all pixels; the penalty that is best for the validation stars."""
    scale = StandardScaler().fit(train.labels)
    target = scale.transform(train.labels)
    x = train.x.astype(np.float64)  # the smallest penalties need the digits
    fits = [Ridge(penalty, solver="cholesky").fit(x, target) for penalty in _PENALTIES]
    wanted = scale.transform(val.labels)
    best = min(fits, key=lambda fit: float(((fit.predict(val.x) - wanted) ** 2).mean()))
    return scale.inverse_transform(best.predict(test))


def pca_ridge(train: Views, test: np.ndarray, n_components: int = 200, seed: int = 0) -> np.ndarray:
    """Labels (m, 20) by ridge regression on principal components."""
    n_components = min(n_components, len(train.x) // 2)
    scale = StandardScaler().fit(train.labels)
    pca = PCA(n_components, svd_solver="randomized", random_state=seed)
    fit = make_pipeline(pca, RidgeCV(_PENALTIES)).fit(train.x, scale.transform(train.labels))
    return scale.inverse_transform(fit.predict(test))


def raw_neighbours(train: Views, test: np.ndarray, n_neighbours: int = 16) -> np.ndarray:
    """Labels (m, 20) as the mean of the nearest training spectra, weighted by inverse distance."""
    fit = KNeighborsRegressor(min(n_neighbours, len(train.x)), weights="distance", algorithm="brute")
    return fit.fit(train.x, train.labels).predict(test)


def simple_methods(data: PairedSpectra, telescope: MockTelescope, seed: int) -> dict[str, np.ndarray]:
    """Labels (test stars * n_views, 20) that simple methods read off the test stars' views, by name of the method.

    They learn from two views each of at most 4,000 training stars, and choose by those of at most 500 validation stars.
    """
    few = replace(telescope, n_views=min(2, telescope.n_views))
    parts = {"train": data.rows("train")[:4000], "val": data.rows("val")[:500]}
    flat = {name: few.views(data.nirspec, rows).reshape(-1, data.nirspec.flux.shape[1]) for name, rows in parts.items()}
    inputs = Inputs(flat["train"], data.nirspec.instrument)
    train, val = (
        Views(inputs(flat[name]), np.repeat(data.labels[rows], few.n_views, axis=0)) for name, rows in parts.items()
    )
    judged = inputs.of_views(data.nirspec, data.rows("test"), telescope)
    return {
        "ridge": ridge(train, val, judged),
        "PCA + ridge": pca_ridge(train, judged, seed=seed),
        "nearest spectra": raw_neighbours(train, judged),
    }


def least_squares_labels(
    flux: np.ndarray, snr: np.ndarray, instrument: Instrument, continuum_degree: int = 8
) -> np.ndarray:
    """Labels (m, 20) by fitting the emulator to each spectrum, about a second apiece.

    flux : (m, n_pix) observed; snr : (m,) per pixel.  The emulator made these spectra, so no model error is assumed.
    """
    ivar = np.where(flux == instrument.no_data, 0, snr[:, None] ** 2)
    fits = [
        fit_spectrum(f, i, instrument, continuum_degree=continuum_degree, model_error=0.0)
        for f, i in zip(flux, ivar, strict=True)
    ]
    return np.array([fit.labels for fit in fits])


def as_metrics(
    scores: dict[str, Scores],
    limits: dict[str, np.ndarray],
    least_squares: dict[str, float],
    by_snr: tuple[np.ndarray, np.ndarray],
    retrieval: dict[str, Any],
) -> dict[str, Any]:
    """The section 'baselines' of metrics.json.

    scores : of each method; limits : 'limit' of mock spectra and 'limit_extended', (20,) each
    by_snr : SNR (n_bins,) and errors over the limit (n_bins, 20); retrieval : scores of 'cca' and 'ideal'
    """
    over = {name: by_name(np.array(list(score["rmse"].values())) / limits["limit"]) for name, score in scores.items()}
    snr, ratios = by_snr
    return {
        "probing": scores,
        **{name: by_name(values) for name, values in limits.items()},
        "over_limit": over,
        "least_squares": least_squares,
        "by_snr": {"snr": snr.tolist(), "over_limit": ratios.tolist()},
        "retrieval": retrieval,
    }


class CanonicalCorrelation:
    """Linear alignment of two instruments: directions in which pairs correlate most, weighted by their correlations.

    a, b : (n * n_views, p) and (n, q) inputs of training pairs, `n_views` consecutive rows of a for each row of b, each
        side reduced to `n_components` principal components first.  Overwritten: copies of them would fill the memory
    Hotelling (1936), computed from the singular values of the product of the whitened components.
    Raises DataError if there are fewer pairs than twice the components.
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
        """Vectors (m, n_directions) of the inputs of side 0 (a) or 1 (b), to be compared by cosine."""
        return self._pca[side].transform(inputs) @ self._turn[side] * self.correlations


def align_linearly(data: PairedSpectra, telescope: MockTelescope) -> dict[str, Embeddings]:
    """Embeddings of the test stars, 'nirspec' and 'apogee', by canonical correlations of the training stars' views."""
    train, test = data.rows("train"), data.rows("test")
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
    out = {}
    sides = (nirspec.of_views(data.nirspec, test, telescope), apogee(data.apogee.flux[test]))
    for side, (name, x) in enumerate(zip(("nirspec", "apogee"), sides, strict=True)):
        z = cca.project(x, side).astype(np.float32).reshape(len(test), -1, cca.correlations.size)
        out[name] = as_embeddings(z, data.star_id[test], data.split[test])
    return out


def raw_spectra(data: PairedSpectra, params: Params) -> dict[str, Embeddings]:
    """The test spectra themselves as vectors, the baseline of Table 3: the same views as embeddings are made of.

    APOGEE is cropped to the 8,192 pixels from the first chip on, to have NIRSpec's length (footnote 11 of the paper).
    """
    test, extended = data.rows("test"), mock_stars(data, params)["test"]
    start = APOGEE.chips[0][0]
    wanted = {
        "nirspec": (test, mock_telescope(params)),
        "mock": (extended, mock_telescope(params, 1)),
        "extended": (extended, extended_telescope(data, params, 1)),
    }
    out = {}
    for name, (rows, telescope) in wanted.items():
        out[name] = as_embeddings(telescope.views(data.nirspec, rows), data.star_id[rows], data.split[rows])
    cropped = data.apogee.flux[test, start : start + NIRSPEC.n_pix]
    out["apogee"] = as_embeddings(cropped[:, None], data.star_id[test], data.split[test])
    return out
