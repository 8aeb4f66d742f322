"""Figures of the evaluation: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import CYCLE, legend_below, new_axes, panels, plain_ticks, styled
from starclip_lib.models.checkpoint import History
from starclip_lib.physics.labels import LATEX, label_index
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.scaling import PowerLaw

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # value and the ends of its interval


@styled
def region_scores(scores: Mapping[str, Mapping[str, list[float]]], parts: Sequence[tuple[float, float]]) -> Figure:
    """Share of unexplained scatter, 1 - r2, of predicted spectra in each wavelength region; lower is better."""
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
def detection_rates(rates: Mapping[str, Mapping[str, float]]) -> Figure:
    """Share of planted anomalies found at 1 % false alarms."""
    figure, (ax,) = new_axes(1, 1, (8.5, 3.4))
    scores = list(next(iter(rates.values())))
    for number, score in enumerate(scores):
        place = np.arange(len(rates)) + 0.8 / len(scores) * (number - (len(scores) - 1) / 2)
        ax.bar(place, [100 * found[score] for found in rates.values()], 0.75 / len(scores), label=score)
    ax.axhline(1, color="black", ls=":")
    ax.set(xticks=np.arange(len(rates)), ylabel="found at 1 % false alarms [%]", ylim=(0, 102))
    ax.set_xticklabels(rates)
    legend_below(figure, ax, 3)
    return figure


@styled
def pit_histograms(pits: Mapping[str, Mapping[str, np.ndarray]], n_bins: int = 20) -> Figure:
    """Histograms of the probability integral transform, labels in rows, methods in columns; flat is calibrated.

    Parameters
    ----------
    pits : mapping of str to mapping of str to ndarray, shape (n,)
        Label to method to values.
    """
    columns = len(next(iter(pits.values())))
    figure, axes = new_axes(
        len(pits), columns, (2.9 * columns, 2 * len(pits)), sharex=True, sharey="row", squeeze=False
    )
    for number, (row, (name, methods)) in enumerate(zip(axes, pits.items(), strict=True)):
        for ax, (method, pit), colour in zip(row, methods.items(), CYCLE, strict=False):
            ax.hist(pit, np.linspace(0, 1, n_bins + 1), density=True, color=colour, alpha=0.7)
            ax.axhline(1, color="black", lw=1)
            if number == 0:
                ax.set_title(method.replace(", ", ",\n"), fontsize=9)
        row[0].set_ylabel(LATEX[label_index(name)])
    for ax in axes[-1]:
        ax.set_xlabel("PIT of the true label")
    return figure


@styled
def attenuation_slopes(
    snr: Sequence[float], slopes: Mapping[str, Mapping[str, Sequence[float]]], ceiling: Mapping[str, float]
) -> Figure:
    """Slope of predicted against true labels.

    Parameters
    ----------
    snr : sequence of float
        Per pixel.
    slopes : mapping of str to mapping of str to sequence of float
        Label to method to slopes at each SNR.
    ceiling : mapping of str to float
        Label to the noiseless slope.
    """
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
    legend_below(figure, axes.flat[0])
    return figure


@styled
def transfer_curves(curves: Mapping[str, Mapping[str, Mapping[int, Interval]]]) -> Figure:
    """Score against the number of labelled stars.

    Parameters
    ----------
    curves : mapping of str to mapping of str to mapping of int to Interval
        Domain to strategy to size to interval; size 0 is a dashed line.
    """
    figure, axes = panels(len(curves), 2, (4.6, 3.2))
    for ax, (domain, strategies) in zip(axes, curves.items(), strict=True):
        for (strategy, sizes), colour in zip(strategies.items(), CYCLE, strict=False):
            value, low, high = (np.array([getattr(i, key) for i in sizes.values()]) for key in ("value", "low", "high"))
            if 0 in sizes:
                ax.axhline(value[0], color=colour, ls="--", label=strategy.replace("_", "-"))
                continue
            ax.errorbar(list(sizes), value, [value - low, high - value], fmt="o-", ms=4, color=colour, label=strategy)
        ax.set(title=domain, xscale="log")
        plain_ticks(ax, list(next(s for s in strategies.values() if 0 not in s)))
    figure.supxlabel("labelled stars of the new domain", fontsize=10)
    figure.supylabel("r², mean over the labels", fontsize=10)
    legend_below(figure, axes[0])
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
    legend_below(figure, right)
    return figure


@styled
def scaling_laws(
    sizes: Sequence[float],
    errors: Mapping[str, Sequence[float]],
    laws: Mapping[str, PowerLaw],
    bound: float | None = None,
    xlabel: str = "labelled training stars",
) -> Figure:
    """Errors against size with the power laws fitted to them."""
    figure, (ax,) = new_axes(1, 1, (5.6, 3.8))
    fine = np.geomspace(min(sizes), max(sizes), 100)
    for (name, values), colour in zip(errors.items(), CYCLE, strict=False):
        ax.plot(sizes, values, "o", color=colour, label=name)
        if name in laws:
            ax.plot(fine, laws[name](fine), color=colour, ls="-" if laws[name].determined else ":")
    if bound is not None:
        ax.axhline(bound, color="black", ls="--", label="noise bound")
    ax.set(xscale="log", xlabel=xlabel, ylabel="RMSE / spread, mean over the labels")
    plain_ticks(ax, sizes)
    ax.legend(fontsize=8)
    return figure
