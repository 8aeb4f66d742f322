"""Contrastive learning in the plane, small enough to watch: for teaching (notebook 00b_contrastive_from_scratch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.models.contrastive import info_nce


@dataclass(frozen=True, eq=False)
class ToySurvey:
    """Stars with one hidden angle each, in groups of similar ones, as two instruments would see them without noise."""

    a: Tensor  # (n, 2): float32; the first instrument sees the circle of angles, the second turns and dents it
    b: Tensor
    group: np.ndarray  # (n,), which group of similar stars each belongs to

    @classmethod
    def draw(cls, n_groups: int, per_group: int, seed: int, spread: float = 0.1) -> ToySurvey:
        """`per_group` stars in each of `n_groups` groups, whose angles scatter by `spread` (radians)."""
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(n_groups), per_group)
        angle = 2 * np.pi * group / n_groups + rng.normal(0, spread, len(group))
        a = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        b = (1 + 0.3 * np.cos(2 * angle))[:, None] * np.stack([np.cos(angle + 2), np.sin(angle + 2)], axis=1)
        return cls(torch.from_numpy(a.astype(np.float32)), torch.from_numpy(b.astype(np.float32)), group)


def toy_encoder(generator: torch.Generator) -> nn.Sequential:
    """A small network from the plane to the plane, with random weights."""
    first, second, last = nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 2, bias=False)
    for layer in (first, second, last):
        nn.init.normal_(layer.weight, std=1.5 * layer.in_features**-0.5, generator=generator)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=0.3, generator=generator)
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), last)


def observe_toy(x: Tensor, generator: torch.Generator, noise: float = 0.05) -> Tensor:
    """Measurements (n, 2) with fresh noise."""
    return x + noise * torch.randn(x.shape, generator=generator)


def align_toy(survey: ToySurvey, temperature: float, seed: int, steps: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Train two encoders with InfoNCE at a fixed temperature, with new noise at every step."""
    generator = torch.Generator().manual_seed(seed)
    encoders = nn.ModuleList([toy_encoder(generator), toy_encoder(generator)])
    optimizer = torch.optim.Adam(encoders.parameters(), lr=0.005)
    for _ in range(steps):
        seen = observe_toy(survey.a, generator), observe_toy(survey.b, generator)
        z_a, z_b = (F.normalize(encoder(x)) for encoder, x in zip(encoders, seen, strict=True))
        optimizer.zero_grad()
        info_nce(z_a, z_b, 1 / temperature).backward()
        optimizer.step()
    with torch.no_grad():
        return F.normalize(encoders[0](survey.a)).numpy(), F.normalize(encoders[1](survey.b)).numpy()


def toy_scores(z_a: np.ndarray, z_b: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """How embeddings (n, 2) on the circle do: how often the right partner is nearest, and typical angles in degrees."""
    found = (z_a @ z_b.T).argmax(axis=1)
    angle = np.degrees(np.arccos(np.clip(z_a @ z_a.T, -1, 1)))
    same = group[:, None] == group[None, :]
    return {
        "right star first": float((found == np.arange(len(found))).mean()),
        "right group first": float((group[found] == group).mean()),
        "angle within a group": float(angle[same & ~np.eye(len(group), dtype=bool)].mean()),
        "angle to the next group": float(np.where(same, np.inf, angle).min(axis=1).mean()),
    }
