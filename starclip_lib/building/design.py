"""Which labels and which physics are synthesised: drawn from stated distributions, with a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, qmc

from starclip_lib.physics.labels import ELEMENTS, FE, LOGG, N_LABELS, TEFF
from starclip_lib.physics.population import draw_population
from starclip_lib.synthesis.physics import GROUPS, PARAMETERS, PLACES

LOGG_RANGE, FE_RANGE = (0.0, 3.7), (-2.2, 0.55)
# Limits of Teff, linear in log g in between: no stars live outside, and MARCS has models inside.
LOGG_KNOTS = np.array([0.0, 1.2, 1.4, 2.0, 2.5, 2.65, 2.8, 3.7])
TEFF_LOW = np.array([3600.0, 3600.0, 3600.0, 3700.0, 3800.0, 3900.0, 4000.0, 4300.0])
TEFF_HIGH = np.array([5100.0, 5100.0, 5100.0, 5250.0, 5375.0, 5412.5, 5450.0, 5450.0])
OVER_FE = {"C": (-0.8, 0.4), "N": (-0.2, 1.0)}  # [X/Fe]; of other elements:
_OVER_FE = (-0.6, 0.6)
MAX_C_OVER_O = 0.2  # dex: no carbon stars

_UNITS = {p.name: p.unit for p in PARAMETERS}
_WIDTHS = {p.name: p.width for p in PARAMETERS}
# microturbulence is the difference from its relation with log g; strengths differ on the chips and outside
PHYSICS = tuple(
    name for p in PARAMETERS for name in ([f"{p.name} {place}" for place in PLACES] if p.name in GROUPS else [p.name])
)
PHYSICS_WIDTH = np.array([_WIDTHS[name.partition(" ")[0]] for name in PHYSICS])
PHYSICS_UNIT = tuple(_UNITS[name.partition(" ")[0]] for name in PHYSICS)
REACH = 2.5  # widths, to which physics is drawn
_SPREAD = 1.25  # widths: standard deviation of the normal distribution that is cut at `REACH`

HELD_OUT = ("population", "uniform", "population, physics", "uniform, physics")
TRAINING = ("train population", "train middle", "train uniform")
KINDS = (*HELD_OUT, *TRAINING)
_HELD_SHARES = (0.35, 0.2, 0.3, 0.15)
_TRAINING_SHARES = (0.45, 0.25, 0.3)
_NOMINAL = 0.2  # share of the training set with nominal physics


@dataclass(frozen=True, eq=False)
class Design:
    """What is synthesised: labels (n, 20) in K and dex, physics (n, n_physics) as differences from nominal, kind (n,).

    The held-out sets come first; any beginning of the rest is a fair sample of the training set.
    """

    labels: np.ndarray
    physics: np.ndarray
    kind: np.ndarray


def over_fe_limits() -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest [X/Fe] of the 18 elements; 0 for iron."""
    pairs = [(0.0, 0.0) if name == "Fe" else OVER_FE.get(name, _OVER_FE) for name in ELEMENTS]
    low, high = np.array(pairs).T
    return low, high


def teff_limits(logg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest Teff at log g."""
    return np.interp(logg, LOGG_KNOTS, TEFF_LOW), np.interp(logg, LOGG_KNOTS, TEFF_HIGH)


def _inside(labels: np.ndarray) -> np.ndarray:
    """Labels brought into the domain: Teff is reflected at its limits, abundances end at theirs."""
    labels = labels.copy()
    labels[:, LOGG] = labels[:, LOGG].clip(*LOGG_RANGE)
    fe = labels[:, FE].clip(*FE_RANGE)
    low, high = teff_limits(labels[:, LOGG])
    teff = labels[:, TEFF]
    teff = np.where(teff < low, 2 * low - teff, np.where(teff > high, 2 * high - teff, teff))
    labels[:, TEFF] = teff.clip(low, high)
    over = labels[:, 2:] - labels[:, [FE]]
    over = over.clip(*over_fe_limits())
    c, o = ELEMENTS.index("C"), ELEMENTS.index("O")
    over[:, c] = np.minimum(over[:, c], over[:, o] + MAX_C_OVER_O)
    labels[:, 2:] = fe[:, None] + over
    return labels


def _population(n: int, rng: np.random.Generator, broad: bool) -> np.ndarray:
    """Giants as the Milky Way has them; `broad`: all [Fe/H] alike in half of them, and about twice the scatter."""
    labels = draw_population(n, LOGG_RANGE, rng)
    if broad:
        half = rng.random(n) < 0.5
        labels[half] = draw_population(int(half.sum()), LOGG_RANGE, rng, FE_RANGE)
        labels[:, TEFF] += rng.normal(0, 1, n) * np.where(rng.random(n) < 0.25, 250, 90)
        over = np.delete(np.arange(2, N_LABELS), FE - 2)
        labels[:, over] += rng.normal(0, 0.1, (n, len(over)))
    return _inside(labels)


def _box(u: np.ndarray) -> np.ndarray:
    """Points (n, 20) of the unit cube as labels, uniform in Teff, log g, [Fe/H] and [X/Fe]."""
    labels = np.empty((len(u), N_LABELS))
    labels[:, LOGG] = LOGG_RANGE[0] + u[:, LOGG] * np.ptp(LOGG_RANGE)
    low, high = teff_limits(labels[:, LOGG])
    labels[:, TEFF] = low + u[:, TEFF] * (high - low)
    fe = FE_RANGE[0] + u[:, FE] * np.ptp(FE_RANGE)
    low, high = over_fe_limits()
    labels[:, 2:] = fe[:, None] + low + u[:, 2:] * (high - low)
    return _inside(labels)


def _middle(u: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Teff, log g and [Fe/H] as in the box, [X/Fe] about that of the Milky Way's giants."""
    box, stars = _box(u), draw_population(len(u), LOGG_RANGE, rng, FE_RANGE)
    over = stars[:, 2:] - stars[:, [FE]] + rng.normal(0, 0.1, (len(u), len(ELEMENTS)))
    over[:, FE - 2] = 0
    return _inside(np.column_stack([box[:, [TEFF, LOGG]], box[:, [FE]] + over]))


def physics_of(u: np.ndarray) -> np.ndarray:
    """Points (n, n_physics) of the unit cube as physics: normal, cut at `REACH` widths."""
    edge = norm.cdf(-REACH / _SPREAD)
    return norm.ppf(edge + (1 - 2 * edge) * u) * _SPREAD * PHYSICS_WIDTH


def draw(n: int, n_held: int, seed: int) -> Design:
    """`n` syntheses, `n_held` of them held out: Sobol sequences where distributions are uniform."""
    rng = np.random.default_rng(seed)
    n_train = n - n_held
    sets = dict(zip(HELD_OUT, _parts(n_held, _HELD_SHARES), strict=True))
    sets |= dict(zip(TRAINING, _parts(n_train, _TRAINING_SHARES), strict=True))
    labels, physics, kinds = [], [], []
    for name, size in sets.items():
        u = qmc.Sobol(N_LABELS + len(PHYSICS), rng=rng).random(1 << max(size - 1, 1).bit_length())[:size]
        if "population" in name:
            labels.append(_population(size, rng, broad=name in TRAINING))
        else:
            cube = u[:, :N_LABELS]
            labels.append(_middle(cube, rng) if "middle" in name else _box(cube))
        nominal = rng.random(size) < _NOMINAL if name in TRAINING else np.full(size, "physics" not in name)
        physics.append(np.where(nominal[:, None], 0.0, physics_of(u[:, N_LABELS:])))
        kinds.append(np.full(size, KINDS.index(name)))
    order = np.concatenate([np.arange(n_held), n_held + rng.permutation(n_train)])
    return Design(np.concatenate(labels)[order], np.concatenate(physics)[order], np.concatenate(kinds)[order])


def _parts(n: int, shares: tuple[float, ...]) -> list[int]:
    edges = np.round(np.cumsum(shares) * n).astype(int)
    return [int(size) for size in np.diff(edges, prepend=0)]
