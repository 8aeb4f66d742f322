"""Fits per second: Gauss-Newton steps in batches against the network alone and against `fit_spectrum`.

    python benchmarks/fit_speed.py [number of spectra] [--device cuda]

Mock NIRSpec spectra; the best of three passes each, all in one run.  `fit_spectrum` gets twelve of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.inference.posterior import Population
from starclip_lib.inference.spectrum import fit_spectrum
from starclip_lib.models.encoders import make_encoder
from starclip_lib.models.encoding import pick_device
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import EncoderParams, FitParams
from starclip_lib.transforms.views import mock_telescope

FITTED = 12


def seconds(function: Callable[[], object], device: torch.device, passes: int = 3) -> float:
    """Of the fastest pass."""
    taken = []
    for _ in range(passes):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return min(taken)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=2000)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device, data = pick_device(arguments.device), simulate_survey(500, seed=1)
    rows = np.arange(arguments.n) % data.n_stars
    seen = mock_telescope(Params(), 1).views(data.nirspec, np.arange(data.n_stars))[rows, 0]
    flux = torch.from_numpy(seen).to(device)
    print(f"{arguments.n:,} mock NIRSpec spectra on {device}, {torch.get_num_threads()} threads")

    def rate(guess: str, steps: int) -> float:
        start = make_encoder(NIRSPEC, EncoderParams(), seed=0) if guess == "network" else None
        fit = EmulatorFit(NIRSPEC, FitParams(guess=guess, steps=steps), EncoderParams(), default_emulator(), start)
        fit.set_population(Population.of(data.labels))
        fit.set_scaler(LabelScaler.fit(data.labels))
        fit.to(device).eval()
        return arguments.n / seconds(lambda: fit.posterior(flux), device)

    network = make_encoder(NIRSPEC, EncoderParams(), seed=0).to(device).eval()
    rates = {"network alone": arguments.n / seconds(lambda: network(flux), device)}
    rates |= {f"{steps} step{'s' * (steps > 1)} from the mean": rate("mean", steps) for steps in (1, 6)}
    rates["network and 2 steps"] = rate("network", 2)
    few = seen[:FITTED]
    ivar = np.where(few == NIRSPEC.fill_value, 0, 1e4)

    def fit_all() -> None:
        for spectrum, weight in zip(few, ivar, strict=True):
            fit_spectrum(spectrum, weight, NIRSPEC, continuum_degree=8, model_error=0.0)

    slow = FITTED / seconds(fit_all, torch.device("cpu"), passes=1)
    for name, value in rates.items():
        print(f"{name:22} {value:10,.0f} spectra/s, {value / slow:10,.0f} times fit_spectrum")
    print(f"{'fit_spectrum':22} {slow:10,.2f} spectra/s")


if __name__ == "__main__":
    main()
