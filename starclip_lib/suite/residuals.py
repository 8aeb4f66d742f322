"""Who is wrong where: outliers shared between labels, and which of two models is nearer to the truth (Algorithm 1)."""

from __future__ import annotations

import numpy as np


def outliers(residual: np.ndarray) -> np.ndarray:
    """True where an absolute residual (n, k) exceeds the upper quartile of its label by 1.5 interquartile ranges."""
    size = np.abs(residual)
    low, high = np.quantile(size, [0.25, 0.75], axis=0)
    return size > high + 1.5 * (high - low)


def shared_outliers(flags: np.ndarray) -> np.ndarray:
    """How many stars are outliers in exactly 0, 1, ... k of the k labels: (k + 1,)."""
    return np.bincount(flags.sum(axis=1), minlength=flags.shape[1] + 1)


def mdl_bins(values: np.ndarray, k_min: int = 1, k_max: int = 50) -> int:
    """Number of equal bins of the histogram that describes values (n,) in the fewest nats.

    Minimum description length.  Algorithm 1 of the AstroCLIP benchmark minimises -sum c_i log p_i + (k - 1)/2 log n.
    Its first term is the entropy of the bins, which can only grow when bins are divided, so the fewest bins would
    always win.  What is missing there is the description of the values within their bins: the density is p_i / width,
    which adds n log(width).
    """
    values = np.asarray(values, float)
    span = np.ptp(values)
    if span == 0:
        return k_min
    lengths = []
    for k in range(k_min, k_max + 1):
        counts = np.histogram(values, bins=k)[0]
        counts = counts[counts > 0]
        data = -np.sum(counts * np.log(counts / len(values))) + len(values) * np.log(span / k)
        lengths.append(data + 0.5 * (k - 1) * np.log(len(values)))
    return k_min + int(np.argmin(lengths))


def net_wins(error_a: np.ndarray, error_b: np.ndarray, values: np.ndarray, n_bins: int = 5) -> np.ndarray:
    """How many more stars model a is nearer to the truth than b, in each of `n_bins` equally filled bins of a label.

    Ties count for neither model.
    """
    order = np.argsort(values, kind="stable")
    wins = np.sign(error_b - error_a)[order]
    return np.array([int(part.sum()) for part in np.array_split(wins, n_bins)])


def net_wins_by_size(
    error_a: np.ndarray, error_b: np.ndarray, values: np.ndarray, n_bins: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """`net_wins` divided by how much the two models differ, in bins that `mdl_bins` chooses."""
    gap = np.abs(error_a - error_b)
    edges = np.histogram_bin_edges(gap, mdl_bins(gap))
    order = np.argsort(values, kind="stable")
    counts = [
        np.histogram(gap[part], edges, weights=np.sign(error_b - error_a)[part])[0]
        for part in np.array_split(order, n_bins)
    ]
    return np.array(counts).astype(int), edges
