"""Ways to observe: domains that a network is taught in and taken to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.physics.instruments import SIGMA_PER_FWHM, Instrument
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import EncoderParams, TrainParams
from starclip_lib.support.seeds import seeded
from starclip_lib.training.batches import SpectrumSource
from starclip_lib.training.loop import Trainer
from starclip_lib.transforms.corruptions import Corruption, extended_corruption, mock
from starclip_lib.transforms.views import ViewSampler


def lower_resolution(flux: np.ndarray, instrument: Instrument, resolution: float) -> np.ndarray:
    """Spectra (n, n_pix) as an instrument of lower resolution sees them.

    A Gaussian turns the instrument's line-spread function into the wider one, both taken as constant in wavelength with
    their widths at the middle of the range. Raises ValueError if the new resolution is not lower.
    """
    if not 0 < resolution < instrument.resolution:
        raise ValueError(f"the resolution must be below the instrument's {instrument.resolution:g}, not {resolution:g}")
    middle = np.median(instrument.wavelength)
    fwhm = middle * np.sqrt(resolution**-2.0 - float(instrument.resolution) ** -2)
    step = np.median(np.diff(instrument.wavelength))
    return gaussian_filter1d(flux, fwhm * SIGMA_PER_FWHM / step, axis=1, mode="nearest")


@dataclass(frozen=True)
class Domain:
    """A way to observe: a name, a corruption, and the resolution the spectra are smoothed to (None: as they are)."""

    name: str
    corruption: Corruption
    resolution: float | None = None

    def observe(self, spectra: SpectrumSet, rows: np.ndarray, seed: int) -> np.ndarray:
        """One observation of each of some stars, (len(rows), n_pix) float32."""
        flux = self.clean(spectra, rows)
        return self.corruption(torch.from_numpy(flux), seeded("cpu", seed)).numpy()

    def clean(self, spectra: SpectrumSet, rows: np.ndarray) -> np.ndarray:
        """The spectra (len(rows), n_pix) before noise and gaps, at the domain's resolution."""
        flux = spectra.flux[rows]
        return flux if self.resolution is None else lower_resolution(flux, spectra.instrument, self.resolution)


def standard_domains(data: PairedSpectra, params: Params) -> dict[str, tuple[Domain, Domain]]:
    """Pairs of domains to go from and to, by name: other corruptions, other gaps, more noise, lower resolution."""
    usual = params.corruption
    independent = usual.changed(gaps=usual.gaps.changed(model="independent"))
    bright, faint = (mock(usual.changed(snr_min=snr, snr_max=snr)) for snr in (300.0, 30.0))
    return {
        "mock → extended mock": (Domain("from", mock(usual)), Domain("to", extended_corruption(data, params))),
        "independent → detector gaps": (Domain("from", mock(independent)), Domain("to", mock(usual))),
        "SNR 300 → 30": (Domain("from", bright), Domain("to", faint)),
        "R = 2,700 → 1,500": (Domain("from", mock(usual)), Domain("to", mock(usual), 1500.0)),
    }


def train_on(
    domain: Domain,
    spectra: SpectrumSet,
    rows: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    encoder: EncoderParams,
    train: TrainParams,
    *,
    seed: int,
) -> Encoder:
    """Train an encoder on stars seen in one domain, with fresh corruptions at every step."""
    network = make_encoder(spectra.instrument, encoder, seed)
    clean = [replace(spectra, flux=domain.clean(spectra, part), mask=spectra.mask[part], ivar=None) for part in rows]
    network.fit_scaling(torch.from_numpy(clean[0].flux))
    telescope = ViewSampler(domain.corruption, 1, seed)
    sources = [
        SpectrumSource(seen, np.arange(len(part)), labels[part], torch.device("cpu"), telescope, fresh)
        for seen, part, fresh in zip(clean, rows, (True, False), strict=True)
    ]
    Trainer(train, seed, title=f"encoder, {domain.name}").pretrain(network, *sources)
    return network
