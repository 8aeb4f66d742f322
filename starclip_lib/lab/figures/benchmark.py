"""Figures of the benchmark: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.evaluation import Curve
from starclip_lib.lab.figures.style import CYCLE, legend_below, new_axes, styled
from starclip_lib.physics.labels import LABELS, LATEX, label_index
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.strata import Stratum


@styled
def label_intervals(found: Mapping[str, Mapping[str, list[Interval]]], title: str) -> Figure:
    """Intervals of twenty labels, one panel for each outer name, one colour for each inner one, and a line at zero."""
    figure, axes = new_axes(1, len(found), (4.2 * len(found), 5.2), sharey=True)
    place = np.arange(len(LABELS))
    for ax, (name, groups) in zip(axes, found.items(), strict=True):
        for number, (group, intervals) in enumerate(groups.items()):
            value, low, high = (np.array([getattr(i, key) for i in intervals]) for key in ("value", "low", "high"))
            y = place + 0.22 * (number - (len(groups) - 1) / 2)
            ax.errorbar(value, y, xerr=[value - low, high - value], fmt="o", ms=3, lw=1.2, label=group)
        ax.axvline(0, color="black", lw=1)
        ax.set(title=name, xlabel=title)
    axes[0].set(yticks=place, yticklabels=LATEX, ylim=(len(LABELS) - 0.5, -0.5))
    legend_below(figure, axes[0])
    return figure


@styled
def inertia_curves(curves: Mapping[str, np.ndarray], elbows: Mapping[str, int]) -> Figure:
    """Inertia of k-means relative to one cluster, against the number of clusters, with the elbow of each curve."""
    figure, (ax,) = new_axes(1, 1, (5.6, 3.6))
    for (name, inertia), colour in zip(curves.items(), CYCLE, strict=False):
        k = np.arange(1, len(inertia) + 1)
        ax.plot(k, inertia / inertia[0], color=colour, label=name)
        ax.plot(elbows[name], inertia[elbows[name] - 1] / inertia[0], "o", color=colour)
    ax.set(xlabel="number of clusters k (dot: elbow)", ylabel="inertia, relative to k = 1", ylim=(0, 1.03))
    ax.legend()
    return figure


@styled
def strata_curves(strata: Mapping[str, Mapping[str, list[Stratum]]], overall: Mapping[str, float]) -> Figure:
    """RMSE of labels in bins of several conditions, relative to the RMSE of all views.

    Parameters
    ----------
    strata : mapping of str to mapping of str to list of Stratum
        Condition to label to its bins.
    overall : mapping of str to float
        Label to RMSE.
    """
    columns = min(3, len(strata))
    rows = -(-len(strata) // columns)
    figure, axes = new_axes(rows, columns, (3.7 * columns, 2.9 * rows), sharey=True, squeeze=False)
    for ax in axes.flat[len(strata) :]:
        ax.set_visible(False)
    for ax, (condition, by_label) in zip(axes.flat, strata.items(), strict=False):
        for name, bins in by_label.items():
            value, low, high = (np.array([getattr(b.rmse, key) for b in bins]) for key in ("value", "low", "high"))
            x = [(b.low + b.high) / 2 for b in bins]
            error = np.array([value - low, high - value]) / overall[name]
            ax.errorbar(x, value / overall[name], error, fmt="o-", ms=4, label=LATEX[label_index(name)])
        ax.axhline(1, color="black", lw=1)
        ax.set_xlabel(condition)
    for ax in axes[:, 0]:
        ax.set_ylabel("RMSE / RMSE of all")
    axes.flat[0].legend()
    return figure


@styled
def residual_boxes(errors: Mapping[str, np.ndarray], spread: np.ndarray) -> Figure:
    """Box plots of absolute residuals of several models, in units of each label's spread.

    Parameters
    ----------
    errors : mapping of str to ndarray, shape (n, 20)
        Model to residuals.
    spread : ndarray, shape (20,)
        Of each label.
    """
    figure, (ax,) = new_axes(1, 1, (10, 3.8))
    for number, ((name, error), colour) in enumerate(zip(errors.items(), CYCLE, strict=False)):
        place = np.arange(len(LABELS)) + 0.36 * (number - (len(errors) - 1) / 2)
        ax.boxplot(
            np.abs(error) / spread,
            positions=place,
            widths=0.3,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.5, "lw": 0.6},
            medianprops={"color": "black"},
            flierprops={"marker": ".", "ms": 1.5, "markeredgecolor": colour, "alpha": 0.4},
        )
        ax.plot([], [], color=colour, lw=6, alpha=0.5, label=name)
    ax.set(xticks=np.arange(len(LABELS)), yscale="log", ylabel="|residual| / spread of the label", ylim=(1e-3, None))
    ax.set_xticklabels(LATEX, rotation=60)
    ax.legend(ncols=2)
    return figure


@styled
def win_map(wins: np.ndarray, names: tuple[str, str], n_stars: int) -> Figure:
    """Net wins of one model over another, by label and bin of its value, in per cent of a bin's stars."""
    figure, (ax,) = new_axes(1, 1, (5.2, 5.4))
    share = 100 * wins / (n_stars / wins.shape[1])
    limit = np.abs(share).max() or 1
    image = ax.imshow(share, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    ax.set(yticks=np.arange(len(LABELS)), yticklabels=LATEX, xticks=np.arange(wins.shape[1]))
    ax.set_xticklabels(["lowest fifth", *[""] * (wins.shape[1] - 2), "highest fifth"])
    ax.grid(False)
    figure.colorbar(image, label=f"stars on which {names[0]} is nearer than {names[1]}, net [%]")
    return figure


@styled
def wins_by_size(counts: np.ndarray, edges: np.ndarray, label: str, unit: str, names: tuple[str, str]) -> Figure:
    """Net wins against how much the two models differ, one line for each fifth."""
    figure, (ax,) = new_axes(1, 1, (6.4, 3.6))
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(counts)))
    for number, (row, colour) in enumerate(zip(counts, colours, strict=True)):
        title = {0: "lowest fifth", len(counts) - 1: "highest fifth"}.get(number, f"fifth {number + 1}")
        ax.stairs(row, edges, color=colour, lw=1.6, label=title)
    ax.axhline(0, color="black", lw=1)
    ax.set(xlabel=f"difference of the two residuals of {label} [{unit}]", ylabel=f"stars: {names[0]} nearer, net")
    legend_below(figure, ax)
    return figure


@styled
def top_percent(curves: Mapping[str, Curve], percents: Sequence[float] = PERCENTS) -> Figure:
    """Top-k % accuracy with intervals against k %, and chance: the figure 3 of PAPERCLIP."""
    figure, (ax,) = new_axes(1, 1, (5.6, 4))
    for (name, (value, low, high)), colour in zip(curves.items(), CYCLE, strict=False):
        ax.fill_between(percents, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(percents, value, "o-", ms=3, color=colour, label=name)
    ax.plot(percents, np.array(percents) / 100, color="black", ls=":", label="chance")
    ax.set(
        xscale="log", xlabel="best k % of the stars looked at", ylabel="the right star is among them", ylim=(0, 1.02)
    )
    legend_below(figure, ax, 2)
    return figure


@styled
def cosine_distributions(groups: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Cosine similarities of matched and of shuffled pairs, one panel for each name."""
    figure, axes = new_axes(1, len(groups), (4.2 * len(groups), 3.2), sharey=True)
    for ax, (name, (matched, shuffled)) in zip(axes, groups.items(), strict=True):
        low = min(matched.min(), np.quantile(shuffled, 0.001))
        edges = np.linspace(low, 1, 61)
        ax.hist(shuffled, edges, density=True, color=CYCLE[6], alpha=0.6, label="shuffled pairs")
        ax.hist(matched, edges, density=True, color=CYCLE[0], alpha=0.7, label="matched pairs")
        ax.set(title=name, xlabel="cosine similarity", yscale="log")
    axes[0].set_ylabel("density")
    axes[0].legend(loc="upper left")
    return figure
