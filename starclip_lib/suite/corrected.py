"""Syntheses corrected from data: relative errors of the depth of lines, pixel by pixel, linear in Teff and [Fe/H].

They follow from training stars whose labels are known, or from observed spectra without labels, if some pixels are
known to be right: labels are anchored there first, and the other pixels are corrected then.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from starclip_lib.inference.gauss_newton import Prior, fit
from starclip_lib.inference.grid import GridModel, correction_terms
from starclip_lib.inference.noise import MeasuredNoise
from starclip_lib.inference.posterior import Population, Posterior, fit_pair_covariance
from starclip_lib.metrics.baselines import apogee_as_nirspec
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import N_LABELS, LabelScaler
from starclip_lib.settings.training import FitParams

_SIZE = (0.15, 0.05, 0.05)  # prior standard deviations of a correction and its changes with Teff and [Fe/H]
_KNOWN = 1e8  # weight of known labels over their prior's
_DOUBTED = 0.5  # of the depth of lines: error of pixels that do not take part in anchoring
_TRUSTED = 0.02  # the same of pixels whose correction is known
_BLOCK = 256  # spectra at once
_MATCHED = 500  # spectra whose matches teach what all have in common


def new_fit(
    emulator: Emulator,
    guess: Encoder,
    population: Population,
    scaler: LabelScaler,
    steps: int,
    physics: tuple[np.ndarray, np.ndarray] | None = None,
    line_width: bool | None = None,
) -> EmulatorFit:
    """A fit from a network's guess that has learned nothing yet; `physics` and `line_width` are further nuisances."""
    made = EmulatorFit(guess.instrument, FitParams(steps=steps), guess.settings, emulator, guess)
    made.forward_model = GridModel(emulator, guess.instrument, physics=physics, line_width=line_width)
    made.set_population(population)
    made.set_scaler(scaler)
    return made


def learn_variance(made: EmulatorFit, flux: Tensor) -> None:
    """Learn the error of the synthesis in each pixel; neighbours within a resolution element share it."""
    made.fit_model_error(flux)
    instrument = made.instrument
    together = np.median(instrument.fwhm / np.gradient(instrument.wavelength))
    made.model_error *= float(np.sqrt(together))


@torch.no_grad()
def learn_correction(made: EmulatorFit, flux: Tensor, labels: Tensor, pixels: np.ndarray | None = None) -> None:
    """Learn the correction (of some pixels) from spectra (n, n_pix) of known labels (n, 20)."""
    forward, n_pix = made.forward_model, flux.shape[1]
    sums, right = np.zeros((n_pix, 3, 3)), np.zeros((n_pix, 3))
    prior = torch.from_numpy(made.population.precision) * _KNOWN
    for spectra, known in zip(flux.split(_BLOCK), labels.split(_BLOCK), strict=True):
        good = made._good(spectra)
        noise = MeasuredNoise(good, made.model_error**2)
        start, nuisances = forward.inside(known), forward.expected.expand(len(known), -1)
        directions = made.directions
        found = fit(spectra, forward, noise, Prior(known, prior), start, nuisances, directions=directions, steps=2)
        made_spectra = forward(found.labels, found.nuisances)
        plain = forward.emulated(made_spectra.labels)
        residual = spectra / made_spectra.continuum - (made_spectra.model - made_spectra.still) - plain
        weight = (good / noise.variance).numpy().astype(np.float64)
        depth, terms = (1 - plain).numpy(), correction_terms(known).numpy()
        for i in range(3):
            right[:, i] -= np.einsum("np,n->p", weight * depth * residual.numpy(), terms[:, i])
            for j in range(3):
                sums[:, i, j] += np.einsum("np,n->p", weight * depth**2, terms[:, i] * terms[:, j])
    fresh = np.linalg.solve(sums + np.diag(np.array(_SIZE) ** -2.0), right[..., None])[..., 0].T
    if pixels is not None and forward.correction is not None:
        fresh = np.where(pixels, fresh, forward.correction.numpy())
    forward.correction = torch.from_numpy(fresh.astype(np.float32))


def carried_correction(apogee: EmulatorFit, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """APOGEE's correction at NIRSpec's resolution: the pixels (p,) on APOGEE's chips, and their correction (3, p)."""
    correction = apogee.forward_model.correction
    assert correction is not None
    mean = apogee.forward_model.emulated(labels).mean(0).numpy()
    depth = (1 - mean) * APOGEE.on_detector
    rows = 1 - np.concatenate([depth[None], depth * correction.numpy()])
    rows[:, ~APOGEE.on_detector] = APOGEE.fill_value
    pixels, blurred, _ = apogee_as_nirspec(rows)
    return pixels, (1 - blurred[1:]) / np.maximum(1 - blurred[0], 0.01)


def agreed(found: Posterior, n_views: int, reference: Posterior, rounds: int = 3) -> Posterior:
    """Posteriors without the error that all of them share, as their matches among other posteriors show it.

    The first view of each star is matched with the nearest of `reference`. The mean difference of the matches is taken
    off; the covariance of what their errors do not explain is added.
    """
    (a, error_a), (b, error_b) = found.without_prior(), reference.without_prior()
    a, error_a = a[::n_views][:_MATCHED], error_a[::n_views][:_MATCHED]
    offset, extra = np.zeros(N_LABELS), np.zeros((N_LABELS, N_LABELS))
    for _ in range(rounds):
        root = np.linalg.cholesky(np.linalg.inv(error_a.mean(axis=0) + error_b.mean(axis=0) + extra))
        match = cdist((a - offset) @ root, b @ root).argmin(axis=1)
        errors = error_a + error_b[match]
        weight = np.linalg.inv(errors + extra)
        pull = (weight @ (a - b[match])[..., None])[..., 0].sum(axis=0)
        offset = np.linalg.solve(weight.sum(axis=0), pull)
        extra = fit_pair_covariance(a - offset, b[match], errors)
    return found.shifted(-offset).blurred(extra)


@torch.no_grad()
def anchored_fit(made: EmulatorFit, flux: Tensor, apogee: EmulatorFit, labels: Tensor, rounds: int = 2) -> None:
    """Correct a NIRSpec fit from observed spectra without labels, anchored where APOGEE's correction is known.

    `labels` (n, 20) are some of the population. Labels of the observed spectra come from APOGEE's chips first; what is
    left elsewhere is then common to all stars, and so the synthesis' error.
    """
    pixels, carried = carried_correction(apogee, labels)
    anchor = np.zeros(NIRSPEC.n_pix, bool)
    anchor[pixels] = True
    correction = np.zeros((3, NIRSPEC.n_pix), np.float32)
    correction[:, pixels] = carried
    made.forward_model.correction = torch.from_numpy(correction)
    depth = 1 - made.forward_model.emulated(labels).mean(0).numpy()
    error = np.where(anchor, _TRUSTED, _DOUBTED) * depth + 1e-3
    made.model_error = torch.from_numpy(error).to(made.model_error)
    for _ in range(rounds):
        found = made.posterior(flux)
        population = made.population
        anchored = torch.from_numpy(population.mean + found.mean @ population.root.T)
        learn_correction(made, flux, anchored, ~anchor)
        learn_variance(made, flux)
