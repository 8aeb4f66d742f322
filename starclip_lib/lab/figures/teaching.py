"""Figures of contrastive learning in the plane: functions that take arrays and return a figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import APOGEE_COLOUR, CYCLE, NIRSPEC_COLOUR, new_axes, styled
from starclip_lib.physics.instruments import APOGEE, NIRSPEC


@styled
def groups_on_circles(states: Mapping[str, tuple[np.ndarray, np.ndarray]], group: np.ndarray) -> Figure:
    """Embeddings on the unit circle, coloured by group: the first instrument's inside, the second's outside."""
    figure, axes = new_axes(1, len(states), (2.9 * len(states), 3.1))
    for ax, (title, (first, second)) in zip(axes, states.items(), strict=True):
        ax.add_patch(mpl.patches.Circle((0, 0), 1, fill=False, color="#cccccc"))
        ax.plot(*np.stack([0.95 * first, 1.05 * second]).transpose(2, 0, 1), color="#bbbbbb", lw=0.5)
        colour = [CYCLE[number % len(CYCLE)] for number in group]
        ax.scatter(*(0.95 * first).T, c=colour, s=14, lw=0)
        ax.scatter(*(1.05 * second).T, c=colour, s=14, lw=0, marker="s")
        ax.set(title=title, aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
        ax.set_axis_off()
    return figure


@styled
def circles(states: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Pairs of unit vectors in the plane, a line between the two members of each pair, for several moments.

    Parameters
    ----------
    states : mapping of str to tuple of (ndarray, ndarray), shape (n, 2) each
        Title of the moment to the two members of each pair.
    """
    figure, axes = new_axes(1, len(states), (3.3 * len(states), 3.5))
    for ax, (title, (first, second)) in zip(axes, states.items(), strict=True):
        ax.add_patch(mpl.patches.Circle((0, 0), 1, fill=False, color="#cccccc"))
        for star, (a, b) in enumerate(zip(first, second, strict=True), start=1):
            ax.plot(*np.stack([a, b]).T, color="#999999", lw=0.8)
            ax.annotate(str(star), 1.16 * a, ha="center", va="center", fontsize=8, color=NIRSPEC_COLOUR)
        ax.plot(*first.T, "o", color=NIRSPEC_COLOUR, label=NIRSPEC.title)
        ax.plot(*second.T, "s", color=APOGEE_COLOUR, mfc="none", ms=8, label=APOGEE.title)
        ax.set(title=title, aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
        ax.set_axis_off()
    axes[-1].legend(fontsize=9, loc="center")
    return figure
