"""Figures of measured stars: functions that take them and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import (
    APOGEE_COLOUR,
    NIRSPEC_COLOUR,
    NIRSPEC_FEATURES,
    legend_below,
    name_features,
    new_axes,
    styled,
)
from starclip_lib.observed.measured import Measured
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.physics.labels import AXIS_TITLES, FE, LOGG, TEFF
from starclip_lib.support.errors import DataError

_ROWS = 4
_BROKEN = 12.0  # Angstrom without a pixel over which no line is drawn
_THREE = (TEFF, LOGG, FE)


@styled
def fitted_spectrum(one: Measured) -> Figure:
    """The first spectrum of a star, its best model, what is left, and how far the two may differ.

    Parameters
    ----------
    one : Measured

    Raises
    ------
    DataError
        If it was set aside before it was fitted.
    """
    if not one.fits:
        raise DataError(f"{one.name} has no fit to plot: {one.reason}")
    fit = one.fits[0]
    rest = fit.wavelength / (1 + fit.velocity / SPEED_OF_LIGHT)
    edges = np.linspace(rest[0], rest[-1], _ROWS + 1)
    low = min(float(np.percentile(fit.model, 0.3)), float(np.percentile(fit.flux, 1))) - 0.03
    figure, axes = new_axes(_ROWS, 1, (11, 2.6 * _ROWS))
    for ax, left, right in zip(axes, edges[:-1], edges[1:], strict=True):
        part = np.flatnonzero((rest >= left) & (rest <= right))
        pieces = np.split(part, np.flatnonzero(np.diff(rest[part]) > _BROKEN) + 1) if len(part) else []
        for number, piece in enumerate(pieces):
            x, names = rest[piece], (None,) * 3 if number else ("observed", "best model", "observed - model")
            ax.plot(x, fit.flux[piece], color="black", lw=0.8, label=names[0])
            ax.plot(x, fit.model[piece], color=APOGEE_COLOUR, lw=1.0, ls="--", label=names[1])
            left_over = low - 0.04 + fit.flux[piece] - fit.model[piece]
            ax.plot(x, left_over, color=NIRSPEC_COLOUR, lw=0.6, label=names[2])
            band = low - 0.04 + np.stack([-fit.sigma[piece], fit.sigma[piece]])
            ax.fill_between(x, *band, color="#999999", alpha=0.4, lw=0, label=None if number else "one sigma")
        ax.set(xlim=(left, right), ylim=(low - 0.1, 1.08), ylabel="flux / continuum")
        name_features(ax, NIRSPEC_FEATURES)
    axes[0].legend(ncols=4, fontsize=8, loc="lower right")
    axes[-1].set_xlabel("vacuum wavelength at rest [Å]")
    figure.suptitle(one.name)
    return figure


@styled
def failed_measurements(
    spectra: Sequence[ObservedSpectrum], found: Sequence[Measured], window: tuple[float, float]
) -> Figure:
    """A stretch of several observed spectra over the fitted continuum, their best models and verdicts, a panel each."""
    rows = -(-len(spectra) // 2)
    figure, axes = new_axes(rows, 2, (11, 2.1 * rows), sharex=True, sharey=True, squeeze=False)
    for ax, spectrum, one in zip(axes.flat, spectra, found, strict=True):
        fit = one.fits[0] if one.fits else None
        x, y = (spectrum.wavelength, spectrum.flux) if fit is None else (fit.wavelength, fit.flux)
        inside = (x > window[0]) & (x < window[1])
        if fit is None:  # without a fitted continuum
            y = y / np.percentile(y[inside], 90)
        ax.plot(x[inside], y[inside], color="black", lw=0.7, label="observed")
        if fit is not None:
            ax.plot(x[inside], fit.model[inside], color=APOGEE_COLOUR, lw=1.0, ls="--", label="best model")
        reason = textwrap.shorten(one.reason, 80, placeholder=" ...")
        ax.set_title(f"{one.name}: {one.verdict}\n{reason}", fontsize=9, loc="left")
    for ax in axes[-1]:
        ax.set_xlabel("observed vacuum wavelength [Å]")
    fitted = next((ax for ax in axes.flat if len(ax.lines) > 1), axes.flat[0])
    legend_below(figure, fitted)
    return figure


@styled
def against_catalogue(names: Sequence[str], measured: np.ndarray, sigma: np.ndarray, catalogue: np.ndarray) -> Figure:
    """Differences of Teff, log g and [Fe/H] to a catalogue, with the errors that are claimed.

    Parameters
    ----------
    names : sequence of str
        Of the stars.
    measured, sigma, catalogue : ndarray, shape (n, 3)
    """
    figure, axes = new_axes(1, 3, (11, 1.4 + 0.32 * len(names)), sharey=True)
    place = np.arange(len(names))
    for k, (ax, i) in enumerate(zip(axes, _THREE, strict=True)):
        off = measured[:, k] - catalogue[:, k]
        ax.axvline(0, color="#555555", lw=1)
        ax.errorbar(off, place, xerr=sigma[:, k], fmt="o", color=NIRSPEC_COLOUR, capsize=3)
        digits = 0 if i == TEFF else 2
        rms = float(np.sqrt(np.nanmean(off**2)))
        ax.set(xlabel=AXIS_TITLES[i], title=f"mean {np.nanmean(off):+.{digits}f}, rms {rms:.{digits}f}")
    axes[0].set_yticks(place, names)
    axes[0].invert_yaxis()
    figure.suptitle("measured minus catalogue")
    return figure
