"""How large are an emulator's errors beside what its physics would change?

python benchmarks/emulator_errors.py emulators/abinitio-3/syntheses starclip_lib/physics/emulator.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from starclip_lib.building.fitting import read_syntheses
from starclip_lib.building.sampling import depths
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import APOGEE


def rms(error: np.ndarray) -> float:
    return float(np.sqrt((error.astype(np.float64) ** 2).mean()))


def main(folder: Path, file: Path) -> None:
    syntheses, emulator = read_syntheses(folder), Emulator(file)
    rows = syntheses.held("population, physics")
    labels, physics = syntheses.labels[rows], syntheses.physics[rows]
    for name, grid in (("apogee", APOGEE), ("fine", emulator.fine)):
        truth = 1 - depths(syntheses.packed[name][rows])
        own, nominal = rms(emulator(labels, grid, physics) - truth), rms(emulator(labels, grid) - truth)
        print(f"{name}: RMS error {own:.5f}; with the physics left at nominal {nominal:.5f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
