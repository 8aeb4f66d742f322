"""Opacity of lines with Voigt profiles.

Functions that Numba compiles call none of another module: its cache would not see that the other one had changed.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit
from scipy.special import wofz

from starclip_lib.synthesis.atmosphere import Atmosphere
from starclip_lib.synthesis.chemistry import Chemistry
from starclip_lib.synthesis.constants import ATOMIC_MASS, BOLTZMANN, BOLTZMANN_EV, LIGHT, OSCILLATOR, SECOND_RADIATION
from starclip_lib.synthesis.grid import STEP, Grid, coarse_cells
from starclip_lib.synthesis.lines import LineList

THRESHOLD = 1e-4  # of the continuous opacity: where a line ends
HELIUM_PERTURBS = 0.42  # as strongly as hydrogen, for van der Waals broadening
_CLASSICAL = 2.223e15  # gamma of a classical oscillator times wavelength squared, rad/s Angstrom^2
_SQRT_PI = float(np.sqrt(np.pi))
# The table of the Voigt function; beyond it the asymptotic series does.
_OFFSETS, _OFFSET_STEP = 6.0, 0.01
_LN_DAMPING, _DAMPING_STEP = float(np.log(1e-3)), 0.1
_DAMPINGS = 100  # up to 20


@cache
def voigt_table() -> np.ndarray:
    """The Voigt function at damping 0 and at growing damping, on a grid of offsets: (101, 602)."""
    damping = np.concatenate([[0.0], np.exp(_LN_DAMPING + _DAMPING_STEP * np.arange(_DAMPINGS))])
    offset = _OFFSET_STEP * np.arange(round(_OFFSETS / _OFFSET_STEP) + 2)
    return wofz(offset + 1j * damping[:, None]).real.astype(np.float32)


@njit(cache=True, fastmath=True)
def voigt(damping: np.ndarray, offset: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The Voigt function H(damping, offset), both (m,), in units of the Doppler width; H(0, 0) = 1."""
    out = np.empty(offset.size)
    for i in range(offset.size):
        a, v = damping[i], abs(offset[i])
        row, weight = _row(a)
        out[i] = _value(a, v, row, weight, table)
    return out


@njit(cache=True, fastmath=True, inline="always")
def _row(a: float) -> tuple[int, float]:
    """Row of the table below a damping, and the weight of the next one."""
    smallest = np.exp(_LN_DAMPING)
    if a < smallest:
        return 0, a / smallest
    place = (np.log(a) - _LN_DAMPING) / _DAMPING_STEP
    row = int(place)
    # linear in a, as the function is where a is small
    return row + 1, (np.exp((place - row) * _DAMPING_STEP) - 1) / (np.exp(_DAMPING_STEP) - 1)


@njit(cache=True, fastmath=True, inline="always")
def _value(a: float, v: float, row: int, weight: float, table: np.ndarray) -> float:
    if v >= _OFFSETS or row >= _DAMPINGS:
        square = v * v + a * a
        return a / _SQRT_PI / square * (1 + (1.5 * v * v - 0.5 * a * a) / (square * square))
    place = v / _OFFSET_STEP
    left = int(place)
    far = place - left
    lower = table[row, left] * (1 - far) + table[row, left + 1] * far
    upper = table[row + 1, left] * (1 - far) + table[row + 1, left + 1] * far
    return lower * (1 - weight) + upper * weight


@njit(cache=True)
def spread(coarse: np.ndarray, cell: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Columns (n_depth, m) between those of a coarse array (n_depth, n), linearly."""
    out = np.empty((coarse.shape[0], cell.size))
    for depth in range(coarse.shape[0]):
        for j in range(cell.size):
            left = coarse[depth, cell[j]]
            out[depth, j] = left + (coarse[depth, cell[j] + 1] - left) * fraction[j]
    return out


@njit(cache=True, fastmath=True)
def _add(
    opacity: np.ndarray,  # (n_depth, n_wavelength), cm^-1; lines are added to it
    continuum: np.ndarray,  # (n_depth, n_coarse)
    cell: np.ndarray,  # (n_lines,), as the next five
    fraction: np.ndarray,
    pixel: np.ndarray,
    wavelength: np.ndarray,
    species: np.ndarray,
    excitation: np.ndarray,
    strength: np.ndarray,  # cross-section times wavelength over Doppler velocity, at once
    van_der_waals: np.ndarray,  # width per hydrogen atom at 10,000 K, rad/s cm^3
    population: np.ndarray,  # (n_species, n_depth): density over partition function
    doppler: np.ndarray,  # (n_species, n_depth), over the speed of light
    temperature: np.ndarray,
    perturbers: np.ndarray,
    table: np.ndarray,
    depths: int,
    threshold: float,
) -> int:
    """Add every line at every depth where it is above the threshold; returns the number of profile points."""
    n_points = 0
    last = opacity.shape[1] - 1
    inverse_kt = np.empty(depths)
    for depth in range(depths):
        inverse_kt[depth] = 1 / (BOLTZMANN_EV * temperature[depth])
    for i in range(wavelength.size):
        kind = species[i]
        natural = _CLASSICAL / (wavelength[i] * wavelength[i])
        per_width = wavelength[i] * 1e-8 / (4 * np.pi * LIGHT)
        for depth in range(depths):
            width = doppler[kind, depth]
            centre = strength[i] / width * population[kind, depth] * np.exp(-excitation[i] * inverse_kt[depth])
            below = continuum[depth, cell[i]]
            smallest = threshold * (below + (continuum[depth, cell[i] + 1] - below) * fraction[i])
            if centre < smallest:
                continue
            centre *= 1 - np.exp(-SECOND_RADIATION / (wavelength[i] * temperature[depth]))
            ratio = centre / smallest
            if ratio < 1:
                continue
            a = (van_der_waals[i] * perturbers[depth] + natural) * per_width / width
            reach = max(np.sqrt(np.log(ratio)) + 0.3, np.sqrt(a * ratio / _SQRT_PI))
            velocity_step = STEP / width
            start = max(int(pixel[i] - reach / velocity_step) + 1, 0)
            stop = min(int(pixel[i] + reach / velocity_step), last) + 1
            row, weight = _row(a)
            for j in range(start, stop):
                opacity[depth, j] += centre * _value(a, abs(j - pixel[i]) * velocity_step, row, weight, table)
            n_points += max(stop - start, 0)
    return n_points


def densities(names: tuple[str, ...], atmosphere: Atmosphere, chemistry: Chemistry) -> tuple[np.ndarray, np.ndarray]:
    """Densities over partition functions, (n_species, n_depth) in cm^-3, and masses, (n_species,) in atomic units."""
    gas, population, mass = atmosphere.gas, [], []
    for name in names:
        if name in chemistry.molecules:
            index = chemistry.molecules.index(name)
            density, ln_partition = gas.molecules[:, index], chemistry.ln_partition_molecule[index]
            mass.append(float(chemistry.atoms[index] @ chemistry.mass))
        else:
            symbol, stage = name.split()
            index = chemistry.elements.index(symbol)
            density = gas.neutral[:, index] if stage == "I" else gas.ionised[:, index]
            ln_partition = chemistry.ln_partition[index, ("I", "II").index(stage)]
            mass.append(float(chemistry.mass[index]))
        population.append(density / np.exp(chemistry.interpolated(ln_partition, atmosphere.temperature)))
    return np.array(population), np.array(mass)


def doppler_velocity(temperature: np.ndarray, mass: np.ndarray, vmic: float) -> np.ndarray:
    """Most probable velocity in cm/s of masses (n,) at temperatures (m,) with microturbulence in km/s: (n, m)."""
    return np.sqrt(2 * BOLTZMANN * temperature / (mass[:, None] * ATOMIC_MASS) + (vmic * 1e5) ** 2)


def perturbers(atmosphere: Atmosphere, chemistry: Chemistry) -> np.ndarray:
    """What broadens lines by van der Waals forces, in hydrogen atoms per cm^3 at 10,000 K."""
    hydrogen, helium = (atmosphere.gas.neutral[:, chemistry.elements.index(name)] for name in ("H", "He"))
    return (hydrogen + HELIUM_PERTURBS * helium) * (atmosphere.temperature / 1e4) ** 0.3


def add_lines(
    opacity: np.ndarray,
    continuum: np.ndarray,
    grid: Grid,
    lines: LineList,
    atmosphere: Atmosphere,
    chemistry: Chemistry,
    vmic: float,
    depths: int,
) -> int:
    """Add lines to an opacity (n_depth, grid.size) in place at the uppermost depths; returns the number of points.

    `continuum` stands on the coarse grid.
    """
    population, mass = densities(lines.species_names, atmosphere, chemistry)
    doppler = doppler_velocity(atmosphere.temperature, mass, vmic) / LIGHT
    strength = OSCILLATOR * 10**lines.log_gf * lines.wavelength * 1e-8 / (_SQRT_PI * LIGHT)
    return _add(
        opacity,
        continuum,
        *coarse_cells(lines.wavelength),
        grid.pixel(lines.wavelength),
        lines.wavelength,
        lines.species,
        lines.excitation,
        strength,
        10**lines.log_gamma,
        population,
        doppler,
        atmosphere.temperature,
        perturbers(atmosphere, chemistry),
        voigt_table(),
        depths,
        THRESHOLD,
    )
