"""How large are an emulator's errors beside what its physics, and abinitio-2, would change?

python benchmarks/emulator_errors.py emulators/abinitio-3/syntheses starclip_lib/physics/emulator3.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from starclip_lib.building.fitting import read_syntheses
from starclip_lib.building.sampling import FINE, FINE_FWHM, depths
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.fine_emulator import FineEmulator, broadening
from starclip_lib.physics.instruments import APOGEE, NIRSPEC_SHARP, SHARP_FWHM


def rms(error: np.ndarray) -> float:
    return float(np.sqrt((error.astype(np.float64) ** 2).mean()))


def main(folder: Path, file: Path) -> None:
    syntheses, emulator, earlier = read_syntheses(folder), FineEmulator(file), default_emulator()
    rows = syntheses.held("population, physics")
    labels, physics = syntheses.labels[rows], syntheses.physics[rows]
    for grid in ("apogee", "fine"):
        truth = 1 - depths(syntheses.packed[grid][rows])
        own, nominal = rms(emulator(labels, grid, physics) - truth), rms(emulator(labels, grid) - truth)
        print(f"{grid}: RMS error {own:.5f}; with the physics left at nominal {nominal:.5f}")
    rows = syntheses.held("population")
    rows = rows[earlier.inside_domain(syntheses.labels[rows])]
    labels = syntheses.labels[rows]
    matrix = broadening(FINE, FINE_FWHM, NIRSPEC_SHARP.wavelength, np.full(NIRSPEC_SHARP.n_pix, SHARP_FWHM))
    for instrument in (APOGEE, NIRSPEC_SHARP):
        apogee = instrument is APOGEE
        truth = 1 - depths(syntheses.packed["apogee" if apogee else "fine"][rows])
        own = rms(emulator(labels, "apogee") - truth) if apogee else rms(matrix @ (emulator(labels, "fine") - truth).T)
        truth = truth if apogee else (matrix @ truth.T).T
        print(
            f"{instrument.name}: RMS error {own:.5f}; {earlier.version} {rms(earlier(labels, instrument) - truth):.5f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
