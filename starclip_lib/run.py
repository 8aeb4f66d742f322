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
from starclip_lib.metrics.space import Space
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import Embeddings, read_embeddings
from starclip_lib.observed.analysis import analyse, model_input, prepare_all, table_of
from starclip_lib.observed.measuring import measure, measured_table
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.settings.params import Params, load_params, merged, params_from_mapping
from starclip_lib.stages import SETTINGS, STAGES, Books
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import as_path, atomic_path, locked, project_root

if TYPE_CHECKING:  # drawing is for those who draw
    import plotly.graph_objects as go
    from matplotlib.figure import Figure


def open_run(what: str | Path, overrides: dict[str, Any] | None = None) -> Run:
    """Open a run: by its name, its parameter file, or the folder that it has left under `runs`.

    Parameters
    ----------
    what : str or Path
        Such as 'quick', 'params/quick.yaml' or 'runs/quick'.  A name is looked up in the project around the working
        directory, or in the one that the package was installed from.
    overrides : dict, optional
        Settings to change, a (nested) dict of the shape of a parameter file.

    Returns
    -------
    Run

    Raises
    ------
    ConfigError or DataError
        In one line, if there is no such run or something in its settings is wrong.
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
    raise DataError(f"no run '{what}': {root / 'params'} has {known}, and {root / 'runs'} has no folder of that name")


def _opened(folder: Path, overrides: dict[str, Any] | None) -> Run:
    """The run that has left a folder."""
    place, file = folder.resolve(), folder / SETTINGS
    if place.parent.name != "runs" or not file.is_file():
        raise DataError(f"{folder} is not the folder of a run: it has no {SETTINGS}; give one such as runs/quick")
    settings = {**read_json(file, dict[str, Any]), "name": place.name}  # it may have been renamed or copied
    return Run(params_from_mapping(merged(settings, overrides or {}), str(file)), place.parent.parent, None, overrides)


class Run(Books):
    """The folders runs/NAME (`folder`) and reports/NAME (`report`) of one set of parameters.

    Parameters
    ----------
    params : Params
    root : Path
        Of the project.
    params_file : Path, optional
        Where the parameters came from; None if they were made in memory.
    overrides : dict, optional
        What was changed in them.
    """

    def __init__(
        self, params: Params, root: Path, params_file: Path | None = None, overrides: dict[str, Any] | None = None
    ):
        super().__init__(params, root)
        self.params_file, self.overrides = params_file, overrides or {}
        self.report = root / "reports" / params.name

    @classmethod
    def open(cls, params_file: str | Path, overrides: dict[str, Any] | None = None) -> Run:
        """Read a parameter file and find the project around it or around the working directory.

        Parameters
        ----------
        params_file : str or Path
        overrides : dict, optional
            Settings to change, a (nested) dict of the shape of the file.

        Returns
        -------
        Run
        """
        params, path = load_params(params_file, overrides), Path(params_file)
        return cls(params, project_root(Path.cwd(), path.parent), path.resolve(), overrides)

    def __repr__(self) -> str:
        there = [file for file in STAGES if self.is_current(file)]
        return f"Run {self.params.name} in {self.root}: {', '.join(there) or 'nothing'} up to date"

    def train(self, say: Callable[[str], None] = print) -> None:
        """Make every file that is not up to date, from the data set to the embeddings, without the notebooks."""
        with locked(self.folder):
            for file in STAGES:
                say(f"{file}: up to date" if self.is_current(file) else f"{file} ...")
                self.build(file)

    def model(self, name: str) -> Model:
        """A trained model of the run, on the CPU.

        Parameters
        ----------
        name : str
            Such as 'starclip'.

        Returns
        -------
        Model
        """
        return Model.load(self.need(f"{name}.ckpt"))

    def embeddings(self, name: str) -> Embeddings:
        """Of stars: 'starclip/' and 'nirspec' or 'apogee', 'mockstarclip/' and 'mock' or 'extended', 'fit/' and any."""
        return read_embeddings(self.need("fit.h5" if name.startswith("fit/") else "embeddings.h5"), name)

    @cached_property
    def space(self) -> Space:
        """StarCLIP's space with the run's stars in it."""
        return self._space("starclip")

    @cached_property
    def fit_space(self) -> Space:
        """The run's stars as fits of the emulator see them, with posteriors of their labels."""
        return self._space("fit")

    def _space(self, name: str) -> Space:
        nirspec, apogee = (self.embeddings(f"{name}/{side}") for side in ("nirspec", "apogee"))
        return Space(self.data, self.params, self.model(name).encoders["nirspec"], nirspec, apogee)

    def neighbours(self, spectrum: Star | ObservedSpectrum | np.ndarray, k: int = 5, by: str = "starclip") -> QTable:
        """The APOGEE stars nearest to a NIRSpec spectrum, best first.

        Parameters
        ----------
        spectrum : Star, ObservedSpectrum or ndarray, shape (8192,)
            A star of the data set (its first mock observation is used), an observed spectrum, or flux over the
            continuum on the NIRSpec grid, 1 where there is no data.
        k : int
        by : {'starclip', 'fit'}
            Whose embeddings are compared: those of the aligned networks, or posteriors of fits of the emulator.

        Returns
        -------
        QTable
            Identifier, cosine, part of the data set, and the catalogue's labels with units.  Of fits, rows are
            sorted by `ln_B`, the log Bayes factor of "same star" against "different stars", and `match` is "no match"
            where that is negative; of networks they are sorted by cosine.

        Raises
        ------
        DataError
            Saying why, for an observed spectrum that cannot be used.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise DataError(f"k must be at least 1, not {k!r:.40}")
        if by not in ("starclip", "fit"):
            raise DataError(f"by must be 'starclip' or 'fit', not {by!r:.40}")
        space = self.space if by == "starclip" else self.fit_space
        z, posterior = self._point(spectrum, space)
        columns: dict[str, Any] = {}
        if posterior is None:
            found, cosine = space.nearest(z, k)
        else:
            found, cosine, factor = space.by_posterior(z, k, posterior)
            columns = {
                "ln_B": factor[0].round(2),
                "match": np.where(factor[0] < 0, "no match", "possible"),
            }
        rows = [self.data.row(star) for star in found[0]]
        columns |= {"cosine": cosine[0].round(4), "part": [SPLITS[split] for split in self.data.split[rows]]}
        return label_table(self.data.labels[rows], star_id=found[0], **columns)

    def _point(
        self, spectrum: Star | ObservedSpectrum | np.ndarray, space: Space
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A spectrum's vector (1, dim) and its posterior (1, 230) if the encoder has some."""
        if isinstance(spectrum, Star):
            z, posterior = space.views(self._own(spectrum))
            return z[:1], None if posterior is None else posterior[:1]
        if isinstance(spectrum, ObservedSpectrum):
            prepared = prepare_all([spectrum], self.data, self.params)
            if not prepared.stars:
                raise DataError(f"{spectrum.name} cannot be used: {prepared.set_aside[spectrum.name]}")
            flux = model_input(prepared.stars[0], prepared.stars[0].flux[None], self.params)
        else:
            flux = on_nirspec_grid(spectrum)
        if len(flux) != 1:
            raise DataError(f"`neighbours` takes one spectrum at a time; got {len(flux)}")
        return space.point(flux)

    def _own(self, star: Star) -> str:
        if np.array_equal(self.data.star(star.star_id).labels, star.labels):
            return star.star_id
        raise DataError(f"star {star.star_id} is one of another data set; take it from this run's: run.data.star")

    def labels(self, spectra: Star | ObservedSpectrum | Sequence[ObservedSpectrum] | np.ndarray) -> QTable:
        """Labels of NIRSpec spectra, with units and uncertainties.

        Parameters
        ----------
        spectra : Star, ObservedSpectrum, sequence of ObservedSpectrum or ndarray, shape (n, 8192)
            Observed spectra (they are measured as `starclip observe` does, without the run's models), a star of the
            data set (all its mock observations), or simulated flux as the models were trained with.

        Returns
        -------
        QTable
            `Teff`, `sigma_Teff`, ...; for observed spectra the rows of `measured_table`, for others what the encoder
            reads, or the linear probe if the encoder does not know its errors, with a `remark` if there is one.
        """
        if isinstance(spectra, Star):
            found = self.space.measure_star(self._own(spectra))
            return label_table(*found, star_id=[spectra.star_id], part=[spectra.split])
        if isinstance(spectra, np.ndarray):
            labels, sigma, remarks = self.space.measure(on_nirspec_grid(spectra))
            return label_table(labels, sigma, remark=remarks if any(remarks) else None)
        return measured_table(measure(self._observed(spectra)))

    def network_labels(self, spectra: ObservedSpectrum | Sequence[ObservedSpectrum]) -> QTable:
        """What the run's networks, trained on simulations, read off observed spectra: to compare with `labels`."""
        prepared = prepare_all(self._observed(spectra), self.data, self.params)
        table = table_of(analyse(prepared.stars, self.space, self.params), prepared.set_aside)
        table["labels_from"] = "networks trained on simulations"
        return table

    @staticmethod
    def _observed(spectra: ObservedSpectrum | Sequence[ObservedSpectrum]) -> list[ObservedSpectrum]:
        given = list(spectra) if isinstance(spectra, Sequence) else [spectra]
        if not all(isinstance(one, ObservedSpectrum) for one in given):
            raise DataError("labels are read off a star of the data set, observed spectra, or one array of fluxes")
        return given

    def save_metrics(self, section: str, content: dict[str, Any]) -> None:
        """Keep a section of metrics.json until the report is assembled."""
        write_json(self.folder / "metrics" / f"{section}.json", content)

    def metrics(self, without: Collection[str] = ()) -> dict[str, Any]:
        """All sections saved so far but those `without`; 'evaluation.benchmark' becomes a part of 'evaluation'."""
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
        """Save an interactive figure as a page that needs no Python and no network.

        Parameters
        ----------
        name : str
        figure : plotly.graph_objects.Figure

        Returns
        -------
        Path
            That of the file.
        """
        path = self.report / f"{name}.html"
        with atomic_path(path) as part:
            figure.write_html(part, include_plotlyjs=True)
        return path
