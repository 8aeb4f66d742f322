"""Throughput of the extended mock: batched torch transforms against a plain NumPy loop over spectra, in one run.

    python benchmarks/corruption_throughput.py [number of spectra]

Prints spectra per second of both and their ratio, the best of five passes each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.stats import gaussian_kde

from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.training import CorruptionParams, GapParams
from starclip_lib.support.seeds import seeded
from starclip_lib.transforms.corruptions import PASCHEN_LINES, extended_mock
from starclip_lib.transforms.gaps import read_gaps


def numpy_loop(flux: np.ndarray, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All five corruptions (independent gaps), one spectrum after another, written as the equations read."""
    gaps, wave = read_gaps(), NIRSPEC.wavelength
    kdes = [gaussian_kde(values) for values in (gaps.start, gaps.width, gaps.cutoff_width)]
    x = (wave - wave[0]) / (wave[-1] - wave[0])
    out = flux.copy()
    for spectrum in out:
        for line in PASCHEN_LINES:
            near = np.abs(wave - line) <= 10
            spectrum[near] = reference[near]
        spectrum[rng.choice(len(wave), round(1e-3 * len(wave)), replace=False)] = 1
        p = sum(rng.uniform(-1, 1) * x**i for i in range(9))
        p -= p.mean()
        spectrum *= 1 + 0.01 * p / np.abs(p).max()
        spectrum += rng.normal(0, 1 / rng.uniform(30, 300), len(wave))
        start, width, cutoff = (max(0.0, kde.resample(1, rng).item()) for kde in kdes)
        spectrum[(wave >= start) & (wave < start + width)] = 1
        spectrum[wave >= wave[-1] - cutoff] = 1
    return out


def best_rate(function: Callable[[], object], n: int, passes: int = 5) -> float:
    """Spectra per second of the fastest pass."""
    seconds = []
    for _ in range(passes):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return n / min(seconds)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    flux = torch.rand(n, NIRSPEC.n_pix, generator=seeded("cpu", 0))
    corruption = extended_mock(CorruptionParams(gaps=GapParams(model="independent")), flux[0])
    generator = seeded("cpu", 1)
    batched = best_rate(lambda: corruption(flux, generator), n)
    few = flux[: n // 10].numpy()
    loop = best_rate(lambda: numpy_loop(few, few[0], np.random.default_rng(1)), len(few))
    print(f"extended mock, {torch.get_num_threads()} threads, {n} spectra of {NIRSPEC.n_pix} pixels")
    print(f"batched torch : {batched:8.0f} spectra/s")
    print(f"NumPy loop    : {loop:8.0f} spectra/s")
    print(f"ratio         : {batched / loop:8.1f}")


if __name__ == "__main__":
    main()
