"""Would line strengths learned from real giants make `starclip observe` better?  Tried, and left out: it says why.

    python benchmarks/real_line_strengths.py FOLDER [FOLDER ...]

The first FOLDER holds giants without labels beside some with labels (a labels.csv that names files), such as the IRTF
library's; further ones hold labelled stars only.  Giants without labels are fitted; what is left of their lines, over
the depth of these, is averaged over the stars, wavelength by wavelength, and becomes a factor on the emulator's lines.
No label is used.  Printed: what is left of the lines of a star that did not help to make it, and the labelled stars'
differences to their labels, with and without.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from starclip_lib.lab.benchmark import benchmark_real
from starclip_lib.observed import measuring
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.fit import Fit, fit_giant
from starclip_lib.observed.line_spread import line_spread
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.giants import giants
from starclip_lib.physics.instruments import NIRSPEC_SHARP, SPEED_OF_LIGHT

_SHRINK = 0.03  # depth whose square a pixel of every star adds to the divisor: where no lines are, nothing is corrected
_GAP = 200.0  # Angstrom


def fitted(spectrum: ObservedSpectrum) -> Fit:
    """The fit of a spectrum that is at rest already."""
    good = ~spectrum.bad
    pixels = (spectrum.wavelength[good], spectrum.flux[good], 1 / np.sqrt(spectrum.ivar[good]))
    return fit_giant(*pixels, line_spread(spectrum.line_spread), 0.0, giants())


def left(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """What is left of a star's lines, NaN where it shows nothing, and their depth, on the sharp grid."""
    rest, grid = fit.wavelength / (1 + fit.velocity / SPEED_OF_LIGHT), NIRSPEC_SHARP.wavelength
    right = np.clip(np.searchsorted(rest, grid), 1, len(rest) - 1)
    seen = (grid > rest[0]) & (grid < rest[-1]) & (rest[right] - rest[right - 1] < _GAP)
    flux, model = (np.interp(grid, rest, curve) for curve in (fit.flux, fit.model))
    return np.where(seen, flux - model, np.nan), 1 - model


def learned(spectra: list[ObservedSpectrum]) -> np.ndarray:
    """Factors (8192,) on the depth of the emulator's lines; prints what they are worth on stars left out."""
    # once only: what a fit leaves cannot be had by changing labels, so the factors do not move them
    both = [left(fitted(spectrum)) for spectrum in spectra]
    seen = np.array([np.isfinite(residual) for residual, _ in both])
    residual = np.where(seen, [residual for residual, _ in both], 0.0)
    depth = np.where(seen, [depth for _, depth in both], 0.0)
    product, square = residual * depth, depth**2 + _SHRINK**2 * seen
    others = -(product.sum(axis=0) - product) / np.maximum(square.sum(axis=0) - square, 1e-9)
    for name, rest in (("without", residual), ("each star left out", residual + others * depth)):
        print(f"residual, {name}: {np.median(np.sqrt((rest**2).sum(axis=1) / seen.sum(axis=1))):.5f}")
    return 1 - product.sum(axis=0) / np.maximum(square.sum(axis=0), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=Path("benchmark"), help="where tables and figures go")
    arguments = parser.parse_args()
    judges = (arguments.folders[0] / "labels.csv").read_text(encoding="utf-8")
    spectra = read_spectra(arguments.folders[0], OBSERVED)
    judged = {spectrum.target for spectrum in spectra if Path(spectrum.file).name in judges}
    factors = learned([spectrum for spectrum in spectra if spectrum.target not in judged])
    for name, strengths in (("as it is", None), ("with line strengths of real giants", factors)):
        measuring.fit_giant = lambda *given, s=strengths: fit_giant(*given, strengths=s)
        for folder in arguments.folders:
            print(f"\n{folder.name}, {name}")
            benchmark_real(folder, arguments.output, print)


if __name__ == "__main__":
    main()
