"""The emulator fitted to spectra of an instrument's grid: a guess, and Gauss-Newton steps from there.

A pixel's variance is that of the noise, which every spectrum shows by itself, plus the square of the model's error
there, which is fitted to training stars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeVar

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from starclip_lib.inference.gauss_newton import Fitted, Prior, fit, marginalised, well_conditioned
from starclip_lib.inference.grid import GridModel, GridSpectra
from starclip_lib.inference.noise import MeasuredNoise
from starclip_lib.inference.posterior import Population, Posterior
from starclip_lib.models.encoders import Encoder, Estimator
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import N_LABELS, LabelScaler
from starclip_lib.settings.training import EncoderParams, FitParams
from starclip_lib.support.threads import side_by_side

Result = TypeVar("Result")
_PIECE = 32  # spectra fitted at once on a CPU: what they need stays in its cache
_LEAST_ERROR = 1e-4  # of the flux: the emulator's own error
_SMOOTHING = 1.5  # pixels over which the model's variance is smooth
_FEWEST = 60  # pixels, more than labels and nuisances together: fewer are no fit
_REFERENCE_SNR = 100.0  # at which the labels' directions are chosen; any would do
TOO_FEW = "too few usable pixels to constrain the labels; this is the first guess"
AT_EDGE = "held at the edge of the emulator's domain"


class EmulatorFit(Estimator):
    """Fits of the emulator to spectra of one instrument, with the population as prior.

    `guess` gives the first labels; without one the fit begins at the population's mean. `model_error` (n_pix,) is the
    standard deviation of the emulator's error, relative to the continuum; `pair_covariance` (20, 20) that of what
    separates its labels from those of its partner instrument (catalogue errors), whitened.
    """

    label_mean: Tensor
    label_std: Tensor
    directions: Tensor
    model_error: Tensor
    pair_covariance: Tensor
    on_detector: Tensor

    def __init__(
        self,
        instrument: Instrument,
        fit_settings: FitParams,
        network: EncoderParams,
        emulator: Emulator,
        guess: Encoder | None,
    ):
        super().__init__(instrument, network)
        self.fit_settings, self.steps, self.guess = fit_settings, fit_settings.steps, guess
        self.forward_model = GridModel(emulator, instrument)
        self.emulator_version = emulator.version
        self.register_buffer("on_detector", torch.from_numpy(instrument.on_detector), persistent=False)
        self.register_buffer("label_mean", torch.zeros(N_LABELS, dtype=torch.float64))
        self.register_buffer("label_std", torch.ones(N_LABELS, dtype=torch.float64))
        self.register_buffer("directions", torch.eye(N_LABELS, dtype=torch.float64))
        self.register_buffer("model_error", torch.full((instrument.n_pix,), _LEAST_ERROR))
        self.register_buffer("pair_covariance", torch.zeros(N_LABELS, N_LABELS, dtype=torch.float64))
        self.requires_grad_(False)

    def set_population(self, population: Population) -> None:
        """Take the population of the training stars, and directions in which the mean star's labels are known equally.

        Weak labels would be lost in the rounding errors of a float32 matrix beside strong ones.
        """
        super().set_population(population)
        mean, forward = self.population_mean[None], self.forward_model
        spectra = forward(mean, forward.expected[None])
        weight = _REFERENCE_SNR**2 * self.on_detector[None].float()
        scale = torch.diag(self.population_root.square().sum(1).sqrt())
        matrix, _ = forward.equations(spectra, weight, torch.zeros_like(weight), scale)
        information = marginalised(matrix)[0] + scale @ self._prior.precision @ scale
        self.directions = well_conditioned(information) @ scale

    def set_scaler(self, scaler: LabelScaler) -> None:
        """Take the scale of the labels that calling it returns, which is also that of the guess."""
        self.label_mean = torch.from_numpy(scaler.mean).to(self.device)
        self.label_std = torch.from_numpy(scaler.std).to(self.device)

    def fit_model_error(self, flux: Tensor) -> None:
        """Find by how much the emulator misses training spectra (n, n_pix), pixel by pixel, beyond their noise."""
        for _ in range(2):  # the first fit is pulled by pixels that the second one trusts less
            pieces = flux.to(self.device).split(_PIECE)
            excess, weight = reduce(torch.add, _each_alone(self._excess, pieces))
            variance = gaussian_filter1d((excess / weight.clamp_min(1e-30)).numpy(), _SMOOTHING)
            self.model_error = torch.from_numpy(np.sqrt(np.maximum(variance, _LEAST_ERROR**2))).to(self.model_error)

    def _excess(self, flux: Tensor) -> Tensor:
        """Sums (2, n_pix) over spectra: variance that neither labels, nuisances nor noise explain, and the weights."""
        found, _ = self._fitted(flux)
        noise = MeasuredNoise(self._good(flux), self.model_error**2)
        spectra = self.forward_model(found.labels, found.nuisances)
        residual = flux / spectra.continuum - spectra.model
        used = noise(residual, spectra, 1) > 0
        weight = (used / noise.variance**2).double()
        return torch.stack([((residual.double() ** 2 - noise.variance) * weight).sum(0), weight.sum(0)]).cpu()

    def forward(self, flux: Tensor) -> Tensor:
        """Z-scored labels (n, 20) of spectra (n, n_pix)."""
        population = self.population
        return self._scaled(population.mean + self.posterior(flux).mean @ population.root.T)

    def for_search(self, flux: Tensor) -> Tensor:
        """Embeddings and, after them, packed posteriors of the partner's labels (n, dim + 230)."""
        return self.placed(self.posterior(flux))

    def look(self, flux: Tensor) -> tuple[Posterior, Tensor]:
        """`posterior` and `for_search` of the same spectra in one pass."""
        found = self.posterior(flux)
        return found, self.placed(found)

    def placed(self, found: Posterior) -> Tensor:
        """What `for_search` gives, from posteriors of any origin."""
        population, extra = self.population, self.pair_covariance.cpu().numpy()
        blurred = found.blurred(extra) if extra.any() else found
        z = self.to_sphere(self._scaled(population.mean + found.mean @ population.root.T))
        return torch.cat([z, torch.from_numpy(blurred.packed).to(z)], 1)

    def _scaled(self, labels: np.ndarray) -> Tensor:
        return ((torch.from_numpy(labels).to(self.device) - self.label_mean) / self.label_std).float()

    @torch.no_grad()
    def posterior(self, flux: Tensor) -> Posterior:
        """Posteriors of the labels of spectra (n, n_pix)."""
        self.check_shape(flux)
        size = _PIECE if flux.device.type == "cpu" else max(1, len(flux))
        parts = _each_alone(self._fitted, flux.float().split(size))
        labels = torch.cat([found.labels for found, _ in parts]).cpu().numpy()
        covariance = torch.cat([found.covariance for found, _ in parts]).cpu().numpy()
        state = torch.cat([torch.stack([fitted, found.held.any(1)], 1) for found, fitted in parts]).tolist()
        warnings = [AT_EDGE * held if fitted else TOO_FEW for fitted, held in state]
        population = self.population
        return Posterior.of(population.whitened(labels), population.whitened_covariance(covariance), warnings)

    @property
    def _prior(self) -> Prior:
        return Prior(self.population_mean, torch.cholesky_inverse(self.population_root))

    def _fitted(self, flux: Tensor) -> tuple[Fitted[GridSpectra], Tensor]:
        """The fit to spectra, and for which of them there were enough pixels and a solution."""
        good, forward = self._good(flux), self.forward_model
        if self.guess is None:
            start = self.population_mean.expand(len(flux), -1)
        else:
            start = forward.inside(self.guess(flux).double() * self.label_std + self.label_mean)
        usable = good.sum(1) >= _FEWEST
        noise = MeasuredNoise(good * usable[:, None], self.model_error**2, forward.response)
        nuisances = forward.expected.expand(len(flux), -1)
        found = fit(
            flux,
            forward,
            noise,
            self._prior,
            start,
            nuisances,
            directions=self.directions,
            steps=self.steps,
        )
        return found, usable & found.solved

    def _good(self, flux: Tensor) -> Tensor:
        return ((flux != self.instrument.fill_value) & self.on_detector).float()


def _each_alone(function: Callable[[Tensor], Result], pieces: Sequence[Tensor]) -> list[Result]:
    """What a function makes of pieces; on a CPU operations on one are too small to be shared by threads."""
    threads, on_cpu = torch.get_num_threads(), all(piece.device.type == "cpu" for piece in pieces)

    @torch.no_grad()  # each thread has its own setting, as it has its own number of threads
    def alone(piece: Tensor) -> Result:
        if on_cpu:
            torch.set_num_threads(1)
        return function(piece)

    if not on_cpu:
        return [alone(piece) for piece in pieces]
    try:
        return side_by_side(alone, pieces)
    finally:
        torch.set_num_threads(threads)  # threads that begin later take the number set last
