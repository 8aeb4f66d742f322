"""Does an embedding fall into groups, and do these follow the labels?  AstroCLIP benchmark, section 4.3."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.preprocessing import StandardScaler

from starclip_lib.support.errors import DataError

NOISE = -1  # HDBSCAN's number for points in no cluster


def inertia_curve(z: np.ndarray, k_max: int = 15, seed: int = 0) -> np.ndarray:
    """Inertia of k-means on standardised embeddings (n, dim) for k = 1 ... k_max, (k_max,)."""
    if len(z) < k_max:
        raise DataError(f"{len(z)} stars cannot form {k_max} clusters")
    x = StandardScaler().fit_transform(z)
    return np.array([KMeans(k, n_init=3, random_state=seed).fit(x).inertia_ for k in range(1, k_max + 1)])


def elbow(inertia: np.ndarray) -> int:
    """The number of clusters (from 1) where the curve is farthest below the straight line between its ends."""
    k = np.linspace(0, 1, len(inertia))
    y = (inertia - inertia[-1]) / (inertia[0] - inertia[-1])
    return int(np.argmax(1 - k - y)) + 1


def k_means(z: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Cluster numbers (n,) by k-means on standardised embeddings, the largest cluster first."""
    x = StandardScaler().fit_transform(z)
    return _by_size(KMeans(k, n_init=10, random_state=seed).fit_predict(x))


def density_clusters(z: np.ndarray, min_cluster_size: int = 20, min_samples: int = 5) -> np.ndarray:
    """Cluster numbers (n,) by HDBSCAN on standardised embeddings, the largest first; NOISE for points in none."""
    x = StandardScaler().fit_transform(z)
    return _by_size(HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, copy=True).fit_predict(x))


def thirds(values: np.ndarray) -> np.ndarray:
    """0, 1, 2 for the low, middle and high third of values (n,)."""
    return np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values, side="right")


def agreement(cluster: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Adjusted mutual information between clusters (n,) and the thirds of each label of (n, k): (k,)."""
    return np.array([adjusted_mutual_info_score(thirds(column), cluster) for column in labels.T])


def cluster_table(cluster: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """One row a cluster: its number of stars and the mean of each label (n, k)."""
    table = pd.DataFrame(labels, columns=list(names)).groupby(cluster).mean()
    table.insert(0, "stars", pd.Series(cluster).value_counts())
    table.index = ["noise" if number == NOISE else str(number) for number in table.index]
    return table.rename_axis("cluster")


def _by_size(cluster: np.ndarray) -> np.ndarray:
    numbers, counts = np.unique(cluster[cluster != NOISE], return_counts=True)
    new = {old: i for i, old in enumerate(numbers[np.argsort(-counts, kind="stable")])}
    return np.array([new.get(number, NOISE) for number in cluster])
