"""The frame of velocities: what a header states about it, and the motion of the observer where it must be removed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord, get_body_barycentric_posvel
from astropy.time import Time
from astropy.units import km, s

from starclip_lib.physics.instruments import SPEED_OF_LIGHT

BARYCENTRIC = "barycentric"
# Of the wavelength scale, km/s: a quarter of a NIRSpec pixel (55 km/s at G140H), between the 10 and 20 km/s by which a
# source that is off the centre of its slit, or the grating wheel, moves it.
ZERO_POINT = 15.0
_FASTEST = 1e5  # m/s: three times the speed of the Earth
_DATES = (40000.0, 80000.0)  # MJD, 1968 to 2077
_REST = {"BARYCENT": BARYCENTRIC, "HELIOCEN": "heliocentric"}  # values of SPECSYS; they differ by 0.015 km/s
_OBSERVER = ("TOPOCENT", "GEOCENTR", "OBSERVER")


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
