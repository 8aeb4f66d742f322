"""Figures for teaching: functions that take arrays and return a figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import (
    APOGEE_COLOUR,
    CYCLE,
    NIRSPEC_COLOUR,
    name_features,
    new_axes,
    plain_ticks,
    styled,
)
from starclip_lib.metrics.retrieval import wilson_interval
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LATEX, label_index


@styled
def groups_on_circles(states: Mapping[str, tuple[np.ndarray, np.ndarray]], group: np.ndarray) -> Figure:
    """Embeddings on the unit circle, coloured by group: the first instrument's inside, the second's outside."""
    figure, axes = new_axes(1, len(states), (2.9 * len(states), 3.1))
    for ax, (title, (first, second)) in zip(axes, states.items(), strict=True):
        ax.add_patch(mpl.patches.Circle((0, 0), 1, fill=False, color="#cccccc"))
        ax.plot(*np.stack([0.95 * first, 1.05 * second]).transpose(2, 0, 1), color="#bbbbbb", lw=0.5)
        colour = [CYCLE[number % len(CYCLE)] for number in group]
        ax.scatter(*(0.95 * first).T, c=colour, s=14, lw=0)
        ax.scatter(*(1.05 * second).T, c=colour, s=14, lw=0, marker="s")
        ax.set(title=title, aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25))
        ax.set_axis_off()
    return figure


@styled
def circles(states: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Pairs of unit vectors in the plane, a line between the two members of each pair, for several moments.

    Parameters
    ----------
    states : mapping of str to tuple of (ndarray, ndarray), shape (n, 2) each
        Title of the moment to the two members of each pair.
    """
    figure, axes = new_axes(1, len(states), (3.3 * len(states), 3.5))
    for ax, (title, (first, second)) in zip(axes, states.items(), strict=True):
        ax.add_patch(mpl.patches.Circle((0, 0), 1, fill=False, color="#cccccc"))
        for star, (a, b) in enumerate(zip(first, second, strict=True), start=1):
            ax.plot(*np.stack([a, b]).T, color="#999999", lw=0.8)
            ax.annotate(str(star), 1.16 * a, ha="center", va="center", fontsize=8, color=NIRSPEC_COLOUR)
        ax.plot(*first.T, "o", color=NIRSPEC_COLOUR, label=NIRSPEC.title)
        ax.plot(*second.T, "s", color=APOGEE_COLOUR, mfc="none", ms=8, label=APOGEE.title)
        ax.set(title=title, aspect="equal", xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
        ax.set_axis_off()
    axes[-1].legend(fontsize=9, loc="center")
    return figure


@styled
def line_growth(
    wavelength: np.ndarray, spectra: Mapping[str, np.ndarray], window: tuple[float, float], marks: Mapping[str, float]
) -> Figure:
    """Spectra (n_pix,) of one star that differ in one abundance, in a window, with the names of some lines."""
    figure, (ax,) = new_axes(1, 1, (9, 3.6))
    near = (wavelength > window[0]) & (wavelength < window[1])
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(spectra)))
    for (name, flux), colour in zip(spectra.items(), colours, strict=True):
        ax.plot(wavelength[near], flux[near], color=colour, label=name)
    ax.set(xlim=window, xlabel="vacuum wavelength [Å]", ylabel="flux / continuum")
    name_features(ax, marks)
    ax.legend(fontsize=9, loc="lower left")
    return figure


@styled
def overlap(
    sharp: tuple[np.ndarray, np.ndarray],
    blurred: tuple[np.ndarray, np.ndarray],
    observed: tuple[np.ndarray, np.ndarray],
    window: tuple[float, float],
) -> Figure:
    """One star where both instruments see it: APOGEE (top), and APOGEE blurred over the NIRSpec spectrum (bottom).

    Each spectrum is a pair of wavelength and flux; pixels without data are NaN.
    """
    figure, axes = new_axes(2, 1, (9, 4.6), sharex=True, sharey=True)
    for ax, curves in zip(
        axes,
        (
            {APOGEE.title: (sharp, APOGEE_COLOUR)},
            {NIRSPEC.title: (observed, NIRSPEC_COLOUR), f"{APOGEE.title}, blurred": (blurred, APOGEE_COLOUR)},
        ),
        strict=True,
    ):
        for name, ((wavelength, flux), colour) in curves.items():
            near = (wavelength > window[0]) & (wavelength < window[1])
            ax.plot(wavelength[near], flux[near], color=colour, lw=1.1, label=name)
        ax.legend(fontsize=9, loc="lower left", ncols=2)
        ax.set_ylabel("flux / continuum")
    axes[1].set(xlabel="vacuum wavelength [Å]", xlim=window)
    return figure


@styled
def failures(differences: np.ndarray, noise: np.ndarray, captions: Sequence[str]) -> Figure:
    """Differences (n, 8192) of the NIRSpec spectra of stars that were confused, with the noise (n,) of the view."""
    figure, axes = new_axes(len(captions), 1, (10, 1.5 * len(captions) + 0.6), sharex=True)
    for ax, difference, sigma, caption in zip(axes, differences, noise, captions, strict=True):
        ax.axhspan(-sigma, sigma, color="#dddddd", lw=0)
        ax.plot(NIRSPEC.wavelength, difference, lw=0.7)
        reach = 1.15 * max(sigma, np.nanmax(np.abs(difference)))
        ax.set(ylim=(-reach, reach), xlim=NIRSPEC.wavelength[[0, -1]])
        ax.set_title(caption, loc="left", fontsize=9)
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    axes[len(axes) // 2].set_ylabel("right minus wrong star")
    return figure


@styled
def sweep(temperatures: Sequence[float], curves: Mapping[str, Sequence[float]], best: Mapping[str, float]) -> Figure:
    """The share of stars found first against the temperature, one curve a training; dashed lines for comparison."""
    figure, (ax,) = new_axes(1, 1, (7.5, 4))
    for (name, values), marker in zip(curves.items(), "os^D", strict=False):
        ax.plot(temperatures, values, marker=marker, label=name)
    for (name, value), colour in zip(best.items(), CYCLE[4:], strict=False):
        ax.axhline(value, ls="--", lw=1, color=colour, label=name)
    ax.set(xscale="log", xlabel="temperature τ", ylabel="share found first, NIRSpec to APOGEE", ylim=(0, None))
    plain_ticks(ax, temperatures)
    ax.legend(fontsize=9)
    return figure


@styled
def shrinkage(distance: np.ndarray, residuals: np.ndarray, names: Sequence[str]) -> Figure:
    """Residuals (n, k) against the stars' distances (n, k) from the mean, both in units of the spread, with a line."""
    figure, axes = new_axes(1, len(names), (3.6 * len(names), 3.4), sharex=True, sharey=True)
    for ax, x, y, name in zip(axes, distance.T, residuals.T, names, strict=True):
        slope, offset = np.polyfit(x, y, 1)
        ends = np.percentile(x, [0.5, 99.5])
        ax.plot(x, y, ".", ms=3, alpha=0.5, rasterized=True)
        ax.plot(ends, slope * ends + offset, color=APOGEE_COLOUR, lw=2, label=f"slope {slope:+.2f}")
        ax.plot(ends, -ends, color="black", lw=1, ls=":", label="always the mean")
        ax.set(title=LATEX[label_index(name)], xlabel="true − mean [spreads]")
        ax.legend(fontsize=8, loc="upper right")
    axes[0].set_ylabel("predicted − true [spreads]")
    reach = np.percentile(np.abs(residuals), 99.5)
    axes[0].set_ylim(-1.3 * reach, 1.3 * reach)
    return figure


@styled
def controls(scores: Mapping[str, np.ndarray], skip: int) -> Figure:
    """Scores (19,) of all labels but number `skip`, from the stars' own labels and from controls, side by side."""
    figure, (ax,) = new_axes(1, 1, (10, 3.6))
    names = [name for number, name in enumerate(LATEX) if number != skip]
    place, width = np.arange(len(names)), 0.8 / len(scores)
    for number, ((name, values), colour) in enumerate(zip(scores.items(), CYCLE, strict=False)):
        ax.bar(place + (number - (len(scores) - 1) / 2) * width, values, width, color=colour, label=name)
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xticks(place, names, rotation=60)
    ax.set_ylabel("r² of a linear probe")
    ax.legend(fontsize=9, ncols=len(scores), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


@styled
def shares(found: Mapping[str, float], n_trials: int) -> Figure:
    """The share of searches that find their star first, a row each, with 95 % intervals of `n_trials` trials."""
    figure, (ax,) = new_axes(1, 1, (8, 0.42 * len(found) + 1.2))
    for place, share in enumerate(found.values()):
        low, high = wilson_interval(share, n_trials)
        ax.barh(place, share, height=0.62, color=CYCLE[0], alpha=0.3)
        ax.errorbar(share, place, xerr=[[share - low], [high - share]], fmt="o", color=CYCLE[0], capsize=3)
        ax.text(high + 0.01, place, f"{share:.1%}", va="center", fontsize=9)
    ax.set_yticks(range(len(found)), list(found))
    ax.set(ylim=(len(found) - 0.5, -0.5), xlabel="share of queries whose own star comes first", xlim=(0, 1.05))
    return figure
