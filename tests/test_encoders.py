from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.settings.training import EncoderParams

KINDS = ("starnet", "residual_mlp")  # the networks; tests/test_newton.py has what refines them
PAPER = EncoderParams(kind="starnet", input_scaling="none", lift=0.0)


@pytest.mark.parametrize(
    ("instrument", "count"), [(APOGEE, 8_801_736), (NIRSPEC, 8_408_520)], ids=["apogee", "nirspec"]
)
def test_starnet_has_exactly_the_papers_parameters(instrument, count: int) -> None:
    assert sum(p.numel() for p in make_encoder(instrument, PAPER, seed=0).parameters()) == count


def test_starnet_is_the_network_of_table_1(generator: torch.Generator) -> None:
    """The same weights in a plain Conv1d network, as one would write Table 1 down, give the same labels."""
    ours = make_encoder(NIRSPEC, PAPER, seed=3)
    plain = nn.Sequential(
        nn.Conv1d(1, 4, 8), nn.ELU(), nn.Conv1d(4, 16, 8), nn.ELU(), nn.AvgPool1d(4), nn.Flatten(),
        nn.Linear(16 * 2044, 256), nn.ELU(), nn.Linear(256, 128), nn.ELU(), nn.Linear(128, 20),
    )  # fmt: skip
    for there, here in zip(plain.parameters(), ours.parameters(), strict=True):
        there.data = here.data.reshape(there.shape)
    flux = torch.rand((70, 8192), generator=generator)  # more than one piece
    torch.testing.assert_close(ours(flux), plain(flux[:, None]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_depend_on_the_seed_alone(kind: str) -> None:
    settings = EncoderParams(kind=kind)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    one, two, other = (make_encoder(NIRSPEC, settings, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)  # nobody else's random numbers are touched
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=["apogee", "nirspec"])
def test_every_kind_gives_labels_unit_vectors_and_gradients(instrument, kind: str, generator: torch.Generator) -> None:
    encoder = make_encoder(instrument, EncoderParams(kind=kind, width=8, depth=1), seed=0)
    flux = torch.rand((3, instrument.n_pix), generator=generator)
    encoder.fit_scaling(flux)
    assert encoder(flux).shape == (3, 20)
    z = encoder.embed(flux)
    assert z.shape == (3, encoder.dim)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(3), rtol=1e-3, atol=1e-3)
    z[:, 0].sum().backward()
    assert all(p.grad is not None for part in (encoder.features, encoder.head) for p in part.parameters())
    with pytest.raises(ValueError, match=f"must have shape \\(n, {instrument.n_pix}\\)"):
        encoder(flux[:, 1:])


def test_input_scaling_standardises_and_silences_missing_pixels(generator: torch.Generator) -> None:
    flux = 1 + 0.05 * torch.randn((500, 8192), generator=generator) + torch.linspace(-0.3, 0.3, 8192)
    flux[:, 4000:4400] = 1.0  # a gap
    flux[7, 100:200] = 1.0
    encoder = make_encoder(NIRSPEC, EncoderParams(), seed=0)
    encoder.fit_scaling(flux)
    scaled = encoder.scaling(flux)
    good = flux != 1.0
    assert (scaled[~good] == 0).all()
    assert scaled[good].std().item() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(scaled[:, 5000:].mean(0), 0, atol=1e-3)
    whole = (flux - encoder.scaling.mean)[good].std().item()
    assert encoder.scaling.std.item() == pytest.approx(whole, rel=0.01)


def test_a_pixel_that_never_has_data_stays_silent() -> None:
    flux = torch.zeros(20, 8575)
    encoder = make_encoder(APOGEE, EncoderParams(width=8), seed=0)
    encoder.fit_scaling(flux)
    assert torch.isfinite(encoder(flux)).all()


def test_embeddings_lie_on_the_sphere_and_keep_the_length_of_the_labels(generator: torch.Generator) -> None:
    labels = torch.randn((50, 20), generator=generator)
    lifted = make_encoder(NIRSPEC, EncoderParams(lift=4.5), seed=0)
    z = lifted.to_sphere(labels)
    assert (z.shape, lifted.dim) == ((50, 21), 21)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(50), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(4.5 * z[:, :20] / z[:, 20:], labels, rtol=1e-3, atol=1e-3)  # nothing is lost

    paper = make_encoder(NIRSPEC, PAPER, seed=0)
    assert paper.dim == 20
    # the length is lost
    torch.testing.assert_close(paper.to_sphere(labels), paper.to_sphere(3 * labels), rtol=1e-3, atol=1e-3)


def test_embed_is_forward_on_the_sphere(generator: torch.Generator) -> None:
    encoder = make_encoder(NIRSPEC, EncoderParams(width=16), seed=0)
    flux = torch.rand((4, 8192), generator=generator)
    assert torch.equal(encoder.embed(flux), encoder.to_sphere(encoder(flux)))


def test_spectra_of_another_instrument_are_refused() -> None:
    with pytest.raises(ValueError, match=r"NIRSpec spectra must have shape \(n, 8192\), not \(2, 8575\)"):
        make_encoder(NIRSPEC, PAPER, seed=0)(torch.ones(2, 8575))
