"""What observed views tell of the labels, against the information of one spectrum at a time."""

from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.fisher import bounds, information, rms_bound
from starclip_lib.metrics.view_information import ViewInformation, seen_by, seen_by_apogee, snr_from_ivar
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import PUBLISHED_SPREAD
from starclip_lib.settings.params import Params
from starclip_lib.transforms.views import extended_telescope, mock_telescope

PRIOR = np.diag(PUBLISHED_SPREAD**2)


def test_each_view_has_its_own_noise_and_gaps(survey: PairedSpectra, params: Params) -> None:
    rows, telescope = np.array([12, 3]), mock_telescope(params)
    seen = seen_by(telescope, survey, rows, default_emulator())
    views, snr = telescope.views_and_snr(survey.nirspec, rows)
    np.testing.assert_array_equal(seen.rows, rows)
    np.testing.assert_array_equal(seen.labels, survey.labels[rows])
    np.testing.assert_allclose(seen.snr, snr)
    for star, view in ((0, 0), (1, 1)):
        missing = views[star, view] == NIRSPEC.fill_value
        alone = information(default_emulator(), seen.labels[star], NIRSPEC, snr[star, view], missing=missing)
        np.testing.assert_allclose(seen.information[star, view], alone, rtol=1e-6, atol=1e-6 * np.abs(alone).max())


def test_lines_of_another_star_tell_nothing(survey: PairedSpectra, params: Params) -> None:
    rows, telescope = np.array([12]), extended_telescope(survey, params, 1)
    seen = seen_by(telescope, survey, rows, default_emulator())
    views, snr = telescope.views_and_snr(survey.nirspec, rows)
    missing = views[0, 0] == NIRSPEC.fill_value
    all_told = information(default_emulator(), seen.labels[0], NIRSPEC, snr[0, 0], missing=missing)
    missing[telescope.corruption.steps[0].pixels.numpy()] = True
    expected = information(default_emulator(), seen.labels[0], NIRSPEC, snr[0, 0], missing=missing)
    np.testing.assert_allclose(seen.information[0, 0], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert np.diag(expected).sum() < np.diag(all_told).sum()


def test_apogee_tells_with_the_noise_that_the_data_set_keeps(survey: PairedSpectra) -> None:
    rows = np.array([5, 8])
    seen = seen_by_apogee(survey, rows, 1.0, default_emulator())
    np.testing.assert_allclose(seen.snr[:, 0], snr_from_ivar(survey.apogee, rows, 1.0))
    missing = survey.apogee.mask[5]
    alone = information(default_emulator(), seen.labels[0], APOGEE, seen.snr[0, 0], missing=missing)
    np.testing.assert_allclose(seen.information[0, 0], alone, rtol=1e-6, atol=1e-6 * np.abs(alone).max())


@pytest.fixture
def made_up() -> ViewInformation:
    """Four stars with two views each, whose information is a number times the identity."""
    amount = np.array([[1.0, 3.0], [4.0, 4.0], [9.0, 1.0], [16.0, 2.0]])
    matrices = amount[:, :, None, None] * np.eye(20)
    return ViewInformation(np.arange(4), np.zeros((4, 20)), matrices, np.arange(8.0).reshape(4, 2))


def test_information_of_views_adds_up(made_up: ViewInformation) -> None:
    """With a prior of the published spreads, the variance is spread^2 / (1 + information)."""
    total = np.array([4.0, 8.0, 10.0, 18.0])
    expected = PUBLISHED_SPREAD * np.sqrt(np.mean(1 / (1 + total)))
    np.testing.assert_allclose(made_up.limit(NIRSPEC, PRIOR), expected)
    few = made_up.first(2)
    np.testing.assert_allclose(few.limit(NIRSPEC, PRIOR), PUBLISHED_SPREAD * np.sqrt(np.mean(1 / (1 + total[:2]))))
    assert (few.rows.tolist(), few.snr.shape) == ([0, 1], (2, 2))


def test_errors_are_compared_with_the_limit_of_their_own_bin(made_up: ViewInformation) -> None:
    """Views 0 to 3 and 4 to 7: errors that are 1 and 3 times the bound of each view."""
    each = np.array([[bounds(one, NIRSPEC, PRIOR) for one in star] for star in made_up.information])
    factor = np.where(made_up.snr < 4, 1.0, 3.0)[:, :, None]
    snr, ratios = made_up.by_snr(each * factor, NIRSPEC, PRIOR, n_bins=2)
    np.testing.assert_allclose(snr, [1.5, 5.5])
    np.testing.assert_allclose(ratios, [[1.0] * 20, [3.0] * 20])
    np.testing.assert_allclose(rms_bound(made_up.information[0], NIRSPEC, PRIOR) ** 2, (each[0] ** 2).mean(axis=0))
