"""How much each pixel counts in a fit: noise measured from residuals, with its correlation, or given beforehand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from starclip_lib.inference.gauss_newton import Spectra

LAGS = 5  # pixels over which noise may be correlated
STUDENT = 4.0  # degrees of freedom of the weights that hold outliers down
_OUTLIER = 5.0  # standard deviations at which a pixel stands off
_FAR = (6, 8, 10)  # pixels over which noise is not correlated
_TRIPLES = 200  # of pixels that an autocovariance needs


class MeasuredNoise:
    """White or correlated noise as the residuals show it, plus the variance (n_pix,) of the emulator's own errors.

    From the second step on, single pixels that stand off from their neighbours (dead ones, cosmic rays) are left out;
    at the first guess lines stand off, too. With the autocorrelation (LAGS,) of the response of spectra to labels the
    weights allow for correlated noise.
    """

    def __init__(self, good: Tensor, model_variance: Tensor, response: Tensor | None = None):
        self.good, self.model_variance, self.response = good, model_variance, response
        self.variance = torch.empty(0)  # (n, n_pix), by noise alone, of the last residuals

    def __call__(self, residual: Tensor, spectra: Spectra, step: int) -> Tensor:
        """Weights of the pixels."""
        continuum = spectra.continuum
        noise, sound = noise_of(residual * continuum, self.good, self.model_variance, self.response)
        self.variance = noise[:, None] / continuum**2
        return (self.good * sound if step else self.good) / (self.variance + self.model_variance)


class GivenNoise:
    """Inverse variances (n, n_pix) that come with spectra, and an error of the model that is alike in all pixels.

    `robust`: outliers count less, as under a Student distribution.
    """

    def __init__(self, ivar: Tensor, model_error: float, robust: bool):
        self.ivar, self.model_error, self.robust = ivar, model_error, robust

    def __call__(self, residual: Tensor, spectra: Spectra, step: int) -> Tensor:
        """Weights of the pixels."""
        variance = 1 / (self.ivar.clamp_min(1e-30) * spectra.continuum**2) + self.model_error**2
        weight = (self.ivar > 0) / variance
        return weight * student_weight(residual**2 / variance) if self.robust and step else weight


def student_weight(square: Tensor) -> Tensor:
    """Factor on the weight of a pixel whose squared residual over its variance is `square`."""
    return (STUDENT + 1) / (STUDENT + square)


def noise_of(residual: Tensor, good: Tensor, variance: Tensor, response: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Variance (n,) of the noise of spectra, and pixels (n, n_pix) that do not stand off from their neighbours.

    Both come from second differences of residuals (observed minus model), where `good` is 1 and the `variance` (n_pix,)
    of the model is small: what is smooth over twenty pixels does not enter. With the autocorrelation (LAGS,) of the
    `response` of spectra to labels, the variance is that of white noise with the same effect on labels.
    """
    quiet = good * (variance <= variance.median())
    used = quiet[:, 2:] * quiet[:, 1:-1] * quiet[:, :-2]
    square = (residual[:, 2:] - 2 * residual[:, 1:-1] + residual[:, :-2]) ** 2 / 6
    noise = (square * used).sum(1) / used.sum(1).clamp_min(1)
    sound = torch.ones_like(square)
    for _ in range(2):
        sound = (square < _OUTLIER**2 * (noise[:, None] + variance[1:-1])).float()
        noise = (square * used * sound).sum(1) / (used * sound).sum(1).clamp_min(1)
    sound = F.pad(sound, (1, 1), value=1.0)
    covariance, known = autocovariance(residual, quiet * sound)
    noise = torch.where(known, covariance[:, 0], noise)
    if response is not None:
        noise = noise + 2 * (covariance[:, 1:] @ response * known).clamp_min(0)
    return noise.clamp_min(1e-10), sound


def autocovariance(residual: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Autocovariance (n, 1 + LAGS) of noise, which ends after LAGS pixels, and for which spectra (n,) it is known.

    The mean square of second differences over k pixels is 6 c(0) - 8 c(k) + 2 c(2 k): only c(0) is left beyond LAGS
    pixels. Pixels enter where `use` is 1.
    """
    squares, counts = [], []
    for k in (*range(1, LAGS + 1), *_FAR):
        three = use[:, 2 * k :] * use[:, k:-k] * use[:, : -2 * k]
        square = (residual[:, 2 * k :] - 2 * residual[:, k:-k] + residual[:, : -2 * k]) ** 2
        squares.append(torch.einsum("np,np->n", square, three) / 6)
        counts.append(three.sum(1))
    square, count = torch.stack(squares, 1), torch.stack(counts, 1)
    total = square[:, LAGS:].sum(1) / count[:, LAGS:].sum(1).clamp_min(1)
    covariance = torch.zeros_like(square[:, : 1 + LAGS])
    covariance[:, 0] = total
    for k in range(LAGS, 0, -1):
        twice = covariance[:, 2 * k] if 2 * k <= LAGS else 0.0
        covariance[:, k] = (3 * (total - square[:, k - 1] / count[:, k - 1].clamp_min(1)) + twice) / 4
    return covariance, count.min(1).values >= _TRIPLES
