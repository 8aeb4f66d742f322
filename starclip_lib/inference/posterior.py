"""Gaussian posteriors of stellar labels, and the Bayes factor for "same star" against "different stars".

The noise differs from view to view, which one set of coordinates for all cannot know.  For a Gaussian posterior of the
labels from each spectrum, and a Gaussian population, the Bayes factor is exact (as `metrics.ideal.IdealMatcher`'s).
Evidence is kept in coordinates in which the population is a standard Gaussian: the posterior mean (20 numbers) and the
Cholesky factor of the posterior precision 1 + I (210 numbers), I being the spectrum's information.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from starclip_lib.physics.labels import N_LABELS

WIDTH = N_LABELS + N_LABELS * (N_LABELS + 1) // 2
_ROW, _COLUMN = np.tril_indices(N_LABELS)
_CONVERGED = 1e-10  # relative gain of the likelihood: standard deviations are then good to about 1e-4
DIAGONAL = N_LABELS + np.flatnonzero(_ROW == _COLUMN)  # where the factor's diagonal stands


@dataclass(frozen=True, eq=False)
class Estimate:
    """What spectra say about the labels of their stars, Z-scored.

    Parameters
    ----------
    labels : Tensor, shape (n, 20)
        Posterior mean.
    covariance : Tensor, shape (n, 20, 20)
        float64, of the posterior; that of the population where nothing could be fitted.
    refined : Tensor of bool, shape (n,)
        False where a spectrum has too few pixels: its labels are the guess.
    at_edge : Tensor of bool, shape (n,)
        True where labels were held at the edge of the emulator's domain.
    """

    labels: Tensor
    covariance: Tensor
    refined: Tensor
    at_edge: Tensor

    @property
    def remarks(self) -> list[str]:
        """What a user should know about each spectrum's labels; '' if nothing."""
        unfit = "too few pixels, or none that tell labels from continuum: a guess"
        edge = "held at the edge of the emulator's domain"
        pairs = zip(self.refined.tolist(), self.at_edge.tolist(), strict=True)
        return [unfit if not refined else edge if at_edge else "" for refined, at_edge in pairs]


def information_of(labels: Tensor, covariance: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """What a spectrum adds to the prior: its information matrix, and that times its own estimate."""
    precision = torch.linalg.inv(covariance)
    precision = (precision + precision.mT) / 2
    return precision - prior, (precision @ labels.double()[..., None])[..., 0]


def unshrunk(labels: Tensor, covariance: Tensor, population: Tensor, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Estimates that do not lean towards the population, with the covariance of their errors."""
    prior = torch.cholesky_inverse(population.double())
    information, shift = information_of(labels, covariance, weight * prior)
    wide = torch.linalg.inv(information + prior / 100)
    return (wide @ shift[..., None])[..., 0].cpu().numpy(), ((wide + wide.mT) / 2).cpu().numpy()


def evidence(labels: Tensor, covariance: Tensor, population: Tensor, weight: float, extra: Tensor) -> Tensor:
    """Posteriors as they are kept."""
    root = population.double()
    one = torch.eye(N_LABELS, dtype=torch.float64, device=root.device)
    posterior = torch.linalg.solve_triangular(root, covariance, upper=False)
    posterior = torch.linalg.solve_triangular(root, posterior.mT, upper=False)
    mean = torch.linalg.solve_triangular(root, labels.double().mT, upper=False).mT
    information, shift = information_of(mean, posterior, weight * one)
    other = torch.linalg.solve_triangular(root, extra.double(), upper=False)
    other = torch.linalg.solve_triangular(root, other.mT, upper=False)
    blurred = torch.linalg.inv(one + information @ other)
    information, shift = blurred @ information, (blurred @ shift[..., None])[..., 0]
    # rounding may leave a direction that nothing is known about a little below zero
    values, vectors = torch.linalg.eigh((information + information.mT) / 2)
    precision = one + (vectors * values.clamp_min(0)[:, None]) @ vectors.mT
    factor = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve(shift[..., None], factor)[..., 0]
    return torch.cat([mean, factor[:, _ROW, _COLUMN]], 1).float()


def _unpacked(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (n, 20, 20), shift (n, 20) and log evidence (n,) of each spectrum by itself."""
    kept = np.asarray(kept, np.float64)
    factor = np.zeros((len(kept), N_LABELS, N_LABELS))
    factor[:, _ROW, _COLUMN] = kept[:, N_LABELS:]
    half = (factor.transpose(0, 2, 1) @ kept[:, :N_LABELS, None])[..., 0]
    shift = (factor @ half[..., None])[..., 0]
    alone = 0.5 * (half**2).sum(1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    return factor @ factor.transpose(0, 2, 1), shift, alone


def combined_views(kept: np.ndarray, star_id: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What all spectra of a star say together: their information adds up."""
    stars, row = np.unique(star_id, return_inverse=True)
    precision, shift, _ = _unpacked(kept)
    total = np.tile(np.eye(N_LABELS), (len(stars), 1, 1))
    pull = np.zeros((len(stars), N_LABELS))
    np.add.at(total, row, precision - np.eye(N_LABELS))
    np.add.at(pull, row, shift)
    covariance = np.linalg.inv(total)
    return stars, (covariance @ pull[..., None])[..., 0], covariance


def log_bayes_factor(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log Bayes factors of "one star" against "two stars of the population", of each spectrum with some others."""
    n, k = b.shape[:2]
    precision_a, shift_a, alone_a = _unpacked(a)
    precision_b, shift_b, alone_b = _unpacked(b.reshape(n * k, -1))
    both = precision_a.repeat(k, axis=0) + precision_b - np.eye(N_LABELS)
    factor = np.linalg.cholesky(both)
    shift = shift_a.repeat(k, axis=0) + shift_b
    half = np.linalg.solve(factor, shift[..., None])[..., 0]
    joint = 0.5 * (half**2).sum(1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    return (joint - alone_b).reshape(n, k) - alone_a[:, None]


def fitted_extra(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Covariance of what differs between partners besides the errors of their estimates, by maximum likelihood.

    The likelihood is maximised over a triangular factor (L-BFGS), relative to the mean covariance of the errors; where
    errors are larger than what is sought, expectation maximisation would take thousands of rounds.

    Parameters
    ----------
    a, b : ndarray, shape (n, 20)
        Unshrunk estimates of the labels of n pairs.
    covariance : ndarray, shape (n, 20, 20)
        Of the errors of their differences.

    Returns
    -------
    ndarray, shape (20, 20)
        Positive semi-definite; zero in directions in which the pairs show nothing beyond errors.
    """
    n, k = a.shape
    root = np.linalg.cholesky(covariance.mean(axis=0))
    difference = np.linalg.solve(root, (a - b).T).T
    errors = np.linalg.solve(root, np.linalg.solve(root, covariance).transpose(0, 2, 1))
    lower = np.tril_indices(k)

    def factor_of(entries: np.ndarray) -> np.ndarray:
        factor = np.zeros((k, k))
        factor[lower] = entries
        return factor

    def loss(entries: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the mean log-likelihood, and its gradient."""
        factor = factor_of(entries)
        total = errors + factor @ factor.T
        inverse = np.linalg.inv(total)
        pull = (inverse @ difference[..., None])[..., 0]
        value = ((pull * difference).sum() + np.linalg.slogdet(total)[1].sum()) / (2 * n)
        slope = (inverse.sum(axis=0) - pull.T @ pull) / n
        return value, (slope @ factor)[lower]

    options = {"ftol": _CONVERGED, "gtol": 1e-7, "maxiter": 5000, "maxfun": 10_000, "maxcor": 30}
    found = minimize(loss, 0.3 * np.eye(k)[lower], jac=True, method="L-BFGS-B", options=options)
    factor = root @ factor_of(found.x)
    return factor @ factor.T
