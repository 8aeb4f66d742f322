"""Figures of trainings and predicted labels: functions that take arrays and return a matplotlib figure; none saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import APOGEE_COLOUR, CYCLE, legend_below, new_axes, styled
from starclip_lib.metrics.probing import Predictions, Scores
from starclip_lib.models.checkpoint import History
from starclip_lib.physics.labels import AXIS_TITLES, FE, LABELS, label_index

# The paper's six: three atmospheric parameters, and abundances that are recovered well, fairly and poorly.
MAIN_LABELS = ("Teff", "logg", "Fe", "Mg", "Al", "V")


@styled
def loss_curves(histories: Mapping[str, History]) -> Figure:
    """Training and validation loss of each training, epoch by epoch, with the epoch that was kept.

    On the right-hand axis, of alignments, the share of validation stars whose partner is the nearest.

    Parameters
    ----------
    histories : mapping of str to History
        By title of the training.
    """
    figure, axes = new_axes(1, len(histories), (max(7, 3.8 * len(histories)), 3.3))
    for ax, (name, history) in zip(axes, histories.items(), strict=True):
        epochs = np.arange(1, history.epochs + 1)
        ax.plot(epochs, history.train_loss, label="training")
        ax.plot(epochs, history.val_loss, label="validation")
        ax.plot(history.best_epoch, min(history.val_loss), "o", color=APOGEE_COLOUR, ms=5)
        ax.set(title=name, xlabel="epoch", yscale="linear" if history.val_retrieval else "log")
        if history.val_retrieval:
            right = ax.twinx()
            right.plot(epochs, history.val_retrieval, color=CYCLE[2], ls="--", label="partner is the nearest")
            right.set(ylabel="partner is the nearest", ylim=(0, 1.02))
            right.yaxis.label.set_color(CYCLE[2])
            right.grid(False)
    axes[0].set_ylabel("loss")
    legend_below(figure, axes[0])
    return figure


@styled
def predicted_against_true(
    true: np.ndarray,
    models: Mapping[str, np.ndarray | Predictions],
    scores: Mapping[str, Scores],
    names: Sequence[str] = MAIN_LABELS,
) -> Figure:
    """Predicted against catalogue labels with residuals below, one column a label: the paper's Figures 7 and 9.

    Parameters
    ----------
    true : ndarray, shape (n, 20)
        Catalogue labels.
    models : mapping of str to ndarray, shape (n, 20), or to Predictions
        Name to predicted labels; of Predictions, the uncertainties are drawn too.
    scores : mapping of str to Scores
        By the names of the models.
    names : sequence of str
        The labels, one column each.
    """
    size = (2.7 * len(names), 3.3 * len(models))
    figure, axes = new_axes(2 * len(models), len(names), size, height_ratios=(2.2, 1) * len(models), squeeze=False)
    for pair, (title, predicted), colour in zip(axes.reshape(-1, 2, len(names)), models.items(), CYCLE, strict=False):
        sigma = predicted.sigma if isinstance(predicted, Predictions) else None
        values = predicted.labels if isinstance(predicted, Predictions) else predicted
        for column, name in enumerate(names):
            i, (top, bottom) = label_index(name), pair[:, column]
            x, y = true[:, i], values[:, i]
            ends = np.percentile(x, [0.2, 99.8])
            s = scores[title]
            if sigma is not None:
                top.errorbar(x, y, sigma[:, i], fmt="none", ecolor=colour, elinewidth=0.4, alpha=0.25)
            top.plot(x, y, ".", ms=2, color=colour, alpha=0.6, rasterized=True)
            top.plot(ends, ends, color="black", lw=1)
            text = rf"$r^2$ {s['r2'][name]:.3f}" + f"\nRMSE {s['rmse'][name]:.3g}\nΔ {s['bias'][name]:+.2g}"
            top.text(0.04, 0.97, text, transform=top.transAxes, va="top", fontsize=8)
            bottom.axhspan(-(y - x).std(), (y - x).std(), color=colour, alpha=0.15, lw=0)
            bottom.plot(x, y - x, ".", ms=2, color=colour, alpha=0.6, rasterized=True)
            bottom.axhline(0, color="black", lw=1)
            limit = 4 * (y - x).std()
            bottom.set(ylim=(-limit, limit), xlim=ends, xlabel=f"catalogue {AXIS_TITLES[i]}")
            top.set(xlim=ends, ylim=ends + np.array([-1, 1]) * 0.1 * np.ptp(ends))
            top.tick_params(labelbottom=False)
        pair[0, 0].set_ylabel(f"{title}\npredicted")
        pair[1, 0].set_ylabel("residual")
    return figure


@styled
def over_iron(true: np.ndarray, models: Mapping[str, np.ndarray]) -> Figure:
    """Scatter of predicted minus true [X/Fe] for each element, beside the spread of [X/Fe] among the stars."""
    figure, (ax,) = new_axes(1, 1, (10, 3.4))
    columns = [i for i in range(2, len(LABELS)) if i != FE]
    x = np.arange(len(columns))
    ax.bar(x, (true[:, columns] - true[:, [FE]]).std(axis=0), color="#dddddd", label="spread of [X/Fe] among the stars")
    for (name, labels), marker in zip(models.items(), "osD", strict=False):
        error = (labels[:, columns] - labels[:, [FE]]) - (true[:, columns] - true[:, [FE]])
        ax.plot(x, error.std(axis=0), marker, label=f"error of [X/Fe], {name}")
    ax.set_xticks(x, [f"[{LABELS[i]}/Fe]" for i in columns], rotation=60)
    ax.set(ylabel="standard deviation [dex]")
    ax.legend(fontsize=8)
    return figure


@styled
def study(table: pd.DataFrame) -> Figure:
    """What differently treated models say about the same stars: a panel a label, a row a treatment, a colour a star."""
    treatments, labels = list(table["treatment"].unique()), list(table.columns[2:])
    figure, axes = new_axes(1, len(labels), (2.6 + 2.1 * len(labels), 0.9 + 0.34 * len(treatments)), sharey=True)
    for ax, label in zip(axes, labels, strict=True):
        for (star, rows), marker in zip(table.groupby("star"), "osD^vP*X" * len(table), strict=False):
            ax.plot(rows[label], rows["treatment"].map(treatments.index), marker, ms=6, alpha=0.85, label=star)
        ax.set_xlabel(label)
    axes[0].set_yticks(range(len(treatments)), treatments)
    axes[0].set_ylim(len(treatments) - 0.5, -0.5)
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
