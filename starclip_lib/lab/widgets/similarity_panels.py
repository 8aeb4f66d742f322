"""The panels of the similarity browser: map, Kiel diagram and spectra, filled from a gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure

from starclip_lib.lab.widgets import browser_figures
from starclip_lib.lab.widgets.gallery import Gallery
from starclip_lib.lab.widgets.live_figure import FurtherFigure, LiveFigure
from starclip_lib.lab.widgets.queries import Query, QueryResult
from starclip_lib.lab.widgets.spaces import Side
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import FE, LOGG, PLAIN, TEFF, UNITS

OBSERVED = 2  # trace of the map with the observed spectra; those before are the two sides of the space
_N_SPECTRA = len(browser_figures.NEIGHBOUR_COLOURS)


class Panels:
    """Three interactive figures; rows are those of the gallery's data set."""

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self.map: go.Figure = browser_figures.empty_map()
        self.kiel: go.Figure = browser_figures.empty_kiel_diagram()
        self.spectra: go.Figure = browser_figures.empty_spectra()
        self._marks: tuple[list[dict], list[dict]] = [], []
        self._ranges: tuple[browser_figures.Ranges, browser_figures.Ranges] = [], []

    def wake(self, on_click: Callable[..., None]) -> list[ipywidgets.DOMWidget]:
        """Turn the figures into live ones and return them; only when all is drawn, or a page would not show it."""
        self.map = LiveFigure(self.map)
        self.kiel, self.spectra = FurtherFigure(self.kiel), FurtherFigure(self.spectra)
        self.map.marks, self.kiel.marks = self._marks
        for trace in self.map.data:
            trace.on_click(on_click)
        maps = ipywidgets.HBox([self.map, self.kiel], layout={"flex_flow": "row wrap"})
        return [maps, self.spectra]

    def draw_stars(self, space: str, kind: str, rows: np.ndarray) -> None:
        """Draw some stars (rows), and observed spectra, on a map of a space."""
        places, labels = self.gallery.places(space, kind), self.gallery.data.labels[rows]
        text = [
            f"{name}<br>Teff {star[TEFF]:.0f} K, log g {star[LOGG]:.2f}, [Fe/H] {star[FE]:+.2f}"
            for name, star in zip(self.gallery.data.star_id[rows], labels, strict=True)
        ]
        observed = [self.gallery.observation(space, number) for number in range(len(self.gallery.observed))]
        spots = np.array([self.gallery.place(space, kind, query.z) for query in observed]).reshape(-1, 2)
        with self.map.batch_update():
            for trace, (title, xy) in zip(self.map.data, places.items(), strict=False):
                trace.update(x=xy[rows, 0], y=xy[rows, 1], text=text, name=title)
            names = [query.name for query in observed]
            self.map.data[OBSERVED].update(x=spots[:, 0], y=spots[:, 1], text=names, hovertext=names)
            self.map.update_layout(xaxis={"title": f"{kind} 1"}, yaxis={"title": f"{kind} 2"})
        with self.kiel.batch_update():
            self.kiel.data[0].update(x=labels[:, TEFF], y=labels[:, LOGG])
        self._drawn = np.concatenate([*(xy[rows] for xy in places.values()), spots]), labels[:, [TEFF, LOGG]]

    def show_sides(self, visible: Sequence[bool]) -> None:
        """Show or hide the two sides of the space on the map."""
        with self.map.batch_update():
            for trace, shown in zip(self.map.data, visible, strict=False):
                trace.visible = shown

    def paint(self, rows: np.ndarray, column: int) -> None:
        """Colour the stars of the map by a label."""
        values = self.gallery.data.labels[rows, column]
        low, high = np.percentile(values, [1, 99])
        bar = {"title": {"text": f"{PLAIN[column]} [{UNITS[column]}]"}}
        with self.map.batch_update():
            for trace in self.map.data[:OBSERVED]:
                trace.marker.color = values
            self.map.update_layout(coloraxis={"cmin": low, "cmax": high, "colorbar": bar})

    def _places(self, space: str, kind: str, query: Query, result: QueryResult) -> tuple[np.ndarray, np.ndarray]:
        """Where the query (2,) and its neighbours (k, 2) are on the map."""
        places = self.gallery.places(space, kind)
        known = query.row is not None
        here = places[query.side][query.row] if known else self.gallery.place(space, kind, query.z)
        return here, np.array([places[side][row] for side, row in zip(result.side, result.row, strict=True)])

    def mark(self, space: str, kind: str, query: Query, result: QueryResult) -> None:
        """Mark the query and its neighbours on the map and in the Kiel diagram."""
        here, near = self._places(space, kind, query, result)
        columns = [TEFF, LOGG]
        own, others = query.labels[columns], self.gallery.data.labels[result.row][:, columns]
        on_map, in_kiel_diagram = np.vstack([self._drawn[0], here, near]), np.vstack([self._drawn[1], own, others])
        self._ranges = (
            browser_figures.frame(self.map, self._ranges[0], on_map),
            browser_figures.frame(self.kiel, self._ranges[1], in_kiel_diagram, flipped=True),
        )
        self._marks = browser_figures.marks(here, near), browser_figures.marks(own, others)
        if isinstance(self.map, LiveFigure):
            self.map.marks, self.kiel.marks = self._marks

    def _fluxes(self, query: Query, result: QueryResult, side: Side) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The query's spectrum on a side, and those of the nearest other stars by name; NaN where there is no data."""
        instrument, flux = side.instrument, np.full(side.instrument.n_pix, side.instrument.fill_value)
        if query.row is not None:
            flux = side.flux[query.row]
        elif instrument is NIRSPEC:  # an observed star has been seen by this one only
            flux = query.flux
        stars = list(dict.fromkeys(row for row in result.row.tolist() if row != query.row))[:_N_SPECTRA]
        names = self.gallery.data.star_id[stars]
        others = [browser_figures.with_gaps(side.flux[row], instrument) for row in stars]
        return browser_figures.with_gaps(flux, instrument), dict(zip(names.tolist(), others, strict=True))

    def draw_spectra(self, query: Query, result: QueryResult, side: Side, window: tuple[float, float]) -> None:
        """Overlay a stretch (Angstrom) of the spectra of the query and of the nearest other stars from one side."""
        instrument = side.instrument
        inside = (instrument.wavelength >= window[0]) & (instrument.wavelength <= window[1])
        own, others = self._fluxes(query, result, side)
        drawn = [*others.items(), *[("", None)] * (_N_SPECTRA - len(others))]
        lines, names = browser_figures.feature_marks(instrument)
        note = "" if np.isfinite(own[inside]).any() else " <b>The query has no data in this stretch.</b>"
        with self.spectra.batch_update():  # with what can be seen only, so that the page answers fast
            for (name, flux), top, bottom in zip(
                drawn, self.spectra.data[:_N_SPECTRA], self.spectra.data[_N_SPECTRA:-1], strict=True
            ):
                top.update(y=None if flux is None else flux[inside], name=name, visible=flux is not None)
                bottom.update(y=None if flux is None else (flux - own)[inside], visible=flux is not None)
            self.spectra.data[-1].update(y=own[inside], name=f"{query.name} (query)")
            self.spectra.update_traces(x=instrument.wavelength[inside])
            self.spectra.update_layout(
                shapes=lines, annotations=names, title={"text": browser_figures.SPECTRA_TITLE + note}
            )
            self.spectra.update_xaxes(range=window)
            self.spectra.update_yaxes(autorange=True)

    def picture(
        self,
        space: str,
        kind: str,
        rows: np.ndarray,
        query: Query,
        result: QueryResult,
        side: Side,
        window: tuple[float, float],
    ) -> Figure:
        """All three as one figure for paper."""
        places, labels = self.gallery.places(space, kind), self.gallery.data.labels
        here, near = self._places(space, kind, query, result)
        own, others = self._fluxes(query, result, side)
        return browser_figures.similarity_picture(
            np.concatenate([xy[rows] for xy in places.values()]),
            np.concatenate([labels[rows]] * len(places)),
            (here, query.labels),
            (near, labels[result.row]),
            {f"{query.name} (query)": own, **others},
            side.instrument,
            window,
            kind,
        )
