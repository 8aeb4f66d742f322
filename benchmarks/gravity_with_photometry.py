"""Do the errors of log g hold when `starclip observe` knows a magnitude and a distance?

    python benchmarks/gravity_with_photometry.py [--stars 40] [--seed 5]

Giants as NIRSpec sees them (G140H, S/N 30), with the magnitude in F160W that they have in M31. What is uncertain is
drawn at random: the scale of the spectrum's labels (`giants.SCALE_ERROR`), mass, bolometric correction, distance,
extinction and magnitude.
"""

from __future__ import annotations

import argparse

import numpy as np
from interval_coverage import WAVE, seen

from starclip_lib.observed.measuring import measure
from starclip_lib.observed.photometry import (
    BANDS,
    LOGG_SUN,
    M_BOL_SUN,
    MASS,
    MASS_ERROR,
    TEFF_SUN,
    bolometric_correction,
    extinction_ratio,
)
from starclip_lib.observed.priors import StarPrior
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum, as_observed
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import giants, scale_covariance
from starclip_lib.physics.labels import FE, LOGG, TEFF

SNR, BAND = 30.0, "F160W"
MODULUS, EXTINCTION, MAGNITUDE_ERROR = (24.46, 0.06), (0.2, 0.05), 0.03


def magnitude(labels: np.ndarray, rng: np.random.Generator) -> float:
    """The apparent magnitude of a giant, with everything that its user does not know exactly drawn at random."""
    band, mass = BANDS[BAND], max(rng.normal(MASS, MASS_ERROR), 0.5)
    bolometric = labels[LOGG] - LOGG_SUN - np.log10(mass) - 4 * np.log10(labels[TEFF] / TEFF_SUN)
    absolute = bolometric / 0.4 + M_BOL_SUN - bolometric_correction(band, labels[TEFF], labels[FE])
    dust = rng.normal(*EXTINCTION) * extinction_ratio(band.wavelength)
    return float(absolute + rng.normal(*MODULUS) + dust + rng.normal(0, np.hypot(band.error, MAGNITUDE_ERROR)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stars", type=int, default=40)
    options.add_argument("--seed", type=int, default=5)
    arguments = options.parse_args()
    rng, atlas, inside = np.random.default_rng(arguments.seed), giants().atlas, default_emulator().inside_domain
    atlas = atlas[(atlas[:, LOGG] > 0.9) & (atlas[:, LOGG] < 2.3) & (atlas[:, TEFF] > 4000)]
    spectra: list[ObservedSpectrum] = []
    priors, truth = {}, []
    while len(spectra) < arguments.stars:
        labels = atlas[rng.integers(len(atlas))]
        shifted = labels + rng.multivariate_normal(np.zeros(20), scale_covariance())
        if not inside(shifted[None])[0]:
            continue
        flux, name = seen(shifted, 0.0, False, rng), f"star_{len(spectra)}"
        flux = flux + rng.normal(0, np.sqrt(SNR**-2 - 50.0**-2), len(flux))  # `seen` has noise of S/N 50
        none = np.zeros(len(WAVE), bool)
        spectra.append(as_observed(name, WAVE, flux, np.full(len(WAVE), SNR**2), none, OBSERVED, 0.0, name, "3.9"))
        numbers = (("magnitude", magnitude(labels, rng), MAGNITUDE_ERROR), ("distance_modulus", *MODULUS))
        priors[name] = StarPrior(band=BAND, numbers=(*numbers, ("a_v", *EXTINCTION), ("mass", MASS, MASS_ERROR)))
        truth.append(labels)
    print(f"emulator {default_emulator().version}, {arguments.stars} stars, S/N {SNR:g}: log g")
    for title, known in (("spectrum alone", None), (f"with {BAND}", priors)):
        found = [(one, labels) for one, labels in zip(measure(spectra, priors=known), truth, strict=True) if one.fits]
        off = np.array([one.labels[LOGG] - labels[LOGG] for one, labels in found if not one.set_aside])
        sigma = np.array([one.sigma[LOGG] for one, _ in found if not one.set_aside])
        rms, pull = np.sqrt(np.mean(off**2)), np.sqrt(np.mean((off / sigma) ** 2))
        print(
            f"{title:<15} error {sigma.mean():.3f}, difference rms {rms:.3f}, mean {off.mean():+.3f}, pull {pull:.2f}"
        )


if __name__ == "__main__":
    main()
