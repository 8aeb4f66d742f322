"""Each corruption against its equation, computed another way, and against its statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.training import CorruptionParams, GapParams
from starclip_lib.support.seeds import seeded
from starclip_lib.transforms.corruptions import (
    PASCHEN_LINES,
    DeadPixels,
    Denormalisation,
    DetectorGaps,
    GaussianNoise,
    PaschenSubstitution,
    extended_mock,
    mock,
)
from starclip_lib.transforms.gaps import GapModel
from starclip_lib.transforms.views import ViewSampler

WAVE = NIRSPEC.wavelength


@pytest.fixture
def flux(generator: torch.Generator) -> torch.Tensor:
    return 0.7 + 0.3 * torch.rand((200, 8192), generator=generator)


def chain(name: str) -> list:
    reference = torch.linspace(0, 0.5, 8192)
    settings = CorruptionParams()
    gaps = GapModel.measured(GapParams())
    return {
        "paschen": PaschenSubstitution(reference, WAVE),
        "dead": DeadPixels(),
        "continuum": Denormalisation(WAVE),
        "noise": GaussianNoise(),
        "gaps": DetectorGaps(gaps, WAVE),
        "mock": mock(settings),
        "extended": extended_mock(settings, reference),
    }[name]


ALL = ("paschen", "dead", "continuum", "noise", "gaps", "mock", "extended")


@pytest.mark.parametrize("name", ALL)
def test_same_seed_same_result_and_the_input_stays_as_it_was(flux: torch.Tensor, name: str) -> None:
    corruption, before = chain(name), flux.clone()
    one, two, other = (corruption(flux, seeded("cpu", seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert torch.equal(flux, before)
    assert not torch.equal(one, flux)
    if name != "paschen":  # the only one without chance
        assert not torch.equal(one, other)


def test_paschen_pixels_are_the_references_and_no_others_change(flux: torch.Tensor, generator) -> None:
    reference = torch.rand(8192, generator=generator)
    out = PaschenSubstitution(reference, WAVE, radius=10.0)(flux, generator)
    near = np.zeros(8192, bool)
    for line in PASCHEN_LINES:
        inside = (line - 10 <= WAVE) & (line + 10 >= WAVE)
        assert inside.sum() in (18, 19)  # 20 Angstrom are 18.2 pixels of 1.0987 Angstrom
        near |= inside
    assert (out != flux).any(dim=0).sum() == near.sum()  # each of the random reference's values differs from the star's
    assert torch.equal(out[:, near], reference[near].expand(len(flux), -1))
    assert torch.equal(out[:, ~near], flux[:, ~near])


def test_dead_pixels_are_one_in_a_thousand_anywhere(flux: torch.Tensor, generator) -> None:
    out = DeadPixels(0.001)(flux, generator)
    dead = out != flux
    assert (out[dead] == 1).all()
    per_star = dead.sum(1)
    assert per_star.max() <= 8
    assert per_star.float().mean() > 7.9
    where = torch.nonzero(dead)[:, 1].numpy() / 8192
    assert kstest(where, "uniform").pvalue > 1e-3


def test_continuum_error_is_the_papers_polynomial(flux: torch.Tensor) -> None:
    """Equations 4.5 and 4.6 in float64, term by term, with the coefficients that the generator gives."""
    few = flux[:64]  # one block, so that the same generator draws the same coefficients
    out = Denormalisation(WAVE, amplitude=0.01, degree=8)(few, seeded("cpu", 5))
    c = (torch.rand((64, 9), generator=seeded("cpu", 5)) * 2 - 1).double().numpy()
    x = (WAVE - 9000) / (18000 - 9000)
    for star in range(64):
        p = sum(c[star, i] * x**i for i in range(9))
        factor = 1 + 0.01 * (p - p.mean()) / np.abs(p - p.mean()).max()
        np.testing.assert_allclose(out[star], few[star].numpy() * factor, rtol=2e-6)


def test_every_spectrum_gets_another_continuum(generator) -> None:
    out = Denormalisation(WAVE)(torch.ones(50, 8192), generator)
    assert len(torch.unique(out[:, 100])) == 50


def test_noise_has_one_level_for_each_spectrum_from_30_to_300(generator) -> None:
    out = GaussianNoise(30.0, 300.0)(torch.ones(600, 8192), generator) - 1
    snr = 1 / out.std(dim=1).numpy()
    assert snr.min() > 29
    assert snr.max() < 310
    assert kstest(snr, "uniform", (30, 270)).pvalue > 1e-3
    scaled = (out[:, ::97] * torch.from_numpy(snr)[:, None]).flatten().numpy()
    assert kstest(scaled, "norm").pvalue > 1e-3


def test_noise_of_a_fixed_level(generator) -> None:
    out = GaussianNoise(50.0, 50.0)(torch.full((200, 8192), 0.4), generator)
    assert out.std().item() == pytest.approx(1 / 50, rel=5 / np.sqrt(2 * out.numel()))  # not flux/SNR


def test_gaps_are_one_where_the_model_says_and_nowhere_else(flux: torch.Tensor) -> None:
    model = GapModel.measured(GapParams())
    few = flux[:64]  # one block, so that the same generator draws the same gaps
    out = DetectorGaps(model, WAVE)(few, seeded("cpu", 5)).numpy()
    drawn = [edge.numpy() for edge in model.sample(64, seeded("cpu", 5))]
    wave = WAVE.astype(np.float32)
    for star, (blue, start, stop, cutoff) in enumerate(zip(*drawn, strict=True)):
        missing = (wave < blue) | ((wave >= start) & (wave < stop)) | (wave >= cutoff)
        assert (out[star, missing] == 1).all()
        assert (out[star, ~missing] == few[star, ~missing].numpy()).all()


def test_extended_mock_is_the_five_in_order() -> None:
    names = [type(step).__name__ for step in chain("extended").steps]
    assert names == ["PaschenSubstitution", "DeadPixels", "Denormalisation", "GaussianNoise", "DetectorGaps"]
    assert [type(step).__name__ for step in chain("mock").steps] == names[3:]


def test_wrong_shape_is_refused(generator) -> None:
    with pytest.raises(ValueError, match=r"shape \(n, n_pix\), not \(8192,\)"):
        GaussianNoise()(torch.ones(8192), generator)


def test_seeded_streams_are_independent() -> None:
    draws = np.array([torch.randn(5000, generator=seeded("cpu", 1, epoch)).numpy() for epoch in range(4)])
    correlation = np.corrcoef(draws)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)


def test_views_do_not_depend_on_which_rows_are_asked_for(survey) -> None:
    def views(rows: np.ndarray, seed: int = 4) -> np.ndarray:
        return ViewSampler(mock(CorruptionParams()), 2, seed).views(survey.nirspec, rows)

    everything = views(np.arange(survey.n_stars))
    some = np.array([150, 3, 77])
    assert (views(some) == everything[some]).all()
    assert (everything[:, 0] != everything[:, 1]).any(axis=1).all()
    assert not (views(some, seed=5) == everything[some]).all()


def test_views_in_several_blocks(survey, monkeypatch) -> None:
    monkeypatch.setattr("starclip_lib.transforms.views._BLOCK", 50)
    rows = np.array([10, 60, 149, 61])
    found = {}
    for place, view, batch in ViewSampler().blocks(survey.nirspec, rows):
        found.update({int(p): flux for p, flux in zip(place, batch, strict=True)})
        assert view == 0
    for place, row in enumerate(rows):
        assert (found[place].numpy() == survey.nirspec.flux[row]).all()
