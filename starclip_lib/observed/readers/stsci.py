"""Extracted spectra of the JWST pipeline: x1d, x1dints and c1d, with one table a spectrum or one row a spectrum."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from starclip_lib.observed.identity import STSCI, jwst_exposures
from starclip_lib.observed.readers.instrument import (
    check_instrument,
    grating_lsf,
    stated_medium,
    text,
    velocity_frame,
    with_correction,
)
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import Kind, Options, each, from_quantities, in_vacuum, stem
from starclip_lib.observed.spectrum import ObservedSpectrum, as_observed
from starclip_lib.physics.instruments import MAD_PER_SIGMA
from starclip_lib.storage.fits_files import checked_columns, opened_fits
from starclip_lib.storage.formats import X1D
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import safe_name

_TABLES = ("EXTRACT1D", "COMBINE1D")
_ONE_TARGET = ("NRS_FIXEDSLIT", "NRS_BRIGHTOBJ", "NRS_IFU", "NRS_AUTOFLAT")  # modes that point at one star
_NO_NAME = re.compile(r"\d*|S\d+[AB]\d", re.IGNORECASE)  # what the pipeline calls a source of which it knows no name
_OUTLYING = 5.0  # standard deviations
_SAME = 1e-6  # relative difference of wavelengths that are the same pixel's

Arrays = dict[str, np.ndarray]
_MSAEXP_UNITS = {"wave": "um", "flux": "uJy", "err": "uJy"}


@dataclass(frozen=True, eq=False)
class _Table:
    """A spectrum's numbers in a file: one table, or one row of a table of vectors."""

    hdu: fits.BinTableHDU
    row: int | None
    source: str
    slit: str
    integration: bool
    length: int | None = None
    position: tuple[float, float] | None = None

    def columns(self, where: str) -> Arrays:
        """Wavelength in Angstrom, flux per wavelength and its error in one unit, and what must not be used."""
        table = self.hdu
        if not isinstance(table, fits.BinTableHDU):
            raise DataError(f"{where} is not a table")
        taken = slice(None) if self.row is None else self.row
        columns = checked_columns(
            table.columns.names, lambda name: np.asarray(table.data[name])[taken][: self.length], X1D, where
        )
        error = columns.get("FLUX_ERROR", columns.get("ERROR"))
        if error is None:
            raise DataError(f"{where} has no column FLUX_ERROR or ERROR")
        unit = {column.name.upper(): column.unit for column in table.columns}
        angstrom = _unit(unit["WAVELENGTH"] or "um", "Angstrom", f"{where}: the wavelength")
        jansky = _unit(unit["FLUX"] or "Jy", "Jy", f"{where}: the flux")
        with np.errstate(over="ignore", invalid="ignore"):
            wave = columns["WAVELENGTH"] * angstrom
            per_wavelength = jansky * (12000.0 / np.maximum(wave, 1.0)) ** 2  # F_lambda ~ F_nu / lambda^2
            return {
                "wave": wave,
                "flux": columns["FLUX"] * per_wavelength,
                "error": np.where(error > 0, error * per_wavelength, np.nan),
                "bad": columns["DQ"].astype(np.int64) & 1 == 1,
            }


def _recognises(look: Look) -> bool:
    names = look.extensions("EXTNAME")
    return any(name in names for name in _TABLES) or (look.form == FITS and bool(re.search(r"(x|c)1d", look.name)))


def _read(path: Path, options: Options) -> list[ObservedSpectrum]:
    with opened_fits(path) as file:
        header = file[0].header
        check_instrument(header, path)
        lsf = grating_lsf(header, path)
        hdus = [hdu for hdu in file[1:] if hdu.name in _TABLES]
        if not hdus:
            raise DataError(f"{path}: no EXTRACT1D or COMBINE1D table in it; is it an STScI x1d or c1d file?")
        sources = _sources(header, hdus, path)

        def read(name: str, parts: list[_Table]) -> ObservedSpectrum:
            arrays, note = _joined([part.columns(f"{path}: the table of {name}") for part in parts], parts)
            wave, medium = in_vacuum(arrays["wave"], stated_medium(header) or "vacuum", options)
            position = _position(header, parts[0])
            frame, factor = velocity_frame((parts[0].hdu.header, header), position)
            wave = wave * factor
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                ivar = np.where(arrays["error"] > 0, 1 / arrays["error"] ** 2, 0.0)
            made = as_observed(name, wave, arrays["flux"], ivar, arrays["bad"], options.settings, 0.0, str(path), lsf)
            made.target = safe_name(parts[0].source)
            made.medium, made.note, made.position, made.frame = medium, with_correction(note, factor), position, frame
            made.exposures = jwst_exposures(STSCI, path.name, header, 4 if hdus[0].name == "COMBINE1D" else 2)
            return made

        return each(path, sources, read)


def _sources(header: fits.Header, hdus: list[fits.BinTableHDU], path: Path) -> list[tuple[str, list[_Table]]]:
    """The spectra of a file by name: detectors and integrations of one star belong together, its slits do not."""
    tables = [
        table for number, hdu in enumerate(hdus, start=1) for table in _rows(header, hdu, path, number, len(hdus))
    ]
    groups: dict[tuple[str, str], list[_Table]] = {}
    for table in tables:
        groups.setdefault((table.source, table.slit), []).append(table)
    slits: dict[str, int] = {}
    for source, _ in groups:
        slits[source] = slits.get(source, 0) + 1
    return [
        (safe_name(source if slits[source] == 1 else f"{source}_{slit or number}"), group)
        for number, ((source, slit), group) in enumerate(groups.items(), start=1)
    ]


def _rows(header: fits.Header, hdu: fits.BinTableHDU, path: Path, number: int, of: int) -> Iterator[_Table]:
    """The spectra of one table: itself, or its rows if they are vectors (of sources, or of integrations)."""
    own = hdu.header
    names = {name.upper() for name in hdu.columns.names} if isinstance(hdu, fits.BinTableHDU) else set()
    is_vector = "WAVELENGTH" in names and _width(hdu, "WAVELENGTH") > 1
    integrations = bool(text(own, "INT_NUM", "TDB-MID")) or "INT_NUM" in names
    one_target = text(header, "EXP_TYPE") in _ONE_TARGET or bool(text(header, "FXD_SLIT"))
    slit = text(own, "SLTNAME") if one_target else ""
    if not is_vector or "SOURCE_ID" not in names or integrations:
        place = 0 if of == 1 or integrations else number
        source = _source_name(header, own, text(own, "SOURCEID"), one_target, path, place)
        for row, length in _lengths(hdu) if is_vector else [(None, None)]:
            yield _Table(hdu, row, source, slit, integrations or is_vector, length, _place(own, "SRCRA", "SRCDEC"))
        return
    for row, length in _lengths(hdu):
        values = {name.upper(): hdu.data[name][row] for name in hdu.columns.names if name.upper().startswith("SOURCE_")}
        source = _source_name(
            header, {}, str(values["SOURCE_ID"]).strip(), one_target and len(hdu.data) == 1, path, number
        )
        yield _Table(hdu, row, source, slit, integrations, length, _place(values, "SOURCE_RA", "SOURCE_DEC"))


def _width(hdu: fits.BinTableHDU, column: str) -> int:
    """How many numbers a cell of a column holds."""
    form = next(str(one.format) for one in hdu.columns if one.name.upper() == column)
    found = re.match(r"\d+", form)
    return int(found[0]) if found else 1


def _lengths(hdu: fits.BinTableHDU) -> list[tuple[int, int | None]]:
    """The rows of a table of vectors that hold a spectrum, and their lengths: vectors are filled up to one length."""
    if "N_ALONGDISP" not in {name.upper() for name in hdu.columns.names}:
        return [(row, None) for row in range(len(hdu.data))]
    return [(row, int(n)) for row, n in enumerate(hdu.data["N_ALONGDISP"]) if n > 0]


def _source_name(
    header: fits.Header, own: Mapping[str, Any], number: str, one_target: bool, path: Path, place: int
) -> str:
    """The star's name: SRCNAME, or TARGNAME where one star is pointed at; a number alone is the name of no star."""
    name = text(own, "SRCNAME", "SRCALIAS")
    target = text(header, "TARGNAME", "TARGPROP")
    if name and not _NO_NAME.fullmatch(name) and not (one_target and target):
        return name
    if one_target and target:
        return target
    program = text(header, "PROGRAM").lstrip("0")
    number = number or (name if _NO_NAME.fullmatch(name) else "")
    base = target or program or stem(path)
    is_mask = text(header, "EXP_TYPE") == "NRS_MSASPEC" or place
    if is_mask and number:
        return f"{program or target or stem(path)}_{number}"
    return base if not place or target else f"{base}_{place}"


def _joined(tables: list[Arrays], parts: list[_Table]) -> tuple[Arrays, str]:
    """One spectrum of tables: integrations of the same pixels averaged, then detectors one after the other."""
    grids: list[list[Arrays]] = []
    for table in tables:
        same = next((grid for grid in grids if _same_pixels(grid[0]["wave"], table["wave"])), None)
        if same is None:
            grids.append([table])
        else:
            same.append(table)
    averaged = [_average(grid) for grid in grids]
    most = max(len(grid) for grid in grids)
    what = "integrations" if any(part.integration for part in parts) else "extractions"
    note = f"{most} {what} of the same star averaged" if most > 1 else ""
    return {key: np.concatenate([table[key] for table in averaged]) for key in averaged[0]}, note


def _same_pixels(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and np.allclose(first, second, rtol=_SAME, atol=0, equal_nan=True)


def _average(tables: list[Arrays]) -> Arrays:
    """The mean of spectra of the same pixels, weighted by inverse variance; a pixel is bad where it is so in all.

    Three and more are brought to one level, and pixels off the median by 5 standard deviations are left out.
    """
    if len(tables) == 1:
        return tables[0]
    flux, error, bad = (np.stack([table[key] for table in tables]) for key in ("flux", "error", "bad"))
    usable = np.isfinite(flux) & np.isfinite(error) & ~bad
    if len(tables) > 2:
        flux, error = (array / _levels(np.where(usable, flux, np.nan)) for array in (flux, error))
        usable &= ~_discrepant(np.where(usable, flux, np.nan), error)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weight = np.where(usable, 1 / error**2, 0.0)
        total = weight.sum(axis=0)
        mean = (weight * np.where(usable, flux, 0.0)).sum(axis=0) / total
        return {"wave": tables[0]["wave"], "flux": mean, "error": 1 / np.sqrt(total), "bad": ~usable.any(axis=0)}


def _levels(flux: np.ndarray) -> np.ndarray:
    """Levels (n, 1) of n spectra of one star relative to their median; NaN where a pixel is unusable."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels without any value
        level = np.nanmedian(flux / np.nanmedian(flux, axis=0), axis=1, keepdims=True)
    return np.where(level > 0, level, 1.0)


def _discrepant(flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Pixels (n, m) of n spectra of one star that differ from the others, as cosmic rays do."""
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        off = np.abs(flux - np.nanmedian(flux, axis=0)) / error
        claimed = np.nanmedian(off) / MAD_PER_SIGMA  # 1 where the errors are right
    return off > _OUTLYING * max(claimed, 1.0)


def _position(header: fits.Header, table: _Table) -> tuple[float, float] | None:
    """Where the star is: the source's own place, or where the telescope pointed if it pointed at one star."""
    one_target = text(header, "EXP_TYPE") in _ONE_TARGET
    return table.position or (_place(header, "TARG_RA", "TARG_DEC") if one_target else None)


def _place(values: Mapping[str, Any], *keys: str) -> tuple[float, float] | None:
    ra, dec = (values.get(key) for key in keys)
    if not all(isinstance(x, int | float | np.number) and np.isfinite(x) for x in (ra, dec)) or not (ra or dec):
        return None
    return float(ra), float(dec)  # type: ignore[arg-type]  # they are numbers


def _unit(said: str, wanted: str, where: str) -> float:
    """How many of the wanted unit one of a table's unit is."""
    try:
        unit = u.Unit(said)
    except (ValueError, TypeError):
        raise DataError(f"{where} is in {said!r}, which is not a unit; expected {wanted} or a multiple of it") from None
    if not unit.is_equivalent(wanted):
        raise DataError(f"{where} is in {unit}, expected {wanted} or a multiple of it")
    return float(unit.to(wanted))


KIND = Kind("STScI x1d, x1dints, c1d", _recognises, _read)


def _is_msaexp(look: Look) -> bool:
    return look.form == FITS and "SPEC1D" in look.extensions("EXTNAME")


def _read_msaexp(path: Path, options: Options) -> list[ObservedSpectrum]:
    with opened_fits(path) as file:
        table = file["SPEC1D"]
        header = {**dict(file[0].header), **dict(table.header)}
        check_instrument(header, path)
        lsf = grating_lsf({"EXP_TYPE": "NRS_MSASPEC", **header}, path)
        columns = {name.lower(): name for name in table.columns.names}
        if missing := [name for name in _MSAEXP_UNITS if name not in columns]:
            raise DataError(f"{path}: the table SPEC1D has no column {missing[0]}; is it a spectrum of msaexp?")
        wave, flux, error = (
            np.array(table.data[columns[name]], float) * u.Unit(table.columns[columns[name]].unit or unit)
            for name, unit in _MSAEXP_UNITS.items()
        )
    frame, factor = velocity_frame([header], None)
    name, bad = text(header, "SRCNAME") or stem(path), ~(error.value > 0)
    spectrum = from_quantities(
        name, wave * factor, flux, error, bad, options=options, stated="vacuum", where=str(path), lsf=lsf
    )
    spectrum.frame, spectrum.note = frame, with_correction("", factor)
    return [spectrum]


MSAEXP = Kind("msaexp", _is_msaexp, _read_msaexp)
