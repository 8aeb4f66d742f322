"""What the similarity browser shows: stars as points in several spaces, and who is near whom in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from starclip_lib.inference.posterior import log_bayes_factor
from starclip_lib.lab.widgets.queries import Query, QueryResult
from starclip_lib.lab.widgets.spaces import EXTENDED, Side, Spaces
from starclip_lib.metrics.atlas import fit_map
from starclip_lib.metrics.similarity import RERANKED, unit_vectors
from starclip_lib.models.encoding import encode_for_search
from starclip_lib.observed.analysis import model_input, prepare_all
from starclip_lib.observed.files import read_observed_folder
from starclip_lib.observed.isolated import read_isolated
from starclip_lib.observed.measuring import Measured, measure
from starclip_lib.observed.preparation import PreparedSpectrum
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LABELS, PLAIN, TEFF
from starclip_lib.run import Run
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError
from starclip_lib.survey.searching import no_match

MAPS = ("PCA", "UMAP")
_SHOWN = tuple(LABELS.index(name) for name in ("Teff", "logg", "Fe", "C", "N", "O", "Mg", "Al", "Si", "Ca"))


class Gallery:
    """The stars of a run in every space, opened when first asked for, and observed spectra among them.

    Parameters
    ----------
    run : Run
        A run whose notebooks 01 to 06 have been run.

    Raises
    ------
    DataError
        Naming what is missing.
    """

    def __init__(self, run: Run):
        self.run, self.data, self._spaces = run, run.data, Spaces(run)
        self._maps: dict[tuple[str, str], tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {}
        self.observed: list[PreparedSpectrum] = []
        self.measured: dict[str, Measured] = {}  # by name of the observed spectrum
        self.add(read_observed_folder(run.root, self._settings))

    @property
    def _settings(self) -> ObservedParams:
        """Where observed spectra are, and the wavelengths that `starclip observe` uses."""
        return self.run.params.observed.changed(wavelength_range=OBSERVED.wavelength_range)

    def rows(self, test_only: bool) -> np.ndarray:
        """Rows of the test stars, which no model has seen, or of all stars."""
        return self.data.rows("test") if test_only else np.arange(self.data.n_stars)

    @property
    def spaces(self) -> tuple[str, ...]:
        """Names of the spaces: all of `SPACES`, or StarCLIP's if the spectra stay on disk."""
        return self._spaces.names

    def space(self, name: str) -> dict[str, Side]:
        """The two sides of a space."""
        return self._spaces[name]

    def star(self, space: str, side: str, row: int) -> Query:
        """The spectrum of a star of the data set as a query.

        Raises
        ------
        DataError
            If the space has no such side.
        """
        sides = self.space(space)
        if side not in sides:
            raise DataError(f"the space '{space}' has no side '{side}'; its sides are {' and '.join(sides)}")
        flux, index = sides[side].flux, sides[side].index
        posterior = None if index.posterior is None else index.posterior[row]
        labels = self.data.labels[row].astype(np.float64)
        return Query(str(self.data.star_id[row]), row, side, index.z[row], flux[row], labels, posterior)

    def star_with(self, labels: dict[str, float], rows: np.ndarray) -> int:
        """The row whose labels are nearest to the given ones (in units of the stars' spread)."""
        columns = [LABELS.index(name) for name in labels]
        known = self.data.labels[rows][:, columns]
        distance = (known - np.array(list(labels.values()))) / self.data.labels[:, columns].std(axis=0)
        return int(rows[(distance**2).sum(axis=1).argmin()])

    def add(self, spectra: Sequence[ObservedSpectrum]) -> dict[str, str]:
        """Measure observed spectra, as `starclip observe` does, and keep those that can be measured and embedded.

        Returns
        -------
        dict of str to str
            Name to verdict of each.
        """
        if not spectra:
            return {}
        taken = {star.name for star in self.observed}
        new = [spectrum for spectrum in spectra if spectrum.name not in taken]
        measured = {one.name: one for one in measure(new)}
        settings = self.run.params.observed
        fine = [spectrum.within(settings) for spectrum in new if measured[spectrum.name].labels is not None]
        prepared = prepare_all(fine, self.data, self.run.params)
        self.observed += prepared.stars
        self.measured |= {star.name: measured[star.name] for star in prepared.stars}
        verdict = dict.fromkeys(taken & {s.name for s in spectra}, "is already here")
        verdict |= {one.name: one.verdict for one in measured.values() if one.labels is None}
        return verdict | prepared.set_aside | {star.name: "good" for star in prepared.stars}

    def add_file(self, name: str, content: bytes) -> dict[str, str]:
        """The same with an uploaded FITS file.

        Raises
        ------
        DataError
            If it is none that we read.
        """
        return self.add(read_isolated(name, content, self._settings))

    def observation(self, space: str, number: int) -> Query:
        """An observed spectrum as a query.

        In MockStarCLIP real spectra are on the extended side.
        """
        star = self.observed[number]
        title = EXTENDED if space == "MockStarCLIP" else NIRSPEC.title
        flux = model_input(star, star.flux[None], self.run.params)
        encoder = self.space(space)[title].encoder
        z, posterior = (flux, None) if encoder is None else encode_for_search(encoder, flux)
        labels = self.measured[star.name].labels
        assert labels is not None  # `add` keeps no others
        known = None if posterior is None else posterior[0]
        return Query(star.name, None, title, unit_vectors(z, np.float32)[0], flux[0], labels, known)

    def search(self, space: str, query: Query, k: int, sides: Sequence[str], rows: np.ndarray) -> QueryResult:
        """The most similar spectra of each given side, the query itself left out.

        Where spectra know how well they know their labels, the nearest are ranked by exact Bayes factors.

        Parameters
        ----------
        k : int
            How many of each side.
        sides : sequence of str
            Titles of the sides.
        rows : ndarray of int, shape (m,)
            The stars to search among.
        """
        parts = []
        for title in sides:
            among = rows[rows != query.row] if title == query.side and query.row is not None else rows
            if not 1 <= k < len(rows):
                raise DataError(f"k must be between 1 and {len(rows) - 1}, not {k}")
            index = self.space(space)[title].index
            if query.posterior is None or index.posterior is None:
                found, cosine = index.search(query.z[None], k, among)
                likeness = {"cosine": cosine[0]}
            else:
                own = query.posterior[None]
                found, cosine = index.search(query.z[None], k, among, posterior=own, rerank=RERANKED)
                likeness = {"ln B": log_bayes_factor(own, index.posterior[found])[0], "cosine": cosine[0]}
            parts.append((found[0], likeness, [title] * k))
        row = np.concatenate([part[0] for part in parts])
        side = np.concatenate([part[2] for part in parts])
        likeness = {name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]}
        order = np.argsort(-next(iter(likeness.values())), kind="stable")
        table = self._table(query, row[order], side[order], {name: how[order] for name, how in likeness.items()})
        excluded = "ln B" in likeness and len(order) > 0 and bool(no_match(likeness["ln B"][order[0]]))
        return QueryResult(row[order], side[order].tolist(), table, excluded)

    def _table(self, query: Query, row: np.ndarray, side: np.ndarray, likeness: dict[str, np.ndarray]) -> pd.DataFrame:
        same = [" (itself)" if r == query.row else "" for r in row]
        columns: dict[str, object] = {
            "star": [f"{star}{note}" for star, note in zip(self.data.star_id[row], same, strict=True)],
            "spectrum": side,
            **{name: how.round(1 if name == "ln B" else 4).astype(float) for name, how in likeness.items()},
            "part": [("training", "validation", "test")[split] for split in self.data.split[row]],
        }
        labels = self.data.labels[row].astype(float)
        for i in _SHOWN:
            difference = labels[:, i] - query.labels[i]
            if i == TEFF:
                columns["Teff [K]"], columns["Δ Teff"] = (
                    labels[:, i].round().astype(int),
                    difference.round().astype(int),
                )
            else:
                columns[PLAIN[i]], columns[f"Δ {PLAIN[i]}"] = labels[:, i].round(2), difference.round(2)
        return pd.DataFrame(columns)

    def places(self, space: str, kind: str) -> dict[str, np.ndarray]:
        """Where the stars are on a map of a space.

        A UMAP is made when it is first asked for, which takes minutes with thousands of stars.
        """
        return self._map(space, kind)[0]

    def place(self, space: str, kind: str, z: np.ndarray) -> np.ndarray:
        """Where a new vector is on that map."""
        return self._map(space, kind)[1](unit_vectors(z[None], np.float32))[0]

    def _map(self, space: str, kind: str) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        if (space, kind) not in self._maps:
            sides = self.space(space)
            vectors = [side.index.z for side in sides.values()]
            places, transform = fit_map(vectors, kind, self.run.params.atlas, self.run.params.seed)
            self._maps[space, kind] = dict(zip(sides, places, strict=True)), transform
        return self._maps[space, kind]
