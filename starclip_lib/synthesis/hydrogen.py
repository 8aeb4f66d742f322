"""Lines of hydrogen: Paschen with tabulated Stark profiles, Brackett with an approximation of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from starclip_lib.synthesis.atmosphere import Atmosphere
from starclip_lib.synthesis.chemistry import Chemistry, opened_table
from starclip_lib.synthesis.constants import BOLTZMANN_EV, HYDROGEN_EV, LIGHT, OSCILLATOR, SECOND_RADIATION
from starclip_lib.synthesis.grid import STEP, Grid
from starclip_lib.synthesis.line_opacity import doppler_velocity, voigt, voigt_table

_PASCHEN = range(5, 12)
_BRACKETT = range(10, 21)
_PASCHEN_REACH, _BRACKETT_REACH = 60.0, 80.0  # Angstrom
_RYDBERG = 109677.5759  # cm^-1
_FIELD = 1.25e-9  # Holtsmark's normal field per (electron density)^(2/3), cgs
# The tables of Stehle and Hutcheon (1999): steps of log10 of the electron density from 10, and temperatures.
_FIRST_LOG_ELECTRONS, _LOG_ELECTRONS_STEP = 10.0, 0.5
_TEMPERATURES = (2500.0, 5000.0, 10000.0)


@dataclass(frozen=True, eq=False)
class PaschenLine:
    """A Paschen line: ln of its Stark profile (n_detuning, n_electrons, 3) at detunings in Hz per unit of field."""

    upper: int
    wavelength: float  # vacuum Angstrom
    log_gf: float
    detuning: np.ndarray
    ln_profile: np.ndarray


@cache
def paschen_lines() -> tuple[PaschenLine, ...]:
    """The Paschen lines of tables/physics.npz."""
    with opened_table("physics.npz") as table:
        return tuple(
            PaschenLine(
                n,
                float(table[f"paschen_{n}_line"][0]),
                float(table[f"paschen_{n}_line"][1]),
                table[f"paschen_{n}_detuning"],
                table[f"paschen_{n}_profile"].astype(np.float64),
            )
            for n in _PASCHEN
        )


def _absorption(wavelength: float, gf: float, lower: int, atmosphere: Atmosphere, chemistry: Chemistry) -> np.ndarray:
    """Integrated opacity of a line at each depth, cm^-1 Hz."""
    temperature = atmosphere.temperature
    excitation = HYDROGEN_EV * (1 - 1 / lower**2)
    atoms = atmosphere.gas.neutral[:, chemistry.elements.index("H")] / 2  # over the partition function
    stimulated = -np.expm1(-SECOND_RADIATION / (wavelength * temperature))
    return OSCILLATOR * gf * atoms * np.exp(-excitation / (BOLTZMANN_EV * temperature)) * stimulated


def stark_profile(line: PaschenLine, frequency: np.ndarray, temperature: float, electrons: float) -> np.ndarray:
    """Profile (m,) at frequencies (m,) in Hz, to a factor that is the same for all."""
    place = (np.log10(max(electrons, 10**_FIRST_LOG_ELECTRONS)) - _FIRST_LOG_ELECTRONS) / _LOG_ELECTRONS_STEP
    column = min(int(place), line.ln_profile.shape[1] - 2)
    place -= column
    layer = int(temperature >= _TEMPERATURES[1])
    low, high = _TEMPERATURES[layer : layer + 2]
    warm = float(np.clip((temperature - low) / (high - low), 0, 1))
    both = line.ln_profile[:, column] * (1 - place) + line.ln_profile[:, column + 1] * place
    ln_profile = both[:, layer] * (1 - warm) + both[:, layer + 1] * warm
    centre = LIGHT * 1e8 / line.wavelength
    detuning = np.abs(frequency - centre) / (_FIELD * electrons ** (2 / 3))
    known = np.log(line.detuning[1:])
    ln_detuning = np.log(np.maximum(detuning, line.detuning[1] / 2))
    value = np.interp(ln_detuning, known, ln_profile[1:])
    wing = ln_profile[-1] - 2.5 * (ln_detuning - known[-1])  # Holtsmark's law
    value = np.where(ln_detuning > known[-1], wing, value)
    return np.exp(np.where(detuning < line.detuning[1] / 2, ln_profile[0], value))


def _part(centre: float, reach: float, grid: Grid, wavelength: np.ndarray) -> slice:
    return slice(*np.searchsorted(wavelength, [centre - reach, centre + reach]))


def add_paschen(opacity: np.ndarray, grid: Grid, atmosphere: Atmosphere, chemistry: Chemistry, depths: int) -> None:
    """Add the Paschen lines to an opacity (n_depth, grid.size) in place, at the uppermost depths."""
    wavelength = grid.wavelength
    for line in paschen_lines():
        part = _part(line.wavelength, _PASCHEN_REACH, grid, wavelength)
        if part.start == part.stop:
            continue
        # the profile is normalised over the whole of its reach, whichever part of it the grid has
        first, last = (int(np.round(grid.pixel(np.array(line.wavelength + s * _PASCHEN_REACH)))) for s in (-1, 1))
        pixels = np.arange(min(first, part.start), max(last, part.stop) + 1)
        frequency = LIGHT * 1e8 / (wavelength[0] * np.exp(STEP * pixels))
        absorption = _absorption(line.wavelength, 10**line.log_gf, 3, atmosphere, chemistry)
        shown = slice(part.start - pixels[0], part.stop - pixels[0])
        for depth in range(depths):
            temperature, electrons = atmosphere.temperature[depth], atmosphere.gas.electrons[depth]
            profile = stark_profile(line, frequency, temperature, electrons)
            area = (profile * frequency).sum() * STEP
            opacity[depth, part] += absorption[depth] / area * profile[shown]


def brackett_gf(upper: int) -> float:
    """Kramers' gf of the line between level 4 and an upper one, with a Gaunt factor of 0.912."""
    return 32 * 0.912 * 1.9603 * (1 / 16 - 1 / upper**2) ** -3 / (4**5 * upper**3)


def add_brackett(
    opacity: np.ndarray,
    grid: Grid,
    atmosphere: Atmosphere,
    chemistry: Chemistry,
    vmic: float,
    depths: int,
    scale: float,
) -> None:
    """Add the Brackett lines 10 to 20, of `scale` times their LTE strength, to an opacity in place."""
    wavelength = grid.wavelength
    velocity = doppler_velocity(atmosphere.temperature, np.array([1.008]), vmic)[0]
    for upper in _BRACKETT:
        centre = 1e8 / (_RYDBERG * (1 / 16 - 1 / upper**2))
        part = _part(centre, _BRACKETT_REACH, grid, wavelength)
        if part.start == part.stop:
            continue
        absorption = _absorption(centre, scale * brackett_gf(upper), 4, atmosphere, chemistry)
        stark = 5.5e-5 * (4 * upper) ** 4 / (upper**2 - 16) * _FIELD  # Angstrom per (electron density)^(2/3)
        for depth in range(depths):
            width = centre * velocity[depth] / LIGHT  # Angstrom
            offset = np.abs(wavelength[part] - centre) / width
            damping = np.full_like(offset, stark * atmosphere.gas.electrons[depth] ** (2 / 3) / width)
            area = np.sqrt(np.pi) * velocity[depth] / (centre * 1e-8)  # Hz
            opacity[depth, part] += absorption[depth] / area * voigt(damping, offset, voigt_table())
