"""How well any method could do: Fisher information and Cramer-Rao bounds of the labels.

Information matrices are (20, 20), marginalised over continuum, velocity and, on request, line width, and in units of
the labels' published spreads; `bounds` brings them back to K and dex.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from starclip_lib.data.emulator import Emulator
from starclip_lib.data.instruments import SIGMA_PER_FWHM, SPEED_OF_LIGHT, Instrument
from starclip_lib.data.labels import LABELS, N_LABELS, PUBLISHED_SPREAD
from starclip_lib.data.spectra import PairedSpectra, SpectrumSet
from starclip_lib.errors import DataError
from starclip_lib.transforms.corruptions import PaschenSubstitution
from starclip_lib.transforms.views import MockTelescope


def information(
    emulator: Emulator,
    labels: np.ndarray,
    instrument: Instrument,
    snr: float,
    *,
    missing: np.ndarray | None = None,
    continuum_degree: int = 8,
    line_width: bool = False,
) -> np.ndarray:
    """Fisher information on the labels that one spectrum holds, (20, 20), nuisances marginalised.

    labels : (20,) of the star, in K and dex; snr : per pixel, noise 1/snr everywhere
    missing : (n_pix,) pixels without data, besides those off the chips
    continuum_degree : a polynomial continuum of this degree and a radial velocity are fitted along
    line_width : so is the width of the line-spread function
    The information of independent spectra of a star adds up.
    Source: Fisher information of Gaussian noise, as in Ting et al. (2017) and Sandford et al. (2020).
    """
    missing = np.zeros(instrument.n_pix, bool) if missing is None else missing
    responses = _responses(emulator, labels, instrument, continuum_degree, line_width)
    return _marginalised(responses, instrument, snr, missing)


def _responses(
    emulator: Emulator, labels: np.ndarray, instrument: Instrument, degree: int = 8, line_width: bool = False
) -> np.ndarray:
    """Derivatives of a star's flux with respect to its labels, in published spreads, then to the nuisances."""
    flux = emulator(labels[None], instrument)[0].astype(np.float64)
    gradient = emulator.gradient(labels, instrument) * PUBLISHED_SPREAD[:, None]
    return np.concatenate([gradient, _nuisances(flux, instrument, degree, line_width)])


def _marginalised(responses: np.ndarray, instrument: Instrument, snr: float, missing: np.ndarray) -> np.ndarray:
    """Information on the labels (20, 20) from the pixels that are there, less what the nuisances could explain."""
    rows = responses[:, instrument.covered & ~missing]
    fisher = snr**2 * rows @ rows.T
    inner, cross, outer = fisher[:N_LABELS, :N_LABELS], fisher[:N_LABELS, N_LABELS:], fisher[N_LABELS:, N_LABELS:]
    size = np.sqrt(np.maximum(np.diag(outer), np.finfo(float).tiny))
    inverse = np.linalg.pinv(outer / np.outer(size, size), hermitian=True) / np.outer(size, size)
    return inner - cross @ inverse @ cross.T


def _nuisances(flux: np.ndarray, instrument: Instrument, degree: int, line_width: bool) -> np.ndarray:
    """Derivatives of the flux with respect to what nobody asked for."""
    x = np.linspace(-1, 1, instrument.n_pix)
    slope = np.gradient(flux, instrument.wavelength)
    rows = [
        flux * np.polynomial.legendre.legvander(x, degree).T,
        (instrument.wavelength * slope / SPEED_OF_LIGHT)[None],
    ]
    if line_width:  # d flux / d log sigma of a Gaussian line-spread function is sigma^2 times the second derivative
        sigma = instrument.wavelength / instrument.resolution * SIGMA_PER_FWHM
        curvature = np.zeros(instrument.n_pix)
        curvature[1:-1] = np.diff(flux, 2) / np.gradient(instrument.wavelength)[1:-1] ** 2
        rows.append((sigma**2 * curvature)[None])
    return np.concatenate(rows)


def bounds(info: np.ndarray, instrument: Instrument, prior: np.ndarray | None = None) -> np.ndarray:
    """Smallest standard deviation of each label, (20,) in K and dex, that an unbiased estimator can have.

    info : (20, 20) as `information` gives it
    prior : (20, 20) covariance of the population in K and dex; with it, the posterior standard deviation of a star
        drawn from a Gaussian population, which a method that knows the population can reach
    A label that leaves no trace in the spectrum has an infinite bound (without a prior).
    Raises DataError, naming them, if some labels cannot be told apart.
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
    """The Cramer-Rao bound of each label for one spectrum, (20,) in K and dex; `options` as for `information`."""
    return bounds(information(emulator, labels, instrument, snr, **options), instrument)


def median_bound(emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float) -> dict[str, float]:
    """Median Cramer-Rao bound of each label over some stars (n, 20), as `metrics.json` holds it."""
    found = np.median([cramer_rao(emulator, star, instrument, snr) for star in labels], axis=0)
    return {name: float(bound) for name, bound in zip(LABELS, found, strict=True)}


def information_density(emulator: Emulator, labels: np.ndarray, instrument: Instrument, snr: float) -> np.ndarray:
    """Where in the spectrum each label shows: information per Angstrom, (20, n_pix), everything else being known.

    In units of one over the label's published spread squared, per Angstrom; 0 off the chips.
    """
    gradient = emulator.gradient(labels, instrument) * PUBLISHED_SPREAD[:, None]
    return np.where(instrument.covered, (snr * gradient) ** 2, 0) / np.gradient(instrument.wavelength)


def gap_cost(
    emulator: Emulator, labels: np.ndarray, instrument: Instrument, starts: np.ndarray, width: float
) -> np.ndarray:
    """By how much a gap widens the bound of each label: ratios (len(starts), 20), medians over stars.

    labels : (n, 20); starts : where the gap begins, Angstrom; width : of the gap, Angstrom
    """
    ratios = np.empty((len(labels), len(starts), N_LABELS))
    for row, star in enumerate(labels):
        whole = cramer_rao(emulator, star, instrument, 100.0)
        for column, start in enumerate(starts):
            missing = (instrument.wavelength >= start) & (instrument.wavelength < start + width)
            ratios[row, column] = cramer_rao(emulator, star, instrument, 100.0, missing=missing) / whole
    return np.median(ratios, axis=0)


@dataclass(frozen=True, eq=False)
class SeenInformation:
    """What the spectra of some stars, each with its own noise and gaps, tell about their labels.

    rows : (n,) of the stars in the data set; labels : (n, 20) in K and dex
    information : (n, n_views, 20, 20) as `information` gives it; snr : (n, n_views) per pixel
    """

    rows: np.ndarray
    labels: np.ndarray
    information: np.ndarray
    snr: np.ndarray

    def first(self, n_stars: int) -> SeenInformation:
        """Of the first stars only."""
        return SeenInformation(*(array[:n_stars] for array in vars(self).values()))

    def limit(self, instrument: Instrument, prior: np.ndarray) -> np.ndarray:
        """Root mean square bound (20,) of all views of a star together, whose information adds up."""
        return rms_bound(self.information.sum(axis=1), instrument, prior)

    def by_snr(
        self, error: np.ndarray, instrument: Instrument, prior: np.ndarray, n_bins: int = 4
    ) -> tuple[np.ndarray, np.ndarray]:
        """RMSE over the limit, one view at a time, in equally filled bins of SNR.

        error : (n, n_views, 20) of a method, in K and dex
        Returns the mean SNR (n_bins,) and the ratios (n_bins, 20).
        """
        snr, errors = self.snr.ravel(), error.reshape(-1, N_LABELS)
        every = self.information.reshape(-1, N_LABELS, N_LABELS)
        edges = np.quantile(snr, np.linspace(0, 1, n_bins + 1))
        bins = [np.flatnonzero((snr >= low) & (snr <= high)) for low, high in pairwise(edges)]
        ratios = [
            np.sqrt((errors[rows] ** 2).mean(axis=0)) / rms_bound(every[rows], instrument, prior) for rows in bins
        ]
        return np.array([snr[rows].mean() for rows in bins]), np.array(ratios)


def seen_by(telescope: MockTelescope, data: PairedSpectra, rows: np.ndarray, emulator: Emulator) -> SeenInformation:
    """What the views of a mock telescope tell; the lines of another star, where they are put in, tell nothing.

    Raises DataError if a star lies outside the emulator's domain.
    """
    labels = data.labels[rows].astype(np.float64)
    seen, snr = telescope.views_and_snr(data.nirspec, rows)
    for step in getattr(telescope.corruption, "steps", ()):
        if isinstance(step, PaschenSubstitution):
            seen[:, :, step.pixels] = data.nirspec.instrument.no_data
    return SeenInformation(rows, labels, view_information(emulator, labels, seen, snr, data.nirspec.instrument), snr)


def seen_by_apogee(data: PairedSpectra, rows: np.ndarray, otherwise: float, emulator: Emulator) -> SeenInformation:
    """What the APOGEE spectra tell, with the noise that the data set keeps.

    data : read with its inverse variances; otherwise : the SNR per pixel to take if it has none
    """
    labels = data.labels[rows].astype(np.float64)
    snr = snr_from_ivar(data.apogee, rows, otherwise)[:, None]
    flux = data.apogee.flux[rows][:, None]
    return SeenInformation(rows, labels, view_information(emulator, labels, flux, snr, data.apogee.instrument), snr)


def view_information(
    emulator: Emulator, labels: np.ndarray, flux: np.ndarray, snr: np.ndarray, instrument: Instrument
) -> np.ndarray:
    """Information (n, n_views, 20, 20) of observed views of some stars, each with its own noise and gaps.

    labels : (n, 20); flux : (n, n_views, n_pix), of which only the missing pixels matter; snr : (n, n_views)
    """
    missing = flux == instrument.no_data
    out = np.empty((*snr.shape, N_LABELS, N_LABELS))
    for row, star in enumerate(labels):
        responses = _responses(emulator, star, instrument)
        for view in range(snr.shape[1]):
            out[row, view] = _marginalised(responses, instrument, snr[row, view], missing[row, view])
    return out


def rms_bound(info: np.ndarray, instrument: Instrument, prior: np.ndarray | None = None) -> np.ndarray:
    """Root mean square bound (20,) over spectra or stars: what an RMSE must be compared with.  info : (n, 20, 20)"""
    return np.sqrt(np.mean([bounds(one, instrument, prior) ** 2 for one in info], axis=0))


def snr_from_ivar(spectra: SpectrumSet, rows: np.ndarray, otherwise: float) -> np.ndarray:
    """Signal-to-noise ratio per pixel (len(rows),) of spectra near 1, the median over the pixels that hold data.

    otherwise : what to take for all if the data set keeps no inverse variances
    """
    if spectra.ivar is None:
        return np.full(len(rows), otherwise)
    ivar = np.where(spectra.ivar[rows] > 0, spectra.ivar[rows], np.nan)
    return np.sqrt(np.nanmedian(ivar[:, spectra.instrument.covered], axis=1))
