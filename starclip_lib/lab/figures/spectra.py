"""Figures of stars and spectra: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.inference.spectrum import SpectrumFit
from starclip_lib.lab.figures.style import (
    APOGEE_COLOUR,
    APOGEE_FEATURES,
    NIRSPEC_COLOUR,
    NIRSPEC_FEATURES,
    name_features,
    new_axes,
    styled,
)
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.survey.apogee import ApogeeSpectrum


@styled
def example_pairs(apogee: np.ndarray, nirspec: np.ndarray, labels: np.ndarray) -> Figure:
    """The two spectra of a few stars: NIRSpec on the left, APOGEE on the right.

    Parameters
    ----------
    apogee : ndarray, shape (n, 8575)
    nirspec : ndarray, shape (n, 8192)
    labels : ndarray, shape (n, 20)
    """
    figure, axes = new_axes(len(labels), 2, (11, 2 * len(labels) + 0.6), sharex="col", sharey="row", squeeze=False)
    for row, star, flux_n, flux_a in zip(axes, labels, nirspec, apogee, strict=True):
        row[0].plot(NIRSPEC.wavelength, flux_n, color=NIRSPEC_COLOUR, lw=0.6)
        row[1].plot(
            APOGEE.wavelength, np.where(flux_a == APOGEE.fill_value, np.nan, flux_a), color=APOGEE_COLOUR, lw=0.5
        )
        row[0].set_ylabel("flux / continuum")
        text = rf"{star[TEFF]:.0f} K, $\log g$ {star[LOGG]:.2f}, [Fe/H] {star[FE]:+.2f}"
        row[0].text(0.01, 0.06, text, transform=row[0].transAxes, fontsize=9)
        row[0].set_ylim(0.4, 1.12)
    for ax, instrument, features in zip(axes[0], (NIRSPEC, APOGEE), (NIRSPEC_FEATURES, APOGEE_FEATURES), strict=True):
        ax.set_title(f"{instrument.title}, R = {instrument.resolution:,.0f}", pad=16)
        ax.set_xlim(instrument.wavelength[[0, -1]])
        name_features(ax, features)
    for ax in axes[-1]:
        ax.set_xlabel("vacuum wavelength [Å]")
    return figure


@styled
def residuals(
    one: np.ndarray, scatter: np.ndarray, window: tuple[float, float], instrument: Instrument = APOGEE
) -> Figure:
    """Observed minus ab initio flux: of one star, and its scatter over many stars."""
    figure, (top, bottom) = new_axes(2, 1, (10, 3.8), sharex=True)
    inside = (instrument.wavelength >= window[0]) & (instrument.wavelength <= window[1])
    colour = APOGEE_COLOUR if instrument is APOGEE else NIRSPEC_COLOUR
    top.axhline(0, color="black", lw=0.8)
    top.plot(instrument.wavelength[inside], one[inside], color=colour, lw=0.6)
    top.set(ylabel="one star", title="observed minus ab initio flux")
    bottom.plot(instrument.wavelength[inside], scatter[inside], color=colour, lw=0.8)
    bottom.set(ylabel="scatter over stars", xlabel="vacuum wavelength [Å]", xlim=window, ylim=(0, None))
    return figure


@styled
def real_over_emulated(
    spectra: Sequence[ApogeeSpectrum], fits: Sequence[SpectrumFit], window: tuple[float, float] = (16680, 16800)
) -> Figure:
    """Observed APOGEE spectra over the emulated ones that fit them best, with the difference below each.

    Parameters
    ----------
    fits : sequence of SpectrumFit
        In the order of the spectra.
    window : tuple of (float, float)
        Ends of what is drawn, Angstrom.
    """
    figure, axes = new_axes(2 * len(fits), 1, (10, 2.5 * len(fits)), sharex=True, height_ratios=(3, 1) * len(fits))
    wave = APOGEE.wavelength
    inside = (wave >= window[0]) & (wave <= window[1])
    for (spectrum, fit), top, bottom in zip(zip(spectra, fits, strict=True), axes[::2], axes[1::2], strict=True):
        seen = inside & ~spectrum.mask
        continuum = np.where(fit.continuum > 0, fit.continuum, np.nan)
        observed, emulated = spectrum.flux / continuum, fit.model / continuum
        top.plot(wave[inside], np.where(seen, observed, np.nan)[inside], color="black", lw=0.9, label="observed")
        top.plot(wave[inside], emulated[inside], color=APOGEE_COLOUR, lw=1.1, label="emulated")
        bottom.axhline(0, color="black", lw=0.6)
        bottom.plot(wave[inside], np.where(seen, observed - emulated, np.nan)[inside], color="#777777", lw=0.8)
        star = fit.labels
        values = rf"{star[TEFF]:.0f} K, $\log g$ {star[LOGG]:.2f}, [Fe/H] {star[FE]:+.2f}"
        edge = f"; at the emulator's edge: {', '.join(fit.at_edge)}" if fit.at_edge else ""
        top.text(0.01, 0.05, f"{spectrum.star_id}: fit {values}{edge}", transform=top.transAxes, fontsize=9)
        top.set(ylabel="flux / continuum", ylim=(0.2, 1.12))
        bottom.set(ylabel="difference", ylim=(-0.15, 0.15))
    name_features(axes[0], {name: place for name, place in APOGEE_FEATURES.items() if window[0] < place < window[1]})
    axes[0].legend(loc="lower right", fontsize=8, ncols=2)
    axes[-1].set(xlabel="vacuum wavelength [Å]", xlim=window)
    return figure


@styled
def neighbours(
    query: np.ndarray, found: np.ndarray, captions: Sequence[str], wavelength: np.ndarray, window: tuple[float, float]
) -> Figure:
    """A spectrum and those found for it, overlaid, with the differences below.

    Pixels that are exactly 0 or 1 hold no data and are not drawn.
    """
    figure, (top, bottom) = new_axes(2, 1, (10, 4.6), sharex=True, height_ratios=(2, 1))
    inside = (wavelength >= window[0]) & (wavelength <= window[1])

    def data(flux: np.ndarray) -> np.ndarray:
        return np.where((flux == 0) | (flux == 1), np.nan, flux)[inside]

    for flux, caption, colour in zip(found, captions[1:], ("#E69F00", "#009E73", "#CC79A7", "#56B4E9"), strict=False):
        top.plot(wavelength[inside], data(flux), lw=1, color=colour, label=caption)
        bottom.plot(wavelength[inside], data(flux) - data(query), lw=0.8, color=colour)
    top.plot(wavelength[inside], data(query), lw=1.1, color="black", label=captions[0])
    top.set(ylabel="flux / continuum")
    top.legend(fontsize=8, ncols=2, loc="lower left")
    bottom.axhline(0, color="black", lw=0.8)
    bottom.set(xlabel="vacuum wavelength [Å]", ylabel="minus query", xlim=window)
    return figure


@styled
def observed_spectrum(
    wavelength: np.ndarray,
    flux: np.ndarray,
    missing: np.ndarray,
    template: np.ndarray,
    title: str,
    kind: str = "observed",
) -> Figure:
    """An observed spectrum at rest over the template it fits best, treated alike."""
    figure, (ax,) = new_axes(1, 1, (11, 3.2))
    seen = wavelength[~missing]
    ax.plot(wavelength, np.where(missing, np.nan, template), color="#E69F00", lw=1.2, label="best template")
    ax.plot(wavelength, np.where(missing, np.nan, flux), color=NIRSPEC_COLOUR, lw=0.7, label=kind)
    ax.set(xlabel="vacuum wavelength at rest [Å]", ylabel="flux / pseudo-continuum", ylim=(0.8, 1.08))
    ax.set_xlim(seen[0], seen[-1])
    name_features(ax, NIRSPEC_FEATURES)
    ax.set_title(title, pad=14)
    ax.legend(loc="lower left", ncols=2)
    return figure
