"""Emulated spectra on one grid, and how they change with the labels: for batches, on any device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, TEFF

_CARBON, _OXYGEN = LABELS.index("C"), LABELS.index("O")


class EmulatedSpectra(nn.Module):
    """The formula of docs/emulator.md for one grid, with the emulator's domain; `physics.emulator` brings the arrays.

    Nothing of it is kept in model files: it comes from the emulator that is in use. Labels are in K and dex. Where the
    emulator has physics as inputs, labels (n, 20 + n_physics) may hold their differences from nominal.
    """

    center: Tensor
    scale: Tensor
    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor
    w3: Tensor
    b3: Tensor
    basis: Tensor
    mean: Tensor
    knots: Tensor
    lowest: Tensor
    highest: Tensor
    physics_limit: Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray], version: str, max_c_over_o: float):
        super().__init__()
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)), persistent=False)
        self.version, self.max_c_over_o = version, max_c_over_o

    def _padded(self, labels: Tensor) -> Tensor:
        """Labels with physics at nominal, unless they hold it."""
        return F.pad(labels.double(), (0, len(self.center) - labels.shape[1]))

    def _scaled(self, labels: Tensor) -> Tensor:
        return ((self._padded(labels) - self.center) / self.scale).to(self.w1.dtype)

    def coefficients(self, labels: Tensor) -> Tensor:
        """Coefficients (n, k) of `basis` for labels (n, 20)."""
        hidden = F.silu(self._scaled(labels) @ self.w1 + self.b1)
        return F.silu(hidden @ self.w2 + self.b2) @ self.w3 + self.b3

    def forward(self, labels: Tensor) -> Tensor:
        """Flux (n, n_pix), relative to the true continuum, of labels (n, 20)."""
        return torch.addmm(self.mean, self.coefficients(labels), self.basis).clamp_min(0)

    def linearised(self, labels: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients (n, k) of `basis`, and their change (n, d, k) along directions (d, 20 or 20 + n_physics)."""
        x = self._scaled(labels)
        slope = (self._padded(directions) / self.scale).to(x.dtype)
        for weight, bias in ((self.w1, self.b1), (self.w2, self.b2)):
            x = x @ weight + bias
            gate = torch.sigmoid(x)
            slope = (slope @ weight) * (gate * (1 + x * (1 - gate)))[:, None]  # d SiLU / d x
            x = x * gate
        return x @ self.w3 + self.b3, slope @ self.w3

    def inside(self, labels: Tensor) -> Tensor:
        """Labels (n, 20) moved to the edge of the emulator's domain where they lie outside."""
        iron = labels[:, FE].clamp(self.lowest[FE], self.highest[FE])
        logg = labels[:, LOGG].clamp(self.lowest[LOGG], self.highest[LOGG])
        low, high = (_interpolated(logg, self.knots[0], limit) for limit in self.knots[1:])
        teff = torch.minimum(torch.maximum(labels[:, TEFF], low), high)
        first = len(LABELS) - len(ELEMENTS)
        over_iron = (labels[:, first : len(LABELS)] - iron[:, None]).clamp(self.lowest[first:], self.highest[first:])
        abundances = (iron[:, None] + over_iron).unbind(1)
        columns = [teff, logg, *abundances]
        columns[FE] = iron
        columns[_CARBON] = torch.minimum(columns[_CARBON], columns[_OXYGEN] + self.max_c_over_o)
        physics = labels[:, len(LABELS) :]
        limit = self.physics_limit[: physics.shape[1]]
        return torch.cat([torch.stack(columns, 1), physics.clamp(-limit, limit)], 1)


def _interpolated(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation between increasing knots, for x inside them."""
    right = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    share = (x - knots[right - 1]) / (knots[right] - knots[right - 1])
    return values[right - 1] + share * (values[right] - values[right - 1])
