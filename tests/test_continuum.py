"""The pseudo-continuum: what it removes, what it keeps, and that both kinds of spectra meet in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.training import CorruptionParams
from starclip_lib.transforms.continuum import PseudoContinuum, line_free_pixels
from starclip_lib.transforms.corruptions import mock

WAVE = torch.from_numpy(NIRSPEC.wavelength.astype(np.float32))


def with_gap(flux: torch.Tensor, start: float = 12000.0) -> torch.Tensor:
    missing = (WAVE < 10400) | ((start <= WAVE) & (start + 374 > WAVE)) | (start + 5184 < WAVE)
    return flux.masked_fill(missing, 1.0)


def test_a_smooth_response_that_jumps_at_the_gap_is_removed(survey) -> None:
    flux = torch.from_numpy(survey.nirspec.flux[:20])
    response = 1 + 0.02 * torch.sin(WAVE / 120) + 0.3 * torch.cos(WAVE / 2000)
    response = torch.where(WAVE > 12200, 1.7 * response, response)
    continuum = PseudoContinuum(150)
    one, other = continuum.normalise(with_gap(flux)), continuum.normalise(with_gap(flux * response))
    seen = with_gap(flux) != 1
    assert (one[~seen] == 1).all()
    difference = (one - other)[seen]
    assert difference.std() < 2e-3  # the response alone has 2 per cent on this scale, and a jump of 70
    assert difference.abs().max() < 0.05


def test_a_spline_is_found_again_and_lines_are_kept() -> None:
    smooth = 3 + torch.cos(WAVE / 700)
    line = 0.3 * torch.exp(-0.5 * ((WAVE - 15000) / 3) ** 2)
    out = PseudoContinuum(150).normalise(with_gap(smooth * (1 - line))[None])[0]
    seen = with_gap(smooth) != 1
    assert (out[seen] - (1 - line[seen])).abs().max() < 0.02


def test_outliers_do_not_pull_it() -> None:
    generator = torch.Generator().manual_seed(0)
    flux = 2 + 0.01 * torch.randn(4, 8192, generator=generator)
    hit = flux.clone()
    hit[:, 5000:5010] = 9.0
    continuum = PseudoContinuum(150)
    torch.testing.assert_close(continuum.fit(hit), continuum.fit(flux), atol=0.05, rtol=0)


def test_spectra_without_a_gap_or_with_little_data_are_taken(survey) -> None:
    continuum = PseudoContinuum(150)
    whole = torch.from_numpy(survey.nirspec.flux[:3])
    assert continuum.normalise(whole).median() == pytest.approx(1, abs=0.01)
    short = torch.ones(1, 8192)
    short[0, 4000:4600] = 2.5
    assert continuum.normalise(short)[0, 4000:4600].median() == pytest.approx(1, abs=0.01)
    assert (continuum.normalise(torch.ones(2, 8192)) == 1).all()


def test_rows_do_not_depend_on_each_other(survey) -> None:
    flux = with_gap(torch.from_numpy(survey.nirspec.flux[:5]))
    flux[2] = with_gap(flux[2], 11000.0)
    continuum = PseudoContinuum(150)
    one_by_one = torch.cat([continuum.normalise(row[None]) for row in flux])
    torch.testing.assert_close(continuum.normalise(flux), one_by_one, atol=1e-3, rtol=0)


def test_line_free_pixels_are_the_higher_ones_and_everywhere() -> None:
    free = line_free_pixels()
    assert 0.55 < free.mean() < 0.65
    assert free.reshape(-1, 256).any(axis=1).all()


def test_the_corruptions_end_with_it_if_so_set(survey) -> None:
    flux = torch.from_numpy(survey.nirspec.flux[:8])
    plain = CorruptionParams()
    kept = mock(plain)(flux, torch.Generator().manual_seed(1))
    divided = mock(plain.changed(continuum_spacing=150.0))(flux, torch.Generator().manual_seed(1))
    torch.testing.assert_close(divided, PseudoContinuum(150).normalise(kept), atol=1e-3, rtol=0)
