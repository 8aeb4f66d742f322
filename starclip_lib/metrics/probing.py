"""Reading labels off embeddings, and scoring labels however they were predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, root_mean_squared_error

from starclip_lib.inference.posterior import Posterior
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS, PLAIN, UNITS, by_name
from starclip_lib.support.errors import DataError


class Scores(TypedDict):
    """r2, bias and RMSE of each label, and the number of stars."""

    r2: dict[str, float]
    bias: dict[str, float]
    rmse: dict[str, float]
    n: int


@dataclass(eq=False)
class Predictions:
    """Labels predicted for some stars, in K and dex."""

    star_id: np.ndarray  # (n,)
    labels: np.ndarray  # (n, 20), mean over the views of a star
    spread: np.ndarray  # (n, 20), standard deviation over its views, 0 where there is one view only

    @property
    def sigma(self) -> np.ndarray:
        """(n, 20) uncertainty: spread of the views and intrinsic scatter in quadrature (equation 5.1)."""
        return np.hypot(self.spread, ASPCAP_ERROR)


def average_views(labels: np.ndarray, star_id: np.ndarray) -> Predictions:
    """Mean and spread over the views of each star."""
    stars, row, count = np.unique(star_id, return_inverse=True, return_counts=True)
    mean = _sum_by(row, labels, len(stars)) / count[:, None]
    squares = _sum_by(row, (labels - mean[row]) ** 2, len(stars))
    return Predictions(stars, mean, np.sqrt(squares / np.maximum(count - 1, 1)[:, None]))


def _sum_by(row: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, row, values)
    return out


def linear_probe(train: Embeddings, train_labels: np.ndarray, test: Embeddings) -> Predictions:
    """One linear regression from the embedding to all labels, predictions averaged over the views of a star.

    Where the embeddings carry posterior, views are combined by their information in place of a plain mean, and the
    regression is one from the posterior means, which the sphere has not bent. Raises DataError if a star is in both
    parts, or if there are fewer views than coefficients.
    """
    both = np.intersect1d(train.star_id, test.star_id)
    if len(both):
        raise DataError(f"{len(both)} stars are in the probe's training and test part, {both[0]} among them")
    if len(train) <= train.z.shape[1] + 1:
        raise DataError(f"a linear probe on {train.z.shape[1]} dimensions needs more than the {len(train)} views given")
    found = average_views(read_views(train, train_labels, test), test.star_id)
    if train.posterior is not None and test.posterior is not None:
        mean = Posterior(test.posterior).combine(test.star_id)[1].mean
        found.labels = LinearRegression().fit(_readable(train), train_labels).predict(mean)
    return found


def read_views(train: Embeddings, train_labels: np.ndarray, test: Embeddings) -> np.ndarray:
    """Labels (m, 20) of single views by linear regression, from posterior means if there are any, else embeddings."""
    return LinearRegression().fit(_readable(train), train_labels).predict(_readable(test))


def _readable(embeddings: Embeddings) -> np.ndarray:
    known = embeddings.z if embeddings.posterior is None else embeddings.posterior[:, : len(LABELS)]
    return known.astype(np.float64)


def score_labels(true: np.ndarray, predicted: np.ndarray) -> Scores:
    """r2, bias and RMSE of each label (equations 4.2 to 4.4), Teff in K and the rest in dex."""
    if true.shape != predicted.shape or len(true) < 2:
        raise ValueError(f"need labels of at least two stars on both sides, got {true.shape} and {predicted.shape}")
    return {
        "r2": by_name(r2_score(true, predicted, multioutput="raw_values")),
        "bias": by_name((predicted - true).mean(axis=0)),
        "rmse": by_name(root_mean_squared_error(true, predicted, multioutput="raw_values")),
        "n": len(true),
    }


def score_table(scores: dict[str, Scores], bounds: dict[str, dict[str, float]] | None = None) -> pd.DataFrame:
    """One row a label: r2, bias and RMSE of each model, as the paper's Tables 4 to 6, and bounds where given."""
    columns: dict[tuple[str, str], dict[str, float]] = {}
    for model, score in scores.items():
        columns |= {(model, "r²"): score["r2"], (model, "Δ"): score["bias"], (model, "RMSE"): score["rmse"]}
    for name, values in (bounds or {}).items():
        columns[(name, "σ")] = values
    table = pd.DataFrame(columns).loc[list(LABELS)]
    table.index = [f"{name} [{unit}]" for name, unit in zip(PLAIN, UNITS, strict=True)]
    return table.round(3)
