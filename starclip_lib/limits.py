"""How well any method could do: Cramer-Rao bounds of the labels."""

from __future__ import annotations

import numpy as np

from starclip_lib.config import DataError
from starclip_lib.emulator import Emulator
from starclip_lib.instruments import SPEED_OF_LIGHT, Instrument
from starclip_lib.labels import LABELS, PUBLISHED_SPREAD


def cramer_rao(
    emulator: Emulator,
    labels: np.ndarray,
    instrument: Instrument,
    snr: float,
    *,
    missing: np.ndarray | None = None,
    continuum_degree: int = 8,
) -> np.ndarray:
    """Smallest standard deviation of each label that an unbiased estimator can have for one spectrum.

    labels : (20,) of the star, in K and dex; snr : per pixel, noise 1/snr everywhere
    missing : (n_pix,) pixels without data, besides those off the chips
    continuum_degree : a polynomial continuum of this degree and a radial velocity are fitted along (marginalised)
    Returns (20,) in K and dex.  Raises DataError if the spectrum cannot tell some labels apart.
    Source: Fisher information of Gaussian noise, as in Ting et al. (2017) and Sandford et al. (2020).
    """
    use = instrument.covered if missing is None else instrument.covered & ~missing
    flux = emulator(labels[None], instrument)[0].astype(np.float64)
    x = np.linspace(-1, 1, instrument.n_pix)
    continuum = flux * np.polynomial.legendre.legvander(x, continuum_degree).T
    velocity = instrument.wavelength * np.gradient(flux, instrument.wavelength) / SPEED_OF_LIGHT
    gradient = emulator.gradient(labels, instrument) * PUBLISHED_SPREAD[:, None]  # in units of each label's spread
    derivatives = np.concatenate([gradient, continuum, velocity[None]])[:, use]
    fisher = snr**2 * derivatives @ derivatives.T
    length = np.sqrt(np.diag(fisher))
    blind = [name for name, size in zip(LABELS, length, strict=False) if not size > 0]
    if blind:
        raise DataError(f"{instrument.title}: the pixels left hold no information on {', '.join(blind)}")
    values, vectors = np.linalg.eigh(fisher / np.outer(length, length))
    if values[0] < 1e-12:
        names = [LABELS[i] for i in np.flatnonzero(np.abs(vectors[: len(LABELS), 0]) > 0.1)]
        raise DataError(f"{instrument.title}: the pixels left cannot tell apart {', '.join(names)}")
    covariance = (vectors / values) @ vectors.T
    return (np.sqrt(np.diag(covariance)) / length)[: len(LABELS)] * PUBLISHED_SPREAD


def median_bound(emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float) -> dict[str, float]:
    """Median Cramer-Rao bound of each label over some stars (n, 20), as `metrics.json` holds it."""
    bounds = np.median([cramer_rao(emulator, star, instrument, snr) for star in labels], axis=0)
    return {name: float(bound) for name, bound in zip(LABELS, bounds, strict=True)}
