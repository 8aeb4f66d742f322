"""How errors fall with the number of labelled stars and the size of the network: power laws and their uncertainty.

Each network is trained until twice as many steps change nothing, or the law would be that of the number of steps.  That
is affordable because the networks read principal components of the views instead of 8,192 pixels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import curve_fit
from torch import Tensor, nn

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.metrics.view_information import seen_by
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.suite.decoders import SpectrumBasis, view_coefficients
from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded, seeded_weights
from starclip_lib.transforms.corruptions import Corruption
from starclip_lib.transforms.views import ViewSampler

_BOUNDS = ((0.0, 0.01, 0.0), (np.inf, 3.0, np.inf))  # of amplitude, index and floor of a power law
_BATCH = 128


@dataclass(frozen=True)
class PowerLaw:
    """error = floor + amplitude * (n / scale)**-index, with standard errors of index and floor."""

    amplitude: float
    index: float
    floor: float
    scale: float
    index_error: float  # standard errors
    floor_error: float

    @property
    def determined(self) -> bool:
        """Whether the exponent differs from 0 by two standard errors and does not lie at a bound of the fit."""
        return 2 * self.index_error < self.index and 1.01 * _BOUNDS[0][1] < self.index < 0.99 * _BOUNDS[1][1]

    def __call__(self, n: np.ndarray) -> np.ndarray:
        """Errors (m,) at sizes n (m,)."""
        return self.floor + self.amplitude * (np.asarray(n, float) / self.scale) ** -self.index


def fit_power_law(n: np.ndarray, error: np.ndarray, sigma: np.ndarray | None = None) -> PowerLaw:
    """Fit a falling power law with a floor to errors (m,) at sizes n (m,), at least four.

    Without their uncertainties `sigma` (m,), residuals are weighed relative to the error itself, and the scatter sets
    the uncertainty. Raises DataError where the errors do not allow a fit.
    """
    n, error = np.asarray(n, float), np.asarray(error, float)
    if len(np.unique(n)) < 4:
        raise DataError(f"a power law with a floor needs at least four sizes, not {len(np.unique(n))}")
    scale = float(np.exp(np.log(n).mean()))
    start = (max(error.min(), 1e-12) * 0.5, 0.5, error.min() * 0.5)
    try:
        values, covariance = curve_fit(
            lambda x, amplitude, index, floor: floor + amplitude * (x / scale) ** -index,
            n,
            error,
            start,
            error if sigma is None else sigma,
            absolute_sigma=sigma is not None,
            bounds=(_BOUNDS[0], (*_BOUNDS[1][:2], error.max())),
        )
    except RuntimeError as problem:
        raise DataError(f"no power law fits these errors: {problem}") from problem
    deviation = np.sqrt(np.diag(covariance))
    amplitude, index, floor = map(float, values)
    return PowerLaw(amplitude, index, floor, scale, float(deviation[1]), float(deviation[2]))


@dataclass(eq=False)
class Views:
    """Scaled principal components (n, n_views, dim) of views of stars, and the stars' Z-scored labels (n, 20)."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Trained:
    """Errors on validation and test stars, relative to the labels' spread, after so many optimiser steps.

    `gain` is the relative fall of the validation error in the last doubling of the steps.
    """

    error: float
    val_error: float
    steps: int
    gain: float


def compressed(
    spectra: SpectrumSet,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    labels: np.ndarray,
    corruption: Corruption,
    *,
    n_components: int = 128,
    n_views: int = 20,
    seed: int = 0,
) -> tuple[Views, Views, Views]:
    """Views of training, validation and test stars: `n_views` of each training star, one of each other.

    The components are those of the clean training spectra.  No label enters here, so the whole training set is used
    whatever number of labelled stars is studied later.
    """
    basis = SpectrumBasis.fit(spectra.flux[rows[0]], spectra.instrument.fill_value, n_components, seed)
    parts = []
    for number, part in enumerate(rows):
        telescope = ViewSampler(corruption, 1 if number else n_views, seed)
        parts.append(view_coefficients(basis, spectra, part, telescope).reshape(len(part), -1, n_components))
    centre, scale = (getattr(parts[0], moment)(axis=(0, 1)) for moment in ("mean", "std"))
    inputs = [torch.from_numpy(((part - centre) / scale).astype(np.float32)) for part in parts]
    wanted = [torch.from_numpy(np.asarray(labels[part], np.float32)) for part in rows]
    train, val, test = (Views(*pair) for pair in zip(inputs, wanted, strict=True))
    return train, val, test


def noise_bound(
    data: PairedSpectra,
    rows: np.ndarray,
    corruption: Corruption,
    spread: np.ndarray,
    *,
    n_stars: int = 100,
    seed: int = 0,
) -> float:
    """What noise and gaps leave of the labels' spread (20,) in the first views of some stars, mean over the labels.

    That is the posterior sigma of a linear Gaussian model whose prior is the population of all training stars.
    """
    emulator = default_emulator()
    inside = rows[emulator.inside_domain(data.labels[rows].astype(np.float64))][:n_stars]
    prior = np.cov(data.labels[data.rows("train")].astype(np.float64).T)
    information = seen_by(ViewSampler(corruption, 1, seed), data, inside, emulator)
    return float((information.limit(data.nirspec.instrument, prior) / spread).mean())


def converged(
    n_stars: int,
    width: int,
    views: tuple[Views, Views, Views],
    *,
    steps: int,
    tolerance: float = 0.02,
    doublings: int = 5,
    seed: int = 0,
) -> Trained:
    """Train a network of two hidden layers on so many stars, for twice as many steps until that gains nothing.

    Stops when a doubling lowers the validation error by less than `tolerance`, or after `doublings` of them; `gain` of
    the result tells which.
    """
    train, val, test = views
    if n_stars > len(train.labels):
        raise ValueError(f"{n_stars} training stars were asked for, but there are {len(train.labels)}")
    chosen = torch.from_numpy(np.random.default_rng([seed, n_stars]).permutation(len(train.labels))[:n_stars])
    known = Views(train.inputs[chosen], train.labels[chosen])
    net, error = _fitted(width, known, val, steps, seed)
    gain = np.inf
    for _ in range(doublings):
        steps *= 2
        longer, longer_error = _fitted(width, known, val, steps, seed)
        gain = 1 - longer_error / error
        if gain > 0:
            net, error = longer, longer_error
        if gain < tolerance:
            break
    return Trained(_rmse(net, test), error, steps, float(gain))


def _fitted(width: int, train: Views, val: Views, steps: int, seed: int) -> tuple[nn.Module, float]:
    """A network with the weights that were best on the validation stars, and its error there; twenty looks."""
    n_stars, n_views, dim = train.inputs.shape
    with seeded_weights(seed):
        net = nn.Sequential(
            nn.Linear(dim, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, train.labels.shape[1]),
        )
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    generator = seeded("cpu", seed)
    best, error = net, np.inf
    for step in range(1, steps + 1):
        star, view = (torch.randint(high, (_BATCH,), generator=generator) for high in (n_stars, n_views))
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(net(train.inputs[star, view]), train.labels[star]).backward()
        optimizer.step()
        schedule.step()
        if step % max(1, steps // 20) == 0 and (now := _rmse(net, val)) < error:
            best, error = copy.deepcopy(net), now
    return best, error


@torch.no_grad()
def _rmse(net: nn.Module, views: Views) -> float:
    """RMSE of first views, mean over the labels."""
    return float(((net(views.inputs[:, 0]) - views.labels) ** 2).mean(dim=0).sqrt().mean())
