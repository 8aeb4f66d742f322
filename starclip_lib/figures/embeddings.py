"""Figures of models and embeddings: functions that take arrays and return a figure; none shows or saves.

All are matplotlib figures but `explorer`, which is a plotly figure to click around in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from starclip_lib.data.instruments import APOGEE, NIRSPEC
from starclip_lib.data.labels import AXIS_TITLES, FE, LABELS, LOGG, PLAIN, TEFF, UNITS, label_index
from starclip_lib.figures.style import APOGEE_COLOUR, CYCLE, NIRSPEC_COLOUR, new_axes, styled
from starclip_lib.metrics.probing import Predictions, Scores
from starclip_lib.models.checkpoint import History

# The paper's six: three atmospheric parameters, and abundances that are recovered well, fairly and poorly.
MAIN_LABELS = ("Teff", "logg", "Fe", "Mg", "Al", "V")


@styled
def loss_curves(histories: Mapping[str, History]) -> Figure:
    """Training and validation loss of each training, epoch by epoch, with the epoch that was kept.

    On the right-hand axis, of alignments, the share of validation stars whose partner is the nearest.
    """
    figure, axes = new_axes(1, len(histories), (3.6 * len(histories), 3))
    for ax, (name, history) in zip(axes, histories.items(), strict=True):
        epochs = np.arange(1, history.epochs + 1)
        ax.plot(epochs, history.train_loss, label="training")
        ax.plot(epochs, history.val_loss, label="validation")
        ax.plot(history.best_epoch, min(history.val_loss), "o", color=APOGEE_COLOUR, ms=5)
        ax.set(title=name, xlabel="epoch", yscale="log")
        if history.val_retrieval:
            right = ax.twinx()
            right.plot(epochs, history.val_retrieval, color=CYCLE[2], ls="--", label="partner is the nearest")
            right.set(ylabel="share of validation stars (dashed)", ylim=(0, 1.02))
            right.grid(False)
    axes[0].set_ylabel("loss")
    axes[0].legend()
    return figure


@styled
def predicted_against_true(
    true: np.ndarray,
    models: Mapping[str, np.ndarray | Predictions],
    scores: Mapping[str, Scores],
    names: Sequence[str] = MAIN_LABELS,
) -> Figure:
    """Predicted against catalogue labels with residuals below, one column a label: the paper's Figures 7 and 9.

    true : (n, 20); models : name to predicted labels (n, 20), or Predictions, whose uncertainties are drawn too
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
def similarity_matrices(matrices: Mapping[str, np.ndarray]) -> Figure:
    """Cosine similarities of NIRSpec (rows) and APOGEE (columns) of the same stars, side by side."""
    figure, axes = new_axes(1, len(matrices), (4.3 * len(matrices), 3.9))
    low = np.percentile(np.stack(list(matrices.values())), 5)
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        image = ax.imshow(matrix, cmap="magma", vmin=low, vmax=1)
        ax.set(title=name, xlabel="APOGEE spectrum of star", ylabel="NIRSpec spectrum of star")
        ax.grid(False)
    figure.colorbar(image, ax=axes, label="cosine similarity")
    return figure


@styled
def success_curves(
    ranks: Mapping[str, np.ndarray], chance: Callable[[int], float], title: str, k_max: int = 100
) -> Figure:
    """SuccessRate@k against k for several models (ranks of the first hit, (n,) each) and for chance."""
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
    """A map (m, 2) of the embedding, once for each label it is coloured by: the paper's Figure 8.

    labels : (m, 20); axis : what the axes are called, such as 'PC' or 'UMAP'
    """
    figure, axes = new_axes(1, len(names), (3.5 * len(names), 3.2), sharex=True, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        i = label_index(name)
        low, high = np.percentile(labels[:, i], [1, 99])
        points = ax.scatter(*xy.T, c=labels[:, i], s=3, lw=0, vmin=low, vmax=high, rasterized=True)
        figure.colorbar(points, ax=ax, label=AXIS_TITLES[i])
        ax.set_xlabel(f"{axis} 1")
    axes[0].set_ylabel(f"{axis} 2")
    return figure


@styled
def modalities_map(xy: np.ndarray, modality: np.ndarray, axis: str) -> Figure:
    """The same map (m, 2), coloured by instrument (m,): mixed well means aligned well."""
    figure, (ax,) = new_axes(1, 1, (5, 4))
    for name, colour in ((NIRSPEC.title, NIRSPEC_COLOUR), (APOGEE.title, APOGEE_COLOUR)):
        ax.plot(*xy[modality == name].T, ".", ms=3, alpha=0.5, color=colour, label=name, rasterized=True)
    ax.set(xlabel=f"{axis} 1", ylabel=f"{axis} 2")
    ax.legend(markerscale=3)
    return figure


@styled
def place_on_map(xy: np.ndarray, labels: np.ndarray, star: np.ndarray, neighbours: np.ndarray, title: str) -> Figure:
    """A star (2,) and its neighbours (k, 2) on a map (m, 2) coloured by [Fe/H].

    labels : (m, 20) of the points of the map
    """
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
    """An interactive map (m, 2): hover for the star and its labels, choose the colour from a menu."""
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
def cosine_histograms(groups: Mapping[str, np.ndarray]) -> Figure:
    """Distribution of cosine similarities in several groups, (n,) each."""
    figure, (ax,) = new_axes(1, 1, (6, 3))
    edges = np.linspace(np.percentile(np.concatenate(list(groups.values())), 1), 1, 40)
    for name, values in groups.items():
        ax.hist(
            np.clip(values, edges[0], 1),
            edges,
            histtype="step",
            lw=1.6,
            label=f"{name} (median {np.median(values):.3f})",
        )
    ax.set(xlabel="cosine similarity of mock and extended mock of the same star", ylabel="stars")
    ax.legend(loc="upper left")
    return figure


@styled
def over_iron(true: np.ndarray, models: Mapping[str, np.ndarray]) -> Figure:
    """Scatter of predicted minus true [X/Fe] for each element, beside the spread of [X/Fe] among the stars.

    true : (n, 20); models : name to predicted labels (n, 20)
    """
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
