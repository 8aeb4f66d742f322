"""The similarity browser: click a star, see its nearest neighbours in and across instruments."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from itables.widget import ITable
from matplotlib.figure import Figure

from starclip_lib.lab.widgets.base import ControlledBox, line
from starclip_lib.lab.widgets.browser_controls import BOTH, NONE, browser_controls
from starclip_lib.lab.widgets.browser_figures import windows
from starclip_lib.lab.widgets.gallery import Gallery
from starclip_lib.lab.widgets.queries import Query, QueryResult
from starclip_lib.lab.widgets.similarity_panels import OBSERVED, Panels
from starclip_lib.lab.widgets.spaces import Side
from starclip_lib.physics.labels import FE, LOGG, PLAIN, TEFF
from starclip_lib.run import Run
from starclip_lib.support.errors import StarclipError
from starclip_lib.support.files import safe_name

_FIRST_WINDOW = {"NIRSpec": "Mg 15029", "APOGEE": "CO 15582"}  # nine in ten mock NIRSpec spectra show it
_UMAP_NOTE = " Computing the UMAP of all stars, which takes minutes with thousands of them ..."
TABLE: dict[str, Any] = {
    "buttons": [{"extend": "csvHtml5", "text": "Save as CSV", "filename": "neighbours", "footer": False}],
    "layout": {"topStart": "buttons", "topEnd": None, "bottomStart": None, "bottomEnd": None},
    "classes": "display compact nowrap",
    "showIndex": False,
    "paging": False,
    "text_in_header_can_be_selected": False,  # so that a click anywhere on a head sorts
}


class SimilarityBrowser(ControlledBox):
    """A map of stars to click on, with the neighbours of the chosen one in a table, as spectra and in a Kiel diagram.

    `choose` does from Python what a click does; `table` is what the table shows.

    Parameters
    ----------
    run : Run
        A run whose notebooks 01 to 06 have been run.

    Attributes
    ----------
    query : Query
        The chosen spectrum.
    result : QueryResult
        Its neighbours.
    """

    query: Query
    result: QueryResult

    def __init__(self, run: Run):
        self.gallery = Gallery(run)
        self._panels = Panels(self.gallery)
        self._controls = browser_controls(self.gallery)
        self._caption = ipywidgets.HTML()
        self._table = ITable(pd.DataFrame(), **TABLE)
        rows = {
            "Space": ("space", "map", "colour", "shown", "stars"),
            "Query": ("star", "side", "observed", "upload"),
            "Star like": ("Teff", "logg", "Fe"),
            "Neighbours": ("k", "among", "spectra", "window"),
        }
        lines = [line(title, *(self._controls[name] for name in names)) for title, names in rows.items()]
        self._open_space()
        self._draw_stars()
        self.choose(str(self.gallery.data.star_id[self._rows[0]]))
        maps, spectra = self._panels.wake(self._answer(self._on_click))
        table = ipywidgets.Box([self._table], layout={"overflow": "auto"})
        super().__init__([*lines, self._status, maps, self._caption, table, spectra])
        answers: dict[str, Callable[[dict], None]] = {
            "space": self._on_space,
            "map": self._on_map,
            "stars": self._on_stars,
            "colour": self._on_colour,
            "shown": self._on_shown,
            "star": self._on_star,
            "side": self._on_side,
            "observed": self._on_observed,
            "upload": self._on_upload,
            "Teff": self._on_label,
            "logg": self._on_label,
            "Fe": self._on_label,
            "k": self._on_neighbours,
            "among": self._on_neighbours,
            "spectra": self._on_spectra,
            "window": self._on_window,
        }
        for name, widget in self._controls.items():
            widget.observe(self._answer(answers[name]), "value")
        self._keep()

    @property
    def table(self) -> pd.DataFrame:
        """What is known about the neighbours, one row each."""
        return self.result.table

    def choose(self, star: str, side: str | None = None) -> None:
        """Take a star of the data set, or an observed spectrum, as the query.

        Parameters
        ----------
        star : str
            Name of the star or observed spectrum, in any case.
        side : str, optional
            Which of its spectra, such as 'APOGEE'; the present one if not given.

        Raises
        ------
        DataError
            If there is no such star, with the most similar names, or no such side.
        """
        space, number = self._controls["space"].value, self.gallery.find_observed(star)
        if number is not None:
            self._show(self.gallery.observation(space, number))
        else:
            self._show(self.gallery.star(space, side or self._controls["side"].value, self.gallery.data.row(star)))

    def picture(self) -> Figure:
        """Map, Kiel diagram and spectra as they are now."""
        return self._panels.picture(*self._at, self._rows, self.query, self.result, self._side, self._window)

    # What the controls do.

    def _keep(self) -> None:
        self._kept = {name: widget.value for name, widget in self._controls.items() if name not in ("star", "upload")}

    def _restore(self) -> None:
        with self._silently():
            self._controls["space"].value = self._kept["space"]
        self._open_space()  # offers the sides of the space
        with self._silently():
            self._controls["spectra"].value = self._kept["spectra"]
        self._fill_windows()
        with self._silently():
            for name, value in self._kept.items():
                self._controls[name].value = value
            self._controls["upload"].value = ()
        self._draw_stars()
        self._show(self.query)

    def _on_space(self, change: dict) -> None:
        self._say(f"Opening {change['new']} ...{_UMAP_NOTE if self._at[1] == 'UMAP' else ''}")
        self._open_space()
        self._draw_stars()
        self.choose(self.query.name)
        self._say("")

    def _on_map(self, change: dict) -> None:
        if change["new"] == "UMAP":
            self._say(_UMAP_NOTE)
        self._draw_stars()
        self._panels.mark(*self._at, self.query, self.result)
        self._say("")

    def _on_stars(self, change: dict) -> None:
        self._draw_stars()
        self.choose(self.query.name)

    def _on_colour(self, change: dict) -> None:
        self._panels.paint(self._rows, change["new"])

    def _on_shown(self, change: dict) -> None:
        self._show_sides()

    def _on_star(self, change: dict) -> None:
        self.choose(change["new"])

    def _on_side(self, change: dict) -> None:
        self.choose(self.query.name, change["new"])  # an observed spectrum has one side: the menu goes back to it

    def _on_observed(self, change: dict) -> None:
        if change["new"] != NONE:
            self.choose(change["new"])
        elif self.query.row is None:
            self.choose(str(self.gallery.data.star_id[self._rows[0]]))

    def _on_upload(self, change: dict) -> None:
        if not change["new"]:
            return
        outcomes: dict[str, str] = {}
        for file in change["new"]:
            name = safe_name(file["name"])
            self._say(f"Reading {name} ... (a file that is uploaded meanwhile is read afterwards)")
            try:
                outcome = self.gallery.add_file(name, bytes(file["content"]))
            except StarclipError as error:  # the other files are read all the same
                outcome = {name: str(error)}
            outcomes |= outcome
        with self._silently():
            self._controls["observed"].options = [NONE, *(star.name for star in self.gallery.observed)]
            self._controls["upload"].value = ()  # the same file, chosen again, is a change
        self._draw_stars()
        there = [name for name in outcomes if self.gallery.find_observed(name) is not None]
        if there:
            self.choose(there[-1])
        said = (text if name in text else f"{name}: {text}" for name, text in outcomes.items())
        self._say("; ".join(said), bad=not there)

    def _on_label(self, change: dict) -> None:
        wanted = {name: self._controls[name].value for name in ("Teff", "logg", "Fe")}
        self.choose(str(self.gallery.data.star_id[self.gallery.star_with(wanted, self._rows)]))

    def _on_neighbours(self, change: dict) -> None:
        self.choose(self.query.name)

    def _on_spectra(self, change: dict) -> None:
        self._fill_windows()
        self._draw_spectra()

    def _on_window(self, change: dict) -> None:
        self._draw_spectra()

    def _on_click(self, trace: go.Scatter, points: Any, state: object) -> None:
        if not points.point_inds:
            return
        trace_number, point = points.trace_index, points.point_inds[0]
        if trace_number == OBSERVED:
            self.choose(self.gallery.observed[point].name)
        else:
            side = list(self.gallery.space(self._at[0]))[trace_number]
            self.choose(str(self.gallery.data.star_id[self._rows[point]]), side)

    # What is drawn.

    @property
    def _rows(self) -> np.ndarray:
        return self.gallery.rows(self._controls["stars"].value)

    @property
    def _at(self) -> tuple[str, str]:
        """Space and kind of map."""
        return self._controls["space"].value, self._controls["map"].value

    @property
    def _side(self) -> Side:
        """The side whose spectra are drawn."""
        return self.gallery.space(self._at[0])[self._controls["spectra"].value]

    @property
    def _window(self) -> tuple[float, float]:
        return windows(self._side.instrument)[self._controls["window"].value]

    def _open_space(self) -> None:
        """Offer the sides of the space."""
        titles = list(self.gallery.space(self._at[0]))
        with self._silently():
            for name in ("shown", "among"):
                self._controls[name].options = [BOTH, *titles]
                self._controls[name].value = BOTH
            for name in ("side", "spectra"):
                self._controls[name].options = titles
                self._controls[name].value = titles[0]
        self._fill_windows()

    def _fill_windows(self) -> None:
        names = list(windows(self._side.instrument))
        with self._silently():
            self._controls["window"].options = names
            self._controls["window"].value = _FIRST_WINDOW[self._side.instrument.title]

    def _draw_stars(self) -> None:
        self._panels.draw_stars(*self._at, self._rows)
        self._panels.paint(self._rows, self._controls["colour"].value)
        self._show_sides()

    def _show_sides(self) -> None:
        shown = self._controls["shown"].value
        self._panels.show_sides([shown in (BOTH, title) for title in self.gallery.space(self._at[0])])

    def _draw_spectra(self) -> None:
        self._panels.draw_spectra(self.query, self.result, self._side, self._window)

    def _show(self, query: Query) -> None:
        """Search for a query and draw what is found."""
        space, among = self._at[0], self._controls["among"].value
        sides = list(self.gallery.space(space)) if among == BOTH else [among]
        self.result = self.gallery.search(space, query, self._controls["k"].value, sides, self._rows)
        self.query = query
        with self._silently():
            self._controls["star"].value = query.name
            self._controls["side"].value = query.side
            self._controls["observed"].value = query.name if query.row is None else NONE
            for name, column in (("Teff", TEFF), ("logg", LOGG), ("Fe", FE)):
                self._controls[name].value = float(query.labels[column])
        source = "from the catalogue" if query.row is not None else f"from its fit: {self._measured(query.name)}"
        excluded = " <b>No match:</b> the posteriors exclude that even the best is the same star (ln B below 0)."
        self._caption.value = (
            f"<b>Nearest to {escape(query.name)}</b> ({escape(query.side)}).{excluded if self.result.excluded else ''} "
            f"{self._beyond(query)}"
            f"Abundances and log g in dex. Δ: neighbour minus query, whose labels are {source}."
        )
        self._panels.mark(*self._at, query, self.result)
        self._table.update(self.result.table, **TABLE)
        self._draw_spectra()  # last: it takes longest

    def _beyond(self, query: Query) -> str:
        """Which labels of a query no star of the data set has: what is nearest then is not similar."""
        stars = self.gallery.data.labels
        off = [PLAIN[i] for i in (TEFF, LOGG, FE) if not stars[:, i].min() <= query.labels[i] <= stars[:, i].max()]
        return (
            f"<b>No star of this run has such {' and '.join(off)}:</b> these are nearest, not similar. " if off else ""
        )

    def _measured(self, name: str) -> str:
        """Labels of an observed spectrum with their errors, as `starclip observe` gives them."""
        star = self.gallery.measured[name]
        pairs = zip((f"{PLAIN[i]} " for i in (TEFF, LOGG, FE)), (TEFF, LOGG, FE), (0, 2, 2), strict=True)
        values = ", ".join(f"{title}{star.labels[i]:.{n}f} ± {star.sigma[i]:.{n}f}" for title, i, n in pairs)
        reason = f": {star.reason}" if star.reason else ""
        return f"{values} ({escape(star.verdict + reason)})"
