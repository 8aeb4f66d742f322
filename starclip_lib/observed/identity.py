"""Which spectra are of one star, and which of the same exposures: by names, with positions as a check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from starclip_lib.observed.spectrum import ObservedSpectrum

_APART = 10.0  # arcseconds between positions of one star: pointing, proper motion
_EXPOSURE = re.compile(r"jw(\d{5})(\d{3})\d{3}_\d{5}_\d{5}(?:-seg\d+)?_nrs[12]", re.IGNORECASE)
_PRODUCT = re.compile(r"jw(\d{5})-([oc]\d{3,4})_", re.IGNORECASE)


def jwst_exposures(name: str, header: Mapping[str, Any], is_combined: bool) -> str:
    """What a file of the JWST pipeline was extracted from, as 'level/program/observation/grating/root of its name'.

    Level 2 is one exposure, 3 all of an observation, 4 those in a c1d; empty if neither name nor header tells.
    """
    exposure, product = _EXPOSURE.search(name), _PRODUCT.search(name)
    program, observation = (str(header.get(key, "")).strip() for key in ("PROGRAM", "OBSERVTN"))
    level = 2
    if product is not None or "spec3" in str(header.get("ASNTABLE", "")):
        level = 3
    if is_combined:
        level = 4
    found = product or exposure
    if found is not None:
        program, observation = found[1], found[2].removeprefix("o")
    if not program or not observation:
        return ""
    setting = f"{header.get('GRATING', '')}-{header.get('FILTER', '')}".strip().lower()
    root = exposure[0].lower() if exposure is not None else ""
    return f"{level}/{program.zfill(5)}/{observation}/{setting}/{root}"


def set_aside_repeats(spectra: Sequence[ObservedSpectrum]) -> None:
    """Mark spectra whose exposures are in another one of the same star, so that no photon counts twice.

    Of the levels of the JWST pipeline the highest is kept: c1d, then x1d of all exposures, then x1d of each.
    """
    known = [(spectrum, spectrum.exposures.split("/")) for spectrum in spectra if spectrum.exposures.count("/") == 4]
    for spectrum, (level, program, observation, setting, _) in known:
        for other, (its_level, its_program, its_observation, its_setting, _) in known:
            if (
                not other.damage
                and its_level > level
                and (its_program, its_setting) == (program, setting)
                and (its_observation == observation or its_observation.startswith("c"))
                and other.target == spectrum.target
            ):
                spectrum.damage = (
                    f"its exposures are in {Path(other.file).name}, which is measured instead: they count once; "
                    "give this file alone to measure it"
                )
                spectrum.bad = np.ones(len(spectrum.bad), bool)
                break


def tell_targets_apart(spectra: Sequence[ObservedSpectrum]) -> None:
    """Give spectra of one name whose positions differ targets of their own: they are not the same star."""
    places: dict[str, list[tuple[float, float]]] = {}
    for spectrum in spectra:
        if spectrum.position is None or not np.isfinite(spectrum.position).all():
            continue
        known = places.setdefault(spectrum.target, [])
        number = next((i for i, place in enumerate(known) if _distance(place, spectrum.position) < _APART), len(known))
        if number == len(known):
            known.append(spectrum.position)
        if number:
            spectrum.note = "; ".join(filter(None, (spectrum.note, f"another star is called {spectrum.target}, too")))
            spectrum.target = f"{spectrum.target}_{number + 1}"


def _distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Arcseconds between positions in degrees (haversine)."""
    (ra, dec), (its_ra, its_dec) = np.radians(first), np.radians(second)
    half = np.sin((its_dec - dec) / 2) ** 2 + np.cos(dec) * np.cos(its_dec) * np.sin((its_ra - ra) / 2) ** 2
    return float(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))) * 3600)
