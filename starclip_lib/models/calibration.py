"""Coordinates for label predictions in which nearness says how likely two spectra are of one star.

Two predictions of a star's labels differ by errors that are large for some labels, small for others, and correlated.
For jointly Gaussian predictions x and y the logarithm of the Bayes factor p(x, y) / (p(x) p(y)), of "one star" against
"two stars of the population", is a sum over their canonical correlations (probabilistic linear discriminant analysis;
Ioffe 2006).  `calibrated` brings it, but for a constant, into the shape of a squared distance.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from starclip_lib.physics.labels import N_LABELS
from starclip_lib.settings.training import CALIBRATION_STARS
from starclip_lib.support.errors import DataError


class Coordinates(nn.Module):
    """Flat coordinates (n, 22) of Z-scored labels (n, 20); `calibration.calibrated` makes and explains them."""

    offset: Tensor
    weight: Tensor
    bonus: Tensor
    reach: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.zeros(N_LABELS))
        self.register_buffer("weight", torch.eye(N_LABELS))
        self.register_buffer("bonus", torch.zeros(N_LABELS))
        self.register_buffer("reach", torch.zeros(2))

    def forward(self, labels: Tensor) -> Tensor:
        """Flat coordinates (n, 22) of Z-scored labels (n, 20)."""
        z = (labels - self.offset) @ self.weight
        rest = self.reach - (z**2 @ self.bonus)[:, None]
        return torch.cat([z, rest.clamp_min(1e-6).sqrt()], dim=1)  # not 0, where the root has no gradient


def check_enough(n_stars: int) -> None:
    """Raise DataError if there are too few validation stars to calibrate with."""
    if n_stars < CALIBRATION_STARS:
        raise DataError(
            f"starclip.calibrate needs {CALIBRATION_STARS} validation stars, and there are {n_stars}; take a larger "
            "data set or set starclip.calibrate to false"
        )


def calibrated(a: np.ndarray, b: np.ndarray, lift: float) -> tuple[Coordinates, Coordinates, float]:
    """Coordinates for the predictions of two encoders, and the scale that turns cosines into log Bayes factors.

    `a` and `b` (n, n_views, 20) are Z-scored labels predicted from pairs of spectra of n stars that no training has
    seen.

    For canonical variates u, v of correlation r, log p(u, v) / (p(u) p(v)) is, but for a constant,
    -(z_a - z_b)^2 / 2 + (1 - r) (z_a^2 + z_b^2) / 2, where z_a = k u, z_b = k v and k^2 = r / (1 - r^2).  The second
    term becomes distance too: each side has an extra coordinate of its own, sqrt(constant - (1 - r) z^2).  The
    coordinates' root mean square length is that of Z-scored labels, so that the embedding, with the encoders' `lift`,
    is as flat as without calibration.  Raises DataError for fewer than 200 stars, or if one label follows from others.
    """
    check_enough(len(a))
    x, y = (side.reshape(-1, N_LABELS).astype(np.float64) for side in (a, b))
    joint = np.cov(x, y, rowvar=False)
    first, second = slice(0, N_LABELS), slice(N_LABELS, None)
    try:
        whiten_x, whiten_y = (np.linalg.inv(np.linalg.cholesky(joint[part, part])).T for part in (first, second))
    except np.linalg.LinAlgError as error:
        raise DataError(
            "starclip.calibrate: an encoder predicts labels that hang together rigidly or do not differ from star to "
            "star; train it for longer or set starclip.calibrate to false"
        ) from error
    turn_x, r, turn_y = np.linalg.svd(whiten_x.T @ joint[first, second] @ whiten_y)
    k, bonus = np.sqrt(r / (1 - r**2)), 1 - r
    weights = whiten_x @ turn_x * k, whiten_y @ turn_y.T * k
    flat = [(side - side.mean(axis=0)) @ weight for side, weight in zip((x, y), weights, strict=True)]
    reach = 2 * max(float((z**2 @ bonus).max()) for z in flat)  # twice what these stars need, for stars far out
    unit = np.sqrt(N_LABELS / np.mean([(z**2).sum(axis=1).mean() for z in flat]))
    sides = []
    for slot, (side, weight) in enumerate(zip((x, y), weights, strict=True)):
        coordinates = Coordinates()
        coordinates.offset = torch.from_numpy(side.mean(axis=0)).float()
        coordinates.weight = torch.from_numpy(unit * weight).float()
        coordinates.bonus = torch.from_numpy(bonus).float()
        coordinates.reach[slot] = unit**2 * reach
        sides.append(coordinates)
    return sides[0], sides[1], float(lift**2 / unit**2)
