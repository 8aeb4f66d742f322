"""A giant's spectrum fitted with the emulator on its own pixels: labels, velocity, line width and continuum at once.

Gauss-Newton steps from the population's mean, with the population as prior.  The emulator's sharpest spectra are
brought to the instrument's line-spread function, whose width may differ a little from what is said; the observed
spectrum is never blurred, resampled or divided by anything beforehand.  A pixel's variance is that of its noise, as
the residuals around it show it where they exceed what the file claims, and that of the synthesis, which is wrong by a
part of the depth of its lines, alike within a resolution element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from scipy.linalg import block_diag
from scipy.ndimage import median_filter

from starclip_lib.inference.least_squares import LAGS, autocovariance
from starclip_lib.physics.emulation import EmulatedSpectra
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import Giants
from starclip_lib.physics.instruments import MAD_PER_SIGMA, NIRSPEC_SHARP, SPEED_OF_LIGHT
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.physics.lsf import SHARPEST, LineSpread, broadening
from starclip_lib.support.errors import DataError

_SPACING = 300.0  # Angstrom between knots of the continuum
_GAP = 200.0  # Angstrom; a wider stretch without pixels separates two continua
_BEND = 0.3  # of the median flux: how far the continuum leaves a straight line from knot to knot, where nothing says
_FEWEST = 300  # pixels
_FLOOR = 0.004  # of the flux: error of the synthesis in the continuum, unlisted lines
# Of a line's depth: the error of the synthesis on the APOGEE chips, where it is calibrated, and elsewhere.  It misses
# real giants by 0.006 and, uncalibrated, 0.027 of the flux (RMS, docs/emulator.md) where lines are 0.078 deep (RMS): 8
# and 35 per cent at R = 22,500, of which blends at lower resolution average a part away.
_CALIBRATED = ((15168.0, 15792.0), (15881.0, 16417.0), (16500.0, 16937.0))
_DEPTH_CALIBRATED, _DEPTH = 0.08, 0.27
_VELOCITY_ERROR = 30.0  # km/s about the first guess
_WIDTH_ERROR = 0.15  # relative, of the line-spread function
_STUDENT = 4.0  # degrees of freedom: how far outliers pull
_KEPT = 0.747  # of the variance of Gaussian noise, after weights of that kind
_WINDOW = 121  # pixels over which noise is alike
_APART = 50  # pixels of a gap beyond which noise is independent
_OUTLYING, _SHALLOW = 0.25, 0.75  # least weight, and share of the shallowest pixels, that tell the noise's correlation
_STEPS = 12
_LONGEST = 2.0  # of a step, root mean square over the labels in standard deviations of the prior
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
    `correlation` that of observed and fitted lines.
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


class _Sampled:
    """The emulator as an instrument shows it: mean and components on observed pixels, and how they change."""

    def __init__(self, wavelength: np.ndarray, spread: LineSpread, strengths: np.ndarray | None):
        self.emulated = EmulatedSpectra(default_emulator(), NIRSPEC_SHARP)
        self.wavelength, self.wanted = wavelength, spread(NIRSPEC_SHARP.wavelength)
        self.strengths = np.ones(NIRSPEC_SHARP.n_pix) if strengths is None else strengths
        self.parts = np.concatenate([self.emulated.mean[None].numpy(), self.emulated.basis.numpy()]).T.astype(float)
        self._width = np.nan

    def widen(self, change: float) -> None:
        """Bring the components to the line-spread function times 1 + change."""
        if abs(change - self._width) > 1e-3 or np.isnan(self._width):
            self._width, step = change, 0.03
            self.broad = broadening(self.wanted * (1 + change)) @ self.parts
            self.by_width = (broadening(self.wanted * (1 + change + step)) @ self.parts - self.broad) / step

    def at(self, labels: np.ndarray, velocity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Flux (m,) and its derivatives: by labels (20, m), by velocity (m,) and by the relative width (m,)."""
        with torch.no_grad():
            given = torch.from_numpy(labels[None].astype(np.float32))
            coefficients, slopes = (x[0].double().numpy() for x in self.emulated.linearised(given, torch.eye(N_LABELS)))
        one = np.concatenate([[1.0], coefficients])
        curves = np.column_stack([self.broad @ one, self.by_width @ one, self.broad[:, 1:] @ slopes.T])
        curves[:, 0] = 1 - (1 - curves[:, 0]) * self.strengths
        curves[:, 1:] *= self.strengths[:, None]
        here, there = (self._read(curves if v == velocity else curves[:, :1], v) for v in (velocity, velocity + 5))
        return here[:, 0], here[:, 2:].T, (there[:, 0] - here[:, 0]) / 5, here[:, 1]

    def _read(self, curves: np.ndarray, velocity: float) -> np.ndarray:
        grid = NIRSPEC_SHARP.wavelength
        place = (self.wavelength / (1 + velocity / SPEED_OF_LIGHT) - grid[0]) / (grid[1] - grid[0])
        left = np.clip(place.astype(int), 0, len(grid) - 2)
        part = np.clip(place - left, 0, 1)[:, None]
        return (1 - part) * curves[left] + part * curves[left + 1]

    def held(self, labels: np.ndarray) -> np.ndarray:
        """Labels (20,) at the edge of the emulator's domain where they lie outside."""
        return self.emulated.clamped(torch.from_numpy(labels[None].astype(np.float32)))[0].double().numpy()


def fit_giant(
    wavelength: np.ndarray,
    flux: np.ndarray,
    sigma: np.ndarray,
    spread: LineSpread,
    velocity: float,
    known: Giants,
    prior: tuple[np.ndarray, np.ndarray] | None = None,
    strengths: np.ndarray | None = None,
) -> Fit:
    """Fit the good pixels (m,) of one spectrum: observed vacuum Angstrom, flux per Angstrom or pixel.

    `velocity` [km/s] is a first guess, `known` the prior; `prior` holds precisions (20,) and values (20,) of what else
    is known about this star; `strengths` (8192,) multiplies the depth of lines on the sharp NIRSpec grid.
    Raises DataError if too few pixels are left, or nothing can be fitted to them.
    """
    rest = wavelength / (1 + velocity / SPEED_OF_LIGHT)
    low, high = NIRSPEC_SHARP.wavelength[[0, -1]]
    use = (rest > low + 20) & (rest < high - 20) & ~((rest > _HELIUM[0]) & (rest < _HELIUM[1]))
    if use.sum() < _FEWEST:
        raise DataError(f"only {use.sum()} good pixels between {low:.0f} and {high:.0f} Angstrom, {_FEWEST} are needed")
    wavelength, level = wavelength[use], np.median(flux[use])
    flux, sigma = flux[use] / level, sigma[use] / level
    mean, precision, prior_covariance = _prior(known, prior)
    segments = np.split(np.arange(len(wavelength)), np.flatnonzero(np.diff(wavelength) > _GAP) + 1)
    rest = rest[use]
    splines, smooth = _splines(wavelength, segments)
    place = _places(wavelength)
    alike = np.maximum(np.median(spread(wavelength) / np.gradient(wavelength)), 1.0)
    sampled, first = _Sampled(wavelength, spread, strengths), velocity
    labels, width, weight, continuum = sampled.held(mean), 0.0, np.ones(len(flux)), np.ones(len(flux))
    noise2, held, correlated = sigma**2, np.zeros(N_LABELS, bool), 1.0
    n = N_LABELS + splines.shape[1]
    narrowest = SHARPEST / float(spread(wavelength).min()) - 1  # the emulator knows no sharper lines
    for step in range(_STEPS):
        sampled.widen(width)
        model, by_labels, by_velocity, by_width = sampled.at(labels, velocity)
        synthesis2 = synthesis_variance(rest, model)
        lit = splines * model[:, None]
        inverse = weight / (correlated * noise2 + alike * synthesis2) / continuum**2
        curve = np.linalg.solve((lit * inverse[:, None]).T @ lit + smooth, lit.T @ (inverse * flux))
        continuum = splines @ curve
        if not (continuum > 0).all():
            raise DataError("no continuum fits it; is it the spectrum of a star, in flux per wavelength or pixel?")
        residual = flux / continuum - model
        if step > 1:  # the first guesses are off by more than noise
            around = np.concatenate([_spread_around(residual[part]) for part in segments]) ** 2
            noise2 = np.maximum((sigma / continuum) ** 2, around - synthesis2)
            weight = (_STUDENT + 1) / (_STUDENT + residual**2 / (noise2 + synthesis2))
            use = (weight > _OUTLYING) & (synthesis2 <= np.quantile(synthesis2, _SHALLOW))
            response = by_labels * np.sqrt(inverse * continuum**2)
            correlated = _correlated(place, residual / np.sqrt(noise2), use, response, precision)
        inverse = weight / (correlated * noise2 + alike * synthesis2)
        design = np.column_stack([by_labels.T, lit / continuum[:, None], by_velocity, by_width])
        matrix = (design * inverse[:, None]).T @ design
        nuisances = np.zeros(n + 2)
        nuisances[n:] = 1 / _VELOCITY_ERROR**2, 1 / _WIDTH_ERROR**2
        matrix += np.diag(nuisances)
        matrix[N_LABELS:n, N_LABELS:n] += smooth
        matrix[:N_LABELS, :N_LABELS] += precision
        right = design.T @ (inverse * residual)
        right[:N_LABELS] += precision @ (mean - labels)
        right[N_LABELS:n] -= smooth @ curve
        right[n:] += nuisances[n:] * [first - velocity, -width]
        covariance = _inverse(matrix)
        change = covariance @ right
        length = np.sqrt(change[:N_LABELS] @ precision @ change[:N_LABELS] / N_LABELS)
        change *= min(1.0, _LONGEST / max(length, 1e-9))
        labels = sampled.held(wanted := labels + change[:N_LABELS])
        held = np.abs(labels - wanted) > 0.2 * np.sqrt(np.diag(covariance)[:N_LABELS])
        velocity, width = velocity + change[n], max(width + change[n + 1], narrowest)
        if step > 4 and (np.abs(change) < 0.02 * np.sqrt(np.diag(covariance))).all():
            break
    by_synthesis = matrix + (design * (weight / (alike * synthesis2) - inverse)[:, None]).T @ design
    depth = np.maximum(1 - model, 0)
    rough = residual[2:] - 2 * residual[1:-1] + residual[:-2]  # of smooth misfits nothing is left in it
    white = np.median(np.abs(rough)) / MAD_PER_SIGMA / np.sqrt(6)
    trusted = weight / (noise2 + synthesis2)
    unexplained = np.average(residual**2, weights=trusted) / _KEPT - white**2
    error = np.sqrt(np.diag(covariance))
    middle = float(np.median(spread(wavelength)))
    return Fit(
        labels,
        covariance[:N_LABELS, :N_LABELS],
        _inverse(by_synthesis)[:N_LABELS, :N_LABELS],
        (mean, precision, prior_covariance),
        held,
        velocity,
        float(error[n]),
        middle * (1 + width),
        middle * float(error[n + 1]),
        wavelength,
        flux / continuum,
        model,
        np.sqrt(noise2 + synthesis2),
        weight * _STUDENT / (_STUDENT + 1),
        float(np.sqrt(np.median(noise2))),
        correlated,
        float(np.sqrt(max(unexplained, 0) / np.average(depth**2, weights=trusted))),
        _correlation(flux / continuum, model, trusted),
    )


def synthesis_variance(rest: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Variance (m,) of the synthesis' error at rest wavelengths, alike within a resolution element."""
    calibrated = np.any([(rest > low) & (rest < high) for low, high in _CALIBRATED], axis=0)
    trust = np.where(calibrated, _DEPTH_CALIBRATED, _DEPTH)
    return np.asarray(_FLOOR**2 + (trust * np.maximum(1 - model, 0)) ** 2)


def _prior(known: Giants, more: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, precision and covariance of the prior, together with what else is known about a star."""
    if more is None:
        return known.mean, known.precision, known.covariance
    weights, values = more
    both = known.precision + np.diag(weights)
    mean = np.linalg.solve(both, known.precision @ known.mean + weights * values)
    return mean, both, np.linalg.inv(np.linalg.inv(known.covariance) + np.diag(weights))


def _splines(wavelength: np.ndarray, segments: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines over each stretch of pixels (m, k), and a penalty (k, k) that keeps them from bending wildly."""
    columns, bends = [], []
    for part in segments:
        low, high = wavelength[part[0]], wavelength[part[-1]]
        inner = np.linspace(low, high + 1e-6, max(round((high - low) / _SPACING), 1) + 1)
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        block = np.zeros((len(wavelength), len(knots) - 4))
        block[part] = BSpline.design_matrix(wavelength[part], knots, 3).toarray()
        columns.append(block)
        bends.append(np.diff(np.eye(block.shape[1]), 2, axis=0) / _BEND)
    bend = block_diag(*bends)
    return np.concatenate(columns, axis=1), bend.T @ bend + 1e-6 * np.eye(bend.shape[1])


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
    place: np.ndarray, residual: np.ndarray, use: np.ndarray, response: np.ndarray, precision: np.ndarray
) -> float:
    """Factor by which correlation between pixels, at a place (m,) each, increases the variance that labels see.

    `response` (20, m) is that of the spectrum to labels, over the standard deviation of pixels, and `precision`
    (20, 20) the prior's: directions of labels count by what the spectrum tells about them.
    """
    rows = np.linalg.solve(np.linalg.cholesky(response @ response.T + precision), response)
    flat = np.zeros((len(rows) + 2, place[-1] + 1))
    flat[:, place] = *rows, np.where(use, residual, 0), use
    values, used = (torch.from_numpy(flat[i][None]) for i in (-2, -1))
    covariance, known = autocovariance(values, used)
    if not known:
        return 1.0
    rows, lags = flat[:-2], range(1, LAGS + 1)
    alike = np.array([(rows[:, lag:] * rows[:, :-lag]).sum() for lag in lags]) / (rows**2).sum()
    correlation = (covariance[0, 1:] / covariance[0, 0]).numpy()
    return max(1.0, float(1 + 2 * correlation @ alike))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix whose rows have very different sizes."""
    size = np.sqrt(np.diag(matrix))
    return np.linalg.inv(matrix / size[:, None] / size) / size[:, None] / size
