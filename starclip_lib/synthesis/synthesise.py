"""From labels to a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.support.errors import DataError, StarclipError
from starclip_lib.synthesis import grid as grids
from starclip_lib.synthesis import physics
from starclip_lib.synthesis.atmosphere import LOG_TAU, Atmosphere, build
from starclip_lib.synthesis.broadening import broadened
from starclip_lib.synthesis.chemistry import chemistry
from starclip_lib.synthesis.constants import SECOND_RADIATION
from starclip_lib.synthesis.lines import LineList, as_line_list
from starclip_lib.synthesis.opacity import continuous
from starclip_lib.synthesis.structure import check_labels, temperatures

try:
    from starclip_lib.synthesis import hydrogen, line_opacity, transfer
except ModuleNotFoundError as error:
    if error.name != "numba":
        raise
    raise StarclipError(
        "the synthesis needs numba, which is not installed: pip install 'starclip[synthesis]'"
    ) from None

_LINE_DEPTHS = int(np.searchsorted(LOG_TAU, 1.05))  # below, no line is seen
_MARGIN = 60.0  # Angstrom: the wings of lines beyond the ends that reach in
MACROTURBULENCE = 4.0  # km/s, where the Gaussian has fallen to 1/e


@dataclass(frozen=True, eq=False)
class SyntheticSpectrum:
    """A synthesised spectrum, before an instrument sees it.

    Parameters
    ----------
    wavelength : ndarray, shape (m,)
        Vacuum Angstrom, in equal steps of ln(wavelength) of 1/150,000.
    flux : ndarray, shape (m,)
        Relative to the true continuum.
    vmic : float
        Microturbulence it was made with, km/s.
    """

    wavelength: np.ndarray
    flux: np.ndarray
    vmic: float
    atmosphere: Atmosphere

    def sampled(
        self, wavelength: np.ndarray, fwhm: float | np.ndarray, macroturbulence: float = MACROTURBULENCE
    ) -> np.ndarray:
        """The spectrum as a Gaussian line-spread function shows it.

        Raises
        ------
        DataError
            If the synthesis does not reach that far, or is too coarse for so sharp a spectrum.
        """
        width = np.interp(self.wavelength, wavelength, np.broadcast_to(fwhm, wavelength.shape))
        return broadened(self.wavelength, self.flux, wavelength, width, macroturbulence)

    def observed(self, instrument: Instrument, macroturbulence: float = MACROTURBULENCE) -> np.ndarray:
        """The spectrum on the grid of an instrument, without noise."""
        fwhm = instrument.fwhm
        return self.sampled(instrument.wavelength, fwhm, macroturbulence)


def _checked_labels(labels: np.ndarray) -> np.ndarray:
    try:
        array = np.asarray(labels, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (N_LABELS,) or not np.isfinite(array).all():
        raise DataError(f"labels of one star are expected: {N_LABELS} finite numbers, {', '.join(LABELS)}")
    check_labels(array[TEFF], array[LOGG], array[FE])
    worst = int(np.abs(array[LOGG + 1 :]).argmax()) + LOGG + 1
    if abs(array[worst]) > 5:
        raise DataError(f"[{LABELS[worst]}/H] is {array[worst]:g}; abundances are logarithmic, on the Sun's scale")
    return array


def synthesise(
    labels: np.ndarray,
    *,
    vmic: float | None = None,
    lines: str | Path | LineList | pd.DataFrame = "arcturus",
    wavelengths: tuple[float, float] = (grids.FIRST, grids.LAST),
    structure: str = "marcs",
    van_der_waals: float = 0.0,
    temperature_gradient: float = 0.0,
    surface_temperature: float = 0.0,
    continuous_opacity: float = 0.0,
    strengths: Mapping[str, float] | None = None,
) -> SyntheticSpectrum:
    """The LTE spectrum of a star: a plane-parallel atmosphere, its lines, and the flux that leaves it.

    docs/synthesis.md describes physics and sources.  A whole spectrum needs 60 MB of memory.

    Parameters
    ----------
    labels : ndarray, shape (20,)
        In the order of `LABELS`, in K and dex.
    vmic : float, optional
        Microturbulence in km/s; from log g (Holtzman et al. 2018) if not given.
    lines : str, Path, LineList or DataFrame
        'arcturus' (calibrated on the atlas of Arcturus), 'apogee' (on APOGEE's chips only), 'listed' (as published),
        or lines of your own, also as the path of a CSV file (`as_line_list`).
    wavelengths : tuple of float
        First and last, vacuum Angstrom.
    structure : str
        'marcs' (temperatures of the MARCS grid) or 'seven' (of seven models, as in the emulator abinitio-2).
    van_der_waals : float
        Added to log10 of the van der Waals widths of atomic lines.
    temperature_gradient : float
        Added to dT / dlog tau, K/dex, from log tau -3 to 1 around -1.
    surface_temperature : float
        Added to temperatures above log tau -3, K; half of it at -2, nothing below -1.
    continuous_opacity : float
        Added to log10 of the continuous opacity.
    strengths : mapping of str to float, optional
        Added to log gf of groups of lines (`physics.GROUPS`): {'CN': 0.05}, or where: {'iron_low chips': -0.1}.

    Raises
    ------
    DataError
        If labels or physics lie outside what the atmospheres reach, or a list of lines is damaged.
    ConfigError
        If a structure, a list or a group of lines is unknown.
    """
    labels = _checked_labels(labels)
    try:
        first, last = (float(end) for end in wavelengths)
    except (TypeError, ValueError):
        raise DataError(f"wavelengths are {wavelengths!r:.60}; the first and the last are expected, Angstrom") from None
    chosen = grids.grid(first, last)
    listed = as_line_list(lines).between(first - _MARGIN, last + _MARGIN)
    listed = physics.changed(listed, physics.checked("van_der_waals", van_der_waals), strengths)
    vmic = physics.microturbulence(labels[LOGG]) if vmic is None else physics.checked("vmic", vmic)
    scale = 10 ** physics.checked("continuous_opacity", continuous_opacity)
    temperature = temperatures(structure)(labels[TEFF], labels[LOGG], labels[FE]) + physics.temperature_change(
        physics.checked("temperature_gradient", temperature_gradient),
        physics.checked("surface_temperature", surface_temperature),
    )
    contents = chemistry()
    atmosphere = build(temperature, 10 ** labels[LOGG], contents.abundances(labels), contents, scale)

    wavelength = chosen.wavelength
    continuum = scale * continuous(grids.COARSE, temperature, atmosphere.gas, contents)
    opacity = line_opacity.spread(continuum, *grids.coarse_cells(wavelength))
    line_opacity.add_lines(opacity, continuum, chosen, listed, atmosphere, contents, vmic, _LINE_DEPTHS)
    hydrogen.add_paschen(opacity, chosen, atmosphere, contents, _LINE_DEPTHS)
    hydrogen.add_brackett(opacity, chosen, atmosphere, contents, vmic, _LINE_DEPTHS, listed.brackett)

    standard = atmosphere.mass_opacity * atmosphere.gas.density
    flux = transfer.emergent_flux(opacity, standard, LOG_TAU, temperature, wavelength)
    smooth = transfer.emergent_flux(continuum, standard, LOG_TAU, temperature, grids.COARSE, close=False)
    # the continuum over a Planck function of Teff is nearly straight
    bright, dim = (np.exp(SECOND_RADIATION / (w * labels[TEFF])) for w in (grids.COARSE, wavelength))
    level = np.exp(np.interp(wavelength, grids.COARSE, np.log(smooth * bright))) / dim
    return SyntheticSpectrum(wavelength, flux / level, vmic, atmosphere)
