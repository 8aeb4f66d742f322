"""How large are an emulator's errors beside what its physics, and abinitio-2, would change?

python benchmarks/emulator_errors.py emulators/abinitio-3/syntheses starclip_lib/physics/emulator3.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from starclip_lib.building.fitting import read_syntheses
from starclip_lib.building.sampling import FINE, FINE_FWHM, depths
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC_SHARP
from starclip_lib.physics.lsf import broadening


def rms(error: np.ndarray) -> float:
    return float(np.sqrt((error.astype(np.float64) ** 2).mean()))


def main(folder: Path, file: Path) -> None:
    syntheses, emulator, earlier = read_syntheses(folder), Emulator(file), default_emulator()
    rows = syntheses.held("population, physics")
    labels, physics = syntheses.labels[rows], syntheses.physics[rows]
    for name, grid in (("apogee", APOGEE), ("fine", emulator.sharpest)):
        truth = 1 - depths(syntheses.packed[name][rows])
        own, nominal = rms(emulator(labels, grid, physics) - truth), rms(emulator(labels, grid) - truth)
        print(f"{name}: RMS error {own:.5f}; with the physics left at nominal {nominal:.5f}")
    rows = syntheses.held("population")
    rows = rows[earlier.inside_domain(syntheses.labels[rows])]
    labels = syntheses.labels[rows]
    matrix = broadening(FINE, FINE_FWHM, NIRSPEC_SHARP.wavelength, NIRSPEC_SHARP.fwhm)
    for instrument in (APOGEE, NIRSPEC_SHARP):
        apogee = instrument is APOGEE
        truth = 1 - depths(syntheses.packed["apogee" if apogee else "fine"][rows])
        sharp = emulator(labels, APOGEE if apogee else emulator.sharpest) - truth
        own = rms(sharp if apogee else matrix @ sharp.T)
        truth = truth if apogee else (matrix @ truth.T).T
        print(
            f"{instrument.name}: RMS error {own:.5f}; {earlier.version} {rms(earlier(labels, instrument) - truth):.5f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
