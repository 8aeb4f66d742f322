"""A giant's spectrum fitted on its own pixels: labels, velocity, line width, continuum and physics at once.

A pixel's variance is that of its noise, as the residuals around it show it where they exceed what the file claims, and
that of the synthesis, which is wrong by a part of the depth of its lines, alike within a resolution element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor

from starclip_lib.inference.gauss_newton import Prior, fit, solve
from starclip_lib.inference.noise import LAGS, STUDENT, autocovariance, student_weight
from starclip_lib.inference.pixels import PixelModel, PixelSpectra
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.giants import Giants
from starclip_lib.physics.instruments import MAD_PER_SIGMA, SPEED_OF_LIGHT, on_chips
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.physics.lsf import LineSpread
from starclip_lib.support.errors import DataError

_FEWEST = 300  # pixels
_FLOOR = 0.004  # of the flux: error of the synthesis in the continuum, unlisted lines
# Of a line's depth: the error of the synthesis on APOGEE's chips, where many giants calibrated it, and elsewhere. With
# 0.15 elsewhere labels of real giants are worse, and claimed errors too small (benchmarks/real_giants.py).
_DEPTH_CALIBRATED, _DEPTH = 0.08, 0.27
_KEPT = 0.747  # of the variance of Gaussian noise, after weights of a Student distribution
_WINDOW = 121  # pixels over which noise is alike
_APART = 50  # pixels of a gap beyond which noise is independent
_OUTLYING, _SHALLOW = 0.25, 0.75  # least weight, and share of the shallowest pixels, that tell the noise's correlation
_STEPS, _LONGEST, _TOLERANCE = 20, 2.0, 0.02  # see `gauss_newton.fit`
_HELIUM = (10810.0, 10850.0)  # He I 10833: not photospheric


@dataclass(frozen=True, eq=False)
class Fit:
    """What fits an observed spectrum best.

    Labels (20,) in K and dex, inside the emulator's domain; `held` marks those that would have left it. `covariance` is
    that of noise and synthesis, prior included; `systematic` that of the synthesis alone, which further exposures do
    not make smaller; `prior` the mean, precision and covariance that went in. Velocities in km/s, `fwhm` of the
    line-spread function in the middle of the spectrum in Angstrom. `wavelength` (m,) in vacuum Angstrom as observed,
    `flux` and `model` relative to the fitted continuum, `sigma` of both errors, `weight` between 0 (an outlier) and 1.
    `noise` is the median standard deviation; `correlated` the factor by which correlation between neighbouring pixels
    increases the variance of the noise; `misfit` what neither labels nor noise explain, over the depth of the lines;
    `correlation` that of observed and fitted lines. `hydrogen` (2,) is the part by which the Paschen and the Brackett
    lines are deeper than the synthesis; `physics` (n_physics,) are differences of the synthesis from
    nominal, with their covariance (n_physics, n_physics).
    """

    labels: np.ndarray
    covariance: np.ndarray
    systematic: np.ndarray
    prior: tuple[np.ndarray, np.ndarray, np.ndarray]
    held: np.ndarray
    velocity: float
    velocity_error: float
    fwhm: float
    fwhm_error: float
    wavelength: np.ndarray
    flux: np.ndarray
    model: np.ndarray
    sigma: np.ndarray
    weight: np.ndarray
    noise: float
    correlated: float
    misfit: float
    correlation: float
    hydrogen: np.ndarray
    physics: np.ndarray
    physics_covariance: np.ndarray


class _ObservedNoise:
    """Weights of the pixels of one observed spectrum: what its file claims, its residuals show, and the synthesis adds.

    `sigma` (m,) as the file gives it, `rest` wavelengths (m,), `resolution` in pixels.
    """

    def __init__(self, model: PixelModel, sigma: np.ndarray, rest: np.ndarray, resolution: float, prior: np.ndarray):
        self.sigma, self.rest, self.resolution, self.prior = sigma, rest, resolution, prior
        self.segments, self.places = model.segments, _places(model.wavelength)
        self.noise2, self.weight, self.correlated = sigma**2, np.ones(len(sigma)), 1.0
        self.synthesis2 = np.zeros(len(sigma))

    def __call__(self, residual: Tensor, spectra: PixelSpectra, step: int) -> Tensor:
        """Weights (1, m)."""
        misfit = residual[0].numpy()
        self.synthesis2 = synthesis_variance(self.rest, spectra.model[0].numpy())
        if step > 1:  # the first guesses are off by more than noise
            before = self.weight / self._variance()
            around = np.concatenate([_spread_around(misfit[part]) for part in self.segments]) ** 2
            claimed = (self.sigma / spectra.continuum[0].numpy()) ** 2
            self.noise2 = np.maximum(claimed, around - self.synthesis2)
            self.weight = student_weight(torch.from_numpy(misfit**2 / (self.noise2 + self.synthesis2))).numpy()
            use = (self.weight > _OUTLYING) & (self.synthesis2 <= np.quantile(self.synthesis2, _SHALLOW))
            scaled, response = misfit / np.sqrt(self.noise2), spectra.by_labels * np.sqrt(before)
            self.correlated = _correlated(self.places, scaled, use, response, self.prior)
        return torch.from_numpy(self.weight / self._variance())[None]

    def of_synthesis(self) -> Tensor:
        """Weights (1, m) as if there were no noise."""
        return torch.from_numpy(self.weight / (self.resolution * self.synthesis2))[None]

    def _variance(self) -> np.ndarray:
        return self.correlated * self.noise2 + self.resolution * self.synthesis2


def fit_giant(
    wavelength: np.ndarray,
    flux: np.ndarray,
    sigma: np.ndarray,
    spread: LineSpread,
    velocity: float,
    known: Giants,
    prior: tuple[np.ndarray, np.ndarray] | None = None,
    emulator: Emulator | None = None,
    physics: tuple[np.ndarray, np.ndarray] | None = None,
) -> Fit:
    """Fit the good pixels (m,) of one spectrum: observed vacuum Angstrom, flux per Angstrom or pixel.

    `velocity` [km/s] is a first guess, `known` the prior; `prior` holds precisions, (20,) or (20, 20), and values (20,)
    of what else is known about this star; `physics` mean and precision of the emulator's physics, if not its own prior.
    Raises DataError if too few pixels are left, or nothing can be fitted to them.
    """
    rest = wavelength / (1 + velocity / SPEED_OF_LIGHT)
    emulator = emulator or default_emulator()
    low, high = emulator.fine.wavelength[[0, -1]]
    use = (rest > low + 20) & (rest < high - 20) & ~((rest > _HELIUM[0]) & (rest < _HELIUM[1]))
    if use.sum() < _FEWEST:
        raise DataError(f"only {use.sum()} good pixels between {low:.0f} and {high:.0f} Angstrom, {_FEWEST} are needed")
    wavelength, level = wavelength[use], np.median(flux[use])
    flux, sigma, rest = flux[use] / level, sigma[use] / level, rest[use]
    mean, precision, prior_covariance = _prior(known, prior)
    model = PixelModel(emulator, wavelength, spread, velocity, physics)
    resolution = float(np.maximum(np.median(spread(wavelength) / np.gradient(wavelength)), 1.0))
    noise = _ObservedNoise(model, sigma, rest, resolution, precision)
    start = model.inside(torch.from_numpy(mean)[None])
    found = fit(
        torch.from_numpy(flux)[None],
        model,
        noise,
        Prior(torch.from_numpy(mean), torch.from_numpy(precision)),
        start,
        model.start(start[0].numpy(), flux, 1 / sigma**2),
        directions=torch.eye(N_LABELS, dtype=torch.float64),
        steps=_STEPS,
        longest=_LONGEST,
        tolerance=_TOLERANCE,
    )
    exact, _ = model.equations(
        found.spectra, noise.of_synthesis() - found.weight, found.residual, torch.eye(N_LABELS).double()
    )
    n_physics = len(emulator.physics_names)
    every = solve(found.matrix, torch.zeros_like(found.matrix[:, 0]))[1][0].numpy()
    physics_covariance = every[len(every) - n_physics :, len(every) - n_physics :]
    by_synthesis = solve(found.matrix + exact, torch.zeros_like(found.matrix[:, 0]))[1][0, :N_LABELS, :N_LABELS]
    emulated, residual = found.spectra.model[0].numpy(), found.residual[0].numpy()
    depth, both = np.maximum(1 - emulated, 0), noise.noise2 + noise.synthesis2
    rough = residual[2:] - 2 * residual[1:-1] + residual[:-2]  # of smooth misfits nothing is left in it
    white = np.median(np.abs(rough)) / MAD_PER_SIGMA / np.sqrt(6)
    trusted = noise.weight / both
    unexplained = np.average(residual**2, weights=trusted) / _KEPT - white**2
    middle, relative = float(np.median(spread(wavelength))), residual + emulated
    (fitted_velocity, width), (velocity_error, width_error) = (
        x[0, model.n_curve : model.n_curve + 2].tolist() for x in (found.nuisances, found.nuisance_sigma)
    )
    return Fit(
        labels=found.labels[0].numpy(),
        covariance=found.covariance[0].numpy(),
        systematic=by_synthesis.numpy(),
        prior=(mean, precision, prior_covariance),
        held=found.held[0].numpy(),
        velocity=fitted_velocity,
        velocity_error=velocity_error,
        fwhm=middle * (1 + width),
        fwhm_error=middle * width_error,
        wavelength=wavelength,
        flux=relative,
        model=emulated,
        sigma=np.sqrt(both),
        weight=noise.weight * STUDENT / (STUDENT + 1),
        noise=float(np.sqrt(np.median(noise.noise2))),
        correlated=noise.correlated,
        misfit=float(np.sqrt(max(unexplained, 0) / np.average(depth**2, weights=trusted))),
        correlation=_correlation(relative, emulated, trusted),
        hydrogen=found.nuisances[0, model.n_curve + 2 : model.n_curve + 4].numpy(),
        physics=found.nuisances[0, model.n_curve + 4 :].numpy(),
        physics_covariance=physics_covariance,
    )


def synthesis_variance(rest: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Variance (m,) of the synthesis' error at rest wavelengths, alike within a resolution element."""
    trust = np.where(on_chips(rest), _DEPTH_CALIBRATED, _DEPTH)
    return np.asarray(_FLOOR**2 + (trust * np.maximum(1 - model, 0)) ** 2)


def _prior(known: Giants, more: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, precision and covariance of the prior, together with what else is known about a star."""
    if more is None:
        return known.mean, known.precision, known.covariance
    weights, values = more
    weights = np.diag(weights) if weights.ndim == 1 else weights
    both = known.precision + weights
    mean = np.linalg.solve(both, known.precision @ known.mean + weights @ values)
    return mean, both, np.linalg.inv(np.linalg.inv(known.covariance) + weights)


def _correlation(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    """Pearson's coefficient of weighted values."""
    covariance = np.cov(a, b, aweights=weight)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _spread_around(residual: np.ndarray) -> np.ndarray:
    """Standard deviation of the residuals around each pixel, from the median of their size."""
    return median_filter(np.abs(residual), min(_WINDOW, len(residual)), mode="nearest") / MAD_PER_SIGMA


def _places(wavelength: np.ndarray) -> np.ndarray:
    """Numbers (m,) of pixels that count those between them which are left out, in gaps as many as matter."""
    step = np.diff(wavelength)
    usual = median_filter(step, min(_WINDOW, len(step)), mode="nearest")
    return np.concatenate([[0], np.cumsum(np.clip(np.round(step / usual), 1, _APART))]).astype(int)


def _correlated(
    places: np.ndarray, residual: np.ndarray, use: np.ndarray, response: np.ndarray, precision: np.ndarray
) -> float:
    """Factor by which correlation between pixels, at places (m,), increases the variance that labels see.

    `response` (20, m) is that of the spectrum to labels, over the standard deviation of pixels, and `precision`
    (20, 20) the prior's: directions of labels count by what the spectrum tells about them.
    """
    rows = np.linalg.solve(np.linalg.cholesky(response @ response.T + precision), response)
    flat = np.zeros((len(rows) + 2, places[-1] + 1))
    flat[:, places] = *rows, np.where(use, residual, 0), use
    values, used = (torch.from_numpy(flat[i][None]) for i in (-2, -1))
    covariance, known = autocovariance(values, used)
    if not known:
        return 1.0
    rows, lags = flat[:-2], range(1, LAGS + 1)
    alike = np.array([(rows[:, lag:] * rows[:, :-lag]).sum() for lag in lags]) / (rows**2).sum()
    correlation = (covariance[0, 1:] / covariance[0, 0]).numpy()
    return max(1.0, float(1 + 2 * correlation @ alike))
