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

from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.instruments import MAD_PER_SIGMA, NIRSPEC_SHARP, SPEED_OF_LIGHT
from starclip_lib.data.labels import N_LABELS
from starclip_lib.data.line_spread import SHARPEST, LineSpread, broadening
from starclip_lib.errors import DataError
from starclip_lib.models.emulation import EmulatedSpectra
from starclip_lib.observed.giants import Giants

_SPACING = 300.0  # Angstrom between knots of the continuum
_GAP = 200.0  # Angstrom; beyond a wider stretch without pixels the continuum begins anew
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
_STEPS = 12
_LONGEST = 2.0  # of a step, root mean square over the labels in standard deviations of the prior
_HELIUM = (10810.0, 10850.0)  # He I 10833: not photospheric


@dataclass(frozen=True, eq=False)
class Fit:
    """What fits an observed spectrum best.

    Parameters
    ----------
    labels : ndarray, shape (20,)
        K and dex, inside the emulator's domain.
    covariance : ndarray, shape (20, 20)
        Of noise and synthesis, prior included.
    systematic : ndarray, shape (20, 20)
        Of the synthesis alone: what further exposures do not make smaller.
    prior : tuple of ndarray
        Mean (20,) and precision (20, 20) that went in.
    held : ndarray of bool, shape (20,)
        Which labels would have left the domain.
    velocity, velocity_error : float
        km/s.
    fwhm, fwhm_error : float
        Of the line-spread function in the middle of the spectrum, Angstrom.
    wavelength, flux, model, sigma : ndarray, shape (m,)
        Observed vacuum Angstrom; flux and model relative to the fitted continuum; standard deviation of both errors.
    weight : ndarray, shape (m,)
        Between 0 (an outlier) and 1.
    noise : float
        Median standard deviation of the noise.
    misfit : float
        What neither labels nor noise explain, over the depth of the lines, both root mean squares.
    correlation : float
        Of observed and fitted lines.
    """

    labels: np.ndarray
    covariance: np.ndarray
    systematic: np.ndarray
    prior: tuple[np.ndarray, np.ndarray]
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
    """Fit one spectrum.

    Parameters
    ----------
    wavelength : ndarray, shape (m,)
        Of good pixels, observed vacuum Angstrom, increasing.
    flux : ndarray, shape (m,)
        In any unit per Angstrom or pixel, positive.
    sigma : ndarray, shape (m,)
        Its claimed standard deviation.
    spread : LineSpread
    velocity : float
        First guess, km/s.
    known : Giants
        The population, as prior.
    prior : tuple of ndarray, optional
        More that is known about this star: precisions (20,) and values (20,); 0 where nothing is.
    strengths : ndarray, shape (8192,), optional
        What the depth of the emulator's lines is multiplied by, on the sharp NIRSpec grid; 1 if not given.

    Returns
    -------
    Fit

    Raises
    ------
    DataError
        If too few pixels are left, or nothing can be fitted to them.
    """
    rest = wavelength / (1 + velocity / SPEED_OF_LIGHT)
    low, high = NIRSPEC_SHARP.wavelength[[0, -1]]
    use = (rest > low + 20) & (rest < high - 20) & ~((rest > _HELIUM[0]) & (rest < _HELIUM[1]))
    if use.sum() < _FEWEST:
        raise DataError(f"only {use.sum()} good pixels between {low:.0f} and {high:.0f} Angstrom, {_FEWEST} are needed")
    wavelength, level = wavelength[use], np.median(flux[use])
    flux, sigma = flux[use] / level, sigma[use] / level
    mean, precision = _prior(known, prior)
    segments = np.split(np.arange(len(wavelength)), np.flatnonzero(np.diff(wavelength) > _GAP) + 1)
    trust = _trust(rest[use])
    splines, smooth = _splines(wavelength, segments)
    alike = np.maximum(np.median(spread(wavelength) / np.gradient(wavelength)), 1.0)
    sampled, first = _Sampled(wavelength, spread, strengths), velocity
    labels, width, weight, continuum = sampled.held(mean), 0.0, np.ones(len(flux)), np.ones(len(flux))
    noise2, held = sigma**2, np.zeros(N_LABELS, bool)
    n = N_LABELS + splines.shape[1]
    narrowest = SHARPEST / float(spread(wavelength).min()) - 1  # the emulator knows no sharper lines
    for step in range(_STEPS):
        sampled.widen(width)
        model, by_labels, by_velocity, by_width = sampled.at(labels, velocity)
        synthesis2 = _FLOOR**2 + (trust * np.maximum(1 - model, 0)) ** 2
        lit = splines * model[:, None]
        inverse = weight / (noise2 + alike * synthesis2) / continuum**2
        curve = np.linalg.solve((lit * inverse[:, None]).T @ lit + smooth, lit.T @ (inverse * flux))
        continuum = splines @ curve
        if not (continuum > 0).all():
            raise DataError("no continuum fits it; is it the spectrum of a star, in flux per wavelength or pixel?")
        residual = flux / continuum - model
        if step > 1:  # the first guesses are off by more than noise
            around = np.concatenate([_spread_around(residual[part]) for part in segments]) ** 2
            noise2 = np.maximum((sigma / continuum) ** 2, around - synthesis2)
            weight = (_STUDENT + 1) / (_STUDENT + residual**2 / (noise2 + synthesis2))
        inverse = weight / (noise2 + alike * synthesis2)
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
        (mean, precision),
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
        float(np.sqrt(max(unexplained, 0) / np.average(depth**2, weights=trusted))),
        _correlation(flux / continuum, model, trusted),
    )


def _trust(rest: np.ndarray) -> np.ndarray:
    """The error of the synthesis at wavelengths (m,), relative to the depth of lines."""
    inside = np.any([(rest > low) & (rest < high) for low, high in _CALIBRATED], axis=0)
    return np.where(inside, _DEPTH_CALIBRATED, _DEPTH)


def _prior(known: Giants, more: tuple[np.ndarray, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision of the population, and of what else is known about a star."""
    precision = np.linalg.inv(known.covariance)
    if more is None:
        return known.mean, precision
    weights, values = more
    both = precision + np.diag(weights)
    return np.linalg.solve(both, precision @ known.mean + weights * values), both


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


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix whose rows have very different sizes."""
    size = np.sqrt(np.diag(matrix))
    return np.linalg.inv(matrix / size[:, None] / size) / size[:, None] / size
