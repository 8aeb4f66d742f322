"""PypeIt's files: spec1d (every object of an exposure) and OneSpec (several exposures of one object, added up)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from starclip_lib.observed.identity import PYPEIT, jwst_exposures
from starclip_lib.observed.readers.instrument import (
    check_instrument,
    grating_lsf,
    stated_medium,
    text,
    velocity_frame,
    with_correction,
)
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import Kind, Options, each, in_vacuum, stem
from starclip_lib.observed.spectrum import ObservedSpectrum, as_observed
from starclip_lib.storage.fits_files import opened_fits, read_columns
from starclip_lib.storage.formats import ONE_SPEC as ONE_SPEC_COLUMNS
from starclip_lib.storage.formats import SPEC1D as SPEC1D_COLUMNS
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import safe_name

_NAMED = re.compile(r"([^-]+-([^-]+))-([^-]+)")  # SPAT0016-SLIT0014-DET02
_FOUND_BY_CHANCE = "SERENDIP"


def _is_spec1d(look: Look) -> bool:
    return look.name.startswith("spec1d") or look.primary.get("DMODCLS") == "SpecObjs"


def _is_one_spec(look: Look) -> bool:
    return look.form == FITS and "OneSpec" in look.extensions("DMODCLS")


def _read_spec1d(path: Path, options: Options) -> list[ObservedSpectrum]:
    """The best object of each slit, and every other that has a name of its own in the design of the mask.

    An object is one table (both detectors joined, MSC) or one for each detector (DET), which are joined here.
    """
    with opened_fits(path) as file:
        header = file[0].header
        check_instrument(header, path)
        lsf = grating_lsf(header, path)
        tables = [hdu for hdu in file[1:] if hdu.header.get("DMODCLS") == "SpecObj"]
        if not tables:
            raise DataError(f"{path}: no extracted object in it; is it a PypeIt spec1d file?")
        slits: dict[str, list[fits.BinTableHDU]] = {}
        unnamed: list[Any] = []
        for hdu in tables:
            if named := _NAMED.fullmatch(hdu.name):
                slits.setdefault(named[2], []).append(hdu)
            else:
                unnamed.append((safe_name(hdu.name), (hdu, [], [])))
        target = text(header, "TARGET") or stem(path)
        objects = [
            (_name(best, target, slit if len(slits) > 1 else ""), (best, others, slits[slit]))
            for slit in slits
            for best, others in _objects(slits[slit])
        ]

        def read(name: str, found: tuple[Any, list[Any], list[Any]]) -> ObservedSpectrum:
            best, others, there = found
            if not there:
                raise DataError(f"{path}: an object is named {best.name[:80]!r}, expected SPAT...-SLIT...-DET...")
            parts = [best]
            if best.name.rpartition("-")[2].startswith("DET"):
                parts = [hdu for hdu in there if hdu.name.startswith(f"{_trace(best)}-DET")]
            wave, flux, ivar, good = _joined(parts, f"{path}: {best.name}")
            second = max(map(_snr, others), default=0.0) / _snr(best) if _snr(best) > 0 else 0.0
            made = _made(name, (wave, flux, ivar, ~good), header, path, options, second, lsf, best.header)
            if unnamed := {_trace(hdu) for hdu in others if not _own_name(hdu)}:
                made.note = "; ".join(
                    filter(None, (made.note, f"{len(unnamed)} fainter object(s) in the slit of {made.name}"))
                )
            return made

        return each(path, [*objects, *unnamed], read)


def _objects(tables: list[fits.BinTableHDU]) -> list[tuple[fits.BinTableHDU, list[fits.BinTableHDU]]]:
    """The objects of one slit that are read, each with the tables of the other objects of the slit."""
    best = max(tables, key=_snr)
    chosen = {_own_name(best): best}
    for hdu in sorted(tables, key=_snr, reverse=True):
        if _own_name(hdu):
            chosen.setdefault(_own_name(hdu), hdu)
    return [(one, [hdu for hdu in tables if _trace(hdu) != _trace(one)]) for one in chosen.values()]


def _own_name(hdu: fits.BinTableHDU) -> str:
    """The name that the design of the mask gives an object; empty if it has none."""
    name = text(hdu.header, "MASKDEF_OBJNAME")
    return "" if name.upper() == _FOUND_BY_CHANCE else name


def _name(hdu: fits.BinTableHDU, target: str, slit: str) -> str:
    return safe_name(_own_name(hdu) or (f"{target}_{slit}" if slit else target))


def _trace(hdu: fits.BinTableHDU) -> str:
    return str(hdu.name).rpartition("-")[0]


def _snr(hdu: fits.BinTableHDU) -> float:
    value = hdu.header.get("SMASH_SNR", hdu.header.get("S2N"))
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0


def _position(header: fits.Header) -> tuple[float, float] | None:
    place = header.get("RA"), header.get("DEC")
    return (float(place[0]), float(place[1])) if all(isinstance(x, int | float) for x in place) else None


def _joined(parts: list[fits.BinTableHDU], where: str) -> tuple[np.ndarray, ...]:
    read = [read_columns(hdu, SPEC1D_COLUMNS, where, "(no optimal extraction)") for hdu in parts]
    return tuple(np.concatenate([columns[name] for columns in read]) for name in SPEC1D_COLUMNS)


def _made(
    name: str,
    arrays: tuple[np.ndarray, ...],
    header: fits.Header,
    path: Path,
    options: Options,
    second: float,
    lsf: str,
    own: fits.Header,
    level: int = 2,
) -> ObservedSpectrum:
    """A spectrum of wavelength, flux, inverse variance and what is bad; in vacuum unless the header differs."""
    wave, flux, ivar, bad = arrays
    wave, medium = in_vacuum(wave, stated_medium(header) or "vacuum", options)
    position = _position(own)
    frame, factor = velocity_frame((own, header), position or _position(header))
    wave = wave * factor
    made = as_observed(name, wave, flux, ivar, bad, options.settings, second, str(path), lsf)
    made.medium, made.frame, made.position, made.note = medium, frame, position, with_correction("", factor)
    made.exposures = jwst_exposures(PYPEIT, path.name, header, level)
    return made


def _read_one_spec(path: Path, options: Options) -> list[ObservedSpectrum]:
    with opened_fits(path) as file:
        header = file[0].header
        check_instrument(header, path)
        lsf = grating_lsf(header, path)
        tables = [hdu for hdu in file[1:] if hdu.header.get("DMODCLS") == "OneSpec"]
        columns = read_columns(tables[0], ONE_SPEC_COLUMNS, f"{path}: {tables[0].name}")
        arrays = (columns["wave"], columns["flux"], columns["ivar"], ~columns["mask"])
        name = safe_name(text(header, "TARGET", "OBJECT") or stem(path))
        return [_made(name, arrays, header, path, options, 0.0, lsf, tables[0].header, level=3)]


SPEC1D = Kind("PypeIt spec1d", _is_spec1d, _read_spec1d)
ONE_SPEC = Kind("PypeIt OneSpec", _is_one_spec, _read_one_spec)
