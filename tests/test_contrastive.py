"""The loss against loops over its definition, its gradient in closed form, and cases known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from starclip_lib.models.contrastive import StarCLIP, info_nce, partner_first
from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.settings.training import AlignParams, EncoderParams


def by_hand(z_a: np.ndarray, z_b: np.ndarray, scale: float, star: np.ndarray | None = None) -> float:
    """Equation 2.11 in both directions, pair by pair."""
    n, total = len(z_a), 0.0
    for queries, keys in ((z_a, z_b), (z_b, z_a)):
        for i in range(n):
            wanted, denominator = math.exp(scale * queries[i] @ keys[i]), 0.0
            for j in range(n):
                if j == i or star is None or star[i] != star[j]:
                    denominator += math.exp(scale * queries[i] @ keys[j])
            total -= math.log(wanted / denominator) / (2 * n)
    return total


@pytest.fixture
def pairs(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    z = F.normalize(torch.randn((2, 9, 5), generator=generator, dtype=torch.float64), dim=-1)
    return z[0], z[1]


@pytest.mark.parametrize("scale", [0.5, 15.5])
def test_loss_equals_the_loop(pairs, scale: float) -> None:
    z_a, z_b = pairs
    assert info_nce(z_a, z_b, scale).item() == pytest.approx(by_hand(z_a.numpy(), z_b.numpy(), scale), rel=1e-12)
    star = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    expected = by_hand(z_a.numpy(), z_b.numpy(), scale, star)
    assert info_nce(z_a, z_b, scale, torch.from_numpy(star)).item() == pytest.approx(expected, rel=1e-12)
    assert expected < by_hand(z_a.numpy(), z_b.numpy(), scale)  # fewer wrong answers to choose from


def test_loss_is_as_exact_in_mixed_precision(generator: torch.Generator) -> None:
    """Of a flat embedding all cosines are near 1, where bfloat16 has steps of 0.004: two units of the logits."""
    labels = torch.randn(64, 20, generator=generator)
    sides = [labels + 0.05 * torch.randn(64, 20, generator=generator) for _ in range(2)]
    z_a, z_b = (F.normalize(torch.cat([side, torch.full((64, 1), 30.0)], dim=1), dim=1) for side in sides)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = info_nce(z_a, z_b, 500.0)
    torch.testing.assert_close(mixed, info_nce(z_a, z_b, 500.0), rtol=1e-3, atol=0)


def test_perfect_and_collapsed_embeddings() -> None:
    n, scale = 8, 10.0
    perfect = info_nce(torch.eye(n), torch.eye(n), scale).item()
    assert perfect == pytest.approx(math.log1p((n - 1) * math.exp(-scale)), rel=1e-3)
    same = torch.ones(n, 4) / 2
    assert info_nce(same, same, scale).item() == pytest.approx(math.log(n))  # cannot tell stars apart


def test_gradient_of_two_pairs_in_closed_form() -> None:
    """Two pairs in the plane: with s the matrix of cosines, dL/ds = scale (softmax - identity) / n, averaged."""
    angle = torch.tensor([0.1, 1.2, 0.3, 1.7], dtype=torch.float64, requires_grad=True)
    z = torch.stack([angle.cos(), angle.sin()], dim=1)
    scale = 3.0
    info_nce(z[:2], z[2:], scale).backward()
    a, b = angle.detach().numpy()[:2], angle.detach().numpy()[2:]
    s = np.cos(a[:, None] - b[None, :])
    rows = np.exp(scale * s) / np.exp(scale * s).sum(1, keepdims=True)
    columns = np.exp(scale * s) / np.exp(scale * s).sum(0, keepdims=True)
    d_s = scale * ((rows - np.eye(2)) + (columns - np.eye(2))) / 4
    d_cos = -np.sin(a[:, None] - b[None, :])  # ds/da, and minus ds/db
    expected = np.concatenate([(d_s * d_cos).sum(1), -(d_s * d_cos).sum(0)])
    np.testing.assert_allclose(angle.grad.numpy(), expected, rtol=1e-10)


def test_copies_of_a_star_do_not_repel_each_other() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    star = torch.tensor([7, 7, 8])
    assert info_nce(z, z.detach(), 5.0, star) < info_nce(z, z.detach(), 5.0)
    only_copies = torch.tensor([7, 7, 7])
    assert info_nce(z, z.detach(), 5.0, only_copies).item() == 0  # nothing left to be mistaken for


def test_unequal_sides_are_refused(pairs) -> None:
    with pytest.raises(ValueError, match="must have the same shape"):
        info_nce(pairs[0], pairs[1][:4], 1.0)


def model(**settings) -> StarCLIP:
    encoders = [make_encoder(i, EncoderParams(width=8, depth=1), seed=1) for i in (NIRSPEC, APOGEE)]
    return StarCLIP(*encoders, AlignParams(**settings))


def test_the_scale_starts_where_it_should_learns_if_asked_and_is_bounded() -> None:
    assert model(logit_scale=15.5, learn_scale=False).logit_scale.item() == pytest.approx(15.5)
    assert not model(learn_scale=False).log_scale.requires_grad
    learned = model(learn_scale=True)
    assert learned.log_scale.requires_grad
    learned.log_scale.data.fill_(20.0)
    assert learned.logit_scale.item() == 100


def test_the_models_loss_is_contrast_plus_weighted_label_error(generator: torch.Generator) -> None:
    flux_a, flux_b = torch.rand((6, 8192), generator=generator), torch.rand((6, 8575), generator=generator)
    labels, star = torch.randn((6, 20), generator=generator), torch.tensor([0, 0, 1, 2, 3, 4])
    for same_star, mask in (("masked", star), ("negative", None)):
        hybrid = model(logit_scale=10.0, label_weight=0.5, same_star=same_star)
        labels_a, labels_b = hybrid.encoder_a(flux_a), hybrid.encoder_b(flux_b)
        z_a, z_b = hybrid.encoder_a.embed(flux_a), hybrid.encoder_b.embed(flux_b)
        error = ((labels_a - labels) ** 2).mean() + ((labels_b - labels) ** 2).mean()
        expected = info_nce(z_a, z_b, 10.0, mask) + 0.5 * error
        torch.testing.assert_close(hybrid(flux_a, flux_b, star, labels), expected, rtol=1e-3, atol=1e-3)


def test_partner_first_counts_rows_whose_own_partner_is_nearest(generator) -> None:
    a, b = (torch.nn.functional.normalize(torch.randn(40, 6, generator=generator)) for _ in range(2))
    b[:25] = a[:25]  # these are certain
    counted = sum(int(all(x @ b[i] >= x @ other for other in b)) for i, x in enumerate(a))
    assert partner_first(a, b) == pytest.approx(counted / 40)
    assert partner_first(a, b) >= 25 / 40
