"""One observed spectrum, and what can be said against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from starclip_lib.settings.evaluation import ObservedParams


@dataclass(eq=False, repr=False)
class ObservedSpectrum:
    """One extracted spectrum, detectors joined.

    Parameters
    ----------
    name : str
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
        Why its file could not be read; it has no pixels then.
    """

    name: str
    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    flagged: np.ndarray
    bad: np.ndarray
    second_source: float = 0.0
    damage: str = ""

    def __repr__(self) -> str:
        if self.damage:
            return f"{self.name}: cannot be read"
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

    def faults(self, settings: ObservedParams) -> list[str]:
        """Why the spectrum should not be used, with what was measured.

        Parameters
        ----------
        settings : ObservedParams

        Returns
        -------
        list of str
            Empty if it is good.
        """
        if self.damage:
            return [self.damage]
        found = []
        if self.n_good < settings.min_pixels:
            found.append(f"only {self.n_good} good pixels in the range used, {settings.min_pixels} are needed")
        elif self.snr < settings.min_snr:
            found.append(f"S/N {self.snr:.0f} per pixel, below {settings.min_snr:g}")
        elif self.roughness > settings.max_roughness:
            limit = f"{settings.max_roughness:.1%}"
            found.append(f"saw-tooth extraction: neighbours differ by {self.roughness:.1%}, more than {limit}")
        if self.second_source > settings.max_second_source:
            found.append(f"a second source in the slit, with {self.second_source:.0%} of the S/N")
        return found
