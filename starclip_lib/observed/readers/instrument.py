"""What headers state: instrument, mode and grating, air or vacuum, and the frame of velocities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord, get_body_barycentric_posvel
from astropy.time import Time
from astropy.units import km, s

from starclip_lib.observed.lsf import DEFAULT, nirspec_settings
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.support.errors import DataError

_WHY_NOT = {
    "G235": "it begins at 16,600 Angstrom, and the emulator ends at 18,000: too few lines of a giant are left",
    "G395": "it begins at 28,700 Angstrom, and the emulator ends at 18,000",
    "PRISM": "at a resolution of 30 to 300 no line of a giant is resolved",
    "MIRROR": "it is an image",
}
_LAMPS = ("NRS_LAMP", "NRS_AUTOWAVE", "NRS_AUTOFLAT")
_READ = "what can be read is NIRSpec's G140H and G140M, 9,000 to 18,000 Angstrom"
BARYCENTRIC = "barycentric"
# Of the wavelength scale, km/s: a quarter of a NIRSpec pixel (55 km/s at G140H), between the 10 and 20 km/s by which a
# source that is off the centre of its slit, or the grating wheel, moves it.
ZERO_POINT = 15.0
_FASTEST = 1e5  # m/s: three times the speed of the Earth
_DATES = (40000.0, 80000.0)  # MJD, 1968 to 2077
_REST = {"BARYCENT": BARYCENTRIC, "HELIOCEN": "heliocentric"}  # values of SPECSYS; they differ by 0.015 km/s
_OBSERVER = ("TOPOCENT", "GEOCENTR", "OBSERVER")


def text(header: Mapping[str, Any], *keys: str) -> str:
    """The first of some cards that is not empty, as text without blanks around it."""
    for key in keys:
        value = header.get(key)
        if value is not None and (said := str(value).strip()) and said.upper() not in ("N/A", "NONE", "UNKNOWN"):
            return said
    return ""


def check_instrument(header: Mapping[str, Any], path: Path) -> None:
    """Raise DataError, naming what took it, unless a file is NIRSpec's or does not tell."""
    telescope, instrument = text(header, "TELESCOP").upper(), text(header, "INSTRUME").upper()
    if instrument in ("", "NIRSPEC") and telescope in ("", "JWST"):
        return
    mode = ", ".join(
        dict.fromkeys(filter(None, (text(header, "EXP_TYPE"), text(header, "GRATING", "DISPNAME", "PUPIL"))))
    )
    of = " ".join(filter(None, (telescope, instrument)))
    raise DataError(
        f"{path}: taken with {of:.60}{f' ({mode:.60})' if mode else ''}; {_READ}; other spectra of 9,700 to 18,000 "
        "Angstrom are read from a table (CSV, ECSV) with `--lsf`"
    )


def grating_lsf(header: Mapping[str, Any], path: Path) -> str:
    """The line-spread function of a header's grating, filter and mode; DataError for what cannot be measured."""
    kind = text(header, "EXP_TYPE").upper()
    if kind in _LAMPS:
        raise DataError(f"{path}: EXP_TYPE {kind} is a lamp, not a star; give the exposures of the target")
    grating = text(header, "GRATING", "DISPNAME").upper()
    if not grating:
        return DEFAULT
    if not grating.startswith("G140"):
        why = next((why for name, why in _WHY_NOT.items() if grating.startswith(name)), "")
        raise DataError(f"{path}: taken with {grating:.20}{f': {why}' if why else ''}; {_READ}")
    place = " ".join((kind, text(header, "APERNAME"), text(header, "DECKER"))).upper()
    mode = "IFU" if "IFU" in place else "MSA" if "MSA" in place else "slit"
    setting = f"{grating}/{text(header, 'FILTER', 'FILTER1').upper() or 'F100LP'}/{mode}"
    if setting.upper() not in nirspec_settings():
        raise DataError(
            f"{path}: taken with {setting:.60}; G140H and G140M are read with the filters F070LP and F100LP"
        )
    return setting


def nirspec_lsf(header: Mapping[str, Any], path: Path) -> str:
    """The line-spread function of a table whose header names a grating of NIRSpec; empty for other tables.

    Raises DataError for gratings that cannot be measured.
    """
    telescope, instrument = text(header, "TELESCOP").upper(), text(header, "INSTRUME").upper()
    grating = text(header, "GRATING", "DISPNAME").upper()
    is_nirspec = instrument == "NIRSPEC" or (not instrument and grating.startswith(("G140", "G235", "G395")))
    return grating_lsf(header, path) if grating and is_nirspec and telescope in ("", "JWST") else ""


def stated_medium(header: Mapping[str, Any]) -> str:
    """'air' or 'vacuum' if a header states it (CTYPE, VACUUM, AIRORVAC, WAVETYPE, ...), else empty."""
    for key in ("AIRORVAC", "WAVETYPE", "WAVEMED", "MEDIUM", "WAVE_MEDIUM", "AIR_VAC", "AIRVAC"):
        said = text(header, key).lower()
        if said.startswith(("air", "vac")):
            return said[:3].replace("vac", "vacuum")
    for key, yes, no in (("VACUUM", "vacuum", "air"), ("VAC", "vacuum", "air"), ("AIR", "air", "vacuum")):
        said = str(header.get(key, "")).strip().lower()
        if said in ("t", "true", "1", "yes"):
            return yes
        if said in ("f", "false", "0", "no"):
            return no
    for key in header:
        if str(key).upper().startswith(("CTYPE", "TCTYP")):
            said = str(header[key]).strip().upper()
            if said.startswith("AWAV"):
                return "air"
            if said.startswith(("WAVE-", "VWAV")) or said == "WAVE":
                return "vacuum"
    return ""


def velocity_frame(headers: Sequence[Mapping[str, Any]], position: tuple[float, float] | None) -> tuple[str, float]:
    """The frame of the wavelengths, and the factor that brings them into it; empty and 1 if nothing is stated.

    Wavelengths of the JWST pipeline are barycentric: its step assign_wcs divides them by 1 + VELOSYS / c.
    """
    system = _first(headers, "SPECSYS").upper()
    kind = _first(headers, "VEL_TYPE").lower()  # PypeIt
    if system[:8] in _REST or kind in (BARYCENTRIC, "heliocentric"):
        return _REST.get(system[:8], kind), 1.0
    if system.startswith(_OBSERVER):
        velosys = _number(headers, "VELOSYS")
        towards = -velosys / 1000 if abs(velosys) < _FASTEST else _computed(headers, position)
        return (BARYCENTRIC, 1 + towards / SPEED_OF_LIGHT) if np.isfinite(towards) else ("", 1.0)
    return (BARYCENTRIC if _first(headers, "TELESCOP").upper() == "JWST" else ""), 1.0


def with_correction(note: str, factor: float) -> str:
    """A note, with the correction of the wavelengths if there is one."""
    added = f"{(factor - 1) * SPEED_OF_LIGHT:+.2f} km/s added to velocities: the motion of the observer"
    return "; ".join(filter(None, (note, added if factor != 1 else "")))


def barycentric_correction(time: Time, ra: float, dec: float) -> float:
    """Velocity of the Earth's centre towards a place, km/s; an observer on Earth or at L2 moves with it to 0.7 km/s."""
    velocity = get_body_barycentric_posvel("earth", time)[1].xyz.to_value(km / s)
    return float(velocity @ SkyCoord(ra, dec, unit="deg").cartesian.xyz.value)


def _computed(headers: Sequence[Mapping[str, Any]], position: tuple[float, float] | None) -> float:
    """The correction from date and place; NaN if one of them is missing."""
    mjd = next((x for x in (_number(headers, key) for key in ("EXPMID", "MJD-AVG", "MJD", "MJD-OBS")) if x > 0), 0.0)
    date = _first(headers, "DATE-AVG", "DATE-BEG", "DATETIME", "DATE-OBS")
    if position is None:
        return float("nan")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="ERFA")  # dates that are left out below
            time = Time(mjd, format="mjd") if mjd else Time(date)
        return barycentric_correction(time, *position) if _DATES[0] < time.mjd < _DATES[1] else float("nan")
    except ValueError:
        return float("nan")


def _first(headers: Sequence[Mapping[str, Any]], *keys: str) -> str:
    return next((str(h[key]).strip() for key in keys for h in headers if str(h.get(key) or "").strip()), "")


def _number(headers: Sequence[Mapping[str, Any]], key: str) -> float:
    found = next((h[key] for h in headers if isinstance(h.get(key), int | float)), np.nan)
    return float(found)
