"""One spectrum on an instrument's grid, fitted with the emulator, as The Payne does (Ting et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from starclip_lib.inference.gauss_newton import Prior, fit
from starclip_lib.inference.grid import GridModel
from starclip_lib.inference.noise import GivenNoise
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.support.errors import DataError

_MODEL_ERROR = 0.01  # of the flux: the accuracy of LTE, one-dimensional atmospheres and line lists
_STEPS, _TOLERANCE = 30, 0.01


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """The emulated spectrum that comes closest to an observed one.

    `labels` (20,) in K and dex, inside the emulator's domain, and `sigma` (20,) their standard deviations; `at_edge`
    names the labels that were held at its edge; `model` (n_pix,) is the emulated flux times the `continuum` (n_pix,),
    `rms` the root mean square of observed minus model over the pixels used.
    """

    labels: np.ndarray
    sigma: np.ndarray
    at_edge: tuple[str, ...]
    model: np.ndarray
    continuum: np.ndarray
    rms: float


def fit_spectrum(
    flux: np.ndarray,
    ivar: np.ndarray,
    instrument: Instrument,
    *,
    continuum_degree: int = 4,
    model_error: float = _MODEL_ERROR,
    emulator: Emulator | None = None,
) -> SpectrumFit:
    """Fit the twenty labels and a polynomial continuum for each chip to one spectrum (n_pix,) near rest.

    The prior is as wide as the emulator's domain. `ivar` (n_pix,) is the inverse variance, 0 where there is no data;
    `model_error`, a fraction of the continuum, is added to the noise, and outliers beyond both count less.

    Raises
    ------
    DataError
        If fewer pixels hold data than there are parameters, or if they are not finite.
    """
    emulator = emulator or default_emulator()
    used = ivar > 0
    if not (np.isfinite(flux[used]).all() and np.isfinite(ivar).all()):
        raise DataError("the spectrum holds NaN or infinite values; mark such pixels with ivar 0")
    forward = GridModel(emulator, instrument, continuum_degree, chips=True).double()
    if used.sum() <= len(LABELS) + len(forward.expected):
        raise DataError(f"{used.sum()} pixels hold data, too few for {len(LABELS)} labels and a continuum")
    prior = _domain_prior(emulator)
    given = torch.from_numpy(np.where(used, flux, 1.0).astype(float)[None])
    weight = torch.from_numpy(np.where(used, ivar, 0.0).astype(float)[None])
    noise = GivenNoise(weight, model_error, robust=model_error > 0)
    root = torch.linalg.cholesky(torch.linalg.inv(prior.precision))
    start = forward.inside(prior.mean[None])
    level = torch.zeros_like(forward.expected)[None]
    options = {"directions": root.T, "steps": _STEPS, "tolerance": _TOLERANCE}
    found = fit(given, forward, noise, prior, start, level, **options)
    spectra = forward(found.labels, found.nuisances)
    continuum, model = spectra.continuum[0].numpy(), (spectra.model * spectra.continuum)[0].numpy()
    sigma = found.covariance[0].diagonal().sqrt().numpy()
    at_edge = tuple(name for name, held in zip(LABELS, found.held[0].tolist(), strict=True) if held)
    rms = float(np.sqrt(np.mean((flux - model)[used] ** 2)))
    return SpectrumFit(found.labels[0].numpy(), sigma, at_edge, model, continuum, rms)


def _domain_prior(emulator: Emulator) -> Prior:
    """Mean and precision of labels spread evenly over the domain: log g, [Fe/H] and, about it, [X/H]; Teff by log g."""
    low, high = emulator.xfe_min.astype(float), emulator.xfe_max.astype(float)
    for column in (LOGG, FE):
        low[column], high[column] = emulator.label_min[column], emulator.label_max[column]
    low[TEFF], high[TEFF] = emulator.teff_low.min(), emulator.teff_high.max()
    to_labels = np.eye(len(LABELS))
    to_labels[[LABELS.index(element) for element in ELEMENTS], FE] = 1.0
    covariance = to_labels @ np.diag((high - low) ** 2 / 12) @ to_labels.T
    mean = to_labels @ ((low + high) / 2)
    return Prior(torch.from_numpy(mean), torch.from_numpy(np.linalg.inv(covariance)))
