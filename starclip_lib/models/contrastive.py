"""The contrastive loss and the model that it aligns."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.models.encoders import Encoder
from starclip_lib.settings.training import AlignParams


def info_nce(z_a: Tensor, z_b: Tensor, logit_scale: Tensor | float, star: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of matched pairs: the mean of equation 2.11 over both directions.

    Parameters
    ----------
    z_a, z_b : Tensor, shape (n, dim)
        Unit vectors; row i of one belongs to row i of the other.
    logit_scale : Tensor or float
        What the cosine similarities are multiplied by, 1 / tau.
    star : Tensor of int, shape (n,), optional
        Identifiers; pairs of different rows of the same star are left out of the sums.  None: every other row is a
        negative, as in the paper.

    Returns
    -------
    Tensor
        The scalar loss; 0 is perfect, log(n) is what equal embeddings give.
    """
    if z_a.shape != z_b.shape:
        raise ValueError(
            f"the two sides of a pair must have the same shape, not {tuple(z_a.shape)} and {tuple(z_b.shape)}"
        )
    with torch.autocast(z_a.device.type, enabled=False):  # bfloat16 cannot represent values between 0.996 and 1
        logits = logit_scale * (z_a @ z_b.T)
    target = torch.arange(len(z_a), device=z_a.device)
    if star is not None:
        same = (star[:, None] == star[None, :]).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def partner_first(z_a: Tensor, z_b: Tensor) -> float:
    """Share of the unit vectors z_a whose own row of z_b is the nearest of all."""
    nearest = (z_a @ z_b.T).argmax(dim=1)
    return float((nearest == torch.arange(len(z_a), device=z_a.device)).float().mean())


class StarCLIP(nn.Module):
    """Two encoders and a logit scale.

    StarCLIP: NIRSpec (a) and APOGEE (b), both trained.  MockStarCLIP: mock (a, frozen) and extended mock (b, `head`
    trained) NIRSpec, both starting from StarCLIP's NIRSpec encoder.
    """

    def __init__(self, encoder_a: Encoder, encoder_b: Encoder, settings: AlignParams):
        super().__init__()
        self.encoder_a, self.encoder_b, self.settings = encoder_a, encoder_b, settings
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.logit_scale)), requires_grad=settings.learn_scale)

    @property
    def logit_scale(self) -> Tensor:
        """What the cosine similarities are multiplied by, at most `max_scale`."""
        return self.log_scale.exp().clamp_max(self.settings.max_scale)

    def forward(self, flux_a: Tensor, flux_b: Tensor, star: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch of pairs."""
        labels_a, labels_b = self.encoder_a(flux_a), self.encoder_b(flux_b)
        z_a, z_b = self.encoder_a.to_sphere(labels_a.float()), self.encoder_b.to_sphere(labels_b.float())
        same_star = star if self.settings.same_star == "masked" else None
        loss = info_nce(z_a, z_b, self.logit_scale, same_star)
        if self.settings.label_weight > 0:
            error = F.mse_loss(labels_a.float(), labels) + F.mse_loss(labels_b.float(), labels)
            loss = loss + self.settings.label_weight * error
        return loss
