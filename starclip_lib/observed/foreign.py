"""Spectra that other programs have read: specutils, astropy tables, arrays with units; and ours for specutils."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from astropy.table import Table

from starclip_lib.data.fits_files import SPECTRUM_BYTES
from starclip_lib.errors import DataError, one_line
from starclip_lib.files import damage_refused, regular_file, safe_name
from starclip_lib.observed.spectrum import ObservedSpectrum, as_observed
from starclip_lib.settings.evaluation import ObservedParams

if TYPE_CHECKING:
    import specutils

_PER_WAVELENGTH = (u.W / u.m**2 / u.um, u.W / u.m**2 / u.um / u.sr)
_PER_PIXEL = (u.dimensionless_unscaled, u.electron, u.count, u.DN, u.adu, u.photon)
_COLUMNS = {
    "wavelength": ("wavelength", "wave", "lambda", "spectral_axis", "frequency"),
    "flux": ("flux", "flux_density"),
    "error": ("error", "flux_error", "fluxerr", "err", "sigma", "uncertainty"),
    "mask": ("mask", "bad"),
}
_FARTHEST = 1500.0  # km/s: no star is as fast, and none can be measured that is said to be


def from_memory(source: Any, settings: ObservedParams, air: bool = False) -> list[ObservedSpectrum] | None:
    """Spectra from what is in memory.

    Parameters
    ----------
    source : specutils.Spectrum, astropy table, tuple of Quantity, or list of these
        Of a tuple: wavelength (or frequency), flux, standard deviation, and if wanted a mask that is true where a pixel
        must not be used.  Of a table: columns of these names.
    settings : ObservedParams
        Which wavelengths are used.
    air : bool
        Whether wavelengths are those in air.

    Returns
    -------
    list of ObservedSpectrum, or None
        None if it is nothing of this kind.

    Raises
    ------
    DataError
        Naming what has no unit, or one that cannot be used.
    """
    if isinstance(source, Table):
        return [_of_table(source, settings, air)]
    if hasattr(source, "spectral_axis") and hasattr(source, "flux"):
        return _of_specutils(source, settings, air)
    if isinstance(source, tuple) and any(isinstance(part, np.ndarray) for part in source):
        if len(source) not in (3, 4):
            raise DataError(
                f"a spectrum of arrays is (wavelength, flux, error) or with a mask, not {len(source)} arrays"
            )
        return [_observed("spectrum", *source, settings=settings, air=air)]
    if isinstance(source, list | tuple) and source:
        parts = [from_memory(one, settings, air) for one in source]
        if None not in parts:
            return [spectrum for part in parts for spectrum in part or ()]
    return None


def from_file(path: Path, settings: ObservedParams) -> list[ObservedSpectrum]:
    """The spectra of a file of a kind that specutils knows and this project does not, such as ECSV or SDSS spec files.

    Parameters
    ----------
    path : Path
    settings : ObservedParams
        Which wavelengths are used.

    Returns
    -------
    list of ObservedSpectrum

    Raises
    ------
    DataError
        Naming the file, if specutils is not installed or does not recognise it, or what is missing in it.
    """
    regular_file(path, limit=SPECTRUM_BYTES)
    unknown = f"{path} is no PypeIt spec1d, STScI x1d or SpeX file"
    try:
        from specutils import SpectrumList
    except ImportError:
        raise DataError(
            f"{unknown}; what specutils knows is read, too, once it is there: pip install 'starclip[specutils]'"
        ) from None
    with (
        damage_refused(path, "is no PypeIt spec1d, STScI x1d or SpeX file, and specutils cannot read it"),
        warnings.catch_warnings(action="ignore"),  # of units and headers that nobody here wrote
    ):
        read = SpectrumList.read(str(path))
    spectra = [one for spectrum in read for one in _of_specutils(spectrum, settings, air=False, unnamed=path.stem)]
    for spectrum in spectra:
        spectrum.file = str(path)
    return spectra


def as_specutils(spectrum: ObservedSpectrum) -> specutils.Spectrum:
    """A spectrum for specutils, and what builds on it, such as jdaviz.

    Parameters
    ----------
    spectrum : ObservedSpectrum

    Returns
    -------
    specutils.Spectrum
        Vacuum Angstrom, flux without unit (per Angstrom), inverse variances, masked where pixels are bad.
    """
    from astropy.nddata import InverseVariance
    from specutils import Spectrum

    return Spectrum(
        spectral_axis=spectrum.wavelength * u.AA,
        flux=spectrum.flux * u.dimensionless_unscaled,
        uncertainty=InverseVariance(spectrum.ivar),
        mask=spectrum.bad,
        meta={"name": spectrum.name, "file": spectrum.file},
    )


def vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Wavelengths in vacuum of wavelengths in standard air, both in Angstrom (Ciddor 1996, Applied Optics 35, 1566).

    Parameters
    ----------
    wavelength : ndarray

    Returns
    -------
    ndarray
    """
    in_vacuum = wavelength
    for _ in range(3):  # the index of refraction is a function of the wavelength in vacuum
        wavenumber2 = (1e4 / in_vacuum) ** 2
        in_vacuum = wavelength * (1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2))
    return in_vacuum


def _of_table(table: Table, settings: ObservedParams, air: bool) -> ObservedSpectrum:
    there = {name.lower(): name for name in table.colnames}
    name, given = str(table.meta.get("name", table.meta.get("OBJECT", "spectrum"))), {}
    for part, names in _COLUMNS.items():
        column = next((there[one] for one in names if one in there), None)
        if column is not None:
            given[part] = table[column] if part == "mask" else _quantity(table[column], f"column {column} of {name}")
        elif part != "mask":
            raise DataError(f"the table of {name} has no column {part}; it has {', '.join(table.colnames) or 'none'}")
    return _observed(name, **given, settings=settings, air=air)


def _of_specutils(
    spectrum: Any, settings: ObservedParams, air: bool, unnamed: str = "spectrum"
) -> list[ObservedSpectrum]:
    meta = getattr(spectrum, "meta", None) or {}
    header = meta.get("header") or {}
    name = next((str(x[key]) for x in (meta, header) for key in ("name", "OBJECT", "TARGNAME") if x.get(key)), unnamed)
    velocity = getattr(spectrum, "radial_velocity", None)
    if velocity is not None and (np.abs(velocity.to_value(u.km / u.s)) > _FARTHEST).any():
        raise DataError(f"{name} is said to move by {np.max(velocity.to(u.km / u.s)):.0f}: no star does; take it off")
    if spectrum.uncertainty is None:
        raise DataError(f"{name} has no uncertainty; give one, such as StdDevUncertainty(0.01 * flux)")
    axis = u.Quantity(spectrum.spectral_axis)
    flux = u.Quantity(spectrum.flux)
    try:
        with np.errstate(divide="ignore"):  # an inverse variance of 0 is an infinite error
            error = spectrum.uncertainty.represent_as(StdDevUncertainty)
    except TypeError:
        kind = type(spectrum.uncertainty).__name__
        raise DataError(f"{name}: nobody can tell what its {kind} means; give a StdDevUncertainty") from None
    error = u.Quantity(error.array, error.unit or flux.unit)
    mask = np.zeros(flux.shape, bool) if spectrum.mask is None else np.broadcast_to(spectrum.mask, flux.shape)
    air = air or str(header.get("CTYPE1", "")).startswith("AWAV")
    last = getattr(spectrum, "spectral_axis_index", -1)  # which axis of the flux is the spectral one
    rows = [np.moveaxis(part, -1 if last is None else last, -1).reshape(-1, len(axis)) for part in (flux, error, mask)]
    return [
        _observed(name if len(rows[0]) == 1 else f"{name}_{number}", axis, *parts, settings=settings, air=air)
        for number, parts in enumerate(zip(*rows, strict=True), start=1)
    ]


def _observed(
    name: str, wavelength: Any, flux: Any, error: Any, mask: Any = None, *, settings: ObservedParams, air: bool
) -> ObservedSpectrum:
    wavelength, flux, error = (
        _quantity(value, f"{what} of {name}")
        for value, what in ((wavelength, "the wavelength"), (flux, "the flux"), (error, "the error"))
    )
    try:
        mask = np.zeros(flux.shape, bool) if mask is None else np.asarray(mask)
    except ValueError:
        raise DataError(f"the mask of {name} has rows of several lengths") from None
    if mask.dtype.kind not in "bui":
        raise DataError(f"the mask of {name} holds {mask.dtype}; expected true where a pixel must not be used")
    mask = mask.astype(bool)
    if wavelength.ndim != 1 or not wavelength.shape == flux.shape == error.shape == mask.shape:
        shapes = ", ".join(str(part.shape) for part in (wavelength, flux, error, mask))
        raise DataError(f"wavelength, flux, error and mask of {name} have shapes {shapes}; give four of one length")
    try:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            angstrom = wavelength.to_value(u.AA, u.spectral())
    except u.UnitConversionError:
        raise DataError(
            f"the wavelength of {name} is in {wavelength.unit}, which is no wavelength or frequency"
        ) from None
    equal = u.spectral_density(wavelength)
    for unit in (*_PER_WAVELENGTH, *_PER_PIXEL):
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            try:
                flux, error = flux.to_value(unit, equal), error.to_value(unit, equal)
                break
            except u.UnitConversionError:
                continue
    else:
        raise DataError(
            f"flux and error of {name} are in {flux.unit} and {error.unit}; expected flux densities, or counts"
        )
    positive = flux[(flux > 0) & np.isfinite(flux)]
    level = np.median(positive) if len(positive) else 1.0  # of W/m2/um little is left in numbers
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ivar = np.where(error > 0, 1 / (error / level) ** 2, 0.0)
    angstrom = vacuum(angstrom) if air else angstrom
    return as_observed(safe_name(name), angstrom, flux / level, ivar, mask, settings, 0.0, one_line(name))


def _quantity(value: Any, what: str) -> u.Quantity:
    """Numbers with a unit; numbers without one are refused."""
    unit = getattr(value, "unit", None)
    if unit is None:
        raise DataError(
            f"{what} has no unit; say it, such as wavelength * u.micron (u.dimensionless_unscaled: relative)"
        )
    if not isinstance(unit, u.UnitBase) or isinstance(unit, u.UnrecognizedUnit):
        raise DataError(f"{what} is in {unit}, which is no linear unit; convert it first")
    given = np.ma.asarray(getattr(value, "value", value))
    if given.dtype.kind not in "buif":
        raise DataError(f"{what} holds {given.dtype}, expected numbers")
    values: np.ndarray = np.ma.filled(given.astype(float), np.nan)
    return u.Quantity(values, unit)
