"""How well methods could do: Fisher information, Cramer-Rao bounds of the labels, and van Trees bounds.

Without a prior, `bounds` is the Cramer-Rao bound of unbiased methods.  With the population as prior it is the posterior
standard deviation of a linear Gaussian model, which bounds the mean squared error over that population (van Trees).

Information matrices are (20, 20), marginalised over continuum, velocity and, on request, line width, and in units of
the labels' published spreads; `bounds` brings them back to K and dex.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from starclip_lib.inference.gauss_newton import marginalised
from starclip_lib.inference.grid import DEGREE, GridModel
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import NIRSPEC, Instrument
from starclip_lib.physics.labels import LABELS, N_LABELS, PUBLISHED_SPREAD
from starclip_lib.support.errors import DataError

_FILTER_EDGE = 9700.0  # Angstrom


def information(
    emulator: Emulator,
    labels: np.ndarray,
    instrument: Instrument,
    snr: float,
    *,
    missing: np.ndarray | None = None,
    continuum_degree: int = DEGREE,
    line_width: bool = False,
) -> np.ndarray:
    """Fisher information on the labels that one spectrum holds, (20, 20), nuisances marginalised.

    The information of independent spectra of a star adds up.
    """
    missing = np.zeros(instrument.n_pix, bool) if missing is None else missing
    responses = flux_responses(emulator, labels, instrument, continuum_degree, line_width)
    return information_of(responses, instrument, snr, missing)


def blocked(instrument: Instrument) -> np.ndarray:
    """Pixels (n_pix,) of the grid that receive no light: for NIRSpec those below the edge of the filter F100LP."""
    return (instrument.wavelength < _FILTER_EDGE) & (instrument is NIRSPEC)


def flux_responses(
    emulator: Emulator, labels: np.ndarray, instrument: Instrument, degree: int = DEGREE, line_width: bool = False
) -> np.ndarray:
    """Derivatives of a star's flux with respect to its labels, in published spreads, then to the nuisances."""
    model = _model(emulator, instrument, degree, line_width)
    return model.design(torch.from_numpy(labels[None].astype(float)), torch.diag(torch.from_numpy(PUBLISHED_SPREAD)))[
        0
    ].numpy()


@lru_cache(maxsize=4)
def _model(emulator: Emulator, instrument: Instrument, degree: int, line_width: bool) -> GridModel:
    return GridModel(emulator, instrument, degree, line_width=line_width).double()


def information_of(responses: np.ndarray, instrument: Instrument, snr: float, missing: np.ndarray) -> np.ndarray:
    """Information on the labels from the pixels that are there, less what the nuisances could explain."""
    rows = responses[:, instrument.on_detector & ~missing]
    return marginalised(torch.from_numpy(snr**2 * rows @ rows.T)[None])[0].numpy()


def bounds(info: np.ndarray, instrument: Instrument, prior: np.ndarray | None = None) -> np.ndarray:
    """Cramer-Rao bound of each label; with a prior, the posterior sigma of a linear Gaussian model (van Trees).

    A label that leaves no trace in the spectrum has an infinite bound (without a prior). Raises DataError naming them,
    if some labels cannot be told apart.
    """
    if prior is not None:
        precision = np.linalg.inv(prior / np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD))
        return np.sqrt(np.diag(np.linalg.inv(info + precision))) * PUBLISHED_SPREAD
    out = np.full(N_LABELS, np.inf)
    length = np.sqrt(np.maximum(np.diag(info), 0))
    seen = np.flatnonzero(length > 1e-9)
    if not len(seen):
        return out
    values, vectors = np.linalg.eigh(info[np.ix_(seen, seen)] / np.outer(length[seen], length[seen]))
    if values[0] < 1e-10:
        names = [LABELS[seen[i]] for i in np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)]
        raise DataError(f"{instrument.title}: the pixels left cannot tell apart {', '.join(names)}")
    out[seen] = np.sqrt(np.diag((vectors / values) @ vectors.T)) / length[seen] * PUBLISHED_SPREAD[seen]
    return out


def cramer_rao(
    emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float, **options: Any
) -> np.ndarray:
    """The Cramer-Rao bound of each label for one spectrum."""
    return bounds(information(emulator, labels, instrument, snr, **options), instrument)


def median_bound(emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float) -> dict[str, float]:
    """Median Cramer-Rao bound of each label over some stars, without the pixels that are `blocked`."""
    dark = blocked(instrument)
    found = np.median([cramer_rao(emulator, star, instrument, snr, missing=dark) for star in labels], axis=0)
    return {name: float(bound) for name, bound in zip(LABELS, found, strict=True)}


def information_density(emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float) -> np.ndarray:
    """Where in the spectrum each label shows: information per Angstrom, everything else being known."""
    gradient = emulator.gradient(labels, instrument) * PUBLISHED_SPREAD[:, None]
    return np.where(instrument.on_detector, (snr * gradient) ** 2, 0) / np.gradient(instrument.wavelength)


def gap_cost(
    emulator: Emulator, labels: np.ndarray, instrument: Instrument, starts: np.ndarray, width: float
) -> np.ndarray:
    """By how much a gap widens the bound of each label, without the `blocked` pixels: ratios, medians over stars."""
    ratios, dark = np.empty((len(labels), len(starts), N_LABELS)), blocked(instrument)
    for row, star in enumerate(labels):
        whole = cramer_rao(emulator, star, instrument, 100.0, missing=dark)
        for column, start in enumerate(starts):
            gap = (instrument.wavelength >= start) & (instrument.wavelength < start + width)
            ratios[row, column] = cramer_rao(emulator, star, instrument, 100.0, missing=dark | gap) / whole
    return np.median(ratios, axis=0)


def rms_bound(info: np.ndarray, instrument: Instrument, prior: np.ndarray | None = None) -> np.ndarray:
    """Root mean square bound (20,) over spectra or stars: what an RMSE must be compared with."""
    return np.sqrt(np.mean([bounds(one, instrument, prior) ** 2 for one in info], axis=0))
