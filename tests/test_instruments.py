from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.physics.instruments import APOGEE, NIRSPEC, check_grid, resample
from starclip_lib.support.errors import DataError


def test_grids_are_those_of_the_surveys() -> None:
    assert (APOGEE.n_pix, NIRSPEC.n_pix) == (8575, 8192)
    np.testing.assert_allclose(APOGEE.wavelength[[0, -1]], [15100.80, 16999.81], atol=0.01)
    np.testing.assert_allclose(NIRSPEC.wavelength[[0, -1]], [9000, 18000])
    np.testing.assert_allclose(np.diff(np.log10(APOGEE.wavelength)), 6e-6, rtol=1e-6)
    assert APOGEE.on_detector.sum() == 7514  # as many pixels as an aspcapStar file fills


def test_a_wrong_grid_is_refused() -> None:
    check_grid(NIRSPEC.wavelength + 0.005, NIRSPEC, "f")
    with pytest.raises(DataError, match="f: the wavelength grid has 8191 pixels, NIRSpec has 8192"):
        check_grid(NIRSPEC.wavelength[:-1], NIRSPEC, "f")
    with pytest.raises(DataError, match=r"differs from NIRSpec.s by up to 2\.5 Angstrom"):
        check_grid(NIRSPEC.wavelength + 2.5, NIRSPEC, "f")


def test_resampling_keeps_a_line_and_carries_the_mask() -> None:
    wavelength = np.arange(10000.0, 15000.0, 2.35)
    flux = 3 + 1e-4 * wavelength
    bad = np.zeros(len(wavelength), bool)
    bad[500:700] = True  # a gap, with nonsense in it
    bad[900] = True  # one bad pixel, to be bridged
    out, mask = resample(wavelength, np.where(bad, 99, flux), bad, NIRSPEC)
    grid = NIRSPEC.wavelength
    np.testing.assert_allclose(out[~mask], 3 + 1e-4 * grid[~mask], rtol=1e-12)
    assert (out[mask] == 1).all()
    expected = (grid < wavelength[0]) | (grid > wavelength[-1]) | ((grid > wavelength[499]) & (grid < wavelength[700]))
    assert (mask == expected).all()


def test_resampling_nothing_gives_nothing() -> None:
    wavelength = np.arange(10000.0, 10100.0)
    out, mask = resample(wavelength, np.ones(100), np.ones(100, bool), NIRSPEC)
    assert mask.all()
    assert (out == 1).all()
