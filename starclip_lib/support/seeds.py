"""Random streams and random weights that are functions of a seed; the global random state is never touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seeded(device: torch.device | str, *key: int) -> torch.Generator:
    """A generator whose stream is a function of `key`: different keys give independent streams.

    Parameters
    ----------
    *key : int
        Seed, epoch, ...
    """
    state = np.random.SeedSequence(key).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 32 | int(state[1]))


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Networks built inside get weights that depend on `seed` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
