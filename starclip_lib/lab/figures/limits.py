"""Figures of what is possible: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import CYCLE, legend_below, new_axes, panels, plain_ticks, styled
from starclip_lib.metrics.probing import Scores
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import ASPCAP_ERROR, AXIS_TITLES, LABELS, LATEX, PUBLISHED_SPREAD, label_index


@styled
def bounds_against(
    x: Sequence[float], bounds: Mapping[str, np.ndarray], names: Sequence[str], xlabel: str, log: bool = True
) -> Figure:
    """Bounds of some labels against a condition, one panel a label, with the catalogue's error in grey."""
    figure, axes = panels(len(names), 3, (3.6, 3))
    for ax, name in zip(axes, names, strict=True):
        i = label_index(name)
        for (title, values), colour in zip(bounds.items(), CYCLE, strict=False):
            ax.plot(x, values[:, i], "o-", ms=4, color=colour, label=title)
        ax.axhline(ASPCAP_ERROR[i], color="#888888", ls=":", label="catalogue's own error")
        ax.set(title=AXIS_TITLES[i], xlabel=xlabel, yscale="log", xscale="log" if log else "linear")
        if log:
            plain_ticks(ax, x)
    figure.supylabel("Cramér-Rao bound", fontsize=10)
    legend_below(figure, axes[0])
    return figure


@styled
def information_map(density: np.ndarray, instrument: Instrument, bin_width: float = 50.0) -> Figure:
    """Where each label shows: information in bins of wavelength, relative to its peak."""
    edges = np.arange(instrument.wavelength[0], instrument.wavelength[-1] + bin_width, bin_width)
    total = np.array([np.histogram(instrument.wavelength, edges, weights=row)[0] for row in density])
    figure, (ax,) = new_axes(1, 1, (11, 5))
    relative = total / total.max(axis=1, keepdims=True)
    image = ax.imshow(np.sqrt(relative), aspect="auto", extent=(edges[0], edges[-1], len(LABELS) - 0.5, -0.5))
    ax.set(yticks=np.arange(len(LABELS)), yticklabels=LATEX, xlabel="vacuum wavelength [Å]")
    ax.grid(False)
    figure.colorbar(image, label="gradient in the bin, relative to the label's strongest")
    return figure


@styled
def gap_costs(cost: np.ndarray, starts: np.ndarray) -> Figure:
    """By how many per cent a gap widens each bound, against where the gap begins."""
    figure, (ax,) = new_axes(1, 1, (9, 5))
    image = ax.imshow(
        100 * (cost.T - 1), aspect="auto", cmap="magma_r", extent=(starts[0], starts[-1], len(LABELS) - 0.5, -0.5)
    )
    ax.set(yticks=np.arange(len(LABELS)), yticklabels=LATEX, xlabel="gap begins at [Å]")
    ax.grid(False)
    figure.colorbar(image, label="bound widened by [%]")
    return figure


@styled
def ladder(steps: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], score: str = "success@1") -> Figure:
    """How often methods find the right star first, from the simplest to the ideal one, with 95 % intervals.

    Parameters
    ----------
    steps : mapping of str to mapping
        Method to direction to scores with their 'interval', as `retrieval.with_intervals` gives them; drawn from the
        top in this order.
    titles : mapping of str to str
        Of the directions, one panel each.
    """
    figure, axes = new_axes(1, len(titles), (4.6 * len(titles) + 2.0, 0.42 * len(steps) + 1.4))
    for ax, (direction, title) in zip(axes, titles.items(), strict=True):
        for place, (name, found) in enumerate(steps.items()):
            if direction not in found:
                continue
            value, (low, high) = found[direction][score], found[direction]["interval"][score]
            ax.barh(place, value, height=0.62, color=CYCLE[0], alpha=0.3)
            ax.errorbar(
                value, place, xerr=[[value - low], [high - value]], fmt="o", color=CYCLE[0], capsize=3, label=name
            )
            beside, side = (low - 0.02, "right") if low > 0.15 else (high + 0.02, "left")
            ax.text(beside, place, f"{value:.3f}", ha=side, va="center", fontsize=9)
        ax.set(title=title, xlim=(0, 1.02), xlabel="share of queries whose own star comes first")
        ax.set_yticks(range(len(steps)), list(steps) if ax is axes[0] else [""] * len(steps))
        ax.set_ylim(len(steps) - 0.5, -0.5)
    return figure


@styled
def errors_over_limit(ratio: Mapping[str, np.ndarray]) -> Figure:
    """RMSE of each method over the posterior sigma of a linear Gaussian model (van Trees bound), label by label."""
    figure, (ax,) = new_axes(1, 1, (9.5, 3.8))
    place = np.arange(len(LABELS))
    for (name, values), colour in zip(ratio.items(), CYCLE, strict=False):
        ax.plot(place, values, "o-", ms=4, lw=0.8, color=colour, label=name)
    ax.axhline(1, color="black", lw=1)
    ax.set(xticks=place, ylabel="RMSE / van Trees bound", yscale="log")
    ax.set_xticklabels(LATEX, rotation=60)
    ax.legend(ncols=3, fontsize=8)
    return figure


@styled
def ratio_by_snr(middles: Sequence[float], ratios: np.ndarray) -> Figure:
    """RMSE over the van Trees bound in bins of SNR, one thin line a label, their median thick."""
    figure, (ax,) = new_axes(1, 1, (5.6, 3.8))
    ax.plot(middles, ratios, color=CYCLE[0], lw=0.7, alpha=0.6)
    ax.plot(middles, np.median(ratios, axis=1), "o-", color=CYCLE[1], lw=2.5, label="median of the labels")
    ax.axhline(1, color="black", lw=1)
    ax.axhline(1.5, color="#888888", ls=":")
    ax.set(xlabel="SNR per pixel of the view", ylabel="RMSE / van Trees bound, one view at a time")
    ax.legend()
    return figure


@styled
def errors_and_bounds(scores: Mapping[str, Scores], bounds: Mapping[str, Mapping[str, float]]) -> Figure:
    """RMSE of every label relative to its published spread, for several models, with Cramer-Rao bounds as lines.

    Parameters
    ----------
    scores : mapping of str to Scores
        By model.
    bounds : mapping of str to mapping of str to float
        Caption to bound of each label, in K and dex.
    """
    figure, (ax,) = new_axes(1, 1, (10, 4))
    x = np.arange(len(LABELS))
    for (name, score), marker in zip(scores.items(), "osD^v", strict=False):
        ax.plot(x, [score["rmse"][label] for label in LABELS] / PUBLISHED_SPREAD, marker, ms=5, label=name)
    for (name, bound), style in zip(bounds.items(), ("-", "--"), strict=False):
        height = [bound[label] for label in LABELS] / PUBLISHED_SPREAD
        ax.step(x, height, where="mid", color="black", ls=style, lw=1, label=name)
    ax.axhline(1, color="#999999", lw=1)
    ax.text(x[-1] + 0.4, 1.03, "knowing nothing", ha="right", va="bottom", fontsize=8, color="#555555")
    ax.set_xticks(x, LATEX, rotation=60)
    ax.set(yscale="log", ylabel="RMSE / spread of the stars")
    ax.legend(fontsize=8, ncols=2)
    return figure
