"""What is drawn in a figure, read back from its axes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes


def line(ax: Axes, label: str) -> np.ndarray:
    """What is drawn under a name, (n, 2)."""
    (found,) = [drawn for drawn in ax.lines if drawn.get_label() == label]
    return np.column_stack(found.get_data())


def points(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) and colours (n,) of a scatter plot."""
    (found,) = ax.collections
    return np.asarray(found.get_offsets()), np.asarray(found.get_array())
