"""How often do the 95 % intervals of `starclip observe` contain the truth?

    python benchmarks/interval_coverage.py [--stars 40] [--seed 1]

Giants as NIRSpec sees them (G140H, SNR 50 per pixel), in four cases: drawn from the Milky Way's population; the same
with noise that is correlated between neighbouring pixels (0.4, autoregressive); at [Fe/H] = -1.5; and 0.5 dex above or
below the giant branch in log g. Each is fitted three times: with a perfect synthesis that is known to be perfect, so
that noise is the only error; and with a synthesis that is wrong by as much as the fit assumes, once with the wide prior
and once with the Milky Way's.
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from starclip_lib.observed import fit
from starclip_lib.observed.lsf import parse_lsf
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import MILKY_WAY, WIDE, giants
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.physics.lsf import broadening
from starclip_lib.physics.population import draw_population
from starclip_lib.support.errors import DataError

FWHM, SNR, CORRELATION, OFF, METAL_POOR = 3.9, 50.0, 0.4, 0.5, -1.5
WAVE = np.concatenate([np.arange(9750, 13800, 2.35), np.arange(14180, 17950, 2.35)])
COLUMNS = {"Teff": [TEFF], "log g": [LOGG], "[Fe/H]": [FE], "all twenty": list(range(20))}


def chosen(case: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Labels (n, 20) of stars inside the emulator's domain."""
    if case == "metal-poor":
        stars = draw_population(20 * n, (0.3, 3.6), rng, (METAL_POOR, METAL_POOR))
    else:
        stars = rng.permutation(giants().atlas)[: 20 * n]
    if case == "off the branch":
        stars[:, LOGG] += OFF * rng.choice([-1, 1], len(stars))
    return stars[default_emulator().inside_domain(stars)][:n]


def seen(labels: np.ndarray, rho: float, wrong: bool, rng: np.random.Generator) -> np.ndarray:
    """Flux (m,) of one star, its synthesis perfect or wrong by what the fit assumes, with noise."""
    emulator = default_emulator()
    sharp = emulator(labels[None], emulator.fine)[0]
    flux = broadening(emulator.fine.wavelength, emulator.fine.constant_fwhm, WAVE, np.full(len(WAVE), FWHM)) @ sharp
    if wrong:
        fine = np.arange(WAVE[0], WAVE[-1] + 1, 0.25)
        error = gaussian_filter1d(rng.standard_normal(len(fine)), FWHM / (2 * np.sqrt(np.pi)) / 0.25)
        flux = flux + np.interp(WAVE, fine, error / error.std()) * np.sqrt(fit.synthesis_variance(WAVE, flux))
    noise = lfilter([np.sqrt(1 - rho**2)], [1, -rho], rng.standard_normal(len(WAVE) + 100))[100:]
    response = 1 + 0.3 * np.cos((WAVE - 13000) / 4000) + 0.02 * np.sin(WAVE / 150)
    return response * (flux + noise / SNR)


def inside(stars: np.ndarray, rho: float, wrong: bool, population: str, seed: int) -> tuple[np.ndarray, int]:
    """Which 95 % intervals (n, 20) contain the truth, and how many spectra could not be fitted."""
    found, failed = [], 0
    for number, star in enumerate(stars):
        flux = seen(star, rho, wrong, np.random.default_rng([seed, number]))
        try:
            one = fit.fit_giant(WAVE, flux, flux / SNR, parse_lsf(str(FWHM)), 0.0, giants(population))
        except DataError:
            failed += 1
            continue
        found.append(np.abs(one.labels - star) < 1.96 * np.sqrt(np.diag(one.covariance)))
    return np.array(found), failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"| stars ({given.stars} each) | fit | " + " | ".join(COLUMNS) + " |\n|" + "---|" * (2 + len(COLUMNS)))
    for case in ("in the population", "correlated noise", "metal-poor", "off the branch"):
        stars = chosen(case, given.stars, np.random.default_rng(given.seed))
        rho = CORRELATION if case == "correlated noise" else 0.0
        for name, wrong, population in (
            ("noise alone, wide prior", False, WIDE),
            ("noise and synthesis, wide prior", True, WIDE),
            ("noise and synthesis, milky-way", True, MILKY_WAY),
        ):
            known = fit.synthesis_variance if wrong else lambda rest, model: np.full(len(model), 1e-8)
            with patch.object(fit, "synthesis_variance", known):
                hits, failed = inside(stars, rho, wrong, population, given.seed)
            shares = " | ".join(f"{hits[:, columns].mean():.3f}" for columns in COLUMNS.values())
            print(f"| {case} | {name} | {shares} |" + (f" {failed} failed" if failed else ""), flush=True)


if __name__ == "__main__":
    main()
