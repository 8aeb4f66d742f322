"""Figures of stars and spectra: functions that take arrays and return a matplotlib figure; none shows or saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from starclip_lib.data.fitting import Fit
from starclip_lib.data.instruments import APOGEE, NIRSPEC
from starclip_lib.data.labels import AXIS_TITLES, FE, LABELS, LATEX, LOGG, PUBLISHED_SPREAD, TEFF, label_index
from starclip_lib.figures.style import (
    APOGEE_COLOUR,
    APOGEE_FEATURES,
    NIRSPEC_COLOUR,
    NIRSPEC_FEATURES,
    name_features,
    new_axes,
    styled,
    without_gaps,
)
from starclip_lib.surveys.apogee import ApogeeSpectrum
from starclip_lib.transforms.corruptions import PASCHEN_LINES
from starclip_lib.transforms.gaps import IMAGE_RANGE, Gaps


@styled
def kiel_diagram(labels: np.ndarray) -> Figure:
    """Teff against log g of stars (n, 20), coloured by [Fe/H]: the paper's Figure 3."""
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
    figure, axes = new_axes(1, len(elements), (3 * len(elements), 2.9), sharex=True)
    for ax, element in zip(axes, elements, strict=True):
        over_iron = labels[:, label_index(element)] - labels[:, FE]
        points = ax.scatter(labels[:, FE], over_iron, c=labels[:, LOGG], s=4, lw=0)
        ax.set(xlabel="[Fe/H] [dex]", ylabel=f"[{element}/Fe] [dex]")
    figure.colorbar(points, ax=axes, label=AXIS_TITLES[LOGG])
    return figure


@styled
def label_correlations(labels: np.ndarray) -> Figure:
    """Correlation coefficients of all pairs of labels (n, 20)."""
    figure, (ax,) = new_axes(1, 1, (7.4, 6.2))
    image = ax.imshow(np.corrcoef(labels.T), cmap="RdBu_r", vmin=-1, vmax=1)
    figure.colorbar(image, label="correlation coefficient")
    ax.set_xticks(range(len(LABELS)), LATEX, rotation=90)
    ax.set_yticks(range(len(LABELS)), LATEX)
    ax.grid(False)
    return figure


@styled
def metallicity_histograms(groups: Mapping[str, np.ndarray]) -> Figure:
    """Distribution of [Fe/H] in several groups of stars, (n,) each, as fractions."""
    figure, (ax,) = new_axes(1, 1, (6, 3))
    edges = np.linspace(min(map(np.min, groups.values())), max(map(np.max, groups.values())), 31)
    for name, values in groups.items():
        ax.hist(values, edges, weights=np.full(len(values), 1 / len(values)), histtype="step", lw=1.6, label=name)
    ax.set(xlabel="[Fe/H] [dex]", ylabel="fraction of the group")
    ax.legend(loc="upper left")
    return figure


@styled
def example_pairs(apogee: np.ndarray, nirspec: np.ndarray, labels: np.ndarray) -> Figure:
    """The two spectra of a few stars: NIRSpec (n, 8192) on the left, APOGEE (n, 8575) on the right."""
    figure, axes = new_axes(len(labels), 2, (11, 2 * len(labels) + 0.6), sharex="col", sharey="row", squeeze=False)
    for row, star, flux_n, flux_a in zip(axes, labels, nirspec, apogee, strict=True):
        row[0].plot(NIRSPEC.wavelength, flux_n, color=NIRSPEC_COLOUR, lw=0.6)
        row[1].plot(APOGEE.wavelength, np.where(flux_a == APOGEE.no_data, np.nan, flux_a), color=APOGEE_COLOUR, lw=0.5)
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
def residuals(one: np.ndarray, scatter: np.ndarray, window: tuple[float, float]) -> Figure:
    """Observed minus ab initio APOGEE flux: of one star (8575,), and its scatter over many stars (8575,)."""
    figure, (top, bottom) = new_axes(2, 1, (10, 3.8), sharex=True)
    inside = (APOGEE.wavelength >= window[0]) & (APOGEE.wavelength <= window[1])
    top.axhline(0, color="black", lw=0.8)
    top.plot(APOGEE.wavelength[inside], one[inside], color=APOGEE_COLOUR, lw=0.6)
    top.set(ylabel="one star", title="observed minus ab initio flux")
    bottom.plot(APOGEE.wavelength[inside], scatter[inside], color=APOGEE_COLOUR, lw=0.8)
    bottom.set(ylabel="scatter over stars", xlabel="vacuum wavelength [Å]", xlim=window, ylim=(0, None))
    return figure


@styled
def real_over_emulated(
    spectra: Sequence[ApogeeSpectrum], fits: Sequence[Fit], window: tuple[float, float] = (16680, 16800)
) -> Figure:
    """Observed APOGEE spectra over the emulated ones that fit them best, with the difference below each."""
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
def corruption_steps(stages: Mapping[str, np.ndarray], zoom: float = PASCHEN_LINES[-1]) -> Figure:
    """One spectrum after each corruption, in order, and a close look at a Paschen line: the paper's Figure 6.

    stages : title to flux (8192,), the untouched spectrum first
    """
    figure, axes = new_axes(
        len(stages), 2, (11, 1.55 * len(stages) + 0.4), sharex="col", sharey="col", width_ratios=(4, 1)
    )
    wave, before = NIRSPEC.wavelength, next(iter(stages.values()))
    near = np.abs(wave - zoom) < 45
    for (wide, close), (title, flux) in zip(axes, stages.items(), strict=True):
        wide.plot(wave, before, color="#bbbbbb", lw=0.5)
        wide.plot(wave, flux, color=NIRSPEC_COLOUR, lw=0.5)
        wide.set_title(title, loc="left", fontsize=10)
        close.axvspan(zoom - 10, zoom + 10, color="#E69F00", alpha=0.15, lw=0)
        close.plot(wave[near], before[near], color="#bbbbbb", lw=1)
        close.plot(wave[near], flux[near], color=NIRSPEC_COLOUR, lw=1)
        wide.set_ylabel("flux")
    axes[0, 0].set_ylim(np.percentile(before, 0.2) - 0.05, 1.08)
    axes[0, 1].set_ylim(before[near].min() - 0.08, 1.08)
    axes[0, 1].set_title("around Pa β", fontsize=10)
    axes[-1, 0].set(xlabel="vacuum wavelength [Å]", xlim=wave[[0, -1]])
    axes[-1, 1].set_xlabel("wavelength [Å]")
    return figure


@styled
def trace_image(image: np.ndarray, found: Gaps) -> Figure:
    """A trace image (height, width) with the detected gaps framed."""
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
    """Gap start against red cut-off: measured (points) and drawn by each model.

    draws : name of the model to (start, cutoff), each (n,) in Angstrom
    """
    figure, axes = new_axes(1, len(draws), (4.6 * len(draws), 3.8), sharex=True, sharey=True)
    for ax, (name, (start, cutoff)) in zip(axes, draws.items(), strict=True):
        ax.plot(start, cutoff, ".", ms=3, color=NIRSPEC_COLOUR, alpha=0.35, label="drawn")
        ax.plot(
            measured.start, IMAGE_RANGE[1] - measured.cutoff_width, "o", ms=4, color=APOGEE_COLOUR, label="measured"
        )
        ax.set(title=f"gap model '{name}'", xlabel="gap start [Å]")
    axes[0].set_ylabel("start of the red cut-off [Å]")
    axes[0].legend(loc="lower right")
    return figure


@styled
def gap_densities(measured: Gaps, densities: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> Figure:
    """Histograms of the measured gaps with their kernel density estimates.

    densities : name of a column of `measured` to its density function of Angstrom
    """
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
def neighbours(
    query: np.ndarray, found: np.ndarray, captions: Sequence[str], wavelength: np.ndarray, window: tuple[float, float]
) -> Figure:
    """A spectrum (n_pix,) and those found for it (k, n_pix), overlaid, with the differences below.

    captions : of the query and of each neighbour; pixels that are exactly 0 or 1 hold no data and are not drawn
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
def before_and_after(clean: np.ndarray, corrupted: np.ndarray, window: tuple[float, float]) -> Figure:
    """A NIRSpec spectrum (8192,) before and after corruption, with the difference below; gaps are left blank."""
    figure, (top, bottom) = new_axes(2, 1, (10, 4.4), sharex=True, height_ratios=(2.3, 1))
    seen = without_gaps(corrupted, NIRSPEC.no_data)
    top.plot(NIRSPEC.wavelength, clean, color="#999999", lw=0.8, label="ab initio")
    top.plot(NIRSPEC.wavelength, seen, color=NIRSPEC_COLOUR, lw=0.4, label="corrupted")
    bottom.plot(NIRSPEC.wavelength, seen - clean, color=NIRSPEC_COLOUR, lw=0.5)
    top.set(ylabel="flux / continuum", xlim=window)
    top.legend(loc="lower left", ncols=2)
    bottom.set(xlabel="vacuum wavelength [Å]", ylabel="difference")
    return figure


@styled
def observed_spectrum(
    wavelength: np.ndarray, flux: np.ndarray, missing: np.ndarray, template: np.ndarray, title: str
) -> Figure:
    """An observed spectrum (8192,) at rest over the template (8192,) it fits best, treated alike."""
    figure, (ax,) = new_axes(1, 1, (11, 3.2))
    seen = wavelength[~missing]
    ax.plot(wavelength, np.where(missing, np.nan, template), color="#E69F00", lw=1.2, label="best template")
    ax.plot(wavelength, np.where(missing, np.nan, flux), color=NIRSPEC_COLOUR, lw=0.7, label="observed")
    ax.set(xlabel="vacuum wavelength at rest [Å]", ylabel="flux / pseudo-continuum", ylim=(0.8, 1.08))
    ax.set_xlim(seen[0], seen[-1])
    name_features(ax, NIRSPEC_FEATURES)
    ax.set_title(title, pad=14)
    ax.legend(loc="lower left", ncols=2)
    return figure
