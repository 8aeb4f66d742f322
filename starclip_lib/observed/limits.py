"""Upper limits of abundances whose lines a spectrum does not show."""

from __future__ import annotations

import numpy as np

from starclip_lib.observed.measured import Measured
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF

_SEEN = 3.0  # standard deviations of the depth of its lines
_QUANTILE = 1.645  # 95 per cent, one side
_BESIDES = [i for i in range(N_LABELS) if i not in (TEFF, LOGG, FE)]


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
