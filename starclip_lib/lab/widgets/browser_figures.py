"""Figures of the similarity browser: interactive ones to be filled, and the picture that stands for them on paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from starclip_lib.lab.figures.style import (
    APOGEE_COLOUR,
    APOGEE_FEATURES,
    NIRSPEC_FEATURES,
    name_features,
    new_axes,
    styled,
)
from starclip_lib.physics.instruments import APOGEE, Instrument
from starclip_lib.physics.labels import AXIS_TITLES, FE, LOGG, TEFF

NEIGHBOUR_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#0072B2")
SYMBOLS = ("circle", "diamond")  # of the two sides of a space
SPECTRA_TITLE = "Spectra: drag to zoom, double-click to see the whole stretch."
_MARGIN = {"l": 60, "r": 10, "t": 36, "b": 46}


def windows(instrument: Instrument) -> dict[str, tuple[float, float]]:
    """Stretches of wavelength worth a look: everything, and around each named feature."""
    half = 60.0 if instrument is APOGEE else 250.0
    on_detector = instrument.wavelength[instrument.on_detector]
    near = {f"{name.strip()} {x}": (x - half, x + half) for name, x in features_of(instrument).items()}
    return {"everything": (float(on_detector[0]), float(on_detector[-1])), **near}


def features_of(instrument: Instrument) -> Mapping[str, float]:
    """The named features of an instrument."""
    return APOGEE_FEATURES if instrument is APOGEE else NIRSPEC_FEATURES


def with_gaps(flux: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Spectra with NaN where there is no data, so that no line is drawn there."""
    return np.where(flux == instrument.fill_value, np.nan, flux)


def empty_map() -> go.Figure:
    """A map with traces for the two sides and for observed spectra; empty as yet."""
    sides = [
        go.Scattergl(
            mode="markers",
            marker={"size": 5, "symbol": symbol, "colorscale": "Viridis", "coloraxis": "coloraxis"},
            hovertemplate="%{text}<extra></extra>",
        )
        for symbol in SYMBOLS
    ]
    observed = go.Scatter(
        mode="markers+text",
        name="observed spectra",
        marker={"symbol": "star-diamond", "size": 13, "color": "black"},
        textposition="top right",
        hoverinfo="text",
        showlegend=False,
    )
    axis = {"showgrid": False, "zeroline": False}
    figure = go.Figure([*sides, observed])
    figure.update_layout(
        _layout("Map: click a star (★ query, ○ its neighbours)", 440),
        width=580,
        xaxis=axis,
        yaxis=axis,
        coloraxis={"colorscale": "Viridis"},
    )
    return figure


def empty_kiel_diagram() -> go.Figure:
    """Kiel diagram with a trace for all stars; empty as yet."""
    stars = go.Scattergl(mode="markers", marker={"size": 3, "color": "#c4c4c4"}, hoverinfo="skip", name="stars")
    figure = go.Figure(stars)
    figure.update_layout(
        _layout("Kiel diagram: ★ query, ○ its neighbours", 440),
        width=380,
        showlegend=False,
        xaxis={"title": "Teff [K]"},
        yaxis={"title": "log g [dex]"},
    )
    return figure


def empty_spectra() -> go.Figure:
    """Overlaid spectra with the differences below: traces for the query and `NEIGHBOUR_COLOURS`; empty as yet."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.03)
    for colour in NEIGHBOUR_COLOURS:
        line = {"color": colour, "width": 1}
        figure.add_trace(go.Scatter(mode="lines", line=line, hoverinfo="skip"), 1, 1)
    for colour in NEIGHBOUR_COLOURS:
        line = {"color": colour, "width": 1}
        figure.add_trace(go.Scatter(mode="lines", line=line, hoverinfo="skip", showlegend=False), 2, 1)
    figure.add_trace(go.Scatter(mode="lines", line={"color": "black", "width": 1.2}, hoverinfo="x+y"), 1, 1)
    figure.update_layout(_layout(SPECTRA_TITLE, 520))
    figure.update_layout(legend={"orientation": "h", "y": -0.12})
    figure.update_yaxes(title_text="flux / continuum", row=1, col=1)
    figure.update_yaxes(title_text="minus query", row=2, col=1)
    figure.update_xaxes(title_text="vacuum wavelength [Å]", row=2, col=1)
    return figure


def feature_marks(instrument: Instrument) -> tuple[list[dict], list[dict]]:
    """Lines and names of an instrument's features as plotly shapes and annotations."""
    features = features_of(instrument)
    lines = [
        {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "layer": "below"}
        | {"line": {"color": "#bbbbbb", "width": 1, "dash": "dot"}}
        for x in features.values()
    ]
    names = [
        {"x": x, "y": 1.0, "yref": "paper", "yanchor": "bottom", "text": name.strip(), "showarrow": False}
        for name, x in features.items()
    ]
    return lines, names


def around(values: np.ndarray) -> tuple[float, float]:
    """A range of an axis with a margin."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


Ranges = list[tuple[float, float]]


def frame(figure: go.Figure, before: Ranges, points: np.ndarray, flipped: bool = False) -> Ranges:
    """Choose ranges of the axes with all points (n, 2) inside; a user's zoom stays where they are those of before."""
    ranges = [around(values) for values in points.T]
    if flipped:
        ranges = [(high, low) for low, high in ranges]
    if ranges != before:
        figure.update_layout(xaxis={"range": ranges[0]}, yaxis={"range": ranges[1]})
    return ranges


def marks(query: np.ndarray, neighbours: np.ndarray) -> list[dict]:
    """A star at the query and rings around its neighbours, as the marks of a LiveFigure."""
    ring = {"text": "", "css": "width:16px; height:16px; border:1.6px solid black; border-radius:50%"}
    star = {"text": "★", "css": f"color:{APOGEE_COLOUR}; font-size:26px; line-height:1"}
    signs = [(xy, ring) for xy in neighbours] + [(query, star)]
    return [{"x": float(x), "y": float(y), **sign} for (x, y), sign in signs]


def _layout(title: str, height: int) -> dict:
    return {
        "title": {"text": title, "font": {"size": 15}},
        "template": "plotly_white",
        "height": height,
        "margin": _MARGIN,
        "legend": {"orientation": "h", "y": -0.12},
        "hovermode": "closest",
        "uirevision": "keep",
    }


@styled
def similarity_picture(
    xy: np.ndarray,
    labels: np.ndarray,
    query: tuple[np.ndarray, np.ndarray],
    neighbours: tuple[np.ndarray, np.ndarray],
    spectra: Mapping[str, np.ndarray],
    instrument: Instrument,
    window: tuple[float, float],
    axis: str,
) -> Figure:
    """Map, Kiel diagram and spectra of a query and its neighbours on one page."""
    figure = new_axes(1, 1, (11, 6.6))[0]
    figure.clear()
    panels = figure.subplot_mosaic([["map", "kiel"], ["flux", "flux"]], height_ratios=(1.25, 1))
    columns = [TEFF, LOGG, FE]
    _map_and_kiel(
        (panels["map"], panels["kiel"]),
        *(xy, labels[:, columns], np.vstack([query[0], neighbours[0]])),
        *(np.vstack([query[1], neighbours[1]])[:, columns], axis),
    )
    inside = (instrument.wavelength >= window[0]) & (instrument.wavelength <= window[1])
    colours = ("black", *NEIGHBOUR_COLOURS)
    for (name, flux), colour, width in zip(spectra.items(), colours, (1.3, *[0.9] * 5), strict=False):
        panels["flux"].plot(
            instrument.wavelength[inside], flux[inside], color=colour, lw=width, label=name, zorder=1 + width
        )
    panels["flux"].set(xlabel="vacuum wavelength [Å]", ylabel="flux / continuum", xlim=window)
    name_features(panels["flux"], features_of(instrument))
    panels["flux"].legend(fontsize=8, ncols=3, loc="lower left")
    return figure


@styled
def store_picture(
    xy: np.ndarray, labels: np.ndarray, marked: np.ndarray, near: np.ndarray, axis: str, drawn: str
) -> Figure:
    """Map and Kiel diagram of a survey, the query and its neighbours."""
    figure, axes = new_axes(1, 2, (11, 4.4))
    _map_and_kiel((axes[0], axes[1]), xy, labels, marked, near, axis)
    axes[0].set_title(f"the map: {drawn}")
    return figure


def _map_and_kiel(
    panels: tuple[Axes, Axes], xy: np.ndarray, labels: np.ndarray, marked: np.ndarray, near: np.ndarray, axis: str
) -> None:
    """Points with (Teff, log g, [Fe/H]) on a map and in a Kiel diagram, the query first among `marked`."""
    low, high = np.percentile(labels[:, 2], [1, 99])
    points = panels[0].scatter(xy[:, 0], xy[:, 1], c=labels[:, 2], s=3, lw=0, vmin=low, vmax=high, rasterized=True)
    panels[0].figure.colorbar(points, ax=panels[0], label=AXIS_TITLES[FE])
    panels[0].set(xlabel=f"{axis} 1", ylabel=f"{axis} 2", title="the map")
    panels[1].plot(labels[:, 0], labels[:, 1], ".", ms=2, color="#c4c4c4", rasterized=True)
    panels[1].set(xlabel=AXIS_TITLES[TEFF], ylabel=AXIS_TITLES[LOGG], title="Kiel diagram")
    panels[1].invert_xaxis()
    panels[1].invert_yaxis()
    for panel, spots in zip(panels, (marked, near[:, :2]), strict=True):
        panel.plot(*spots[1:].T, "o", ms=9, mfc="none", mec="black")
        panel.plot(*spots[0], "*", ms=15, color=APOGEE_COLOUR, mec="white")
