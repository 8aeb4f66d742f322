"""Magnitudes, distances and colours as priors: relations, errors, tables, and what they do to a fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_measuring import labels_of, seen, spectrum_of

from starclip_lib.observed.measuring import measure
from starclip_lib.observed.photometry import (
    BANDS,
    COLOURS,
    bolometric_correction,
    extinction_ratio,
    surface_gravity,
)
from starclip_lib.observed.priors import StarPrior, read_priors, with_scales
from starclip_lib.physics.giants import SCALE_ERROR, giants, scale_covariance
from starclip_lib.physics.labels import FE, LOGG, N_LABELS, TEFF
from starclip_lib.support.errors import DataError

M31_GIANT = (("magnitude", 18.9, 0.02), ("distance_modulus", 24.41, 0.06), ("a_v", 0.2, 0.05), ("mass", 1.0, 0.3))


def test_a_colour_gives_the_temperature_that_it_came_from() -> None:
    for colour in COLOURS.values():
        for teff in (4200.0, 5000.0):
            assert colour.teff(colour.colour(teff, -0.8), -0.8) == pytest.approx(teff, abs=1e-6)


def test_the_red_clump_and_arcturus_have_their_gravities() -> None:
    """The clump's M_Ks = -1.61 (Hawkins et al. 2017) at 4750 K and 1.2 Msun: seismology gives 2.4 to 2.5 there.

    Arcturus (Ramírez and Allende Prieto 2011): 4286 K, -0.52, 1.08 Msun, 11.26 pc, Johnson K = -3.0, log g = 1.66.
    """
    clump = surface_gravity(4750, 1.2, -1.61 + bolometric_correction(BANDS["Ks"], 4750, -0.1))
    assert clump == pytest.approx(2.45, abs=0.06)
    modulus = 5 * np.log10(11.26 / 10)
    arcturus = surface_gravity(4286, 1.08, -3.0 - modulus + bolometric_correction(BANDS["Ks"], 4286, -0.52))
    assert arcturus == pytest.approx(1.66, abs=0.1)


def test_bolometric_corrections_are_continuous_and_ordered() -> None:
    teff = np.arange(4000.0, 5300.0, 5)
    for band in BANDS.values():
        correction = np.array([bolometric_correction(band, t, -0.5) for t in teff])
        assert np.abs(np.diff(correction)).max() < 0.02  # also where the two equations of Alonso et al. meet
        assert (np.diff(correction)[::20] < 0).all()
    assert bolometric_correction(BANDS["H"], 4500, -0.5) < bolometric_correction(BANDS["Ks"], 4500, -0.5)


def test_extinction_is_cardellis() -> None:
    """Table 3 of Cardelli et al. (1989) for R_V = 3.1: J 0.282, H 0.190, K 0.114, at 1.25, 1.65 and 2.2 micron."""
    found = [extinction_ratio(wavelength) for wavelength in (1 / 1.82, 1.25, 1.65, 2.2)]
    assert np.allclose(found, [1.0, 0.282, 0.190, 0.114], atol=0.01)


def test_errors_are_those_of_random_draws(rng: np.random.Generator) -> None:
    """Both numbers of a star with a colour and a magnitude, which share the error of the extinction."""
    numbers = (*M31_GIANT, ("colour_index", 0.85, 0.02))
    prior = StarPrior(band="Ks", colour="J-Ks", numbers=numbers)
    rows, values, covariance = prior.terms(4300.0, -0.5)
    assert rows.shape == (2, N_LABELS)
    drawn = []
    for _ in range(4000):
        one = {name: value + error * rng.standard_normal() for name, value, error in numbers}
        one["mass"] = 10 ** (0.3 / np.log(10) * rng.standard_normal())  # the same error, of the logarithm
        absolute = one["magnitude"] - one["distance_modulus"] - one["a_v"] * extinction_ratio(2.159)
        absolute += bolometric_correction(BANDS["Ks"], 4300, -0.5) + 0.05 * rng.standard_normal()
        red = one["a_v"] * (extinction_ratio(1.235) - extinction_ratio(2.159))
        teff = COLOURS["J-Ks"].teff(one["colour_index"] - red, -0.5) + 100 * rng.standard_normal()
        drawn.append([surface_gravity(4300, one["mass"], absolute), teff])
    at = np.zeros(N_LABELS)
    at[[TEFF, FE]] = 4300, -0.5
    offset = values - rows @ at  # log g, and Teff, less what 4300 K gives
    assert np.allclose(offset + [0, 4300], np.mean(drawn, axis=0), atol=[0.01, 8])
    assert np.allclose(np.sqrt(np.diag(covariance)), np.std(drawn, axis=0), rtol=0.05)
    weak = StarPrior(band="Ks", colour="J-Ks", numbers=(*numbers[:2], ("a_v", 0.2, 1.0), *numbers[3:]))
    together = weak.terms(4300.0, -0.5)[2]
    correlation = together[0, 1] / np.sqrt(together[0, 0] * together[1, 1])
    assert correlation == pytest.approx(-0.4, abs=0.25)  # more extinction: brighter, so lower in gravity, and hotter


def test_precision_and_values_hold_the_terms() -> None:
    prior = StarPrior(((FE, -0.7, 0.1),), "F160W", "", M31_GIANT)
    rows, values, covariance = prior.terms(4500.0, -0.5)
    precision, there = prior.precision()
    assert np.allclose(rows @ there, values)
    assert np.allclose(precision, rows.T @ np.linalg.inv(covariance) @ rows)
    assert not StarPrior().precision()[0].any()


def test_one_row_serves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "priors.csv"
    path.write_text(
        "star,band,magnitude,magnitude_error,distance_modulus,distance_modulus_error,a_v,a_v_error,fe_h,fe_h_error\n"
        "*,F160W,,,24.41,0.06,0.2,0.05,-0.4,0.3\nrgb 1,,18.9,0.02,,,,,,\nrgb_2,Ks,18.7,0.02,,,0.4,0.05,,\n"
    )
    priors, complaints = read_priors(path, {"rgb_1", "rgb_2", "rgb_3"})
    assert complaints == []
    assert priors["rgb_1"] == StarPrior(((FE, -0.4, 0.3),), "F160W", "", M31_GIANT)
    assert (priors["rgb_2"].band, {n: v for n, v, _ in priors["rgb_2"].numbers}["a_v"]) == ("Ks", 0.4)
    assert priors["rgb_3"] == StarPrior(((FE, -0.4, 0.3),))


HEAD = (
    "star,band,magnitude,magnitude_error,distance_modulus,distance_modulus_error,a_v,a_v_error,"
    "colour,colour_index,colour_index_error\n"
)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,F160W,18.9,0.02,,,0.2,0.05,,,", "without distance_modulus"),
        ("a,F160W,18.9,0.02,24.4,0.06,,,,,", "without a_v"),
        ("a,F814W,20.9,0.02,24.4,0.06,0.2,0.05,,,", "'F814W'; known are J, H, Ks"),
        ("a,,20.9,0.02,24.4,0.06,0.2,0.05,,,", "known are J, H, Ks"),
        ("a,Ks,18.9,0.02,244,0.06,0.2,0.05,,,", "distance_modulus 244"),
        ("a,Ks,28.9,0.02,14.4,0.06,0.2,0.05,,,", "which no giant has"),
        ("a,Ks,14.0,0.02,24.4,0.06,0.2,0.05,,,", "which no giant has"),
        ("a,,,,,,0.2,0.05,J-Ks,1.6,0.02", "the relation holds from 0.1 to 0.9"),
        ("a,,,,,,0.2,0.05,g-r,0.6,0.02", "known are J-Ks"),
        ("a,,,,,,,,J-Ks,0.7,0.02", "without a_v"),
        ("a,Ks,bright,0.02,24.4,0.06,0.2,0.05,,,", "magnitude bright"),
        ("a,Ks,18.9,0.02,24.4,0.06,0.2,,,,", "a_v 0.2 without its error"),
    ],
)
def test_photometry_that_cannot_be_used_is_named(row: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "priors.csv"
    path.write_text(f"{HEAD}{row}\n")
    priors, complaints = read_priors(path, {"a"})
    assert priors["a"] == StarPrior()
    assert any(reason in line for line in complaints), complaints


def test_columns_that_belong_together_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "priors.csv"
    path.write_text("star,magnitude,magnitude_error\na,18,0.1\n")
    with pytest.raises(DataError, match="columns band and magnitude belong together"):
        read_priors(path, {"a"})


def magnitude_of(labels: np.ndarray, mass: float = 1.0, band: str = "F160W") -> float:
    """The magnitude at a distance modulus of 24.41 behind A_V = 0.2 that a giant with such labels has."""
    bolometric = 4.70 + (labels[LOGG] - 4.438 - np.log10(mass) - 4 * np.log10(labels[TEFF] / 5772)) / 0.4
    bolometric -= bolometric_correction(BANDS[band], labels[TEFF], labels[FE])
    return float(bolometric + 24.41 + 0.2 * extinction_ratio(BANDS[band].wavelength))


def test_a_magnitude_measures_the_gravity_of_a_faint_star() -> None:
    truth = labels_of(Teff=4300, logg=1.2, Fe=-0.4)
    numbers = (("magnitude", magnitude_of(truth), 0.02), *M31_GIANT[1:])
    prior = StarPrior(band="F160W", numbers=numbers)
    off, sigma = [], []
    for seed in range(4):
        spectrum = spectrum_of(seen(truth), np.random.default_rng(seed), snr=25)
        free, held = measure([spectrum])[0], measure([spectrum], priors={"star": prior})[0]
        off.append([abs(one.labels[LOGG] - truth[LOGG]) for one in (free, held)])
        sigma.append([np.sqrt(one.fits[0].covariance[LOGG, LOGG]) for one in (free, held)])
        assert "--prior" not in " ".join(held.warnings)
    off, sigma = np.mean(off, axis=0), np.mean(sigma, axis=0)
    assert sigma[1] < 0.15  # the mass' 0.13, and the magnitude's
    assert sigma[1] < 0.8 * sigma[0]
    assert off[1] < max(off[0], 0.1)


def test_scales_widen_what_the_spectrum_tells_and_not_what_the_user_knows(rng: np.random.Generator) -> None:
    """Against the same posterior built from its parts: spectrum and population, then the scales, then photometry."""
    known, truth = giants(), labels_of(Teff=4300, logg=1.2, Fe=-0.4)
    response = rng.normal(size=(60, N_LABELS)) / np.array([80.0, *[0.3] * 19])
    data, there = response.T @ response, truth + rng.normal(0, 0.1, N_LABELS)
    weight, values = StarPrior(band="F160W", numbers=M31_GIANT).precision(4300, -0.4)
    alone = np.linalg.inv(data + known.precision)
    mean = alone @ (data @ there + known.precision @ known.mean)
    wide = np.linalg.inv(alone + scale_covariance())
    expected = np.linalg.inv(wide + weight)
    both = known.precision + weight
    prior = (np.linalg.solve(both, known.precision @ known.mean + weight @ values), both, np.linalg.inv(both))
    covariance = np.linalg.inv(data + both)
    labels = covariance @ (data @ there + both @ prior[0])
    found, sigma2 = with_scales(labels, covariance, prior, known)
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(sigma2 / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-3)
    np.testing.assert_allclose(found / scale, expected @ (wide @ mean + weight @ values) / scale, atol=1e-2)
    without = with_scales(labels, covariance, (known.mean, known.precision, known.covariance), known)
    assert np.array_equal(without[0], labels)
    np.testing.assert_allclose(without[1], covariance + scale_covariance())


def test_errors_of_gravity_hold_with_photometry_and_scales(rng: np.random.Generator) -> None:
    """Stars whose spectra are on a shifted scale, with magnitudes of random masses: pulls of log g are near 1."""
    pulls, truth = [], labels_of(Teff=4500, logg=1.8, Fe=-0.4)
    for number in range(8):
        shifted = truth.copy()
        shifted[LOGG] += rng.normal(0, SCALE_ERROR[1])
        spectrum = spectrum_of(seen(shifted), rng, snr=60, name=f"s{number}")
        magnitude = magnitude_of(truth, mass=max(rng.normal(1.0, 0.3), 0.5)) + rng.normal(0, 0.1)
        prior = StarPrior(band="F160W", numbers=(("magnitude", magnitude, 0.02), *M31_GIANT[1:]))
        (one,) = measure([spectrum], priors={f"s{number}": prior})
        pulls.append((one.labels[LOGG] - truth[LOGG]) / one.sigma[LOGG])
        assert one.sigma[LOGG] < 0.16
    assert 0.4 < np.sqrt(np.mean(np.square(pulls))) < 1.7


def test_magnitudes_of_another_star_or_system_are_noticed(rng: np.random.Generator) -> None:
    truth = labels_of(Teff=4600, logg=2.2, Fe=-0.4)
    spectrum = spectrum_of(seen(truth), rng, snr=100)
    wrong = StarPrior(band="F160W", numbers=(("magnitude", magnitude_of(truth) - 4, 0.02), *M31_GIANT[1:]))
    (one,) = measure([spectrum], priors={"star": wrong})
    assert any("spectrum and --prior differ by" in line for line in one.warnings)


def test_the_worked_example_of_the_guide_is_right(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "guides" / "priors.md").read_text()
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ") and line.count(",") == 7]
    path = tmp_path / "known.csv"
    path.write_text("\n".join(lines) + "\n")
    priors, complaints = read_priors(path, {"m31_rgb_1"})
    assert complaints == []
    rows, values, covariance = priors["m31_rgb_1"].terms(4200.0, -0.3)
    at = np.zeros(N_LABELS)
    at[[TEFF, FE]] = 4200, -0.3
    assert f"= {(values - rows @ at)[0]:.2f}" in text
    assert f"| all, in quadrature | {np.sqrt(covariance[0, 0]):.3f} |" in text
    assert f"log g - {-rows[0, TEFF]:.1e} (Teff - 4200 K) + {rows[0, FE]:.3f}".replace("e-04", "e-4") in text
    assert f"that {bolometric_correction(BANDS['F160W'], 4200, -0.3):.2f} is added" in text
