"""How far is the synthesis from spectra of the synthesis that made the emulator abinitio-2?

    python benchmarks/synthesis_reference.py FILE

FILE is an .npz with `labels` (n, 20) and depths `apogee_depth`, `nirspec_depth`, `sharp_depth` (n, n_pix).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.synthesis.synthesise import synthesise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    grids = {"apogee": APOGEE, "nirspec": NIRSPEC, "sharp": replace(NIRSPEC, constant_fwhm=2.75)}
    found: dict[str, list[list[float]]] = {name: [] for name in grids}
    with np.load(parser.parse_args().file, allow_pickle=False) as file:
        for star, labels in enumerate(file["labels"].astype(np.float64)):
            spectrum = synthesise(labels, lines="apogee", structure="seven")
            for name, instrument in grids.items():
                difference = np.abs(1 - spectrum.observed(instrument) - file[f"{name}_depth"][star])
                found[name].append([*np.percentile(difference, [50, 99]), difference.max()])
    for name, rows in found.items():
        median, most, worst = np.array(rows).T
        print(
            f"{name}: median difference of a spectrum {np.median(median):.1e}, of the worst one {median.max():.1e}; "
            f"99 % of pixels within {most.max():.1e}, all within {worst.max():.1e}"
        )


if __name__ == "__main__":
    main()
