"""What a user knows about stars besides their spectra: labels, a magnitude with a distance, a colour."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starclip_lib.observed.fit import Fit
from starclip_lib.observed.measured import DOUBTFUL
from starclip_lib.observed.photometry import (
    BANDS,
    COLOURS,
    MASS,
    MASS_ERROR,
    bolometric_correction,
    extinction_ratio,
    reddening,
    surface_gravity,
)
from starclip_lib.physics.giants import Giants, scale_covariance
from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF
from starclip_lib.storage.csv_files import read_csv
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import safe_name

LABEL_COLUMNS = {"teff": (TEFF, 2500.0, 8000.0), "logg": (LOGG, -1.0, 5.5), "fe_h": (FE, -4.0, 1.0)}
# Limits of a number and of its error; a number below or above is in another unit, or of another kind of object.
PHOTOMETRY_COLUMNS = {
    "magnitude": (-5.0, 32.0, 1.0),
    "distance_modulus": (-5.0, 31.0, 3.0),
    "a_v": (0.0, 30.0, 5.0),
    "mass": (0.4, 15.0, 10.0),
    "colour_index": (-1.0, 15.0, 1.0),
}
ALL_STARS = "*"
_OF_MAGNITUDE, _OF_COLOUR = ("magnitude", "distance_modulus", "a_v", "mass"), ("colour_index", "a_v")
_START = (4500.0, -0.5)  # Teff and [Fe/H] about which the relations are linearised at first
_NEAR = (150.0, 0.3)  # how far the fit may end from there; beyond it is repeated
_GRAVITY = (-0.7, 4.5)  # log g of giants
_DISAGREE = 16.0  # chi squared of photometry against spectrum, for one or two numbers
_TYPICAL = np.array([100.0, *[0.2] * (N_LABELS - 1)])  # sizes of labels that make them comparable

Diagonal = tuple[np.ndarray, np.ndarray]  # precisions, (20,) or (20, 20), and values (20,)
Terms = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class StarPrior:
    """Known about one star: labels as (index, value, error), and the cells of its photometry."""

    labels: tuple[tuple[int, float, float], ...] = ()
    band: str = ""
    colour: str = ""
    numbers: tuple[tuple[str, float, float], ...] = ()

    def terms(self, teff: float, feh: float) -> Terms:
        """Rows (k, 20), values (k,) and covariance (k, k): rows @ labels = values; linear about Teff and [Fe/H]."""
        rows = [np.eye(N_LABELS)[label] for label, _, _ in self.labels]
        values, own = [value for _, value, _ in self.labels], [error**2 for _, _, error in self.labels]
        place = np.array([teff, feh, *(value for _, value, _ in self.numbers)])
        errors = np.array([error for _, _, error in self.numbers])
        parts = [np.zeros(len(errors)) for _ in values]  # of each value's error, by the number that it comes from
        relations = [(LOGG, self._gravity, 0.4 * BANDS[self.band].error)] if self.band else []
        relations += [(TEFF, self._temperature, COLOURS[self.colour].error)] if self.colour else []
        for label, relation, scatter in relations:
            slope = _slope(relation, place)
            rows.append(np.eye(N_LABELS)[label] - slope[0] * np.eye(N_LABELS)[TEFF] - slope[1] * np.eye(N_LABELS)[FE])
            values.append(relation(place) - float(slope[:2] @ place[:2]))
            parts.append(slope[2:] * errors)
            own.append(scatter**2)
        by_number = np.array(parts).reshape(len(values), len(errors))
        return np.array(rows).reshape(-1, N_LABELS), np.array(values), by_number @ by_number.T + np.diag(own)

    def precision(self, teff: float = _START[0], feh: float = _START[1]) -> tuple[np.ndarray, np.ndarray]:
        """Precision (20, 20) and values (20,) of these terms, as the fit takes them."""
        rows, values, covariance = self.terms(teff, feh)
        if not len(values):
            return np.zeros((N_LABELS, N_LABELS)), np.zeros(N_LABELS)
        there = _TYPICAL * (np.linalg.pinv(rows * _TYPICAL) @ values)
        return rows.T @ np.linalg.solve(covariance, rows), there

    def warnings(self, fit: Fit) -> tuple[str, ...]:
        """A warning if photometry and spectrum contradict each other."""
        if not self.numbers:
            return ()
        rows, values, covariance = self.terms(fit.labels[TEFF], fit.labels[FE])
        weight, there = rows.T @ np.linalg.solve(covariance, rows), rows.T @ np.linalg.solve(covariance, values)
        information = np.linalg.inv(fit.covariance)
        alone = np.linalg.inv(information - weight + 1e-9 * np.diag(np.diag(information)))
        off = rows @ (alone @ (information @ fit.labels - there)) - values
        chi2 = float(off @ np.linalg.solve(covariance + rows @ alone @ rows.T, off))
        if chi2 < _DISAGREE:
            return ()
        return (
            f"{DOUBTFUL}: spectrum and --prior differ by {np.sqrt(chi2):.1f} standard deviations: "
            "are the magnitudes Vega magnitudes of this star, and are distance and extinction right?",
        )

    def _gravity(self, place: np.ndarray) -> float:
        """Gravity at Teff, [Fe/H] and the numbers."""
        band, number = BANDS[self.band], self._named(place)
        absolute = number["magnitude"] - number["distance_modulus"] - number["a_v"] * extinction_ratio(band.wavelength)
        return surface_gravity(place[0], number["mass"], absolute + bolometric_correction(band, place[0], place[1]))

    def _temperature(self, place: np.ndarray) -> float:
        """Teff at [Fe/H] and the numbers; the first element of `place` does not count."""
        number = self._named(place)
        return COLOURS[self.colour].teff(number["colour_index"] - number["a_v"] * reddening(self.colour), place[1])

    def _named(self, place: np.ndarray) -> dict[str, float]:
        return dict(zip([name for name, _, _ in self.numbers], place[2:], strict=True))


def fit_with(prior: StarPrior | Diagonal | None, fit: Callable[[Diagonal | None], Fit]) -> Fit:
    """A fit with a prior; repeated where it ends if that is far from where the photometric relations were linear."""
    if not isinstance(prior, StarPrior):
        return fit(prior)
    first = fit(prior.precision())
    if not prior.numbers or (np.abs(first.labels[[TEFF, FE]] - _START) < _NEAR).all():
        return first
    return fit(prior.precision(first.labels[TEFF], first.labels[FE]))


def with_scales(labels: np.ndarray, covariance: np.ndarray, prior: Terms, known: Giants) -> Diagonal:
    """Labels (20,) and their covariance (20, 20) with the errors of the labels' scales.

    `covariance` is the fit's, `prior` the mean, precision and covariance that went in. The scales are those of labels
    from spectra. What a user knows besides is taken as it is: it is separated from the rest, and added again.
    """
    weight = prior[1] - known.precision
    if not weight.any():
        return labels, covariance + scale_covariance()
    values = prior[1] @ prior[0] - known.precision @ known.mean
    information = np.linalg.inv(covariance)
    alone = np.linalg.inv(information - weight)
    of_spectrum = np.linalg.inv(alone + scale_covariance())
    both = np.linalg.inv(of_spectrum + weight)
    return both @ (of_spectrum @ (alone @ (information @ labels - values)) + values), both


def contradictions(prior: StarPrior | Diagonal | None, fit: Fit) -> tuple[str, ...]:
    """Warnings about a prior that a spectrum contradicts."""
    return prior.warnings(fit) if isinstance(prior, StarPrior) else ()


def _slope(relation: Callable[[np.ndarray], float], place: np.ndarray) -> np.ndarray:
    """Derivatives of a relation by Teff, [Fe/H] and the numbers; central differences."""
    steps = np.diag([10.0, 0.05, *[1e-3] * (len(place) - 2)])
    return np.array([(relation(place + step) - relation(place - step)) / (2 * step.sum()) for step in steps])


def read_priors(path: Path, names: Collection[str]) -> tuple[dict[str, StarPrior], list[str]]:
    """Priors by star from a CSV table, and a line for each star or number that is not used.

    Columns: `star`; any of `teff` [K], `logg`, `fe_h` [dex]; `band`, `magnitude`, `distance_modulus`, `a_v`, `mass`
    [that of the Sun]; `colour`, `colour_index`, `a_v`; each number with `..._error`. Cells of the row `*` hold for all
    stars whose own cells are empty. `names` are those of the spectra and targets that are there. Raises DataError if
    the file is not such a table.
    """
    table = read_csv(path, text=("star", "band", "colour"))
    numbers = [*LABEL_COLUMNS, *PHOTOMETRY_COLUMNS]
    wanted = {"star", "band", "colour", *(f"{name}{end}" for name in numbers for end in ("", "_error"))}
    columns = set(table.columns)
    if unknown := sorted(columns - wanted):
        raise DataError(f"{path}: unknown column {unknown[0]!r}; known are {', '.join(sorted(wanted))}")
    if "star" not in columns or not {*LABEL_COLUMNS, "magnitude", "colour_index"} & columns:
        raise DataError(f"{path} needs a column star and one of {', '.join(LABEL_COLUMNS)}, magnitude, colour_index")
    for name in sorted(set(numbers) & columns):
        if f"{name}_error" not in columns:
            raise DataError(f"{path} has {name} without {name}_error: a prior is worth what its error says")
    for name, partner in (("magnitude", "band"), ("colour_index", "colour")):
        if (name in columns) != (partner in columns):
            raise DataError(f"{path}: columns {partner} and {name} belong together; one of them is missing")
    priors: dict[str, StarPrior] = {}
    complaints: list[str] = []
    rows = [{key: value for key, value in row.items() if not pd.isna(value)} for row in table.to_dict("records")]
    common = next((row for row in rows if str(row.get("star", "")).strip() == ALL_STARS), {})
    own = [row for row in rows if row is not common]
    if common:
        given = {safe_name(row.get("star", "")) for row in own}
        own += [{"star": name} for name in sorted(names) if name not in given]
    for row in own:
        star = safe_name(row.get("star", ""))
        if star in priors:
            complaints.append(f"{path}: a second row for {star:.60}; only the first is used")
        elif star not in names:
            complaints.append(f"{path}: there is no spectrum of {star:.60}; its prior is not used")
        else:
            priors[star] = _star({**common, **row}, f"{path}: {star:.60}", complaints)
    return priors, complaints


def _star(row: Mapping[str, Any], where: str, complaints: list[str]) -> StarPrior:
    """The prior of one star; what cannot be used is added to the complaints."""
    labels = []
    for name, (label, low, high) in LABEL_COLUMNS.items():
        unit = "K" if label == TEFF else "dex"
        if name in row:
            value, error = (pd.to_numeric(row.get(key, np.nan), errors="coerce") for key in (name, f"{name}_error"))
            if low <= value <= high and 1e-4 * (high - low) < error < high - low:
                labels.append((label, float(value), float(error)))
            elif f"{name}_error" not in row:
                complaints.append(f"{where} has {name} {row[name]} without its error; not used")
            else:
                complaints.append(f"{where} has {name} {row[name]} ± {row.get(f'{name}_error')}, no {unit}; not used")
    numbers: dict[str, tuple[float, float]] = {}
    defaults = {"mass": MASS, "mass_error": MASS_ERROR}
    for name, (low, high, widest) in PHOTOMETRY_COLUMNS.items():
        given = {**(defaults if name not in row else {}), **row}
        value, error = (pd.to_numeric(given.get(key, np.nan), errors="coerce") for key in (name, f"{name}_error"))
        if low <= value <= high and 0 <= error <= widest:
            numbers[name] = float(value), float(error)
        elif name in row and f"{name}_error" not in given:
            complaints.append(f"{where} has {name} {row[name]} without its error; not used")
        elif name in row:
            complaints.append(
                f"{where} has {name} {row[name]} ± {row.get(f'{name}_error')}; "
                f"expected {low:g} to {high:g} with an error up to {widest:g}; not used"
            )
    band, colour = str(row.get("band", "")).strip(), str(row.get("colour", "")).strip()
    band = _usable(band, "magnitude", BANDS, _OF_MAGNITUDE, numbers, where, complaints)
    colour = _usable(colour, "colour_index", COLOURS, _OF_COLOUR, numbers, where, complaints)
    return _believed(_prior(tuple(labels), band, colour, numbers), numbers, where, complaints)


def _prior(
    labels: tuple[tuple[int, float, float], ...], band: str, colour: str, numbers: Mapping[str, tuple[float, float]]
) -> StarPrior:
    """A prior with the numbers that its band and its colour need."""
    needed = (_OF_MAGNITUDE if band else ()) + (_OF_COLOUR if colour else ())
    return StarPrior(labels, band, colour, tuple((name, *pair) for name, pair in numbers.items() if name in needed))


def _usable(
    chosen: str,
    number: str,
    known: Collection[str],
    needed: Collection[str],
    numbers: Mapping[str, tuple[float, float]],
    where: str,
    complaints: list[str],
) -> str:
    """A band or colour with everything that it needs, or an empty text and a complaint."""
    if number not in numbers:
        return ""
    if chosen not in known:
        complaints.append(
            f"{where}: {number} in {chosen!r:.40}; known are {', '.join(known)} (Vega magnitudes); not used"
        )
        return ""
    if missing := [name for name in needed if name not in numbers]:
        complaints.append(f"{where}: {number} in {chosen} without {' and '.join(missing)} and its error; not used")
        return ""
    return chosen


def _believed(
    found: StarPrior, numbers: Mapping[str, tuple[float, float]], where: str, complaints: list[str]
) -> StarPrior:
    """The prior without a magnitude or a colour that no giant has."""
    band, colour = found.band, found.colour
    if band:
        low, high = (found._gravity(np.array([t, -0.5, *(n for _, n, _ in found.numbers)])) for t in (3800, 5200))
        if high < _GRAVITY[0] or low > _GRAVITY[1]:
            complaints.append(
                f"{where}: {band} {numbers['magnitude'][0]:g} at a distance modulus of "
                f"{numbers['distance_modulus'][0]:g} gives log g {low:.1f} to {high:.1f}, which no giant has: "
                "check magnitude and distance; not used"
            )
            band = ""
    if colour:
        intrinsic = numbers["colour_index"][0] - numbers["a_v"][0] * reddening(colour)
        low, high = COLOURS[colour].valid
        if not low <= intrinsic <= high:
            complaints.append(
                f"{where}: intrinsic {colour} {intrinsic:.2f}; the relation holds from {low:g} to {high:g}; not used"
            )
            colour = ""
    return _prior(found.labels, band, colour, numbers)
