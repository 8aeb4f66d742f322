"""What a training loop is fed with: batches of spectra with their labels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.storage.hdf5 import RowsOnDisk
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.corruptions import Corruption
from starclip_lib.transforms.views import ViewSampler


class Source(Protocol):
    """Stars as a training loop sees them."""

    device: torch.device
    copies: int  # 0 where every call brings something new, else the number of fixed copies of each star

    def __len__(self) -> int: ...

    def draw(self, star: Tensor, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Spectra and Z-scored labels, on the device."""
        ...


class SpectrumSource:
    """Spectra of some stars: clean, freshly corrupted, or as fixed corrupted copies.

    The stars are `rows` of `spectra`, with Z-scored `labels` (m, 20). Without a telescope they are clean; `fresh` draws
    a new corruption at every call, instead of the telescope's views. The spectra are kept on the device if they take
    less than half of its free memory, else moved batch by batch; those that lie on disk are read batch by batch, unless
    they are seen as fixed copies.
    """

    def __init__(
        self,
        spectra: SpectrumSet,
        rows: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        telescope: ViewSampler | None = None,
        fresh: bool = False,
    ):
        self.device, self.copies = device, 0
        self._corruption: Corruption | None = None
        self._flux: Tensor | RowsOnDisk
        if telescope is not None and not fresh:
            self.copies = telescope.n_views
            self._flux = _place(torch.from_numpy(telescope.views(spectra, rows)), device)
        elif isinstance(spectra.flux, RowsOnDisk):
            self._flux = spectra.flux.take(rows)
        else:
            self._flux = _place(torch.from_numpy(spectra.flux[rows]), device)
        if fresh and telescope is not None:  # the telescope's own corruption stays on the CPU
            self._corruption = copy.deepcopy(telescope.corruption)
            if self._corruption is not None:
                self._corruption.to(device)
        self._labels = on_device(labels, device)

    def __len__(self) -> int:
        return len(self._flux)

    def draw(self, star: Tensor, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Source.draw`; without fixed copies, `view` is ignored."""
        if isinstance(self._flux, RowsOnDisk):
            flux = torch.from_numpy(self._flux[star.cpu().numpy()])
        else:
            place = self._flux.device
            row = star.to(place)
            flux = self._flux[row, view.to(place)] if self.copies else self._flux[row]
        flux = flux.to(self.device, non_blocking=True)
        return flux if self._corruption is None else self._corruption(flux, generator), self._labels[star]


class NewStars:
    """New stars at every step: labels around those of known stars, ab initio spectra, fresh corruptions, every time.

    `labels` (n, 20) in K and dex are those of the training stars; an epoch has n stars. `smoothing` lies between 0, the
    known labels themselves, and 1, a Gaussian of their mean and covariance. In between, the deviations from the mean
    shrink by sqrt(1 - smoothing^2) and a Gaussian of smoothing^2 times the covariance is added, so that mean and
    covariance stay (a smoothed bootstrap; Silverman and Young 1987). `pool` labels inside the emulator's domain are
    drawn beforehand, from which every batch takes at random; DataError if the domain holds almost none of such stars.
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
        self.device, self.copies, self._n = device, 0, len(labels)
        self._corruption = None if corruption is None else copy.deepcopy(corruption).to(device)
        drawn = _around(labels.astype(np.float64), smoothing, pool, emulator, np.random.default_rng(seed))
        self._spectra = emulator.on(instrument).to(device)
        self._drawn = on_device(drawn, device)
        self._targets = on_device(scaler.transform(drawn), device)

    def __len__(self) -> int:
        return self._n

    def draw(self, star: Tensor, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Source.draw`, of as many new stars as `star` names."""
        row = torch.randint(len(self._drawn), (len(star),), generator=generator, device=self.device)
        flux = self._spectra(self._drawn[row])
        return flux if self._corruption is None else self._corruption(flux, generator), self._targets[row]


class Shuffled:
    """A source whose stars have each other's spectra, in `order`: a control from which pairs cannot be learned."""

    def __init__(self, source: Source, order: np.ndarray):
        self.device, self.copies = source.device, source.copies
        self._source, self._order = source, torch.from_numpy(order).to(source.device)

    def __len__(self) -> int:
        return len(self._source)

    def draw(self, star: Tensor, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Source.draw`, spectra and labels of the other star."""
        return self._source.draw(self._order[star], view, generator)


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
    """Labels as a float32 tensor on the device."""
    return torch.from_numpy(np.ascontiguousarray(labels, np.float32)).to(device)


def batches(
    n_stars: int, copies: int, batch_size: int, device: torch.device, order: np.random.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Star and view numbers of all items, batch by batch."""
    views = max(1, copies)
    items = np.arange(n_stars * views) if order is None else order.permutation(n_stars * views)
    for batch in torch.from_numpy(items).to(device).split(batch_size):
        yield batch // views, batch % views
