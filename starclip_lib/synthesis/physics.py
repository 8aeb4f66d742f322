"""What a synthesis assumes beyond the twenty labels: nominal values, how uncertain they are, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from starclip_lib.physics.instruments import on_chips
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.synthesis.atmosphere import LOG_TAU
from starclip_lib.synthesis.lines import LineList

LOW_EXCITATION = 3.0  # eV
_IRON_PEAK = ("Sc", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn")
_ALPHA = ("O", "Mg", "Si", "S", "Ca", "Ti")


@dataclass(frozen=True)
class Parameter:
    """A parameter of the physics: what it is by default, how far it may lie from that, and what is accepted."""

    name: str
    unit: str
    nominal: float | None  # None: it follows log g
    width: float  # standard deviation of the prior
    low: float
    high: float
    meaning: str
    reason: str  # for the width


_SCATTER = "111 solar strengths differ from ours by 0.08 dex, their mean by 0.07 to 0.13"
PARAMETERS = (
    Parameter("vmic", "km/s", None, 0.25, 0.0, 8.0, "microturbulence", "left free, single giants ask for +0.1 to +0.8"),
    Parameter("van_der_waals", "dex", 0.0, 0.15, -2.0, 2.0, "added to the van der Waals widths of atomic lines",
              "Fe I in the atlas of Arcturus asks for 1.5 times the correction of 0.36 dex, other species for 0 to 2"),
    Parameter("temperature_gradient", "K/dex", 0.0, 20.0, -200.0, 200.0, "added to dT / dlog tau from log tau -3 to 1",
              "between log tau -2 and 0 MARCS and the seven models differ by 16 K/dex RMS, by 29 at most"),
    Parameter("surface_temperature", "K", 0.0, 75.0, -500.0, 500.0, "added to T above log tau -3, nothing below -1",
              "excitation in Arcturus asks for 60 K, OH for up to 150 K"),
    Parameter("continuous_opacity", "dex", 0.0, 0.03, -0.5, 0.5, "on all continuous opacity",
              "the solar compositions of 2007 and 2009 differ by 9 % in electrons, 0.04 dex"),
    Parameter("iron_low", "dex", 0.0, 0.10, -1.0, 1.0, "strength of iron-peak lines below 3 eV", _SCATTER),
    Parameter("iron_high", "dex", 0.0, 0.10, -1.0, 1.0, "strength of iron-peak lines from 3 eV on", _SCATTER),
    Parameter("alpha", "dex", 0.0, 0.10, -1.0, 1.0, "strength of lines of O, Mg, Si, S, Ca, Ti", _SCATTER),
    Parameter("CN", "dex", 0.0, 0.05, -1.0, 1.0, "strength of CN", "bands differ by 0.02 to 0.08 in Arcturus"),
    Parameter("OH", "dex", 0.0, 0.15, -1.0, 1.0, "strength of OH",
              "Arcturus asks for -0.14, giants of APOGEE for +0.26"),
    Parameter("CO", "dex", 0.0, 0.06, -1.0, 1.0, "strength of CO",
              "Arcturus asks for +0.06, beyond 17,500 Angstrom -0.09"),
    Parameter("FeH", "dex", 0.0, 0.20, -1.0, 1.0, "strength of FeH", "bands were corrected by -0.35 to +0.34"),
)  # fmt: skip
GROUPS = tuple(p.name for p in PARAMETERS if p.meaning.startswith("strength"))
PLACES = ("chips", "outside")


def microturbulence(logg: float) -> float:
    """Microturbulence of giants in km/s from log g (Holtzman et al. 2018)."""
    return float(10 ** (0.226 - 0.0228 * logg + 0.0297 * logg**2 - 0.0113 * logg**3))


def checked(name: str, value: float) -> float:
    """A value of a parameter, if it is a number within its bounds."""
    parameter = next(p for p in PARAMETERS if p.name == name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not parameter.low <= number <= parameter.high:
        bounds = f"{parameter.low:g} to {parameter.high:g} {parameter.unit}"
        raise DataError(f"{name} is {value!r:.40}; a number from {bounds} is expected")
    return number


def temperature_change(gradient: float, surface: float) -> np.ndarray:
    """What the two parameters of T(tau) add at `LOG_TAU`, K."""
    height = np.clip((-1 - LOG_TAU) / 2, 0, 1)
    return gradient * (np.clip(LOG_TAU, -3, 1) + 1) + surface * height**2 * (3 - 2 * height)


def in_group(lines: LineList, group: str) -> np.ndarray:
    """Which lines belong to a group of `GROUPS`."""
    if group in ("iron_low", "iron_high"):
        elements = [name.partition(" ")[0] in _IRON_PEAK for name in lines.species_names]
        return np.array(elements)[lines.species] & ((lines.excitation < LOW_EXCITATION) == (group == "iron_low"))
    if group == "alpha":
        elements = [name.partition(" ")[0] in _ALPHA for name in lines.species_names]
        return np.array(elements)[lines.species]
    return np.array([name == group for name in lines.species_names])[lines.species]


def changed(lines: LineList, van_der_waals: float = 0.0, strengths: Mapping[str, float] | None = None) -> LineList:
    """Lines with other widths and strengths; keys are groups, or a group and a place, such as 'CN chips'."""
    log_gf, log_gamma = lines.log_gf.copy(), lines.log_gamma.copy()
    if van_der_waals:
        atoms = np.array([" " in name for name in lines.species_names])[lines.species]
        log_gamma[atoms] += van_der_waals
    for key, dex in (strengths or {}).items():
        group, _, place = key.partition(" ")
        if group not in GROUPS or place not in ("", *PLACES):
            raise ConfigError(
                f"unknown group of lines '{key}'; there are {', '.join(GROUPS)}, alone or followed by "
                f"{' or '.join(PLACES)}, as in 'CN chips'"
            )
        chosen = in_group(lines, group)
        if place:
            chosen &= on_chips(lines.wavelength) == (place == "chips")
        log_gf[chosen] += checked(group, dex)
    columns = {"wavelength": lines.wavelength, "species": lines.species, "excitation": lines.excitation}
    return LineList(
        species_names=lines.species_names, brackett=lines.brackett, log_gf=log_gf, log_gamma=log_gamma, **columns
    )
