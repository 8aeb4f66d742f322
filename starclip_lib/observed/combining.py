"""Several spectra of one star."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from starclip_lib.observed.fit import Fit
from starclip_lib.observed.measuring import Measured, domain_of, with_remarks
from starclip_lib.physics.giants import WIDE, giants, prior_fraction, scale_covariance
from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF

_DISAGREE = 4.0  # scatter of the spectra of one target, over what noise claims


def combined(found: Sequence[Measured], population: str = WIDE) -> list[Measured]:
    """Spectra of one target as one, in the order of first spectra; one that is there twice counts once.

    Likelihoods are multiplied, the prior (of the population they were measured with) enters once, and the error of the
    synthesis, which they share, stays.
    """
    out = []
    for target in dict.fromkeys(one.target for one in found):
        group = [one for one in found if one.target == target]
        good = _once([one for one in group if one.labels is not None])
        if len(good) < 2:
            out.append(replace((good or group)[0], name=target))
            continue
        fits = [one.fits[0] for one in good]
        precision, pull = np.zeros((N_LABELS, N_LABELS)), np.zeros(N_LABELS)
        for number, fit in enumerate(fits):
            mean, prior = fit.prior[:2] if number else (np.zeros(N_LABELS), np.zeros((N_LABELS, N_LABELS)))
            information = np.linalg.inv(fit.covariance)  # the prior is in it: it is kept in the first one only
            precision, pull = precision + information - prior, pull + information @ fit.labels - prior @ mean
        labels = np.linalg.solve(precision, pull)
        noise = [noise_covariance(fit) for fit in fits]
        shared = np.mean([fit.systematic for fit in fits], axis=0)
        own = np.mean(noise, axis=0) / len(fits) + shared
        covariance = own + scale_covariance()
        three = [TEFF, LOGG, FE]
        off = np.array([fit.labels[three] - labels[three] for fit in fits])
        claimed = np.mean([np.diag(n)[three] for n in noise], axis=0)
        scatter = float(np.sqrt((off**2 / claimed).sum() / (len(fits) - 1) / len(three)))
        held = np.any([fit.held for fit in fits], axis=0)
        strange = tuple(dict.fromkeys(said for one in good for said in one.strange))
        if scatter > _DISAGREE:
            strange += (f"outside: its spectra differ by {scatter:.1f} times what noise allows: is it one star?",)
        domain = with_remarks(strange, domain_of(labels, np.sqrt(np.diag(covariance)), held, giants(population)))
        fraction = prior_fraction(own, fits[0].prior[2])
        out.append(
            Measured(target, target, "good", labels, covariance, domain, strange, tuple(fits), scatter, fraction)
        )
    return out


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
