"""From one instrument or noise domain to another with a few labelled stars (as LAMOST to DESI with MLPs).

Strategies: 'zero_shot' leaves the network as it is; 'adapter' adds a small residual network to its labels; 'lora' adds
trainable matrices of low rank to its linear layers (Hu et al. 2021); 'full' trains every weight.  Each has three
learning rates to choose from, by its error on labelled stars of the new domain that it was not tuned on.
"""

from __future__ import annotations

import copy
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.models.encoders import Encoder
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.suite.resampling import Interval, r2_statistic, star_weights
from starclip_lib.support.seeds import seeded, seeded_weights

Strategy = Literal["zero_shot", "adapter", "lora", "full"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
RATES: dict[Strategy, tuple[float, ...]] = {
    "adapter": (1e-3, 3e-3, 1e-2),
    "lora": (1e-3, 3e-3, 1e-2),
    "full": (1e-4, 3e-4, 1e-3),
}


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a trainable product of two matrices of low rank, which is 0 at the start.

    Rank 0 is the frozen layer itself.
    """

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / max(1, layer.in_features) ** 0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.down), self.up)


class ResidualAdapter(nn.Module):
    """Labels plus a small network of them, which is 0 at the start."""

    def __init__(self, head: nn.Module, width: int = 32):
        super().__init__()
        self.head = head.requires_grad_(False)
        first, last = nn.Linear(N_LABELS, width), nn.Linear(width, N_LABELS)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(first, nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        labels = self.head(x)
        return labels + self.net(labels)


def prepared(encoder: Encoder, strategy: Strategy, *, rank: int = 4, seed: int = 0) -> Encoder:
    """A copy of a trained encoder in which only what the strategy trains has gradients."""
    encoder = copy.deepcopy(encoder)
    encoder.requires_grad_(strategy == "full")
    with seeded_weights(seed):
        if strategy == "adapter":
            encoder.head = ResidualAdapter(encoder.head)
        elif strategy == "lora":
            _replace_linear(encoder, rank)
    return encoder


def _replace_linear(module: nn.Module, rank: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, LowRankLinear(child, rank))
        else:
            _replace_linear(child, rank)


def fine_tune(
    encoder: Encoder,
    flux: np.ndarray,
    labels: np.ndarray,
    strategy: Strategy,
    *,
    learning_rate: float,
    steps: int = 200,
    batch_size: int = 32,
    rank: int = 4,
    seed: int = 0,
) -> Encoder:
    """Adapt a trained encoder to spectra of another domain; the encoder given is left as it was."""
    tuned = prepared(encoder, strategy, rank=rank, seed=seed)
    trained = [p for p in tuned.parameters() if p.requires_grad]
    if not trained or sum(p.numel() for p in trained) == 0:
        return tuned.eval()
    x, y = torch.from_numpy(flux), torch.from_numpy(np.asarray(labels, np.float32))
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = seeded("cpu", seed)
    tuned.train()
    for _ in range(steps):
        batch = torch.randint(len(x), (min(batch_size, len(x)),), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(tuned(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    return tuned.eval()


@torch.no_grad()
def predict(encoder: Encoder, flux: np.ndarray) -> np.ndarray:
    """Z-scored labels (n, 20) of spectra (n, n_pix)."""
    return torch.cat([encoder(block) for block in torch.from_numpy(flux).split(512)]).numpy()


def transfer_curve(
    encoder: Encoder,
    target: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    sizes: tuple[int, ...] = (10, 50, 250),
    repeats: int = 3,
    steps: int = 200,
    n_resamples: int = 500,
    seed: int = 0,
) -> tuple[dict[Strategy, dict[int, Interval]], dict[Strategy, dict[int, float]]]:
    """Mean r2 of the labels on test stars, and the learning rates chosen, by strategy and number of labelled stars.

    `target` and `test` are spectra (n, n_pix) and Z-scored labels (n, 20), with no star in common. Every repeat draws
    other labelled stars, the same for every strategy. A fifth of the target's stars is never drawn: there the first
    repeat tries the three learning rates of a strategy, and the best serves all repeats. The 95 % intervals resample
    test stars and draw one of the repeats each time, so they hold both kinds of chance. Zero-shot is given at size 0.
    """
    n_drawn = drawable(len(target[0]))
    if max(sizes) > n_drawn:
        raise ValueError(f"{max(sizes)} labelled stars were asked for, but there are {n_drawn}")
    weights = star_weights(len(test[0]), n_resamples, seed)
    drawn = np.random.default_rng([seed, 0]).integers(repeats, size=n_resamples)

    def interval(predictions: list[np.ndarray]) -> Interval:
        scores = [r2_statistic(test[1], p, np.arange(len(p))) for p in predictions]
        value = np.mean([score(np.ones((1, len(test[0])))).mean() for score in scores])
        values = np.array([score(weights).mean(axis=1) for score in scores])[
            drawn % len(scores), np.arange(n_resamples)
        ]
        return Interval(float(value), *map(float, np.quantile(values, [0.025, 0.975])))

    def tuned(strategy: Strategy, size: int, repeat: int, rate: float) -> Encoder:
        few = np.random.default_rng([seed, repeat]).permutation(n_drawn)[:size]
        flux, labels = (part[few] for part in target)
        return fine_tune(encoder, flux, labels, strategy, learning_rate=rate, steps=steps, seed=repeat)

    def held_out_error(network: Encoder) -> float:
        flux, labels = (part[n_drawn:] for part in target)
        return float(((predict(network, flux) - labels) ** 2).mean())

    curve: dict[Strategy, dict[int, Interval]] = {"zero_shot": {0: interval([predict(encoder, test[0])])}}
    rates: dict[Strategy, dict[int, float]] = {}
    for strategy in STRATEGIES[1:]:
        curve[strategy], rates[strategy] = {}, {}
        for size in sizes:
            tried = {rate: tuned(strategy, size, 0, rate) for rate in RATES[strategy]}
            rate = rates[strategy][size] = min(tried, key=lambda rate: held_out_error(tried[rate]))
            networks = [tried[rate], *(tuned(strategy, size, repeat, rate) for repeat in range(1, repeats))]
            curve[strategy][size] = interval([predict(network, test[0]) for network in networks])
    return curve, rates


def drawable(n_stars: int) -> int:
    """How many of so many labelled stars may be drawn to tune on; the others choose learning rates."""
    return n_stars - max(1, n_stars // 5)
