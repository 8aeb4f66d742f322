"""From syntheses to an emulator: principal components, and a network from labels and physics to coefficients."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn

from starclip_lib.building.batches import read_batch
from starclip_lib.building.design import HELD_OUT, KINDS, PHYSICS_WIDTH
from starclip_lib.building.sampling import GRIDS, depths
from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF
from starclip_lib.settings.emulator import FEWEST, NetworkParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused
from starclip_lib.support.seeds import seeded, seeded_weights
from starclip_lib.support.threads import Callback

_CENTER, _SCALE = np.array([4500.0, 1.4, -0.7]), np.array([400.0, 0.7, 0.7])  # of Teff, log g and [Fe/H]
_OVER_FE_SCALE = 0.4
_CLIPPED = 0.05  # norm of a gradient
_SAID = 60.0  # seconds between lines of progress


@dataclass(frozen=True, eq=False)
class Syntheses:
    """Finished syntheses: labels (n, 20), physics (n, n_physics), kind (n,), packed depths of each grid (n, n_pix).

    8,000 take 430 MB.
    """

    labels: np.ndarray
    physics: np.ndarray
    kind: np.ndarray
    packed: dict[str, np.ndarray]
    n_failed: int

    @property
    def training(self) -> np.ndarray:
        """Which rows the fit sees."""
        return np.flatnonzero(self.kind >= len(HELD_OUT))

    def held(self, name: str) -> np.ndarray:
        """Rows of a held-out set."""
        return np.flatnonzero(self.kind == KINDS.index(name))


def read_syntheses(folder: Path) -> Syntheses:
    """All finished batches of a folder; raises DataError if there are too few to fit."""
    paths = sorted(folder.glob("[0-9]*.npz"))
    parts = [read_batch(path) for path in paths]
    good = [part["failed"] == "" for part in parts]
    n_good = sum(int(ok.sum()) for ok in good)
    if n_good < 2 * FEWEST:
        raise DataError(f"{folder} holds {n_good} finished syntheses; a fit needs {2 * FEWEST}")

    def joined(key: str) -> np.ndarray:
        return np.concatenate([part.pop(key)[ok] for part, ok in zip(parts, good, strict=True)])

    n_failed = sum(int((~ok).sum()) for ok in good)
    packed = {grid: joined(grid) for grid in GRIDS}
    found = Syntheses(joined("labels"), joined("physics"), joined("kind"), packed, n_failed)
    if len(found.training) < FEWEST or not all(len(found.held(name)) for name in HELD_OUT):
        raise DataError(f"{folder}: too few syntheses are finished to fit and to judge; go on with the build")
    return found


def inputs(labels: np.ndarray, physics: np.ndarray) -> np.ndarray:
    """What the network sees, (n, 20 + n_physics): [X/Fe] instead of [X/H], all about 1 in size."""
    x = (labels - labels[:, [FE]]) / _OVER_FE_SCALE
    x[:, [TEFF, LOGG, FE]] = (labels[:, [TEFF, LOGG, FE]] - _CENTER) / _SCALE
    return np.concatenate([x, physics / PHYSICS_WIDTH], axis=1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Basis:
    """Mean depth (n_pix,) and principal components (k, n_pix)."""

    mean: np.ndarray
    components: np.ndarray

    @classmethod
    def of(cls, packed: np.ndarray, k: int, seed: int) -> Basis:
        """Principal components of depths; memory: 2 float32 of the size of what is given."""
        depth = depths(packed)
        mean = depth.mean(axis=0, dtype=np.float64).astype(np.float32)
        depth -= mean
        _, _, components = randomized_svd(depth, k, n_iter=4, random_state=seed)
        return cls(mean, components.astype(np.float16).astype(np.float32))

    def coefficients(self, packed: np.ndarray) -> np.ndarray:
        """Of depths (n, n_pix), (n, k)."""
        out = np.empty((len(packed), len(self.components)), np.float32)
        for rows in np.array_split(np.arange(len(packed)), len(packed) // 500 + 1):
            out[rows] = (depths(packed[rows]) - self.mean) @ self.components.T
        return out


@dataclass(frozen=True, eq=False)
class Earlier:
    """The network of an emulator of similar physics: layers, and the scaling of its labels (docs/emulator.md)."""

    layers: tuple[np.ndarray, ...]  # w1, b1, w2, b2, w3, b3
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def packaged(cls) -> Earlier:
        """That of abinitio-2, the emulator of the first versions: earlier.npz has its network and not its spectra."""
        with (
            as_file(files(__package__) / "earlier.npz") as path,
            damage_refused(path, "is damaged; install starclip again"),
            np.load(path, allow_pickle=False) as file,
        ):
            layers = tuple(file[key].astype(np.float64) for key in ("w1", "b1", "w2", "b2", "w3", "b3"))
            return cls(layers, file["label_center"], file["label_scale"])

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Its coefficients (n, k), also where it was not fitted."""
        w1, b1, w2, b2, w3, b3 = self.layers
        x = (labels - self.center) / self.scale
        for weight, bias in ((w1, b1), (w2, b2)):
            x = x @ weight + bias
            x = x / (1 + np.exp(-x))
        return x @ w3 + b3

    def first_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (20, n) and bias (n,) of its first layer for labels as `inputs` scales them."""
        unit = labels_of(np.concatenate([np.zeros((1, N_LABELS)), np.eye(N_LABELS)]))
        at = (unit - self.center) / self.scale @ self.layers[0]
        return at[1:] - at[0], self.layers[1] + at[0]


def labels_of(x: np.ndarray) -> np.ndarray:
    """Labels (n, 20) of the first columns of `inputs`."""
    labels = np.empty((len(x), N_LABELS))
    labels[:, [TEFF, LOGG, FE]] = x[:, [TEFF, LOGG, FE]] * _SCALE + _CENTER
    over = [i for i in range(N_LABELS) if i not in (TEFF, LOGG, FE)]
    labels[:, over] = x[:, over] * _OVER_FE_SCALE + labels[:, [FE]]
    return labels


def network(n_in: int, hidden: tuple[int, int], n_out: int, earlier: Earlier) -> nn.Sequential:
    """Two hidden layers with SiLU, which begin as those of an earlier emulator, as far as they reach."""
    first, second = hidden
    one, two, last = nn.Linear(n_in, first), nn.Linear(first, second), nn.Linear(second, n_out)
    (w1, b1), (w2, b2) = earlier.first_layer(), earlier.layers[2:4]
    n, m = min(first, len(b1)), min(second, len(b2))
    with torch.no_grad():
        for layer, weight, bias, rows in ((one, w1[:, :n], b1[:n], n), (two, w2[:n, :m], b2[:m], m)):
            layer.weight *= 0.5
            layer.weight[:rows, : len(weight)] = torch.from_numpy(weight.T)
            layer.bias[:rows] = torch.from_numpy(bias)
    return nn.Sequential(one, nn.SiLU(), two, nn.SiLU(), last)


def train(
    x: np.ndarray, y: np.ndarray, settings: NetworkParams, seed: int, earlier: Earlier, callback: Callback
) -> nn.Sequential:
    """Fit a network to y (n, n_out) by least squares: the last layer at once, then all by Adam."""
    with seeded_weights(seed):
        net = network(x.shape[1], settings.hidden, y.shape[1], earlier)
    generator = seeded("cpu", seed, 1)
    inputs_, targets = torch.from_numpy(x), torch.from_numpy(y)
    _solve_last(net, inputs_, targets)
    steps = -(-len(x) // settings.batch)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.learning_rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * steps, pct_start=0.1, final_div_factor=1e3
    )
    began = said = time.monotonic()
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in torch.randperm(len(x), generator=generator).split(settings.batch):
            loss = (net(inputs_[rows]) - targets[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), _CLIPPED)
            optimiser.step()
            cycle.step()
            total += loss.item() / steps
        if time.monotonic() - said > _SAID:
            said = time.monotonic()
            left = (said - began) / (epoch + 1) * (settings.epochs - epoch - 1) / 60
            callback(f"epoch {epoch + 1} of {settings.epochs}, loss {total:.2e}, {left:.0f} min left")
    _solve_last(net, inputs_, targets)
    return net


@torch.no_grad()
def _solve_last(net: nn.Sequential, x: Tensor, y: Tensor) -> None:
    """Put the least-squares solution for its inputs into the last layer, with a little ridge."""
    hidden = torch.cat([net[:-1](x), torch.ones(len(x), 1)], dim=1).double()
    matrix = hidden.T @ hidden
    matrix += 1e-7 * matrix.trace() / len(matrix) * torch.eye(len(matrix), dtype=matrix.dtype)
    solution = torch.linalg.solve(matrix, hidden.T @ y.double())
    weight, bias = list(net.parameters())[-2:]
    weight.copy_(solution[:-1].T)
    bias.copy_(solution[-1])
