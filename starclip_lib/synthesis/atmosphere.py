"""Model atmospheres: a temperature at each optical depth, and the pressure that carries what lies above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from starclip_lib.support.errors import DataError
from starclip_lib.synthesis import equation_of_state, opacity
from starclip_lib.synthesis.chemistry import Chemistry
from starclip_lib.synthesis.constants import LN10
from starclip_lib.synthesis.equation_of_state import Gas

# log10 of the Rosseland optical depth of the continuum
LOG_TAU = np.concatenate([np.arange(-5, -3.001, 0.2), np.arange(-2.9, 1.601, 0.1)]).round(1)
_ABOVE = 0.6  # opacity grows as this power of pressure above the uppermost depth
_ROUNDS = 100
_PRECISION = 1e-5  # of the pressure


@dataclass(frozen=True, eq=False)
class Atmosphere:
    """A plane-parallel atmosphere in hydrostatic equilibrium, at the depths `LOG_TAU`; cgs."""

    temperature: np.ndarray  # (n_depth,)
    pressure: np.ndarray  # (n_depth,), of the gas
    gas: Gas
    mass_opacity: np.ndarray  # (n_depth,), Rosseland mean that defines the optical depth, cm^2/g
    abundances: np.ndarray  # (n_elements,)


def hydrostatic(log_tau: np.ndarray, gravity: float, mass_opacity: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The gas pressure that solves dP / dtau = gravity / opacity(P), at each depth.

    The opacity is integrated as a power law between depths; turbulent and radiation pressure are left out.
    """
    tau, steps = 10**log_tau, np.diff(log_tau) * LN10
    pressure = 10 * max(gravity / 50, 0.02) ** 0.6 * (tau / tau[0]) ** (1 / (1 + _ABOVE))
    for _ in range(_ROUNDS):
        slope = gravity * tau / mass_opacity(pressure)  # dP / dln tau
        growth = np.log(slope[1:] / slope[:-1])
        flat = np.abs(growth) < 1e-6
        mean = np.where(flat, slope[1:], np.diff(slope) / np.where(flat, 1.0, growth))
        new = (1 + _ABOVE) * slope[0] + np.concatenate([[0.0], np.cumsum(mean * steps)])
        change = np.log(new / pressure)
        # opacity grows with pressure: half of the way overshoots least
        pressure = pressure * np.exp(0.6 * change)
        if np.abs(change).max() < _PRECISION:
            return pressure
    raise DataError("the pressure of the atmosphere does not settle: check its temperatures, gravity and abundances")


def build(
    temperature: np.ndarray, gravity: float, abundances: np.ndarray, chemistry: Chemistry, opacity_scale: float = 1.0
) -> Atmosphere:
    """The atmosphere with given temperatures at `LOG_TAU`, surface gravity in cm/s^2 and abundances.

    `opacity_scale` multiplies the continuous opacity.
    """
    if temperature.shape != LOG_TAU.shape or not ((temperature > 1500) & (temperature < 20000)).all():
        raise DataError(f"temperatures of an atmosphere: {len(LOG_TAU)} between 1500 and 20000 K are expected")
    gas: Gas | None = None

    def mass_opacity(pressure: np.ndarray) -> np.ndarray:
        nonlocal gas
        start = None if gas is None else gas.unknowns
        gas = equation_of_state.solve(temperature, pressure, abundances, chemistry, start)
        return opacity_scale * opacity.rosseland(temperature, gas, chemistry)

    pressure = hydrostatic(LOG_TAU, gravity, mass_opacity)
    final = mass_opacity(pressure)
    assert gas is not None
    return Atmosphere(temperature, pressure, gas, final, abundances)
