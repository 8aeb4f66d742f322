from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.stats import kstest

from starclip_lib.data.apogee_mock import draw_snr, observe_apogee, shift_and_broaden, sky_pattern
from starclip_lib.data.simulate import catalogue_errors, perturb, simulate_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.physics.labels import ASPCAP_ERROR, FE, LOGG, PUBLISHED_SPREAD, TEFF
from starclip_lib.settings.data import DataParams, ObservationParams
from starclip_lib.support.errors import DataError


@pytest.fixture(scope="module")
def many() -> PairedSpectra:
    return simulate_survey(2500, seed=1)


def test_spreads_are_the_published_ones_to_15_per_cent(many: PairedSpectra) -> None:
    ratio = many.labels.std(axis=0) / PUBLISHED_SPREAD
    assert (np.abs(ratio - 1) < 0.15).all(), ratio


def test_population_fills_the_papers_domain(many: PairedSpectra) -> None:
    teff, logg, feh = many.labels[:, TEFF], many.labels[:, LOGG], many.labels[:, FE]
    assert (teff > 4000).all()
    assert (teff < 5000).all()
    assert (logg > 0.5).all()
    assert (logg < 2).all()
    assert feh.min() == pytest.approx(-1.8, abs=0.25)
    assert feh.max() == pytest.approx(0.45, abs=0.15)
    counts, edges = np.histogram(feh, 25)
    assert edges[counts.argmax()] == pytest.approx(-0.25, abs=0.15)
    similar = np.abs(logg - 1.5) < 0.1
    assert np.corrcoef(teff[similar], feh[similar])[0, 1] < -0.3  # metal-poor giants are hotter


def test_nirspec_is_ab_initio_at_the_catalogue_labels(survey: PairedSpectra) -> None:
    expected = default_emulator()(survey.labels.astype(float), NIRSPEC)
    np.testing.assert_allclose(survey.nirspec.flux, expected, atol=3e-5)  # labels are stored in float32
    assert not survey.nirspec.mask.any()


def test_apogee_is_empty_off_the_chips_and_marked(survey: PairedSpectra) -> None:
    assert survey.apogee.mask[:, ~APOGEE.on_detector].all()
    assert (survey.apogee.flux[survey.apogee.mask] == 0).all()
    assert ((survey.apogee.ivar == 0) == survey.apogee.mask).all()
    bad = survey.apogee.mask[:, APOGEE.on_detector].mean()
    n = survey.n_stars * APOGEE.on_detector.sum()
    assert bad == pytest.approx(0.002, abs=5 * np.sqrt(0.002 / n))


def test_the_same_seed_gives_the_same_survey() -> None:
    one, two, other = (simulate_survey(50, seed) for seed in (8, 8, 9))
    assert (one.apogee.flux == two.apogee.flux).all()
    assert (one.labels == two.labels).all()
    assert (one.split == two.split).all()
    assert not (one.labels == other.labels).any()


def test_catalogue_errors_are_aspcaps_and_share_the_error_of_iron(rng: np.random.Generator) -> None:
    truth = np.zeros((40000, 20))
    errors = catalogue_errors(len(truth), 0.2, rng)
    np.testing.assert_allclose(errors.mean(axis=0), ASPCAP_ERROR, rtol=0.01)
    fixed = np.broadcast_to(ASPCAP_ERROR, truth.shape)
    noise = perturb(truth, fixed, rng)
    np.testing.assert_allclose(noise.std(axis=0), ASPCAP_ERROR, rtol=5 / np.sqrt(2 * len(truth)))
    covariance = np.cov(noise.T)
    np.testing.assert_allclose(covariance[2, 3], ASPCAP_ERROR[FE] ** 2, rtol=0.2)  # [C/H] and [N/H] through [Fe/H]
    assert abs(covariance[TEFF, LOGG]) < 5 * ASPCAP_ERROR[TEFF] * ASPCAP_ERROR[LOGG] / np.sqrt(len(truth))


def test_snr_is_a_truncated_power_law(rng: np.random.Generator) -> None:
    settings = ObservationParams()
    snr = draw_snr(20000, settings, rng)
    low, high, index = 200.0, 2900.0, settings.snr_index
    assert snr.min() >= low
    assert snr.max() <= high
    law = kstest(snr, lambda s: (1 - (s / low) ** -index) / (1 - (high / low) ** -index))
    assert law.pvalue > 1e-3


def test_a_shift_by_whole_pixels_is_a_roll(rng: np.random.Generator) -> None:
    flux = 1 - 0.3 * gaussian_filter1d(rng.random((2, APOGEE.n_pix)), 2, axis=1)
    step = np.log(10) * 6e-6 * SPEED_OF_LIGHT
    shifted = shift_and_broaden(flux, np.array([3 * step, -2 * step]), np.ones(2))
    np.testing.assert_allclose(shifted[0, 100:-100], np.roll(flux[0], 3)[100:-100], atol=1e-9)
    np.testing.assert_allclose(shifted[1, 100:-100], np.roll(flux[1], -2)[100:-100], atol=1e-9)


def test_broadening_is_a_convolution_and_can_be_undone() -> None:
    x = np.arange(APOGEE.n_pix)
    sigma = 1e0 / (22500 * np.log(10) * 6e-6 * np.sqrt(8 * np.log(2)))  # the instrument's, in pixels
    line = 1 - 0.5 * np.exp(-0.5 * ((x - 4000) / sigma) ** 2)[None]
    wider = shift_and_broaden(line, np.zeros(1), np.array([1.1]))[0]
    expected = 1 - 0.5 / 1.1 * np.exp(-0.5 * ((x - 4000) / (1.1 * sigma)) ** 2)
    np.testing.assert_allclose(wider, expected, atol=2e-4)
    back = shift_and_broaden(wider[None], np.zeros(1), np.array([np.sqrt(1 - (1.1**2 - 1))]))
    np.testing.assert_allclose(back, line, atol=2e-3)


def test_noise_has_the_stated_level_and_sky_residuals_stay_in_place(rng: np.random.Generator) -> None:
    quiet = ObservationParams(rv_residual=0, lsf_residual=0, sky_residual=0, telluric_residual=0, bad_pixels=0)
    flux = np.ones((300, APOGEE.n_pix), np.float32)
    snr = np.full(300, 250.0)
    seen = observe_apogee(flux, snr, quiet, rng)[0][:, APOGEE.on_detector] - 1
    assert seen.std() == pytest.approx(1 / 250, rel=5 / np.sqrt(2 * seen.size))

    sky = quiet.changed(sky_residual=0.02, telluric_residual=0.01)
    seen = observe_apogee(flux, snr, sky, rng)[0] - 1
    excess = np.sqrt(np.maximum(seen.var(axis=0) - 1 / 250**2, 0))
    emission, absorption = sky_pattern()
    pattern = np.sqrt(((0.02 * emission) ** 2).sum(0) + ((0.01 * absorption) ** 2).sum(0))
    strong = APOGEE.on_detector & (pattern > 0.01)
    np.testing.assert_allclose(excess[strong], pattern[strong], rtol=0.25)


def test_cuts_that_keep_nothing_are_named() -> None:
    with pytest.raises(DataError, match=r"data.feh_range \(-1.8, -1.79\).*widen them"):
        simulate_survey(50, 1, DataParams(feh_range=(-1.8, -1.79)))
