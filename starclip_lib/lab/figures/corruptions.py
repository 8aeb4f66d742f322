"""Figures of corruptions and gaps: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import APOGEE_COLOUR, NIRSPEC_COLOUR, new_axes, styled, without_gaps
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.transforms.corruptions import PASCHEN_LINES
from starclip_lib.transforms.gaps import IMAGE_RANGE, Gaps


@styled
def corruption_steps(stages: Mapping[str, np.ndarray]) -> Figure:
    """One spectrum after each corruption, in order, and a close look at a Paschen line: the paper's Figure 6.

    `stages` has flux (8192,) by title, the untouched spectrum first.  The close look is at the line that lies farthest
    from pixels without data in the last spectrum.
    """
    figure, axes = new_axes(
        len(stages), 2, (11, 1.7 * len(stages) + 0.6), sharex="col", sharey="col", width_ratios=(3, 1)
    )
    wave, before, last = NIRSPEC.wavelength, next(iter(stages.values())), list(stages.values())[-1]
    lost = wave[np.isnan(without_gaps(last, NIRSPEC.fill_value))]
    zoom = max(PASCHEN_LINES, key=lambda line: np.abs(lost - line).min(initial=np.inf))
    near = np.abs(wave - zoom) < 45
    for (wide, close), (title, flux) in zip(axes, stages.items(), strict=True):
        for ax, part, width in ((wide, slice(None), 0.5), (close, near, 1.0)):
            ax.plot(wave[part], before[part], color="#bbbbbb", lw=width, label="untouched")
            ax.plot(
                wave[part], without_gaps(flux, NIRSPEC.fill_value)[part], color=NIRSPEC_COLOUR, lw=width, label="now"
            )
        close.axvspan(zoom - 10, zoom + 10, color="#E69F00", alpha=0.15, lw=0)
        wide.set_title(title, loc="left", fontsize=10)
        wide.set_ylabel("flux")
    axes[0, 0].set_ylim(np.percentile(before, 0.2) - 0.05, 1.08)
    axes[0, 1].set_ylim(before[near].min() - 0.08, 1.08)
    axes[0, 1].set_title(f"around Pa {dict(zip(PASCHEN_LINES, 'εδγβ', strict=True))[zoom]}", fontsize=10)
    axes[0, 0].legend(loc="lower right", ncols=2, fontsize=8)
    axes[-1, 0].set(xlabel="vacuum wavelength [Å]", xlim=wave[[0, -1]])
    axes[-1, 1].set_xlabel("wavelength [Å]")
    return figure


@styled
def trace_image(image: np.ndarray, found: Gaps) -> Figure:
    """A trace image with the detected gaps framed.

    Parameters
    ----------
    image : ndarray, shape (height, width)
    found : Gaps
        Those detected in it.
    """
    figure, (ax,) = new_axes(1, 1, (9, 6))
    low, high = IMAGE_RANGE
    ax.imshow(image, cmap="gray", aspect="auto", extent=(low, high, len(found), 0), interpolation="nearest")
    rows = np.arange(len(found)) + 0.5
    ax.hlines(
        rows, found.start, found.start + found.width, color=APOGEE_COLOUR, lw=2, label="gap between the detectors"
    )
    ax.hlines(rows, high - found.cutoff_width, high, color="#E69F00", lw=2, label="red cut-off")
    ax.set(xlabel="vacuum wavelength [Å]", ylabel="trace number")
    ax.legend(loc="lower left", facecolor="white", framealpha=0.9, frameon=True)
    ax.grid(False)
    return figure


@styled
def gap_draws(measured: Gaps, draws: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Gap start against red cut-off: measured (points) and drawn by each model."""
    figure, axes = new_axes(1, len(draws), (4.6 * len(draws), 3.8), sharex=True, sharey=True)
    for ax, (name, (start, cutoff)) in zip(axes, draws.items(), strict=True):
        ax.plot(start, cutoff, ".", ms=3, color=NIRSPEC_COLOUR, alpha=0.35, label="drawn")
        ax.plot(
            measured.start, IMAGE_RANGE[1] - measured.cutoff_width, "o", ms=4, color=APOGEE_COLOUR, label="measured"
        )
        ax.set(title=f"gap model '{name}'", xlabel="gap start [Å]")
    axes[0].set_ylabel("start of the red cut-off [Å]")
    axes[-1].legend(loc="center right")
    return figure


@styled
def gap_densities(measured: Gaps, densities: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> Figure:
    """Histograms of the measured gaps with their kernel density estimates."""
    titles = {"start": "gap start", "width": "gap width", "cutoff_width": "width of the red cut-off"}
    figure, axes = new_axes(1, len(densities), (3.6 * len(densities), 3))
    for ax, (name, density) in zip(axes, densities.items(), strict=True):
        values = getattr(measured, name)
        grid = np.linspace(values.min() - np.ptp(values) / 4, values.max() + np.ptp(values) / 4, 300)
        ax.hist(values, bins=20, density=True, color="#c9c9c9")
        ax.plot(grid, density(grid), color=NIRSPEC_COLOUR)
        ax.set(xlabel=f"{titles[name]} [Å]", yticks=[])
    axes[0].set_ylabel("density")
    return figure


@styled
def before_and_after(clean: np.ndarray, corrupted: np.ndarray, window: tuple[float, float]) -> Figure:
    """A NIRSpec spectrum before and after corruption, with the difference below; gaps are left blank."""
    figure, (top, bottom) = new_axes(2, 1, (10, 4.4), sharex=True, height_ratios=(2.3, 1))
    seen = without_gaps(corrupted, NIRSPEC.fill_value)
    top.plot(NIRSPEC.wavelength, clean, color="#999999", lw=0.8, label="ab initio")
    top.plot(NIRSPEC.wavelength, seen, color=NIRSPEC_COLOUR, lw=0.4, label="corrupted")
    bottom.plot(NIRSPEC.wavelength, seen - clean, color=NIRSPEC_COLOUR, lw=0.5)
    top.set(ylabel="flux / continuum", xlim=window)
    top.legend(loc="lower left", ncols=2)
    bottom.set(xlabel="vacuum wavelength [Å]", ylabel="difference")
    return figure
