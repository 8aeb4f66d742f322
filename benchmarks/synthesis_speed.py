"""How long does a whole synthesised spectrum take on one core, once Numba has compiled?

python benchmarks/synthesis_speed.py
"""

from __future__ import annotations

import time

import numpy as np

from starclip_lib.synthesis.synthesise import synthesise

LABELS = {
    "Teff 4286, log g 1.66, [Fe/H] -0.52": np.array([4286.0, 1.66] + [-0.52] * 18),
    "Teff 4000, log g 1.0, [Fe/H] +0.2": np.array([4000.0, 1.0] + [0.2] * 18),
    "Teff 4800, log g 2.5, [Fe/H] -2.0": np.array([4800.0, 2.5] + [-2.0] * 18),
}


def main() -> None:
    began = time.perf_counter()
    synthesise(LABELS["Teff 4286, log g 1.66, [Fe/H] -0.52"])
    print(f"first spectrum, with what has to be compiled or read: {time.perf_counter() - began:.1f} s")
    for name, labels in LABELS.items():
        wall, core = [], []
        for _ in range(9):
            began, ran = time.perf_counter(), time.process_time()
            spectrum = synthesise(labels)
            wall.append(time.perf_counter() - began)
            core.append(time.process_time() - ran)
        n = len(spectrum.wavelength)
        seconds = f"{np.median(core):.2f} s of a core (least {min(core):.2f}), {np.median(wall):.2f} s in all"
        print(f"{name}: {seconds}, {n} points")


if __name__ == "__main__":
    main()
