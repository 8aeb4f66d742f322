"""The five corruptions that turn an ab initio NIRSpec spectrum into one that could have been observed.

Section 4.2.1 of the paper: (i) Paschen substitution, (ii) dead pixels, (iii) denormalisation, (iv) Gaussian noise,
(v) detector gaps.  Each is a callable on a batch: `corruption(flux, generator)` takes flux (n, n_pix) relative to the
continuum and a `torch.Generator` on the same device, and returns a new tensor.  The same generator state gives the same
result.  `Compose` chains them; `mock` and `extended_mock` are the paper's two chains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import CorruptionParams
from starclip_lib.transforms.continuum import PseudoContinuum
from starclip_lib.transforms.gaps import GapModel

PASCHEN_LINES = (9548.6, 10052.1, 10941.1, 12821.6)  # Angstrom, as in the paper
_BLOCK = 64  # spectra corrupted at once on a CPU: 2 MB of flux stay in its cache, and temporary arrays stay small


class Corruption(nn.Module):
    """A random change of a batch of spectra.

    What it needs are buffers: `.to(device)` moves it, once, to where the spectra are.
    """

    def forward(self, flux: Tensor, generator: torch.Generator) -> Tensor:
        """Corrupt a batch of spectra."""
        if flux.ndim != 2:
            raise ValueError(f"flux must have shape (n, n_pix), not {tuple(flux.shape)}")
        out = flux.clone()
        for block in out.split(_BLOCK if flux.device.type == "cpu" else max(1, len(flux))):
            self.apply_(block, generator)
        return out

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        """Corrupt a small batch in place."""
        raise NotImplementedError


class Compose(Corruption):
    """One corruption after another."""

    def __init__(self, steps: Sequence[Corruption]):
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        for step in self.steps:
            cast(Corruption, step).apply_(flux, generator)


class PaschenSubstitution(Corruption):
    """(i) Replace the flux within `radius` Angstrom of four Paschen lines by that of one reference star (n_pix,)."""

    pixels: Tensor
    values: Tensor

    def __init__(self, reference: Tensor, wavelength: np.ndarray, radius: float = 10.0):
        super().__init__()
        near = np.abs(wavelength[:, None] - np.array(PASCHEN_LINES)).min(axis=1) <= radius
        self.register_buffer("pixels", torch.from_numpy(np.flatnonzero(near)))
        self.register_buffer("values", reference[self.pixels.to(reference.device)].cpu().clone())

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        flux[:, self.pixels] = self.values


class DeadPixels(Corruption):
    """(ii) Set a fraction of the pixels, uniformly at random, to 1."""

    def __init__(self, fraction: float = 1e-3):
        super().__init__()
        self.fraction = fraction

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        count = round(self.fraction * flux.shape[1])
        dead = torch.randint(flux.shape[1], (len(flux), count), generator=generator, device=flux.device)
        flux.scatter_(1, dead, 1.0)


class Denormalisation(Corruption):
    """(iii) Multiply by a smooth continuum error (equations 4.5 and 4.6), another one for each spectrum.

    P = 1 + amplitude (p - mean p) / max `abs(p - mean p)` with p a polynomial of `degree` on wavelength scaled to [0,
    1] and coefficients from U(-1, 1).
    """

    powers: Tensor

    def __init__(self, wavelength: np.ndarray, amplitude: float = 0.01, degree: int = 8):
        super().__init__()
        x = (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0])
        powers = np.vander(x, degree + 1, increasing=True).T
        # p - mean p is linear in the coefficients, so the mean can be taken off the powers once and for all
        centred = (powers - powers.mean(axis=1, keepdims=True)).astype(np.float32)
        self.register_buffer("powers", torch.from_numpy(centred))
        self.amplitude = amplitude

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        shape = (len(flux), len(self.powers))
        coefficients = torch.rand(shape, generator=generator, device=flux.device, dtype=flux.dtype) * 2 - 1
        polynomial = coefficients @ self.powers
        low, high = torch.aminmax(polynomial, dim=1, keepdim=True)
        largest = torch.maximum(high, -low).clamp_min(torch.finfo(flux.dtype).tiny)
        flux.addcmul_(flux, polynomial.mul_(self.amplitude / largest))


class GaussianNoise(Corruption):
    """(iv) Add Gaussian noise of standard deviation 1/SNR, with one SNR from U(snr_min, snr_max) for each spectrum."""

    def __init__(self, snr_min: float = 30.0, snr_max: float = 300.0):
        super().__init__()
        self.snr_min, self.snr_max = snr_min, snr_max

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        snr = torch.rand((len(flux), 1), generator=generator, device=flux.device, dtype=flux.dtype)
        snr = self.snr_min + (self.snr_max - self.snr_min) * snr
        flux.addcdiv_(torch.randn(flux.shape, generator=generator, device=flux.device, dtype=flux.dtype), snr)


class DetectorGaps(Corruption):
    """(v) Set to `fill_value` what falls between the detectors or off their ends."""

    wavelength: Tensor  # (n_pix,), Angstrom, increasing

    def __init__(self, gaps: GapModel, wavelength: np.ndarray, fill_value: float = 1.0):
        super().__init__()
        self.gaps, self.fill_value = gaps, fill_value
        self.register_buffer("wavelength", torch.from_numpy(wavelength.astype(np.float32)))

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        blue, start, stop, cutoff = (edge[:, None] for edge in self.gaps.sample(len(flux), generator))
        missing = (self.wavelength < blue) | (self.wavelength >= cutoff)
        missing |= (self.wavelength >= start) & (self.wavelength < stop)
        flux.masked_fill_(missing, self.fill_value)


class Normalisation(Corruption):
    """Divide by the pseudo-continuum (knots every `spacing` Angstrom), as every observed spectrum is."""

    def __init__(self, spacing: float):
        super().__init__()
        self.continuum = PseudoContinuum(spacing)

    def apply_(self, flux: Tensor, generator: torch.Generator) -> None:
        flux.copy_(self.continuum.normalise(flux))


def normalisation(settings: CorruptionParams) -> list[Corruption]:
    """The step that ends every chain, in a list."""
    return [Normalisation(settings.continuum_spacing)] if settings.continuum_spacing else []


def mock(settings: CorruptionParams) -> Compose:
    """The paper's mock NIRSpec: noise (iv) and gaps (v)."""
    noise = GaussianNoise(settings.snr_min, settings.snr_max)
    gaps = DetectorGaps(GapModel.measured(settings.gaps), NIRSPEC.wavelength, NIRSPEC.fill_value)
    return Compose([noise, gaps, *normalisation(settings)])


def extended_mock(settings: CorruptionParams, reference: Tensor) -> Compose:
    """The paper's extended mock NIRSpec: all five, in order."""
    return Compose(
        [
            PaschenSubstitution(reference, NIRSPEC.wavelength, settings.paschen_radius),
            DeadPixels(settings.dead_fraction),
            Denormalisation(NIRSPEC.wavelength, settings.continuum_amplitude, settings.continuum_degree),
            *mock(settings).steps,
        ]
    )


def reference_flux(data: PairedSpectra) -> torch.Tensor:
    """The star whose Paschen lines every extended-mock spectrum gets: the first training star."""
    return torch.from_numpy(data.nirspec.flux[data.rows("train")[0]])


def extended_corruption(data: PairedSpectra, params: Params) -> Corruption:
    """The extended mock of a run."""
    return extended_mock(params.corruption, reference_flux(data))
