"""A pseudo-continuum that observed and ab initio NIRSpec spectra share, so that a model can take either.

The true continuum of an observed spectrum is unknown: the response of the spectrograph wiggles by per cents over a few
hundred Angstrom.  A smooth curve through the same line-free pixels, divided out of both kinds, makes them meet.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.interpolate import BSpline
from scipy.ndimage import percentile_filter
from torch import Tensor, nn

from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import MAD_PER_SIGMA, NIRSPEC
from starclip_lib.transforms.gaps import longest_gap

_BIN = 8  # pixels (9 Angstrom); far below the distance of the knots, and 1,024 bins are fitted faster than 8,192 pixels
_WINDOW = 273  # pixels (300 Angstrom) over which "line-free" is judged
_LINE_FREE = 0.6  # the 60 per cent of the pixels of each window with the highest flux in the mean ab initio spectrum
_RIDGE = 1e-4  # weight of the coefficients' second differences: bridges gaps, and is not felt where there are data
_CLIP = 3.0  # sigma
_ROUNDS = 3


class PseudoContinuum(nn.Module):
    """Cubic splines with knots every `spacing` Angstrom, fitted to line-free pixels on each detector by itself.

    What is fitted are means over bins of 8 pixels; bins that stand off by 3 sigma are rejected, twice.  The detectors
    are told apart by the longest stretch without data inside a spectrum.
    """

    spline: Tensor
    binned: Tensor
    overlap: Tensor
    products: Tensor
    penalty: Tensor
    free: Tensor

    def __init__(self, spacing: float):
        super().__init__()
        for name, value in _spline_parts(spacing).items():
            self.register_buffer(name, value)

    def fit(self, flux: Tensor) -> Tensor:
        """The pseudo-continuum of spectra (n, 8192), which are exactly 1 where there are no data."""
        n = len(flux)
        used = ((flux != NIRSPEC.fill_value) & self.free).view(n, -1, _BIN)
        weight = used.sum(2).float()
        mean = (flux.view_as(used) * used).sum(2) / weight.clamp_min(1)
        second = _second_detector(flux)[:, None]
        bins = torch.arange(weight.shape[1], device=flux.device)
        weight = torch.stack([weight * (bins < second), weight * (bins >= second)], 1).view(2 * n, -1)
        mean = mean.repeat_interleave(2, 0)
        for last in [False] * (_ROUNDS - 1) + [True]:
            normal = self.penalty.repeat(2 * n, 1, 1)
            normal[:, *self.overlap] += weight @ self.products
            right = ((weight * mean) @ self.binned)[:, :, None]
            coefficients = torch.cholesky_solve(right, torch.linalg.cholesky(normal))[:, :, 0]
            if not last:
                off = (mean - coefficients @ self.binned.T).abs()
                mad = off.masked_fill(weight == 0, torch.nan).nanmedian(1, keepdim=True).values
                weight = weight.masked_fill(off > _CLIP * mad / MAD_PER_SIGMA, 0)
        first, then = (coefficients @ self.spline.T).view(n, 2, -1).unbind(1)
        return torch.where(torch.arange(flux.shape[1], device=flux.device) < second * _BIN, first, then)

    def normalise(self, flux: Tensor) -> Tensor:
        """Spectra over their pseudo-continuum."""
        continuum = self.fit(flux)
        missing = (flux == NIRSPEC.fill_value) | (continuum < 0.02)
        return (flux / continuum).masked_fill(missing, NIRSPEC.fill_value)


@cache
def _spline_parts(spacing: float) -> dict[str, Tensor]:
    """What every fit with knots this far apart needs, computed once.

    spline (8192, k) and its means over bins, binned (1024, k); overlap (2, m), pairs of splines that do, a band of the
    normal matrix, and products (1024, m) of each pair; penalty (k, k); free (8192,), pixels without lines
    """
    wave, pieces = NIRSPEC.wavelength, max(1, round((NIRSPEC.wavelength[-1] - NIRSPEC.wavelength[0]) / spacing))
    knots = np.linspace(wave[0], wave[-1], pieces + 1)
    step = knots[1] - knots[0]
    knots = np.concatenate([knots[0] + step * np.arange(-3, 0), knots, knots[-1] + step * np.arange(1, 4)])
    spline = torch.from_numpy(BSpline.design_matrix(wave, knots, 3).toarray())
    binned = spline.reshape(-1, _BIN, spline.shape[1]).mean(1)
    overlap = ((binned.T @ binned) > 0).nonzero().T
    products = binned[:, overlap[0]] * binned[:, overlap[1]]
    bend = torch.diff(torch.eye(spline.shape[1], dtype=torch.float64), n=2, dim=0)
    penalty = _RIDGE * NIRSPEC.n_pix / spline.shape[1] * bend.T @ bend + 1e-4 * torch.eye(spline.shape[1])
    parts = {"spline": spline, "binned": binned, "products": products, "penalty": penalty}
    free = torch.from_numpy(line_free_pixels())
    return {name: part.float() for name, part in parts.items()} | {"overlap": overlap, "free": free}


def line_free_pixels() -> np.ndarray:
    """Where the mean ab initio spectrum is among the highest of its neighbourhood."""
    mean = default_emulator().mean_spectrum(NIRSPEC)
    relative = mean / percentile_filter(mean, 95, _WINDOW)
    return relative >= percentile_filter(relative, 100 * (1 - _LINE_FREE), 2 * _WINDOW)


def _second_detector(flux: Tensor) -> Tensor:
    """(n,) number of the first bin after the gap between the detectors; 0 if there is none."""
    missing = (flux == NIRSPEC.fill_value).view(len(flux), -1, _BIN).all(2)
    stop, length = longest_gap(missing)
    return torch.where(length >= _BIN, stop, 0)  # 8 bins are 70 Angstrom; the gap has 374
