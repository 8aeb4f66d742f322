"""One run: where the file of each stage is, whether it is up to date, its data, models and metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import QTable

from starclip_lib.data.spectra import SPLITS, PairedSpectra, Star, on_nirspec_grid
from starclip_lib.data.tables import label_table
from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path, read_json, write_json
from starclip_lib.metrics.space import Space
from starclip_lib.models.checkpoint import Model, resume_file
from starclip_lib.models.embeddings import Embeddings, read_embeddings
from starclip_lib.observed.analysis import analyse, model_input, prepare_all, table_of
from starclip_lib.observed.preparation import ObservedSpectrum
from starclip_lib.settings.params import Params, load_params, merged, params_from_mapping
from starclip_lib.stages import DATA, STAGES
from starclip_lib.surveys.curation import data_file
from starclip_lib.training.devices import agreed, pick_device, rank, session, wait_for_all
from starclip_lib.training.loop import Watch

_SETTINGS = "settings.json"  # in a run's folder: the settings it was made with

if TYPE_CHECKING:  # drawing is for those who draw
    import plotly.graph_objects as go
    from matplotlib.figure import Figure


def project_root(*starts: Path) -> Path:
    """The nearest folder at or above one of `starts` that holds `notebooks` and `params`."""
    for start in starts:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise DataError(
        f"no project found at or above {' or '.join(str(start) for start in starts)}: "
        "run from inside a clone of the project, which has the folders notebooks and params"
    )


def open_run(what: str | Path, overrides: dict[str, Any] | None = None) -> Run:
    """Open a run: by its name, its parameter file, or the folder that it has left under `runs`.

    what : such as 'quick', 'params/quick.yaml' or 'somewhere/runs/quick'.  A name is looked up in the project around
        the working directory, or in the one that the package was installed from.
    overrides : settings to change, a (nested) dict of the shape of a parameter file
    Raises ConfigError or DataError, in one line, if there is no such run or something in its settings is wrong.
    """
    path = Path(what)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return Run.open(path, overrides)
    if path.is_dir() or len(path.parts) > 1:
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
    file = folder / _SETTINGS
    try:
        params = params_from_mapping(merged(read_json(file), overrides or {}), str(file))
    except FileNotFoundError:
        raise DataError(f"{folder} is no folder of a run: it has no {_SETTINGS}; give one such as runs/quick") from None
    root = folder.resolve().parent.parent
    return Run(params, root, None, overrides)


class Run:
    """The folders runs/NAME and reports/NAME of one set of parameters.

    params_file, overrides : where the parameters came from; None and nothing if they were made in memory
    """

    def __init__(
        self, params: Params, root: Path, params_file: Path | None = None, overrides: dict[str, Any] | None = None
    ):
        self.params, self.root = params, root
        self.params_file, self.overrides = params_file, overrides or {}
        self.folder, self.report = root / "runs" / params.name, root / "reports" / params.name

    @classmethod
    def open(cls, params_file: str | Path, overrides: dict[str, Any] | None = None) -> Run:
        """Read a parameter file and find the project around it or around the working directory."""
        params, path = load_params(params_file, overrides), Path(params_file)
        return cls(params, project_root(Path.cwd(), path.parent), path.resolve(), overrides)

    def __repr__(self) -> str:
        there = [file for file in STAGES if self.is_current(file)]
        return f"Run {self.params.name} in {self.root}: {', '.join(there) or 'nothing'} up to date"

    def path(self, file: str) -> Path:
        """Where a stage's file is, or would be."""
        return self.folder / file

    def identity(self, file: str) -> str:
        """Digest of all that determines a stage's file: parameters, code, and the identities of its inputs."""
        stage = STAGES[file]
        content = self.params.model_dump(mode="json", include=set(stage.sections))
        inputs: list[str | int] = [self.identity(name) for name in stage.inputs]
        if file == DATA and self.params.data.file:
            state = data_file(self.params.data, self.root).stat()
            inputs = [state.st_size, state.st_mtime_ns]
        return digest([file, content, inputs, stage.code_digest()])

    def is_current(self, file: str) -> bool:
        """True if the file is there and was made with the present parameters, code and inputs."""
        record = self._records().get(file)
        path = self.path(file)
        return path.is_file() and record == {"identity": self.identity(file), "bytes": path.stat().st_size}

    def build(self, file: str, watch: Watch | None = None) -> Path:
        """Make a stage's file unless it is up to date; returns its path.

        A training that was stopped goes on from its checkpoint if nothing it depends on has changed.

        watch : called after every epoch of a training
        Raises DataError, saying which notebook to run, if an input is missing or outdated.
        """
        path = self.path(file)
        if self.is_current(file):
            return path
        for name in STAGES[file].inputs:
            self.need(name)
        write_json(self.folder / _SETTINGS, self.params.model_dump(mode="json"))
        begun = {"begun": self.identity(file)}
        if self._records().get(file) != begun:
            resume_file(path).unlink(missing_ok=True)
            self._record(file, begun)
        self._make(file, watch)
        self._record(file, {"identity": self.identity(file), "bytes": path.stat().st_size})
        if file == DATA:
            self.__dict__.pop("data", None)
        return path

    def _make(self, file: str, watch: Watch | None = None) -> None:
        stage = STAGES[file]
        source = self.data if stage.inputs else self.root
        models = (self.path(name) for name in stage.inputs if name != DATA)
        stage.make(self.path(file), source, self.params, *models, watch=watch)

    def train(self, say: Callable[[str], None] = print) -> None:
        """Make every stage's file that is not up to date, from the data set to the embeddings, without the notebooks.

        Under `torchrun` the processes share every batch; the first of them decides what is needed, keeps the books and
        writes.  Notebooks and `starclip run` find the files and go on from there.
        """
        with session(pick_device(self.params.device)):
            for file, stage in STAGES.items():
                current = agreed(self.is_current(file))
                if rank() == 0:
                    say(f"{file}: up to date" if current else f"{file} ...")
                    self.build(file)
                elif stage.shared and not current:
                    self._make(file)
                wait_for_all()

    def need(self, file: str) -> Path:
        """The path of a stage's file; raises DataError saying which notebook to run if it is missing or outdated."""
        if self.is_current(file):
            return self.path(file)
        what = "was made with other parameters or code" if self.path(file).is_file() else "is missing"
        shown = self.path(file).relative_to(self.root)
        raise DataError(f"{shown} {what}: run notebook {STAGES[file].notebook} first (or: starclip run PARAMS)")

    @cached_property
    def data(self) -> PairedSpectra:
        """The data set of the run, read once."""
        return PairedSpectra.read(self.need(DATA))

    def model(self, name: str) -> Model:
        """A trained model of the run, such as 'starclip', on the CPU."""
        return Model.load(self.need(f"{name}.ckpt"))

    def embeddings(self, name: str) -> Embeddings:
        """Embeddings of the stars: 'starclip/nirspec' or '.../apogee', 'mockstarclip/mock' or '.../extended'."""
        return read_embeddings(self.need("embeddings.h5"), name)

    @cached_property
    def space(self) -> Space:
        """StarCLIP's space with the run's stars in it."""
        nirspec, apogee = (self.embeddings(f"starclip/{name}") for name in ("nirspec", "apogee"))
        return Space(self.data, self.model("starclip").encoders["nirspec"], nirspec, apogee)

    def neighbours(self, spectrum: Star | ObservedSpectrum | np.ndarray, k: int = 5) -> QTable:
        """The APOGEE stars nearest to a NIRSpec spectrum in StarCLIP's space, best first.

        spectrum : a star of the data set (its first mock observation is used), an observed spectrum, or flux over the
            continuum (8192,) on the NIRSpec grid, 1 where there is no data
        Returns a table: identifier, cosine, part of the data set, and the catalogue's labels with units.
        Raises DataError, saying why, for an observed spectrum that cannot be used.
        """
        found, cosine = self.space.nearest(self._vector(spectrum), k)
        rows = [self.data.row(star) for star in found[0]]
        parts = [SPLITS[split] for split in self.data.split[rows]]
        return label_table(self.data.labels[rows], star_id=found[0], cosine=cosine[0].round(4), part=parts)

    def _vector(self, spectrum: Star | ObservedSpectrum | np.ndarray) -> np.ndarray:
        if isinstance(spectrum, Star):
            first = self.space.nirspec.of_view(0)
            return first.z[first.star_id == spectrum.star_id]
        if isinstance(spectrum, ObservedSpectrum):
            prepared = prepare_all([spectrum], self.data, self.params)
            if not prepared.stars:
                raise DataError(f"{spectrum.name} cannot be used: {prepared.set_aside[spectrum.name]}")
            return self.space.embed(model_input(prepared.stars[0], prepared.stars[0].flux[None], self.params))
        return self.space.embed(on_nirspec_grid(spectrum)[:1])

    def labels(self, spectra: Star | ObservedSpectrum | Sequence[ObservedSpectrum] | np.ndarray) -> QTable:
        """Labels that StarCLIP's linear probe reads off NIRSpec spectra, with units and uncertainties.

        spectra : observed ones, of which those that cannot be used get a verdict in place of labels; a star of the
            data set, of whose mock observations the mean is taken; or flux over the continuum (n, 8192) on the grid
        Returns a table with the columns `Teff`, `sigma_Teff`, ... and, for observed spectra, what `analyse` says of
        velocity and domain.  The uncertainty of the others is the probe's error on single views of test stars.
        """
        if isinstance(spectra, Star):
            views = self.space.nirspec.z[self.space.nirspec.star_id == spectra.star_id]
            mean = self.space.read(views).mean(axis=0, keepdims=True)
            return label_table(mean, self.space.probe_error, star_id=[spectra.star_id], part=[spectra.split])
        if isinstance(spectra, np.ndarray):
            return label_table(self.space.read(self.space.embed(on_nirspec_grid(spectra))), self.space.probe_error)
        given = [spectra] if isinstance(spectra, ObservedSpectrum) else list(spectra)
        prepared = prepare_all(given, self.data, self.params)
        return table_of(analyse(prepared.stars, self.space, self.params), prepared.set_aside)

    def save_metrics(self, section: str, content: dict[str, Any]) -> None:
        """Keep a section of metrics.json until the report is assembled."""
        write_json(self.folder / "metrics" / f"{section}.json", content)

    def metrics(self, without: Collection[str] = ()) -> dict[str, Any]:
        """All sections saved so far but some; 'evaluation.benchmark' becomes a part of 'evaluation'."""
        found: dict[str, Any] = {}
        for path in sorted((self.folder / "metrics").glob("*.json")):
            if path.stem in without:
                continue
            section, _, part = path.stem.partition(".")
            content = json.loads(path.read_text(encoding="utf-8"))
            if part:
                found.setdefault(section, {})[part] = content
            else:
                found[section] = content
        return found

    def save_figure(self, name: str, figure: Figure) -> Path:
        """Save a figure of the report as PNG; returns its path."""
        path = self.report / "figures" / f"{name}.png"
        with atomic_path(path) as part:
            figure.savefig(part, dpi=110)
        return path

    def save_page(self, name: str, figure: go.Figure) -> Path:
        """Save an interactive figure as a page that needs no Python and no network; returns its path."""
        path = self.report / f"{name}.html"
        with atomic_path(path) as part:
            figure.write_html(part, include_plotlyjs=True)
        return path

    def _records(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "stages.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except json.JSONDecodeError:
            raise DataError(f"{path} is damaged; delete the folder {self.folder} and run again") from None

    def _record(self, file: str, record: dict[str, Any]) -> None:
        write_json(self.folder / "stages.json", {**self._records(), file: record})


def digest(content: Any) -> str:
    """SHA-256 of anything that is JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
