"""What `starclip observe` assumes about giants before it sees a spectrum: a prior on their labels, and an atlas.

Nothing here is trained, and nothing comes from a file: both are drawn from a model population with a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.physics.population import draw_population
from starclip_lib.support.errors import DataError

WIDE, MILKY_WAY = "wide", "milky-way"
POPULATIONS = (WIDE, MILKY_WAY)
N_ATLAS = 20_000
FROM_PRIOR = 0.7  # posterior over prior standard deviation above which a label counts as the prior's
_LOGG_RANGE = (0.3, 3.6)  # the branch from its tip to the subgiants
_SEED = 19
# Line strengths of the emulator are uncertain element by element outside the APOGEE chips, so what a fit calls an
# abundance is one of lines as they look; C and N are also mixed to the surface in ways the population does not know.
_LINE_STRENGTH = 0.1  # dex
_MIXED = {"C": 0.3, "N": 0.3}  # dex
_ALPHA = ("O", "Mg", "Si", "S", "Ca")
# The wide prior: log g about the giant branch at given Teff and [Fe/H], [Fe/H] itself (flat, for what errors a spectrum
# leaves), and what all alpha elements share, from dwarf galaxies ([alpha/Fe] < 0 above [Fe/H] = -1.5) to the halo.
_LOGG_WIDTH, _FEH_WIDTH, _ALPHA_WIDTH = 1.0, 10.0, 0.2  # dex
# Half of the largest difference, among eight giants in both, between the scales of APOGEE DR12 and the Gaia benchmark
# stars: 100 K, 0.26 and 0.3 dex.  Which of the two is right is not known, so no label is better known than that.
SCALE_ERROR = (50.0, 0.13, 0.15)  # Teff [K], log g, [X/H] of all elements together


@dataclass(frozen=True, eq=False)
class Giants:
    """Prior on labels as lines show them, and atlas: labels (20000, 20) of model giants with their names; K and dex.

    `covariance` is that of the population; `precision` is what enters a fit: the wide prior is flat in [Fe/H] there.
    """

    mean: np.ndarray
    covariance: np.ndarray
    precision: np.ndarray
    atlas: np.ndarray
    star_id: np.ndarray


@cache
def giant_templates(n: int) -> np.ndarray:
    """NIRSpec spectra (n, 8192) of giants spread over the atlas, to look for velocities with."""
    atlas = giants().atlas
    return default_emulator()(atlas[np.linspace(0, len(atlas) - 1, n).astype(int)], NIRSPEC)


def scale_covariance() -> np.ndarray:
    """Covariance (20, 20) of what the labels' scales are uncertain by, K and dex."""
    teff, logg, metals = SCALE_ERROR
    covariance = np.zeros((N_LABELS, N_LABELS))
    covariance[0, 0], covariance[1, 1], covariance[2:, 2:] = teff**2, logg**2, metals**2
    return covariance


@cache
def giants(population: str = WIDE) -> Giants:
    """The prior of a population (one of `POPULATIONS`) and the atlas; made once. Raises DataError for other names."""
    if population not in POPULATIONS:
        raise DataError(f"unknown population {population!r:.60}; choose one of {', '.join(POPULATIONS)}")
    stars = draw_population(3 * N_ATLAS, _LOGG_RANGE, np.random.default_rng(_SEED))
    emulator = default_emulator()
    atlas = stars[emulator.inside_domain(stars)][:N_ATLAS]
    if population == WIDE:
        feh_range = (float(emulator.label_min[FE]), float(emulator.label_max[FE]))
        stars = draw_population(3 * N_ATLAS, _LOGG_RANGE, np.random.default_rng(_SEED), feh_range)
        stars = stars[emulator.inside_domain(stars)]
    covariance = np.cov(stars.T)
    for i, element in enumerate(ELEMENTS, start=2):
        if i != FE:
            covariance[i, i] += _MIXED.get(element, _LINE_STRENGTH) ** 2
    together = np.array([float(label in _ALPHA) for label in LABELS])
    covariance += (_ALPHA_WIDTH if population == WIDE else _LINE_STRENGTH) ** 2 * np.outer(together, together)
    if population == WIDE:
        covariance[LOGG, LOGG] += _LOGG_WIDTH**2
    precision = np.linalg.inv(covariance)
    if population == WIDE:  # the density of [Fe/H] becomes flat, all others' at given [Fe/H] stay
        precision[FE, FE] += _FEH_WIDTH**-2 - 1 / covariance[FE, FE]
    names = np.array([f"ATLAS{number:05d}" for number in range(len(atlas))])
    return Giants(stars.mean(axis=0), covariance, precision, atlas, names)


def prior_fraction(posterior: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Posterior over prior standard deviation (20,), from covariances (20, 20); near 1 the answer is the prior's.

    Of Teff and [Fe/H] as they are, of the others at given Teff and [Fe/H]: what the prior knows best is how the others
    follow these two.
    """
    fraction = _given_two(posterior) / _given_two(prior)
    return np.asarray(np.sqrt(np.clip(fraction, 0, 1)))


def _given_two(covariance: np.ndarray) -> np.ndarray:
    """Variances (20,): of Teff and [Fe/H], and of the other labels at given Teff and [Fe/H]."""
    two = [TEFF, FE]
    across = covariance[:, two]
    rest = np.diag(covariance) - (across @ np.linalg.inv(covariance[np.ix_(two, two)]) * across).sum(axis=1)
    rest[two] = np.diag(covariance)[two]
    return rest
