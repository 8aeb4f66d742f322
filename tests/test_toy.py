"""The toy of the teaching notebook does what the notebook says it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from starclip_lib.teaching.toy import ToySurvey, align_toy, toy_encoder, toy_scores


def test_scores_of_arrangements_that_are_known() -> None:
    """Two groups of two at 0, 10, 90 and 110 degrees."""
    angle = np.radians([0.0, 10.0, 90.0, 110.0])
    z = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    group = np.array([0, 0, 1, 1])
    scores = toy_scores(z, z, group)
    assert scores["right star first"] == scores["right group first"] == 1
    assert scores["angle within a group"] == pytest.approx(15)
    assert scores["angle to the next group"] == pytest.approx((90 + 80 + 80 + 100) / 4)
    assert toy_scores(z, z[[1, 0, 3, 2]], group)["right star first"] == 0
    assert toy_scores(z, z[[1, 0, 3, 2]], group)["right group first"] == 1


def test_small_temperature_spreads_and_large_temperature_groups() -> None:
    survey = ToySurvey.draw(4, 6, seed=0)
    spread, grouped = (toy_scores(*align_toy(survey, t, seed=0, steps=300), survey.group) for t in (0.1, 2.0))
    assert spread["angle within a group"] > 2 * grouped["angle within a group"]
    assert spread["angle to the next group"] < grouped["angle to the next group"]
    assert spread["right group first"] == grouped["right group first"] == 1


def test_same_seed_same_toy() -> None:
    one, two, other = (ToySurvey.draw(3, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one.a, two.a)
    assert not torch.equal(one.a, other.a)
    first, second = (align_toy(one, 0.3, seed=5, steps=5)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    x = torch.ones(1, 2)
    assert not torch.equal(*(toy_encoder(torch.Generator().manual_seed(seed))(x) for seed in (1, 2)))
