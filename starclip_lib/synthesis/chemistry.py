"""Elements and molecules: abundances, masses, ionisation energies, partition functions, equilibrium constants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np

from starclip_lib.physics.labels import ELEMENTS, FE, N_LABELS
from starclip_lib.support.files import damage_refused


@contextmanager
def opened_table(name: str) -> Iterator[np.lib.npyio.NpzFile]:
    """One of the tables that the package brings (tables/README.md describes them)."""
    with (
        as_file(files("starclip_lib") / "synthesis" / "tables" / name) as path,
        damage_refused(path, "is not a table of the synthesis; install starclip again"),
        np.load(path, allow_pickle=False) as table,
    ):
        yield table


@dataclass(frozen=True, eq=False)
class Chemistry:
    """What the equation of state knows; tables stand on a uniform grid of ln T and are interpolated linearly."""

    elements: tuple[str, ...]
    molecules: tuple[str, ...]
    solar: np.ndarray  # (n_elements,): log10 of the number relative to hydrogen, plus 12 (Asplund et al. 2009)
    mass: np.ndarray  # (n_elements,), atomic mass units
    ionisation: np.ndarray  # (n_elements, 2), first and second ionisation energy, eV
    ln_temperature: np.ndarray  # (n_t,)
    ln_partition: np.ndarray  # (n_elements, 3, n_t), of the atom and its first two ions
    atoms: np.ndarray  # (n_molecules, n_elements), how many atoms of each element a molecule has
    # (n_molecules, n_t): ln of (product of the densities of neutral atoms) / (density of molecules), cm^-3
    ln_equilibrium: np.ndarray
    ln_partition_molecule: np.ndarray  # (n_molecules, n_t)

    def interpolated(self, table: np.ndarray, temperature: np.ndarray) -> np.ndarray:
        """A table (..., n_t) at temperatures (n_depth,): (..., n_depth)."""
        grid = self.ln_temperature
        place = (np.log(temperature) - grid[0]) / (grid[1] - grid[0])
        left = np.clip(place.astype(int), 0, len(grid) - 2)
        weight = place - left
        return table[..., left] * (1 - weight) + table[..., left + 1] * weight

    def abundances(self, labels: np.ndarray) -> np.ndarray:
        """Numbers relative to hydrogen (n_elements,) of labels (20,); elements without a label follow iron."""
        over_sun = np.full(len(self.elements), labels[FE])
        over_sun[[self.elements.index("H"), self.elements.index("He")]] = 0.0
        over_sun[[self.elements.index(name) for name in ELEMENTS]] = labels[N_LABELS - len(ELEMENTS) :]
        return 10 ** (self.solar - 12 + over_sun)

    def mass_per_hydrogen(self, abundances: np.ndarray) -> float:
        """Mass that comes with a hydrogen nucleus, atomic mass units."""
        return float(abundances @ self.mass)


@cache
def chemistry() -> Chemistry:
    """The chemistry of tables/physics.npz."""
    with opened_table("physics.npz") as table:
        first, last = (float(end) for end in table["ln_temperature_ends"])
        return Chemistry(
            elements=tuple(str(name) for name in table["elements"]),
            molecules=tuple(str(name) for name in table["molecules"]),
            solar=table["solar"],
            mass=table["mass"],
            ionisation=table["ionisation"],
            ln_temperature=np.linspace(first, last, table["ln_partition"].shape[-1]),
            ln_partition=table["ln_partition"].astype(np.float64),
            atoms=table["atoms"].astype(np.float64),
            ln_equilibrium=table["ln_equilibrium"].astype(np.float64),
            ln_partition_molecule=table["ln_partition_molecule"].astype(np.float64),
        )
