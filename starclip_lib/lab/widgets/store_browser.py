"""The browser of an embedding store: a survey on a map, of which some stars are drawn and all are searched."""

from __future__ import annotations

import difflib
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from itables.widget import ITable
from matplotlib.figure import Figure

from starclip_lib.lab.widgets import browser_figures
from starclip_lib.lab.widgets.base import ControlledBox, line, menu
from starclip_lib.lab.widgets.live_figure import FurtherFigure, LiveFigure
from starclip_lib.lab.widgets.similarity_browser import TABLE
from starclip_lib.metrics.atlas import fit_map
from starclip_lib.models.similarity import RERANKED, SimilarityIndex
from starclip_lib.physics.labels import FE, LABELS, LOGG, PLAIN, TEFF, UNITS
from starclip_lib.settings.evaluation import AtlasParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import check_memory
from starclip_lib.survey.formats import SIMULATIONS, vectors
from starclip_lib.survey.searching import Nearest, match_words, rank_by_posterior
from starclip_lib.survey.store import Store

DRAWN = 20_000  # points on the map, a random part of the store; more would only hide each other
_FEWEST = 3
_COMPARED = 10_000  # names that are compared with an unknown one, letter by letter
_SIDES = ("nirspec", "apogee")


class StoreBrowser(ControlledBox):
    """A map of a store's stars to click on, with the nearest of all of them in a table and in a Kiel diagram.

    Memory: the vectors and three labels, 0.1 kB a star.

    Parameters
    ----------
    store : Store, str or Path
        What `starclip embed` has made.

    Attributes
    ----------
    query : int
        Row of the chosen spectrum in the store.
    table : DataFrame
        What is known about its neighbours, one row each.

    Raises
    ------
    DataError
        If it is not a store, or holds next to nothing.
    """

    query: int
    table: pd.DataFrame

    def __init__(self, store: Store | str | Path):
        self.store = store if isinstance(store, Store) else Store(Path(store))
        self._names, self._labels, self._index, is_apogee = _read(self.store)
        n = len(self._labels)
        self._drawn = np.sort(np.random.default_rng(0).permutation(n)[:DRAWN])
        (self._positions,), self._project = fit_map([self._index.z[self._drawn]], "PCA", AtlasParams(), 0)
        self._sides = [self._drawn[is_apogee[self._drawn] == side] for side in (False, True)]
        self._filter: tuple[str, np.ndarray | None] = "", None  # a condition and the rows that meet it
        self._ranges: tuple[browser_figures.Ranges, browser_figures.Ranges] = [], []
        self._controls: dict[str, Any] = {
            "star": ipywidgets.Text(description="star", continuous_update=False, layout={"width": "330px"}),
            "colour": menu(
                "colour", [(f"{PLAIN[i]} [{UNITS[i]}]", column) for column, i in enumerate((TEFF, LOGG, FE))], 2
            ),
            "k": ipywidgets.IntSlider(value=10, min=1, max=50, description="k", continuous_update=False),
            "where": ipywidgets.Text(
                description="only where",
                placeholder="instrument == 'apogee' and Fe < -0.5",
                continuous_update=False,
                style={"description_width": "initial"},
                layout={"width": "480px"},
            ),
        }
        self._caption = ipywidgets.HTML()
        self._table = ITable(pd.DataFrame(), **TABLE)
        self.map, self.kiel = browser_figures.empty_map(), browser_figures.empty_kiel_diagram()
        self._draw_stars()
        self._paint()
        self.choose(int(self._drawn[0]))
        # now that all is drawn: a live figure would lose what is drawn before a page shows it
        self.map, self.kiel = LiveFigure(self.map), FurtherFigure(self.kiel)
        self.map.marks, self.kiel.marks = self._marks
        for number, trace in enumerate(self.map.data[:2]):
            trace.on_click(self._answer(lambda _, points, __, side=number: self._on_click(side, points)))
        maps = ipywidgets.HBox([self.map, self.kiel], layout={"flex_flow": "row wrap"})
        table = ipywidgets.Box([self._table], layout={"overflow": "auto"})
        controls = [
            line("Query", self._controls["star"]),
            line("Neighbours", self._controls["k"], self._controls["where"]),
            line("Map", self._controls["colour"]),
        ]
        super().__init__([*controls, self._status, maps, self._caption, table])
        answers = {
            "star": lambda change: self.choose(change["new"].strip()),
            "colour": lambda change: self._paint(),
            "k": lambda change: self.choose(self.query),
            "where": self._on_where,
        }
        for name, widget in self._controls.items():
            widget.observe(self._answer(answers[name]), "value")

    def choose(self, star: str | int) -> None:
        """Take a spectrum as the query.

        Parameters
        ----------
        star : str or int
            Identifier in any case, of which the first spectrum is taken, or row in the store.

        Raises
        ------
        DataError
            If there is no such star, with the most similar identifiers, or too few meet the condition.
        """
        row = int(star) if isinstance(star, int | np.integer) else self._row(star.strip())
        if not 0 <= row < len(self._labels):
            raise DataError(f"{self.store.folder} has no row {row}: it has {len(self._labels):,}, from 0")
        self._search(row, self._filter)

    def _row(self, star: str) -> int:
        """The first row of a star, by its identifier in any case."""
        for names, wanted in ((self._names, star), (pc.utf8_lower(self._names), star.lower())):
            if (row := pc.index(names, wanted).as_py()) >= 0:
                return row
        similar = _similar(self._names, star)
        hint = f"similar: {', '.join(similar)}" if similar else f"identifiers look like {self._names[0].as_py()}"
        raise DataError(f"{self.store.folder} has no star '{star:.60}'; {hint}")

    def _search(self, row: int, filter_: tuple[str, np.ndarray | None]) -> None:
        """Show the nearest of a row among those that pass a filter."""
        allowed = filter_[1]
        own = pc.equal(self._names, self._names[row]).to_numpy()
        among = np.flatnonzero(~own) if allowed is None else allowed[~own[allowed]]
        if not len(among):
            raise DataError("there is no other star" if allowed is None else "no other star meets the condition")
        k, ranked = min(self._controls["k"].value, len(among)), self.store.about.posterior
        wanted = min(max(k, RERANKED), len(among)) if ranked else k
        nearest = Nearest(*self._index.search(self._index.z[[row]], wanted, among))
        if ranked:
            nearest = rank_by_posterior(self.store, nearest, self.store.posteriors(np.array([row])), k)
        rows = self.store.rows(np.array([row, *nearest.place[0]]))
        self.query, self._neighbours, self._filter = row, nearest.place[0], filter_
        self._ln_b = None if nearest.ln_b is None else nearest.ln_b[0]
        self.table = _table(rows, np.array([1.0, *nearest.cosine[0]]), self._ln_b)
        self._show()

    def picture(self) -> Figure:
        """Map and Kiel diagram as they are now."""
        columns = [self.query, *self._neighbours]
        return browser_figures.store_picture(
            self._positions,
            self._labels[self._drawn],
            self._project(self._index.z[columns]),
            self._labels[columns],
            "PCA",
            self._thinned,
        )

    @property
    def _thinned(self) -> str:
        n = len(self._labels)
        return f"{len(self._drawn):,} of {n:,} spectra, drawn at random" if n > DRAWN else f"{n:,} spectra"

    def _on_click(self, side: int, points: Any) -> None:
        if points.point_inds:
            self.choose(int(self._sides[side][points.point_inds[0]]))

    def _on_where(self, change: dict) -> None:
        text, rows = change["new"].strip(), None
        if text:
            rows = np.concatenate([block for block, _ in self.store.blocks(["row"], text)])
            if not len(rows):
                raise DataError(f"no spectrum of {self.store.folder} meets {text!r}")
        self._search(self.query, (text, rows))

    def _draw_stars(self) -> None:
        for trace, side, rows in zip(self.map.data, _SIDES, self._sides, strict=False):
            text = [f"{teff:.0f} K, log g {logg:.2f}, [Fe/H] {fe:+.2f}" for teff, logg, fe in self._labels[rows]]
            xy = self._positions[np.searchsorted(self._drawn, rows)]
            trace.update(x=xy[:, 0], y=xy[:, 1], text=text, name=side, visible=bool(len(rows)))
        self.map.update_layout(xaxis={"title": "PCA 1"}, yaxis={"title": "PCA 2"})
        teff, logg, _ = self._labels[self._drawn].T
        self.kiel.data[0].update(x=teff, y=logg)

    def _paint(self) -> None:
        column = self._controls["colour"].value
        low, high = np.percentile(self._labels[self._drawn, column], [1, 99])
        title = PLAIN[(TEFF, LOGG, FE)[column]]
        with self.map.batch_update():
            for trace, rows in zip(self.map.data, self._sides, strict=False):
                trace.marker.color = self._labels[rows, column]
            self.map.update_layout(coloraxis={"cmin": low, "cmax": high, "colorbar": {"title": {"text": title}}})

    def _show(self) -> None:
        columns = [self.query, *self._neighbours]
        drawn = self._positions, self._labels[self._drawn, :2]
        marked = self._project(self._index.z[columns]), self._labels[columns, :2]
        on_map, in_kiel_diagram = (np.vstack(parts) for parts in zip(drawn, marked, strict=True))
        self._ranges = (
            browser_figures.frame(self.map, self._ranges[0], on_map),
            browser_figures.frame(self.kiel, self._ranges[1], in_kiel_diagram, flipped=True),
        )
        self._marks = [browser_figures.marks(points[0], points[1:]) for points in marked]
        if isinstance(self.map, LiveFigure):
            self.map.marks, self.kiel.marks = self._marks
        star = self._names[self.query].as_py()
        with self._silently():  # it is shown, not asked for
            self._controls["star"].value = str(star)
        condition, allowed = self._filter
        only = "" if allowed is None else f", among {len(allowed):,} that meet {escape(condition)}"
        how, excluded = ("cosine" if self._ln_b is None else "Bayes factor (ln B)"), ""
        if self._ln_b is not None and self.table["ln B"].iloc[1].endswith("(no match)"):
            excluded = " <b>No match:</b> the posteriors exclude that even the best is the same star."
        self._caption.value = (
            f"<b>Nearest to {escape(str(star))}</b> by {how}{only}; its own spectra do not count.{excluded} All "
            f"{len(self._labels):,} spectra are searched; the map shows {self._thinned}."
        )
        self._table.update(self.table, **TABLE)


def _read(store: Store) -> tuple[pa.ChunkedArray, np.ndarray, SimilarityIndex, np.ndarray]:
    """Names, (Teff, log g, [Fe/H]), vectors and which are APOGEE's, in one pass over the store."""
    if len(store) < _FEWEST:
        raise DataError(f"{store.folder} holds {len(store)} spectra, {_FEWEST} are needed for a map; embed more")
    check_memory(len(store) * (8 * store.about.dim + 64), f"the browser of {store.folder}")
    z = np.empty((len(store), store.about.dim), np.float32)
    labels = np.empty((len(store), 3), np.float32)
    is_apogee, names = np.empty(len(store), bool), []
    columns = [LABELS[i] for i in (TEFF, LOGG, FE)]
    for rows, table in store.blocks(["embedding", "star_id", "instrument", *columns]):
        z[rows] = vectors(table)
        labels[rows] = np.stack([table.column(name).to_numpy() for name in columns], axis=1)
        is_apogee[rows] = pc.equal(table.column("instrument"), "apogee").to_numpy()
        names += table.column("star_id").chunks
    return pa.chunked_array(names), labels, SimilarityIndex(z, np.arange(len(z)), np.float32), is_apogee


def _similar(names: pa.ChunkedArray, star: str) -> list[str]:
    """At most three names like the given one, of those that begin as it does."""
    lower = pc.utf8_lower(names)
    for length in range(len(star), 0, -1):
        rows = np.flatnonzero(pc.starts_with(lower, star[:length].lower()).to_numpy())[:_COMPARED]
        if len(rows):
            alike = {name.lower(): name for name in names.take(rows).to_pylist()}
            return [alike[name] for name in difflib.get_close_matches(star.lower(), alike, 3, 0.0)]
    return []


def _table(rows: pd.DataFrame, cosine: np.ndarray, ln_b: np.ndarray | None) -> pd.DataFrame:
    names = [f"{rows['star_id'].iloc[0]} (query)", *rows["star_id"].iloc[1:]]
    table = pd.DataFrame({"star": names, "spectrum": rows["instrument"]})
    if ln_b is not None:
        words = match_words(ln_b, rows["labels_from"].iloc[1:], rows["labels_from"].iloc[0] != SIMULATIONS)
        ends = ("" if word == "possible" else f" ({word})" for word in words)
        table["ln B"] = ["", *(f"{value:.1f}{end}" for value, end in zip(ln_b, ends, strict=True))]
    table["cosine"] = cosine.round(4)
    table["Teff [K]"] = rows["Teff"].round().astype(int)
    for i in (LOGG, FE, *(i for i in range(len(LABELS)) if i not in (TEFF, LOGG, FE))):
        table[PLAIN[i]] = rows[LABELS[i]].round(2)
    return table.assign(
        **{"verdict": rows["verdict"], "labels": rows["labels_from"], "from the prior": rows["from_prior"]},
        file=[Path(file).name for file in rows["file"]],
    )
