"""How our figures look: one style, colours that colour-blind readers can tell apart, names of spectral features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

# Okabe and Ito's colours; NIRSpec is blue and APOGEE red as in the paper.
NIRSPEC_COLOUR, APOGEE_COLOUR = "#0072B2", "#D55E00"
CYCLE = (NIRSPEC_COLOUR, APOGEE_COLOUR, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
LABEL_MAP = "viridis"
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
    "image.cmap": LABEL_MAP,
}
# Features worth a name (vacuum Angstrom) on each grid.
NIRSPEC_FEATURES = {
    "Pa δ": 10052, "CN": 10925, "Mg": 11831, "Pa β": 12822, "Al": 13140, "CN ": 14140, "Mg ": 15029, "CO": 15582,
    "CO ": 16190, "Mg  ": 17113,
}  # fmt: skip
APOGEE_FEATURES = {
    "Mn": 15162, "K": 15172, "S": 15482, "CO": 15582, "Cr": 15684, "CO ": 15782, "Si": 15893, "V": 15929, "Ca": 16160,
    "Ni": 16315, "Ce": 16381, "Al": 16723, "Co": 16762,
}  # fmt: skip

P = ParamSpec("P")


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the house style without touching anybody else's.

    Parameters
    ----------
    function : callable
        What draws a figure.

    Returns
    -------
    callable
        The same, in the house style.
    """

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return function(*args, **kwargs)

    return inside


def new_axes(n_rows: int, n_columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure and its axes as an array.

    Parameters
    ----------
    n_rows, n_columns : int
    size : tuple of (float, float)
        Inches.
    **options
        As for `Figure.subplots`.

    Returns
    -------
    figure : Figure
    axes : ndarray of Axes
    """
    figure = Figure(figsize=size)  # not pyplot's: nothing is kept open, and no window appears
    return figure, np.atleast_1d(figure.subplots(n_rows, n_columns, **options))


def plain_ticks(ax: Axes, places: Sequence[float]) -> None:
    """Ticks of a logarithmic x axis at the places that were measured, as plain numbers.

    Parameters
    ----------
    ax : Axes
    places : sequence of float
        The places that were measured.
    """
    ax.set_xticks(list(places), [f"{place:g}" for place in places])
    ax.minorticks_off()


def name_features(ax: Axes, features: Mapping[str, float]) -> None:
    """Mark the spectral features that lie inside the limits of an axis.

    Parameters
    ----------
    ax : Axes
    features : mapping of str to float
        Name to Angstrom.
    """
    low, high = ax.get_xlim()
    for name, place in features.items():
        if low < place < high:
            ax.axvline(place, color="#999999", lw=0.5, zorder=0)
            ax.text(place, 1.0, name.strip(), fontsize=7, color="#555555", ha="center", va="bottom",
                    transform=ax.get_xaxis_transform())  # fmt: skip


def without_gaps(flux: np.ndarray, no_data: float) -> np.ndarray:
    """A spectrum with NaN, which is not drawn, in its gaps; a single dead pixel is no gap.

    Parameters
    ----------
    flux : ndarray, shape (n_pix,)
    no_data : float
        Flux of a pixel without data.

    Returns
    -------
    ndarray, shape (n_pix,)
    """
    missing = flux == no_data
    return np.where(missing & (np.roll(missing, 1) | np.roll(missing, -1)), np.nan, flux)


def legend_below(figure: Figure, ax: Axes, columns: int = 5) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=9)
