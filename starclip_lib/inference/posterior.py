"""Gaussian posteriors of stellar labels, and the Bayes factor for "same star" against "different stars".

For a Gaussian posterior of the labels from each spectrum, and a Gaussian population, the Bayes factor is exact.
Posteriors are kept in coordinates in which the population is a standard Gaussian ("whitened"): the mean (20 numbers)
and the Cholesky factor of the precision 1 + I (210 numbers), I being the spectrum's information.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from starclip_lib.physics.labels import LABELS, N_LABELS
from starclip_lib.support.errors import DataError

WIDTH = N_LABELS + N_LABELS * (N_LABELS + 1) // 2
_ROW, _COLUMN = np.tril_indices(N_LABELS)
DIAGONAL = N_LABELS + np.flatnonzero(_ROW == _COLUMN)  # where the factor's diagonal stands
_CONVERGED = 1e-10  # relative gain of the likelihood: standard deviations are then good to about 1e-4
_DEPENDENT = 1e-8  # least eigenvalue of the labels' correlation matrix
_LARGEST = 1e9  # of the numbers of a posterior
_WIDER = 100.0  # times the population's covariance: a prior that does not matter


@dataclass(frozen=True, eq=False)
class Population:
    """Gaussian population of labels in K and dex: mean (20,) and a lower triangular root (20, 20) of the covariance."""

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray) -> Population:
        """The population of stars with labels (n, 20). Raises DataError if some labels are linearly dependent."""
        std = labels.std(axis=0, dtype=np.float64)
        covariance = np.cov(labels.astype(np.float64).T)
        values, vectors = np.linalg.eigh(covariance / np.outer(std, std))
        if values[0] < _DEPENDENT:
            names = [name for name, share in zip(LABELS, np.abs(vectors[:, 0]), strict=True) if share > 0.1]
            raise DataError(
                f"the labels {', '.join(names)} of the {len(labels)} training stars are linearly dependent, "
                "so they cannot be fitted separately; take a larger data set"
            )
        return cls(labels.mean(axis=0, dtype=np.float64), np.linalg.cholesky(covariance))

    @property
    def precision(self) -> np.ndarray:
        """Inverse (20, 20) of the covariance."""
        inverse = np.linalg.inv(self.root)
        return inverse.T @ inverse

    def whitened(self, labels: np.ndarray) -> np.ndarray:
        """Labels (n, 20) in coordinates in which the population is a standard Gaussian."""
        return np.linalg.solve(self.root, (labels - self.mean).T).T

    def whitened_covariance(self, covariance: np.ndarray) -> np.ndarray:
        """Covariances (..., 20, 20) in those coordinates."""
        inverse = np.linalg.inv(self.root)
        return inverse @ covariance @ inverse.T

    def physical(self, posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
        """Means (n, 20) and covariances (n, 20, 20) of posteriors in K and dex."""
        return self.mean + posterior.mean @ self.root.T, self.root @ posterior.covariance @ self.root.T

    def with_errors(self, posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
        """Means of posteriors and their standard deviations, both (n, 20), in K and dex."""
        mean, covariance = self.physical(posterior)
        return mean, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posteriors of the labels of n spectra, packed as embedding files keep them (n, 230).

    `warnings` holds a sentence for each spectrum, '' where there is none. `independent` is False where spectra of one
    star share part of their error, so that more of them do not lower it (networks).
    """

    packed: np.ndarray
    warnings: tuple[str, ...] = ()
    independent: bool = True

    @classmethod
    def of(
        cls, mean: np.ndarray, covariance: np.ndarray, warnings: Sequence[str] = (), independent: bool = True
    ) -> Posterior:
        """From means (n, 20) and covariances (n, 20, 20), whitened, the population's prior in them."""
        precision = np.linalg.inv(covariance)
        shift = (precision @ mean[..., None])[..., 0]
        return cls._from_information(precision - np.eye(N_LABELS), shift, tuple(warnings), independent)

    @classmethod
    def with_one_covariance(cls, mean: np.ndarray, covariance: np.ndarray) -> Posterior:
        """From means (n, 20) and a covariance (20, 20) of all spectra, which share part of their errors."""
        factor = cls.of(np.zeros((1, N_LABELS)), covariance[None]).packed[:, N_LABELS:]
        packed = np.concatenate([mean.astype(np.float32), np.repeat(factor, len(mean), axis=0)], axis=1)
        return cls(packed, independent=False)

    @classmethod
    def of_estimates(cls, population: Population, labels: np.ndarray, covariance: np.ndarray) -> Posterior:
        """From unbiased estimates (n, 20) of labels and the covariances (n, 20, 20) of their errors."""
        information = np.linalg.inv(population.whitened_covariance(covariance))
        shift = (information @ population.whitened(labels)[..., None])[..., 0]
        return cls._from_information(information, shift, (), True)

    @classmethod
    def _from_information(
        cls, information: np.ndarray, shift: np.ndarray, warnings: tuple[str, ...], independent: bool
    ) -> Posterior:
        # rounding may leave a direction that nothing is known about a little below zero
        values, vectors = np.linalg.eigh((information + information.transpose(0, 2, 1)) / 2)
        precision = np.eye(N_LABELS) + (vectors * np.maximum(values, 0)[:, None]) @ vectors.transpose(0, 2, 1)
        factor = np.linalg.cholesky(precision)
        mean = np.linalg.solve(precision, shift[..., None])[..., 0]
        packed = np.concatenate([mean, factor[:, _ROW, _COLUMN]], axis=1).astype(np.float32)
        return cls(packed, warnings, independent)

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def mean(self) -> np.ndarray:
        """Means (n, 20)."""
        return self.packed[:, :N_LABELS].astype(np.float64)

    @property
    def precision(self) -> np.ndarray:
        """Precisions (n, 20, 20), the prior's 1 in them."""
        return _unpacked(self.packed)[0]

    @property
    def covariance(self) -> np.ndarray:
        """Covariances (n, 20, 20)."""
        factors, row = np.unique(self.packed[:, N_LABELS:], axis=0, return_inverse=True)  # networks have one
        zero = np.zeros((len(factors), N_LABELS), np.float32)
        return np.linalg.inv(_unpacked(np.concatenate([zero, factors], axis=1))[0])[row]

    def combine(self, star_id: np.ndarray) -> tuple[np.ndarray, Posterior]:
        """Stars in order, and their posteriors from all their spectra: information adds up, the prior counts once.

        Where errors are shared, means are averaged and the covariance stays that of one spectrum.
        """
        stars, row = np.unique(star_id, return_inverse=True)
        precision, shift, _ = _unpacked(self.packed)
        total, pull = np.zeros((len(stars), N_LABELS, N_LABELS)), np.zeros((len(stars), N_LABELS))
        np.add.at(total, row, precision - np.eye(N_LABELS))
        np.add.at(pull, row, shift)
        if not self.independent:
            count = np.bincount(row).astype(float)
            total, pull = total / count[:, None, None], pull / count[:, None]
        return stars, self._from_information(total, pull, (), self.independent)

    def without_prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimates (n, 20) that do not lean towards the population, and their covariances (n, 20, 20)."""
        precision, shift, _ = _unpacked(self.packed)
        wide = np.linalg.inv(precision - (1 - 1 / _WIDER) * np.eye(N_LABELS))
        return (wide @ shift[..., None])[..., 0], wide

    def blurred(self, extra: np.ndarray) -> Posterior:
        """Posteriors of labels that differ from those measured by a Gaussian of this covariance (20, 20), whitened."""
        precision, shift, _ = _unpacked(self.packed)
        information = precision - np.eye(N_LABELS)
        factor = np.linalg.inv(np.eye(N_LABELS) + information @ extra)
        shift = (factor @ shift[..., None])[..., 0]
        return self._from_information(factor @ information, shift, self.warnings, self.independent)

    def shifted(self, by: np.ndarray) -> Posterior:
        """Posteriors whose spectra measured labels that are larger by (20,), whitened."""
        precision, shift, _ = _unpacked(self.packed)
        information = precision - np.eye(N_LABELS)
        return self._from_information(information, shift + information @ by, self.warnings, self.independent)


def is_posterior(packed: np.ndarray) -> np.ndarray:
    """Which rows of (n, 230) can be posteriors: numbers of reasonable size, a precision of at least the prior's."""
    with np.errstate(invalid="ignore"):
        return (np.abs(packed) < _LARGEST).all(axis=1) & (packed[:, DIAGONAL] > 0.99).all(axis=1)


def _unpacked(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (n, 20, 20), shift (n, 20) and log evidence (n,) of each spectrum by itself."""
    packed = np.asarray(packed, np.float64)
    factor = np.zeros((len(packed), N_LABELS, N_LABELS))
    factor[:, _ROW, _COLUMN] = packed[:, N_LABELS:]
    half = (factor.transpose(0, 2, 1) @ packed[:, :N_LABELS, None])[..., 0]
    shift = (factor @ half[..., None])[..., 0]
    alone = 0.5 * (half**2).sum(1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    return factor @ factor.transpose(0, 2, 1), shift, alone


def log_bayes_factor(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log Bayes factors (n, k) of "same star" against "two stars of the population".

    `a` (n, 230) are packed posteriors, `b` (n, k, 230) those of the spectra that each is compared with.
    """
    n, k = b.shape[:2]
    precision_a, shift_a, alone_a = _unpacked(a)
    precision_b, shift_b, alone_b = _unpacked(b.reshape(n * k, -1))
    both = precision_a.repeat(k, axis=0) + precision_b - np.eye(N_LABELS)
    factor = np.linalg.cholesky(both)
    shift = shift_a.repeat(k, axis=0) + shift_b
    half = np.linalg.solve(factor, shift[..., None])[..., 0]
    joint = 0.5 * (half**2).sum(1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    return (joint - alone_b).reshape(n, k) - alone_a[:, None]


def fit_pair_covariance(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Maximum-likelihood covariance (20, 20) of what differs between partners besides the errors of their estimates.

    `a` and `b` (n, 20) are estimates without prior of the labels of n pairs, `covariance` (n, 20, 20) that of the
    errors of their differences. The likelihood is maximised over a triangular factor (L-BFGS), relative to the mean
    covariance of the errors; where errors are larger than what is sought, expectation maximisation would take thousands
    of rounds.
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
