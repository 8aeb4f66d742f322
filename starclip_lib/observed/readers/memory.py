"""Spectra in memory: specutils, astropy tables, DataFrames, dicts and arrays with units; and ours for specutils."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.io.registry import IORegistryError
from astropy.nddata import StdDevUncertainty
from astropy.table import Table

from starclip_lib.observed.readers.instrument import stated_medium
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import Kind, Options, each, from_quantities, stem
from starclip_lib.observed.readers.tables import spectrum_of, table_of_frame
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.storage.fits_files import SPECTRUM_BYTES
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import damage_refused, regular_file

if TYPE_CHECKING:
    import specutils

_FARTHEST = 1500.0  # km/s: no star is as fast, and none can be measured that is said to be
_UNNAMED = "spectrum"


def from_memory(source: Any, options: Options) -> list[ObservedSpectrum] | None:
    """Spectra from what is in memory; None if it is nothing of this kind.

    A tuple holds wavelength (or frequency), flux, standard deviation and, if wanted, a mask that is true where a pixel
    must not be used; tables, DataFrames and dicts have columns of these names.
    """
    if isinstance(source, Table):
        return [spectrum_of(source, _UNNAMED, options, _UNNAMED)]
    if isinstance(source, pd.DataFrame):
        table = table_of_frame(source, "the DataFrame")
        table.meta |= dict(source.attrs)
        return [spectrum_of(table, _UNNAMED, options, _UNNAMED)]
    if isinstance(source, Mapping):
        return [_of_mapping(source, options)]
    if hasattr(source, "spectral_axis") and hasattr(source, "flux"):
        return [row("") for row in of_specutils(source, options, _UNNAMED)]
    if isinstance(source, tuple) and any(isinstance(part, np.ndarray) for part in source):
        if len(source) not in (3, 4):
            raise DataError(
                f"a spectrum of arrays is (wavelength, flux, error) or with a mask, not {len(source)} arrays"
            )
        units = (options.wavelength_unit, options.flux_unit, options.flux_unit)
        parts = [_in_unit(part, unit) for part, unit in zip(source, units, strict=False)]
        return [from_quantities(_UNNAMED, *parts, *source[3:], options=options)]
    if isinstance(source, list | tuple) and source:
        found = [from_memory(one, options) for one in source]
        if None not in found:
            return [spectrum for part in found for spectrum in part or ()]
    return None


def _in_unit(values: Any, unit: str) -> Any:
    if not unit or getattr(values, "unit", None) is not None:
        return values
    return u.Quantity(np.ma.filled(np.ma.asarray(values, float), np.nan), "" if unit == "1" else unit)


def _of_mapping(source: Mapping[Any, Any], options: Options) -> ObservedSpectrum:
    """The spectrum of a dict of arrays; other entries, such as a name, describes it."""
    table = Table()
    lengths = {}
    for key, value in source.items():
        if isinstance(value, str) or np.ndim(value) == 0:
            table.meta[str(key)] = value
            continue
        try:
            array = value if isinstance(value, u.Quantity | np.ma.MaskedArray) else np.asarray(value)
        except ValueError:
            raise DataError(f"the dict's {key} has rows of several lengths; give one number a pixel") from None
        lengths[str(key)] = len(array)
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise DataError(f"the arrays of a dict have several lengths ({said}); give one number a pixel")
        table[str(key)] = array
    return spectrum_of(table, _UNNAMED, options, _UNNAMED)


def of_specutils(spectrum: Any, options: Options, unnamed: str) -> list[Callable[[str], ObservedSpectrum]]:
    """For each row of a Spectrum or SpectrumCollection what makes it an observed spectrum, given the file's name."""
    meta = _mapping(getattr(spectrum, "meta", None))
    header = _mapping(meta.get("header"))
    name = next(
        (str(x[key]).strip() for x in (meta, header) for key in ("name", "OBJECT", "TARGNAME") if x.get(key)), ""
    )
    name = name or unnamed
    velocity = getattr(spectrum, "radial_velocity", None)
    if velocity is not None and (np.abs(velocity.to_value(u.km / u.s)) > _FARTHEST).any():
        raise DataError(
            f"{name} has a radial velocity of {np.max(velocity.to(u.km / u.s)):.0f}: no star has; remove it"
        )
    if spectrum.uncertainty is None:
        raise DataError(f"{name} has no uncertainty; give one, such as StdDevUncertainty(0.01 * flux)")
    axis, flux, error = u.Quantity(spectrum.spectral_axis), spectrum.flux, _deviation(spectrum, name)
    mask = np.zeros(flux.shape, bool) if spectrum.mask is None else np.asarray(spectrum.mask)
    if mask.shape != flux.shape:
        raise DataError(f"the mask of {name} has shape {mask.shape}, its flux {flux.shape}; give one value a pixel")
    last = getattr(spectrum, "spectral_axis_index", -1)  # which axis of the flux is the spectral one
    along = -1 if last is None else last
    n = axis.shape[-1] if axis.ndim else 0
    if not n:
        raise DataError(f"{name} is empty: it has no pixels")
    rows = [np.moveaxis(part, along, -1).reshape(-1, n) for part in (flux, error, mask)]
    axes = np.broadcast_to(axis, (len(rows[0]), n), subok=True) if axis.ndim == 1 else axis.reshape(-1, n)
    stated = stated_medium(header) or stated_medium(meta)
    return [
        partial(_row, name if len(rows[0]) == 1 else f"{name}_{number}", axes[number - 1], parts, options, stated)
        for number, parts in enumerate(zip(*rows, strict=True), start=1)
    ]


def _row(name: str, axis: u.Quantity, parts: Any, options: Options, stated: str, where: str) -> ObservedSpectrum:
    return from_quantities(name, axis, *parts, options=options, stated=stated, where=where or one_line(name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if hasattr(value, "get") and hasattr(value, "keys") else {}


def _deviation(spectrum: Any, name: str) -> u.Quantity:
    negative = int((np.asarray(spectrum.uncertainty.array) < 0).sum())
    if negative:
        raise DataError(f"{negative} uncertainties of {name} are negative; give NaN where there is none")
    try:
        with np.errstate(divide="ignore", invalid="ignore"):  # an inverse variance of 0 is an infinite error
            error = spectrum.uncertainty.represent_as(StdDevUncertainty)
    except (TypeError, ValueError):
        kind = type(spectrum.uncertainty).__name__
        raise DataError(f"{name}: the meaning of its {kind} is not known; give a StdDevUncertainty") from None
    return u.Quantity(error.array, error.unit or spectrum.flux.unit)


def as_specutils(spectrum: ObservedSpectrum) -> specutils.Spectrum:
    """A spectrum for specutils, and what builds on it, such as jdaviz.

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


def _specutils_may_know(look: Look) -> bool:
    """A FITS file with a one-dimensional image, or a table with a column of fluxes."""
    return look.form == FITS and (
        any("flux" in name.lower() for name in look.table_columns)
        or any(header.get("NAXIS") == "1" for header in look.headers)
    )


def read_with_specutils(path: Path, options: Options) -> list[ObservedSpectrum]:
    """The spectra of a file of a kind that only specutils knows; DataError if it does not, or is not installed."""
    regular_file(path, limit=SPECTRUM_BYTES)
    unknown = f"{path} is not of a kind that is read (PypeIt spec1d, STScI x1d, SpeX, a table with wavelength and flux)"
    try:
        from specutils import SpectrumList
    except ImportError:
        raise DataError(f"{unknown}; specutils knows more: pip install 'starclip[specutils]'") from None
    with (
        damage_refused(path, f"{unknown.removeprefix(f'{path} ')}, and specutils cannot read it"),
        warnings.catch_warnings(action="ignore"),  # of units and headers in files of others
    ):
        try:
            read = SpectrumList.read(str(path))
        except IORegistryError:
            raise DataError(f"{unknown}, and specutils does not know it either") from None
    base = stem(path)
    named = [(base if len(read) == 1 else f"{base}_{number}", one) for number, one in enumerate(read, start=1)]
    try:
        rows = [(name, row) for name, one in named for row in of_specutils(one, options, name)]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return each(path, rows, lambda name, row: row(str(path)))


SPECUTILS = Kind("files that specutils knows", _specutils_may_know, read_with_specutils)
