"""The mock telescope: fixed corrupted copies of stars, the views on which every model is judged, and their noise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from starclip_lib.seeds import seeded
from starclip_lib.transforms.corruptions import Corruption

_VIEW_BLOCK = 512  # rows that share a generator in `corrupted_views`


def corrupted_views(
    flux: np.ndarray, rows: np.ndarray, corruption: Corruption | None, n_views: int, seed: int
) -> Iterator[tuple[np.ndarray, int, Tensor]]:
    """Fixed corrupted copies of some stars, a block at a time.

    flux : (n, n_pix) clean spectra of all stars; rows : (m,) row numbers wanted
    corruption : None gives the clean spectra
    Yields (place, view, batch), all on the CPU: batch[i] is view number `view` of star rows[place[i]].  A view is a
    function of (seed, view, row), whatever other rows are asked for and whatever device the models are on: GPUs have
    random streams of their own, and every model, baseline and limit must judge the same spectra.
    """
    for view in range(n_views):
        for start in range(0, len(flux), _VIEW_BLOCK):
            place = np.flatnonzero((rows >= start) & (rows < start + _VIEW_BLOCK))
            if not len(place):
                continue
            block = torch.from_numpy(flux[start : start + _VIEW_BLOCK])
            if corruption is not None:
                block = corruption(block, seeded("cpu", seed, view, start))
            yield place, view, block[torch.from_numpy(rows[place] - start)]


def observed_views(
    flux: np.ndarray, rows: np.ndarray, corruption: Corruption | None, n_views: int, seed: int
) -> np.ndarray:
    """The same copies all at once, (len(rows), n_views, n_pix) float32: 33 kB for each NIRSpec view."""
    out = np.empty((len(rows), n_views, flux.shape[1]), np.float32)
    for place, view, batch in corrupted_views(flux, rows, corruption, n_views, seed):
        out[place, view] = batch.numpy()
    return out


def measured_snr(clean: np.ndarray, corrupted: np.ndarray, no_data: float) -> np.ndarray:
    """Signal-to-noise ratio per pixel (n,) of corrupted spectra, from what differs from the clean ones.

    clean, corrupted : (n, n_pix).  Differences of neighbouring pixels, so a smooth continuum error does not count; the
    median absolute one, so dead pixels and substituted lines do not either.  Exact to about 1 per cent.
    """
    return 1 / pixel_noise(np.where(corrupted == no_data, np.nan, corrupted - clean))


def pixel_noise(difference: np.ndarray) -> np.ndarray:
    """Standard deviation (n,) of white noise in spectra (n, n_pix), NaN where there is no data.

    The median absolute difference of neighbouring pixels, scaled as it is for Gaussians.
    """
    return np.nanmedian(np.abs(np.diff(difference, axis=1)), axis=1) / (np.sqrt(2) * norm.ppf(0.75))


def views_and_snr(
    flux: np.ndarray, rows: np.ndarray, corruption: Corruption, n_views: int, seed: int, no_data: float
) -> tuple[np.ndarray, np.ndarray]:
    """`observed_views` (len(rows), n_views, n_pix) with the signal-to-noise ratio of each, (len(rows), n_views)."""
    seen = observed_views(flux, rows, corruption, n_views, seed)
    snr = [measured_snr(flux[rows], seen[:, view], no_data) for view in range(n_views)]
    return seen, np.stack(snr, axis=1)
