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

from starclip_lib.data.selection import in_parts, mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet, mean_of_data
from starclip_lib.inference.spectrum import fit_spectrum
from starclip_lib.metrics.probing import Scores
from starclip_lib.metrics.retrieval import ranks_of, retrieval_scores
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.physics.instruments import APOGEE, MAD_PER_SIGMA, NIRSPEC, SIGMA_PER_FWHM, Instrument
from starclip_lib.physics.labels import by_name
from starclip_lib.settings.params import Params
from starclip_lib.support.threads import side_by_side
from starclip_lib.transforms.views import ViewSampler, extended_telescope, mock_telescope

_PENALTIES = np.logspace(-2, 4, 7)
_STARS = 2048  # whose views are held together
_SEARCHED = 5000  # stars whose spectra are searched as they are
_COMMON = 100  # pixels that two spectra must share to be compared
_ERROR_FLOOR = 0.005  # of the continuum: what theory or another survey is usually trusted to
_QUERIES = 256  # spectra compared with all others at once

Method = Callable[[np.ndarray], np.ndarray]  # labels (m, 20) of inputs (m, n_pix)


class Inputs:
    """Spectra as linear methods want them: missing pixels at the mean of the training spectra."""

    def __init__(self, flux: np.ndarray, instrument: Instrument):
        self.fill_value = instrument.fill_value
        self.mean = mean_of_data(flux, self.fill_value)

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Deviations (m, n_pix) from the mean training spectrum, float32, 0 in missing pixels."""
        return np.where(flux == self.fill_value, 0, flux - self.mean).astype(np.float32)

    def of_views(self, spectra: SpectrumSet, rows: np.ndarray, telescope: ViewSampler) -> np.ndarray:
        """The same of a telescope's views (m * n_views, n_pix), star by star; holds nothing but the result."""
        out = np.empty((len(rows), telescope.n_views, len(self.mean)), np.float32)
        for place, view, batch in telescope.blocks(spectra, rows):
            out[place, view] = self(batch.numpy())
        return out.reshape(-1, len(self.mean))


@dataclass(eq=False)
class Views:
    """Inputs of the views of some stars, and their labels."""

    x: np.ndarray  # (m, n_pix)
    labels: np.ndarray  # (m, 20)


def ridge(train: Views, val: Views) -> Method:
    """Ridge regression on all pixels; the penalty that is best for the validation stars."""
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
    """Ridge regression on principal components."""
    n_components = min(n_components, len(train.x) // 2)
    scale = StandardScaler().fit(train.labels)
    pca = PCA(n_components, svd_solver="randomized", random_state=seed)
    fit = make_pipeline(pca, RidgeCV(_PENALTIES)).fit(train.x, scale.transform(train.labels))
    return lambda x: scale.inverse_transform(fit.predict(x))


def raw_neighbours(train: Views, n_neighbours: int = 16) -> Method:
    """The mean of the nearest training spectra, weighted by inverse distance."""
    fit = KNeighborsRegressor(min(n_neighbours, len(train.x)), weights="distance", algorithm="brute")
    return fit.fit(train.x, train.labels).predict


def simple_methods(data: PairedSpectra, telescope: ViewSampler, seed: int) -> dict[str, np.ndarray]:
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
    """Labels (m, 20) by fitting the emulator to each spectrum of given SNR (m,), about a second apiece.

    The emulator made these spectra, so no model error is assumed.
    """
    ivar = np.where(flux == instrument.fill_value, 0, snr[:, None] ** 2)

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
    """The section 'baselines' of metrics.json."""
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
    """APOGEE spectra (n, 8575) cropped to 8,192 pixels from the first chip on (the paper's footnote 11)."""
    start = APOGEE.chips[0][0]
    return flux[:, start : start + NIRSPEC.n_pix]


def raw_spectra(data: PairedSpectra, params: Params) -> dict[str, Embeddings]:
    """The test spectra themselves as vectors, the baseline of Table 3: the same views as embeddings are made of.

    APOGEE is cropped to the 8,192 pixels from the first chip on, to have NIRSpec's length (footnote 11 of the paper).
    Of more than 5,000 test stars (the paper has 4,751), 5,000 are taken: their views, 8,192 numbers each, are all held
    in memory.
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


@dataclass(frozen=True, eq=False)
class _Overlap:
    """Spectra on common pixels: flux and good (n, p), variance (n,) of the noise, star_id (n,)."""

    flux: np.ndarray
    good: np.ndarray
    variance: np.ndarray
    star_id: np.ndarray


def apogee_as_nirspec(flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """APOGEE spectra (n, 8575) at NIRSpec's resolution, on NIRSpec's pixels that lie on APOGEE's chips.

    Returns these pixels (p,), the flux (n, p), and which pixels are good (n, p).
    """
    edges, wavelength = APOGEE.wavelength[[0, -1]], NIRSPEC.wavelength
    pixels = np.flatnonzero((wavelength > edges[0]) & (wavelength < edges[1]))
    wave = wavelength[pixels, None]
    sigma = wave * np.sqrt(NIRSPEC.resolution**-2 - APOGEE.resolution**-2) * SIGMA_PER_FWHM
    kernel = np.exp(-0.5 * ((APOGEE.wavelength - wave) / sigma) ** 2) * np.gradient(APOGEE.wavelength)
    kernel /= kernel.sum(axis=1, keepdims=True)
    kept = kernel @ APOGEE.on_detector > 0.99
    pixels, kernel = pixels[kept], kernel[kept]
    seen = flux != APOGEE.fill_value
    weight = seen @ kernel.T
    return pixels, (np.where(seen, flux, 0) @ kernel.T) / np.maximum(weight, 1e-6), weight > 0.9


def overlap_scores(data: PairedSpectra, telescope: ViewSampler) -> dict[str, dict[str, float | int]]:
    """Retrieval between the instruments by chi-squared over the pixels that both have; nothing is trained.

    APOGEE is blurred to NIRSpec's resolution, and one scale is fitted to each pair.  Spectra with fewer than a hundred
    pixels in common tie for the last place.  Of more than 5,000 test stars 5,000 are taken.
    """
    test = data.rows("test", _SEARCHED)
    pixels, blurred, good = apogee_as_nirspec(data.apogee.flux[test])
    parts = [telescope.views(data.nirspec, part)[:, :, pixels] for part in in_parts(test, _STARS)]
    flux = np.concatenate(parts).reshape(-1, len(pixels)).astype(np.float64)
    seen, star = flux != NIRSPEC.fill_value, data.star_id[test]
    sides = {
        "nirspec": _Overlap(flux, seen, _white_noise(flux, seen), np.repeat(star, telescope.n_views)),
        "apogee": _Overlap(blurred, good, np.zeros(len(test)), star),
    }
    out = {}
    for a, b in (("nirspec", "apogee"), ("apogee", "nirspec")):
        queries, candidates = sides[a], sides[b]
        blocks = in_parts(np.arange(len(queries.flux)), _QUERIES)
        ranks = [
            ranks_of(_reduced_chi2(queries, rows, candidates), queries.star_id[rows], candidates.star_id)
            for rows in blocks
        ]
        out[f"{a}_to_{b}"] = retrieval_scores(np.concatenate(ranks), len(candidates.flux))
    return out


def _white_noise(flux: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Variance (n,) of the noise of spectra, from second differences; 0 where there are none."""
    whole = good[:, 2:] & good[:, 1:-1] & good[:, :-2]
    size = np.where(whole, np.abs(flux[:, 2:] - 2 * flux[:, 1:-1] + flux[:, :-2]), np.nan)
    size[~whole.any(axis=1)] = 0
    return (np.nanmedian(size, axis=1) / MAD_PER_SIGMA) ** 2 / 6


def _reduced_chi2(queries: _Overlap, rows: np.ndarray, candidates: _Overlap) -> np.ndarray:
    """Chi-squared per pixel of some queries with all candidates, each of these scaled to the query."""
    own, other = (side.good.astype(np.float64) for side in (queries, candidates))
    own, flux = own[rows], queries.flux[rows]
    count, variance = own @ other.T, queries.variance[rows, None] + candidates.variance + _ERROR_FLOOR**2
    both = (own * flux) @ (other * candidates.flux).T
    scaled = both**2 / np.maximum(own @ (other * candidates.flux**2).T, 1e-9)
    misfit = ((own * flux**2) @ other.T - scaled) / np.maximum(count, 1) / variance
    return np.where(count < _COMMON, np.inf, misfit)
