"""Decoders and planted anomalies."""

from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import label_index
from starclip_lib.run import Run
from starclip_lib.suite.anomalies import Observatory, ResidualScore, add_emission_line, detection_rate, stripped
from starclip_lib.suite.decoders import (
    Decoder,
    SpectrumBasis,
    filled,
    regions,
    spectrum_scores,
    view_coefficients,
)
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import mock_telescope


def low_rank_spectra(rng: np.random.Generator, n: int, rank: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Spectra that are linear in `rank` numbers, smooth in wavelength."""
    shapes = np.array([np.sin((k + 1) * NIRSPEC.wavelength / 700) for k in range(rank)])
    numbers = np.random.default_rng(5).normal(size=(n, rank)) if n < 0 else rng.normal(size=(n, rank))
    return numbers, (0.8 + 0.02 * numbers @ shapes).astype(np.float32)


def test_components_reproduce_spectra_of_their_rank(rng: np.random.Generator) -> None:
    _, flux = low_rank_spectra(rng, 60)
    basis = SpectrumBasis.fit(flux, NIRSPEC.fill_value, n_components=3)
    np.testing.assert_allclose(basis.spectra(basis.coefficients(flux, NIRSPEC.fill_value)), flux, atol=1e-3)


def test_missing_pixels_do_not_enter_the_components(rng: np.random.Generator) -> None:
    _, flux = low_rank_spectra(rng, 60)
    flux[:, :500] = APOGEE.fill_value
    flux[0, 600:620] = APOGEE.fill_value
    assert filled(flux, APOGEE.fill_value)[0, 610] == pytest.approx(flux[1:, 610].mean(), rel=1e-3)
    basis = SpectrumBasis.fit(flux, APOGEE.fill_value, n_components=3)
    again = basis.spectra(basis.coefficients(flux, APOGEE.fill_value))
    assert np.isnan(again[:, :500]).all()
    np.testing.assert_allclose(again[1:, 500:], flux[1:, 500:], atol=2e-3)


def test_coefficients_of_views_are_those_of_each_view(finished: Run, rng: np.random.Generator) -> None:
    data, telescope = finished.data, mock_telescope(finished.params)
    basis = SpectrumBasis.fit(data.nirspec.flux[data.rows("train")], NIRSPEC.fill_value, n_components=5)
    rows = np.array([40, 3])
    found = view_coefficients(basis, data.nirspec, rows, telescope)
    views = telescope.views(data.nirspec, rows).reshape(-1, NIRSPEC.n_pix)
    np.testing.assert_allclose(found, basis.coefficients(views, NIRSPEC.fill_value), atol=1e-3)


def test_too_few_spectra_for_the_components_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="20 spectra are too few for 50 principal components"):
        SpectrumBasis.fit(low_rank_spectra(rng, 20)[1], NIRSPEC.fill_value)


def test_both_decoders_recover_a_linear_relation(rng: np.random.Generator) -> None:
    numbers, flux = low_rank_spectra(rng, 700)
    basis = SpectrumBasis.fit(flux[:600], NIRSPEC.fill_value, n_components=3)
    coefficients = basis.coefficients(flux[:600], NIRSPEC.fill_value)
    parts = regions(NIRSPEC)
    for kind, least in (("linear", 0.9999), ("network", 0.97)):
        predicted = Decoder(basis, kind).fit(numbers[:600], coefficients).predict(numbers[600:])
        scores = spectrum_scores(flux[600:], predicted, flux[:600].mean(axis=0), NIRSPEC, parts)
        assert min(scores["r2"]) > least, kind


def test_scores_are_zero_for_the_mean_and_one_for_the_truth(rng: np.random.Generator) -> None:
    _, flux = low_rank_spectra(rng, 50)
    mean, parts = flux.mean(axis=0), regions(NIRSPEC)
    mean_scores = spectrum_scores(flux, np.tile(mean, (50, 1)), mean, NIRSPEC, parts)
    np.testing.assert_allclose(mean_scores["r2"], 0, atol=1e-6)
    assert spectrum_scores(flux, flux, mean, NIRSPEC, parts)["r2"] == [1] * len(parts)
    shifted = spectrum_scores(flux, flux + 0.01, mean, NIRSPEC, parts)
    np.testing.assert_allclose(shifted["rms"], 0.01, rtol=1e-3)


def test_regions_tile_the_chips() -> None:
    assert [round(b - a) for a, b in regions(NIRSPEC)] == [1500] * 6
    parts = regions(APOGEE, 1e9)
    assert len(parts) == 3
    assert all(a < b for a, b in parts)


def test_an_emission_line_has_the_height_and_the_width_of_the_instrument(rng: np.random.Generator) -> None:
    flux = np.full((20, NIRSPEC.n_pix), 0.5, np.float32)
    flux[:, :4000] = NIRSPEC.fill_value
    bright, centre = add_emission_line(flux, NIRSPEC, 0.1, rng)
    added = bright - flux
    assert (centre >= NIRSPEC.wavelength[4000]).all()
    np.testing.assert_allclose(added.max(axis=1), 0.1, rtol=1e-3)
    assert (added[:, :4000] == 0).all()
    inner = centre < NIRSPEC.wavelength[-50]
    inner &= centre > NIRSPEC.wavelength[4050]
    equivalent_width = added.sum(axis=1) * np.diff(NIRSPEC.wavelength).mean()
    expected = 0.1 * centre / NIRSPEC.resolution * np.sqrt(np.pi / (4 * np.log(2)))  # of a Gaussian with that FWHM
    np.testing.assert_allclose(equivalent_width[inner], expected[inner], rtol=1e-3)


def test_scores_of_normal_spectra_are_those_of_noise_and_a_line_stands_out(rng: np.random.Generator) -> None:
    predicted = np.full((300, NIRSPEC.n_pix), 0.7, np.float32)
    snr = rng.uniform(50, 200, (300, 1))
    observed = (predicted + rng.normal(size=predicted.shape) / snr).astype(np.float32)
    observed[:, 2000:2400] = NIRSPEC.fill_value
    score = ResidualScore(observed[:150], predicted[:150], NIRSPEC)
    normal = score(observed[150:], predicted[150:])
    np.testing.assert_allclose(normal["chi2"].mean(), 1, atol=0.03)
    assert 3 < np.median(normal["line"]) < 5  # the largest of some 2,000 independent Gaussians
    planted = score(add_emission_line(observed[150:], NIRSPEC, 0.2, rng)[0], predicted[150:])
    assert detection_rate(normal["line"], planted["line"]) > 0.9


def test_a_usual_error_of_the_decoder_is_no_anomaly(rng: np.random.Generator) -> None:
    """A pixel in which the prediction always scatters must not raise an alarm."""
    predicted = np.full((400, NIRSPEC.n_pix), 0.7, np.float32)
    observed = predicted + rng.normal(size=predicted.shape) / 100
    observed[:, 1000:1100] += 0.1 * rng.normal(size=(400, 1))
    score = ResidualScore(observed[:200], predicted[:200], NIRSPEC)
    z = score(observed[200:], predicted[200:])
    np.testing.assert_allclose(z["chi2"].mean(), 1, atol=0.05)


def test_the_observatory_changes_nothing_but_what_is_planted(finished: Run) -> None:
    data, model = finished.data, finished.model("starclip")
    nirspec, apogee = (finished.embeddings(f"starclip/{name}") for name in ("nirspec", "apogee"))
    observatory = Observatory(data, model.encoders["nirspec"], apogee, mock_telescope(finished.params))
    rows = data.rows("test")[:3]
    pairs = observatory.pairs(data.nirspec.flux, rows)
    np.testing.assert_allclose(pairs.z_nirspec, nirspec.of_view(0).z[rows], atol=1e-3)
    np.testing.assert_array_equal(pairs.z_apogee, apogee.z[rows])
    np.testing.assert_array_equal(observatory.pairs(data.nirspec.flux, rows, rows[::-1]).z_apogee, apogee.z[rows[::-1]])
    possible, flux = stripped(data, rows, "Mg", 0.2, default_emulator())
    planted = observatory.look(flux, possible)
    normal = observatory.look(data.nirspec.flux, possible)
    labels = data.labels[possible].astype(float)
    labels[:, label_index("Mg")] -= 0.2
    change = default_emulator()(labels, NIRSPEC) - data.nirspec.flux[possible]
    seen = normal != NIRSPEC.fill_value
    assert len(possible)
    np.testing.assert_allclose((planted - normal)[seen], change[seen], atol=1e-3)
    with pytest.raises(ValueError, match="must be those of all stars of the data set, in their order"):
        Observatory(data, model.encoders["nirspec"], apogee.take("test"), mock_telescope(finished.params))


def test_detection_rate_at_given_false_alarms(rng: np.random.Generator) -> None:
    normal = np.arange(1000.0)
    assert detection_rate(normal, normal) == pytest.approx(0.009)
    assert detection_rate(normal, normal + 1e6) == 1
    x = rng.normal(size=200_000)
    assert detection_rate(x, x + 2.3263) == pytest.approx(0.5, abs=0.02)  # 99 % quantile of a Gaussian
    with pytest.raises(ValueError, match="between 0 and 1"):
        detection_rate(normal, normal, 0)
