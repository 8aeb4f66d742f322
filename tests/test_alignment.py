"""Judges of how well two instruments are aligned."""

from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.models.embeddings import Embeddings
from starclip_lib.suite.pairs import leakage, mutual_neighbours
from starclip_lib.support.errors import DataError

OPTIONS = {"n_resamples": 60, "seed": 1}


def points(z: np.ndarray) -> Embeddings:
    star = np.array([f"s{i:04}" for i in range(len(z))])
    return Embeddings(z, star, np.zeros(len(z), int), np.zeros(len(z), np.uint8))


def test_the_same_embedding_twice(rng: np.random.Generator) -> None:
    a = points(rng.standard_normal((150, 5)))
    assert leakage(a, a, **OPTIONS).value == pytest.approx(0.5, abs=0.02)
    assert mutual_neighbours(a, a, **OPTIONS).value == 1


def test_a_rotation_and_a_shift_leak_but_keep_the_neighbours(rng: np.random.Generator) -> None:
    z = rng.standard_normal((200, 5)) + 1
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    a, b = points(z), points(3 * z @ turn + 10)
    assert leakage(a, b, **OPTIONS).low > 0.98
    assert mutual_neighbours(a, points(z @ turn), **OPTIONS).value == 1  # cosines know rotations only


def test_strangers_share_neighbours_by_chance(rng: np.random.Generator) -> None:
    a, b = (points(rng.standard_normal((300, 8))) for _ in range(2))
    found = mutual_neighbours(a, b, k=10, **OPTIONS)
    assert found.low < 10 / 299 < found.high


def test_too_few_stars_are_refused(rng: np.random.Generator) -> None:
    a = points(rng.standard_normal((12, 4)))
    with pytest.raises(DataError, match="12 stars are seen by both instruments, too few"):
        leakage(a, a)
