"""Figures of stars and their labels: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import APOGEE_COLOUR, new_axes, panels, styled
from starclip_lib.physics.labels import AXIS_TITLES, FE, LABELS, LATEX, LOGG, PUBLISHED_SPREAD, TEFF, label_index


@styled
def kiel_diagram(labels: np.ndarray) -> Figure:
    """Teff against log g of stars, coloured by [Fe/H]: the paper's Figure 3."""
    figure, (ax,) = new_axes(1, 1, (6.4, 5))
    order = np.argsort(labels[:, FE])[::-1]  # the few metal-poor stars on top
    size = np.clip(20000 / len(labels), 2, 14)
    points = ax.scatter(labels[order, TEFF], labels[order, LOGG], c=labels[order, FE], s=size, lw=0)
    figure.colorbar(points, label="[Fe/H] [dex]")
    ax.set(xlabel=AXIS_TITLES[TEFF], ylabel=AXIS_TITLES[LOGG], title=f"{len(labels):,} red giants")
    ax.invert_xaxis()
    ax.invert_yaxis()
    return figure


@styled
def spread_check(labels: np.ndarray) -> Figure:
    """Standard deviation of each label relative to the published one, with the band of 15 %."""
    figure, (ax,) = new_axes(1, 1, (9, 3))
    ratio = labels.std(axis=0) / PUBLISHED_SPREAD
    ax.axhspan(0.85, 1.15, color="#009E73", alpha=0.12, lw=0)
    ax.axhline(1, color="#009E73", lw=1)
    ax.plot(range(len(LABELS)), ratio, "o", color=APOGEE_COLOUR)
    ax.set_xticks(range(len(LABELS)), LATEX, rotation=60)
    ax.set(ylabel="spread here / published", ylim=(0.7, 1.3))
    return figure


@styled
def abundance_patterns(labels: np.ndarray, elements: Sequence[str] = ("Mg", "C", "N", "Mn")) -> Figure:
    """[X/Fe] against [Fe/H], coloured by log g."""
    figure, axes = panels(len(elements), 2, (4.4, 3.0), sharex=True)
    for ax, element in zip(axes, elements, strict=True):
        over_iron = labels[:, label_index(element)] - labels[:, FE]
        points = ax.scatter(labels[:, FE], over_iron, c=labels[:, LOGG], s=4, lw=0)
        ax.set(ylabel=f"[{element}/Fe] [dex]")
    figure.supxlabel("[Fe/H] [dex]", fontsize=10)
    figure.colorbar(points, ax=list(axes), label=AXIS_TITLES[LOGG])
    return figure


@styled
def label_correlations(labels: np.ndarray) -> Figure:
    """Correlation coefficients of all pairs of labels."""
    figure, (ax,) = new_axes(1, 1, (7.4, 6.2))
    image = ax.imshow(np.corrcoef(labels.T), cmap="RdBu_r", vmin=-1, vmax=1)
    figure.colorbar(image, label="correlation coefficient")
    ax.set_xticks(range(len(LABELS)), LATEX, rotation=90)
    ax.set_yticks(range(len(LABELS)), LATEX)
    ax.grid(False)
    return figure


@styled
def metallicity_histograms(groups: Mapping[str, np.ndarray]) -> Figure:
    """Distribution of [Fe/H] in several groups of stars, as fractions."""
    figure, (ax,) = new_axes(1, 1, (6, 3))
    edges = np.linspace(min(map(np.min, groups.values())), max(map(np.max, groups.values())), 31)
    for name, values in groups.items():
        ax.hist(values, edges, weights=np.full(len(values), 1 / len(values)), histtype="step", lw=1.6, label=name)
    ax.set(xlabel="[Fe/H] [dex]", ylabel="fraction of the group")
    ax.legend(loc="upper left")
    return figure
