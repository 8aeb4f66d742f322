"""An encoder that knows the physics: a guess, and Gauss-Newton steps of the emulator from there.

A network guesses labels; the emulator knows how the spectrum changes with them.  A step fits, by weighted least
squares, what a spectrum differs from the emulated one: changes of the labels, with the population as prior, and
nuisances (continuum, velocity, width of the line-spread function), which are marginalised.  What
remains after the last step is the posterior of the labels, mean and covariance, for Gaussian noise.

A pixel's variance is that of the noise, which every spectrum tells by itself, plus one of the model: how far the
synthesis is to be trusted there.  The latter is fitted to training stars and then learned like any weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from starclip_lib.inference.least_squares import NormalEquations, marginalised, noise_of
from starclip_lib.inference.posterior import Estimate, evidence
from starclip_lib.models.encoders import Encoder
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import LABELS, N_LABELS, LabelScaler
from starclip_lib.settings.training import EncoderParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.threads import side_by_side

Result = TypeVar("Result")
_PIECE = 32  # spectra refined at once on a CPU: what they need stays in its cache
_LONGEST = 3.0  # of a step, root mean square over the labels in standard deviations of the population
_LEAST_FLOOR = 1e-4  # of the flux: the emulator's own error
_SMOOTHING = 1.5  # pixels over which the model's variance is smooth
_FEWEST = 60  # pixels, more than labels and nuisances together: fewer are no fit
_REFERENCE_SNR = 100.0  # at which the labels' directions are chosen; any would do


def _without_gradients(function: Callable[[Tensor], Result], pieces: Sequence[Tensor]) -> list[Result]:
    """What a function makes of pieces; on a CPU operations on one are too small to be shared by threads."""
    threads, on_cpu = torch.get_num_threads(), all(piece.device.type == "cpu" for piece in pieces)

    @torch.no_grad()  # which is each thread's own affair, as their number is
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


class NewtonEncoder(Encoder):
    """A guess and `settings.steps` Gauss-Newton steps.

    Parameters
    ----------
    guess : Encoder, optional
        Where it starts; None: at the population's mean.

    Attributes
    ----------
    trust : nn.Parameter
        (n_pix,) logarithm of the model's error over the one that was fitted, `floor`; weight decay leads back to that.
    prior_weight : nn.Parameter
        Logarithm of what the population's precision is multiplied by.
    """

    label_mean: Tensor
    label_std: Tensor
    population: Tensor
    directions: Tensor
    floor: Tensor
    extra: Tensor
    covered: Tensor

    def __init__(self, instrument: Instrument, settings: EncoderParams, guess: Encoder | None):
        super().__init__(instrument, settings)
        self.scaling = nn.Identity()
        self.guess = guess
        self.equations = NormalEquations(instrument)
        self.emulated = self.equations.emulated
        self.trust = nn.Parameter(torch.zeros(instrument.n_pix))
        self.prior_weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("covered", torch.from_numpy(instrument.covered), persistent=False)
        self.register_buffer("label_mean", torch.zeros(N_LABELS))
        self.register_buffer("label_std", torch.ones(N_LABELS))
        self.register_buffer("population", torch.eye(N_LABELS))  # Cholesky factor of the Z-scored labels' covariance
        self.register_buffer("directions", torch.eye(N_LABELS))
        self.register_buffer("floor", torch.full((instrument.n_pix,), _LEAST_FLOOR))
        self.register_buffer("extra", torch.zeros(N_LABELS, N_LABELS))

    @property
    def prior_scale(self) -> float:
        """What the population's precision is multiplied by."""
        return float(self.prior_weight.detach().exp())

    @property
    def model_error(self) -> np.ndarray:
        """(n_pix,) standard deviation of the emulator's error, relative to the continuum."""
        return self._floor().detach().cpu().numpy()

    def physical(self, mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and their standard deviations, from posteriors in the coordinates of the evidence."""
        root = (self.label_std[:, None] * self.population).double().cpu().numpy()
        spread = np.einsum("ij,njk,ik->ni", root, covariance, root)
        return self.label_mean.double().cpu().numpy() + mean @ root.T, np.sqrt(spread)

    def fit_scaling(self, flux: Tensor) -> None:
        """Fit the guess's input scaling to training spectra (n, n_pix)."""
        if self.guess is not None:
            self.guess.fit_scaling(flux)

    def freeze_features(self) -> None:
        """Leave only what the steps learn: how far each pixel is trusted."""
        if self.guess is not None:
            self.guess.requires_grad_(False)

    def know(self, labels: np.ndarray, scaler: LabelScaler) -> None:
        """Take the population from the labels of training stars.

        Parameters
        ----------
        labels : ndarray, shape (n, 20)
            In K and dex.
        scaler : LabelScaler
            Of the labels that come out.

        Raises
        ------
        DataError
            Naming them, if labels hang together rigidly, so that nothing could tell them apart.
        """
        z = scaler.transform(labels).astype(np.float64)
        covariance = np.cov(z.T)
        values, vectors = np.linalg.eigh(covariance)
        if values[0] < 1e-8:
            names = [name for name, share in zip(LABELS, np.abs(vectors[:, 0]), strict=True) if share > 0.1]
            raise DataError(
                f"the labels {', '.join(names)} of the {len(z)} training stars are linearly dependent, "
                "so they cannot be fitted separately; take a larger data set"
            )
        self.label_mean = torch.from_numpy(scaler.mean).float()
        self.label_std = torch.from_numpy(scaler.std).float()
        self.population = torch.from_numpy(np.linalg.cholesky(covariance)).float()
        # directions in which the mean star's labels are known equally well and independently: weak labels would be lost
        # in the rounding errors of a float32 matrix beside strong ones
        self.directions = torch.eye(N_LABELS)
        mean, everywhere = torch.zeros(1, N_LABELS), self.covered[None].float()
        with torch.no_grad():
            flux = self._model(mean)
            flat = torch.ones_like(flux)
            matrix = self._equations(mean, flux, flat, _REFERENCE_SNR**2 * everywhere, flux)[0]
            information = marginalised(matrix)[0] + torch.cholesky_inverse(self.population.double())
            self.directions = torch.linalg.inv(torch.linalg.cholesky(information)).float()

    def fit_floor(self, flux: Tensor) -> None:
        """Find by how much the emulator misses training spectra (n, n_pix), pixel by pixel, beyond their noise."""
        self.trust.data.zero_()
        for _ in range(2):  # the first fit is pulled by the pixels that the second one knows better than to trust
            pieces = flux.to(self.trust.device).split(_PIECE)
            excess, weight = reduce(torch.add, _without_gradients(self._excess, pieces))
            variance = gaussian_filter1d((excess / weight.clamp_min(1e-30)).numpy(), _SMOOTHING)
            self.floor = torch.from_numpy(np.sqrt(np.maximum(variance, _LEAST_FLOOR**2))).to(self.floor)

    def _excess(self, flux: Tensor) -> Tensor:
        """Sums (2, n_pix) over spectra: variance that neither labels, nuisances nor noise explain, and the weights."""
        found, nuisances = self._refine(flux)
        residual, weight, variance = self._compare(flux, self._good(flux), self._model(found.labels), nuisances, True)
        weight = ((weight > 0) / variance**2).double()
        return torch.stack([((residual.double() ** 2 - variance) * weight).sum(0), weight.sum(0)]).cpu()

    def forward(self, flux: Tensor) -> Tensor:
        """Z-scored labels (n, 20) of spectra (n, n_pix)."""
        return self.estimate(flux).labels

    def estimate(self, flux: Tensor) -> Estimate:
        """Labels of spectra (n, n_pix) with their covariance."""
        self.check_shape(flux)
        with torch.autocast(flux.device.type, enabled=False):
            size = _PIECE if flux.device.type == "cpu" else max(1, len(flux))
            estimates = map if torch.is_grad_enabled() else _without_gradients
            parts = list(estimates(self._estimate, flux.float().split(size)))
        return Estimate(*(torch.cat([getattr(p, name) for p in parts]) for name in Estimate.__dataclass_fields__))

    def embed_with_evidence(self, flux: Tensor) -> Tensor:
        """Embeddings of spectra (n, n_pix) and, after them, posteriors as `evidence` packs them (n, dim + 230)."""
        found = self.estimate(flux)
        said = evidence(found.labels, found.covariance, self.population, self.prior_scale, self.extra)
        return torch.cat([self.to_sphere(found.labels), said], 1)

    def _estimate(self, flux: Tensor) -> Estimate:
        return self._refine(flux)[0]

    def _refine(self, flux: Tensor) -> tuple[Estimate, Tensor]:
        """Labels with their covariance, and the nuisances (n, m) that were fitted along."""
        good = self._good(flux)
        start = self.guess(flux) if self.guess is not None else flux.new_zeros(len(flux), N_LABELS)
        labels, at_edge = self._inside(start)
        enough = good.sum(1) >= _FEWEST
        covariance = ((self.population @ self.population.T).double() / self.prior_scale).expand(len(flux), -1, -1)
        nuisances = flux.new_zeros(len(flux), self.equations.n_nuisances)
        refined = torch.zeros_like(enough)
        for step in range(self.settings.steps):
            # only the last step is learned from: where it starts hardly matters for where it ends
            with torch.set_grad_enabled(torch.is_grad_enabled() and step == self.settings.steps - 1):
                new, spread, solved, fitted = self._step(flux, good, labels, nuisances, reject=step > 0)
            refined = enough & solved
            labels, edge = self._inside(torch.where(refined[:, None], new, labels))
            at_edge = torch.where(refined, edge, at_edge)
            covariance = torch.where(refined[:, None, None], spread, covariance)
            nuisances = torch.where(refined[:, None], fitted, nuisances)
        return Estimate(labels, covariance, refined, at_edge), nuisances

    def _compare(
        self,
        flux: Tensor,
        good: Tensor,
        model: Tensor,
        nuisances: Tensor,
        reject: bool,
        response: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flux over the fitted continuum minus model, its weights, and its variance by noise, each (n, n_pix).

        `reject` leaves out single pixels that stand off from their neighbours (dead ones, cosmic rays); at the first
        guess lines do so, too.  With the `response` to labels the weights allow for noise that is correlated.
        """
        continuum = self.equations.continuum(nuisances)
        residual = flux / continuum - self.equations.shifted(model, nuisances)
        with torch.no_grad():
            noise, sound = noise_of(residual * continuum, good, self._floor() ** 2, response)
        variance = noise[:, None] / continuum**2
        return residual, (good * sound if reject else good) / (variance + self._floor() ** 2), variance

    def _step(
        self, flux: Tensor, good: Tensor, labels: Tensor, nuisances: Tensor, reject: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels one step on, their covariance, which of them could be found, and the nuisances one step on."""
        model = self._model(labels)
        residual, weight, _ = self._compare(flux, good, model, nuisances, reject, self.equations.response)
        matrix, cross = self._equations(labels, model, self.equations.continuum(nuisances), weight, residual)
        # the prior, in the same directions
        turn = self.directions.double()
        precision = torch.cholesky_inverse(self.population.double()) * self.prior_weight.double().exp()
        inner, pull = turn @ precision @ turn.T, labels.double() @ precision @ turn.T
        matrix = matrix + F.pad(inner, (0, matrix.shape[1] - N_LABELS) * 2)
        cross = cross - F.pad(pull, (0, matrix.shape[1] - N_LABELS))
        size = matrix.detach().diagonal(dim1=1, dim2=2).clamp_min(1e-30).sqrt()
        factor, failed = torch.linalg.cholesky_ex(matrix / (size[:, :, None] * size[:, None]))
        solved = failed == 0
        eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
        factor = torch.where(solved[:, None, None], factor, eye)
        inverse = torch.cholesky_inverse(factor) / (size[:, :, None] * size[:, None])
        solution = (inverse @ cross[..., None])[..., 0]
        change = (solution[:, :N_LABELS] @ turn).float()
        length = torch.linalg.solve_triangular(self.population, change.detach().T, upper=False).pow(2).mean(0).sqrt()
        part = (_LONGEST / length.clamp_min(1e-6)).clamp_max(1)[:, None]
        covariance = turn.T @ inverse[:, :N_LABELS, :N_LABELS] @ turn
        solved = solved & solution.isfinite().all(1)
        fitted = nuisances + (part * solution[:, N_LABELS:].float()).detach()
        return labels + change * part, covariance, solved, fitted

    def _floor(self) -> Tensor:
        return self.floor * self.trust.exp()

    def _good(self, flux: Tensor) -> Tensor:
        return ((flux != self.instrument.no_data) & self.covered).float()

    def _equations(
        self, labels: Tensor, model: Tensor, continuum: Tensor, weight: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        directions = self.directions * self.label_std
        return self.equations(self._physical(labels), directions, model, continuum, weight, residual)

    def _physical(self, labels: Tensor) -> Tensor:
        return labels * self.label_std + self.label_mean

    def _model(self, labels: Tensor) -> Tensor:
        return self.emulated(self._physical(labels))

    def _inside(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Z-scored labels held inside the emulator's domain, and which stars had to be held."""
        given = self._physical(labels)
        held = self.emulated.clamped(given)
        moved = ((held - given).abs() > 1e-3 * self.label_std).any(1)
        return torch.where(moved[:, None], (held - self.label_mean) / self.label_std, labels), moved
