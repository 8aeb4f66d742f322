"""Figures of the benchmark: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
