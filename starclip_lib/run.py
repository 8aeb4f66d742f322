"""One run: where the file of each stage is, whether it is up to date with its parameters, and its metrics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from matplotlib.figure import Figure

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path, write_json
from starclip_lib.models.checkpoint import Model, resume_file
from starclip_lib.settings.params import Params, load_params
from starclip_lib.surveys.curation import data_file

_DATA_CODE = ("data", "surveys")
_TRAIN_CODE = ("models", "transforms", "training", "data")


@dataclass(frozen=True)
class Stage:
    """What the content of a stage's file depends on."""

    notebook: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    code: tuple[str, ...] = _TRAIN_CODE


STAGES = {
    "data.h5": Stage("01_data", ("seed", "data"), code=_DATA_CODE),
    "apogee.ckpt": Stage("03_encoders", ("seed", "pretrain", "corruption", "precision"), ("data.h5",)),
    "nirspec.ckpt": Stage("03_encoders", ("seed", "pretrain", "corruption", "precision"), ("data.h5",)),
    "supervised.ckpt": Stage("03_encoders", ("seed", "supervised", "corruption", "precision"), ("data.h5",)),
    "starclip.ckpt": Stage(
        "04_starclip", ("seed", "starclip", "corruption", "precision"), ("data.h5", "nirspec.ckpt", "apogee.ckpt")
    ),
    "mockstarclip.ckpt": Stage(
        "05_mockstarclip", ("seed", "mockstarclip", "corruption", "precision"), ("data.h5", "starclip.ckpt")
    ),
    "supervised_extended.ckpt": Stage(
        "05_mockstarclip",
        ("seed", "supervised", "mockstarclip", "corruption", "precision"),
        ("data.h5", "supervised.ckpt"),
    ),
    "embeddings.h5": Stage(
        "06_retrieval",
        ("seed", "mockstarclip", "corruption", "precision"),
        ("data.h5", "starclip.ckpt", "mockstarclip.ckpt"),
        _TRAIN_CODE,
    ),
}


@cache
def _code_digest(names: tuple[str, ...]) -> str:
    package = files("starclip_lib")
    digest = hashlib.sha256()
    for name in names:
        for path in sorted(Path(str(package / name)).rglob("*.*")):
            if path.suffix != ".pyc":
                digest.update(path.read_bytes())
    return digest.hexdigest()


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


class Run:
    """The folders runs/NAME and reports/NAME of one set of parameters."""

    def __init__(self, params: Params, root: Path):
        self.params, self.root = params, root
        self.folder, self.report = root / "runs" / params.name, root / "reports" / params.name

    @classmethod
    def open(cls, params_file: str | Path, overrides: dict[str, Any] | None = None) -> Run:
        """Read a parameter file and find the project around it or around the working directory."""
        params = load_params(params_file, overrides)
        return cls(params, project_root(Path.cwd(), Path(params_file).parent))

    def path(self, file: str) -> Path:
        """Where a stage's file is, or would be."""
        return self.folder / file

    def identity(self, file: str) -> str:
        """Digest of all that determines a stage's file: parameters, code, and the identities of its inputs."""
        stage = STAGES[file]
        content = self.params.model_dump(mode="json", include=set(stage.sections))
        inputs = [self.identity(name) for name in stage.inputs]
        if file == "data.h5" and self.params.data.file:
            state = data_file(self.params.data, self.root).stat()
            inputs = [state.st_size, state.st_mtime_ns]
        return digest([file, content, inputs, _code_digest(stage.code)])

    def is_current(self, file: str) -> bool:
        """True if the file is there and was made with the present parameters, code and inputs."""
        record = self._records().get(file)
        path = self.path(file)
        return path.is_file() and record == {"identity": self.identity(file), "bytes": path.stat().st_size}

    def build(self, file: str, make: Callable[[Path], None]) -> Path:
        """Make a stage's file with `make(path)` unless it is up to date; returns its path.

        A training that was stopped goes on from its checkpoint if nothing it depends on has changed.
        """
        path = self.path(file)
        if self.is_current(file):
            return path
        for name in STAGES[file].inputs:
            self.need(name)
        begun = {"begun": self.identity(file)}
        if self._records().get(file) != begun:
            resume_file(path).unlink(missing_ok=True)
            self._record(file, begun)
        make(path)
        self._record(file, {"identity": self.identity(file), "bytes": path.stat().st_size})
        return path

    def need(self, file: str) -> Path:
        """The path of a stage's file; raises DataError saying which notebook to run if it is missing or outdated."""
        if self.is_current(file):
            return self.path(file)
        what = "was made with other parameters or code" if self.path(file).is_file() else "is missing"
        shown = self.path(file).relative_to(self.root)
        raise DataError(f"{shown} {what}: run notebook {STAGES[file].notebook} first (or: starclip run PARAMS)")

    def data(self) -> PairedSpectra:
        """The data set of the run."""
        return PairedSpectra.read(self.need("data.h5"))

    def model(self, file: str) -> Model:
        """A trained model of the run, on the CPU."""
        return Model.load(self.need(file))

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
        figure.update_layout(meta={"page": path.name})  # where the pipeline finds it for the notebook's own page
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
