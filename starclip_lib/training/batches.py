"""What a training loop is fed with: the device, the precision, and batches of spectra."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from starclip_lib.data.emulator import Emulator, default_emulator
from starclip_lib.data.instruments import Instrument
from starclip_lib.data.labels import LabelScaler
from starclip_lib.errors import DataError
from starclip_lib.transforms.corruptions import Corruption
from starclip_lib.transforms.views import corrupted_views


class SpectrumSource:
    """Spectra of some stars as a training loop sees them: clean, freshly corrupted, or as fixed corrupted copies.

    flux : (n, n_pix) float32 of all stars; rows : (m,) the stars to take
    corruption : None for clean spectra
    copies : 0 for a fresh corruption at every call, else the number of fixed copies of each star
    The spectra are kept on the device if they take less than half of its free memory, else moved batch by batch.
    """

    def __init__(
        self,
        flux: np.ndarray,
        rows: np.ndarray,
        device: torch.device,
        corruption: Corruption | None = None,
        copies: int = 0,
        seed: int = 0,
    ):
        self.device, self.corruption = device, corruption
        self.copies = copies if corruption is not None else 0
        if self.copies:
            spectra = torch.empty((len(rows), copies, flux.shape[1]))
            for place, view, batch in corrupted_views(flux, rows, corruption, copies, seed):
                spectra[torch.from_numpy(place), view] = batch
        else:
            spectra = torch.from_numpy(flux[rows])
        self.flux = _place(spectra, device)

    def __len__(self) -> int:
        return len(self.flux)

    def batch(self, star: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
        """Spectra (b, n_pix) on the device of the given rows; `view` picks among fixed copies and is ignored else."""
        where = self.flux.device
        star = star.to(where)
        flux = self.flux[star, view.to(where)] if self.copies else self.flux[star]
        flux = flux.to(self.device, non_blocking=True)
        return flux if self.corruption is None or self.copies else self.corruption(flux, generator)


class NewStars:
    """Stars that nobody has seen: labels around those of known stars, ab initio spectra, fresh corruptions, every time.

    labels : (n, 20) in K and dex of the training stars; the length of an epoch is still n stars
    smoothing : between 0, the known labels themselves, and 1, a Gaussian of their mean and covariance.  In between, the
        deviations from the mean shrink by sqrt(1 - smoothing^2) and a Gaussian of smoothing^2 times the covariance is
        added, so that mean and covariance stay (a smoothed bootstrap; Silverman and Young 1987).
    scaler : turns labels into what the encoder is to predict
    pool : labels drawn beforehand, inside the emulator's domain, from which every batch takes at random

    Raises DataError if the domain holds almost none of such stars.
    """

    def __init__(
        self,
        labels: np.ndarray,
        instrument: Instrument,
        scaler: LabelScaler,
        device: torch.device,
        *,
        smoothing: float,
        corruption: Corruption | None = None,
        seed: int = 0,
        pool: int = 200_000,
        emulator: Emulator | None = None,
    ):
        emulator = emulator or default_emulator()
        self.device, self.corruption, self.copies, self._n = device, corruption, 0, len(labels)
        drawn = _around(labels.astype(np.float64), smoothing, pool, emulator, np.random.default_rng(seed))
        parts = emulator.parts(instrument)
        self._parts = {name: torch.from_numpy(array).to(device) for name, array in parts.items()}
        self._inputs = on_device((drawn - parts["center"]) / parts["scale"], device)
        self._targets = on_device(scaler.transform(drawn), device)

    def __len__(self) -> int:
        return self._n

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Spectra (n, n_pix) and scaled labels (n, 20) of n new stars, on the device."""
        row = torch.randint(len(self._inputs), (n,), generator=generator, device=self.device)
        p = self._parts
        hidden = F.silu(F.silu(self._inputs[row] @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"])
        flux = ((hidden @ p["w3"] + p["b3"]) @ p["basis"] + p["mean"]).clamp_min_(0)
        return flux if self.corruption is None else self.corruption(flux, generator), self._targets[row]


def _around(labels: np.ndarray, smoothing: float, n: int, emulator: Emulator, rng: np.random.Generator) -> np.ndarray:
    mean, covariance = labels.mean(axis=0), np.cov(labels.T)
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < n:
        base = labels[rng.integers(len(labels), size=n)] - mean
        scatter = rng.multivariate_normal(np.zeros(len(mean)), covariance, size=n, method="cholesky")
        new = mean + np.sqrt(1 - smoothing**2) * base + smoothing * scatter
        inside = emulator.inside_domain(new)
        if inside.mean() < 0.05:
            raise DataError("the emulator's domain holds almost no stars with labels like these")
        kept.append(new[inside])
    return np.concatenate(kept)[:n]


def _place(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type != "cuda":
        return tensor.to(device)
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.to(device) if 2 * tensor.nbytes < free else tensor.pin_memory()


def on_device(labels: np.ndarray, device: torch.device) -> Tensor:
    """Labels (n, 20) as a float32 tensor on the device."""
    return torch.from_numpy(np.ascontiguousarray(labels, np.float32)).to(device)


def batches(
    n_stars: int, copies: int, batch_size: int, device: torch.device, order: np.random.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Star and view numbers of all items, batch by batch, shuffled if `order` is given."""
    views = max(1, copies)
    items = np.arange(n_stars * views) if order is None else order.permutation(n_stars * views)
    for batch in torch.from_numpy(items).to(device).split(batch_size):
        yield batch // views, batch % views
