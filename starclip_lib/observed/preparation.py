"""Observed NIRSpec spectra: a verdict, velocity, resolution, continuum, and the way onto the training grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from starclip_lib.observed.spectrum import ObservedSpectrum, detectors, edge_mask
from starclip_lib.observed.velocity import measured_velocity
from starclip_lib.physics.instruments import MAD_PER_SIGMA, NIRSPEC, SPEED_OF_LIGHT, resample
from starclip_lib.physics.lsf import broadening
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.continuum import PseudoContinuum

_MIN_CHECK = 200  # good pixels of a detector; fewer give no velocity worth comparing


@dataclass(eq=False)
class PreparedSpectrum:
    """An observed spectrum as an encoder takes it."""

    name: str
    flux: np.ndarray  # (8192,), float32, rest frame, relative to its pseudo-continuum, 1 where `mask` is true
    mask: np.ndarray  # (8192,)
    noise: np.ndarray  # (8192,), its pixel-to-pixel noise, measured on the spectrum itself
    velocity: float  # km/s (topocentric if the file's wavelengths are), by which it was shifted
    velocity_error: float
    # km/s, velocity and uncertainty of each detector by itself, over all that it shows
    detector_velocities: tuple[tuple[float, float], ...]
    correlation: float  # with the best template, before outliers are rejected
    template: np.ndarray  # (8192,), ab initio spectrum that fits best
    # (8192,), as the instrument would have shown it, with the same mask and over its own pseudo-continuum
    seen_template: np.ndarray

    def with_continuum(self, flux: np.ndarray) -> np.ndarray:
        """Spectra of this star, relative to the pseudo-continuum, as relative to the true one.

        For models that never saw a pseudo-continuum: the best template's, which is known, is put back in.
        """
        continuum = np.where(self.mask, 1.0, self.template / self.seen_template)
        return np.where(flux == NIRSPEC.fill_value, flux, flux * continuum).astype(np.float32)

    def faults(self, settings: ObservedParams) -> list[str]:
        """Why it cannot be used as the spectrum of a star."""
        if self.correlation < settings.min_correlation:
            return [f"no stellar lines: correlation {self.correlation:.2f}, below {settings.min_correlation:g}"]
        return []


def prepare_observed(
    spectrum: ObservedSpectrum,
    templates: np.ndarray,
    continuum: PseudoContinuum,
    settings: ObservedParams | None = None,
) -> PreparedSpectrum:
    """Shift a spectrum to rest, put it on the NIRSpec grid at the templates' resolution, and normalise it.

    Velocity and template are where the cross-correlation is highest; a few dozen templates (n, 8192) that cover the
    domain are enough. The grid is finer than the detector's pixels, so linear interpolation keeps the flux. DataError
    if too few pixels are good.
    """
    settings = settings or ObservedParams()
    spectrum = spectrum.within(settings)
    if spectrum.n_good < settings.min_pixels:
        raise DataError(f"{spectrum.name}: only {spectrum.n_good} good pixels, {settings.min_pixels} are needed")
    good = np.flatnonzero(~spectrum.bad)
    wave, flux = spectrum.wavelength[good], spectrum.flux[good]
    best, velocity, error, correlation = measured_velocity(wave, flux, templates, settings)
    bad = edge_mask(spectrum)
    rest = spectrum.wavelength / (1 + velocity / SPEED_OF_LIGHT)
    on_grid, mask = resample(rest, spectrum.flux / np.median(flux), bad, NIRSPEC)
    on_grid = match_resolution(on_grid, mask, settings.fwhm)
    both = np.stack([on_grid, np.where(mask, NIRSPEC.fill_value, templates[best])]).astype(np.float32)
    normalised, seen = continuum.normalise(torch.from_numpy(both)).numpy()
    difference = np.abs(normalised - seen)[~mask]
    noise = np.where(mask, 0.0, np.median(difference) / MAD_PER_SIGMA)
    return PreparedSpectrum(
        spectrum.name,
        normalised,
        mask,
        noise,
        velocity,
        error,
        _detector_velocities(spectrum, templates[best], settings),
        correlation,
        templates[best],
        seen,
    )


def _detector_velocities(
    spectrum: ObservedSpectrum, template: np.ndarray, settings: ObservedParams
) -> tuple[tuple[float, float], ...]:
    """Velocity and uncertainty of each detector; also where the range that is used shows little of it."""
    good = np.flatnonzero(~spectrum.flagged)
    wave, flux = spectrum.wavelength[good], spectrum.flux[good]
    enough = [part for part in detectors(wave) if len(part) >= _MIN_CHECK]
    return tuple(measured_velocity(wave[part], flux[part], template[None], settings)[1:3] for part in enough)


def match_resolution(flux: np.ndarray, mask: np.ndarray, fwhm: float) -> np.ndarray:
    """Broaden a spectrum on the NIRSpec grid to the resolution of the ab initio spectra.

    The templates have R = 2,700, a width that grows with wavelength; where the spectrum is broader already it stays.
    """
    grid, weight = NIRSPEC.wavelength, (~mask).astype(float)
    kernel = broadening(grid, fwhm, grid, np.maximum(NIRSPEC.fwhm, fwhm))
    return np.where(mask, NIRSPEC.fill_value, kernel @ (flux * weight) / np.maximum(kernel @ weight, 1e-6))
