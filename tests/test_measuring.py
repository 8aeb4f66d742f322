"""Giants measured without any training: line widths, fits, guards, priors, tables; real stars where they are."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from conftest import ROOT
from nirspec_files import spec1d_table, write_spec1d
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from starclip_lib.lab import cli
from starclip_lib.lab.benchmark import benchmark_real
from starclip_lib.lab.observing import observe
from starclip_lib.observed import fit, measuring
from starclip_lib.observed.combining import combined, noise_covariance
from starclip_lib.observed.files import read_observed, read_spectra
from starclip_lib.observed.fit import fit_giant
from starclip_lib.observed.lsf import parse_lsf
from starclip_lib.observed.measured import Measured, nearest_neighbours
from starclip_lib.observed.measurements import measured_table
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum, as_observed
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import MILKY_WAY, POPULATIONS, giants, prior_fraction, scale_covariance
from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.physics.lsf import broadening
from starclip_lib.physics.population import draw_population
from starclip_lib.run import Run
from starclip_lib.support.errors import DataError

SHARED = ROOT.parent / "shared"
WAVE = np.concatenate([np.arange(9750, 13800, 2.35), np.arange(14180, 17950, 2.35)])


def labels_of(**changed: float) -> np.ndarray:
    """A giant like most, with some labels changed; [Fe/H] moves all elements."""
    labels = giants(MILKY_WAY).mean.copy()
    labels[2:] += changed.get("Fe", labels[FE]) - labels[FE]
    for name, value in changed.items():
        labels[LABELS.index(name)] = value
    return labels


def seen(labels: np.ndarray, fwhm: float = 3.9) -> np.ndarray:
    """The emulator's spectrum (8192,) on the grid, at any labels, at a line width; by its formula, not by the fit."""
    fine = default_emulator().fine
    parts = {name: buffer.numpy() for name, buffer in default_emulator().on(fine).named_buffers()}
    x = (np.pad(labels, (0, len(parts["center"]) - len(labels))) - parts["center"]) / parts["scale"]
    for k in (1, 2):
        x = x @ parts[f"w{k}"] + parts[f"b{k}"]
        x = x / (1 + np.exp(-x))
    sharp = parts["mean"] + (x @ parts["w3"] + parts["b3"]) @ parts["basis"]
    sigma = np.sqrt(fwhm**2 - fine.constant_fwhm**2) / 2.354820045 / (fine.wavelength[1] - fine.wavelength[0])
    kernel = np.exp(-0.5 * (np.arange(-60, 61) / sigma) ** 2)
    broad = np.convolve(np.pad(sharp, 60, mode="edge"), kernel / kernel.sum(), mode="valid")
    return at(NIRSPEC.wavelength, fine.wavelength, broad)


def at(wavelength: np.ndarray, grid: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """A spectrum (n,) of a grid at other wavelengths (m,), by cubic splines: lines keep their widths."""
    return CubicSpline(grid, flux)(wavelength)


def spectrum_of(
    flux: np.ndarray, rng: np.random.Generator, snr: float = 100.0, velocity: float = 40.0, name: str = "star"
) -> ObservedSpectrum:
    """A spectrum on the grid as two detectors see it, with a response, noise and a velocity."""
    response = 900 * np.exp(-(((WAVE - 13000) / 6000) ** 2)) * (1 + 0.02 * np.sin(WAVE / 150))
    values = at(WAVE / (1 + velocity / SPEED_OF_LIGHT), NIRSPEC.wavelength, flux)
    noisy = response * (values + rng.standard_normal(len(WAVE)) / snr)
    good = np.zeros(len(WAVE), bool)
    return as_observed(name, WAVE, noisy, (snr / response) ** 2, good, OBSERVED, 0.0, name, "3.9")


def test_widths_are_said_in_three_ways(tmp_path: Path) -> None:
    wave = NIRSPEC.wavelength
    assert np.allclose(parse_lsf("R=2000")(wave), wave / 2000)
    assert np.allclose(parse_lsf("3.9")(wave), 3.9)
    (tmp_path / "lsf.csv").write_text("wavelength,fwhm\n10000,3.4\n16000,4.6\n")
    assert np.allclose(parse_lsf(str(tmp_path / "lsf.csv"))(np.array([9000, 13000, 17000])), [3.4, 4.0, 4.6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wide", "expected a width in Angstrom"),
        ("-1", "expected a width in Angstrom"),
        ("R=nan", "expected a width in Angstrom"),
        ("1.3", "narrower than the emulator's"),
        ("R=22500", "narrower than the emulator's"),
        ("R=20", "no lines are left"),
        ("nowhere.csv", "is missing"),
    ],
)
def test_slips_about_widths_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_lsf(text)


def test_tables_of_widths_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "lsf.csv"
    for content, said in (
        ("wavelength,fwhm\n16000,4\n10000,4\n", "must increase"),
        ("wavelength,fwhm\n1.0,4\n1.6,4\n", "Angstrom are expected"),
        ("wavelength,width\n10000,4\n", "wavelength and fwhm"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            parse_lsf(str(path))


def test_broadening_adds_variances() -> None:
    grid, places = np.arange(9000.0, 9400.0, 0.5), np.array([9200.0, 9200.2, 9200.25, 9200.4])
    for wanted in (2.0, 2.1, 2.4, 6.0):
        matrix = broadening(grid, 2.0, places, np.full(4, wanted)).toarray()
        np.testing.assert_allclose(matrix.sum(1), 1)
        np.testing.assert_allclose(matrix @ grid, places, atol=2e-3)
        variance = (matrix * (grid - places[:, None]) ** 2).sum(1)
        np.testing.assert_allclose(variance * 8 * np.log(2), wanted**2 - 4, rtol=5e-3, atol=2e-3)


def test_what_the_fine_grid_cannot_show_is_refused() -> None:
    emulator = default_emulator()
    for instrument in (replace(NIRSPEC, constant_fwhm=1.3), replace(NIRSPEC, wavelength=NIRSPEC.wavelength - 1000)):
        with pytest.raises(DataError, match="has no spectra for NIRSpec"):
            emulator.on(instrument)


def test_labels_velocity_and_width_come_out_as_they_went_in(rng: np.random.Generator) -> None:
    stars = giants().atlas[rng.choice(len(giants().atlas), 12, replace=False)]
    spectra = [
        spectrum_of(seen(star, 4.3), rng, velocity=20.0 * k - 120, name=f"star_{k}") for k, star in enumerate(stars)
    ]
    found = measure(spectra)
    assert "set aside" not in [one.verdict for one in found]
    fits_ = [one.fits[0] for one in found]
    pulls = np.array([(f.labels - star) / np.sqrt(np.diag(f.covariance)) for f, star in zip(fits_, stars, strict=True)])
    assert 0.3 < np.sqrt((pulls**2).mean()) < 1.2  # the errors hold more than noise, and noise is all there is
    error = np.array([f.labels - star for f, star in zip(fits_, stars, strict=True)])
    assert (np.sqrt((error[:, [TEFF, LOGG, FE]] ** 2).mean(axis=0)) < [60, 0.2, 0.08]).all()
    assert np.allclose([f.velocity for f in fits_], 20.0 * np.arange(12) - 120, atol=4)
    assert abs(np.mean([f.fwhm for f in fits_]) - 4.3) < 0.1


def test_noise_is_what_the_spectrum_shows_where_the_file_claims_less(rng: np.random.Generator) -> None:
    spectrum = spectrum_of(seen(labels_of()), rng, snr=60)
    good = ~spectrum.bad
    arguments = (spectrum.wavelength[good], spectrum.flux[good])
    boast = 1 / np.sqrt(spectrum.ivar[good]) / 20
    assert fit_giant(*arguments, boast, parse_lsf("3.9"), 40.0, giants()).noise == pytest.approx(1 / 60, rel=0.15)


def correlated_noise(shape: tuple[int, int], rho: float, rng: np.random.Generator) -> np.ndarray:
    """Autoregressive noise of variance 1 along the last axis."""
    drawn = rng.standard_normal((shape[0], shape[1] + 100))
    return lfilter([np.sqrt(1 - rho**2)], [1, -rho], drawn, axis=1)[:, 100:]


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.5])
def test_intervals_hold_their_promise_whatever_the_correlation_of_the_noise(
    rho: float, rng: np.random.Generator, monkeypatch
) -> None:
    """With a perfect synthesis, noise is all there is; white noise of the same variance would give 80 and 70 %."""
    monkeypatch.setattr(fit, "synthesis_variance", lambda rest, model: np.full(len(model), 1e-8))
    width = default_emulator().physics_width
    known = (0 * width, np.diag((1e-3 * width) ** -2))
    stars = giants().atlas[rng.choice(len(giants().atlas), 12, replace=False)]
    noise, inside, factors = correlated_noise((12, len(WAVE)), rho, rng) / 50, [], []
    for star, drawn in zip(stars, noise, strict=True):
        flux = at(WAVE, NIRSPEC.wavelength, seen(star)) + drawn
        one = fit_giant(WAVE, flux, np.full(len(WAVE), 1 / 50), parse_lsf("3.9"), 0.0, giants(), physics=known)
        inside.append(np.abs(one.labels - star) < 1.96 * np.sqrt(np.diag(one.covariance)))
        factors.append(one.correlated)
    assert 0.90 < np.mean(inside) < 0.99
    low, high = {0.0: (1.0, 1.3), 0.4: (1.4, 2.3), 0.5: (1.6, 3.0)}[rho]
    assert low <= np.mean(factors) < high


OFF_THE_BRANCH = {
    "0.5 dex below": {"Teff": 4671, "logg": 1.9, "Fe": -0.3},
    "metal-poor": {"Teff": 4697, "logg": 2.0, "Fe": -1.5},
    "very metal-poor": {"Teff": 4707, "logg": 1.8, "Fe": -2.0},
    "metal-poor and 150 K hotter": {"Teff": 4847, "logg": 2.0, "Fe": -1.5},
}


@pytest.mark.parametrize("name", OFF_THE_BRANCH)
def test_the_wide_prior_decides_neither_gravity_nor_metallicity(name: str) -> None:
    """Noise of 1/50 is claimed and none is added: what is left is the prior's pull, and the Milky Way's pulls."""
    truth = labels_of(**OFF_THE_BRANCH[name])
    flux = at(WAVE, NIRSPEC.wavelength, seen(truth))
    errors = {}
    for population in POPULATIONS:
        one = fit_giant(WAVE, flux, flux / 50, parse_lsf("3.9"), 0.0, giants(population))
        errors[population] = (one.labels - truth)[[TEFF, LOGG, FE]]
    assert (np.abs(errors["wide"]) < [30, 0.1, 0.06]).all()
    assert errors["milky-way"][1] > 0.15


def test_several_noisy_draws_of_a_giant_below_the_branch_are_right_on_average(rng: np.random.Generator) -> None:
    truth = labels_of(**OFF_THE_BRANCH["0.5 dex below"])
    flux = seen(truth)
    found = measure([spectrum_of(flux, rng, snr=50, name=f"star_{k}") for k in range(10)])
    off = np.array([one.labels[LOGG] - truth[LOGG] for one in found if not one.set_aside])
    assert len(off) == 10
    assert abs(off.mean()) < 0.1 + 2 * off.std() / np.sqrt(10)


def test_the_wide_prior_is_flat_in_metallicity_and_keeps_abundances_at_given_metallicity() -> None:
    wide, galaxy = (giants(population) for population in POPULATIONS)
    others = np.arange(20) != FE
    assert np.linalg.inv(wide.precision)[FE, FE] > 50  # ten dex are wider than the domain by far
    conditional = np.linalg.inv(np.linalg.inv(wide.covariance)[np.ix_(others, others)])
    assert np.allclose(np.linalg.inv(wide.precision[np.ix_(others, others)]), conditional)
    given = [TEFF, FE]
    for known, low, high in ((wide, 0.3, 1.2), (galaxy, 0.1, 0.2)):
        block = known.covariance[np.ix_(given, given)]
        rest = known.covariance[LOGG, LOGG] - known.covariance[LOGG, given] @ np.linalg.solve(
            block, known.covariance[given, LOGG]
        )
        assert low < np.sqrt(rest) < high
    magnesium = LABELS.index("Mg")  # at [Fe/H] = -1.5 halo and dwarf galaxies are both within two standard deviations
    slope = wide.covariance[:, FE] / wide.covariance[FE, FE]
    mean = (wide.mean + slope * (-1.5 - wide.mean[FE]))[magnesium] + 1.5
    spread = np.sqrt(wide.covariance[magnesium, magnesium] - slope[magnesium] * wide.covariance[magnesium, FE])
    assert mean - 2 * spread < 0.0 < 0.35 < mean + 2 * spread
    assert np.array_equal(galaxy.atlas, wide.atlas)


def test_a_flat_population_has_the_abundances_of_the_other_at_the_same_metallicity() -> None:
    flat = draw_population(40_000, (0.3, 3.6), np.random.default_rng(1), (-2.2, 0.5))
    usual = draw_population(40_000, (0.3, 3.6), np.random.default_rng(2))
    assert np.allclose(np.histogram(flat[:, FE], 9, (-2.2, 0.5))[0] / 40_000, 1 / 9, atol=0.01)
    for low in (-0.6, -0.3, -0.1):
        means = []
        for stars in (flat, usual):
            there = stars[(stars[:, FE] > low) & (stars[:, FE] < low + 0.05)]
            means.append((there[:, LABELS.index("Mg")] - there[:, FE]).mean())
        assert abs(means[0] - means[1]) < 0.02


def test_the_share_of_the_prior_is_posterior_over_prior_sigma() -> None:
    prior = np.diag(np.linspace(0.5, 2, 20)) ** 2
    assert np.allclose(prior_fraction(prior * 0.25, prior), 0.5)
    assert np.allclose(prior_fraction(prior, prior), 1)
    # what the prior knows about log g at given Teff counts, not what it knows before
    prior[LOGG, LOGG], prior[LOGG, TEFF] = 1.0, 0.99 * np.sqrt(prior[TEFF, TEFF])
    prior[TEFF, LOGG] = prior[LOGG, TEFF]
    information = np.zeros((20, 20))
    information[TEFF, TEFF] = 1e6
    posterior = np.linalg.inv(np.linalg.inv(prior) + information)
    assert posterior[LOGG, LOGG] < 0.03  # it follows from Teff
    assert prior_fraction(posterior, prior)[[TEFF, LOGG]] == pytest.approx([0, 1], abs=0.01)


def test_labels_that_are_the_priors_are_marked(rng: np.random.Generator) -> None:
    spectrum = spectrum_of(seen(labels_of(Teff=4600, logg=2.2, Fe=-0.3)), rng, snr=50)
    wide, galaxy = (measure([spectrum], population=population) for population in POPULATIONS)
    assert "log g" not in wide[0].from_prior
    assert "log g" in galaxy[0].from_prior
    assert "[Ce/H]" in wide[0].from_prior
    table = measured_table(wide)
    assert list(table["from_prior"]) == [wide[0].from_prior]
    assert 0.7 < table["prior_fraction_Ce"][0] <= 1
    assert table["prior_fraction_Teff"][0] < 0.3
    known = np.zeros(20), np.zeros(20)
    known[0][TEFF], known[1][TEFF] = 10.0**-2, 4600.0
    assert "Teff" in measure([spectrum], priors={"star": known})[0].from_prior


def test_outliers_hardly_pull(rng: np.random.Generator) -> None:
    clean = spectrum_of(seen(labels_of()), rng, name="clean")
    hit = spectrum_of(seen(labels_of()), np.random.default_rng(3), name="hit")
    places = rng.choice(len(hit.flux), 40, replace=False)
    hit.flux[places] *= 1.15
    a, b = measure([clean, hit])
    assert not a.set_aside
    assert not b.set_aside
    assert (np.abs(a.labels - b.labels) < 2 * a.sigma).all()


STRANGERS = {
    "dwarf": (labels_of(Teff=5000, logg=4.5, Fe=0.0), "log g held"),
    "sun": (labels_of(Teff=5770, logg=4.4, Fe=0.0), "log g held"),
    "metal-poor": (labels_of(Teff=4600, logg=1.3, Fe=-2.7), r"\[Fe/H\] held"),
    "M giant": (labels_of(Teff=3500, logg=0.5, Fe=0.0), "Teff held"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_stars_beyond_the_emulator_are_said_to_be_outside(name: str, rng: np.random.Generator) -> None:
    labels, said = STRANGERS[name]
    (one,) = measure([spectrum_of(seen(labels), rng)])
    assert one.verdict == "outside"
    assert re.search(said, one.reason), one.reason


def test_what_is_no_giant_gets_a_reason_and_no_labels(rng: np.random.Generator) -> None:
    wave, giant = NIRSPEC.wavelength, seen(labels_of(Teff=4500, logg=2.0))
    hydrogen = 1 - 0.3 * np.exp(-(((wave - 12822) / 30) ** 2)) - 0.2 * np.exp(-(((wave - 10941) / 30) ** 2))
    smooth = np.convolve(giant, np.full(25, 1 / 25), mode="same")
    cases = {
        "flat field": (np.ones(8192), 100.0, 0.0, "no stellar lines"),
        "A star": (hydrogen, 100.0, 0.0, "no stellar lines"),
        "far galaxy": (giant, 100.0, 6000.0, "no stellar lines"),
        "near galaxy": (smooth, 100.0, 0.0, "times as wide|no giant|no stellar"),
        "faint": (giant, 5.0, 0.0, "S/N 5 per pixel"),
        "carbon star": (seen(labels_of(Teff=4200, logg=1.2, Fe=-0.3, C=0.8, O=-0.4)), 100.0, 0.0, "saw-tooth|no giant"),
    }
    spectra = [spectrum_of(flux, rng, snr, velocity, name) for name, (flux, snr, velocity, _) in cases.items()]
    for one, (*_, said) in zip(measure(spectra), cases.values(), strict=True):
        assert one.set_aside
        assert one.verdict == "set aside"
        assert re.search(said, one.reason), f"{one.name}: {one.reason}"


@pytest.mark.parametrize("apart", [180, 280])
def test_two_stars_in_one_slit_are_noticed_by_their_lines(apart: float, rng: np.random.Generator) -> None:
    cool, warm = seen(labels_of(Teff=4300, logg=1.5)), seen(labels_of(Teff=5000, logg=3.0))
    shifted = np.interp(NIRSPEC.wavelength / (1 + apart / SPEED_OF_LIGHT), NIRSPEC.wavelength, warm)
    (one,) = measure([spectrum_of((cool + shifted) / 2, rng)])
    assert one.verdict in ("doubtful", "outside")
    assert "times as wide" in one.reason or "the same lines once more at" in one.reason


def test_a_line_spread_function_that_is_far_too_wide_is_noticed(rng: np.random.Generator) -> None:
    spectrum = spectrum_of(seen(labels_of()), rng)
    spectrum.lsf = "9"
    (one,) = measure([spectrum])
    assert "times as wide as the line-spread function: is it the right one" in one.reason


@pytest.mark.parametrize("fault", ["errors", "fluxes"])
def test_spectra_without_any_error_or_flux_say_so(fault: str) -> None:
    ones, none = np.ones(1000), np.zeros(1000, bool)
    flux, ivar = (-ones, ones) if fault == "fluxes" else (ones, np.full(1000, np.nan))
    one = as_observed("x", np.linspace(11000, 13000, 1000), flux, ivar, none, OBSERVED, 0.0, "x", "3.9")
    assert measure([one])[0].reason == f"none of its 1000 {fault} is a number above 0"


def test_faint_spectra_are_no_saw_teeth(rng: np.random.Generator) -> None:
    (one,) = measure([spectrum_of(seen(labels_of()), rng, snr=25)])
    assert one.verdict == "good"


def test_exposures_are_combined_and_share_the_error_of_the_synthesis(rng: np.random.Generator) -> None:
    flux = seen(labels_of())
    spectra = [spectrum_of(flux, np.random.default_rng(seed), snr=40, name=f"e{seed}") for seed in range(4)]
    for spectrum in spectra:
        spectrum.target = "one"
    singles = measure(spectra)
    (one,) = combined(singles)
    assert (one.name, len(one.fits)) == ("one", 4)
    systematic = np.sqrt(np.diag(singles[0].fits[0].systematic + scale_covariance()))
    assert (one.sigma < np.mean([s.sigma for s in singles], axis=0)).all()
    assert (one.sigma > 0.95 * systematic).all()
    assert 0.3 < one.scatter < 2.5
    assert np.abs(one.labels - labels_of())[[LOGG, FE]].max() < 0.25
    (alone,) = combined(singles[:1])
    assert np.array_equal(alone.labels, singles[0].labels)


def test_the_prior_counts_once_however_many_exposures() -> None:
    """Of sixteen faint exposures a product of posteriors would hold sixteen priors, and pull abundances back."""
    truth = labels_of(Mg=giants().mean[FE] - 0.35, C=giants().mean[FE] - 0.5)
    flux = seen(truth)
    singles = measure([spectrum_of(flux, np.random.default_rng(seed), snr=25, name=f"e{seed}") for seed in range(16)])
    (one,) = combined([replace(single, target="one") for single in singles])
    information = [np.linalg.inv(single.fits[0].covariance) for single in singles]
    pulls = [i @ single.labels for i, single in zip(information, singles, strict=True)]
    product = np.linalg.solve(np.sum(information, axis=0), np.sum(pulls, axis=0))
    ours, naive = (np.sqrt((((labels - truth) / one.sigma)[2:] ** 2).mean()) for labels in (one.labels, product))
    assert ours < 0.8 * naive
    assert (np.abs(one.labels - truth) < 2 * one.sigma).all()
    cerium = LABELS.index("Ce")  # the prior's in each exposure; were the prior averaged down, 0.24 of it would be left
    assert singles[0].prior_fraction[cerium] > 0.9
    assert one.prior_fraction[cerium] > 0.5


def test_a_spectrum_that_is_there_twice_counts_once(rng: np.random.Generator) -> None:
    spectrum = spectrum_of(seen(labels_of()), rng)
    single = measure([spectrum])
    (one,) = combined(single * 2)
    assert len(one.fits) == 1
    assert np.array_equal(one.sigma, single[0].sigma)


def test_combining_hides_no_doubt(rng: np.random.Generator) -> None:
    cool, warm = seen(labels_of(Teff=4300, logg=1.5, Fe=-0.4)), seen(labels_of(Teff=5000, logg=2.8, Fe=0.0))
    shifted = np.interp(NIRSPEC.wavelength / (1 + 280 / SPEED_OF_LIGHT), NIRSPEC.wavelength, warm)
    cases = (([cool, warm], "is it another star"), ([(cool + shifted) / 2] * 2, "the same lines once more"))
    for fluxes, said in cases:
        spectra = [spectrum_of(flux, rng, name=name) for flux, name in zip(fluxes, "ab", strict=True)]
        for spectrum in spectra:
            spectrum.target = "one"
        found = combined(measure(spectra))
        assert len(found) == 2 or fluxes[0] is fluxes[1]  # two stars are not averaged
        for one in found:
            assert said in one.reason
            assert one.verdict in ("doubtful", "outside")


def test_different_spectra_never_give_the_same_labels(rng: np.random.Generator, monkeypatch) -> None:
    first, second = (spectrum_of(seen(labels_of()), rng, name=name) for name in "ab")
    fit = measure([first])[0].fits[0]

    def stuck(wave, flux, *_):
        return replace(fit, flux=fit.flux + 1e-6 * flux[0])

    monkeypatch.setattr(measuring, "fit_giant", stuck)
    with pytest.raises(DataError, match="a and b are different spectra and have the very same 20 labels"):
        measure([first, second])


def test_a_prior_pulls_as_much_as_its_error_says(rng: np.random.Generator, tmp_path: Path) -> None:
    spectrum = spectrum_of(seen(labels_of()), rng)
    free = measure([spectrum])[0]
    path = tmp_path / "priors.csv"
    path.write_text(f"star,teff,teff_error,logg,logg_error\nstar,{free.labels[0] + 150},10,,\n")
    priors, complaints = read_priors(path, {"star"})
    assert complaints == []
    held = measure([spectrum], priors=priors)[0]
    assert 100 < held.labels[TEFF] - free.labels[TEFF] < 150
    assert held.labels[LOGG] > free.labels[LOGG]  # hotter stars of one spectrum are higher in gravity


def test_slips_in_priors_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "priors.csv"
    path.write_text(
        "star,teff,teff_error,logg,logg_error\nnobody,4500,50,,\na,4.5,0.05,2.0,0.1\nb,4500,0,,\nc,abc,50,,\nd,4500,50,,\n"
    )
    priors, complaints = read_priors(path, {"a", "b", "c", "d"})
    assert len(complaints) == 4
    assert "no spectrum of nobody" in complaints[0]
    assert "a has teff 4.5 ± 0.05, no K" in complaints[1]
    assert priors["a"].labels == ((LOGG, 2.0, 0.1),)  # its log g is fine
    assert priors["d"].labels == ((TEFF, 4500.0, 50.0),)
    assert not priors["b"].labels
    for content, said in (
        ("star,temperature\na,4500\n", "unknown column 'temperature'"),
        ("star,teff\na,4500\n", "teff without teff_error"),
        ("teff,teff_error\n4500,50\n", "needs a column star"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            read_priors(path, {"a"})


def test_neighbours_are_the_nearest_in_units_of_the_errors(rng: np.random.Generator) -> None:
    (one,) = measure([spectrum_of(seen(giants().atlas[123]), rng, snr=300)])
    found = nearest_neighbours(one, 5)
    inverse = np.linalg.inv(one.covariance)
    brute = np.array([np.sqrt((x - one.labels) @ inverse @ (x - one.labels) / 20) for x in giants().atlas])
    assert list(found["star_id"]) == list(giants().star_id[np.argsort(brute)[:5]])
    assert np.allclose(found["distance"], np.sort(brute)[:5], atol=1e-3)
    with pytest.raises(DataError, match="x has no neighbours: flat"):
        nearest_neighbours(Measured("x", "x", "flat"))


def test_the_atlas_repeats_and_lies_inside_the_domain() -> None:
    known = giants()
    assert known.atlas.shape == (20_000, 20)
    assert default_emulator().inside_domain(known.atlas).all()
    assert len(set(known.star_id)) == 20_000
    assert np.array_equal(giants.__wrapped__().atlas, known.atlas)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two exposures of one star, another star, a ruined file and a table of labels."""
    folder = tmp_path / "sky"
    folder.mkdir()
    stars = {"e1": labels_of(), "e2": labels_of(), "other": labels_of(Teff=4400, logg=1.8, Fe=-0.5)}
    for number, (name, labels) in enumerate(stars.items()):
        one = spectrum_of(seen(labels), np.random.default_rng(number))
        write_spec1d(folder / f"spec1d_{name}.fits", spec1d_table("SPAT1-SLIT1-MSC01", one.wavelength, one.flux))
    with fits.open(folder / "spec1d_other.fits", mode="update") as file:
        file[0].header["TARGET"] = "star_2"
    (folder / "spec1d_ruined.fits").write_bytes((folder / "spec1d_e1.fits").read_bytes()[:5000])
    lines = ["file,teff,logg,fe_h"]
    lines += [f"spec1d_{name}.fits,{x[TEFF]},{x[LOGG]},{x[FE]}" for name, x in stars.items()]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_answers_for_what_can_be_read(folder: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "out"
    assert cli.main(["observe", str(folder), "--output", str(output), "--combine", "--lsf", "3.9"]) == 0
    printed = capsys.readouterr().out
    assert "2 spectra, scatter" in printed
    assert "from the prior: " in printed
    assert "is truncated or no FITS file" in printed
    tables = [Table.read(output / f"observed.{end}") for end in ("ecsv", "parquet", "vot")]
    assert all(list(table["name"].astype(str)) == list(tables[0]["name"]) for table in tables)
    assert len(tables[0]) == 3
    assert np.allclose(tables[1]["Teff"], tables[0]["Teff"], equal_nan=True)
    assert tables[2]["fwhm"].unit == "nm"
    assert np.allclose(10 * tables[2]["fwhm"], tables[0]["fwhm"], equal_nan=True)
    row = tables[0][list(tables[0]["name"]).index("star_2")]
    assert abs(row["Teff"] - 4400) < 3 * row["sigma_Teff"]
    page = (output / "stars" / "star_2.html").read_text()
    assert re.search(r"<b>-?\d+\.\d ± 1[5-9]\.\d km/s</b>", page)  # as the table has it
    assert "../plotly.min.js" in page
    assert (output / "plotly.min.js").stat().st_size > 1e6
    assert 0.1e6 < len(page) < 0.6e6
    index = (output / "index.html").read_text()
    for one in tables[0]:
        assert f'href="stars/{one["name"]}.html"' in index
        assert (output / "stars" / f"{one['name']}.html").is_file()
    assert "Set aside: 1" in index
    assert 0 < row["prior_fraction_logg"] < 0.7
    assert "[Ce/H]" in str(row["from_prior"])
    assert not list(output.glob(".*"))  # nothing half-written


def test_files_may_be_named_one_by_one(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    found = observe([folder / "spec1d_e1.fits", folder / "spec1d_other.fits"], tmp_path / "out", lines.append)
    assert [one.name for one in found] == ["star_1", "star_2"]
    assert any("index.html and 2 pages" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "seed=3"], "give --params"),
        (["--lsf", "1"], "narrower than the emulator's"),
        (["--params", "params/m71.yaml", "--combine"], "--combine is not for networks"),
        (["--prior", "nowhere.csv"], "nowhere.csv is missing"),
        (["--population", "andromeda"], "unknown population 'andromeda'; choose one of wide, milky-way"),
        (["--params", "params/m71.yaml", "--population", "milky-way"], "--population is not for networks"),
    ],
)
def test_slips_of_the_command_get_one_line(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys
) -> None:
    assert cli.main(["observe", str(folder), *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_stars_with_known_labels_judge(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    table = benchmark_real(folder, tmp_path / "out", lines.append)
    assert isinstance(table, QTable)
    assert len(table) == 3
    assert np.abs(table["teff"] - table["teff_catalogue"]).max() < 150
    assert np.allclose(table["teff_pull"], (table["teff"] - table["teff_catalogue"]) / table["teff_error"])
    assert any(line.startswith("root mean square") for line in lines)
    assert (tmp_path / "out" / "benchmark.png").stat().st_size > 10_000
    (folder / "second.csv").write_text("teff,logg,fe_h\n")
    with pytest.raises(DataError, match=r"found labels.csv, second.csv; use --labels"):
        benchmark_real(folder, tmp_path / "out", lines.append)
    (folder / "second.csv").write_text("file,teff,logg,fe_h\nspec1d_nothing.fits,4500,2,0\n")
    with pytest.raises(DataError, match=r"no spectrum in .* has labels"):
        benchmark_real(folder, tmp_path / "out", lines.append, labels=folder / "second.csv")
    with pytest.raises(DataError, match="is not a folder; give the folder of the spectra"):
        benchmark_real(folder / "nowhere", tmp_path / "out", lines.append)


def test_a_cluster_and_repeats_judge_without_a_catalogue(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").write_text(
        "file,cluster\nspec1d_e1.fits,M 99\nspec1d_e2.fits,M 99\nspec1d_other.fits,M 99\nspec1d_gone.fits,M 99\n"
    )
    lines: list[str] = []
    table = benchmark_real(folder, tmp_path / "out", lines.append)
    text = "\n".join(lines)
    assert list(table["cluster"]) == ["M 99"] * 3
    assert np.isnan(table["teff_catalogue"]).all()
    assert f"1 of 4 labelled stars have no spectrum in {folder}: spec1d_gone.fits" in text
    assert "measured minus catalogue" not in text
    assert not (tmp_path / "out" / "benchmark.png").exists()
    found = measure(read_spectra(folder, OBSERVED))
    repeats, other = found[:2], found[2]
    assert repeats[0].target == repeats[1].target != other.target
    means = np.array([np.mean([one.labels[FE] for one in repeats]), other.labels[FE]])
    block = text[text.index("M 99, 2 stars (3 spectra)") :].splitlines()
    assert float(block[1].split()[1]) == pytest.approx(means.mean(), abs=0.006)
    assert float(block[2].split()[1]) == pytest.approx(means.std(ddof=1), abs=0.0006)
    block = text[text.index(f"{repeats[0].target}, 2 spectra") :].splitlines()
    off = repeats[0].labels[FE] - repeats[1].labels[FE]
    claimed = np.mean([noise_covariance(one.fits[0])[FE, FE] for one in repeats])
    assert float(block[2].split()[1]) == pytest.approx(abs(off) / np.sqrt(2), abs=0.0006)
    assert float(block[3].split()[-4]) == pytest.approx(abs(off) / np.sqrt(2 * claimed), abs=0.006)


def test_another_emulator_can_be_judged(folder: Path, tmp_path: Path) -> None:
    def judged(emulator: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "starclip_lib.lab.cli", "benchmark-real", str(folder), "--emulator", emulator]
        return subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)

    missing = judged(str(tmp_path / "nowhere.npz"))
    assert (missing.returncode, missing.stderr) == (1, f"starclip: error: {tmp_path / 'nowhere.npz'} is missing\n")
    other = tmp_path / "other.npz"
    arrays = dict(np.load(ROOT / "starclip_lib" / "physics" / "emulator.npz"))
    np.savez(other, **{**arrays, "version": np.array("abinitio-7")})
    assert "emulator abinitio-7" in judged(str(other)).stdout


def test_sources_of_one_file_are_told_apart_and_names_need_not_be_safe(tmp_path: Path) -> None:
    folder = tmp_path / "x1d"
    folder.mkdir()
    tables = []
    for name, labels in (("HD 1", labels_of(Teff=4300, logg=1.5)), ("HD 2", labels_of(Teff=5000, logg=2.8))):
        one = spectrum_of(seen(labels), np.random.default_rng(len(tables)))
        micron, jansky = one.wavelength / 1e4, one.flux * (one.wavelength / 12000) ** 2
        columns = {"WAVELENGTH": micron, "FLUX": jansky, "FLUX_ERROR": jansky / 100}
        units_of = {"WAVELENGTH": "um", "FLUX": "Jy", "FLUX_ERROR": "Jy"}
        table = fits.BinTableHDU.from_columns(
            [fits.Column(key, "D", unit=units_of[key], array=value) for key, value in columns.items()]
            + [fits.Column("DQ", "J", array=np.zeros(len(micron), int))],
            name="EXTRACT1D",
        )
        table.header["SRCNAME"] = name
        tables.append(table)
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(folder / "two_x1d.fits")
    rows = "two_x1d.fits,HD 1,4300,1.5,-0.3\ntwo_x1d.fits,HD 2,5000,2.8,-0.3\n"
    (folder / "labels.csv").write_text(f"file,star,teff,logg,fe_h\n{rows}")
    table = benchmark_real(folder, tmp_path / "out", lambda line: None)
    assert list(table["teff_catalogue"]) == [4300, 5000]
    assert np.abs(table["teff"] - table["teff_catalogue"]).max() < 150


def test_networks_are_judged_in_the_same_way(folder: Path, tmp_path: Path, finished: Run) -> None:
    table = benchmark_real(folder, tmp_path / "out", lambda line: None, run=finished)
    assert len(table) == 3
    assert (table["teff_error"] > 0).all()


def write_spex(path: Path, flux: np.ndarray, **header: str) -> Path:
    image = np.stack([NIRSPEC.wavelength / 1e4, flux, np.full(8192, 0.005)]).astype(np.float32)
    primary = fits.PrimaryHDU(image)
    primary.header.update({"OBJECT": "HD 1", "XUNITS": "um", "WAVETYPE": "Vacuum", "SXD_R": "2000", **header})
    primary.writeto(path)
    return path


def test_spex_spectra_are_read_with_their_resolution_and_without_the_atmosphere(tmp_path: Path) -> None:
    one = read_observed(write_spex(tmp_path / "hd1.fits", seen(labels_of(), 6.0)), OBSERVED)[0]
    assert (one.name, one.lsf) == ("HD_1", "R=2000")
    used = one.wavelength[~one.bad]
    assert not ((used > 11100) & (used < 11600)).any()
    assert not ((used > 13250) & (used < 14900)).any()
    in_air = read_observed(write_spex(tmp_path / "air.fits", seen(labels_of(), 6.0), WAVETYPE="Air"), OBSERVED)[0]
    assert (one.medium, in_air.medium) == ("vacuum", "air")
    assert 2.4 < in_air.wavelength[0] - one.wavelength[0] < 2.5  # 9,000 Angstrom


def test_pypeit_files_are_known_whatever_their_name(folder: Path) -> None:
    path = folder / "spec1d_e1.fits"
    with fits.open(path, mode="update") as file:
        file[0].header["DMODCLS"] = "SpecObjs"
    other = path.rename(folder / "renamed.fits")
    assert read_observed(other)[0].name == "star_1"


def test_other_gratings_are_refused_by_name(folder: Path) -> None:
    path = folder / "spec1d_e1.fits"
    with fits.open(path, mode="update") as file:
        file[0].header["DISPNAME"] = "G235H"
    with pytest.raises(
        DataError, match=r"taken with G235H: it begins at 16,600 .*what can be read is NIRSpec's G140H and G140M"
    ):
        read_observed(path)
    with fits.open(path, mode="update") as file:
        file[0].header["DISPNAME"] = "G140M"
    assert read_observed(path)[0].lsf == "G140M/F100LP/slit"


def test_a_table_of_nothing_has_all_its_columns() -> None:
    table = measured_table([Measured("x", "x", "flat")])
    assert {"name", "verdict", "Teff", "sigma_Teff", "Ce"} <= set(table.colnames)
    assert np.isnan(table["Teff"][0])


def real(folder: str) -> Path:
    place = SHARED / folder
    if not place.is_dir():
        pytest.skip(f"the real spectra of {folder} are not here; they are not part of the project")
    return place


def differences(table: QTable) -> np.ndarray:
    """Measured minus catalogue (n, 3)."""
    return np.array([table[name] - table[f"{name}_catalogue"] for name in ("teff", "logg", "fe_h")]).T


@pytest.mark.parametrize(("population", "logg", "pull"), [("wide", 0.45, 2.2), ("milky-way", 0.30, 1.6)])
def test_real_giants_of_the_irtf_library(population: str, logg: float, pull: float, tmp_path: Path) -> None:
    folder = real("irtf")
    table = benchmark_real(folder, tmp_path, lambda line: None, labels=folder / "labels.csv", population=population)
    off = differences(table)
    assert len(table) == 9
    assert (np.sqrt((off**2).mean(axis=0)) < [115, logg, 0.26]).all()  # [Fe/H], log g: docs/real-data.md explains why
    pulls = np.array([table[f"{name}_pull"] for name in ("teff", "logg", "fe_h")])
    assert (np.sqrt((pulls**2).mean(axis=1)) < pull).all()


@pytest.mark.parametrize("population", POPULATIONS)
def test_real_giants_of_m71(population: str, tmp_path: Path) -> None:
    table = benchmark_real(real("m71"), tmp_path, lambda line: None, population=population)
    assert list(table["name"]) == ["2609_152", "2609_19"]
    assert (np.sqrt((differences(table) ** 2).mean(axis=0)) < [75, 0.33, 0.10]).all()


def test_real_apogee_dwarfs_are_not_measured_as_giants() -> None:
    spectra = []
    for path in sorted(real("apogee").glob("aspcapStar*.fits")):
        with fits.open(path) as file:
            flux, error = file[1].data.astype(float), file[2].data
        there = (flux > 0) & (error < 0.1)
        width = 3.9 / 2.3548 / 0.221
        reach = gaussian_filter1d(there.astype(float), width)
        broad = gaussian_filter1d(np.where(there, flux, 0), width) / np.maximum(reach, 1e-3)
        wave, every = 10 ** (4.179 + 6e-6 * np.arange(8575)), slice(None, None, 8)
        ivar = np.full(len(wave[every]), 1e5)
        spectra.append(
            as_observed(path.stem[-18:], wave[every], broad[every], ivar, reach[every] < 0.7, OBSERVED, 0.0, "", "3.95")
        )
    found = {one.name: one for one in measure(spectra)}
    giant = found.pop("2M17334253-1654573")  # ASPCAP: 3788 K, 1.31, -0.06
    assert not giant.set_aside
    assert (np.abs(giant.labels[[TEFF, LOGG, FE]] - [3788, 1.31, -0.06]) < [150, 0.3, 0.2]).all()
    assert all(one.set_aside for one in found.values())


def test_reading_a_folder_of_other_fits_files(tmp_path: Path) -> None:
    write_spex(tmp_path / "K3.5III_HD1.fits", seen(labels_of(), 6.0))
    write_spex(tmp_path / "K3.5III_HD2.fits", seen(labels_of(), 6.0))
    assert [one.name for one in read_spectra(tmp_path)] == ["K3.5III_HD1_HD_1", "K3.5III_HD2_HD_1"]
