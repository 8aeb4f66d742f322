"""The mock telescope: fixed corrupted copies of stars, the views on which every model is judged, and their noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.physics.instruments import MAD_PER_SIGMA
from starclip_lib.settings.params import Params
from starclip_lib.support.seeds import seeded
from starclip_lib.transforms.corruptions import Compose, Corruption, extended_corruption, mock, normalisation

_BLOCK = 512  # rows that share a generator


@dataclass(frozen=True, eq=False)
class ViewSampler:
    """Draws corrupted views of stars: the same spectra, noise and gaps included, for the same seed.

    A view is a function of (seed, view, row), whatever other rows are asked for and whatever device the models are on:
    GPUs have random streams of their own, and every model, baseline and limit must judge the same spectra.

    Parameters
    ----------
    corruption : Corruption, optional
        What happens to a spectrum on its way; None: nothing.
    n_views : int
        How often each star is observed.
    seed : int
        Of the views.
    """

    corruption: Corruption | None = None
    n_views: int = 1
    seed: int = 0

    def blocks(self, spectra: SpectrumSet, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int, Tensor]]:
        """The views of some stars, a block at a time.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Row numbers wanted.

        Yields
        ------
        place : ndarray of int, shape (b,)
            Positions in `rows`.
        batch : Tensor, shape (b, n_pix)
            On the CPU: batch[i] is view number `view` of star rows[place[i]].
        """
        for view in range(self.n_views):
            for start in range(0, len(spectra.flux), _BLOCK):
                place = np.flatnonzero((rows >= start) & (rows < start + _BLOCK))
                if not len(place):
                    continue
                block = torch.from_numpy(spectra.flux[start : start + _BLOCK])
                if self.corruption is not None:
                    block = self.corruption(block, seeded("cpu", self.seed, view, start))
                yield place, view, block[torch.from_numpy(rows[place] - start)]

    def views(self, spectra: SpectrumSet, rows: np.ndarray) -> np.ndarray:
        """The views of some stars all at once.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Row numbers wanted.

        Returns
        -------
        ndarray, shape (m, n_views, n_pix)
            float32: 33 kB for each NIRSpec view.
        """
        out = np.empty((len(rows), self.n_views, spectra.flux.shape[1]), np.float32)
        for place, view, batch in self.blocks(spectra, rows):
            out[place, view] = batch.numpy()
        return out

    def views_and_snr(self, spectra: SpectrumSet, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`views` with the signal-to-noise ratio per pixel of each.

        Parameters
        ----------
        rows : ndarray of int, shape (m,)
            Row numbers wanted.

        Returns
        -------
        views : ndarray, shape (m, n_views, n_pix)
        snr : ndarray, shape (m, n_views)
        """
        seen = self.views(spectra, rows)
        clean, fill_value = spectra.flux[rows], spectra.instrument.fill_value
        snr = [measured_snr(clean, seen[:, view], fill_value) for view in range(self.n_views)]
        return seen, np.stack(snr, axis=1)


class FirstView:
    """The telescope's first views of all stars, each made when it is asked for."""

    def __init__(self, telescope: ViewSampler, spectra: SpectrumSet):
        self._telescope, self._spectra, self.shape = replace(telescope, n_views=1), spectra, spectra.flux.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        return self._telescope.views(self._spectra, np.array([row]))[0, 0]


def mock_telescope(params: Params, n_views: int | None = None) -> ViewSampler:
    """The telescope of a run that sees mock NIRSpec spectra.

    Parameters
    ----------
    n_views : int, optional
        `corruption.n_views` unless it is given.
    """
    return ViewSampler(mock(params.corruption), n_views or params.corruption.n_views, params.seed)


def extended_telescope(data: PairedSpectra, params: Params, n_views: int | None = None) -> ViewSampler:
    """The telescope of a run that sees the extended mock, all five corruptions.

    Parameters
    ----------
    n_views : int, optional
        `corruption.n_views` unless it is given.
    """
    return ViewSampler(extended_corruption(data, params), n_views or params.corruption.n_views, params.seed)


def pretraining_telescope(params: Params, n_views: int | None = None) -> ViewSampler | None:
    """What the NIRSpec encoder sees spectra through when it is pretrained, and judged."""
    if params.pretrain.nirspec_input == "mock":
        return mock_telescope(params, n_views)
    steps = normalisation(params.corruption)
    return ViewSampler(Compose(steps), n_views or params.corruption.n_views, params.seed) if steps else None


def measured_snr(clean: np.ndarray, corrupted: np.ndarray, fill_value: float) -> np.ndarray:
    """Signal-to-noise ratio per pixel of corrupted spectra, from what differs from the clean ones.

    Differences of neighbouring pixels, so a smooth continuum error does not count; the median absolute one, so dead
    pixels and substituted lines do not either.  Exact to about 1 per cent.
    """
    return 1 / pixel_noise(np.where(corrupted == fill_value, np.nan, corrupted - clean))


def pixel_noise(difference: np.ndarray) -> np.ndarray:
    """Standard deviation of white noise in spectra.

    The median absolute difference of neighbouring pixels, scaled as it is for Gaussians.
    """
    return np.nanmedian(np.abs(np.diff(difference, axis=1)), axis=1) / (np.sqrt(2) * MAD_PER_SIGMA)
