"""Radial velocities by cross-correlation with templates."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from starclip_lib.data.instruments import MAD_PER_SIGMA, NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.settings.evaluation import ObservedParams

_STEP = 5.0  # km/s between the velocities tried
_LINE_WINDOW = 41  # pixels (96 Angstrom): wider than lines and band heads, narrower than the response's wiggles
_CLIP = 3.0  # sigma
_FARTHEST = 600.0  # km/s between two stars of one slit
_ROUNDS = 2


def measured_velocity(
    wave: np.ndarray, flux: np.ndarray, templates: np.ndarray, settings: ObservedParams
) -> tuple[int, float, float, float]:
    """Best template, velocity, its uncertainty, and the correlation before outliers are rejected.

    Where the best template fits worst there are defects of the extraction or lines that it lacks: what stands off by
    3 sigma is left out and the peak sought again, twice.  The uncertainty follows from the curvature of the
    cross-correlation's peak (Zucker 2003, equation 5).
    """
    velocities = np.arange(-settings.max_velocity, settings.max_velocity + 1, _STEP)
    observed = _lines(flux)

    def shifted(template: np.ndarray) -> np.ndarray:
        """The template's lines as they would be seen at each velocity, (velocities, m)."""
        rest = [wave / (1 + velocity / SPEED_OF_LIGHT) for velocity in velocities]
        return np.stack([_lines(np.interp(x, NIRSPEC.wavelength, template)) for x in rest])

    score = np.stack([_correlations(observed, shifted(template)) for template in templates])
    best = int(np.unravel_index(np.argmax(score), score.shape)[0])
    first, lines, kept = float(score.max()), shifted(templates[best]), np.ones(len(wave), bool)
    for last in [False] * _ROUNDS + [True]:
        score = _correlations(observed[kept], lines[:, kept])
        peak = int(np.argmax(score))
        if last or not 0 < peak < len(velocities) - 1:
            break
        slope, offset = np.polyfit(lines[peak, kept], observed[kept], 1)
        off = np.abs(observed - offset - slope * lines[peak])
        kept = off < _CLIP * np.median(off) / MAD_PER_SIGMA
    velocity, top = float(velocities[peak]), float(score[peak])
    if not 0 < peak < len(velocities) - 1:
        return best, velocity, float("inf"), first
    left, _, right = score[peak - 1 : peak + 2]  # the vertex of the parabola through the peak and its neighbours
    bend = left - 2 * top + right
    velocity += _STEP / 2 * float((left - right) / bend)
    curvature = kept.sum() * (bend / _STEP**2 / top) * top**2 / (1 - top**2)
    return best, velocity, float(np.sqrt(-1 / curvature)), first


def second_lines(
    wavelength: np.ndarray, residual: np.ndarray, depth: np.ndarray, weight: np.ndarray, apart: float
) -> tuple[float, float, float]:
    """A second star in what the fit of one has left: the same lines once more, at another velocity.

    Parameters
    ----------
    wavelength : ndarray, shape (m,)
    residual : ndarray, shape (m,)
        Model minus observed.
    depth : ndarray, shape (m,)
        Of the model's lines.
    weight : ndarray, shape (m,)
        Inverse variance.
    apart : float
        km/s; nearer to the star's own lines none are looked for.

    Returns
    -------
    velocity : float
        km/s from the star.
    ratio : float
        Depth of the second lines over that of the first.
    significance : float
        In standard deviations.
    """
    place = np.log(wavelength)
    velocities = np.arange(-_FARTHEST, _FARTHEST + 1, 2 * _STEP)
    velocities = velocities[np.abs(velocities) > apart]
    lines = np.stack([np.interp(place - velocity / SPEED_OF_LIGHT, place, depth) for velocity in velocities])
    lines -= (lines @ weight / weight.sum())[:, None]
    power = (lines**2) @ weight
    ratio = lines @ (weight * residual) / power
    best = int(np.argmax(ratio))
    return float(velocities[best]), float(ratio[best]), float(ratio[best] * np.sqrt(power[best]))


def _correlations(observed: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Pearson's coefficient of (m,) with each row of (n, m)."""
    observed, lines = observed - observed.mean(), lines - lines.mean(1, keepdims=True)
    return lines @ observed / np.maximum(np.linalg.norm(lines, axis=1) * np.linalg.norm(observed), 1e-30)


def _lines(flux: np.ndarray) -> np.ndarray:
    """What is left when a running median is divided out; what stands above it is no line, and deep pixels are tamed."""
    return np.clip(flux / median_filter(flux, _LINE_WINDOW) - 1, -0.3, 0.02)
