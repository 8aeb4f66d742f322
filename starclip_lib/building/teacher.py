"""A Gaussian process that learns spectra from few syntheses, and from an earlier emulator of similar physics.

Its kernel has three parts: smooth functions of labels and physics; polynomials of them; and the earlier emulator's
spectra, times smooth functions, so that only what is different has to be learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from starclip_lib.physics.labels import N_LABELS
from starclip_lib.support.threads import Callback

_ROWS, _STEPS, _RATE = 900, 90, 0.06  # how the kernel is fitted: rows, steps of Adam, learning rate
_OUTPUTS = 40  # of the largest variance, that the kernel is fitted to
_EARLIER = 60  # principal components of the earlier emulator's coefficients
_BLOCK = 2000


@dataclass(eq=False)
class Kernel:
    """Logarithms of length scales (n_in,) of both smooth parts, of three amplitudes, and of the noise."""

    smooth: Tensor
    earlier: Tensor
    amplitudes: Tensor
    noise: Tensor

    @classmethod
    def start(cls, n_in: int) -> Kernel:
        """Labels vary over some units, physics changes less."""
        lengths = torch.log(torch.where(torch.arange(n_in) < N_LABELS, 4.0, 15.0)).double()
        wide = torch.log(torch.where(torch.arange(n_in) < N_LABELS, 30.0, 40.0)).double()
        return cls(lengths, wide, torch.tensor([0.0, -3.0, -2.0]).double(), torch.tensor(-8.0).double())

    def parameters(self) -> list[Tensor]:
        """All of them, to be optimised."""
        return [self.smooth, self.earlier, self.amplitudes, self.noise]

    def __call__(self, x: Tensor, e: Tensor, other_x: Tensor, other_e: Tensor) -> Tensor:
        """Between inputs (n, n_in) with earlier spectra (n, k) and others (m, ...): (n, m)."""
        ratio, own, mixed = self.amplitudes.exp()
        scale = torch.exp(-self.smooth)
        inner = (x * scale) @ (other_x * scale).T
        polynomial = 0.01 * own * (1 + mixed * inner) ** 2
        known = ratio * (e @ other_e.T) * _smooth(x, other_x, self.earlier)
        return own * (_smooth(x, other_x, self.smooth) + polynomial) + known

    def factor(self, x: Tensor, e: Tensor) -> Tensor:
        """Cholesky factor of the matrix of the training rows."""
        return torch.linalg.cholesky(self(x, e, x, e) + self.noise.exp() * torch.eye(len(x), dtype=x.dtype))


def _smooth(x: Tensor, other: Tensor, log_length: Tensor) -> Tensor:
    a, b = x * torch.exp(-log_length), other * torch.exp(-log_length)
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T
    return torch.exp(-0.5 * squares.clamp(min=0))


class Teacher:
    """The posterior mean of outputs (n, n_out) at inputs (n, n_in), given an earlier emulator's coefficients (n, k)."""

    def __init__(self, x: np.ndarray, earlier: np.ndarray, y: np.ndarray, rng: np.random.Generator, callback: Callback):
        self._middle = earlier.mean(axis=0)
        _, _, rotation = np.linalg.svd(earlier - self._middle, full_matrices=False)
        self._rotation = rotation[:_EARLIER].T
        self._unit = float(((earlier - self._middle) @ self._rotation).std(axis=0).max())
        self._mean = y.mean(axis=0, dtype=np.float64)
        self._x, self._e = self._tensors(x, earlier)
        target = torch.from_numpy(y.astype(np.float64) - self._mean)
        self._scale = float(target.std())
        target /= self._scale
        self.kernel = Kernel.start(x.shape[1])
        rows = torch.from_numpy(rng.permutation(len(x))[:_ROWS])
        loud = torch.argsort(-target.var(dim=0))[:_OUTPUTS]
        self._fit_kernel(self._x[rows], self._e[rows], target[rows][:, loud], callback)
        with torch.no_grad():
            self._weights = torch.cholesky_solve(target, self.kernel.factor(self._x, self._e))

    def _tensors(self, x: np.ndarray, earlier: np.ndarray) -> tuple[Tensor, Tensor]:
        e = (earlier - self._middle) @ self._rotation / self._unit
        return torch.from_numpy(x.astype(np.float64)), torch.from_numpy(e.astype(np.float64))

    def _fit_kernel(self, x: Tensor, e: Tensor, y: Tensor, callback: Callback) -> None:
        """Make the error of each row, predicted from all others, as small as it can be (mean of its logarithm)."""
        parameters = [parameter.requires_grad_() for parameter in self.kernel.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=_RATE)
        for step in range(_STEPS):
            inverse = torch.cholesky_inverse(self.kernel.factor(x, e))
            left_out = (inverse @ y) / inverse.diagonal()[:, None]
            loss = torch.log(left_out.square().sum(dim=1) + 1e-8).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 30 == 29:
                callback(
                    f"kernel, step {step + 1} of {_STEPS}: left-out error {float(loss.detach() / 2):.3f} (logarithm)"
                )
        for parameter in parameters:
            parameter.requires_grad_(False)

    def __call__(self, x: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        """Outputs at other inputs, float32."""
        out = np.empty((len(x), len(self._mean)), np.float32)
        for rows in np.array_split(np.arange(len(x)), len(x) // _BLOCK + 1):
            similar = self.kernel(*self._tensors(x[rows], earlier[rows]), self._x, self._e)
            out[rows] = (similar @ self._weights).numpy() * self._scale + self._mean
        return out
