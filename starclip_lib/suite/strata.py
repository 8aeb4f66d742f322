"""Where an embedding works and where it fails: scores by noise, gap, labels and crowding in the embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF, label_index
from starclip_lib.run import Run
from starclip_lib.suite.benchmark import Probed
from starclip_lib.suite.resampling import Interval, WeightedStatistic, intervals, mean_statistic, numbers_of
from starclip_lib.transforms.gaps import longest_gap
from starclip_lib.transforms.views import ViewSampler, measured_snr, mock_telescope


@dataclass(frozen=True)
class Stratum:
    """One bin of a condition: its ends, its number of views, and the RMSE with its interval."""

    low: float  # ends
    high: float
    views: int  # number of views
    rmse: Interval


def gap_start(corrupted: np.ndarray, wavelength: np.ndarray, fill_value: float, shortest: int = 20) -> np.ndarray:
    """Where the gap between the detectors begins, Angstrom (n,); NaN for spectra without one.

    A gap is the longest run of at least `shortest` pixels without data that reaches neither end of the spectrum.
    """
    stop, length = (found.numpy() for found in longest_gap(torch.from_numpy(corrupted == fill_value)))
    return np.where(length >= shortest, wavelength[stop - length], np.nan)


def view_conditions(spectra: SpectrumSet, rows: np.ndarray, telescope: ViewSampler) -> tuple[np.ndarray, np.ndarray]:
    """Signal-to-noise ratio and start of the gap of every view of some stars, (len(rows), n_views) each."""
    fill_value, wavelength = spectra.instrument.fill_value, spectra.instrument.wavelength
    snr, gap = np.empty((2, len(rows), telescope.n_views))
    for place, view, batch in telescope.blocks(spectra, rows):
        seen = batch.numpy()
        snr[place, view] = measured_snr(spectra.flux[rows[place]], seen, fill_value)
        gap[place, view] = gap_start(seen, wavelength, fill_value)
    return snr, gap


def neighbour_count(z: np.ndarray, known: np.ndarray) -> np.ndarray:
    """How crowded the embedding is around each point: neighbours among the known within one and the same radius.

    The radius is the median distance of the known to their tenth neighbour, so a typical count is ten.  It takes the
    place of the benchmark's counts of companions on the sky.
    """
    index = NearestNeighbors().fit(known)
    radius = float(np.median(index.kneighbors(n_neighbors=min(10, len(known) - 1))[0][:, -1]))
    return np.array([len(found) for found in index.radius_neighbors(z, radius, return_distance=False)])


def stratified(
    squared_error: np.ndarray,
    star_id: np.ndarray,
    condition: np.ndarray,
    *,
    n_bins: int = 5,
    n_resamples: int = 500,
    seed: int = 0,
) -> list[Stratum]:
    """RMSE of the views in each bin of a condition, with bootstrap intervals over stars."""
    edges = np.unique(np.nanquantile(condition, np.linspace(0, 1, n_bins + 1)))  # equal values share a bin
    strata = []
    for low, high in pairwise(edges):
        inside = (condition >= low) & ((condition <= high) if high == edges[-1] else (condition < high))
        star, n_stars = numbers_of(star_id[inside])
        if n_stars < 2:
            continue
        rmse = intervals(_root_mean(squared_error[inside], star), n_stars, n_resamples=n_resamples, seed=seed)[0]
        strata.append(Stratum(float(low), float(high), int(inside.sum()), rmse))
    return strata


def _root_mean(squared: np.ndarray, star: np.ndarray) -> WeightedStatistic:
    mean = mean_statistic(squared, star)
    return lambda weights: np.sqrt(mean(weights))


def by_condition(
    error: np.ndarray, star_id: np.ndarray, conditions: Mapping[str, np.ndarray], names: Sequence[str], **options: Any
) -> dict[str, dict[str, list[Stratum]]]:
    """`stratified` for several conditions (m,) and labels: condition to label to bins."""
    return {
        title: {name: stratified(error[:, label_index(name)] ** 2, star_id, condition, **options) for name in names}
        for title, condition in conditions.items()
    }


def of_probe(
    run: Run, probe: Probed, embeddings: Embeddings, **options: Any
) -> tuple[dict[str, dict[str, list[Stratum]]], dict[str, float]]:
    """RMSE of Teff, log g and [Fe/H] of NIRSpec's test views by what was observed, and of all views by label."""
    judged = embeddings.take("test")
    snr, gap = view_conditions(run.data.nirspec, run.data.rows("test"), mock_telescope(run.params))
    close = neighbour_count(judged.z, embeddings.take("train").z)
    conditions = {
        "SNR per pixel": snr.ravel(),
        "gap begins at [Å]": gap.ravel(),
        "Teff [K]": probe.true[:, TEFF],
        "log g": probe.true[:, LOGG],
        "[Fe/H]": probe.true[:, FE],
        "log of 1 + training views close by": np.log10(1 + close),
    }
    found = by_condition(probe.error, probe.star_id, conditions, ("Teff", "logg", "Fe"), **options)
    return found, dict(zip(LABELS, np.sqrt((probe.error**2).mean(axis=0)), strict=True))


def as_dict(strata: Mapping[str, Mapping[str, list[Stratum]]]) -> dict[str, Any]:
    """What `by_condition` found, as `metrics.json` holds it."""
    return {
        condition: {
            name: [{"from": b.low, "to": b.high, "views": b.views, "rmse": b.rmse.as_dict()} for b in bins]
            for name, bins in labels.items()
        }
        for condition, labels in strata.items()
    }
