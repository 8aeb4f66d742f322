"""Observed NIRSpec spectra: reading PypeIt files, velocity, continuum, and the way onto the training grid."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import median_filter, percentile_filter

from starclip_lib.config import DataError
from starclip_lib.instruments import NIRSPEC, SPEED_OF_LIGHT, resample
from starclip_lib.settings import ObservedParams

ROUGH = 0.025  # pixel-to-pixel scatter above this is no star: clean M71 spectra have 0.013 to 0.016
_MIN_PIXELS = 500
_EDGE = 20  # good pixels dropped at either end of each detector, where extractions bend


@dataclass(eq=False)
class ObservedSpectrum:
    """One extracted spectrum, detectors joined.

    wavelength : (m,) vacuum Angstrom, increasing; flux : (m,) counts; bad : (m,) true where it must not be used
    """

    name: str
    wavelength: np.ndarray
    flux: np.ndarray
    bad: np.ndarray

    @property
    def roughness(self) -> float:
        """Median absolute difference of neighbouring good pixels, relative to the flux around them."""
        good = ~self.bad
        level = median_filter(self.flux[good], 51)
        return float(np.median(np.abs(np.diff(self.flux[good])) / np.abs(level[1:])))

    @property
    def verdict(self) -> str:
        """'good', or why the spectrum should not be used."""
        n_good = int((~self.bad).sum())
        if n_good < _MIN_PIXELS:
            return f"only {n_good} good pixels in the range used, {_MIN_PIXELS} are needed"
        if self.roughness > ROUGH:
            return f"saw-tooth extraction: neighbours differ by {self.roughness:.1%}, more than {ROUGH:.1%}"
        return "good"


@dataclass(eq=False)
class PreparedSpectrum:
    """An observed spectrum as an encoder takes it.

    flux : (8192,) float32, rest frame, relative to the continuum, 1 where mask (8192,) is true
    velocity : km/s, by which it was shifted; correlation : with the best template, at that velocity
    template : row of the template it fits best
    """

    name: str
    flux: np.ndarray
    mask: np.ndarray
    velocity: float
    correlation: float
    template: int


def find_spec1d(folder: str | Path) -> list[Path]:
    """The spec1d files of a folder, sorted; raises DataError if there is no such folder or none in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; set observed.folder to one with PypeIt spec1d_*.fits files")
    paths = sorted(folder.glob("spec1d*.fits*"))
    if not paths:
        raise DataError(f"{folder} holds no spec1d*.fits file (PypeIt's extracted spectra)")
    return paths


def read_spec1d(path: str | Path, settings: ObservedParams | None = None) -> ObservedSpectrum:
    """Read the target of a PypeIt spec1d file: optimal extraction of the object with the highest S/N.

    A file may hold several objects, each as one table (both detectors joined, MSC) or one for each detector (DET),
    which are joined here.  Raises DataError that names the file and what is missing in it.
    """
    settings = settings or ObservedParams()
    path = Path(path)
    columns = ("OPT_WAVE", "OPT_COUNTS", "OPT_COUNTS_IVAR", "OPT_MASK")
    try:
        with fits.open(path, memmap=False) as file:
            target = re.sub(r"[^\w.+-]+", "_", str(file[0].header.get("TARGET", path.stem)))  # names files, too
            tables = [hdu for hdu in file[1:] if hdu.header.get("DMODCLS") == "SpecObj"]
            if not tables:
                raise DataError(f"{path}: no extracted object in it; is it a PypeIt spec1d file?")
            best = max(tables, key=lambda hdu: hdu.header.get("SMASH_SNR", hdu.header.get("S2N", 0.0)))
            trace, detector = best.name.rsplit("-", 1)
            parts = [best]
            if detector.startswith("DET"):
                parts = [hdu for hdu in tables if hdu.name.startswith(f"{trace}-DET")]
            missing = [name for name in columns if name not in best.columns.names]
            if missing:
                raise DataError(f"{path}: {best.name} has no column {', '.join(missing)} (no optimal extraction)")
            wavelength, flux, ivar, good = (np.concatenate([hdu.data[name] for hdu in parts]) for name in columns)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} is truncated or no FITS file ({error})") from error
    order = np.argsort(wavelength)
    order = order[wavelength[order] > 0]
    wavelength, flux, ivar, good = (array[order].astype(float) for array in (wavelength, flux, ivar, good))
    low, high = settings.wavelength_range
    bad = (good == 0) | ~(ivar > 0) | ~np.isfinite(flux) | (flux <= 0) | (wavelength < low) | (wavelength > high)
    return ObservedSpectrum(target, wavelength, np.where(bad, 0.0, flux), bad | _outliers(flux, bad))


def _outliers(flux: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Good pixels that stand far off the running median: cosmic rays and hot pixels, not lines at this resolution."""
    out = np.zeros(len(flux), bool)
    good = np.flatnonzero(~bad)
    if len(good) > 51:
        off = flux[good] / median_filter(flux[good], 15) - 1
        out[good] = np.abs(off) > 6 * 1.4826 * np.median(np.abs(off))
    return out


def prepare_observed(
    spectrum: ObservedSpectrum, templates: np.ndarray, settings: ObservedParams | None = None
) -> PreparedSpectrum:
    """Shift a spectrum to rest, normalise it and put it on the NIRSpec grid.

    templates : (n, 8192) ab initio spectra; a few dozen that cover the domain are enough
    Velocity and template are where the cross-correlation is highest; the continuum is a smooth fit, detector by
    detector, to the ratio of spectrum and template, so that the result is on the templates' scale.
    Raises DataError if too few pixels are good.
    """
    settings = settings or ObservedParams()
    good = np.flatnonzero(~spectrum.bad)
    if len(good) < _MIN_PIXELS:
        raise DataError(f"{spectrum.name}: only {len(good)} good pixels in the range used, {_MIN_PIXELS} are needed")
    wave, flux = spectrum.wavelength[good], spectrum.flux[good]
    velocities = np.arange(-settings.max_velocity, settings.max_velocity + 1, 5.0)
    observed = _lines(flux)
    score = np.empty((len(templates), len(velocities)))
    for j, velocity in enumerate(velocities):
        rest = wave / (1 + velocity / SPEED_OF_LIGHT)
        for i, template in enumerate(templates):
            model = np.interp(rest, NIRSPEC.wavelength, template)
            score[i, j] = np.corrcoef(observed, _lines(model))[0, 1]
    best, peak = np.unravel_index(np.argmax(score), score.shape)
    velocity = float(velocities[peak])
    if 0 < peak < len(velocities) - 1:  # vertex of the parabola through the peak and its neighbours
        left, top, right = score[best, peak - 1 : peak + 2]
        velocity += 2.5 * float((left - right) / (left - 2 * top + right))

    rest = wave / (1 + velocity / SPEED_OF_LIGHT)
    template = np.interp(rest, NIRSPEC.wavelength, templates[best])
    gap = int(np.argmax(np.diff(wave))) + 1  # the widest break is the gap between the detectors
    normalised, bad = np.ones_like(flux), np.ones(len(flux), bool)
    for part in (slice(_EDGE, gap - _EDGE), slice(gap + _EDGE, len(flux) - _EDGE)):
        if part.stop - part.start > 100:  # a shorter stretch does not tell its continuum
            continuum, bad[part] = _continuum(rest[part], flux[part] / template[part])
            normalised[part] = flux[part] / continuum
    out, mask = resample(rest, normalised, bad, NIRSPEC)
    return PreparedSpectrum(spectrum.name, out.astype(np.float32), mask, velocity, float(score[best, peak]), int(best))


def _lines(flux: np.ndarray) -> np.ndarray:
    """What is left of a spectrum when its pseudo-continuum is divided out: a running 85th percentile."""
    return flux / percentile_filter(flux, 85, 127) - 1


def _continuum(wavelength: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Polynomial through the ratio of spectrum and template, rejecting what stands off by 3 sigma, five times.

    Returns the continuum and a mask, true where the ratio stands off it by 6 sigma: pixels that are still bad.
    """
    keep = np.ones(len(ratio), bool)
    for _ in range(5):
        continuum = np.polynomial.Chebyshev.fit(wavelength[keep], ratio[keep], deg=6)(wavelength)
        off = np.abs(ratio / continuum - 1)
        sigma = 1.4826 * np.median(off[keep])
        keep = off < 3 * sigma
    return continuum, off > 6 * sigma
