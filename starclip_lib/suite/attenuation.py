"""Attenuation bias: noise in the inputs of a regression pulls its predictions towards the mean; what can be undone.

For one input, the slope of predicted against true is sigma_x^2 / (sigma_x^2 + sigma_e^2).  The correction is errors in
variables for linear regression (Fuller 1987).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from starclip_lib.physics.labels import label_index
from starclip_lib.run import Run
from starclip_lib.suite.decoders import MOST_HELD, SpectrumBasis
from starclip_lib.support.errors import DataError


def slope(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Least-squares slope of predicted against true labels, (k,) for labels (n, k)."""
    x = true - true.mean(axis=0)
    return (x * predicted).sum(axis=0) / (x**2).sum(axis=0)


class LinearFit:
    """Linear regression of y (n, k) from noisy x (n, dim), without and with the correction for their noise.

    The covariance of the inputs is that of the true ones plus the noise's; the correction takes the latter off. The
    variance of the noise is one number or one of each input; 0 gives ordinary least squares. Raises DataError if there
    is not more signal than noise in some direction.
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


METHODS = ("linear", "linear, corrected")


def slopes_against_noise(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], noise: float, seed: int = 0
) -> dict[str, np.ndarray]:
    """Slopes of predicted against true labels (k,) of each of METHODS, where all inputs have the same noise.

    Compare with noise 0: inputs that do not determine a label leave its slope below 1 even then. Raises DataError if
    there is more noise than signal in some direction.
    """
    rng = np.random.default_rng(seed)
    x, new = (part[0] + noise * rng.standard_normal(part[0].shape) for part in (train, test))
    fits = (LinearFit(x, train[1]), LinearFit(x, train[1], noise**2))
    return {name: slope(test[1], fit.predict(new)) for name, fit in zip(METHODS, fits, strict=True)}


def slopes_by_snr(run: Run, names: Sequence[str]) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Slopes of labels by method at each `attenuation_snr`, and without noise; inputs are principal components."""
    data, settings, seed = run.data, run.params.evaluation, run.params.seed
    flux, fill_value = data.nirspec.flux, data.nirspec.instrument.fill_value
    rows = {split: data.rows(split, MOST_HELD) for split in ("train", "test")}
    basis = SpectrumBasis.fit(flux[rows["train"]], fill_value, settings.attenuation_inputs, seed)
    train, test = ((basis.coefficients(flux[r], fill_value), data.labels[r].astype(float)) for r in rows.values())
    noise = [*(1 / snr for snr in settings.attenuation_snr), 0.0]
    *noisy, clean = [slopes_against_noise(train, test, one, seed) for one in noise]
    places = {name: label_index(name) for name in names}
    slopes = {name: {m: [float(one[m][i]) for one in noisy] for m in METHODS} for name, i in places.items()}
    return slopes, {name: float(clean["linear"][i]) for name, i in places.items()}
