"""What the similarity browser shows: stars as points in several spaces, and who is near whom in each.

A gallery holds one mock observation of every star in memory: some 300 MB per 1,000 stars with all spaces opened.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LinearRegression

from starclip_lib.data.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.data.labels import LABELS, PLAIN, TEFF
from starclip_lib.errors import DataError
from starclip_lib.metrics.atlas import fit_umap
from starclip_lib.metrics.probing import fit_probe
from starclip_lib.models.embeddings import read_embeddings, run_encoder
from starclip_lib.models.encoders import Encoder
from starclip_lib.observed.analysis import model_input, prepare_all, read_folder
from starclip_lib.observed.files import read_observed
from starclip_lib.observed.preparation import ObservedSpectrum, PreparedSpectrum
from starclip_lib.run import Run
from starclip_lib.transforms.corruptions import extended_corruption, mock
from starclip_lib.transforms.views import corrupted_views

SPACES = ("StarCLIP", "MockStarCLIP", "encoders before alignment", "raw spectra")
MAPS = ("PCA", "UMAP")
EXTENDED = "extended mock"  # the other side of MockStarCLIP: NIRSpec with all five corruptions
_SAMPLE = 4000  # vectors that the axes of a map are found from
_UMAP_DIMENSIONS = 50
_SHOWN = tuple(LABELS.index(name) for name in ("Teff", "logg", "Fe", "C", "N", "O", "Mg", "Al", "Si", "Ca"))


@dataclass(frozen=True, eq=False)
class Side:
    """One kind of spectrum in a space; row i of everything is star i of the data set.

    flux : (n, n_pix) the spectra; z : (n, dim) float32 their vectors, of any length
    encoder : what makes vectors of new spectra; None if the spectra are the vectors
    """

    title: str
    instrument: Instrument
    flux: np.ndarray
    z: np.ndarray
    encoder: Encoder | None

    @cached_property
    def length(self) -> np.ndarray:
        """(n,) Euclidean length of the vectors."""
        return np.sqrt(np.einsum("ij,ij->i", self.z, self.z))


@dataclass(frozen=True, eq=False)
class Query:
    """A spectrum to search with.

    row : of its star in the data set, or None for an observed spectrum; side : title of its side
    z : (dim,) vector; flux : (n_pix,) spectrum; labels : (20,) of the catalogue, or read by the linear probe
    """

    name: str
    row: int | None
    side: str
    z: np.ndarray
    flux: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """The neighbours of a query, most similar first: row and side of each, and a table of what is known about them."""

    row: np.ndarray
    side: list[str]
    table: pd.DataFrame


class Gallery:
    """The stars of a run in every space, opened when first asked for, and observed spectra among them.

    run : a run whose notebooks 01 to 06 have been run; raises DataError naming what is missing
    """

    def __init__(self, run: Run):
        self.run, self.data = run, run.data()
        self._embeddings = run.need("embeddings.h5")
        self.models = {name: run.model(f"{name}.ckpt") for name in ("nirspec", "apogee", "starclip", "mockstarclip")}
        self._spaces: dict[str, dict[str, Side]] = {}
        self._maps: dict[tuple[str, str], tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {}
        self._row = {star: row for row, star in enumerate(self.data.star_id)}
        self.observed: list[PreparedSpectrum] = []
        self.add(read_folder(run.root, run.params.observed))

    def row(self, star_id: str) -> int:
        """The row of a star; raises DataError with the most similar identifiers if there is none."""
        if star_id in self._row:
            return self._row[star_id]
        close = difflib.get_close_matches(star_id, self.data.star_id.tolist(), 3, 0.5)
        hint = f"; similar: {', '.join(close)}" if close else f"; identifiers look like {self.data.star_id[0]}"
        raise DataError(f"no star '{star_id}' in this run{hint}")

    def rows(self, test_only: bool) -> np.ndarray:
        """Rows of the test stars, which no model has seen, or of all stars."""
        return self.data.rows("test") if test_only else np.arange(self.data.n_stars)

    @cached_property
    def _mock_flux(self) -> np.ndarray:
        return self._views(mock(self.run.params.corruption))

    @cached_property
    def _extended_flux(self) -> np.ndarray:
        return self._views(extended_corruption(self.data, self.run.params))

    def _views(self, corruption: Callable) -> np.ndarray:
        """View 0 of every star, the one that the embeddings file has as well."""
        out = np.empty_like(self.data.nirspec.flux)
        rows, seed = np.arange(self.data.n_stars), self.run.params.seed
        for place, _, batch in corrupted_views(self.data.nirspec.flux, rows, corruption, 1, seed):
            out[place] = batch.numpy()
        return out

    def space(self, name: str) -> dict[str, Side]:
        """The two sides of a space (`SPACES`), by title."""
        if name not in self._spaces:
            self._spaces[name] = {side.title: side for side in self._open(name)}
        return self._spaces[name]

    def _open(self, name: str) -> list[Side]:
        if name == "raw spectra":  # APOGEE cropped to NIRSpec's length, as in the paper's baseline
            start = APOGEE.chips[0][0]
            cropped = self.data.apogee.flux[:, start : start + NIRSPEC.n_pix]
            return [
                Side(NIRSPEC.title, NIRSPEC, self._mock_flux, self._mock_flux, None),
                Side(APOGEE.title, APOGEE, self.data.apogee.flux, cropped, None),
            ]
        if name == "MockStarCLIP":
            parts = [
                (NIRSPEC.title, NIRSPEC, self._mock_flux, self.models["mockstarclip"].encoders["mock"]),
                (EXTENDED, NIRSPEC, self._extended_flux, self.models["mockstarclip"].encoders["extended"]),
            ]
        else:
            before = name == "encoders before alignment"
            parts = [
                (instrument.title, instrument, flux, model.encoders[instrument.name])
                for instrument, flux, model in (
                    (NIRSPEC, self._mock_flux, self.models["nirspec" if before else "starclip"]),
                    (APOGEE, self.data.apogee.flux, self.models["apogee" if before else "starclip"]),
                )
            ]
        rows = np.arange(self.data.n_stars)
        return [Side(*part[:3], run_encoder(part[3], part[2], rows)[:, 0], part[3]) for part in parts]

    def star(self, space: str, side: str, row: int) -> Query:
        """The spectrum of a star of the data set as a query; raises DataError if the space has no such side."""
        sides = self.space(space)
        if side not in sides:
            raise DataError(f"the space '{space}' has no side '{side}'; its sides are {' and '.join(sides)}")
        found = sides[side]
        name = str(self.data.star_id[row])
        return Query(name, row, side, found.z[row], found.flux[row], self.data.labels[row].astype(np.float64))

    def star_with(self, labels: dict[str, float], rows: np.ndarray) -> int:
        """The row among `rows` whose labels are nearest to the given ones (in units of the stars' spread)."""
        columns = [LABELS.index(name) for name in labels]
        known = self.data.labels[rows][:, columns]
        distance = (known - np.array(list(labels.values()))) / self.data.labels[:, columns].std(axis=0)
        return int(rows[(distance**2).sum(axis=1).argmin()])

    def add(self, spectra: Sequence[ObservedSpectrum]) -> dict[str, str]:
        """Prepare observed spectra and keep the good ones; returns name and verdict of each."""
        if not spectra:
            return {}
        taken = {star.name for star in self.observed}
        new = [spectrum for spectrum in spectra if spectrum.name not in taken]
        prepared = prepare_all(new, self.data, self.run.params)
        self.observed += prepared.stars
        verdict = dict.fromkeys(taken & {s.name for s in spectra}, "is already here")
        return verdict | prepared.set_aside | {star.name: "good" for star in prepared.stars}

    def add_file(self, name: str, content: bytes) -> dict[str, str]:
        """The same with an uploaded FITS file; raises DataError if it is none that we read."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            path.write_bytes(content)
            return self.add(read_observed(path, self.run.params.observed))

    def observation(self, space: str, number: int) -> Query:
        """Observed spectrum number `number` as a query.  In MockStarCLIP real spectra are on the extended side."""
        star = self.observed[number]
        title = EXTENDED if space == "MockStarCLIP" else NIRSPEC.title
        flux = model_input(star, star.flux[None], self.data, self.run.params)
        encoder = self.space(space)[title].encoder
        z = flux[0] if encoder is None else run_encoder(encoder, flux, np.arange(1))[0, 0]
        own = run_encoder(self.models["starclip"].encoders["nirspec"], flux, np.arange(1))[:, 0]
        return Query(star.name, None, title, z, flux[0], self._probe.predict(own.astype(np.float64))[0])

    @cached_property
    def _probe(self) -> LinearRegression:
        known = read_embeddings(self._embeddings, "starclip/nirspec").take("train", "val")
        return fit_probe(known, self.data.star_id, self.data.labels)

    def search(self, space: str, query: Query, k: int, sides: Sequence[str], rows: np.ndarray) -> Found:
        """The k most similar spectra of each given side among the stars `rows`, the query itself left out."""
        parts = []
        for title in sides:
            side = self.space(space)[title]
            cosine = (side.z @ query.z) / (side.length * np.linalg.norm(query.z))
            if title == query.side and query.row is not None:
                cosine[query.row] = -np.inf
            cosine = cosine[rows]
            if not 1 <= k < len(cosine):
                raise DataError(f"k must be between 1 and {len(cosine) - 1}, not {k}")
            best = np.argpartition(-cosine, k)[:k]
            best = best[np.argsort(-cosine[best], kind="stable")]
            parts.append((rows[best], cosine[best], [title] * k))
        row = np.concatenate([part[0] for part in parts])
        cosine = np.concatenate([part[1] for part in parts])
        side = np.concatenate([part[2] for part in parts])
        order = np.argsort(-cosine, kind="stable")
        return Found(row[order], side[order].tolist(), self._table(query, row[order], side[order], cosine[order]))

    def _table(self, query: Query, row: np.ndarray, side: np.ndarray, cosine: np.ndarray) -> pd.DataFrame:
        same = [" (itself)" if r == query.row else "" for r in row]
        columns: dict[str, object] = {
            "star": [f"{star}{note}" for star, note in zip(self.data.star_id[row], same, strict=True)],
            "spectrum": side,
            "cosine": cosine.round(4).astype(float),
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
        """Where the stars are on the map 'PCA' or 'UMAP' of a space: (n, 2) for each side.

        A UMAP is made when it is first asked for, which takes minutes with thousands of stars.
        """
        return self._map(space, kind)[0]

    def place(self, space: str, kind: str, z: np.ndarray) -> np.ndarray:
        """Where a new vector (dim,) is on that map: (2,)."""
        return self._map(space, kind)[1](_unit(z[None]))[0]

    def _map(self, space: str, kind: str) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
        if (space, kind) not in self._maps:
            sides = self.space(space)
            vectors = {title: _unit(side.z) for title, side in sides.items()}
            few = np.linspace(0, self.data.n_stars - 1, min(self.data.n_stars, _SAMPLE // 2)).astype(int)
            sample, seed = np.concatenate([z[few] for z in vectors.values()]), self.run.params.seed
            if kind == "PCA":
                transform = PCA(2, svd_solver="randomized", random_state=seed).fit(sample).transform
                places = {title: transform(z) for title, z in vectors.items()}
            else:
                transform, places = self._umap(vectors, sample)
            self._maps[space, kind] = places, transform
        return self._maps[space, kind]

    def _umap(
        self, vectors: dict[str, np.ndarray], sample: np.ndarray
    ) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, np.ndarray]]:
        settings, seed, reduced = self.run.params.atlas, self.run.params.seed, list(vectors.values())
        if wide := sample.shape[1] > _UMAP_DIMENSIONS:
            svd = TruncatedSVD(_UMAP_DIMENSIONS, random_state=seed).fit(sample)  # without centring: it keeps cosines
            reduced = [svd.transform(z) for z in reduced]
        umap = fit_umap(np.concatenate(reduced), settings.n_neighbours, settings.min_distance, seed)
        return (
            lambda z: umap.transform(svd.transform(z) if wide else z),
            dict(zip(vectors, np.split(umap.embedding_, len(vectors)), strict=True)),
        )


def _unit(z: np.ndarray) -> np.ndarray:
    return z / np.linalg.norm(z, axis=1, keepdims=True)
