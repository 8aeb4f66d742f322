"""Tables with columns of wavelength, flux and error: CSV, text, ECSV, VOTable and FITS."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from starclip_lib.observed.readers import look as shapes
from starclip_lib.observed.readers.instrument import nirspec_lsf, stated_medium, text
from starclip_lib.observed.readers.look import Header, Look, decoded, look
from starclip_lib.observed.readers.making import (
    Kind,
    Options,
    each,
    from_quantities,
    has_spectrum,
    plain_name,
    roles,
    spelled,
    stem,
)
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.storage.fits_files import SPECTRUM_BYTES, opened_fits
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused, read_bytes, regular_file

_UNITS = {"wavelength": "wavelength_unit", "flux": "flux_unit"}
_EXAMPLES = {"wavelength": "Angstrom", "flux": "Jy"}
_NAME_KEYS = ("name", "OBJECT", "TARGNAME", "TARGET", "TARGPROP", "object", "target", "star")
_AIR = re.compile(r"\bair\b|obs\.atmos|awav", re.IGNORECASE)
_VACUUM = re.compile(r"\bvac(uum)?\b", re.IGNORECASE)
_INTO = re.compile(r"\b(?:to|into) (air|vac)", re.IGNORECASE)  # 'converted from air to vacuum'
_OF_WAVELENGTHS = re.compile(r"wave|lambda|medium|vac", re.IGNORECASE)
_MISSING = ["--", "---", "...", "-", "INDEF", "masked"]
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")


def _fits_columns(header: Header) -> list[str]:
    return [value for key, value in header.items() if key.startswith("TTYPE")]


def _recognises(look: Look) -> bool:
    if look.form == shapes.FITS:
        return any(has_spectrum(_fits_columns(header)) for header in look.headers[1:])
    if look.form == shapes.TEXT and not look.columns:
        return look.n_numbers in (3, 4)  # wavelength, flux, error, and perhaps a mask
    return look.form in (shapes.TEXT, shapes.VOTABLE) and has_spectrum(look.columns)


def _read(path: Path, options: Options) -> list[ObservedSpectrum]:
    seen = look(regular_file(path, limit=SPECTRUM_BYTES))
    if seen.form == shapes.FITS:
        return _read_fits(path, options)
    table = _votable(path) if seen.form == shapes.VOTABLE else _text(path, seen)
    return each(path, [(stem(path), table)], lambda name, one: spectrum_of(one, name, options, str(path)))


def _read_fits(path: Path, options: Options) -> list[ObservedSpectrum]:
    """Every table with wavelength and flux; of a row of vectors (as ESO's archive has them) each row is a spectrum."""
    with opened_fits(path) as file:
        parts: list[tuple[str, Table]] = []
        lsf = ""
        hdus = [hdu for hdu in file[1:] if isinstance(hdu, fits.BinTableHDU) and has_spectrum(hdu.columns.names)]
        for number, hdu in enumerate(hdus, start=1):
            header = dict(file[0].header) | dict(hdu.header)
            base = text(header, "OBJECT", "TARGNAME", "TARGET", "TARGPROP") or stem(path)
            base = base if len(hdus) == 1 else f"{base}_{number}"
            lsf = nirspec_lsf(header, path)
            given = roles(hdu.columns.names)
            arrays = {name: np.asarray(hdu.data[name]) for name in dict.fromkeys(given.values())}
            wave = arrays[given.get("wavelength", given.get("log_wavelength", ""))]
            rows = range(len(wave)) if wave.ndim == 2 else [None]
            for row in rows:
                table = Table({key: array if row is None else array[row] for key, array in arrays.items()})
                table.meta["medium"] = _stated(header, hdu, given)
                for column in hdu.columns:
                    if column.name in table.colnames and column.unit:
                        table[column.name].unit = _parsed_unit(column.unit, column.name, path)
                parts.append((base if len(rows) == 1 else f"{base}_{(row or 0) + 1}", table))
        return each(path, parts, lambda name, one: spectrum_of(one, name, options, str(path), lsf))


def _stated(header: Mapping[str, Any], hdu: fits.BinTableHDU, given: Mapping[str, str]) -> str:
    """What a FITS table states of air and vacuum: cards, or the UCD and name of the column (as ESO's archive does)."""
    column = given.get("wavelength", given.get("log_wavelength", ""))
    place = hdu.columns.names.index(column) + 1
    ucd = str(header.get(f"TUCD{place}", ""))
    return stated_medium(header) or _said_of_air(ucd, column) or ("vacuum" if ucd == "em.wl" else "")


def _said_of_air(*texts: object) -> str:
    for one in texts:
        said = str(one or "").replace("_", " ")
        air, vacuum = bool(_AIR.search(said)), bool(_VACUUM.search(said))
        if air and vacuum:
            into = _INTO.search(said)
            air, vacuum = (into[1].lower() == word if into else False for word in ("air", "vac"))
        if air or vacuum:
            return "air" if air else "vacuum"
    return ""


def _parsed_unit(said: str, column: str, path: Path) -> u.UnitBase:
    try:
        return u.Unit(spelled(said))
    except ValueError:
        try:
            return u.Unit(said, format="cds")
        except ValueError:
            raise DataError(f"{path}: column {column} is in {said[:40]!r}, which is not a unit") from None


def _votable(path: Path) -> Table:
    with damage_refused(path, "cannot be read as a VOTable"):
        table = Table.read(path, format="votable")
    for column in table.columns.values():  # attributes of a column are kept apart from those of the table
        if "wave" in str(column.name).lower() or "em.wl" in str(column.meta.get("ucd", "")):
            said = (column.meta.get("ucd"), column.meta.get("utype"), column.description, column.name)
            table.meta.setdefault("medium", _said_of_air(*said))
    return table


def _text(path: Path, seen: Look) -> Table:
    """A table in text: ECSV with its units; else commas, semicolons, tabs or blanks, with or without a header."""
    content = read_bytes(path, SPECTRUM_BYTES)
    if content.lstrip(b"\xef\xbb\xbf").startswith(b"# %ECSV"):
        with damage_refused(path, "cannot be read as an ECSV table"):
            return Table.read(path, format="ascii.ecsv")
    names = seen.columns or ("wavelength", "flux", "error", "mask")[: seen.n_numbers]
    written = decoded(content)
    lines = written.splitlines()
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    separator = next((mark for mark in (",", ";", "\t") if mark in (rows or [""])[0]), r"\s+")
    decimal = "," if separator in ";\t" and all("," in row and "." not in row for row in rows[1:20]) else "."
    with damage_refused(path, "cannot be read as a table"):
        frame = pd.read_csv(
            io.StringIO(written), sep=separator, comment="#", header=None if seen.n_numbers else 0, decimal=decimal,
            names=list(names) if seen.n_numbers else None, skipinitialspace=True, na_values=_MISSING,
        )  # fmt: skip
    units = {} if seen.n_numbers or not len(frame) else _row_of_units(frame)
    table = table_of_frame(frame.iloc[1:] if units else frame, str(path))
    for column in set(units) & set(table.colnames):
        table[column].unit = _parsed_unit(units[column], column, path)
    comments = [line for line in lines[:50] if line.lstrip().startswith("#") and _OF_WAVELENGTHS.search(line)]
    table.meta["medium"] = _said_of_air(roles(table.colnames).get("wavelength"), *comments)
    return table


def _row_of_units(frame: pd.DataFrame) -> dict[str, str]:
    """The units in the first row below the names, if no number stands there."""
    first = {str(name).strip().strip("\"'"): value for name, value in frame.iloc[0].items()}
    texts = {name: value.strip() for name, value in first.items() if isinstance(value, str) and value.strip()}
    numbers = pd.Series([_FORTRAN.sub("e", one) for one in texts.values()])
    is_text = bool(texts) and pd.to_numeric(numbers, errors="coerce").isna().all()
    return texts if is_text and all(isinstance(value, str) or pd.isna(value) for value in first.values()) else {}


def table_of_frame(frame: pd.DataFrame, where: str) -> Table:
    """The columns of a spectrum in a DataFrame, as numbers."""
    table = Table()
    frame = frame.rename(columns=lambda name: str(name).strip().strip("\"'"))
    for column in dict.fromkeys(roles(map(str, frame.columns)).values()):
        values = frame[column]
        if values.dtype.kind not in "buif":  # Fortran's 1.0D-03
            values = values.map(lambda one: _FORTRAN.sub("e", one) if isinstance(one, str) else one)
        try:
            table[column] = pd.to_numeric(values).to_numpy()
        except (ValueError, TypeError):
            raise DataError(f"{where}: column {column} holds text, expected numbers") from None
    table.meta["columns"] = list(map(str, frame.columns))
    return table


def spectrum_of(table: Table, name: str, options: Options, where: str, lsf: str = "") -> ObservedSpectrum:
    """The spectrum of a table with one row a pixel, in the units of its columns or those that the user gives."""
    given = roles(table.colnames)
    said = next((str(table.meta[key]).strip() for key in _NAME_KEYS if str(table.meta.get(key) or "").strip()), name)
    in_memory = where == name
    place = f"the table of {said}" if in_memory else where
    columns = ", ".join(map(str, table.meta.get("columns", table.colnames))) or "none"
    _check_units(table, given, options, place)
    if "wavelength" not in given and "log_wavelength" in given:
        wave = np.asarray(table[given["log_wavelength"]], float)
        with np.errstate(over="ignore"):
            wavelength = u.Quantity(10**wave, u.AA)
    elif "wavelength" not in given:
        raise DataError(f"{place} has no column wavelength; it has {columns}")
    else:
        wavelength = _with_unit(table, given["wavelength"], options, place, "wavelength")
    if "flux" not in given:
        raise DataError(f"{place} has no column flux; it has {columns}")
    flux = _with_unit(table, given["flux"], options, place, "flux")
    error = _error(table, given, flux, place, columns)
    mask = np.ma.asarray(table[given["mask"]]).filled(1) if "mask" in given else None
    if mask is not None and mask.dtype.kind == "f":
        mask = ~(mask == 0)
    medium = table.meta.get("medium") or stated_medium(table.meta) or _described(table, given)
    where = said if in_memory else where
    return from_quantities(said, wavelength, flux, error, mask, options=options, stated=medium, where=where, lsf=lsf)


def _described(table: Table, given: Mapping[str, str]) -> str:
    column = table.columns.get(given.get("wavelength", ""))
    if column is None:
        return ""
    meta = column.info.meta or {}
    return _said_of_air(meta.get("ucd"), column.info.description, column.info.name)


def _check_units(table: Table, given: Mapping[str, str], options: Options, place: str) -> None:
    """Raise DataError, naming the columns without a unit and the options that give it."""
    missing = [
        role
        for role in _UNITS
        if (column := given.get(role))
        and getattr(table[column], "unit", None) is None
        and not (plain_name(column)[1] or getattr(options, _UNITS[role]))
    ]
    if missing:
        columns = " and ".join(given[role] for role in missing)
        words = " ".join(f"--{_UNITS[role].replace('_', '-')} {_EXAMPLES[role]}" for role in missing)
        code = ", ".join(f'{_UNITS[role]}="{_EXAMPLES[role]}"' for role in missing)
        what = "column {} has" if len(missing) == 1 else "columns {} have"
        raise DataError(
            f"{place}: {what.format(columns)} no unit; give it, such as {words} (1: relative; in Python "
            f"read_spectra(..., {code}))"
        )


def _with_unit(table: Table, column: str, options: Options, place: str, role: str, default: Any = None) -> u.Quantity:
    """A column with its unit: its own, the one in its name, or the one that the user gives for columns without."""
    values = table[column]
    unit = getattr(values, "unit", None) or default
    if unit is None:
        option = _UNITS[role]
        unit = _given_unit(plain_name(column)[1] or getattr(options, option), option)
    if isinstance(values, u.Quantity):
        return values
    numbers = np.ma.asarray(values)
    if numbers.dtype.kind not in "buif":
        raise DataError(f"{place}: column {column} holds {numbers.dtype}, expected numbers")
    if not isinstance(unit, u.UnitBase) or isinstance(unit, u.UnrecognizedUnit):
        raise DataError(f"{place}: column {column} is in {unit}, which is not a linear unit; convert it first")
    return u.Quantity(np.ma.filled(numbers.astype(float), np.nan), unit)


def _given_unit(said: str, option: str) -> u.UnitBase:
    try:
        return u.dimensionless_unscaled if said.strip() in ("1", "") else u.Unit(spelled(said))
    except ValueError:
        raise DataError(
            f"--{option.replace('_', '-')} {said[:40]} is not a unit; examples: Angstrom, um, Jy, 1"
        ) from None


def _error(table: Table, given: Mapping[str, str], flux: u.Quantity, place: str, columns: str) -> u.Quantity:
    """Standard deviations, also from variances or inverse variances; in the unit of the flux if in none."""
    if "error" in given:
        column = table[given["error"]]
        unit = getattr(column, "unit", None) or plain_name(given["error"])[1] or flux.unit
        return _with_unit(table, given["error"], Options(), place, "flux", u.Unit(unit))
    for role, power in (("ivar", -0.5), ("variance", 0.5)):
        if role in given:
            unit = getattr(table[given[role]], "unit", None) or flux.unit ** (1 / power)
            values = _with_unit(table, given[role], Options(), place, "flux", unit)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                return u.Quantity(np.where(values.value > 0, values.value, np.nan) ** power, unit**power)
    raise DataError(f"{place} has no column error (nor ivar, variance): its uncertainty is needed; it has {columns}")


KIND = Kind("tables (CSV, ECSV, VOTable, FITS)", _recognises, _read)
