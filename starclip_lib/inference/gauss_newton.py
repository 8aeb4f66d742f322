"""The Gauss-Newton fit of labels and nuisances to spectra, with Gaussian priors: the only fit of the project.

A forward model gives the spectra of labels and nuisances and their normal equations (`inference.grid` for spectra on an
instrument's own grid, `inference.pixels` for observed pixels); a noise model weighs the pixels (`inference.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from starclip_lib.physics.labels import N_LABELS

_HELD = 0.2  # standard deviations by which a label must leave the domain to count as held at its edge
_FIRST_STEPS = 5  # before a fit may count as converged


class Spectra(Protocol):
    """Emulated spectra: flux over the continuum, and that continuum, both (n, n_pix)."""

    @property
    def model(self) -> Tensor:
        """Flux over the continuum."""

    @property
    def continuum(self) -> Tensor:
        """The continuum."""


State = TypeVar("State", bound=Spectra)


class ForwardModel(Protocol[State]):
    """Spectra of labels (n, 20) in K and dex and of nuisances (n, m), as a detector records them.

    `expected` (m,) and `penalty` (m, m) are mean and precision of the prior on the nuisances.
    """

    expected: Tensor
    penalty: Tensor

    def __call__(self, labels: Tensor, nuisances: Tensor) -> State:
        """The spectra there."""

    def equations(self, spectra: State, weight: Tensor, residual: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Normal matrix (n, 20 + m, 20 + m) and right side (n, 20 + m), float64; labels change along `directions`."""

    def inside(self, labels: Tensor) -> Tensor:
        """Labels moved to the edge of the emulator's domain where they lie outside."""

    def bounded(self, nuisances: Tensor) -> Tensor:
        """Nuisances moved into their bounds."""


class NoiseModel(Protocol):
    """Weights (n, n_pix), inverse variances of flux over the continuum, from residuals; 0 where there is no data."""

    def __call__(self, residual: Tensor, spectra: Any, step: int) -> Tensor:
        """The weights for a step."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Gaussian prior of the labels in K and dex: mean (20,) and precision (20, 20), float64."""

    mean: Tensor
    precision: Tensor


@dataclass(frozen=True, eq=False)
class Fitted(Generic[State]):
    """What fits n spectra best.

    `labels` (n, 20) in K and dex; `covariance` (n, 20, 20) of their posterior; `held` (n, 20) where a label was held at
    the edge of the domain; `solved` (n,) where the equations had a solution; `nuisances` (n, m) with their standard
    deviations `nuisance_sigma`. `spectra`, `residual`, `weight` and `matrix` belong to the beginning of the last step.
    """

    labels: Tensor
    covariance: Tensor
    held: Tensor
    solved: Tensor
    nuisances: Tensor
    nuisance_sigma: Tensor
    spectra: State
    residual: Tensor
    weight: Tensor
    matrix: Tensor


@torch.no_grad()
def fit(
    flux: Tensor,
    forward: ForwardModel[State],
    noise: NoiseModel,
    prior: Prior,
    labels: Tensor,
    nuisances: Tensor,
    *,
    directions: Tensor,
    steps: int,
    longest: float = 3.0,
    tolerance: float = 0.0,
) -> Fitted[State]:
    """Fit spectra (n, n_pix), beginning at `labels` (n, 20) and `nuisances` (n, m).

    `directions` (20, 20) are label changes in which the equations are well conditioned. Steps are at most `longest`
    long, root mean square over the labels in standard deviations of the prior. With a `tolerance` the fit ends when no
    parameter changes by more than that many standard deviations.
    """
    n = len(nuisances)
    held = torch.zeros(n, N_LABELS, dtype=torch.bool, device=flux.device)
    covariance = torch.linalg.inv(prior.precision).expand(n, -1, -1)
    sigma, solved = torch.full_like(nuisances, torch.nan), held.any(1)
    turned = directions @ prior.precision
    constant = torch.block_diag(turned @ directions.T, forward.penalty)
    for step in range(steps):
        spectra = forward(labels, nuisances)
        residual = flux / spectra.continuum - spectra.model
        weight = noise(residual, spectra, step)
        matrix, right = forward.equations(spectra, weight, residual, directions)
        matrix = matrix + constant
        pull = torch.cat([(prior.mean - labels) @ turned.T, (forward.expected - nuisances) @ forward.penalty], 1)
        change, inverse, solved = solve(matrix, right + pull)
        moved = change[:, :N_LABELS] @ directions
        length = ((moved @ prior.precision) * moved).mean(1).clamp_min(0).sqrt()
        part = (longest / length.clamp_min(1e-9)).clamp_max(1)[:, None]
        spread = directions.T @ inverse[:, :N_LABELS, :N_LABELS] @ directions
        wanted = labels + part * moved
        inside = forward.inside(wanted)
        out = (inside - wanted).abs() > _HELD * spread.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        labels = torch.where(solved[:, None], inside, labels)
        held = torch.where(solved[:, None], out, held)
        covariance = torch.where(solved[:, None, None], spread, covariance)
        error = inverse.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        sigma = torch.where(solved[:, None], error[:, N_LABELS:], sigma)
        fitted = forward.bounded(nuisances + part * change[:, N_LABELS:])
        nuisances = torch.where(solved[:, None], fitted, nuisances)
        if tolerance and step >= _FIRST_STEPS and (part * change.abs() < tolerance * error).all():
            break
    return Fitted(labels, covariance, held, solved, nuisances, sigma, spectra, residual, weight, matrix)


def solve(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Solutions of symmetric equations whose rows have very different sizes, inverses, and where there is one."""
    size = matrix.diagonal(dim1=1, dim2=2).clamp_min(1e-30).sqrt()
    both = size[:, :, None] * size[:, None]
    factor, failed = torch.linalg.cholesky_ex(matrix / both)
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    inverse = torch.cholesky_inverse(torch.where(failed[:, None, None] == 0, factor, eye)) / both
    solution = (inverse @ right[..., None])[..., 0]
    return solution, inverse, (failed == 0) & solution.isfinite().all(1)


def marginalised(matrix: Tensor) -> Tensor:
    """Information on the labels (n, 20, 20) that normal matrices hold, less what nuisances could explain."""
    cross, outer = matrix[:, :N_LABELS, N_LABELS:], matrix[:, N_LABELS:, N_LABELS:]
    size = outer.diagonal(dim1=1, dim2=2).clamp_min(1e-30).sqrt()
    both = size[:, :, None] * size[:, None]
    inverse = torch.linalg.pinv(outer / both, hermitian=True) / both
    return matrix[:, :N_LABELS, :N_LABELS] - cross @ inverse @ cross.mT


def well_conditioned(information: Tensor) -> Tensor:
    """Directions (20, 20) of labels that this information (20, 20), prior included, knows equally and independently."""
    return torch.linalg.inv(torch.linalg.cholesky(information))
