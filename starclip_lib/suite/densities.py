"""Probability densities of labels from neighbours in the embedding, made honest (after CLAP, Lin et al. 2024).

A density is kept as its quantiles.  Recalibration maps its probabilities by how often they came true for calibration
stars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.neighbors import NearestNeighbors

from starclip_lib.physics.labels import LABELS
from starclip_lib.support.errors import DataError

LEVELS = np.linspace(0.005, 0.995, 199)  # probabilities at which quantiles of a density are kept


@dataclass(eq=False)
class Densities:
    """Densities of one label for n stars, as quantiles (n, len(LEVELS)) at `LEVELS`."""

    quantiles: np.ndarray  # (n, len(LEVELS))

    def pit(self, true: np.ndarray) -> np.ndarray:
        """Probability integral transform (n,): the cumulative probability at the true values (n,).

        Uniform between 0 and 1 if the densities are calibrated; values beyond the outermost quantiles get half of what
        lies out there.
        """
        return np.array([_cdf(value, row) for value, row in zip(true, self.quantiles, strict=True)])

    def crps(self, true: np.ndarray) -> np.ndarray:
        """Continuous ranked probability score (n,) in the label's unit, smaller is better.

        Twice the mean pinball loss over the levels (Gneiting and Raftery 2007), which the integral over probability is.
        """
        error = true[:, None] - self.quantiles
        return 2 * np.mean(np.maximum(LEVELS * error, (LEVELS - 1) * error), axis=1)

    def coverage(self, true: np.ndarray, level: float) -> float:
        """Share of the true values within the central interval of probability `level`."""
        low, high = (self._at(p) for p in ((1 - level) / 2, (1 + level) / 2))
        return float(np.mean((true >= low) & (true <= high)))

    def _at(self, probability: float) -> np.ndarray:
        return np.array([np.interp(probability, LEVELS, row) for row in self.quantiles])

    def recalibrated(self, pit: np.ndarray) -> Densities:
        """With probabilities replaced by how often they came true for calibration stars, whose PIT values are (m,).

        The quantile at p becomes the old one at the p-quantile of those PIT values.
        """
        levels = np.quantile(pit, LEVELS)
        return Densities(np.array([np.interp(levels, LEVELS, row) for row in self.quantiles]))


def _cdf(value: float, quantiles: np.ndarray) -> float:
    if value < quantiles[0]:
        return float(LEVELS[0] / 2)
    if value > quantiles[-1]:
        return float((1 + LEVELS[-1]) / 2)
    return float(np.interp(value, quantiles, LEVELS))


def gaussian_densities(mean: np.ndarray, sigma: np.ndarray) -> Densities:
    """Gaussians of equation 5.1: means and standard deviations (n,)."""
    return Densities(mean[:, None] + sigma[:, None] * norm.ppf(LEVELS))


def neighbour_densities(
    z: np.ndarray, known: np.ndarray, values: np.ndarray, k: int, centre: np.ndarray | None = None
) -> Densities:
    """Densities from the values of the k nearest known stars."""
    return _from_samples(values[_nearest(z, known, k)], centre)


def adaptive_densities(
    z: np.ndarray,
    known: np.ndarray,
    values: np.ndarray,
    calibration: tuple[np.ndarray, np.ndarray],
    *,
    choices: tuple[int, ...] = (8, 16, 32, 64, 128),
    region: int = 100,
    centre: np.ndarray | None = None,
    calibration_centre: np.ndarray | None = None,
) -> tuple[Densities, np.ndarray]:
    """Densities whose number of neighbours is chosen for each star where it stands.

    For each star, k is the choice whose PIT values among the `region` nearest calibration stars are closest to uniform
    (Kolmogorov-Smirnov distance).
    """
    choices = tuple(k for k in choices if k <= len(known))
    if not choices:
        raise DataError(f"{len(known)} known stars are too few for a density from neighbours")
    z_c, true_c = calibration
    near = _nearest(z, z_c, min(region, len(z_c)))
    order_c, order = _nearest(z_c, known, max(choices)), _nearest(z, known, max(choices))
    pits = [_from_samples(values[order_c[:, :k]], calibration_centre).pit(true_c)[near] for k in choices]
    best = np.argmin([_distance_from_uniform(pit) for pit in pits], axis=0)
    options = np.stack([_from_samples(values[order[:, :k]], centre).quantiles for k in choices])
    return Densities(options[best, np.arange(len(z))]), np.array(choices)[best]


@dataclass(eq=False)
class Sample:
    """Stars of one part of the data: embeddings (n, dim), the true label (n,) and a model's prediction of it (n,)."""

    z: np.ndarray  # (n, dim)
    true: np.ndarray  # (n,)
    predicted: np.ndarray  # (n,)

    def every(self, step: int, start: int) -> Sample:
        """Every `step`-th star from `start` on."""
        return Sample(*(array[start::step] for array in (self.z, self.true, self.predicted)))


def compare_methods(known: Sample, calibration: Sample, judged: Sample, sigma: np.ndarray) -> dict[str, Densities]:
    """Densities of the judged stars by name of the method, from the paper's Gaussian to the recalibrated neighbours.

    Neighbours are found among `known`; half of `calibration` chooses their number, the other half recalibrates. `sigma`
    (n,) is that of the Gaussian of equation 5.1.
    """
    choose, repair = calibration.every(2, 0), calibration.every(2, 1)

    def adaptive(sample: Sample) -> Densities:
        return adaptive_densities(sample.z, known.z, known.true, (choose.z, choose.true))[0]

    def around_model(sample: Sample) -> Densities:
        return adaptive_densities(
            sample.z,
            known.z,
            known.true - known.predicted,
            (choose.z, choose.true),
            centre=sample.predicted,
            calibration_centre=choose.predicted,
        )[0]

    plain, centred = adaptive(judged), around_model(judged)
    return {
        "Gaussian, eq. 5.1": gaussian_densities(judged.predicted, sigma),
        "16 neighbours": neighbour_densities(judged.z, known.z, known.true, min(16, len(known.z))),
        "adaptive k": plain,
        "adaptive k, recalibrated": plain.recalibrated(adaptive(repair).pit(repair.true)),
        "probe + neighbours' residuals, recalibrated": centred.recalibrated(around_model(repair).pit(repair.true)),
    }


def compare_all(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], sigma: np.ndarray
) -> tuple[dict[str, dict[str, Densities]], dict[str, dict[str, dict[str, float]]]]:
    """`compare_methods` and `density_scores` for every label, by label and method.

    `samples` has embeddings, labels and predictions of 'train', 'val' and 'test' stars, `sigma` (n, 20) is of eq. 5.1.
    """
    found, scores = {}, {}
    for i, name in enumerate(LABELS):
        known, calibration, judged = (Sample(z, true[:, i], guess[:, i]) for z, true, guess in samples.values())
        found[name] = compare_methods(known, calibration, judged, sigma[:, i])
        scores[name] = {method: density_scores(one, judged.true) for method, one in found[name].items()}
    return found, scores


def table(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> pd.DataFrame:
    """Means over the labels, a row for each method; the CRPS is relative to the first method's."""
    methods = list(next(iter(scores.values())))
    rows = {
        method: {
            "CRPS, relative": np.mean([one[method]["crps"] / one[methods[0]]["crps"] for one in scores.values()]),
            **{
                key: np.mean([one[method][key] for one in scores.values()])
                for key in ("coverage68", "coverage95", "pit_distance")
            },
        }
        for method in methods
    }
    return pd.DataFrame(rows).T


def verdict(coverage: float, n: int, stated: float = 0.68) -> str:
    """Whether intervals that cover the truth of n stars so often are as wide as stated, within two standard errors."""
    error = 2 * np.sqrt(stated * (1 - stated) / n)
    if coverage < stated - error:
        return "too narrow"
    return "too wide" if coverage > stated + error else "as wide as stated"


def density_scores(densities: Densities, true: np.ndarray) -> dict[str, float]:
    """CRPS, coverage of the central 68 % and 95 %, and the distance of the PIT from uniform (Kolmogorov-Smirnov)."""
    return {
        "crps": float(densities.crps(true).mean()),
        "coverage68": densities.coverage(true, 0.68),
        "coverage95": densities.coverage(true, 0.95),
        "pit_distance": float(_distance_from_uniform(densities.pit(true)[None])[0]),
    }


def _nearest(z: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    if not 1 <= k <= len(known):
        raise DataError(f"{k} neighbours were asked for among {len(known)} known stars")
    return NearestNeighbors(n_neighbors=k).fit(known).kneighbors(z, return_distance=False)


def _from_samples(samples: np.ndarray, centre: np.ndarray | None) -> Densities:
    quantiles = np.quantile(samples, LEVELS, axis=1, method="hazen").T
    return Densities(quantiles if centre is None else quantiles + centre[:, None])


def _distance_from_uniform(pit: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance of each row (n, m) from the uniform distribution, (n,)."""
    ordered, m = np.sort(pit, axis=1), pit.shape[1]
    steps = np.arange(m) / m
    return np.maximum(np.abs(ordered - steps), np.abs(ordered - steps - 1 / m)).max(axis=1)
