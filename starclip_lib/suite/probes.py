"""The AstroCLIP benchmark's probes of frozen embeddings: linear, nearest neighbours, and a small network."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from starclip_lib.support.errors import DataError

Kind = Literal["linear", "knn", "mlp"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def fit_regressor(
    kind: Kind, z: np.ndarray, labels: np.ndarray, *, neighbours: int = 16, width: int = 32, seed: int = 0
) -> RegressorMixin:
    """Fit a probe from embeddings (m, dim) to labels (m, k).

    Embeddings and labels are standardised. Raises DataError if there are fewer rows than coefficients or neighbours.
    """
    needed = {"linear": z.shape[1] + 2, "knn": neighbours, "mlp": 20}[kind]
    if len(z) < needed:
        raise DataError(f"a probe '{kind}' on {z.shape[1]} dimensions needs at least {needed} spectra, not {len(z)}")
    if kind == "linear":
        regressor = LinearRegression()
    elif kind == "knn":
        regressor = KNeighborsRegressor(neighbours, weights="distance")
    else:
        regressor = MLPRegressor(
            hidden_layer_sizes=(width,), learning_rate_init=3e-3, early_stopping=True, max_iter=2000, random_state=seed
        )
    probe = TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor), transformer=StandardScaler())
    return probe.fit(np.asarray(z, np.float64), labels)
