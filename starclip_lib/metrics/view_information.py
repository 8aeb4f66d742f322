"""What observed spectra, each with its own noise and gaps, tell about the labels of their stars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from starclip_lib.data.selection import in_parts
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.inference.fisher import flux_responses, information_of, rms_bound
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.support.threads import side_by_side
from starclip_lib.transforms.corruptions import PaschenSubstitution
from starclip_lib.transforms.views import ViewSampler

_STARS = 1024  # whose views are held together


@dataclass(frozen=True, eq=False)
class ViewInformation:
    """What the spectra of some stars, each with its own noise and gaps, tell about their labels."""

    rows: np.ndarray  # (n,), of the stars in the data set
    labels: np.ndarray  # (n, 20), in K and dex
    information: np.ndarray  # (n, n_views, 20, 20), as `fisher.information` gives it
    snr: np.ndarray  # (n, n_views), per pixel

    def first(self, n_stars: int, n_views: int | None = None) -> ViewInformation:
        """Of the first stars only, and of their first views."""
        few = slice(n_stars)
        return ViewInformation(
            self.rows[few], self.labels[few], self.information[few, :n_views], self.snr[few, :n_views]
        )

    def limit(self, instrument: Instrument, prior: np.ndarray | None = None) -> np.ndarray:
        """Root mean square bound (20,) of all views of a star together: van Trees with a prior, else Cramer-Rao."""
        return rms_bound(self.information.sum(axis=1), instrument, prior)

    def by_snr(
        self, error: np.ndarray, instrument: Instrument, prior: np.ndarray, n_bins: int = 4
    ) -> tuple[np.ndarray, np.ndarray]:
        """RMSE over the van Trees bound, one view at a time, in equally filled bins of SNR."""
        snr, errors = self.snr.ravel(), error.reshape(-1, N_LABELS)
        every = self.information.reshape(-1, N_LABELS, N_LABELS)
        edges = np.quantile(snr, np.linspace(0, 1, n_bins + 1))
        bins = [np.flatnonzero((snr >= low) & (snr <= high)) for low, high in pairwise(edges)]
        ratios = [
            np.sqrt((errors[rows] ** 2).mean(axis=0)) / rms_bound(every[rows], instrument, prior) for rows in bins
        ]
        return np.array([snr[rows].mean() for rows in bins]), np.array(ratios)


def seen_by(telescope: ViewSampler, data: PairedSpectra, rows: np.ndarray, emulator: Emulator) -> ViewInformation:
    """What the views of a mock telescope tell; the lines of another star, where they are put in, tell nothing."""

    def look(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen, snr = telescope.views_and_snr(data.nirspec, part)
        for step in getattr(telescope.corruption, "steps", ()):
            if isinstance(step, PaschenSubstitution):
                seen[:, :, step.pixels] = data.nirspec.instrument.fill_value
        return seen, snr

    return _seen(look, data.labels, rows, emulator, data.nirspec.instrument)


def seen_by_apogee(data: PairedSpectra, rows: np.ndarray, otherwise: float, emulator: Emulator) -> ViewInformation:
    """What the APOGEE spectra tell, with the noise that the data set keeps."""

    def look(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return data.apogee.flux[part][:, None], snr_from_ivar(data.apogee, part, otherwise)[:, None]

    return _seen(look, data.labels, rows, emulator, data.apogee.instrument)


def _seen(
    look: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    rows: np.ndarray,
    emulator: Emulator,
    instrument: Instrument,
) -> ViewInformation:
    """What the views and their SNR, (n, n_views, n_pix) and (n, n_views) of some rows by `look`, tell together."""
    known, found = labels.astype(np.float64), []
    for part in in_parts(rows, _STARS):
        seen, snr = look(part)
        found.append((view_information(emulator, known[part], seen, snr, instrument), snr))
    return ViewInformation(rows, known[rows], *map(np.concatenate, zip(*found, strict=True)))


def view_information(
    emulator: Emulator, labels: np.ndarray, flux: np.ndarray, snr: np.ndarray, instrument: Instrument
) -> np.ndarray:
    """Information of observed views of some stars, each with its own noise and gaps."""
    missing = flux == instrument.fill_value

    def of_star(row: int) -> list[np.ndarray]:
        responses = flux_responses(emulator, labels[row], instrument)
        views = zip(snr[row], missing[row], strict=True)
        return [information_of(responses, instrument, ratio, gaps) for ratio, gaps in views]

    return np.array(side_by_side(of_star, range(len(labels)))).reshape(*snr.shape, N_LABELS, N_LABELS)


def snr_from_ivar(spectra: SpectrumSet, rows: np.ndarray, otherwise: float) -> np.ndarray:
    """Signal-to-noise ratio per pixel of spectra near 1, the median over the pixels that hold data."""
    if spectra.ivar is None:
        return np.full(len(rows), otherwise)
    ivar = np.where(spectra.ivar[rows] > 0, spectra.ivar[rows], np.nan)
    return np.sqrt(np.nanmedian(ivar[:, spectra.instrument.on_detector], axis=1))
