"""Radial velocities by cross-correlation with templates."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.instruments import MAD_PER_SIGMA, NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.settings.evaluation import ObservedParams

_STEP = 5.0  # km/s between the velocities tried
_LINE_WINDOW = 41  # pixels (96 Angstrom): wider than lines and band heads, narrower than the response's wiggles
_CLIP = 3.0  # sigma
_FARTHEST = 600.0  # km/s between two stars of one slit
_ROUNDS = 2
_AIR = 81.9  # km/s by which lines seem to move when wavelengths in air are taken for those in vacuum (81.7 to 82.2)
_MARGIN = 20.0  # km/s by which the reading in air must lie nearer to rest to be worth a question


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
    """A second star in what the fit of one has left: the same lines once more, at another velocity."""
    place = np.log(wavelength)
    velocities = np.arange(-_FARTHEST, _FARTHEST + 1, 2 * _STEP)
    velocities = velocities[np.abs(velocities) > apart]
    lines = np.stack([np.interp(place - velocity / SPEED_OF_LIGHT, place, depth) for velocity in velocities])
    lines -= (lines @ weight / weight.sum())[:, None]
    power = (lines**2) @ weight
    ratio = lines @ (weight * residual) / power
    best = int(np.argmax(ratio))
    return float(velocities[best]), float(ratio[best]), float(ratio[best] * np.sqrt(power[best]))


def doubtful_medium(spectrum: ObservedSpectrum, velocity: float) -> tuple[str, ...]:
    """A remark if nothing is stated about air or vacuum and the lines lie nearer to rest when read as those in air.

    Air and vacuum differ by one factor to 0.3 km/s between 10,000 and 18,000 Angstrom, so the lines tell the velocity
    of both readings and not which one is right.
    """
    in_air = velocity + _AIR
    if spectrum.medium or abs(in_air) + _MARGIN > abs(velocity):
        return ()
    return (
        "doubtful: whether its wavelengths are in air is not stated; its velocity is "
        f"{velocity:+.0f} km/s if they are in vacuum and {in_air:+.0f} km/s if in air: "
        "give --air or --vacuum (in Python air=True or air=False)",
    )


def _correlations(observed: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Pearson's coefficient of (m,) with each row of (n, m)."""
    observed, lines = observed - observed.mean(), lines - lines.mean(1, keepdims=True)
    return lines @ observed / np.maximum(np.linalg.norm(lines, axis=1) * np.linalg.norm(observed), 1e-30)


def _lines(flux: np.ndarray) -> np.ndarray:
    """Flux over its running median, less one; what stands above that is not a line, and deep pixels are clipped."""
    return np.clip(flux / median_filter(flux, _LINE_WINDOW) - 1, -0.3, 0.02)
