"""Figures of the evaluation: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from starclip_lib.data.instruments import Instrument
from starclip_lib.data.labels import LABELS, LATEX, label_index
from starclip_lib.evaluation.pairs import PERCENTS
from starclip_lib.evaluation.resampling import Interval
from starclip_lib.evaluation.scaling import PowerLaw
from starclip_lib.evaluation.strata import Stratum
from starclip_lib.figures.style import CYCLE, new_axes, plain_ticks, styled, without_gaps
from starclip_lib.models.checkpoint import History

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # value and the ends of its interval


def _legend_below(figure: Figure, ax: Axes, columns: int = 5) -> None:
    """One legend for all panels, below them, where it hides nothing."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=9)


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
    _legend_below(figure, axes[0])
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

    strata : condition to label to its bins; overall : label to RMSE
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
    """Box plots of absolute residuals (n, 20) of several models, in units of each label's spread (20,)."""
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
    """Net wins (20, bins) of one model over another, by label and bin of its value, in per cent of a bin's stars."""
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
    """Net wins (bins of the label, bins of size) against how much the two models differ, one line for each fifth."""
    figure, (ax,) = new_axes(1, 1, (6.4, 3.6))
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(counts)))
    for number, (row, colour) in enumerate(zip(counts, colours, strict=True)):
        title = {0: "lowest fifth", len(counts) - 1: "highest fifth"}.get(number, f"fifth {number + 1}")
        ax.stairs(row, edges, color=colour, lw=1.6, label=title)
    ax.axhline(0, color="black", lw=1)
    ax.set(xlabel=f"difference of the two residuals of {label} [{unit}]", ylabel=f"stars: {names[0]} nearer, net")
    _legend_below(figure, ax)
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
    _legend_below(figure, ax, 2)
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


@styled
def region_scores(scores: Mapping[str, Mapping[str, list[float]]], parts: Sequence[tuple[float, float]]) -> Figure:
    """Share of unexplained scatter, 1 - r2, of predicted spectra in each wavelength region; lower is better.

    scores : panel title to name of a predictor to r2 of each region
    """
    figure, axes = new_axes(1, len(scores), (4.4 * len(scores), 3.4), sharey=True)
    x = [f"{(low + high) / 2e4:.2f}" for low, high in parts]
    for ax, (title, predictors) in zip(axes, scores.items(), strict=True):
        for (name, r2), colour in zip(predictors.items(), CYCLE, strict=False):
            ax.plot(x, 1 - np.array(r2), "o-", color=colour, label=name)
        ax.set(title=title, xlabel="middle of the region [µm]", yscale="log")
    axes[0].set_ylabel("unexplained scatter, 1 − r²")
    axes[-1].legend(fontsize=8)
    return figure


@styled
def decoded_spectrum(
    observed: np.ndarray, truth: np.ndarray, predicted: Mapping[str, np.ndarray], instrument: Instrument, stretch: tuple
) -> Figure:
    """An observed spectrum, the truth behind it, and what decoders predict, with residuals from the truth below."""
    figure, (top, bottom) = new_axes(2, 1, (10, 4.6), sharex=True, height_ratios=(2, 1))
    x = instrument.wavelength
    top.plot(x, without_gaps(observed, instrument.no_data), color="#bbbbbb", lw=0.6, label="observed")
    top.plot(x, truth, color="black", lw=1, label="truth")
    for (name, flux), colour in zip(predicted.items(), CYCLE, strict=False):
        top.plot(x, flux, color=colour, lw=1, label=name)
        bottom.plot(x, 100 * (flux - truth), color=colour, lw=0.8)
    inside = (x > stretch[0]) & (x < stretch[1])
    values = truth[inside]
    top.set(xlim=stretch, ylabel="flux / continuum", ylim=(values.min() - 0.05, 1.08))
    bottom.set(xlabel="vacuum wavelength [Å]", ylabel="predicted − truth [%]")
    top.legend(ncols=4, fontsize=8, loc="lower right")
    return figure


@styled
def detection_rates(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Share of planted anomalies found at 1 % false alarms: anomaly to score to rate."""
    figure, (ax,) = new_axes(1, 1, (8.5, 3.4))
    scores = list(next(iter(rates.values())))
    for number, score in enumerate(scores):
        place = np.arange(len(rates)) + 0.8 / len(scores) * (number - (len(scores) - 1) / 2)
        ax.bar(place, [100 * found[score] for found in rates.values()], 0.75 / len(scores), label=score)
    ax.axhline(1, color="black", ls=":")
    ax.set(xticks=np.arange(len(rates)), ylabel="found at 1 % false alarms [%]", ylim=(0, 102))
    ax.set_xticklabels(rates)
    _legend_below(figure, ax, 3)
    return figure


@styled
def pit_histograms(pits: Mapping[str, Mapping[str, np.ndarray]], n_bins: int = 20) -> Figure:
    """Histograms of the probability integral transform: label (rows) to method (columns); flat is calibrated."""
    columns = len(next(iter(pits.values())))
    figure, axes = new_axes(
        len(pits), columns, (2.9 * columns, 2 * len(pits)), sharex=True, sharey="row", squeeze=False
    )
    for row, (name, methods) in zip(axes, pits.items(), strict=True):
        for ax, (method, pit), colour in zip(row, methods.items(), CYCLE, strict=False):
            ax.hist(pit, np.linspace(0, 1, n_bins + 1), density=True, color=colour, alpha=0.7)
            ax.axhline(1, color="black", lw=1)
            if row is axes[0]:
                ax.set_title(method, fontsize=9)
        row[0].set_ylabel(LATEX[label_index(name)])
    for ax in axes[-1]:
        ax.set_xlabel("PIT of the true label")
    return figure


@styled
def attenuation_slopes(
    snr: Sequence[float], slopes: Mapping[str, Mapping[str, Sequence[float]]], ceiling: Mapping[str, float]
) -> Figure:
    """Slope of predicted against true labels: label to method to slopes at each SNR, label to the noiseless slope."""
    columns = min(3, len(slopes))
    rows = -(-len(slopes) // columns)
    figure, axes = new_axes(rows, columns, (3.4 * columns, 2.7 * rows), sharex=True, squeeze=False)
    for ax, (name, methods) in zip(axes.flat, slopes.items(), strict=False):
        for (method, values), colour in zip(methods.items(), CYCLE, strict=False):
            ax.plot(snr, values, "o-", ms=4, color=colour, label=method)
        ax.axhline(1, color="black", lw=1)
        ax.axhline(ceiling[name], color="black", ls=":", label="linear, without noise")
        ax.set(title=LATEX[label_index(name)], xscale="log")
        plain_ticks(ax, snr)
    for ax in axes[-1]:
        ax.set_xlabel("SNR per pixel")
    for ax in axes[:, 0]:
        ax.set_ylabel("slope, predicted against true")
    _legend_below(figure, axes.flat[0])
    return figure


@styled
def transfer_curves(curves: Mapping[str, Mapping[str, Mapping[int, Interval]]]) -> Figure:
    """Score against the number of labelled stars: domain to strategy to size to interval; size 0 is a dashed line."""
    figure, axes = new_axes(1, len(curves), (3.4 * len(curves), 3.4))
    for ax, (domain, strategies) in zip(axes, curves.items(), strict=True):
        for (strategy, sizes), colour in zip(strategies.items(), CYCLE, strict=False):
            value, low, high = (np.array([getattr(i, key) for i in sizes.values()]) for key in ("value", "low", "high"))
            if 0 in sizes:
                ax.axhline(value[0], color=colour, ls="--", label=strategy.replace("_", "-"))
                continue
            ax.errorbar(list(sizes), value, [value - low, high - value], fmt="o-", ms=4, color=colour, label=strategy)
        ax.set(title=domain, xlabel="labelled stars of the new domain", xscale="log")
        plain_ticks(ax, list(next(s for s in strategies.values() if 0 not in s)))
    axes[0].set_ylabel("r², mean over the labels")
    _legend_below(figure, axes[0])
    return figure


@styled
def ablation_curves(histories: Mapping[str, History], curves: Mapping[str, Curve]) -> Figure:
    """Left: validation retrieval during training of each variant; right: top-k % accuracy on test stars."""
    figure, (left, right) = new_axes(1, 2, (10, 3.8))
    for (name, history), colour in zip(histories.items(), CYCLE, strict=False):
        left.plot(np.arange(1, history.epochs + 1), history.val_retrieval, color=colour, label=name)
    for (name, (value, low, high)), colour in zip(curves.items(), CYCLE, strict=False):
        right.fill_between(PERCENTS, low, high, color=colour, alpha=0.2, lw=0)
        right.plot(PERCENTS, value, color=colour, label=name)
    right.plot(PERCENTS, np.array(PERCENTS) / 100, color="black", ls=":", label="chance")
    left.set(xlabel="epoch", ylabel="partner is the nearest, validation", ylim=(0, 1.02))
    right.set(xscale="log", xlabel="best k % of the stars looked at", ylabel="the right star is among them")
    _legend_below(figure, right)
    return figure


@styled
def scaling_laws(
    sizes: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    laws: Mapping[str, PowerLaw],
    xlabel: str = "training stars",
) -> Figure:
    """Errors against size with the power laws fitted to them."""
    figure, (ax,) = new_axes(1, 1, (5.6, 3.8))
    fine = np.geomspace(min(sizes), max(sizes), 100)
    for (name, values), colour in zip(errors.items(), CYCLE, strict=False):
        ax.plot(sizes, values, "o", color=colour, label=name)
        if name in laws:
            ax.plot(fine, laws[name](fine), color=colour)
    ax.set(xscale="log", xlabel=xlabel, ylabel="RMSE / spread, mean over the labels")
    plain_ticks(ax, sizes)
    ax.legend(fontsize=8)
    return figure
