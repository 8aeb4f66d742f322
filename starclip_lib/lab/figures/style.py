"""How our figures look: one style, colours that colour-blind readers can tell apart, names of spectral features."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
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

_WIDTH = 1060  # pixels; notebooks cut off some of the margins
_NAME_WIDTH = 0.017  # of a feature, in widths of the figure

P = ParamSpec("P")


def styled(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the house style without touching the user's; warn about axes without data and curves of one point."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            figure = function(*args, **kwargs)
        if empty := empty_axes(figure):
            warnings.warn(f"figure {function.__name__}: {'; '.join(empty)}", stacklevel=2)
        return figure

    return inside


class _NotebookFigure(Figure):
    """A figure that a notebook shows also where neither pyplot nor `%matplotlib inline` has been loaded."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        FigureCanvasAgg(self).print_png(content)
        return content.getvalue()


def new_axes(n_rows: int, n_columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of a size in inches, at least 1,000 pixels wide, and its axes; `options` are those of `subplots`."""
    # Not pyplot's figure: nothing is kept open, and no window appears.
    figure = _NotebookFigure(figsize=size, dpi=max(100, int(np.ceil(_WIDTH / size[0]))))
    return figure, np.atleast_1d(figure.subplots(n_rows, n_columns, **options))


def panels(n: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of n panels, each of a size in inches, in rows of so many columns; and their axes (n,)."""
    rows = -(-n // columns)
    figure, axes = new_axes(rows, columns, (size[0] * columns, size[1] * rows), squeeze=False, **options)
    for unused in axes.flat[n:]:
        unused.remove()
    return figure, axes.flat[:n]


def empty_axes(figure: Figure) -> list[str]:
    """The axes of a figure without finite data or with a curve of fewer than two points: one line about each."""
    found = []
    for number, ax in enumerate(figure.axes, start=1):
        name = f"axis {number} ({ax.get_title() or ax.get_ylabel() or ax.get_xlabel() or 'without a title'})"
        images = [np.isfinite(np.ma.filled(np.ma.asarray(image.get_array()), np.nan)).any() for image in ax.images]
        if not np.isfinite(ax.dataLim.get_points()).all() or not all(images):
            found.append(f"{name} has no finite data")
        for line in ax.lines:
            finite = np.isfinite(np.asarray(line.get_xydata(), float)).all(axis=1)
            points = finite.sum()
            joined = str(line.get_linestyle()).strip().lower() not in ("none", "")
            if joined and len(finite) and points < 2:  # one of no points at all only stands for others in a legend
                found.append(f"{name} has a curve of {points} finite points: {line.get_label()}")
    return found


def plain_ticks(ax: Axes, places: Sequence[float]) -> None:
    """Ticks of a logarithmic x axis at the places that were measured, as plain numbers."""
    ax.set_xticks(list(places), [f"{place:g}" for place in places])
    ax.xaxis.minorticks_off()


def _columns(ax: Axes) -> int:
    grid = ax.get_gridspec()
    return 1 if grid is None else grid.ncols


def name_features(ax: Axes, features: Mapping[str, float]) -> None:
    """Mark the spectral features that lie inside the limits of an axis; one name where two would overlap."""
    low, high = ax.get_xlim()
    names: list[tuple[float, str]] = []
    for place, name in sorted((place, name.strip()) for name, place in features.items() if low < place < high):
        ax.axvline(place, color="#999999", lw=0.5, zorder=0)
        if names and place - names[-1][0] < _NAME_WIDTH * (high - low) * _columns(ax):
            name = f"{names[-1][1]}, {name}" if name not in names[-1][1] else names[-1][1]
            place = names.pop()[0]
        names.append((place, name))
    for place, name in names:
        ax.text(place, 1.0, name, fontsize=7, color="#555555", ha="center", va="bottom",
                transform=ax.get_xaxis_transform())  # fmt: skip


def without_gaps(flux: np.ndarray, fill_value: float) -> np.ndarray:
    """A spectrum with NaN, which is not drawn, in its gaps; a single dead pixel does not count as a gap."""
    missing = flux == fill_value
    return np.where(missing & (np.roll(missing, 1) | np.roll(missing, -1)), np.nan, flux)


def legend_below(figure: Figure, ax: Axes, columns: int = 5) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=9)
