"""Which spectra are of one star, and which of the same exposures: by names, with positions as a check."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from starclip_lib.observed.spectrum import OBSERVED, Exposures, ObservedSpectrum
from starclip_lib.settings.evaluation import ObservedParams

STSCI, PYPEIT = "STScI", "PypeIt"
_APART = 10.0  # arcseconds between positions of one star: pointing, proper motion
_SAME_PLACE = 0.3  # arcseconds between positions of one star in one exposure: shutters are 0.20 x 0.46 wide
_SAME_TIME = 0.6  # of an exposure: between its start, as one pipeline gives it, and its middle, as the other does
_EXPOSURE = re.compile(r"(jw(\d{5})(\d{3})\d{3}_\d{5}_\d{5}(?:-seg\d+)?)_(nrs[12])", re.IGNORECASE)
_PRODUCT = re.compile(r"jw(\d{5})-([oc]\d{3,4})_", re.IGNORECASE)


def jwst_exposures(pipeline: str, name: str, header: Mapping[str, Any], level: int = 2) -> Exposures | None:
    """What the file `name` was extracted from; None if neither its name nor its header tells that of JWST."""
    names = f"{name} {header.get('FILENAME', '')}"  # files are renamed, headers are not
    exposure, product = _EXPOSURE.search(names), _PRODUCT.search(names)
    program, observation = (str(header.get(key, "")).strip() for key in ("PROGRAM", "OBSERVTN"))
    if product is not None or "spec3" in str(header.get("ASNTABLE", "")):
        level = max(level, 3)
    if product is not None:
        program, observation = product[1], product[2].removeprefix("o")
    elif exposure is not None:
        program, observation = exposure[2], exposure[3]
    if not program or not observation:
        return None
    return Exposures(
        pipeline,
        level,
        program.zfill(5),
        observation,
        grating=_first(header, "GRATING", "DISPNAME").upper(),
        filter=_first(header, "FILTER", "FILTER1").upper(),
        exposure=exposure[1].lower() if exposure is not None and level == 2 else "",
        detector=exposure[4].lower() if exposure is not None and level == 2 else "",
        start=_number(_first(header, "EXPSTART", "MJD")),
        seconds=_number(_first(header, "EFFEXPTM", "EXPTIME")),
    )


def _first(header: Mapping[str, Any], *keys: str) -> str:
    return next((said for key in keys if (said := str(header.get(key, "")).strip())), "")


def _number(text: str) -> float:
    try:
        return float(text) if np.isfinite(float(text)) else 0.0
    except ValueError:
        return 0.0


def set_aside_repeats(spectra: Sequence[ObservedSpectrum], settings: ObservedParams = OBSERVED) -> None:
    """Mark spectra whose exposures are in another usable one of the same star, so that no photon counts twice."""
    usable = [not spectrum.faults(settings) for spectrum in spectra]
    for number, other in repeats(spectra, usable).items():
        spectra[number].damage = counted_in(spectra[other])
        spectra[number].bad = np.ones(len(spectra[number].bad), bool)


def counted_in(other: ObservedSpectrum) -> str:
    """Why a spectrum is set aside whose exposures are in another one."""
    pipeline = f" ({other.exposures.pipeline})" if other.exposures is not None else ""
    return (
        f"its exposures are in {Path(other.file).name}{pipeline}, which is used instead: they count once; "
        "give this file alone to use it"
    )


def repeats(spectra: Sequence[ObservedSpectrum], usable: Sequence[bool]) -> dict[int, int]:
    """By the number of each spectrum whose exposures are in another one, the number of that.

    The highest level is kept: c1d, then x1d of all exposures, then one exposure; at the same level PypeIt's, which has
    both detectors; of two files of the same name the first.
    """
    found: dict[int, int] = {}
    for pair in sorted(_of_one_star(spectra, usable)):
        for number, other in (pair, pair[::-1]):
            if number not in found and other not in found and _holds(spectra[other], spectra[number], other < number):
                found[number] = other
    # what replaces one may itself be replaced by a still higher level
    return {number: found.get(other, other) for number, other in found.items()}


def _of_one_star(spectra: Sequence[ObservedSpectrum], usable: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Pairs of spectra of one star with one program and grating, in different files."""
    groups: dict[tuple[str, str], list[int]] = {}
    for number, spectrum in enumerate(spectra):
        if usable[number] and spectrum.exposures is not None:
            groups.setdefault((spectrum.exposures.program, spectrum.exposures.grating), []).append(number)
    for group in groups.values():
        targets: dict[str, list[int]] = {}
        for number in group:
            targets.setdefault(spectra[number].target.lower(), []).append(number)
        pairs = {pair for some in targets.values() for pair in combinations(some, 2)}
        placed = {number: place for number in group if (place := _place(spectra[number])) is not None}
        if placed:
            numbers, tree = list(placed), cKDTree([_direction(place) for place in placed.values()])
            near = tree.query_pairs(np.radians(_SAME_PLACE / 3600))
            pairs |= {(min(numbers[i], numbers[j]), max(numbers[i], numbers[j])) for i, j in near}
        yield from (pair for pair in pairs if spectra[pair[0]].file != spectra[pair[1]].file)


def _holds(other: ObservedSpectrum, spectrum: ObservedSpectrum, is_first: bool) -> bool:
    """Whether the exposures of a spectrum are in another one of the same star."""
    mine, its = spectrum.exposures, other.exposures
    assert mine is not None
    assert its is not None
    (start, end), (its_start, its_end) = spectrum.wavelength[[0, -1]], other.wavelength[[0, -1]]
    if min(end, its_end) - max(start, its_start) < (end - start) / 2:  # another detector
        return False
    if mine.filter and its.filter and mine.filter != its.filter:
        return False
    if mine.level < its.level:
        return its.observation == mine.observation or its.observation.startswith("c")
    if mine.level > its.level or mine.observation != its.observation:
        return False
    if mine.pipeline != its.pipeline:
        return its.pipeline == PYPEIT and (mine.level > 2 or _same_exposure(mine, its))
    copies = Path(spectrum.file).name.lower() == Path(other.file).name.lower()
    return is_first and copies and (mine.exposure, mine.detector) == (its.exposure, its.detector)


def _same_exposure(mine: Exposures, its: Exposures) -> bool:
    if mine.exposure and its.exposure:
        return mine.exposure == its.exposure
    apart = abs(mine.start - its.start) * 86400
    return mine.start > 0 < its.start and apart < _SAME_TIME * max(mine.seconds, its.seconds)


def tell_targets_apart(spectra: Sequence[ObservedSpectrum]) -> None:
    """Give spectra of one name whose positions differ targets of their own: they are not the same star."""
    places: dict[str, list[tuple[float, float]]] = {}
    for spectrum in spectra:
        if (here := _place(spectrum)) is None:
            continue
        known = places.setdefault(spectrum.target, [])
        number = next((i for i, place in enumerate(known) if _distance(place, here) < _APART), len(known))
        if number == len(known):
            known.append(here)
        if number:
            spectrum.note = "; ".join(filter(None, (spectrum.note, f"another star is called {spectrum.target}, too")))
            spectrum.target = f"{spectrum.target}_{number + 1}"


def _place(spectrum: ObservedSpectrum) -> tuple[float, float] | None:
    """The position of a spectrum's star, if it is a pair of numbers."""
    known = spectrum.position is not None and bool(np.isfinite(spectrum.position).all())
    return spectrum.position if known else None


def _direction(position: tuple[float, float]) -> np.ndarray:
    """Unit vector of a position in degrees."""
    ra, dec = np.radians(position)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _distance(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Arcseconds between positions in degrees."""
    chord = float(np.linalg.norm(_direction(first) - _direction(second)))
    return float(np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) * 3600)
