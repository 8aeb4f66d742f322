"""The AstroCLIP benchmark on our embeddings: probes before and after alignment, scored with intervals."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics.probing import Predictions, average_views
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.encoding import embed_views
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings.params import Params
from starclip_lib.suite.resampling import (
    Interval,
    difference,
    intervals,
    numbers_of,
    r2_statistic,
)
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import mock_telescope

TITLES = {"nirspec": "NIRSpec", "apogee": "APOGEE"}
States = Mapping[str, Mapping[str, Embeddings]]  # 'before', 'aligned', 'after', then 'nirspec' or 'apogee'
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


@dataclass(eq=False)
class Probed:
    """What a probe read from every view of the test stars."""

    star_id: np.ndarray  # (m,), of the views
    true: np.ndarray  # (m, 20), in K and dex
    predicted: np.ndarray
    train_r2: np.ndarray  # (20,), of the views it was fitted on

    @property
    def error(self) -> np.ndarray:
        """(m, 20) predicted minus true."""
        return self.predicted - self.true

    @property
    def r2(self) -> np.ndarray:
        """(20,) share of the labels' variance that is explained, over all views."""
        return np.asarray(r2_score(self.true, self.predicted, multioutput="raw_values"))

    @property
    def mean(self) -> Predictions:
        """The mean over the views of each star, stars sorted by identifier."""
        return average_views(self.predicted, self.star_id)

    def scores(self, **options: Any) -> list[Interval]:
        """r2 of each label with its bootstrap interval over stars."""
        star, n_stars = numbers_of(self.star_id)
        return intervals(r2_statistic(self.true, self.predicted, star), n_stars, **options)

    def gain_over(self, other: Probed, **options: Any) -> list[Interval]:
        """r2 of each label minus that of another probe on the same views: a paired difference."""
        if not np.array_equal(self.star_id, other.star_id):
            raise ValueError("two probes can be compared on the same views only")
        star, n_stars = numbers_of(self.star_id)
        ours, theirs = (r2_statistic(p.true, p.predicted, star) for p in (self, other))
        return intervals(difference(ours, theirs), n_stars, **options)


def probe_views(kind: Kind, embeddings: Embeddings, data: PairedSpectra, *, seed: int = 0) -> Probed:
    """Fit a probe on the training and validation stars and read the test stars."""
    known, judged = embeddings.take("train", "val"), embeddings.take("test")
    if not len(known) or not len(judged):
        raise DataError("the embeddings hold no training or no test stars")
    taught = data.labels_of(known.star_id)
    probe = fit_regressor(kind, known.z, taught, seed=seed)
    train_r2 = r2_score(taught, probe.predict(known.z.astype(np.float64)), multioutput="raw_values")
    true = data.labels_of(judged.star_id)
    return Probed(judged.star_id, true, probe.predict(judged.z.astype(np.float64)), train_r2)


def probe_with_all(embeddings: Embeddings, data: PairedSpectra, *, seed: int = 0) -> dict[Kind, Probed]:
    """`probe_views` with each kind of probe."""
    return {kind: probe_views(kind, embeddings, data, seed=seed) for kind in KINDS}


def probe_states(states: States, data: PairedSpectra, *, seed: int = 0) -> dict[tuple[str, str], Probed]:
    """`probe_with_all` of each instrument in each state: ('NIRSpec before', 'linear'), ..."""
    return {
        (f"{title} {state}", kind): found
        for name, title in TITLES.items()
        for state, group in states.items()
        for kind, found in probe_with_all(group[name], data, seed=seed).items()
    }


def alignment_gains(probed: Mapping[tuple[str, str], Probed], **options: Any) -> dict[str, dict[str, list[Interval]]]:
    """By instrument and kind of probe, r2 of each label after alignment minus before."""
    return {
        title: {
            kind: probed[f"{title} after", kind].gain_over(probed[f"{title} before", kind], **options) for kind in KINDS
        }
        for title in TITLES.values()
    }


def embeddings_in_states(run: Run) -> dict[str, dict[str, Embeddings]]:
    """A run's embeddings by its encoders before alignment, aligned but not calibrated, and as they are."""
    trained = cast("dict[str, Encoder]", run.model("starclip").encoders)
    before = {name: cast("Encoder", run.model(name).encoders[name]) for name in TITLES}
    aligned = {name: uncalibrated(trained[name]) for name in TITLES}
    return {
        "before": embed_with(before, run.data, run.params),
        "aligned": embed_with(aligned, run.data, run.params),
        "after": {name: run.embeddings(f"starclip/{name}") for name in TITLES},
    }


def embed_with(encoders: Mapping[str, Encoder], data: PairedSpectra, params: Params) -> dict[str, Embeddings]:
    """Embeddings of all stars by some encoders ('nirspec' and 'apogee'), of the same views as the run's own."""
    every = np.arange(data.n_stars)
    telescopes = {"nirspec": mock_telescope(params), "apogee": None}
    return {name: embed_views(encoder, data, every, telescopes[name]) for name, encoder in encoders.items()}


def uncalibrated(encoder: Encoder) -> Encoder:
    """A copy of an encoder whose coordinates are the labels themselves."""
    encoder = copy.deepcopy(encoder)
    encoder.coordinates = None
    return encoder


def by_label(found: list[Interval]) -> dict[str, dict[str, float]]:
    """Twenty intervals as `metrics.json` holds them."""
    return {name: interval.as_dict() for name, interval in zip(LABELS, found, strict=True)}
