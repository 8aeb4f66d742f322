"""Figures of models and embeddings: functions that take arrays and return a figure; none shows or saves.

All are matplotlib figures but `explorer`, which is a plotly figure to click around in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from scipy.special import softmax

from starclip_lib.lab.figures.style import APOGEE_COLOUR, NIRSPEC_COLOUR, new_axes, panels, plain_ticks, styled
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import AXIS_TITLES, FE, LABELS, LOGG, PLAIN, TEFF, UNITS, label_index


@styled
def similarity_matrices(matrices: Mapping[str, np.ndarray], scale: float | None = None) -> Figure:
    """Cosine similarities of NIRSpec (rows) and APOGEE (columns) of the same stars, side by side."""
    figure, axes = new_axes(1, len(matrices), (4.3 * len(matrices), 3.9))
    if scale is not None:
        matrices = {name: softmax(scale * matrix, axis=1) for name, matrix in matrices.items()}
    low = 0.0 if scale else np.percentile(np.stack(list(matrices.values())), 5)
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        image = ax.imshow(matrix, cmap="magma", vmin=low, vmax=1)
        ax.set(title=name, xlabel="APOGEE spectrum of star", ylabel="NIRSpec spectrum of star")
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="share of the guess" if scale else "cosine similarity")
    return figure


@styled
def success_curves(
    ranks: Mapping[str, np.ndarray], chance: Callable[[int], float], title: str, k_max: int = 100
) -> Figure:
    """SuccessRate@k against k for several models and for chance."""
    figure, (ax,) = new_axes(1, 1, (5.6, 4))
    k = np.arange(1, k_max + 1)
    for name, values in ranks.items():
        ax.plot(k, [(values <= kk).mean() for kk in k], label=name)
    ax.plot(k, [chance(int(kk)) for kk in k], color="black", ls=":", label="chance")
    ax.set(
        xscale="log", xlabel="k, results looked at", ylabel="success rate: the right star is among them", ylim=(0, 1.02)
    )
    ax.set_title(title)
    ax.legend()
    return figure


@styled
def maps(xy: np.ndarray, labels: np.ndarray, axis: str, names: Sequence[str] = ("Teff", "logg", "Fe", "Mg")) -> Figure:
    """A map of the embedding, once for each label it is coloured by: the paper's Figure 8."""
    figure, axes = panels(len(names), 2, (4.6, 3.4), sharex=True, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        i = label_index(name)
        low, high = np.percentile(labels[:, i], [1, 99])
        points = ax.scatter(*xy.T, c=labels[:, i], s=3, lw=0, vmin=low, vmax=high, rasterized=True)
        figure.colorbar(points, ax=ax, label=AXIS_TITLES[i])
    figure.supxlabel(f"{axis} 1", fontsize=10)
    figure.supylabel(f"{axis} 2", fontsize=10)
    return figure


@styled
def modalities_map(maps: Mapping[str, tuple[np.ndarray, np.ndarray, tuple[str, str]]]) -> Figure:
    """Both instruments on one map, a line from each star's NIRSpec point to its APOGEE point; one panel per projection.

    `maps` has by title the places (n, 2) of the stars as NIRSpec and as APOGEE see them, and the names of the axes.
    """
    figure, axes = new_axes(1, len(maps), (5.2 * len(maps), 4.4))
    for ax, (title, (nirspec, apogee, (xlabel, ylabel))) in zip(axes, maps.items(), strict=True):
        for one, other in zip(nirspec, apogee, strict=True):
            ax.plot(*np.stack([one, other]).T, color="#999999", lw=0.6, zorder=1)
        ax.scatter(*nirspec.T, s=10, lw=0, color=NIRSPEC_COLOUR, label=NIRSPEC.title, zorder=2)
        ax.scatter(*apogee.T, s=14, lw=0.8, facecolor="none", edgecolor=APOGEE_COLOUR, label=APOGEE.title, zorder=2)
        ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes[0].legend()
    return figure


@styled
def place_on_map(xy: np.ndarray, labels: np.ndarray, star: np.ndarray, neighbours: np.ndarray, title: str) -> Figure:
    """A star and its neighbours on a map coloured by [Fe/H]."""
    figure, (ax,) = new_axes(1, 1, (5.6, 4))
    low, high = np.percentile(labels[:, FE], [1, 99])
    points = ax.scatter(*xy.T, c=labels[:, FE], s=4, lw=0, vmin=low, vmax=high, rasterized=True)
    figure.colorbar(points, ax=ax, label=AXIS_TITLES[FE])
    ax.plot(*neighbours.T, "o", ms=8, mfc="none", mec="black", label="nearest APOGEE stars")
    ax.plot(*star, "*", ms=17, color=APOGEE_COLOUR, mec="white", label=title)
    ax.set(xlabel="PC 1", ylabel="PC 2")
    ax.legend()
    return figure


def explorer(
    xy: np.ndarray, labels: np.ndarray, captions: Sequence[str], axis: str, colour_by: str = "Fe"
) -> go.Figure:
    """An interactive map: hover for the star and its labels, choose the colour from a menu.

    Parameters
    ----------
    xy : ndarray, shape (m, 2)
        The map.
    labels : ndarray, shape (m, 20)
    captions : sequence of str, length m
        What the text at each point begins with.
    axis : str
        What the axes are called.
    colour_by : str
        The label that colours the points at first.
    """
    i = label_index(colour_by)
    text = [
        f"{caption}<br>Teff {star[TEFF]:.0f} K, log g {star[LOGG]:.2f}, [Fe/H] {star[FE]:+.2f}"
        for caption, star in zip(captions, labels, strict=True)
    ]
    points = go.Scattergl(
        x=xy[:, 0].round(3),
        y=xy[:, 1].round(3),
        mode="markers",
        text=text,
        hoverinfo="text",
        marker={"size": 5, "color": labels[:, i].round(3), "colorscale": "Viridis", "colorbar": {"title": _plain(i)}},
    )
    buttons = [
        {
            "label": _plain(j),
            "method": "restyle",
            "args": [{"marker.color": [labels[:, j].round(3)], "marker.colorbar.title.text": _plain(j)}],
        }
        for j in (i, *(j for j in range(len(LABELS)) if j != i))
    ]
    layout = {
        "xaxis_title": f"{axis} 1",
        "yaxis_title": f"{axis} 2",
        "template": "plotly_white",
        "height": 620,
        "margin": {"t": 60},
        "updatemenus": [{"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.1}],
    }
    return go.Figure(points, layout)


def _plain(i: int) -> str:
    return f"{PLAIN[i]} [{UNITS[i]}]"


@styled
def distance_ratios(groups: Mapping[str, np.ndarray]) -> Figure:
    """Each star's angle to its own place over that to the nearest other star: below 1 it is found first.

    `groups` has the ratios (n,) by name; the legend gives the share below 1.
    """
    figure, (ax,) = new_axes(1, 1, (8, 3.6))
    values = np.concatenate(list(groups.values()))
    low, high = np.quantile(values, [0.002, 0.998])
    edges = np.geomspace(low, high, 45)
    for name, ratios in groups.items():
        title = f"{name}: {(ratios < 1).mean():.1%} below 1"
        ax.hist(np.clip(ratios, edges[0], edges[-1]), edges, histtype="step", lw=1.8, label=title)
    ax.axvline(1, color="black", lw=1)
    ax.set(xscale="log", xlabel="angle to its own place / angle to the nearest other star", ylabel="stars")
    plain_ticks(ax, [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5) if edges[0] <= tick <= edges[-1]])
    ax.legend(loc="upper left")
    return figure
