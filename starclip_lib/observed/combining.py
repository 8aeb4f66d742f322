"""Several spectra of one star."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from starclip_lib.data.tables import as_labels
from starclip_lib.observed.fit import Fit
from starclip_lib.observed.measured import DOUBTFUL, Measured
from starclip_lib.observed.measurements import Measurements
from starclip_lib.observed.measuring import domain_warnings
from starclip_lib.observed.priors import with_scales
from starclip_lib.physics.giants import WIDE, giants, prior_fraction
from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF

_CONTRADICTS = 50.0  # chi squared of three labels: 6.5 standard deviations
_DISAGREE = 4.0  # scatter of the spectra of one target, over what noise claims


def combined(found: Sequence[Measured], population: str = WIDE) -> Measurements:
    """Spectra of one target as one, in the order of the first of each; a repeated spectrum counts once.

    Likelihoods are multiplied, the prior (of the population they were measured with) enters once, and the error of the
    synthesis, which they share, stays. Two spectra that contradict each other stay two; of more, see `_agreeing`.
    """
    out = Measurements()
    for target in dict.fromkeys(one.target for one in found):
        group = [one for one in found if one.target == target]
        good = _once([one for one in group if not one.set_aside])
        if len(good) < 2:
            out.append(replace((good or group)[0], name=target))
            continue
        if len(good) == 2 and (apart := _apart(*good)) > _CONTRADICTS:
            out += [_kept_apart(one, other, apart) for one, other in (good, good[::-1])]
            continue
        good, rejected = _agreeing(good)
        fits = [one.fits[0] for one in good]
        precision, pull = np.zeros((N_LABELS, N_LABELS)), np.zeros(N_LABELS)
        for number, fit in enumerate(fits):
            mean, prior = fit.prior[:2] if number else (np.zeros(N_LABELS), np.zeros((N_LABELS, N_LABELS)))
            information = np.linalg.inv(fit.covariance)  # the prior is in it: it is kept in the first one only
            precision, pull = precision + information - prior, pull + information @ fit.labels - prior @ mean
        labels = np.linalg.solve(precision, pull)
        noise = [noise_covariance(fit) for fit in fits]
        shared = np.mean([fit.systematic for fit in fits], axis=0)
        own = np.linalg.inv(np.sum(np.linalg.inv(noise), axis=0) - (len(fits) - 1) * fits[0].prior[1]) + shared
        values, covariance = with_scales(labels, own, fits[0].prior, giants(population))
        three = [TEFF, LOGG, FE]
        off = np.array([fit.labels[three] - labels[three] for fit in fits])
        claimed = np.mean([np.diag(n)[three] for n in noise], axis=0)
        scatter = float(np.sqrt((off**2 / claimed).sum() / (len(fits) - 1) / len(three)))
        held = np.any([fit.held for fit in fits], axis=0)
        warnings = tuple(dict.fromkeys(w for one in good for w in one.warnings if w.startswith(DOUBTFUL)))
        warnings += rejected
        if scatter > _DISAGREE:
            warnings += (f"{DOUBTFUL}: its spectra differ by {scatter:.1f} times what noise allows: is it one star?",)
        warnings += domain_warnings(values, np.sqrt(np.diag(covariance)), held, giants(population))
        fraction = prior_fraction(own, fits[0].prior[2])
        frames = {one.frame for one in good}
        frame = frames.pop() if len(frames) == 1 else ""
        fits_, star_labels = tuple(fits), as_labels(values)
        star = Measured(target, target, "", star_labels, covariance, warnings, fits_, scatter, fraction, frame)
        spectra = tuple(spectrum for one in good for spectrum in one.spectra)
        notes = tuple(dict.fromkeys(note for one in good for note in one.notes))
        out.append(replace(star, spectra=spectra, notes=notes))
    return out


def _apart(one: Measured, other: Measured) -> float:
    """Chi squared of Teff, log g and [Fe/H] of two measurements that should agree."""
    three = [TEFF, LOGG, FE]
    off = (one.fits[0].labels - other.fits[0].labels)[three]
    noise = sum(noise_covariance(each.fits[0])[np.ix_(three, three)] for each in (one, other))
    return float(off @ np.linalg.solve(noise, off))


def _kept_apart(one: Measured, other: Measured, chi2: float) -> Measured:
    warning = (
        f"{DOUBTFUL}: {other.name} has the same target and differs by {np.sqrt(chi2):.0f} standard deviations: "
        "is it another star? They are not combined"
    )
    return replace(one, warnings=(*one.warnings, warning))


def _agreeing(found: list[Measured]) -> tuple[list[Measured], tuple[str, ...]]:
    """Measurements without those that contradict at least two others, and a warning for each of these.

    Teff, log g and [Fe/H] of each are compared with the weighted mean of the others; the worst goes first.
    """
    kept, warnings = list(found), []
    three = [TEFF, LOGG, FE]
    while len(kept) > 2:
        values = np.array([one.fits[0].labels[three] for one in kept])
        noise = np.array([noise_covariance(one.fits[0])[np.ix_(three, three)] for one in kept])
        weights = np.linalg.inv(noise)
        chi2 = []
        for k in range(len(kept)):
            rest = [i for i in range(len(kept)) if i != k]
            own = np.linalg.inv(weights[rest].sum(axis=0))
            off = values[k] - own @ np.einsum("nij,nj->i", weights[rest], values[rest])
            chi2.append(float(off @ np.linalg.solve(noise[k] + own, off)))
        worst = int(np.argmax(chi2))
        if chi2[worst] < _CONTRADICTS:
            break
        one = kept.pop(worst)
        warnings.append(
            f"{DOUBTFUL}: {one.name} is left out: it differs from the others by {np.sqrt(chi2[worst]):.1f} "
            "standard deviations"
        )
    return kept, tuple(warnings)


def _once(found: Sequence[Measured]) -> list[Measured]:
    """Measurements without those of a spectrum that is there already."""
    kept: list[Measured] = []
    for one in found:
        if not any(np.array_equal(one.fits[0].flux, other.fits[0].flux) for other in kept):
            kept.append(one)
    return kept


def noise_covariance(fit: Fit) -> np.ndarray:
    """Covariance (20, 20) of noise alone: what repeats of a star may differ by; without negative eigenvalues."""
    difference = fit.covariance - fit.systematic
    values, vectors = np.linalg.eigh((difference + difference.T) / 2)
    return (vectors * np.maximum(values, 1e-8)) @ vectors.T
