"""One run: its folders, its data, models, neighbours, labels and metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable

from starclip_lib.data.spectra import SPLITS
from starclip_lib.data.spectrum_set import on_nirspec_grid
from starclip_lib.data.star import Star
from starclip_lib.data.tables import label_table
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embedding_index import EmbeddingIndex
from starclip_lib.models.embeddings import Embeddings, read_embeddings
from starclip_lib.observed.analysis import analyse, model_input, point_of_fit, prepare_all, table_of
from starclip_lib.observed.measured import Measured
from starclip_lib.observed.measurements import measured_table
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.settings.params import Params, load_params, merged, params_from_mapping
from starclip_lib.stages import SETTINGS, STAGES, RunStages
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import as_path, atomic_path, locked, project_root

if TYPE_CHECKING:  # plotting packages are loaded only where something is drawn
    import plotly.graph_objects as go
    from matplotlib.figure import Figure


def open_run(what: str | Path, overrides: dict[str, Any] | None = None) -> Run:
    """Open a run: by its name, its parameter file, or its folder under `runs`.

    Parameters
    ----------
    what : str or Path
        Such as 'quick', 'params/quick.yaml' or 'runs/quick'.  A name is looked up in the project around the working
        directory, or in the one that the package was installed from.
    overrides : dict, optional
        Settings to change: a (nested) dict with the keys of a parameter file.

    Raises
    ------
    ConfigError or DataError
        If the run does not exist, or one of its settings is wrong.
    """
    path = as_path(what, "a run")
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return Run.open(path, overrides)
    if len(path.parts) > 1 or (path / SETTINGS).is_file():
        return _opened(path, overrides)
    root = project_root(Path.cwd(), Path(__file__).parent)
    file = root / "params" / f"{what}.yaml"
    if file.is_file():
        return Run(load_params(file, overrides), root, file, overrides)
    if (root / "runs" / what).is_dir():
        return _opened(root / "runs" / what, overrides)
    known = ", ".join(sorted(file.stem for file in (root / "params").glob("*.yaml")))
    raise DataError(f"unknown run '{what}': {root / 'params'} has {known}; {root / 'runs'} has no folder of that name")


def _opened(folder: Path, overrides: dict[str, Any] | None) -> Run:
    """The run that made a folder."""
    place, file = folder.resolve(), folder / SETTINGS
    if place.parent.name != "runs" or not file.is_file():
        raise DataError(f"{folder} is not the folder of a run: it has no {SETTINGS}; give one such as runs/quick")
    settings = {**read_json(file, dict[str, Any]), "name": place.name}  # it may have been renamed or copied
    return Run(params_from_mapping(merged(settings, overrides or {}), str(file)), place.parent.parent, None, overrides)


class Run(RunStages):
    """The folders runs/NAME (`folder`) and reports/NAME (`report`) of one set of parameters.

    Parameters
    ----------
    root : Path
        Of the project.
    params_file : Path, optional
        The file of the parameters; None if they were made in memory.
    overrides : dict, optional
        Changes to the file.
    """

    def __init__(
        self, params: Params, root: Path, params_file: Path | None = None, overrides: dict[str, Any] | None = None
    ):
        super().__init__(params, root)
        self.params_file, self.overrides = params_file, overrides or {}
        self.report = root / "reports" / params.name

    @classmethod
    def open(cls, params_file: str | Path, overrides: dict[str, Any] | None = None) -> Run:
        """The run of a parameter file, with changes to it, in the project around the working directory or the file."""
        params, path = load_params(params_file, overrides), Path(params_file)
        return cls(params, project_root(Path.cwd(), path.parent), path.resolve(), overrides)

    def __repr__(self) -> str:
        there = [file for file in STAGES if self.is_current(file)]
        return f"Run {self.params.name} in {self.root}: {', '.join(there) or 'nothing'} up to date"

    def train(self, callback: Callable[[str], None] = print) -> None:
        """Make every file that is not up to date, from the data set to the embeddings, without the notebooks."""
        with locked(self.folder):
            for file in STAGES:
                callback(f"{file}: up to date" if self.is_current(file) else f"{file} ...")
                self.build(file)

    def model(self, name: str) -> Model:
        """A trained model of the run, such as 'starclip', on the CPU."""
        return Model.load(self.need(f"{name}.ckpt"))

    def embeddings(self, name: str) -> Embeddings:
        """Embeddings by name: starclip/ with nirspec or apogee, mockstarclip/ with mock or extended, fit/ with any."""
        return read_embeddings(self.need("fit.h5" if name.startswith("fit/") else "embeddings.h5"), name)

    @cached_property
    def space(self) -> EmbeddingIndex:
        """StarCLIP's space with the run's stars in it."""
        return self._space("starclip")

    @cached_property
    def fit_space(self) -> EmbeddingIndex:
        """The run's stars as fits of the emulator see them, with posteriors of their labels."""
        return self._space("fit")

    def _space(self, name: str) -> EmbeddingIndex:
        nirspec, apogee = (self.embeddings(f"{name}/{side}") for side in ("nirspec", "apogee"))
        return EmbeddingIndex(self.data, self.params, self.model(name).encoders["nirspec"], nirspec, apogee)

    def neighbours(
        self, spectrum: str | Star | ObservedSpectrum | np.ndarray, k: int = 5, by: str = "starclip"
    ) -> QTable:
        """The APOGEE stars nearest to a NIRSpec spectrum, best first.

        Parameters
        ----------
        spectrum : str, Star, ObservedSpectrum or ndarray, shape (8192,)
            A star of the data set or its identifier (its first mock observation is used), an observed spectrum, or flux
            over the continuum on the NIRSpec grid, 1 where there is no data.
        by : {'starclip', 'fit'}
            Whose embeddings are compared: those of the aligned networks, or posteriors of fits of the emulator.

        Returns
        -------
        QTable
            Identifier, cosine, part of the data set, and the catalogue's labels with units. Of fits, rows are sorted by
            `ln_B`, the log Bayes factor of "same star" against "different stars", and `match` is "no match" where that
            is negative; of networks they are sorted by cosine. For a star of the data set `match` is "itself" in its
            own row. The posterior of an observed spectrum is that of `starclip observe`.

        Raises
        ------
        DataError
            For an unknown identifier, or an observed spectrum that cannot be used.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k must be at least 1, not {k!r:.40}")
        if by not in ("starclip", "fit"):
            raise DataError(f"by must be 'starclip' or 'fit', not {by!r:.40}")
        if isinstance(spectrum, list | tuple) and len(spectrum) == 1:
            (spectrum,) = spectrum
        if spectrum is None or isinstance(spectrum, int | float):
            raise DataError(f"{spectrum!r:.40} is not a star: give an identifier such as {self.data.star_id[0]!s:.40}")
        space, star = self.space if by == "starclip" else self.fit_space, self._star(spectrum)
        z, posterior = self._point(star or spectrum, space)
        columns: dict[str, Any] = {}
        if posterior is None:
            found, cosine = space.nearest(z, k)
            match = np.full(found.shape[1], "", "<U8")
        else:
            found, cosine, factor = space.by_posterior(z, k, posterior)
            columns["ln_B"] = factor[0].round(2)
            match = np.where(factor[0] < 0, "no match", "possible")
        if star is not None:
            match[found[0] == star.star_id] = "itself"
        if columns or star is not None:
            columns["match"] = match
        rows = [self.data.row(name) for name in found[0]]
        columns |= {"cosine": cosine[0].round(4), "part": [SPLITS[split] for split in self.data.split[rows]]}
        return label_table(self.data.labels[rows], star_id=found[0], **columns)

    def _star(self, given: object) -> Star | None:
        """The star of the data set that an identifier or a star stands for; None for spectra."""
        if isinstance(given, str):
            try:
                return self.data.star(given)
            except DataError as error:
                if not as_path(given, "a star").exists():
                    raise
                raise DataError(f"{error}. For a file or folder give starclip.read_spectra({given!r})") from None
        if not isinstance(given, Star):
            return None
        if np.array_equal(self.data.star(given.star_id).labels, given.labels):
            return given
        raise DataError(f"star {given.star_id} is one of another data set; take it from this run's: run.data.star")

    def _point(self, spectrum: object, space: EmbeddingIndex) -> tuple[np.ndarray, np.ndarray | None]:
        """A spectrum's vector (1, dim) and its posterior (1, 230) if the encoder gives one."""
        if isinstance(spectrum, Star):
            z, posterior = space.views(spectrum.star_id)
            return z[:1], None if posterior is None else posterior[:1]
        if isinstance(spectrum, Measured):
            raise DataError(f"{spectrum.name} is a measurement: give the spectrum it was made from")
        if isinstance(spectrum, ObservedSpectrum):
            prepared = prepare_all([spectrum], self.data, self.params)
            if not prepared.stars:
                raise DataError(f"{spectrum.name} cannot be used: {prepared.set_aside[spectrum.name]}")
            if space.index.posterior is not None:
                (one,) = measure([spectrum])
                if one.set_aside:
                    raise DataError(f"{spectrum.name} cannot be used: {one.reason}")
                return point_of_fit(space.encoder, one)
            flux = model_input(prepared.stars[0], prepared.stars[0].flux[None], self.params)
        elif isinstance(spectrum, list | tuple) and any(isinstance(one, ObservedSpectrum | Star) for one in spectrum):
            raise DataError(f"`neighbours` takes one spectrum at a time; got {len(spectrum)}")
        else:
            flux = on_nirspec_grid(spectrum)  # type: ignore[arg-type]  # which raises DataError for other types
        if len(flux) != 1:
            raise DataError(f"`neighbours` takes one spectrum at a time; got {len(flux)}")
        return space.point(flux)

    def labels(self, spectra: str | Star | ObservedSpectrum | Sequence[Any] | np.ndarray) -> QTable:
        """Labels of NIRSpec spectra, with units and uncertainties.

        Parameters
        ----------
        spectra : str, Star, ObservedSpectrum, list of these, or ndarray, shape (n, 8192)
            Stars of the data set or their identifiers (all mock observations of each), observed spectra (they are
            measured as `starclip observe` does, without the run's models), or flux as the models were trained with.

        Returns
        -------
        QTable
            `Teff`, `sigma_Teff`, ...; for observed spectra the rows of `measured_table`, for others the posterior of
            StarCLIP's NIRSpec encoder, with a `warning` if there is one.

        Raises
        ------
        DataError
            For an unknown identifier, or an argument of another kind.
        """
        given = spectra if isinstance(spectra, list | tuple) else [spectra]
        if stars := [star for star in map(self._star, given) if star is not None]:
            if len(stars) < len(given):
                raise DataError("give stars of the data set or observed spectra, not both at once")
            found = [self.space.measure_star(star.star_id) for star in stars]
            labels, sigma = (np.concatenate(part) for part in zip(*found, strict=True))
            return label_table(labels, sigma, star_id=[s.star_id for s in stars], part=[s.split for s in stars])
        if isinstance(spectra, np.ndarray):
            labels, sigma, warnings = self.space.measure(on_nirspec_grid(spectra))
            return label_table(labels, sigma, warning=warnings if any(warnings) else None)
        return measured_table(measure(self._observed(spectra)))

    def network_labels(self, spectra: ObservedSpectrum | Sequence[ObservedSpectrum]) -> QTable:
        """Labels of observed spectra by the run's networks, trained on simulations: to compare with `labels`."""
        prepared = prepare_all(self._observed(spectra), self.data, self.params)
        table = table_of(analyse(prepared.stars, self.space, self.params), prepared.set_aside)
        table["labels_from"] = "networks trained on simulations"
        return table

    @staticmethod
    def _observed(spectra: Any) -> list[ObservedSpectrum]:
        given = list(spectra) if isinstance(spectra, Sequence) else [spectra]
        if not given:
            raise DataError("the list of spectra is empty; starclip.read_spectra reads some")
        if not all(isinstance(one, ObservedSpectrum) for one in given):
            kind = type(next(one for one in given if not isinstance(one, ObservedSpectrum))).__name__
            raise DataError(f"expected observed spectra, as starclip.read_spectra gives, not {kind}")
        return given

    def save_metrics(self, section: str, content: dict[str, Any]) -> None:
        """Keep a section of metrics.json until the report is assembled."""
        write_json(self.folder / "metrics" / f"{section}.json", content)

    def metrics(self, without: Collection[str] = ()) -> dict[str, Any]:
        """All sections saved so far except `without`; 'evaluation.benchmark' becomes a part of 'evaluation'."""
        found: dict[str, Any] = {}
        for path in sorted((self.folder / "metrics").glob("*.json")):
            if path.stem in without:
                continue
            section, _, part = path.stem.partition(".")
            content = read_json(path, dict[str, Any], damaged="run the notebook that makes it again")
            if part:
                found.setdefault(section, {})[part] = content
            else:
                found[section] = content
        return found

    def save_figure(self, name: str, figure: Figure) -> Figure:
        """Save a figure of the report as NAME.png; returns the figure, so that a cell may end with this call."""
        with atomic_path(self.report / "figures" / f"{name}.png") as part:
            figure.savefig(part)
        return figure

    def save_page(self, name: str, figure: go.Figure) -> Path:
        """Save an interactive figure as a page that needs no Python and no network; returns its path."""
        path = self.report / f"{name}.html"
        with atomic_path(path) as part:
            figure.write_html(part, include_plotlyjs=True)
        return path
