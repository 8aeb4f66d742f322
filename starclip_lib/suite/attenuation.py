"""Attenuation bias: noise in the inputs of a regression pulls its predictions towards the mean; what can be undone.

For one input, the slope of predicted against true is sigma_x^2 / (sigma_x^2 + sigma_e^2).  Corrections: errors in
variables for linear regression (Fuller 1987), and latent inputs for networks (LatentNN, Ting).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded_weights


def slope(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Least-squares slope of predicted against true labels, (k,) for labels (n, k)."""
    x = true - true.mean(axis=0)
    return (x * predicted).sum(axis=0) / (x**2).sum(axis=0)


class LinearFit:
    """Linear regression from noisy inputs, without and with the correction for their noise.

    The covariance of the inputs is that of the true ones plus the noise's; the correction takes the latter off.

    Parameters
    ----------
    x : ndarray, shape (n, dim)
        Noisy inputs.
    y : ndarray, shape (n, k)
    noise_variance : float or ndarray, shape (dim,)
        Of each input; 0 gives ordinary least squares.

    Raises
    ------
    DataError
        If there is not more signal than noise in some direction.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, noise_variance: float | np.ndarray = 0.0):
        self.x_mean, self.y_mean = x.mean(axis=0), y.mean(axis=0)
        centred = x - self.x_mean
        covariance = centred.T @ centred / len(x)
        signal = covariance - np.diag(np.broadcast_to(noise_variance, x.shape[1]))
        if np.linalg.eigvalsh(signal)[0] <= 0:
            raise DataError("the noise is larger than the signal in some direction; use fewer inputs")
        self.weights = np.linalg.solve(signal, centred.T @ (y - self.y_mean) / len(x))

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Labels (m, k) of inputs (m, dim)."""
        return self.y_mean + (x - self.x_mean) @ self.weights


class NetworkFit:
    """A small network from noisy inputs, without and with latent inputs.

    Parameters
    ----------
    x : ndarray, shape (n, dim)
        Noisy inputs.
    y : ndarray, shape (n, k)
    noise : float or ndarray, shape (dim,)
        Standard deviation of each input.
    latent : bool
        Treat the true inputs as unknowns, fitted with the weights by the joint likelihood of inputs and labels.
    label_noise : float
        Standard deviation of y in units of its spread, for latent inputs.
    width : int
        Of the hidden layer.
    steps : int
        Of the training.
    learning_rate : float
        The highest of the schedule.
    seed : int
        Of the random weights.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        noise: float | np.ndarray,
        *,
        latent: bool,
        label_noise: float = 0.05,
        width: int = 32,
        steps: int = 1500,
        learning_rate: float = 1e-2,
        seed: int = 0,
    ):
        self.x_mean, self.x_std = x.mean(axis=0), x.std(axis=0)
        self.y_mean, self.y_std = y.mean(axis=0), y.std(axis=0)
        seen = torch.from_numpy(((x - self.x_mean) / self.x_std).astype(np.float32))
        target = torch.from_numpy(((y - self.y_mean) / self.y_std).astype(np.float32))
        scale = torch.from_numpy((np.broadcast_to(noise, x.shape[1]) / self.x_std).astype(np.float32))
        with seeded_weights(seed):
            self.net = nn.Sequential(nn.Linear(x.shape[1], width), nn.Tanh(), nn.Linear(width, y.shape[1]))
        shift = torch.zeros_like(
            seen, requires_grad=latent
        )  # of the latent inputs, in standard deviations of the noise
        groups = [{"params": self.net.parameters(), "weight_decay": 1e-3}]
        if latent:
            groups.append({"params": [shift], "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.mse_loss(self.net(seen + scale * shift), target)
            if latent:
                loss = loss / label_noise**2 + (shift**2).sum(dim=1).mean() / target.shape[1]
            loss.backward()
            optimizer.step()
            schedule.step()

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Labels (m, k) of inputs (m, dim), taken as they are: at this stage their noise only adds scatter."""
        with torch.no_grad():
            out = self.net(torch.from_numpy(((x - self.x_mean) / self.x_std).astype(np.float32))).numpy()
        return self.y_mean + self.y_std * out


METHODS = ("linear", "linear, corrected", "network", "network, latent inputs")


def slopes_against_noise(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], noise: float, seed: int = 0
) -> dict[str, np.ndarray]:
    """Slopes of predicted against true labels (k,) of each of METHODS, where all inputs have the same noise.

    Compare with noise 0: inputs that do not determine a label leave its slope below 1 even then.

    Raises
    ------
    DataError
        If there is more noise than signal in some direction.
    """
    rng = np.random.default_rng(seed)
    x, new = (part[0] + noise * rng.standard_normal(part[0].shape) for part in (train, test))
    fits: dict[str, LinearFit | NetworkFit] = {
        "linear": LinearFit(x, train[1]),
        "linear, corrected": LinearFit(x, train[1], noise**2),
        "network": NetworkFit(x, train[1], noise, latent=False, seed=seed),
        "network, latent inputs": NetworkFit(x, train[1], noise, latent=True, seed=seed),
    }
    return {name: slope(test[1], fits[name].predict(new)) for name in METHODS}
