"""What `starclip observe` knows about giants before it sees a spectrum: a population, and an atlas drawn from it.

Nothing here is trained, and nothing comes from a file: the population is the simulator's, whose shape was fitted to
giants of APOGEE DR12 and which is drawn with a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.instruments import NIRSPEC
from starclip_lib.data.labels import ELEMENTS, FE, LABELS, N_LABELS
from starclip_lib.surveys.simulate import draw_population

N_ATLAS = 20_000
_LOGG_RANGE = (0.3, 3.6)  # the branch from its tip to the subgiants
_SEED = 19
# Line strengths of the emulator are uncertain element by element outside the APOGEE chips, so what a fit calls an
# abundance is one of lines as they look; C and N are also mixed to the surface in ways the population does not know.
_LINE_STRENGTH = 0.1  # dex
_MIXED = {"C": 0.3, "N": 0.3}  # dex
_ALPHA = ("O", "Mg", "Si", "S", "Ca")
# Half of the largest difference, among eight giants in both, between the scales of APOGEE DR12 and the Gaia benchmark
# stars: 100 K, 0.26 and 0.3 dex.  Which of the two is right nobody knows, so no label is better known than that.
SCALE_ERROR = (50.0, 0.13, 0.15)  # Teff [K], log g, [X/H] of all elements together


@dataclass(frozen=True, eq=False)
class Giants:
    """Prior and atlas.

    Parameters
    ----------
    mean : ndarray, shape (20,)
        Of the prior on labels as lines show them, K and dex.
    covariance : ndarray, shape (20, 20)
    atlas : ndarray, shape (20000, 20)
        Labels of giants inside the emulator's domain, K and dex.
    star_id : ndarray of str, shape (20000,)
    """

    mean: np.ndarray
    covariance: np.ndarray
    atlas: np.ndarray
    star_id: np.ndarray


@cache
def giant_templates(n: int) -> np.ndarray:
    """NIRSpec spectra of giants spread over the atlas, to look for velocities with.

    Parameters
    ----------
    n : int

    Returns
    -------
    ndarray, shape (n, 8192)
    """
    atlas = giants().atlas
    return default_emulator()(atlas[np.linspace(0, len(atlas) - 1, n).astype(int)], NIRSPEC)


def scale_covariance() -> np.ndarray:
    """Covariance (20, 20) of what the labels' scales are uncertain by, K and dex."""
    teff, logg, metals = SCALE_ERROR
    covariance = np.zeros((N_LABELS, N_LABELS))
    covariance[0, 0], covariance[1, 1], covariance[2:, 2:] = teff**2, logg**2, metals**2
    return covariance


@cache
def giants() -> Giants:
    """The population as prior, and the atlas; made once.

    Returns
    -------
    Giants
    """
    stars = draw_population(3 * N_ATLAS, _LOGG_RANGE, np.random.default_rng(_SEED))
    covariance = np.cov(stars.T)
    for i, element in enumerate(ELEMENTS, start=2):
        if i != FE:
            covariance[i, i] += _MIXED.get(element, _LINE_STRENGTH) ** 2
    together = np.array([_LINE_STRENGTH * (label in _ALPHA) for label in LABELS])
    covariance += np.outer(together, together)
    atlas = stars[default_emulator().inside_domain(stars)][:N_ATLAS]
    names = np.array([f"ATLAS{number:05d}" for number in range(len(atlas))])
    return Giants(stars.mean(axis=0), covariance, atlas, names)
