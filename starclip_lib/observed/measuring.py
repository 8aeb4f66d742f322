"""Observed spectra of giants measured by fits of the emulator, without training: what `starclip observe` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from starclip_lib.data.tables import as_labels
from starclip_lib.observed.fit import Fit, fit_giant
from starclip_lib.observed.lsf import DEFAULT, parse_lsf
from starclip_lib.observed.measured import DOUBTFUL, EDGE, OUTSIDE, Measured
from starclip_lib.observed.measurements import Measurements
from starclip_lib.observed.priors import Diagonal, StarPrior, contradictions, fit_with, with_scales
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum, edge_mask
from starclip_lib.observed.velocity import doubtful_medium, measured_velocity, second_lines
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import (
    WIDE,
    Giants,
    giant_templates,
    giants,
    prior_fraction,
)
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, PLAIN, TEFF
from starclip_lib.physics.lsf import LineSpread
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.threads import Callback

_TEMPLATES = 24
_SHORTEST = 60  # good pixels of a detector that take part: the fit keeps a short continuum straight and knows its noise
# Of the depth of the lines: real giants (M71, IRTF) differ by 0.07 to 0.26 from the best fit once noise is taken off.
_MOST_MISFIT = 0.5
_SIGNIFICANT_MISFIT = 0.7  # of the noise: a smaller misfit cannot be distinguished from it
_LEAST_CORRELATION = 0.35  # of observed and fitted lines
_NARROW, _WIDE, _TOO_WIDE = 0.65, 1.25, 1.6  # fitted over expected width of the line-spread function
_AT_LIMIT = 1.01  # fitted width over that of the emulator's sharpest spectra
_SECOND, _SIGNIFICANT = 0.08, 5.0  # real giants have at most 0.03 and 2 standard deviations
_UNLIKE = 20.6  # chi squared of Teff, log g and [Fe/H] against the population: one star of the atlas in a thousand

Prior = StarPrior | Diagonal


def measure(
    spectra: Sequence[ObservedSpectrum],
    lsf: str = "",
    priors: Mapping[str, Prior] | None = None,
    settings: ObservedParams = OBSERVED,
    callback: Callback | None = None,
    population: str = WIDE,
) -> Measurements:
    """Measure spectra, one by one; the front door's `starclip.measure` also reads and combines them.

    `lsf` is as `observed.lsf` takes it (empty: what each file gives, else G140H's), `priors` by name or target
    holds a `StarPrior`, or precisions (20,) and values (20,), `callback` gets a line of text for each spectrum. Raises
    DataError for an unknown line-spread function or population, or if different spectra end in the very same labels.
    """
    if lsf:
        parse_lsf(lsf)  # an error of the call, not of each spectrum
    known, found = giants(population), Measurements()
    templates = giant_templates(_TEMPLATES)
    for number, spectrum in enumerate(spectra, start=1):
        prior = (priors or {}).get(spectrum.name, (priors or {}).get(spectrum.target))
        one = _measured(spectrum, lsf, prior, settings, known, templates)
        one = replace(one, spectra=(spectrum,), notes=(*filter(None, [spectrum.note]), *one.notes))
        found.append(one)
        if callback is not None:
            reason = f": {one.reason}" if one.reason else ""
            callback(f"[{number}/{len(spectra)}] {spectrum.name}: {one.verdict}{reason}")
    _check_distinct(found)
    return found


def _measured(
    spectrum: ObservedSpectrum,
    lsf: str,
    prior: Prior | None,
    settings: ObservedParams,
    known: Giants,
    templates: np.ndarray,
) -> Measured:
    name, target = spectrum.name, spectrum.target or spectrum.name
    if faults := spectrum.faults(settings):
        return Measured(name, target, "; ".join(faults))
    spectrum = spectrum.within(settings)
    good = ~edge_mask(spectrum, _SHORTEST)
    if not good.any():
        return Measured(name, target, "its good pixels lie in stretches too short to be used")
    wave, flux, sigma = spectrum.wavelength[good], spectrum.flux[good], 1 / np.sqrt(spectrum.ivar[good])
    try:
        width = parse_lsf(lsf or spectrum.lsf or DEFAULT)
        _, velocity, _, correlation = measured_velocity(wave, flux, templates, settings)
        if correlation < settings.min_correlation:
            return Measured(name, target, f"no stellar lines: correlation {correlation:.2f} with the best template")
        if abs(velocity) >= settings.max_velocity:
            limit = f"{settings.max_velocity:.0f} km/s"
            return Measured(name, target, f"its lines lie at no velocity between -{limit} and {limit}; is it a galaxy?")
        fit = fit_with(prior, lambda terms: fit_giant(wave, flux, sigma, width, velocity, known, terms))
    except DataError as error:
        return Measured(name, target, str(error))
    missed = fit.misfit * float(np.sqrt(np.mean((1 - fit.model) ** 2)))
    if fit.correlation < _LEAST_CORRELATION or (fit.misfit > _MOST_MISFIT and missed > _SIGNIFICANT_MISFIT * fit.noise):
        return Measured(
            name,
            target,
            f"no giant of the emulator looks like it: lines correlate by {fit.correlation:.2f} with the best fit, "
            f"which misses {fit.misfit:.0%} of their depth",
            fits=(fit,),
        )
    wide = fit.fwhm / float(np.median(width(fit.wavelength)))
    if wide > _TOO_WIDE:
        reason = f"lines {wide:.1f} times as wide as the line-spread function: "
        reason += "a galaxy, two stars, fast rotation, or a wrong lsf"
        return Measured(name, target, reason, fits=(fit,))
    values, covariance = with_scales(fit.labels, fit.covariance, fit.prior, known)
    sigma = np.sqrt(np.diag(covariance))
    warnings = (
        *_fit_warnings(fit, wide),
        *doubtful_medium(spectrum, fit.velocity),
        *contradictions(prior, fit),
        *domain_warnings(values, sigma, fit.held, known),
    )
    fraction = prior_fraction(fit.covariance, fit.prior[2])
    labels = as_labels(values)
    return Measured(
        name,
        target,
        "",
        labels,
        covariance,
        warnings,
        (fit,),
        prior_fraction=fraction,
        frame=spectrum.frame,
        notes=width_notes(fit, width),
    )


def _fit_warnings(fit: Fit, wide: float) -> tuple[str, ...]:
    """Signs of more than one star in the slit, or of another line-spread function than was given."""
    warnings = []
    if wide < _NARROW:
        warnings.append(
            f"{DOUBTFUL}: lines are only {wide:.2f} times as wide as the line-spread function: is it the right one?"
        )
    if wide > _WIDE:
        warnings.append(
            f"{DOUBTFUL}: lines are {wide:.2f} times as wide as the line-spread function: two stars, or rotation"
        )
    apart = 1.2 * fit.fwhm / float(np.median(fit.wavelength)) * SPEED_OF_LIGHT
    left, weight = fit.model - fit.flux, fit.weight / fit.sigma**2
    velocity, ratio, significance = second_lines(fit.wavelength, left, 1 - fit.model, weight, apart)
    if ratio > _SECOND and significance > _SIGNIFICANT:
        warnings.append(f"{DOUBTFUL}: the same lines once more at {velocity:+.0f} km/s, {ratio:.0%} as deep: two stars")
    return tuple(warnings)


def width_notes(fit: Fit, width: LineSpread) -> tuple[str, ...]:
    """Whether the fitted lines are as narrow as the emulator's sharpest spectra."""
    expected = width(fit.wavelength)
    narrowest = fit.fwhm * float(expected.min() / np.median(expected))
    limit = default_emulator().narrowest
    if narrowest > limit * _AT_LIMIT:
        return ()
    return (f"the line width is at the emulator's limit ({limit:.1f} Angstrom); the star's lines may be narrower",)


def domain_warnings(labels: np.ndarray, sigma: np.ndarray, held: np.ndarray, known: Giants) -> tuple[str, ...]:
    """Where labels (20,) leave what emulator and prior cover; `held` marks those that would leave the domain."""
    emulator, warnings = default_emulator(), []
    low, high = emulator.teff_limits(labels[LOGG])
    limits = {TEFF: (float(low), float(high))}
    limits |= {i: (float(emulator.label_min[i]), float(emulator.label_max[i])) for i in (LOGG, FE)}
    for i, (lowest, highest) in limits.items():
        value, digits = labels[i], 0 if i == TEFF else 2
        if held[i]:
            warnings.append(f"{OUTSIDE}: {PLAIN[i]} held at the emulator's edge, {value:.{digits}f}")
        elif min(value - lowest, highest - value) < sigma[i]:
            warnings.append(f"{EDGE}: {PLAIN[i]} {value:.{digits}f} ± {sigma[i]:.{digits}f}, the emulator ends there")
    rest = [PLAIN[i] for i in range(N_LABELS) if held[i] and i not in limits]
    if rest:
        warnings.append(f"{EDGE}: {', '.join(rest)} held at the emulator's edge")
    three = [TEFF, LOGG, FE]
    off = labels[three] - known.mean[three]
    if off @ np.linalg.solve(known.covariance[np.ix_(three, three)], off) > _UNLIKE:
        warnings.append(f"{OUTSIDE}: Teff, log g and [Fe/H] are unlike any giant's of the population")
    return tuple(warnings)


def _check_distinct(found: Measurements) -> None:
    """Raise DataError if two spectra that differ have ended in the very same labels: something is broken then."""
    good = [(one, one.labels, one.fits[0].flux) for one in found if not one.set_aside]
    for (one, labels, flux), (other, others, its) in combinations(good, 2):
        if np.array_equal(labels, others) and not np.array_equal(flux, its):
            raise DataError(
                f"{one.name} and {other.name} are different spectra and have the very same {len(LABELS)} labels; "
                "please report this with the two files"
            )
