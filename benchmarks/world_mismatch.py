"""Does theory miss a realistic world by as much, and over as many pixels, as it misses real giants?

    python benchmarks/world_mismatch.py CANNON IRTF [--set line_error_chips=0.1 ...]

CANNON holds the model of mean spectra of 1,801 APOGEE giants that benchmarks/mean_giants.py describes, IRTF spectra of
the IRTF library.  On APOGEE's chips the emulator at nominal physics is fitted to mean spectra and to the world's
spectra: labels, and a continuum of degree 5 on each chip.  At R = 2,000 to 2,700 `observed.fit` fits single giants and
the world's NIRSpec spectra; what noise explains is taken off.  Printed: RMS of what is left, that over the RMS depth of
the lines, and the lag at which the autocorrelation of the residuals falls to a half.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from mean_giants import CHIPS, POINTS, labels_of, mean_spectrum, typical

from starclip_lib.data.worlds import World
from starclip_lib.inference.gauss_newton import Prior, fit
from starclip_lib.inference.grid import GridModel
from starclip_lib.inference.noise import GivenNoise
from starclip_lib.observed.files import read_spectra
from starclip_lib.observed.fit import fit_giant
from starclip_lib.observed.measuring import measure
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.giants import giants
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.lsf import LineSpread
from starclip_lib.physics.population import draw_real_population
from starclip_lib.settings.data import WorldParams

_ERROR = 0.006  # of a pixel, in the fit on the chips
_LAGS = 40  # pixels
_NOISE = 0.001  # of the world's NIRSpec spectra


def half_length(residual: np.ndarray, step: float) -> float:
    """Lag in Angstrom at which the autocorrelation of residuals (n, n_pix) falls to a half."""
    r = residual - residual.mean(axis=1, keepdims=True)
    c = np.array([(r[:, lag:] * r[:, : r.shape[1] - lag]).mean() for lag in range(_LAGS)])
    c = c / c[0]
    first = int(np.argmax(c < 0.5))
    return float(step * (first - (0.5 - c[first]) / (c[first - 1] - c[first])))


def on_chips(emulator: Emulator, flux: np.ndarray, start: np.ndarray) -> tuple[float, float, float]:
    """RMS of what a fit of theory leaves, that over the depth of lines, and half length, on APOGEE's chips."""
    covered = np.zeros(APOGEE.n_pix, bool)
    for first, stop in CHIPS:
        covered[first:stop] = True
    used = covered & APOGEE.on_detector & (flux != 0).all(axis=0)
    model = GridModel(emulator, APOGEE, 5, chips=True).double()
    known = giants()
    found = fit(
        torch.from_numpy(flux.astype(float)),
        model,
        GivenNoise(torch.from_numpy(np.repeat(used[None] / _ERROR**2, len(flux), axis=0)), 0.0, False),
        Prior(torch.from_numpy(known.mean), torch.from_numpy(known.precision)),
        torch.from_numpy(start),
        torch.zeros(len(flux), len(model.expected), dtype=torch.float64),
        directions=torch.diag(torch.from_numpy(np.sqrt(np.diag(known.covariance)))),
        steps=8,
    )
    residual, still = (np.where(used, x.numpy(), 0) for x in (found.residual, 1 - found.spectra.still))
    rms, depth = (float(np.sqrt((x[:, used] ** 2).mean())) for x in (residual, still))
    return rms, rms / depth, half_length(residual[:, CHIPS[0][0] : CHIPS[0][1]], 0.21)


def single(fits: list) -> tuple[float, float, float]:
    """The same of fits to single spectra, noise taken off; medians over the stars."""
    depth = np.array([np.sqrt(np.mean((1 - one.model) ** 2)) for one in fits])
    share = np.array([one.misfit for one in fits])
    step = [float(np.median(np.diff(one.wavelength))) for one in fits]
    length = [
        half_length((one.flux - one.model)[None] * (one.weight > 0.3), s) for one, s in zip(fits, step, strict=True)
    ]
    return float(np.median(share * depth)), float(np.median(share)), float(np.median(length))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cannon", type=Path)
    parser.add_argument("irtf", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--stars", type=int, default=12)
    arguments = parser.parse_args()
    changes = {name: float(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    emulator, rows = default_emulator(), []

    file = "trained_apokasc_gc_ind_feh_fix.txt"
    coefficients = np.loadtxt(arguments.cannon / file)
    columns = ["file", "teff", "logg", "fe", "alpha"]
    training = arguments.cannon / file.replace("trained", "training")
    stars = pd.read_csv(training, sep=r"\s+", names=columns, comment="#")
    given = [typical(stars, teff, fe) for teff, fe in POINTS if fe > -1]
    flux = np.zeros((len(given), APOGEE.n_pix))
    pixels = np.concatenate([np.arange(*chip) for chip in CHIPS])
    flux[:, pixels] = [mean_spectrum(coefficients, one) for one in given]
    rows.append(
        ("chips", f"{len(given)} mean giants", *on_chips(emulator, flux, np.array([labels_of(x) for x in given])))
    )

    measured = [one for one in measure(read_spectra(arguments.irtf)) if one.labels is not None]
    rows.append(("all", f"{len(measured)} IRTF giants", *single([one.fits[0] for one in measured])))

    rng = np.random.default_rng(5)
    drawn = draw_real_population(4 * arguments.stars, (0.5, 2.0), rng)
    labels = drawn[emulator.inside_domain(drawn)][: arguments.stars]
    spread = LineSpread(tuple(NIRSPEC.wavelength), tuple(NIRSPEC.fwhm))
    for seed in range(1, arguments.worlds + 1):
        world = World(emulator, WorldParams(kind="realistic", seed=seed, **changes), 0)
        physics = world.physics_of(len(labels))
        seen = np.where(APOGEE.on_detector, world(labels, APOGEE, physics), 0)
        rows.append(("chips", f"world {seed}", *on_chips(emulator, seen, labels)))
        spectra = world(labels, NIRSPEC, physics) + world.correlated_noise(len(labels), NIRSPEC, 0)
        spectra = spectra + _NOISE * rng.standard_normal(spectra.shape)
        sigma = np.full(NIRSPEC.n_pix, _NOISE)
        fits = [fit_giant(NIRSPEC.wavelength, one.astype(float), sigma, spread, 0.0, giants()) for one in spectra[:6]]
        rows.append(("all", f"world {seed}", *single(fits)))
    table = pd.DataFrame(rows, columns=["where", "what", "RMS", "over depth", "half length [A]"])
    print(table.round({"RMS": 4, "over depth": 3, "half length [A]": 2}).to_string(index=False))


if __name__ == "__main__":
    main()
