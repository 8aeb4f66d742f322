"""What simple methods reach on the same spectra: a network that does not beat them is not worth its GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from starclip_lib.data.fitting import fit_spectrum
from starclip_lib.data.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.data.labels import by_name
from starclip_lib.data.selection import in_parts, mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet, mean_of_data
from starclip_lib.metrics.probing import Scores
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.settings.params import Params
from starclip_lib.threads import side_by_side
from starclip_lib.transforms.views import MockTelescope, extended_telescope, mock_telescope

_PENALTIES = np.logspace(-2, 4, 7)
_STARS = 2048  # whose views are held together
_SEARCHED = 5000  # stars whose spectra are searched as they are

Method = Callable[[np.ndarray], np.ndarray]


class Inputs:
    """Spectra as linear methods want them: missing pixels at the mean of the training spectra.

    Parameters
    ----------
    flux : ndarray, shape (m, n_pix)
        Training spectra.
    instrument : Instrument
    """

    def __init__(self, flux: np.ndarray, instrument: Instrument):
        self.no_data = instrument.no_data
        self.mean = mean_of_data(flux, self.no_data)

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Deviations (m, n_pix) from the mean training spectrum, 0 in missing pixels.

        Parameters
        ----------
        flux : ndarray, shape (m, n_pix)

        Returns
        -------
        ndarray, shape (m, n_pix)
            float32.
        """
        return np.where(flux == self.no_data, 0, flux - self.mean).astype(np.float32)

    def of_views(self, spectra: SpectrumSet, rows: np.ndarray, telescope: MockTelescope) -> np.ndarray:
        """The same of a telescope's views, star by star; holds nothing but the result.

        Parameters
        ----------
        spectra : SpectrumSet
        rows : ndarray of int, shape (m,)
        telescope : MockTelescope

        Returns
        -------
        ndarray, shape (m * n_views, n_pix)
            float32.
        """
        out = np.empty((len(rows), telescope.n_views, len(self.mean)), np.float32)
        for place, view, batch in telescope.blocks(spectra, rows):
            out[place, view] = self(batch.numpy())
        return out.reshape(-1, len(self.mean))


@dataclass(eq=False)
class Views:
    """Inputs of the views of some stars, and their labels.

    Parameters
    ----------
    x : ndarray, shape (m, n_pix)
    labels : ndarray, shape (m, 20)
    """

    x: np.ndarray
    labels: np.ndarray


def ridge(train: Views, val: Views) -> Method:
    """Ridge regression on all pixels; the penalty that is best for the validation stars.

    Parameters
    ----------
    train, val : Views

    Returns
    -------
    callable
        Labels (m, 20) of inputs (m, n_pix).
    """
    scale = StandardScaler().fit(train.labels)
    target = scale.transform(train.labels)
    x = train.x.astype(np.float64)  # the smallest penalties need the digits
    x -= (mean := x.mean(0))
    gram = x @ x.T  # there are fewer spectra than pixels
    slopes = [
        x.T @ KernelRidge(alpha=penalty, kernel="precomputed").fit(gram, target).dual_coef_ for penalty in _PENALTIES
    ]
    wanted = scale.transform(val.labels)
    best = min(slopes, key=lambda slope: float((((val.x - mean) @ slope - wanted) ** 2).mean()))
    return lambda x: scale.inverse_transform((x - mean) @ best)


def pca_ridge(train: Views, n_components: int = 200, seed: int = 0) -> Method:
    """Ridge regression on principal components.

    Parameters
    ----------
    train : Views
    n_components : int
    seed : int

    Returns
    -------
    callable
        Labels (m, 20) of inputs (m, n_pix).
    """
    n_components = min(n_components, len(train.x) // 2)
    scale = StandardScaler().fit(train.labels)
    pca = PCA(n_components, svd_solver="randomized", random_state=seed)
    fit = make_pipeline(pca, RidgeCV(_PENALTIES)).fit(train.x, scale.transform(train.labels))
    return lambda x: scale.inverse_transform(fit.predict(x))


def raw_neighbours(train: Views, n_neighbours: int = 16) -> Method:
    """The mean of the nearest training spectra, weighted by inverse distance.

    Parameters
    ----------
    train : Views
    n_neighbours : int

    Returns
    -------
    callable
        Labels (m, 20) of inputs (m, n_pix).
    """
    fit = KNeighborsRegressor(min(n_neighbours, len(train.x)), weights="distance", algorithm="brute")
    return fit.fit(train.x, train.labels).predict


def simple_methods(data: PairedSpectra, telescope: MockTelescope, seed: int) -> dict[str, np.ndarray]:
    """Labels that simple methods read off the test stars' views, by name of the method.

    They learn from two views each of at most 4,000 training stars, and choose by those of at most 500 validation stars.

    Parameters
    ----------
    data : PairedSpectra
    telescope : MockTelescope
    seed : int

    Returns
    -------
    dict of str to ndarray, shape (test stars * n_views, 20)
    """
    few = replace(telescope, n_views=min(2, telescope.n_views))
    parts = {"train": data.rows("train")[:4000], "val": data.rows("val")[:500]}
    flat = {name: few.views(data.nirspec, rows).reshape(-1, data.nirspec.flux.shape[1]) for name, rows in parts.items()}
    inputs = Inputs(flat["train"], data.nirspec.instrument)
    train, val = (
        Views(inputs(flat[name]), np.repeat(data.labels[rows], few.n_views, axis=0)) for name, rows in parts.items()
    )
    methods: dict[str, Method] = {
        "ridge": ridge(train, val),
        "PCA + ridge": pca_ridge(train, seed=seed),
        "nearest spectra": raw_neighbours(train),
    }
    judged = (inputs.of_views(data.nirspec, part, telescope) for part in in_parts(data.rows("test"), _STARS))
    labels = [{name: method(x) for name, method in methods.items()} for x in judged]
    return {name: np.concatenate([part[name] for part in labels]) for name in methods}


def least_squares_labels(
    flux: np.ndarray, snr: np.ndarray, instrument: Instrument, continuum_degree: int = 8
) -> np.ndarray:
    """Labels (m, 20) by fitting the emulator to each spectrum, about a second apiece.

    The emulator made these spectra, so no model error is assumed.

    Parameters
    ----------
    flux : ndarray, shape (m, n_pix)
        Observed.
    snr : ndarray, shape (m,)
        Per pixel.
    instrument : Instrument
    continuum_degree : int

    Returns
    -------
    ndarray, shape (m, 20)
    """
    ivar = np.where(flux == instrument.no_data, 0, snr[:, None] ** 2)

    def fitted(row: int) -> np.ndarray:
        fit = fit_spectrum(flux[row], ivar[row], instrument, continuum_degree=continuum_degree, model_error=0.0)
        return fit.labels

    return np.array(side_by_side(fitted, range(len(flux))))


def as_metrics(
    scores: dict[str, Scores],
    limits: dict[str, np.ndarray],
    least_squares: dict[str, float],
    by_snr: tuple[np.ndarray, np.ndarray],
    retrieval: dict[str, Any],
) -> dict[str, Any]:
    """The section 'baselines' of metrics.json.

    Parameters
    ----------
    scores : dict of str to Scores
        Of each method.
    limits : dict of str to ndarray, shape (20,)
        'limit' of mock spectra and 'limit_extended'.
    least_squares : dict of str to float
    by_snr : tuple of ndarray
        SNR (n_bins,) and errors over the limit (n_bins, 20).
    retrieval : dict
        Scores of 'cca' and 'ideal'.

    Returns
    -------
    dict
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


def cropped_apogee(flux: np.ndarray) -> np.ndarray:
    """APOGEE spectra cropped to the 8,192 pixels from the first chip on, to have NIRSpec's length.

    Parameters
    ----------
    flux : ndarray, shape (n, 8575)

    Returns
    -------
    ndarray, shape (n, 8192)
        A view.  Footnote 11 of the paper.
    """
    start = APOGEE.chips[0][0]
    return flux[:, start : start + NIRSPEC.n_pix]


def raw_spectra(data: PairedSpectra, params: Params) -> dict[str, Embeddings]:
    """The test spectra themselves as vectors, the baseline of Table 3: the same views as embeddings are made of.

    APOGEE is cropped to the 8,192 pixels from the first chip on, to have NIRSpec's length (footnote 11 of the paper).
    Of more than 5,000 test stars (the paper has 4,751), 5,000 are taken: their views, 8,192 numbers each, are all held
    in memory.

    Parameters
    ----------
    data : PairedSpectra
    params : Params

    Returns
    -------
    dict of str to Embeddings
        'nirspec', 'mock', 'extended' and 'apogee'.
    """
    test, extended = data.rows("test", _SEARCHED), mock_stars(data, params)["test"]
    wanted = {
        "nirspec": (test, mock_telescope(params)),
        "mock": (extended, mock_telescope(params, 1)),
        "extended": (extended, extended_telescope(data, params, 1)),
    }
    out = {}
    for name, (rows, telescope) in wanted.items():
        out[name] = as_embeddings(telescope.views(data.nirspec, rows), data.star_id[rows], data.split[rows])
    cropped = cropped_apogee(data.apogee.flux[test])
    out["apogee"] = as_embeddings(cropped[:, None], data.star_id[test], data.split[test])
    return out
