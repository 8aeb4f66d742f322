"""Observed NIRSpec spectra through the models: labels with uncertainties, domain, neighbours, tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import QTable, Table

from starclip_lib.data.selection import select_evenly
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.tables import printable, with_units
from starclip_lib.inference.posterior import Population, Posterior
from starclip_lib.models.embedding_index import EmbeddingIndex
from starclip_lib.models.encoders import Estimator
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.observed.measured import EDGE, GOOD, OUTSIDE, SET_ASIDE, Measured, reason_of, verdict_of
from starclip_lib.observed.preparation import PreparedSpectrum, prepare_observed
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.giants import scale_covariance
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.settings.params import Params
from starclip_lib.storage.csv_files import write_csv
from starclip_lib.support.files import atomic_path
from starclip_lib.transforms.continuum import PseudoContinuum

_N_TEMPLATES = 64
_STRETCHES = 8  # of equally many pixels, about 500 Angstrom: wider than a band of a molecule
# Per cent of the test stars' views that lie closer to the training stars than a spectrum that is called outside.
_FAR = 99.9


def describe(spectra: list[ObservedSpectrum], settings: ObservedParams) -> pd.DataFrame:
    """What was measured on each spectrum, the verdict ('good' or 'set aside') and the reason."""
    rows = [
        {
            "name": s.name,
            "good pixels": s.n_good,
            "S/N claimed": round(s.snr),
            "neighbours differ by [%]": round(100 * s.roughness, 1),
            "verdict": SET_ASIDE if (faults := s.faults(settings)) else GOOD,
            "reason": "; ".join(faults),
        }
        for s in (spectrum.within(settings) for spectrum in spectra)
    ]
    columns = ["name", "good pixels", "S/N claimed", "neighbours differ by [%]", "verdict", "reason"]
    return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True)
class Preparation:
    """Observed spectra that may be embedded, and the name and reason of those that were set aside."""

    stars: list[PreparedSpectrum]
    set_aside: dict[str, str]


def prepare_all(spectra: list[ObservedSpectrum], data: PairedSpectra, params: Params) -> Preparation:
    """Bring the good spectra to rest and onto the grid; training stars spread over [Fe/H] serve as templates."""
    train = data.rows("train")
    few = min(_N_TEMPLATES, len(train))
    rows = train[select_evenly(data.labels[train, FE], few, few // 2, np.random.default_rng(0))]
    continuum = continuum_of(params)
    stars, set_aside = [], {}
    for spectrum in spectra:
        star, faults = prepare_if_good(spectrum, data.nirspec.flux[rows], continuum, params.observed)
        if star is None:
            set_aside[spectrum.name] = faults
        else:
            stars.append(star)
    return Preparation(stars, set_aside)


def continuum_of(params: Params) -> PseudoContinuum:
    """What observed spectra are divided by: the pseudo-continuum that the models were trained with, if they were."""
    return PseudoContinuum(params.corruption.continuum_spacing or params.observed.continuum_spacing)


def prepare_if_good(
    spectrum: ObservedSpectrum, templates: np.ndarray, continuum: PseudoContinuum, settings: ObservedParams
) -> tuple[PreparedSpectrum | None, str]:
    """A spectrum at rest and on the grid, or None and the reason."""
    if faults := spectrum.faults(settings):
        return None, "; ".join(faults)
    star = prepare_observed(spectrum, templates, continuum, settings)
    faults = star.faults(settings)
    return (None if faults else star), "; ".join(faults)


def model_input(star: PreparedSpectrum, flux: np.ndarray, params: Params) -> np.ndarray:
    """Spectra of a star, relative to the continuum that the run's models were trained on."""
    return flux if params.corruption.continuum_spacing else star.with_continuum(flux)


def posterior_of_fit(population: Population, one: Measured) -> Posterior:
    """The posterior of a measured spectrum in another population: the fit's prior is replaced by that.

    The errors of the synthesis and of the labels' scales stay; fits on an instrument's grid do not know them.
    """
    fit = one.fits[0]
    mean, precision, _ = fit.prior
    inverse, root, centre = np.linalg.inv(fit.covariance), population.root, population.mean
    information = root.T @ (inverse - precision) @ root
    shift = root.T @ (inverse @ (fit.labels - centre) - precision @ (mean - centre))
    covariance = np.linalg.inv(np.eye(N_LABELS) + information)
    found = Posterior.of((covariance @ shift)[None], (covariance + covariance.T)[None] / 2)
    return found.blurred(population.whitened_covariance(scale_covariance()))


def point_of_fit(encoder: Estimator, one: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Unit vector (1, dim) and packed posterior (1, 230) of a measured spectrum, for a search among fits."""
    found = encoder.placed(posterior_of_fit(encoder.population, one)).cpu().numpy()
    return found[:, : encoder.dim], found[:, encoder.dim :]


def _draws(star: PreparedSpectrum, n: int, rng: np.random.Generator) -> np.ndarray:
    """The spectrum and n - 1 copies with new noise, (n, 8192); neighbouring pixels of the grid share noise."""
    coarse = rng.standard_normal((n, NIRSPEC.n_pix // 2 + 1))
    coarse[0] = 0
    place = np.arange(NIRSPEC.n_pix) / 2
    left = place.astype(int)
    part = place - left
    noise = (coarse[:, left] * (1 - part) + coarse[:, left + 1] * part) / np.sqrt((1 - part) ** 2 + part**2)
    return np.where(star.mask, NIRSPEC.fill_value, star.flux + star.noise * noise).astype(np.float32)


def _stretches_left_out(star: PreparedSpectrum) -> np.ndarray:
    """Copies of the spectrum without one stretch of wavelengths each, (`_STRETCHES`, 8192)."""
    copies = np.repeat(star.flux[None], _STRETCHES, axis=0)
    for copy, stretch in zip(copies, np.array_split(np.flatnonzero(~star.mask), _STRETCHES), strict=True):
        copy[stretch] = NIRSPEC.fill_value
    return copies


def jackknife_error(without: np.ndarray) -> np.ndarray:
    """Standard error of an estimate from its values with each of k parts of the data left out in turn."""
    return np.sqrt(len(without) - 1) * without.std(axis=0)


@dataclass(frozen=True)
class Analysis:
    """What networks read from observed spectra.

    `labels` has a row for each star (verdict, reason, velocity, labels with `sigma_`), `neighbours` one for each
    neighbour; `z` (n, dim) are the embeddings.
    """

    labels: pd.DataFrame
    neighbours: pd.DataFrame
    z: np.ndarray


def analyse(stars: list[PreparedSpectrum], space: EmbeddingIndex, params: Params) -> Analysis:
    """Embed spectra with StarCLIP's NIRSpec encoder, read labels with the linear probe, find the nearest APOGEE stars.

    The uncertainty of a label is the spread over resampled noise and, in quadrature, the larger of two: the probe's
    error on the views of test stars, and what the star's own wavelengths disagree by (a jackknife over eight stretches
    of the spectrum), which grows where real spectra differ from synthetic ones.

    The verdict is 'outside' if Teff, log g or [Fe/H] is beyond the training stars' range by more than its uncertainty,
    or if the embedding is farther from them than 99.9 per cent of the test stars' views are, and 'at the edge' if a
    label lies within its uncertainty of the range's limit.
    """
    if not stars:
        return Analysis(pd.DataFrame(), pd.DataFrame(), np.empty((0, 0)))
    test = space.nirspec.take("test")
    index = SimilarityIndex(space.known.z, space.known.star_id)
    usual = np.percentile(index.search(test.z, 1)[1][:, 0], 100 - _FAR)

    rows, z = [], []
    for star in stars:
        draws = _draws(star, params.observed.n_draws, np.random.default_rng(params.seed))
        points = space.embed(model_input(star, np.concatenate([draws, _stretches_left_out(star)]), params))
        labels, without = np.split(space.read(points), [len(draws)])
        sigma = np.hypot(labels.std(axis=0, ddof=1), np.maximum(space.probe_error, jackknife_error(without)))
        closest = float(index.search(points[:1], 1)[1][0, 0])
        warnings = _range_warnings(labels[0], sigma, params)
        if closest < usual:
            warnings.insert(0, f"{OUTSIDE}: nearest training spectrum at cosine {closest:.3f}, below {usual:.3f}")
        rows.append(
            {
                "name": star.name,
                "verdict": verdict_of(warnings),
                "reason": reason_of(warnings),
                "velocity": star.velocity,
                "sigma_velocity": star.velocity_error,
                "correlation": star.correlation,
                **dict(zip(LABELS, labels[0].tolist(), strict=True)),
                **{f"sigma_{name}": value for name, value in zip(LABELS, sigma.tolist(), strict=True)},
            }
        )
        z.append(points[0])
    found, cosine = space.nearest(np.array(z), params.observed.n_neighbours)
    near = pd.DataFrame(space.data.labels_of(found.ravel()), columns=LABELS)
    near.insert(0, "cosine", cosine.ravel())
    near.insert(0, "APOGEE star", found.ravel())
    near.insert(0, "observed", np.repeat([star.name for star in stars], found.shape[1]))
    return Analysis(pd.DataFrame(rows), near, np.array(z))


def _range_warnings(labels: np.ndarray, sigma: np.ndarray, params: Params) -> list[str]:
    """Where labels (20,) with their uncertainties leave the range of the training stars."""
    warnings = []
    for name, column, (low, high), digits in (
        ("Teff", TEFF, params.data.teff_range, 0),
        ("log g", LOGG, params.data.logg_range, 2),
        ("[Fe/H]", FE, params.data.feh_range, 2),
    ):
        value, error = labels[column], sigma[column]
        beyond = max(low - value, value - high)  # negative inside
        if beyond > -error:
            verdict = OUTSIDE if beyond > error else EDGE
            warnings.append(
                f"{verdict}: {name} {value:.{digits}f} ± {error:.{digits}f}, trained from {low:g} to {high:g}"
            )
    return warnings


def _joined(analysis: Analysis, set_aside: dict[str, str]) -> pd.DataFrame:
    aside = pd.DataFrame({"name": list(set_aside), "verdict": SET_ASIDE, "reason": list(set_aside.values())})
    return pd.concat([analysis.labels, aside], ignore_index=True) if len(analysis.labels) else aside


def table_of(analysis: Analysis, set_aside: dict[str, str]) -> QTable:
    """One row for each spectrum, with units: its labels and their uncertainties, or why it was set aside."""
    return with_units(Table.from_pandas(_joined(analysis, set_aside)))


def write_tables(analysis: Analysis, set_aside: dict[str, str], folder: Path) -> list[Path]:
    """Write observed.ecsv (with units) and observed.csv: one row for each spectrum, those set aside with the reason."""
    paths = [folder / "observed.csv", folder / "observed.ecsv"]
    with atomic_path(paths[0]) as part:
        write_csv(_joined(analysis, set_aside), part, "%.5g")
    with atomic_path(paths[1]) as part:
        Table(printable(table_of(analysis, set_aside))).write(part, format="ascii.ecsv", overwrite=True)
    return paths
