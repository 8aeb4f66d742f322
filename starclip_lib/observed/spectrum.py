"""One observed spectrum, and what can be said against it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import median_filter

from starclip_lib.physics.instruments import MAD_PER_SIGMA
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError

# What `starclip observe` reads: as far to the blue as the filter lets light through; G140M with F070LP has 468 pixels.
OBSERVED = ObservedParams(wavelength_range=(9700.0, 18000.0), min_pixels=400)

_EDGE = 20  # good pixels dropped at either end of each detector, where extractions bend
_GAP = 300.0  # Angstrom; a wider stretch without good pixels lies between the detectors (theirs has 374)
_MIN_ALONE = 300  # pixels; a detector that shows less tells neither its continuum nor a velocity, and is left out
_OF_NOISE = MAD_PER_SIGMA * np.sqrt(2)  # median difference of neighbours, over the noise


@dataclass(frozen=True)
class Exposures:
    """What a spectrum of JWST was extracted from, by which pipeline.

    `level` 2 is one exposure, 3 all exposures of an observation, 4 those in a c1d. `detector` is that of the name of an
    exposure, `start` its date (MJD) and `seconds` how long it took; 0 where the file does not tell.
    """

    pipeline: str
    level: int
    program: str
    observation: str
    grating: str
    filter: str
    exposure: str = ""
    detector: str = ""
    start: float = 0.0
    seconds: float = 0.0


@dataclass(eq=False, repr=False)
class ObservedSpectrum:
    """One extracted spectrum, detectors joined.

    Parameters
    ----------
    wavelength : ndarray, shape (m,)
        Vacuum Angstrom, increasing.
    flux : ndarray, shape (m,)
        In any unit per Angstrom or pixel.
    ivar : ndarray, shape (m,)
        Inverse variance as the reduction claims it.
    flagged : ndarray of bool, shape (m,)
        True where the pixel itself is bad.
    bad : ndarray of bool, shape (m,)
        True there and outside the range that is used.
    second_source : float
        S/N of the second brightest object in the same slit relative to this one, 0 if there is none.
    damage : str
        Why it could not be read (it has no pixels then), or why none of its pixels can be used.
    lsf : str
        Its line-spread function as `observed.lsf.parse_lsf` takes it; empty if the file does not tell.
    file, target : str
        Where it came from, and what it was pointed at there.
    medium : str
        'vacuum' or 'air': what the file or the user states that the wavelengths were given in; empty if nothing is
        stated, and they were taken for those in vacuum.
    position : tuple of float, optional
        Right ascension and declination of the star, degrees.
    exposures : Exposures, optional
        What it was extracted from; None if the file does not tell.
    frame : str
        Of its wavelengths and so of velocities: 'barycentric', or empty if nothing is stated.
    note : str
        What the reader did or left out that a user should know.
    """

    name: str
    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    flagged: np.ndarray
    bad: np.ndarray
    second_source: float = 0.0
    damage: str = ""
    lsf: str = ""
    file: str = ""
    target: str = ""
    medium: str = ""
    position: tuple[float, float] | None = None
    exposures: Exposures | None = None
    note: str = ""
    frame: str = ""

    def __repr__(self) -> str:
        if self.damage:
            return f"{self.name}: {'not used' if len(self.flux) else 'cannot be read'}"
        used = self.wavelength[~self.bad]
        stretch = f" from {used[0]:,.0f} to {used[-1]:,.0f} Å" if len(used) else ""
        return f"{self.name}: {self.n_good:,} good pixels{stretch}, S/N {self.snr:.0f} as claimed"

    @property
    def n_good(self) -> int:
        """Number of good pixels in the range that is used."""
        return int((~self.bad).sum())

    @property
    def snr(self) -> float:
        """Median signal-to-noise ratio per good pixel, as the reduction claims it."""
        good = ~self.bad
        return float(np.median(self.flux[good] * np.sqrt(self.ivar[good]))) if good.any() else 0.0

    @property
    def roughness(self) -> float:
        """Median absolute difference of neighbouring good pixels, relative to the flux around them."""
        good = ~self.bad
        if good.sum() < 2:
            return 0.0
        level = median_filter(self.flux[good], 51)
        return float(np.median(np.abs(np.diff(self.flux[good])) / np.abs(level[1:])))

    def within(self, settings: ObservedParams) -> ObservedSpectrum:
        """The same spectrum, of which also the settings' range alone is used."""
        low, high = settings.wavelength_range
        return replace(self, bad=self.bad | (self.wavelength < low) | (self.wavelength > high))

    def faults(self, settings: ObservedParams) -> list[str]:
        """Why the spectrum should not be used, with what was measured."""
        if self.damage:
            return [self.damage]
        return self.within(settings)._faults(settings)

    def _faults(self, settings: ObservedParams) -> list[str]:
        found = []
        if self.n_good < settings.min_pixels:
            found.append(f"only {self.n_good} good pixels in the range used, {settings.min_pixels} are needed")
        elif self.snr < settings.min_snr:
            found.append(f"S/N {self.snr:.0f} per pixel, below {settings.min_snr:g}")
        elif self.roughness > max(settings.max_roughness, 2 * _OF_NOISE / self.snr):
            limit = f"{max(settings.max_roughness, 2 * _OF_NOISE / self.snr):.1%}"
            found.append(f"saw-tooth extraction: neighbours differ by {self.roughness:.1%}, more than {limit}")
        if self.second_source > settings.max_second_source:
            found.append(f"a second source in the slit, with {self.second_source:.0%} of the S/N")
        return found


def as_observed(
    name: str,
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    flagged: np.ndarray,
    settings: ObservedParams,
    second_source: float,
    where: str,
    lsf: str = "",
) -> ObservedSpectrum:
    """An observed spectrum from a file's arrays: sorted, with everything flagged that cannot be a star's light."""
    order = np.argsort(wavelength)
    order = order[(wavelength[order] > 0) & np.isfinite(wavelength[order])]
    wavelength, flux, ivar, flagged = (array[order] for array in (wavelength, flux, ivar, flagged))
    if 2 * len(np.unique(wavelength)) < len(wavelength) or len(wavelength) < 2:
        raise DataError(f"{where}: {name} has {len(np.unique(wavelength))} wavelengths for {len(wavelength)} pixels")
    if wavelength[-1] < 100:
        raise DataError(f"{where}: {name} ends at wavelength {wavelength[-1]:g}; Angstrom are expected, not microns")
    low, high = settings.wavelength_range
    flux = np.where(np.abs(flux) < 1e30, flux, np.nan)  # what is larger is not a flux in any unit
    flagged = flagged | ~(ivar > 0) | ~(ivar < 1e60) | ~(flux > 0)
    flux = np.where(np.isfinite(flux) & (flux > 0), flux, 0.0)
    flagged |= _outliers(flux, flagged)
    bad = flagged | (wavelength < low) | (wavelength > high)
    damage = "" if (ivar > 0).any() else f"none of its {len(ivar)} errors is a number above 0"
    damage = damage or ("" if (flux > 0).any() else f"none of its {len(flux)} fluxes is a number above 0")
    ivar = np.where(flagged, 0.0, ivar)
    return ObservedSpectrum(
        name, wavelength, flux, ivar, flagged, bad, second_source, damage, lsf, file=where, target=name
    )


def _outliers(flux: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Good pixels far above the running median, or below it by more than any line of a giant at this resolution."""
    out = np.zeros(len(flux), bool)
    good = np.flatnonzero(~bad)
    if len(good) > 51:
        off = flux[good] / median_filter(flux[good], 15) - 1
        out[good] = (off > 6 * np.median(np.abs(off)) / MAD_PER_SIGMA) | (off < -0.25)
    return out


def edge_mask(spectrum: ObservedSpectrum, shortest: int = _MIN_ALONE) -> np.ndarray:
    """Which pixels of a spectrum are not to be used: also the ends of each detector, where extractions bend."""
    bad, good = spectrum.bad.copy(), np.flatnonzero(~spectrum.bad)
    parts = detectors(spectrum.wavelength[good])
    for part in parts:
        alone = len(part) >= shortest or len(parts) == 1
        bad[good[np.concatenate([part[:_EDGE], part[-_EDGE:]]) if alone else part]] = True
    return bad


def detectors(wave: np.ndarray) -> list[np.ndarray]:
    """Positions of the good pixels of each detector."""
    return np.split(np.arange(len(wave)), np.flatnonzero(np.diff(wave) > _GAP) + 1)
