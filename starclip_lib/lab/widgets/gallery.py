"""What the similarity browser shows: stars as points in several spaces, and who is near whom in each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from starclip_lib.inference.posterior import log_bayes_factor
from starclip_lib.lab.widgets.queries import Query, QueryResult
from starclip_lib.lab.widgets.spaces import EXTENDED, Side, Spaces
from starclip_lib.metrics.atlas import fit_map
from starclip_lib.models.encoding import encode_for_search
from starclip_lib.models.similarity import RERANKED, unit_vectors
from starclip_lib.observed.analysis import model_input, point_of_fit, prepare_all
from starclip_lib.observed.files import read_observed_folder
from starclip_lib.observed.isolated import read_isolated
from starclip_lib.observed.measured import Measured
from starclip_lib.observed.measuring import measure
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


def _same(one: ObservedSpectrum, other: ObservedSpectrum) -> bool:
    """Whether two spectra hold the same numbers, whatever their names."""
    columns = ((getattr(star, name) for star in (one, other)) for name in ("wavelength", "flux", "ivar"))
    return all(np.array_equal(first, second, equal_nan=True) for first, second in columns)


class Gallery:
    """The stars of a run whose notebooks 01 to 06 have been run, in every space, and observed spectra among them."""

    def __init__(self, run: Run):
        self.run, self.data, self._spaces = run, run.data, Spaces(run)
        self._maps: dict[tuple[str, str], tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {}
        self.observed: list[PreparedSpectrum] = []
        self.measured: dict[str, Measured] = {}  # by name of the observed spectrum, as the next
        self._original: dict[str, ObservedSpectrum] = {}
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
        """The spectrum of a star of the data set as a query; DataError if the space has no such side."""
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

    def find_observed(self, name: str) -> int | None:
        """The position of an observed spectrum among `observed`, by its name in any case."""
        names = [star.name.lower() for star in self.observed]
        return names.index(name.strip().lower()) if name.strip().lower() in names else None

    def add(self, spectra: Sequence[ObservedSpectrum]) -> dict[str, str]:
        """Measure observed spectra, as `starclip observe` does, and keep those that can be measured and embedded.

        Returns what became of each by its name in `observed`, or its own if it was not kept.  A spectrum that is there
        already is not added again; another one of the same name gets a number.
        """
        outcome: dict[str, str] = {}
        new: list[ObservedSpectrum] = []
        for spectrum in spectra:
            if known := next((name for name, other in self._original.items() if _same(spectrum, other)), None):
                outcome[known] = "is already here"
            else:
                taken = {*self._original, *(star.name for star in new)}
                names = itertools.chain([spectrum.name], (f"{spectrum.name}_{n}" for n in itertools.count(2)))
                new.append(replace(spectrum, name=next(name for name in names if name not in taken)))
        if not new:
            return outcome
        measured = {star.name: star for star in measure(new)}
        fine = [spectrum.within(self.run.params.observed) for spectrum in new if not measured[spectrum.name].set_aside]
        prepared = prepare_all(fine, self.data, self.run.params)
        kept = {star.name for star in prepared.stars}
        self.observed += prepared.stars
        self.measured |= {name: measured[name] for name in kept}
        self._original |= {spectrum.name: spectrum for spectrum in new if spectrum.name in kept}
        outcome |= {
            name: " because ".join(filter(None, (star.verdict, star.reason))) for name, star in measured.items()
        }
        return outcome | prepared.set_aside

    def add_file(self, name: str, content: bytes) -> dict[str, str]:
        """The same with an uploaded FITS file; DataError if it is not one that we read."""
        return self.add(read_isolated(name, content, self._settings))

    def observation(self, space: str, number: int) -> Query:
        """An observed spectrum as a query; in MockStarCLIP it is on the extended side."""
        star = self.observed[number]
        title = EXTENDED if space == "MockStarCLIP" else NIRSPEC.title
        flux = model_input(star, star.flux[None], self.run.params)
        encoder = self.space(space)[title].encoder
        one = self.measured[star.name]
        z, posterior = (flux, None) if encoder is None else encode_for_search(encoder, flux)
        if encoder is not None and posterior is not None:  # its own errors are those of simulated spectra
            z, posterior = point_of_fit(encoder, one)
        labels = one.labels
        assert labels is not None  # `add` keeps no others
        known = None if posterior is None else posterior[0]
        return Query(star.name, None, title, unit_vectors(z, np.float32)[0], flux[0], labels, known)

    def search(self, space: str, query: Query, k: int, sides: Sequence[str], rows: np.ndarray) -> QueryResult:
        """The k most similar spectra of each given side among stars (rows), the query itself left out.

        Where the encoders give posteriors, the nearest are ranked by exact Bayes factors.
        """
        parts = []
        for title in sides:
            among = rows[rows != query.row] if title == query.side and query.row is not None else rows
            if not 1 <= k < len(rows):
                raise DataError(f"k must be between 1 and {len(rows) - 1}, not {k}")
            index = self.space(space)[title].index
            if query.posterior is None or index.posterior is None:
                neighbours, cosine = index.search(query.z[None], k, among)
                likeness = {"cosine": cosine[0]}
            else:
                own = query.posterior[None]
                neighbours, cosine = index.search(query.z[None], k, among, posterior=own, rerank=RERANKED)
                likeness = {"ln B": log_bayes_factor(own, index.posterior[neighbours])[0], "cosine": cosine[0]}
            parts.append((neighbours[0], likeness, [title] * k))
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
        """Where the stars are on a map of a space; a UMAP of thousands of stars takes minutes when first asked for."""
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
