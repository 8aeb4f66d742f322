"""Flat coordinates in which an embedding is lifted to the sphere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from starclip_lib.physics.labels import N_LABELS


class Coordinates(nn.Module):
    """Flat coordinates (n, 22) of Z-scored labels (n, 20); `calibration.calibrated` makes and explains them."""

    offset: Tensor
    weight: Tensor
    bonus: Tensor
    reach: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(N_LABELS))
        self.register_buffer("weight", torch.eye(N_LABELS))
        self.register_buffer("bonus", torch.zeros(N_LABELS))
        self.register_buffer("reach", torch.zeros(2))

    def forward(self, labels: Tensor) -> Tensor:
        """Flat coordinates (n, 22) of Z-scored labels (n, 20)."""
        z = (labels - self.offset) @ self.weight
        rest = self.reach - (z**2 @ self.bonus)[:, None]
        return torch.cat([z, rest.clamp_min(1e-6).sqrt()], dim=1)  # not 0, where the root has no gradient
