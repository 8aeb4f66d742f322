"""Observed spectra of giants, measured without any model that had to be trained: what `starclip observe` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from astropy import units
from astropy.table import QTable

from starclip_lib.data.tables import label_table
from starclip_lib.observed.fit import Fit, fit_giant
from starclip_lib.observed.line_spread import DEFAULT, line_spread
from starclip_lib.observed.preparation import without_edges
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.observed.velocity import doubtful_medium, measured_velocity, second_lines
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import (
    FROM_PRIOR,
    WIDE,
    Giants,
    giant_templates,
    giants,
    prior_fraction,
    scale_covariance,
)
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, PLAIN, TEFF
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError

N_TWINS = 5
_TEMPLATES = 24
_SHORTEST = 60  # good pixels of a detector that take part: the fit keeps a short continuum straight and knows its noise
# Of the depth of the lines: real giants (M71, IRTF) differ by 0.07 to 0.26 from the best fit once noise is taken off.
_MOST_MISFIT = 0.5
_SEEN = 0.7  # of the noise: less cannot be told from it
_LEAST_CORRELATION = 0.35  # of observed and fitted lines
_NARROW, _WIDE, _TOO_WIDE = 0.65, 1.25, 1.6  # fitted over expected width of the line-spread function
_SECOND, _SIGNIFICANT = 0.08, 5.0  # real giants have at most 0.03 and 2 standard deviations
_UNLIKE = 20.6  # chi squared of Teff, log g and [Fe/H] against the population: one star of the atlas in a thousand

Prior = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Measured:
    """One observed spectrum, or several of one star.

    `verdict` is 'good', or why there is no measurement; labels (20,) in K and dex, with the covariance (20, 20) of
    noise, synthesis and the scales of the labels; `domain` is 'inside', or the reasons against it; `strange` lists
    signs of more than one star; `fits` has one entry for each spectrum. `scatter` of several spectra: root mean square
    of Teff, log g and [Fe/H] about their mean, over the claimed noise. `prior_fraction` (20,): posterior over prior
    standard deviation, see `giants.prior_fraction`.
    """

    name: str
    target: str
    verdict: str
    labels: np.ndarray | None = None
    covariance: np.ndarray | None = None
    domain: str = ""
    strange: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    scatter: float = float("nan")
    prior_fraction: np.ndarray | None = None

    @property
    def sigma(self) -> np.ndarray:
        """(20,) standard deviations of the labels."""
        return np.sqrt(np.diag(self.covariance)) if self.covariance is not None else np.full(N_LABELS, np.nan)

    @property
    def from_prior(self) -> str:
        """The labels whose value is mostly the prior's, separated by commas."""
        fraction = np.zeros(N_LABELS) if self.prior_fraction is None else self.prior_fraction
        return ", ".join(name for name, part in zip(PLAIN, fraction, strict=True) if part > FROM_PRIOR)


def measure(
    spectra: Sequence[ObservedSpectrum],
    spread: str = "",
    priors: Mapping[str, Prior] | None = None,
    settings: ObservedParams = OBSERVED,
    say: Callable[[str], None] | None = None,
    population: str = WIDE,
) -> list[Measured]:
    """Measure spectra, one by one.

    Parameters
    ----------
    spectra : sequence of ObservedSpectrum
    spread : str
        The line-spread function, as `observed.line_spread` takes it; empty: what each file gives, else G140H's.
    priors : mapping of str to tuple of ndarray, optional
        By name or target: precisions (20,) and values (20,) of what is known besides the spectrum.
    settings : ObservedParams
    say : callable, optional
        Is given a line of text about each spectrum.
    population : str
        The prior: 'wide' is flat in [Fe/H] and hardly knows log g, for giants of any galaxy; 'milky-way' has the giant
        branch and the abundances of the Milky Way's giants.

    Returns
    -------
    list of Measured
        One for each spectrum; those that cannot be measured say why.

    Raises
    ------
    DataError
        If the line-spread function or the population is unknown, or two different spectra end in the very same labels.
    """
    if spread:
        line_spread(spread)  # a slip is an error of the command, not of each spectrum
    known, found = giants(population), []
    templates = giant_templates(_TEMPLATES)
    for number, spectrum in enumerate(spectra, start=1):
        prior = (priors or {}).get(spectrum.name, (priors or {}).get(spectrum.target))
        one = _measured(spectrum, spread, prior, settings, known, templates)
        found.append(one)
        if say is not None:
            say(f"[{number}/{len(spectra)}] {spectrum.name}: {one.verdict if one.labels is None else one.domain}")
    _check_distinct(found)
    return found


def _measured(
    spectrum: ObservedSpectrum,
    spread: str,
    prior: Prior | None,
    settings: ObservedParams,
    known: Giants,
    templates: np.ndarray,
) -> Measured:
    name, target = spectrum.name, spectrum.target or spectrum.name
    if faults := spectrum.faults(settings):
        return Measured(name, target, "; ".join(faults))
    spectrum = spectrum.within(settings)
    good = ~without_edges(spectrum, _SHORTEST)
    if not good.any():
        return Measured(name, target, "its good pixels lie in stretches too short to be used")
    wave, flux, sigma = spectrum.wavelength[good], spectrum.flux[good], 1 / np.sqrt(spectrum.ivar[good])
    try:
        width = line_spread(spread or spectrum.line_spread or DEFAULT)
        _, velocity, _, correlation = measured_velocity(wave, flux, templates, settings)
        if correlation < settings.min_correlation:
            return Measured(name, target, f"no stellar lines: correlation {correlation:.2f} with the best template")
        if abs(velocity) >= settings.max_velocity:
            limit = f"{settings.max_velocity:.0f} km/s"
            return Measured(name, target, f"its lines lie at no velocity between -{limit} and {limit}; is it a galaxy?")
        fit = fit_giant(wave, flux, sigma, width, velocity, known, prior)
    except DataError as error:
        return Measured(name, target, str(error))
    missed = fit.misfit * float(np.sqrt(np.mean((1 - fit.model) ** 2)))
    if fit.correlation < _LEAST_CORRELATION or (fit.misfit > _MOST_MISFIT and missed > _SEEN * fit.noise):
        return Measured(
            name,
            target,
            f"no giant of the emulator looks like it: lines correlate by {fit.correlation:.2f} with the best fit, "
            f"which misses {fit.misfit:.0%} of their depth",
            fits=(fit,),
        )
    wide = fit.fwhm / float(np.median(width(fit.wavelength)))
    if wide > _TOO_WIDE:
        said = f"lines {wide:.1f} times as wide as the line-spread function: a galaxy, fast rotation, or a wrong --lsf"
        return Measured(name, target, said, fits=(fit,))
    covariance = fit.covariance + scale_covariance()
    domain = domain_of(fit.labels, np.sqrt(np.diag(covariance)), fit.held, known)
    strange = (*_strange(fit, wide), *doubtful_medium(spectrum, fit.velocity))
    domain = with_remarks(strange, domain)
    fraction = prior_fraction(fit.covariance, fit.prior[2])
    return Measured(name, target, "good", fit.labels, covariance, domain, strange, (fit,), prior_fraction=fraction)


def with_remarks(strange: Sequence[str], domain: str) -> str:
    """A verdict of `domain_of` behind remarks."""
    return "; ".join([*strange, *(() if strange and domain == "inside" else (domain,))])


def _strange(fit: Fit, wide: float) -> tuple[str, ...]:
    """What speaks for more than one star in the slit, or another instrument than was said."""
    said = []
    if wide < _NARROW:
        said.append(
            f"outside: lines are only {wide:.2f} times as wide as the line-spread function: is it the right one?"
        )
    if wide > _WIDE:
        said.append(f"outside: lines are {wide:.2f} times as wide as the line-spread function: two stars, or rotation")
    apart = 1.2 * fit.fwhm / float(np.median(fit.wavelength)) * SPEED_OF_LIGHT
    left, weight = fit.model - fit.flux, fit.weight / fit.sigma**2
    velocity, ratio, significance = second_lines(fit.wavelength, left, 1 - fit.model, weight, apart)
    if ratio > _SECOND and significance > _SIGNIFICANT:
        said.append(f"outside: the same lines once more at {velocity:+.0f} km/s, {ratio:.0%} as deep: two stars")
    return tuple(said)


def domain_of(labels: np.ndarray, sigma: np.ndarray, held: np.ndarray, known: Giants) -> str:
    """'inside' where labels (20,) lie where emulator and prior may be believed, or the reasons against it.

    `held` marks labels that would have left the emulator's domain.
    """
    emulator, said = default_emulator(), []
    low, high = emulator.teff_limits(labels[LOGG])
    limits = {TEFF: (float(low), float(high))}
    limits |= {i: (float(emulator.label_min[i]), float(emulator.label_max[i])) for i in (LOGG, FE)}
    for i, (lowest, highest) in limits.items():
        value, digits = labels[i], 0 if i == TEFF else 2
        if held[i]:
            said.append(f"outside: {PLAIN[i]} held at the emulator's edge, {value:.{digits}f}")
        elif min(value - lowest, highest - value) < sigma[i]:
            said.append(f"at the edge: {PLAIN[i]} {value:.{digits}f} ± {sigma[i]:.{digits}f}, the emulator ends there")
    rest = [PLAIN[i] for i in range(N_LABELS) if held[i] and i not in limits]
    if rest:
        said.append(f"at the edge: {', '.join(rest)} held at the emulator's edge")
    three = [TEFF, LOGG, FE]
    off = labels[three] - known.mean[three]
    if off @ np.linalg.solve(known.covariance[np.ix_(three, three)], off) > _UNLIKE:
        said.append("outside: Teff, log g and [Fe/H] are unlike any giant's of the population")
    return "; ".join(sorted(said, reverse=True)) or "inside"


def twins(one: Measured, k: int = N_TWINS) -> QTable:
    """The stars of the atlas that a measured star could be, best first.

    Parameters
    ----------
    one : Measured
        With labels.
    k : int

    Returns
    -------
    QTable
        Identifier, `distance` (standard deviations of the measurement, root mean square over the labels) and labels.

    Raises
    ------
    DataError
        If there is no measurement.
    """
    if one.labels is None or one.covariance is None:
        raise DataError(f"{one.name} has no twins: {one.verdict}")
    known = giants()
    root = np.linalg.cholesky(one.covariance)
    distance = np.sqrt((np.linalg.solve(root, (known.atlas - one.labels).T) ** 2).mean(axis=0))
    best = np.argsort(distance, kind="stable")[:k]
    return label_table(known.atlas[best], star_id=known.star_id[best], distance=distance[best].round(3))


def measured_table(found: Sequence[Measured]) -> QTable:
    """A row for each measurement, with units; NaN where there is none.

    Parameters
    ----------
    found : sequence of Measured

    Returns
    -------
    QTable
    """
    nothing = np.full(N_LABELS, np.nan)

    def of_fits(name: str) -> list[float]:
        return [float(np.mean([getattr(fit, name) for fit in one.fits])) if one.fits else np.nan for one in found]

    errors = of_fits("velocity_error")
    table = label_table(
        np.array([nothing if one.labels is None else one.labels for one in found]).reshape(-1, N_LABELS),
        np.array([one.sigma for one in found]).reshape(-1, N_LABELS),
        name=[one.name for one in found],
        verdict=[one.verdict for one in found],
        domain=[one.domain for one in found],
        spectra=[max(len(one.fits), 1) for one in found],
        scatter=[one.scatter for one in found],
        velocity=of_fits("velocity"),
        sigma_velocity=[error / np.sqrt(max(len(one.fits), 1)) for one, error in zip(found, errors, strict=True)],
        fwhm=np.array(of_fits("fwhm")) * units.Angstrom,
        noise=of_fits("noise"),
        misfit=of_fits("misfit"),
        from_prior=[one.from_prior for one in found],
    )
    fractions = np.array([nothing if one.prior_fraction is None else one.prior_fraction for one in found])
    for i, name in enumerate(LABELS):
        table[f"prior_fraction_{name}"] = fractions.reshape(-1, N_LABELS)[:, i].round(3)
    return table


def _check_distinct(found: Sequence[Measured]) -> None:
    """Raise DataError if two spectra that differ have ended in the very same labels: something is broken then."""
    good = [(one, one.labels, one.fits[0].flux) for one in found if one.labels is not None]
    for (one, labels, flux), (other, others, its) in combinations(good, 2):
        if np.array_equal(labels, others) and not np.array_equal(flux, its):
            raise DataError(
                f"{one.name} and {other.name} are different spectra and have the very same {len(LABELS)} labels; "
                "please report this with the two files"
            )
