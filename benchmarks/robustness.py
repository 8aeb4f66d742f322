"""What the network is still good for: labels and searches when the emulator is not the truth.

    python benchmarks/robustness.py [params/quick.yaml] [--stars 500] [--older emulator.npz] [--out FILE]

Test stars of a finished run are observed by the mock telescope through a synthesis that is wrong, the same way for all
stars: random line strengths (a Gaussian field over wavelength of one line's width multiplies the depth of the
absorption), a broader line-spread function, a molecule that the emulator lacks, or another emulator.  APOGEE stays as
it is.  Judged are

- the network alone (the run's pretrained NIRSpec encoder),
- the network and two Gauss-Newton steps that believe the emulator,
- steps from the population's mean, six of them,
- the network and two steps with model errors, pixel by pixel, from the wrong spectra's residuals (no label is used).

Prints a Markdown table, and writes the same as CSV, which notebook 11 draws: RMSE of Teff, log g and [Fe/H] of single
views, the median over labels of RMSE over the network and steps' without any error, and how often the right APOGEE star
is found first.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from starclip_lib.metrics.retrieval import ranks_between
from starclip_lib.models.encoders import Estimator
from starclip_lib.models.encoding import embed_views, run_encoder
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import NIRSPEC, SIGMA_PER_FWHM
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.run import Run, open_run
from starclip_lib.support.files import atomic_path
from starclip_lib.training.refining import some_views
from starclip_lib.transforms.views import mock_telescope

METHODS = ("network + 2 steps", "network", "6 steps from the mean", "network + 2 steps, learned errors")


def line_strengths(flux: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Absorption times one field of mean 1 and standard deviation `size`, alike within a line."""
    width = NIRSPEC.wavelength / NIRSPEC.resolution * SIGMA_PER_FWHM / np.gradient(NIRSPEC.wavelength)
    field = gaussian_filter1d(rng.standard_normal(NIRSPEC.n_pix), float(np.median(width)))
    return 1 - (1 - flux) * (1 + size * field / field.std())


def broadened(flux: np.ndarray, factor: float) -> np.ndarray:
    """A line-spread function wider by a factor, taken in the middle of the range."""
    width = float(np.median(NIRSPEC.wavelength / NIRSPEC.resolution * SIGMA_PER_FWHM / np.gradient(NIRSPEC.wavelength)))
    return gaussian_filter1d(flux, width * np.sqrt(factor**2 - 1), axis=1)


def with_molecule(flux: np.ndarray, teff: np.ndarray) -> np.ndarray:
    """Bands of a molecule that no emulator here has: heads every 1,500 Angstrom, each degraded to the red over 400.

    They are 6 per cent deep at 4000 K and gone at 5000 K, as those of TiO and water behave.
    """
    depth = 0.06 * np.clip((5000 - teff) / 1000, 0, 1)
    behind = (NIRSPEC.wavelength - 9600) % 1500  # Angstrom redwards of the last head
    return flux * (1 - depth[:, None] * np.exp(-behind / 400))


def wrong_spectra(run: Run, older: Path | None) -> dict[str, np.ndarray]:
    """All NIRSpec spectra of a run, synthesised in ways that the emulator does not know."""
    true, rng = run.data.nirspec.flux, np.random.default_rng(run.params.seed)
    found = {"none": true}
    found |= {f"line strengths, {size:.0%}": line_strengths(true, size, rng) for size in (0.1, 0.2, 0.3)}
    found["line-spread function 10 % wider"] = broadened(true, 1.1)
    found["a missing molecule"] = with_molecule(true, run.data.labels[:, TEFF])
    if older is not None:
        emulator = Emulator(older)
        inside = emulator.inside_domain(run.data.labels.astype(float))
        flux = true.copy()
        flux[inside] = emulator(run.data.labels[inside].astype(float), NIRSPEC)
        found[f"synthesis of {emulator.version}"] = flux
    return {name: flux.astype(np.float32) for name, flux in found.items()}


def estimators_for(run: Run, spectra: np.ndarray) -> dict[str, Estimator]:
    """The four methods."""
    fit = run.model("fit").encoders["nirspec"]
    assert isinstance(fit, EmulatorFit)
    found: dict[str, Estimator] = {name: copy.deepcopy(fit) for name in METHODS if name != "network"}
    found["network"] = fit.guess
    mean = found["6 steps from the mean"]
    mean.guess, mean.steps = None, 6
    seen = replace(run.data.nirspec, flux=spectra)
    found["network + 2 steps, learned errors"].fit_model_error(
        some_views(seen, run.data.rows("train"), mock_telescope(run.params, 1))
    )
    return {name: found[name] for name in METHODS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="?", default="quick")
    parser.add_argument("--stars", type=int, default=500)
    parser.add_argument("--older", type=Path, help="another emulator.npz, whose spectra are observed")
    parser.add_argument(
        "--out", type=Path, default=Path("starclip_lib/metrics/robustness.csv"), help="where the table is written"
    )
    arguments = parser.parse_args()
    run = open_run(arguments.params)
    data, rows, telescope = run.data, run.data.rows("test")[: arguments.stars], mock_telescope(run.params, 1)
    apogee, scaler = run.embeddings("fit/apogee").take("test"), run.model("fit").scaler
    truth, usual = data.labels[rows], np.empty(0)
    lines = ["wrong,method,Teff,logg,Fe,ratio,first"]
    print("| what is wrong | method | Teff [K] | log g | [Fe/H] | RMSE / without errors | R@1 NIRSpec → APOGEE |")
    print("|---|---|---|---|---|---|---|")
    for wrong, flux in wrong_spectra(run, arguments.older).items():
        seen = replace(data.nirspec, flux=flux)
        for method, encoder in estimators_for(run, flux).items():
            queries = embed_views(encoder, replace(data, nirspec=seen), rows, telescope)
            labels = scaler.inverse(run_encoder(encoder, seen, rows, telescope, output="labels")[:, 0])
            error = np.sqrt(((labels - truth) ** 2).mean(axis=0))
            usual = usual if len(usual) else error  # the first of all
            ratio = float(np.median(error / usual))
            first = float((ranks_between(queries, apogee) == 1).mean())
            teff, logg, feh = error[[TEFF, LOGG, FE]]
            print(
                f"| {wrong} | {method} | {teff:.1f} | {logg:.3f} | {feh:.4f} | {ratio:.2f} | {first:.3f} |", flush=True
            )
            lines.append(f'"{wrong}","{method}",{teff:.1f},{logg:.3f},{feh:.4f},{ratio:.2f},{first:.3f}')
    with atomic_path(arguments.out) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
