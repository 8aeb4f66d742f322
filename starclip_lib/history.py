"""What happened in a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """What happened in each epoch, plain lists.

    val_retrieval : of alignments, the share of validation stars whose partner is the nearest of all
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_retrieval: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        return len(self.val_loss)

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) whose weights were kept."""
        return int(np.argmin(self.val_loss)) + 1


Watch = Callable[[History, int], None]  # called after every epoch with what happened and the number of epochs planned
