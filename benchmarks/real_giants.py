"""What decides the labels of real giants?  `starclip benchmark-real` with one assumption of the fit changed at a time.

python benchmarks/real_giants.py FOLDER LABELS.csv

Prints mean and root mean square of measured minus catalogue, and of these differences over the claimed errors.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import starclip_lib as starclip
from starclip_lib.inference import pixels
from starclip_lib.lab.benchmark import benchmark_real
from starclip_lib.observed import fit, measuring
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import SPEED_OF_LIGHT, on_chips

Where = Callable[[np.ndarray], np.ndarray]


def fit_where(where: Where) -> Callable[..., fit.Fit]:
    """The fit to those pixels whose wavelengths at rest are wanted."""

    def fitted(wave: np.ndarray, flux: np.ndarray, sigma: np.ndarray, width, velocity, *more, **options) -> fit.Fit:
        use = where(wave / (1 + velocity / SPEED_OF_LIGHT))
        return fit.fit_giant(wave[use], flux[use], sigma[use], width, velocity, *more, **options)

    return fitted


def fit_with(physics: tuple[np.ndarray, np.ndarray]) -> Callable[..., fit.Fit]:
    """The fit with another prior on the physics, mean and precision."""
    return lambda *given, **options: fit.fit_giant(*given, **options, physics=physics)


def typical_physics(folder: Path, labels: Path) -> np.ndarray:
    """Median physics of the giants in a folder that have no labels."""
    known = set(pd.read_csv(labels)["file"])
    found = starclip.measure([path for path in sorted(folder.glob("*.fits")) if path.name not in known])
    return np.median([star.fits[0].physics for star in found if star.fits], axis=0)


def show(name: str, folder: Path, labels: Path) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as output:
        table = benchmark_real(folder, Path(output), lambda line: None, labels)
    cells = []
    for label, digits in (("teff", 0), ("logg", 2), ("fe_h", 2)):
        off = np.asarray(table[label] - table[f"{label}_catalogue"], float)
        pull = np.sqrt(np.mean(np.square(np.asarray(table[f"{label}_pull"], float))))
        cells.append(f"{off.mean():+.{digits}f} {np.sqrt((off**2).mean()):.{digits}f} ({pull:.2f})")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(folder: Path, labels: Path) -> None:
    """Print the table."""
    width = default_emulator().physics_width
    print("| fit | Teff [K]: mean, rms (pull) | log g | [Fe/H] |\n|---|---|---|---|")
    show("as it is", folder, labels)
    variants = {
        "from APOGEE's chips alone": fit_where(on_chips),
        "without APOGEE's chips": fit_where(lambda rest: ~on_chips(rest)),
        "physics fixed at nominal": fit_with((0 * width, np.diag((1e-3 * width) ** -2))),
        "physics about its median in giants without labels": fit_with(
            (typical_physics(folder, labels), np.diag(width**-2))
        ),
    }
    for name, variant in variants.items():
        measuring.fit_giant = variant
        show(name, folder, labels)
    measuring.fit_giant = fit.fit_giant
    kept, fit._DEPTH = fit._DEPTH, 0.15
    show("error of 15 % of a line's depth outside the chips", folder, labels)
    fit._DEPTH, pixels._HYDROGEN, pixels._HYDROGEN_ERROR = kept, (0.0, 0.0), (1e-3, 1e-3)
    show("hydrogen lines as deep as computed", folder, labels)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
