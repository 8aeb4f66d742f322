"""Continuous opacity: H-, neutral hydrogen, and scattering by atoms, molecules and electrons (as absorption)."""

from __future__ import annotations

import numpy as np

from starclip_lib.synthesis.chemistry import Chemistry
from starclip_lib.synthesis.constants import BOLTZMANN, HC_EV, SECOND_RADIATION
from starclip_lib.synthesis.equation_of_state import Gas

_LEVELS = 4  # of hydrogen that are summed one by one; those above are an integral
_HYDROGEN_EV = 13.598
_INVERSE_RYDBERG = 1.096776e-3  # per Angstrom
_EDGE = 1.6419  # micron: threshold of the detachment of H-
THOMSON = 6.6524e-25  # cm^2
# John (1988), A&A 193, 189: coefficients of the free-free absorption of H- beyond 0.3645 micron, one row a term in
# (5040 K / T)^((n + 1) / 2); columns: lambda^2, 1, lambda^-1, ..., lambda^-4.
_FREE_FREE = np.array(
    [
        [2483.3460, 285.8270, -2054.2910, 2827.7760, -1341.5370, 208.9520],
        [-3449.8890, -1158.3820, 8746.5230, -11485.6320, 5303.6090, -812.9390],
        [2200.0400, 2427.7190, -13651.1050, 16755.5240, -7510.4940, 1132.7380],
        [-696.2710, -1841.4000, 8624.9700, -10051.5300, 4400.0670, -655.0200],
        [88.2830, 444.5170, -1863.8640, 2095.2880, -901.7880, 132.9850],
    ]
)
_BOUND_FREE = (152.519, 49.534, -118.858, 92.536, -34.194, 4.982)  # the same, in sqrt(1 / lambda - 1 / edge)


def detachment(wavelength: np.ndarray) -> np.ndarray:
    """Cross-section of H- for photodetachment, cm^2, at wavelengths in Angstrom (John 1988)."""
    micron = wavelength * 1e-4
    over = np.maximum(1 / micron - 1 / _EDGE, 0.0)
    series = np.polynomial.polynomial.polyval(np.sqrt(over), _BOUND_FREE)
    return 1e-18 * micron**3 * over**1.5 * series * (micron >= 0.125)


def negative_hydrogen(wavelength: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """H- opacity per neutral hydrogen atom and electron pressure, cm^4/dyn, with stimulated emission (John 1988).

    Wavelengths in Angstrom and temperatures of shapes that broadcast.
    """
    micron = wavelength * 1e-4
    detached = np.exp(1.439e4 / (_EDGE * temperature)) * -np.expm1(-1.439e4 / (micron * temperature))
    bound_free = 0.750 * temperature**-2.5 * detached * detachment(wavelength)
    far = np.maximum(micron, 0.3645)
    powers = np.stack(np.broadcast_arrays(far**2, far**0, 1 / far, far**-2, far**-3, far**-4))
    theta = 5040 / temperature
    free_free = np.zeros(())
    for n, row in enumerate(_FREE_FREE):
        free_free = free_free + theta ** (1.5 + 0.5 * n) * np.tensordot(row, powers, 1)
    return bound_free + 1e-29 * free_free


def neutral_hydrogen(wavelength: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Bound-free and free-free absorption per neutral hydrogen atom, cm^2 (Gray 2005, chapter 8)."""
    theta, energy = 5039.78 / temperature, HC_EV / wavelength
    scaled = wavelength * _INVERSE_RYDBERG
    lowest = np.floor(np.sqrt(scaled)) + 1  # the lowest level that such a photon ionises

    def populated(level_energy: np.ndarray | float) -> np.ndarray:
        return 10 ** (-theta * level_energy)

    total = np.zeros(())
    for n in (lowest + k for k in range(_LEVELS)):
        gaunt = 1 - 0.3456 / np.cbrt(scaled) * (scaled / n**2 - 0.5)
        total = total + gaunt / n**3 * populated(_HYDROGEN_EV * (1 - 1 / n**2))
    log_e = 1 / np.log(10)
    integral = log_e / (2 * theta * _HYDROGEN_EV)
    total = total + integral * (populated(_HYDROGEN_EV * (1 - 1 / (lowest + _LEVELS) ** 2)) - populated(_HYDROGEN_EV))
    free_gaunt = 1 + 0.3456 / np.cbrt(scaled) * (log_e / (theta * energy) + 0.5)
    total = total + free_gaunt * integral * populated(_HYDROGEN_EV)
    return 1.0449e-26 * wavelength**3 * total * (1 - populated(energy))


def scattering(wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rayleigh scattering per hydrogen atom, hydrogen molecule and helium atom, cm^2 (Dalgarno, as Kurucz has it)."""
    inverse = wavelength**-2.0
    capped = np.maximum(wavelength, 1500.0) ** -2.0
    hydrogen = 5.799e-13 * capped**2 * (1 + 2.422e6 * capped + 6.79e11 * capped**2)
    molecule = 8.14e-13 * capped**2 + 1.28e-6 * capped**3 + 1.61 * capped**4
    return hydrogen, molecule, 5.484e-14 * capped**2 * (1 + 2.44e5 * inverse.clip(max=1500.0**-2))


def continuous(wavelength: np.ndarray, temperature: np.ndarray, gas: Gas, chemistry: Chemistry) -> np.ndarray:
    """Continuous opacity in cm^-1, (n_depth, m), at wavelengths (m,) or (n_depth, m) in Angstrom."""
    temperature = temperature[:, None]
    hydrogen, helium = (gas.neutral[:, [chemistry.elements.index(name)]] for name in ("H", "He"))
    molecule = gas.molecules[:, [chemistry.molecules.index("H2")]]
    electrons = gas.electrons[:, None]
    by_hydrogen, by_molecule, by_helium = scattering(wavelength)
    pressure = electrons * BOLTZMANN * temperature
    per_hydrogen = negative_hydrogen(wavelength, temperature) * pressure + neutral_hydrogen(wavelength, temperature)
    scattered = molecule * by_molecule + helium * by_helium + electrons * THOMSON
    return hydrogen * (per_hydrogen + by_hydrogen) + scattered


def rosseland(temperature: np.ndarray, gas: Gas, chemistry: Chemistry) -> np.ndarray:
    """Rosseland mean of the continuous opacity per gram, cm^2/g, (n_depth,)."""
    u = 0.5 * np.arange(1, 29)  # h nu / k T
    weight = u**4 * np.exp(-u) / np.expm1(-u) ** 2
    wavelength = np.maximum(SECOND_RADIATION / (u * temperature[:, None]), 2000.0)
    inverse = (weight / continuous(wavelength, temperature, gas, chemistry)).sum(axis=1) / weight.sum()
    return 1 / (inverse * gas.density)
