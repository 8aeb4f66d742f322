"""An emulator with physics as a file in the layout of abinitio-2, with its physics fixed (nominal, if not given).

python benchmarks/nominal_emulator.py starclip_lib/physics/emulator3.npz fixed.npz vmic=0.3 "CN outside=0.05"
starclip benchmark-real FOLDER --emulator fixed.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from starclip_lib.physics.fine_emulator import FineEmulator, broadening
from starclip_lib.physics.instruments import NIRSPEC, NIRSPEC_SHARP, SHARP_FWHM


def main(source: Path, target: Path, physics: list[str]) -> None:
    emulator = FineEmulator(source)
    with np.load(source, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if "physics" not in key and "fine" not in key}
    n_labels, n_apogee = len(arrays["label_names"]), len(arrays["apogee_basis"])
    for name, _, value in (text.partition("=") for text in physics):
        row = emulator.physics_names.index(name)
        arrays["b1"] = arrays["b1"] + float(value) / emulator.physics_width[row] * arrays["w1"][n_labels + row]
    arrays["w1"] = arrays["w1"][:n_labels]
    for key in ("w3", "b3"):  # the fine grid's coefficients serve two grids
        arrays[key] = np.concatenate([arrays[key], arrays[key][..., n_apogee:]], axis=-1)
    widths = ((NIRSPEC, NIRSPEC.wavelength / NIRSPEC.resolution), (NIRSPEC_SHARP, np.full(8192, SHARP_FWHM)))
    for instrument, fwhm in widths:
        matrix = broadening(emulator.wavelength["fine"], emulator.fine_fwhm, instrument.wavelength, fwhm)
        arrays[f"{instrument.name}_wavelength"] = instrument.wavelength
        arrays[f"{instrument.name}_mean"] = (matrix @ emulator.mean["fine"]).astype(np.float32)
        arrays[f"{instrument.name}_basis"] = (matrix @ emulator.basis["fine"].T).T.astype(np.float16)
    np.savez(target, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
