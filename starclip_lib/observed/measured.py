"""A measured star: its labels with their covariance, abundance ratios, upper limits, and a verdict."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from astropy.table import QTable

from starclip_lib.data.tables import Labels, as_labels, label_table
from starclip_lib.observed.fit import Fit
from starclip_lib.observed.readers.instrument import ZERO_POINT
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.giants import FROM_PRIOR, giants
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, N_LABELS, PLAIN, TEFF
from starclip_lib.support.errors import DataError

GOOD, EDGE, DOUBTFUL, OUTSIDE, SET_ASIDE = "good", "at the edge", "doubtful", "outside", "set aside"
# From best to worst, with the meaning that docs/glossary.md has.
VERDICTS = {
    GOOD: "the labels may be used with their errors",
    EDGE: "a label lies within one standard deviation of the emulator's limit, or an element was held there",
    DOUBTFUL: "something contradicts one giant seen through this line-spread function: two stars, other line widths, "
    "wavelengths in air",
    OUTSIDE: "Teff, log g or [Fe/H] lies beyond the emulator's domain, or is unlike any giant's: do not use the labels",
    SET_ASIDE: "not measured",
}
N_NEIGHBOURS = 5
_SEEN = 3.0  # standard deviations of the depth of its lines
_QUANTILE = 1.645  # 95 per cent, one side
_BESIDES = [i for i in range(N_LABELS) if i not in (TEFF, LOGG, FE)]


def verdict_of(warnings: Iterable[str]) -> str:
    """The worst verdict among warnings, each of which begins with its verdict and a colon; 'good' without any."""
    order = list(VERDICTS)
    return max((warning.partition(": ")[0] for warning in warnings), key=order.index, default=GOOD)


def reason_of(warnings: Iterable[str]) -> str:
    """The texts of warnings without their verdicts, the worst first."""
    order = list(VERDICTS)
    parts = [warning.partition(": ") for warning in warnings]
    return "; ".join(text for _, _, text in sorted(parts, key=lambda part: -order.index(part[0])))


@dataclass(frozen=True)
class Abundance:
    """An abundance ratio in dex with its standard deviation; unpacks as `value, sigma`."""

    name: str
    value: float
    sigma: float
    from_prior: bool

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.sigma))

    def __repr__(self) -> str:
        return f"{self.name} = {self.value:+.2f} ± {self.sigma:.2f} dex{' (from the prior)' * self.from_prior}"


@dataclass(frozen=True, eq=False, repr=False)
class Measured:
    """One observed spectrum, or several of one star.

    Parameters
    ----------
    set_aside : str
        Why there is no measurement; empty if there is one.
    labels : Labels, shape (20,)
        K and dex, [X/H]; `labels["Teff"]` has units. NaN if the star is set aside.
    covariance : ndarray, shape (20, 20)
        Of noise, synthesis and the scales of the labels, in products of K and dex. NaN if the star is set aside.
    warnings : tuple of str
        What speaks against the labels; each begins with its verdict, one of `observed.measured.VERDICTS`.
    fits : tuple of Fit
        One for each spectrum.
    scatter : float
        Of several spectra: root mean square of Teff, log g and [Fe/H] about their mean, over the claimed noise.
    prior_fraction : ndarray, shape (20,), optional
        Posterior over prior standard deviation, see `giants.prior_fraction`.
    frame : str
        Of the velocity: 'barycentric', or empty if the file states none.
    spectra : tuple of ObservedSpectrum
        What was measured.
    notes : tuple of str
        What a user should know that does not speak against the labels.
    """

    name: str
    target: str
    set_aside: str = ""
    labels: Labels = field(default_factory=lambda: as_labels(np.full(N_LABELS, np.nan)))
    covariance: np.ndarray = field(default_factory=lambda: np.full((N_LABELS, N_LABELS), np.nan))
    warnings: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    scatter: float = float("nan")
    prior_fraction: np.ndarray | None = None
    frame: str = ""
    spectra: tuple[ObservedSpectrum, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One of `observed.measured.VERDICTS`: good, at the edge, doubtful, outside, set aside."""
        return SET_ASIDE if self.set_aside else verdict_of(self.warnings)

    @property
    def reason(self) -> str:
        """Why the verdict is not 'good'; empty if it is."""
        return self.set_aside or reason_of(self.warnings)

    @property
    def sigma(self) -> Labels:
        """(20,) standard deviations of the labels."""
        return as_labels(np.sqrt(np.diag(self.covariance)))

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio per pixel as the reduction claims it, of several spectra together; NaN if unknown."""
        return float(np.sqrt(sum(one.snr**2 for one in self.spectra))) if self.spectra else float("nan")

    @property
    def velocity(self) -> float:
        """Radial velocity in km/s, mean of the spectra; NaN if there is no fit."""
        return float(np.mean([fit.velocity for fit in self.fits])) if self.fits else float("nan")

    @property
    def sigma_velocity(self) -> float:
        """Standard deviation of `velocity` in km/s: noise alone."""
        errors = [fit.velocity_error for fit in self.fits]
        return float(np.sqrt(np.sum(np.square(errors))) / len(errors)) if errors else float("nan")

    @property
    def velocity_error(self) -> float:
        """Error of `velocity` in km/s: noise, and the zero point of the wavelengths, which exposures share."""
        return float(np.hypot(self.sigma_velocity, ZERO_POINT))

    @property
    def from_prior(self) -> str:
        """The labels whose value is mostly the prior's, separated by commas."""
        fraction = np.zeros(N_LABELS) if self.prior_fraction is None else self.prior_fraction
        return ", ".join(name for name, part in zip(PLAIN, fraction, strict=True) if part > FROM_PRIOR)

    def abundance(self, element: str, over: str = "H") -> Abundance:
        """[X/H], or the ratio to another element, with the error from the covariance.

        Parameters
        ----------
        element : str
            Such as 'Mg'; a ratio such as '[Mg/Fe]' states both.
        over : str
            'H', 'Fe' or another element.

        Returns
        -------
        Abundance
            `value` and `sigma` in dex, and whether the prior decides rather than the spectrum (`from_prior`).

        Raises
        ------
        DataError
            If there is no measurement, or an element is not among the eighteen.
        """
        if self.set_aside:
            raise DataError(f"{self.name} has no abundances: {self.reason}")
        numerator, ratio, denominator = str(element).strip(" []").partition("/")
        over = (denominator if ratio else str(over)).strip(" []")
        above = _element(numerator if isinstance(element, str) else element)
        below = None if over.upper() == "H" else _element(over)
        if above == below:
            raise DataError(f"[{LABELS[above]}/{LABELS[above]}] is 0 by definition; give two elements, or over='H'")
        row = np.zeros(N_LABELS)
        row[above] = 1
        if below is not None:
            row[below] = -1
        fraction = np.zeros(N_LABELS) if self.prior_fraction is None else self.prior_fraction
        name = f"[{LABELS[above]}/{'H' if below is None else LABELS[below]}]"
        sigma = float(np.sqrt(row @ self.covariance @ row))
        return Abundance(name, float(row @ self.labels), sigma, bool((fraction[row != 0] > FROM_PRIOR).any()))

    def nearest_neighbours(self, k: int = N_NEIGHBOURS) -> QTable:
        """The stars of the model atlas that this one could be; see `nearest_neighbours`."""
        return nearest_neighbours(self, k)

    def __repr__(self) -> str:
        if self.set_aside:
            return f"{self.name}: {self.verdict}, {self.reason}"
        lines = [
            f"{self.name}: {self.verdict}{f', {self.reason}' if self.reason else ''}",
            f"Teff {pair(self, TEFF)} K, log g {pair(self, LOGG)}, [Fe/H] {pair(self, FE)}, "
            f"velocity {self.velocity:.1f} ± {self.velocity_error:.1f} km/s",
        ]
        if len(self.fits) > 1:
            lines.append(f"{len(self.fits)} spectra, scatter {self.scatter:.1f} sigma")
        return "\n".join([*lines, f"from the prior: {self.from_prior}"] if self.from_prior else lines)


def _element(name: object) -> int:
    """The place among the labels of an element."""
    given = str(name).strip().capitalize()
    if given not in ELEMENTS:
        close = difflib.get_close_matches(given, ELEMENTS, 3, 0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise DataError(f"unknown element {name!r:.60}; {hint}the elements are {', '.join(ELEMENTS)}")
    return LABELS.index(given)


def pair(one: Measured, i: int) -> str:
    """A label with its error."""
    digits = 0 if i == TEFF else 2
    return f"{one.labels[i]:.{digits}f} ± {one.sigma[i]:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Stars among which neighbours are looked for: labels (n, 20), names (n,), typical errors (20,); K and dex."""

    title: str
    labels: np.ndarray
    star_id: np.ndarray
    sigma: np.ndarray


def model_atlas() -> Catalogue:
    """The model population as a catalogue; its labels have no errors."""
    known = giants()
    return Catalogue("model atlas", known.atlas, known.star_id, np.zeros(N_LABELS))


def nearest_neighbours(one: Measured, k: int = N_NEIGHBOURS, catalogue: Catalogue | None = None) -> QTable:
    """The stars that a measured star could be, best first: of the model atlas, or of another catalogue.

    Parameters
    ----------
    one : Measured
        With labels.
    catalogue : Catalogue, optional
        The model atlas if not given.

    Returns
    -------
    QTable
        Identifier, `distance` (standard deviations of the measurement and of the catalogue, root mean square over the
        labels) and labels.

    Raises
    ------
    DataError
        If there is no measurement.
    """
    if one.set_aside:
        raise DataError(f"{one.name} has no neighbours: {one.reason}")
    known = catalogue or model_atlas()
    root = np.linalg.cholesky(one.covariance + np.diag(known.sigma**2))
    distance = np.sqrt((np.linalg.solve(root, (known.labels - one.labels).T) ** 2).mean(axis=0))
    best = np.argsort(distance, kind="stable")[:k]
    return label_table(known.labels[best], star_id=known.star_id[best], distance=distance[best].round(3))


def upper_limits(one: Measured) -> np.ndarray:
    """95 % upper limits of [X/H] (20,) in dex, NaN where the lines are seen or nothing points below the prior.

    The depth of a weak line is proportional to the abundance, so an abundance that the spectrum alone gives to sigma
    dex belongs to lines seen at 1 / (sigma ln 10) standard deviations. It is a limit below 3, if the spectrum has moved
    it down from what the prior expects at this Teff and [Fe/H] by more than such a spectrum does on average.
    """
    limits = np.full(N_LABELS, np.nan)
    if one.set_aside or one.prior_fraction is None or not one.fits:
        return limits
    labels, (mean, _, covariance) = np.asarray(one.labels), one.fits[0].prior
    two = [TEFF, FE]
    gain = np.linalg.solve(covariance[np.ix_(two, two)], covariance[two]).T
    expected = mean + gain @ (labels - mean)[two]
    width = np.sqrt(np.maximum(np.diag(covariance - gain @ covariance[two]), 0))
    learned = np.sqrt(np.maximum(1 - one.prior_fraction**2, 1e-12))
    alone = one.prior_fraction * width / learned
    unseen = alone > 1 / (_SEEN * np.log(10))
    low = labels - expected < -learned * width
    for i in _BESIDES:
        if unseen[i] and low[i]:
            limits[i] = labels[i] + _QUANTILE * one.sigma[i]
    return limits


def limits_text(one: Measured) -> str:
    """The upper limits of a star in one line, such as '[Ce/H] < -0.93'."""
    limits = upper_limits(one)
    return ", ".join(f"[{LABELS[i]}/H] < {limits[i]:+.2f}" for i in np.flatnonzero(np.isfinite(limits)))
