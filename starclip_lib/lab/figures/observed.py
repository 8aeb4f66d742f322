"""Figures of the pages of `starclip observe`: functions that return a plotly figure as JSON holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from starclip_lib.lab.figures.style import APOGEE_COLOUR, NIRSPEC_COLOUR, NIRSPEC_FEATURES
from starclip_lib.observed.measured import VERDICTS, Measured, upper_limits
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import giants
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF

PlotlyFigure = dict[str, Any]
_Part = dict[str, Any]
_DARK, _GREY, _PALE, _GREEN, _YELLOW = "#1d2733", "#9aa5b1", "#e3e9ef", "#009E73", "#E69F00"
_COLOURS = dict(zip(VERDICTS, (NIRSPEC_COLOUR, _GREEN, _YELLOW, APOGEE_COLOUR, _GREY), strict=True))
_SYMBOLS = dict(zip(VERDICTS, ("circle", "diamond", "triangle-up", "x", "circle-open"), strict=True))
_OVER_FE = [i for i in range(2, N_LABELS) if i != FE]
_MEASURED, _NOT_MEASURED = "measured", "from the prior: not measured"
_BROKEN = 12.0  # Angstrom without a used pixel that are drawn as a stretch that was not used
_OUTLIER = 0.25  # weight of a pixel below which it is drawn as an outlier
_MANY = 30  # stars
_N_ATLAS = 1500  # stars of the atlas behind a diagram
_HOVER = "%{x:.1f} Å: %{y:.3f}"
_PANELS = ("Mg", "Si", "Ca", "O", "C", "N", "Al", "Ti", "Ni")
_WINDOWS = {"whole": None, "Mg and Pa β": (11700, 13300), "H band": (14900, 17300), "APOGEE": (15150, 16950)}


def observed_spectrum(one: Measured) -> PlotlyFigure:
    """The first spectrum of a star: what was observed, the best model, the residuals, and what was not used.

    Wavelengths are at rest. Of a star without a fit it is the observed spectrum alone.
    """
    seen, fit = one.spectra[0], one.fits[0] if one.fits else None
    if fit is None:
        return _without_fit(seen.wavelength, seen.flux, ~seen.bad)
    rest, factor = seen.wavelength / (1 + fit.velocity / SPEED_OF_LIGHT), 1 + fit.velocity / SPEED_OF_LIGHT
    used = np.isin(seen.wavelength, fit.wavelength)
    continuum = np.interp(seen.wavelength, fit.wavelength, seen.flux[used] / fit.flux)
    x, left, doubted = fit.wavelength / factor, fit.flux - fit.model, fit.weight < _OUTLIER
    around, band = _band(x, fit.sigma)
    low = min(float(np.percentile(fit.flux, 0.3)), float(fit.model.min())) - 0.05
    high = max(1.06, float(np.percentile(fit.flux, 98.5)) + 0.05)
    reach = 1.4 * float(np.percentile(np.abs(left), 99))
    traces = [
        _unused_pixels(rest, seen.flux / continuum, ~used & (seen.flux > 0), low, high),
        _line(x, fit.flux, "observed", _DARK, 1.0),
        _line(x, fit.model, "best model", APOGEE_COLOUR, 1.4),
        _markers(x[doubted], fit.flux[doubted], "outliers", _YELLOW, 5),
        _trace(
            mode="lines",
            name="one sigma",
            x=_numbers(around, 1),
            y=_numbers(band, 4),
            yaxis="y2",
            fill="toself",
            fillcolor="rgba(154,165,177,.35)",
            line={"width": 0},
            hoverinfo="skip",
        ),
        {**_line(x, left, "residual", NIRSPEC_COLOUR, 0.9), "yaxis": "y2"},
    ]
    layout = _layout(580)
    layout["xaxis"] = _axis("vacuum wavelength at rest [Å]", anchor="y2")
    layout["yaxis"] = _axis("flux / continuum", range=[low, high], domain=[0.3, 1])
    layout["yaxis2"] = _axis("residual", range=[-reach, reach], domain=[0, 0.25])
    layout["shapes"] = [_stretch(*pair) for pair in _unused(x, rest)]
    layout["annotations"] = [
        {"x": place, "y": 1, "yref": "y domain", "yanchor": "bottom", "showarrow": False, "text": name.strip()}
        for name, place in NIRSPEC_FEATURES.items()
        if rest[0] < place < rest[-1]
    ]
    layout["updatemenus"] = [_windows(float(rest[0]), float(rest[-1]))]
    return {"data": traces, "layout": layout}


def _without_fit(wavelength: np.ndarray, flux: np.ndarray, used: np.ndarray) -> PlotlyFigure:
    """A spectrum that was set aside, relative to its level."""
    positive = flux[used] if used.any() else flux[flux > 0]
    level = float(np.percentile(positive, 90)) if len(positive) else 1.0
    y = flux / level
    low, high = np.percentile(y[used], (0.5, 99.5)) + np.array([-0.1, 0.1]) if used.any() else (0.0, 1.5)
    traces = [
        _unused_pixels(wavelength, y, ~used & (flux > 0), float(low), float(high)),
        _line(wavelength[used], y[used], "observed", _DARK, 1.0),
    ]
    layout = _layout(420)
    layout["xaxis"] = _axis("vacuum wavelength as observed [Å]")
    layout["yaxis"] = _axis("relative flux", range=[float(low), float(high)])
    layout["shapes"] = [_stretch(*pair) for pair in _unused(wavelength[used], wavelength)]
    layout["updatemenus"] = [_windows(float(wavelength[0]), float(wavelength[-1]))]
    return {"data": traces, "layout": layout}


def _unused(used: np.ndarray, wavelength: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of more than 12 Angstrom without a used pixel, between the ends of a spectrum."""
    places = np.concatenate([wavelength[:1], used, wavelength[-1:]])
    return [(float(places[i]), float(places[i + 1])) for i in np.flatnonzero(np.diff(places) > _BROKEN)]


def abundances(one: Measured) -> PlotlyFigure:
    """[X/Fe] of a star with errors from the covariance; what is mostly the prior's is grey, limits are triangles."""
    found = [one.abundance(LABELS[i], "Fe") for i in _OVER_FE]
    atlas, names = giants().atlas, [LABELS[i] for i in _OVER_FE]
    low, high = np.percentile(atlas[:, _OVER_FE] - atlas[:, [FE]], (5, 95), axis=0)
    population = {"type": "bar", "x": names, "base": _numbers(low, 3), "y": _numbers(high - low, 3), "width": 0.5}
    population |= {"marker": {"color": _PALE}, "name": "nine of ten model giants", "hoverinfo": "skip"}
    traces = [population]
    for is_prior in (False, True):
        some = [ratio for ratio in found if ratio.from_prior == is_prior]
        colour = _GREY if is_prior else NIRSPEC_COLOUR
        traces.append(
            _trace(
                mode="markers",
                name=_NOT_MEASURED if is_prior else _MEASURED,
                x=[name for name, ratio in zip(names, found, strict=True) if ratio.from_prior == is_prior],
                y=_numbers(np.array([ratio.value for ratio in some]), 3),
                error_y={**_error(np.array([ratio.sigma for ratio in some]), colour), "width": 4, "thickness": 1.4},
                marker={"color": colour, "symbol": "circle-open" if is_prior else "circle", "size": 9},
            )
        )
    limits = upper_limits(one)[_OVER_FE] - one.labels[FE]
    below = np.flatnonzero(np.isfinite(limits))
    if len(below):
        marker = {"symbol": "triangle-down", "size": 12, "color": _YELLOW}
        some_names, values = [names[k] for k in below], _numbers(limits[below], 3)
        traces.append(_trace(mode="markers", name="95 % upper limit", x=some_names, y=values, marker=marker))
    layout = _layout(380)
    layout["xaxis"] = _axis("", type="category", categoryorder="array", categoryarray=names)
    layout["yaxis"] = _axis("[X/Fe] [dex]", zeroline=True, zerolinecolor="#b9c4cf")
    return {"data": traces, "layout": layout}


def kiel(found: Sequence[Measured], links: Sequence[str] = ()) -> PlotlyFigure:
    """Effective temperature and gravity of stars over the model population and the emulator's domain.

    `links` are the pages that a click on a star opens; a trace for each verdict.
    """
    emulator, atlas = default_emulator(), giants().atlas
    some = atlas[np.linspace(0, len(atlas) - 1, _N_ATLAS).astype(int)]
    gravity = np.linspace(emulator.label_min[LOGG], emulator.label_max[LOGG], 40)
    cool, hot = np.array([emulator.teff_limits(g) for g in gravity], float).T
    traces: list[_Part] = [
        _trace(
            mode="lines",
            name="emulator's domain",
            x=_numbers(np.concatenate([cool, hot[::-1], cool[:1]]), 0),
            y=_numbers(np.concatenate([gravity, gravity[::-1], gravity[:1]]), 3),
            line={"color": _GREEN, "width": 1},
            fill="toself",
            fillcolor="rgba(0,158,115,.06)",
            hoverinfo="skip",
        ),
        {**_markers(some[:, TEFF], some[:, LOGG], "model giants", "#c9d3dd"), "hoverinfo": "skip"},
    ]
    pairs = [(one, link) for one, link in zip(found, links or [""] * len(found), strict=True) if not one.set_aside]
    for verdict, colour in _COLOURS.items():
        stars = [(one, link) for one, link in pairs if one.verdict == verdict]
        if not stars:
            continue
        values, sigma = np.array([one.labels for one, _ in stars]), np.array([one.sigma for one, _ in stars])
        traces.append(
            _trace(
                mode="markers",
                name=verdict,
                x=_numbers(values[:, TEFF], 0),
                y=_numbers(values[:, LOGG], 3),
                error_x=_error(sigma[:, TEFF], colour),
                error_y=_error(sigma[:, LOGG], colour),
                marker={"color": colour, "size": 10, "symbol": _SYMBOLS[verdict]},
                text=[one.name for one, _ in stars],
                customdata=[link for _, link in stars],
                hovertemplate="%{text}<br>%{x:.0f} K, log g %{y:.2f}",
            )
        )
    layout = _layout(470)
    layout["xaxis"] = _axis("T<sub>eff</sub> [K]", autorange="reversed")
    layout["yaxis"] = _axis("log g", autorange="reversed")
    return {"data": traces, "layout": layout}


def ratios_against_iron(found: Sequence[Measured], links: Sequence[str]) -> PlotlyFigure:
    """[X/Fe] against [Fe/H], a panel for each of nine elements; what is mostly the prior's is grey."""
    pairs = [(one, link) for one, link in zip(found, links, strict=True) if not one.set_aside]
    layout, traces = _layout(760), []
    layout["grid"] = {"rows": 3, "columns": 3, "pattern": "independent", "xgap": 0.2, "ygap": 0.14}
    for number, element in enumerate(_PANELS):
        end = str(number + 1) if number else ""
        for is_prior in (True, False):
            stars = [(one, link, one.abundance(element, "Fe")) for one, link in pairs]
            stars = [star for star in stars if star[2].from_prior == is_prior]
            colour = _GREY if is_prior else NIRSPEC_COLOUR
            iron = np.array([one.labels[FE] for one, *_ in stars if not one.set_aside])
            values = np.array([ratio.value for *_, ratio in stars])
            if not stars:  # an empty trace has no place in the legend
                iron = values = np.array([np.nan])
            traces.append(
                _trace(
                    mode="markers",
                    name=_NOT_MEASURED if is_prior else _MEASURED,
                    legendgroup=str(is_prior),
                    showlegend=not number,
                    xaxis=f"x{end}",
                    yaxis=f"y{end}",
                    x=_numbers(iron, 3),
                    y=_numbers(values, 3),
                    error_x=_error(np.array([one.sigma[FE] for one, *_ in stars]), colour),
                    error_y=_error(np.array([ratio.sigma for *_, ratio in stars]), colour),
                    marker={"color": colour, "size": 7, "symbol": "circle-open" if is_prior else "circle"},
                    text=[one.name for one, *_ in stars],
                    customdata=[link for _, link, _ in stars],
                    hovertemplate=f"%{{text}}<br>[Fe/H] %{{x:.2f}}, [{element}/Fe] %{{y:.2f}}",
                )
            )
        layout[f"xaxis{end}"] = _axis("[Fe/H]" if number >= len(_PANELS) - 3 else "")
        layout[f"yaxis{end}"] = _axis(f"[{element}/Fe]")
    return {"data": traces, "layout": layout}


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    """Rounded values, None where they are not finite: what JSON can hold."""
    return [round(float(x), digits) if np.isfinite(x) else None for x in values]


def _trace(**content: Any) -> _Part:
    return {"type": "scatter", **content}


def _line(x: np.ndarray, y: np.ndarray, name: str, colour: str, width: float) -> _Part:
    """A line that is broken where no pixel was used."""
    cuts = np.flatnonzero(np.diff(x) > _BROKEN) + 1
    x, y = np.insert(x, cuts, np.nan), np.insert(y, cuts, np.nan)
    style = {"color": colour, "width": width}
    return _trace(mode="lines", name=name, x=_numbers(x, 1), y=_numbers(y, 4), line=style, hovertemplate=_HOVER)


def _band(x: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outline of plus and minus sigma, a closed curve for each stretch of used pixels."""
    outline = []
    for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(x) > _BROKEN) + 1):
        there, back = (x[part], sigma[part]), (x[part][::-1], -sigma[part][::-1])
        outline.append(np.concatenate([np.stack(there), np.stack(back), np.full((2, 1), np.nan)], axis=1))
    both = np.concatenate(outline, axis=1)
    return both[0], both[1]


def _markers(x: np.ndarray, y: np.ndarray, name: str, colour: str, size: int = 3) -> _Part:
    marker = {"color": colour, "size": size}
    return _trace(mode="markers", name=name, x=_numbers(x, 1), y=_numbers(y, 4), marker=marker, hovertemplate=_HOVER)


def _unused_pixels(x: np.ndarray, y: np.ndarray, chosen: np.ndarray, low: float, high: float) -> _Part:
    shown = chosen & (y > low) & (y < high)
    return _markers(x[shown], y[shown], "not used", _GREY)


def _error(sigma: np.ndarray, colour: str) -> _Part:
    """Error bars; of many stars they are pale, so that the points stay visible."""
    shade = f"{colour}40" if len(sigma) > _MANY else colour
    return {"type": "data", "array": _numbers(sigma, 3), "color": shade, "thickness": 1, "width": 0}


def _stretch(low: float, high: float) -> _Part:
    ends = {"x0": round(low, 1), "x1": round(high, 1), "y0": 0, "y1": 1, "yref": "paper"}
    return {"type": "rect", **ends, "fillcolor": "#dfe5eb", "opacity": 0.6, "line": {"width": 0}, "layer": "below"}


def _windows(low: float, high: float) -> _Part:
    """Buttons that show a part of the spectrum."""
    buttons = []
    for name, window in _WINDOWS.items():
        start, end = window or (low, high)
        if low < end and start < high:
            change = {"xaxis.range": [round(max(start, low)), round(min(end, high))]}
            buttons.append({"label": name, "method": "relayout", "args": [change]})
    place = {"x": 0, "xanchor": "left", "y": 1.07, "yanchor": "bottom"}
    return {"type": "buttons", "direction": "right", **place, "buttons": buttons, "showactive": False}


def _axis(title: str, **more: Any) -> _Part:
    style = {"gridcolor": "#edf1f5", "zeroline": False, "linecolor": "#b9c4cf", "ticks": "outside", "ticklen": 4}
    return {**style, "tickcolor": "#b9c4cf", "title": {"text": title, "standoff": 6}, **more}


def _layout(height: int) -> _Part:
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.07, "yanchor": "bottom", "font": {"size": 11}}
    return {
        "height": height,
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12, "color": _DARK},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "hovermode": "closest",
        "margin": {"l": 64, "r": 14, "t": 64, "b": 46},
        "legend": legend,
        "hoverlabel": {"namelength": 30},
    }
