"""How many atoms, ions, molecules and electrons a gas has at a temperature and a pressure, in equilibrium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starclip_lib.support.errors import DataError
from starclip_lib.synthesis.chemistry import Chemistry
from starclip_lib.synthesis.constants import ATOMIC_MASS, BOLTZMANN, BOLTZMANN_EV, ELECTRON_MASS, PLANCK

_NO_ION = 900.0  # eV; the tables have such energies where there is no second ion
_STEPS = 200
_LONGEST_STEP = 1.5  # in the logarithm of a density
_PRECISION = 1e-7


@dataclass(frozen=True, eq=False)
class Gas:
    """Number densities in cm^-3 at each depth; `density` is in g cm^-3.

    `unknowns` are the logarithms that were solved for; they are a good start for a similar gas.
    """

    electrons: np.ndarray  # (n_depth,)
    hydrogen: np.ndarray  # (n_depth,), nuclei
    density: np.ndarray  # (n_depth,)
    neutral: np.ndarray  # (n_depth, n_elements)
    ionised: np.ndarray  # (n_depth, n_elements)
    molecules: np.ndarray  # (n_depth, n_molecules)
    unknowns: np.ndarray  # (n_depth, n_unknowns)


def saha(temperature: np.ndarray, chemistry: Chemistry) -> tuple[np.ndarray, np.ndarray]:
    """Electron density times ion over atom, and times second ion over ion: two (n_depth, n_elements), cm^-3."""
    partition = chemistry.interpolated(chemistry.ln_partition, temperature).T.copy()  # (n_depth, 3, n_elements)
    hydrogen = chemistry.elements.index("H")
    partition[:, 1, hydrogen] = 0.0  # the proton has one state
    electrons = 2 * (2 * np.pi * ELECTRON_MASS * BOLTZMANN * temperature / PLANCK**2) ** 1.5
    energy = chemistry.ionisation.T / (BOLTZMANN_EV * temperature[:, None, None])  # (n_depth, 2, n_elements)
    ratio = electrons[:, None, None] * np.exp(np.diff(partition, axis=1) - energy)
    there = chemistry.ionisation[:, 1] < _NO_ION
    there[hydrogen] = False
    return ratio[:, 0], ratio[:, 1] * there


def _start(total: np.ndarray, first: np.ndarray, abundances: np.ndarray, bound: np.ndarray) -> np.ndarray:
    """A first guess: no molecules, electrons of all elements' first ionisation."""
    hydrogen = total / 1.09
    electrons = 1e-4 * hydrogen
    for _ in range(30):
        ions = (abundances * first / (first + electrons[:, None])).sum(axis=1) * hydrogen
        electrons = np.sqrt(electrons * np.maximum(ions, 1e-12 * hydrogen))
    atoms = abundances * hydrogen[:, None] * electrons[:, None] / (electrons[:, None] + first)
    held = np.where(np.arange(len(abundances)) > 1, 2.0, 0.0)  # much of the metals is in molecules where it is cool
    return np.column_stack([(np.log(atoms) - held)[:, bound], np.log(electrons), np.log(hydrogen)])


def solve(
    temperature: np.ndarray,
    pressure: np.ndarray,
    abundances: np.ndarray,
    chemistry: Chemistry,
    start: np.ndarray | None = None,
) -> Gas:
    """The gas at temperatures and gas pressures (dyn cm^-2), both (n_depth,): Newton's method at all depths at once.

    Unknown are the densities of the neutral atoms that molecules are made of, of electrons, and of hydrogen nuclei;
    the equations count the nuclei of each of these elements, charges, and particles.
    """
    total = pressure / (BOLTZMANN * temperature)
    first, second = saha(temperature, chemistry)
    bound = np.flatnonzero(chemistry.atoms.any(axis=0))
    ln_equilibrium = chemistry.interpolated(chemistry.ln_equilibrium, temperature).T
    x = _start(total, first, abundances, bound) if start is None else start.copy()
    for _ in range(_STEPS):
        residual, jacobian = _equations(x, total, first, second, abundances, chemistry, ln_equilibrium, bound)
        step = np.linalg.solve(jacobian, residual[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1, keepdims=True)
        x -= step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-30))
        if longest.max() < _PRECISION:
            return _densities(x, first, second, abundances, chemistry, ln_equilibrium, bound)
    raise DataError("the equation of state finds no equilibrium: check temperatures, pressures and abundances")


def _equations(
    x: np.ndarray,
    total: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    abundances: np.ndarray,
    chemistry: Chemistry,
    ln_equilibrium: np.ndarray,
    bound: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What unknowns (n_depth, n) leave of each equation, relative to its size, and its derivatives (n_depth, n, n)."""
    n, free = len(bound), np.setdiff1d(np.arange(len(abundances)), bound)
    count = chemistry.atoms[:, bound]
    electrons, hydrogen = np.exp(x[:, n]), np.exp(x[:, n + 1])
    atoms, nuclei = np.exp(x[:, :n]), abundances * hydrogen[:, None]
    molecules = np.exp(np.minimum(x[:, :n] @ count.T - ln_equilibrium, 150.0))
    ion = first / electrons[:, None]  # per neutral atom, as the next three
    twice = ion * second / electrons[:, None]
    charge, charge_slope = ion + 2 * twice, ion + 4 * twice
    apart = atoms * (1 + ion + twice)[:, bound]  # nuclei outside molecules
    bound_charge = (atoms * charge[:, bound]).sum(axis=1)
    free_charge = nuclei[:, free] * (charge / (1 + ion + twice))[:, free]
    free_nuclei = nuclei[:, free].sum(axis=1)
    residual = np.empty_like(x)
    residual[:, :n] = apart + molecules @ count - nuclei[:, bound]
    residual[:, n] = bound_charge + free_charge.sum(axis=1) - electrons
    residual[:, n + 1] = apart.sum(axis=1) + molecules.sum(axis=1) + free_nuclei + electrons - total
    # derivatives with respect to the logarithms
    jacobian = np.zeros((len(x), n + 2, n + 2))
    pairs = count[:, :, None] * count[:, None, :]
    jacobian[:, :n, :n] = np.einsum("dm,mij->dij", molecules, pairs, optimize=True)
    jacobian[:, range(n), range(n)] += apart
    jacobian[:, :n, n] = -atoms * charge[:, bound]
    jacobian[:, :n, n + 1] = -nuclei[:, bound]
    jacobian[:, n, :n] = atoms * charge[:, bound]
    slope = free_charge * (charge / (1 + ion + twice) - charge_slope / charge)[:, free]
    jacobian[:, n, n] = slope.sum(axis=1) - (atoms * charge_slope[:, bound]).sum(axis=1) - electrons
    jacobian[:, n, n + 1] = free_charge.sum(axis=1)
    jacobian[:, n + 1, :n] = apart + molecules @ count
    jacobian[:, n + 1, n] = electrons - bound_charge
    jacobian[:, n + 1, n + 1] = free_nuclei
    scale = np.column_stack([nuclei[:, bound], electrons, total])
    return residual / scale, jacobian / scale[:, :, None]


def _densities(
    x: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    abundances: np.ndarray,
    chemistry: Chemistry,
    ln_equilibrium: np.ndarray,
    bound: np.ndarray,
) -> Gas:
    """All densities from the unknowns that were solved for."""
    n = len(bound)
    electrons, hydrogen = np.exp(x[:, n]), np.exp(x[:, n + 1])
    ion = first / electrons[:, None]
    neutral = abundances * hydrogen[:, None] / (1 + ion + ion * second / electrons[:, None])
    neutral[:, bound] = np.exp(x[:, :n])
    molecules = np.exp(x[:, :n] @ chemistry.atoms[:, bound].T - ln_equilibrium)
    density = hydrogen * chemistry.mass_per_hydrogen(abundances) * ATOMIC_MASS
    return Gas(electrons, hydrogen, density, neutral, neutral * ion, molecules, x)
