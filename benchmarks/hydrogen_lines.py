"""How much deeper than the synthesis are the hydrogen lines of real giants?  No label of a catalogue enters.

python benchmarks/hydrogen_lines.py FOLDER [--without labels.csv]

Each spectrum of the folder, but those of the stars in the table (column `file`), is fitted with the depths of the
Paschen and of the Brackett lines free.  inference/pixels.py rests on the
median and the scatter among stars.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import starclip_lib as starclip
from starclip_lib.inference import pixels
from starclip_lib.physics.instruments import MAD_PER_SIGMA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--without", type=Path, help="CSV whose column `file` names spectra that are left out")
    arguments = parser.parse_args()
    left_out = set(pd.read_csv(arguments.without)["file"]) if arguments.without else set()
    pixels._HYDROGEN, pixels._HYDROGEN_ERROR = (0.0, 0.0), (1.0, 1.0)
    files = [path for path in sorted(arguments.folder.glob("*.fits")) if path.name not in left_out]
    fits = [star.fits[0] for star in starclip.measure(files) if star.fits]
    depth = np.array([fit.hydrogen for fit in fits])
    kept = [fit.misfit <= np.quantile([f.misfit for f in fits], 0.8) for fit in fits]
    for name, column in zip(("Paschen", "Brackett"), depth[kept].T, strict=True):
        scatter = np.median(np.abs(column - np.median(column))) / MAD_PER_SIGMA
        print(f"{name}: {np.median(column):+.3f}, scatter {scatter:.3f}, {len(column)} of {len(fits)} stars")


if __name__ == "__main__":
    main()
