"""Figures of a synthesis: a growing line, curves of growth, the continuum, and the lines of each species."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import CYCLE, LABEL_MAP, new_axes, styled


@styled
def growing_line(velocity: np.ndarray, flux: Mapping[float, np.ndarray]) -> Figure:
    """Profiles (m,) of one line against velocity in km/s, by log10 of the number of absorbers."""
    figure, (ax,) = new_axes(1, 1, (8, 4))
    colours = mpl.colormaps[LABEL_MAP](np.linspace(0, 0.9, len(flux)))
    for (strength, profile), colour in zip(flux.items(), colours, strict=True):
        ax.plot(velocity, profile, color=colour, label=f"{strength:+g}")
    ax.legend(title="log absorbers", fontsize=8, ncols=2)
    ax.set(xlabel="velocity from the centre of the line [km/s]", ylabel="flux over continuum", ylim=(0, 1.03))
    return figure


@styled
def curves_of_growth(strength: np.ndarray, widths: Mapping[str, np.ndarray]) -> Figure:
    """Equivalent widths (n,) in milli-Angstrom against log10 of the number of absorbers (n,)."""
    figure, (ax,) = new_axes(1, 1, (8, 4.4))
    for (name, width), colour in zip(widths.items(), CYCLE, strict=False):
        ax.plot(strength, width, "o-", ms=3, color=colour, label=name)
    ax.set_yscale("log")
    ax.legend(fontsize=9)
    ax.set(xlabel="log10 of the number of absorbers, relative", ylabel="equivalent width [mÅ]")
    return figure


@styled
def continuum(wavelength: np.ndarray, opacity: Mapping[str, np.ndarray], seen: np.ndarray) -> Figure:
    """Continuous opacity (m,) by source, and the temperature (m,) of the depth that is seen, against wavelength."""
    figure, (top, bottom) = new_axes(2, 1, (8, 6), sharex=True)
    for (name, value), colour in zip(opacity.items(), CYCLE, strict=False):
        top.plot(wavelength, value, color=colour, label=name)
    top.set_yscale("log")
    top.legend(fontsize=9, ncols=2)
    top.set_ylabel("opacity [cm²/g]")
    bottom.plot(wavelength, seen, color="black")
    bottom.set(xlabel="vacuum wavelength [Å]", ylabel="T where τ = 1 [K]")
    return figure


@styled
def spectrum_by_species(wavelength: np.ndarray, flux: Mapping[str, np.ndarray]) -> Figure:
    """A stretch of spectrum (m,), one panel for each set of lines."""
    figure, axes = new_axes(len(flux), 1, (10, 1.3 * len(flux) + 0.6), sharex=True, sharey=True)
    for ax, (name, value), colour in zip(axes, flux.items(), ("black", *CYCLE), strict=False):
        ax.plot(wavelength, value, lw=0.9, color=colour)
        ax.set_title(name, fontsize=9, loc="left")
    axes[-1].set_xlabel("vacuum wavelength [Å]")
    figure.supylabel("flux over continuum", fontsize=10)
    return figure
