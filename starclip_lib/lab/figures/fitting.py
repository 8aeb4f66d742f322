"""Figures of a fit: how a spectrum responds to labels, and the steps of Gauss-Newton on chi-squared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from starclip_lib.lab.figures.style import APOGEE_COLOUR, CYCLE, new_axes, styled


@styled
def responses(wavelength: np.ndarray, rows: Mapping[str, np.ndarray], window: tuple[float, float]) -> Figure:
    """Change of the flux (n_pix,) with each label, over the whole range (top) and in a window (bottom)."""
    figure, axes = new_axes(2, 1, (10, 5))
    near = (wavelength > window[0]) & (wavelength < window[1])
    for ax, part in zip(axes, (np.ones_like(near), near), strict=True):
        for (name, row), colour in zip(rows.items(), CYCLE, strict=False):
            ax.plot(wavelength[part], row[part], lw=0.7 if part.all() else 1.3, color=colour, label=name)
        ax.set_ylabel("change of the flux")
    axes[0].legend(ncols=2, fontsize=8)
    axes[1].set_xlabel("vacuum wavelength [Å]")
    return figure


@styled
def descent(
    x: np.ndarray,
    y: np.ndarray,
    chi2: np.ndarray,
    path: np.ndarray,
    covariance: np.ndarray,
    truth: np.ndarray,
    titles: tuple[str, str],
) -> Figure:
    """Chi-squared (len(x), len(y)) of two labels, the path (steps, 2) of a fit, and its 95 % ellipse enlarged."""
    figure, (wide, close) = new_axes(1, 2, (11, 4.4))
    height = np.sqrt(chi2 - np.nanmin(chi2))
    image = wide.contourf(x, y, height.T, 20, cmap="Blues_r")
    figure.colorbar(image, ax=wide, label="√(χ² − minimum)")
    angle = np.linspace(0, 2 * np.pi, 200)
    root = np.linalg.cholesky(covariance) * np.sqrt(stats.chi2.ppf(0.95, 2))
    ring = path[-1] + np.column_stack([np.cos(angle), np.sin(angle)]) @ root.T
    for ax in (wide, close):
        ax.plot(path[:, 0], path[:, 1], "o-", ms=4, color=APOGEE_COLOUR, label="steps")
        ax.plot(ring[:, 0], ring[:, 1], color="black", lw=1, label="95 % of the posterior")
        ax.plot(*truth, "*", ms=12, color="#E69F00", mec="black", label="truth")
        ax.set(xlabel=titles[0], ylabel=titles[1])
    wide.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    for limits, centre, size in (
        (close.set_xlim, path[-1, 0], np.ptp(ring[:, 0])),
        (close.set_ylim, path[-1, 1], np.ptp(ring[:, 1])),
    ):
        limits(centre - size, centre + size)
    close.legend(fontsize=8)
    return figure
