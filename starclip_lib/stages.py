"""The stages of a run: each file, what it is made from, the function that makes it, and what decides its content.

A file is current if it was made with the present settings, inputs and package; any change of the package counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from starclip_lib.data.curation import data_file, write_data_set
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.settings.params import Params
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.storage.tensor_files import resume_file
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import checksums_wanted, digest, file_digest, locked
from starclip_lib.training import recipes, refining
from starclip_lib.training.loop import Watch

DATA = "data.h5"
SETTINGS = "settings.json"  # in a run's folder: the settings it was made with
_PACKAGE = Path(__file__).parent
_HASHED = 2 * 2**30  # bytes; more would take longer than a few seconds
_PATIENCE = 30.0  # seconds: somebody who makes another file writes down that he has


@dataclass(frozen=True)
class Stage:
    """One file of a run."""

    notebook: str  # in which it is made and explained
    sections: tuple[str, ...]  # of the settings that decide what is in it
    inputs: tuple[str, ...]  # files of earlier stages, in the order in which `make` takes them
    # `make(path, data, settings, *inputs, watch=watch)` writes the file; `data` is the data set, or for the data set
    # itself the project's root, and `inputs` are paths of models
    make: Callable[..., None]


_TRAINING = ("seed", "corruption", "precision")
STAGES = {
    DATA: Stage("01_data", ("seed", "data"), (), write_data_set),
    "apogee.ckpt": Stage(
        "03_encoders", (*_TRAINING, "pretrain"), (DATA,), partial(recipes.train_encoder, instrument="apogee")
    ),
    "nirspec.ckpt": Stage(
        "03_encoders", (*_TRAINING, "pretrain"), (DATA,), partial(recipes.train_encoder, instrument="nirspec")
    ),
    "supervised.ckpt": Stage("03_encoders", (*_TRAINING, "supervised"), (DATA,), recipes.train_supervised),
    "starclip.ckpt": Stage(
        "04_starclip", (*_TRAINING, "starclip"), (DATA, "nirspec.ckpt", "apogee.ckpt"), recipes.train_starclip
    ),
    "mockstarclip.ckpt": Stage(
        "05_mockstarclip", (*_TRAINING, "mockstarclip"), (DATA, "starclip.ckpt"), recipes.train_mockstarclip
    ),
    "supervised_extended.ckpt": Stage(
        "05_mockstarclip",
        (*_TRAINING, "supervised", "mockstarclip"),
        (DATA, "supervised.ckpt"),
        recipes.train_supervised_extended,
    ),
    "fit.ckpt": Stage(
        "06_retrieval",
        (*_TRAINING, "starclip", "mockstarclip", "fit"),
        (DATA, "nirspec.ckpt", "apogee.ckpt"),
        refining.train_fit,
    ),
    "fit.h5": Stage(
        "06_retrieval",
        (*_TRAINING, "mockstarclip"),
        (DATA, "fit.ckpt"),
        refining.embed_fit,
    ),
    "embeddings.h5": Stage(
        "06_retrieval",
        (*_TRAINING, "mockstarclip"),
        (DATA, "starclip.ckpt", "mockstarclip.ckpt"),
        recipes.embed_stars,
    ),
}


class RunStages:
    """Tracks which files of a run exist and are up to date, and how to make the others."""

    def __init__(self, params: Params, root: Path):
        self.params, self.root = params, root
        self.folder = root / "runs" / params.name

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
        return digest([file, content, inputs, package_digest()])

    def is_current(self, file: str) -> bool:
        """True if the file is there as it was written, with the present parameters, code and inputs."""
        record, path = self._records().get(file, {}), self.path(file)
        if not path.is_file() or record.get("bytes") != path.stat().st_size:
            return False
        if record.get("identity") != self.identity(file):
            return False
        return not checksums_wanted() or record.get("sha256") == _content(path)

    def build(self, file: str, watch: Watch | None = None) -> Path:
        """Make a stage's file unless it is up to date.

        A training that was stopped goes on from its checkpoint if nothing it depends on has changed. Raises DataError
        saying which notebook to run, if an input is missing or outdated; or that another process makes it.
        """
        path = self.path(file)
        if self.is_current(file):
            return path
        for name in STAGES[file].inputs:
            self.need(name)
        with locked(self.folder, f"{file}.lock"):
            self._build(file, path, watch)
        return path

    def _build(self, file: str, path: Path, watch: Watch | None) -> None:
        begun = {"begun": self.identity(file)}
        if self._records().get(file) != begun:
            resume_file(path).unlink(missing_ok=True)
            self._record(file, begun)
        self._make(file, watch)
        state = {"bytes": path.stat().st_size, "sha256": _content(path)}
        self._record(file, {"identity": self.identity(file), **state})

    def _make(self, file: str, watch: Watch | None = None) -> None:
        stage = STAGES[file]
        source = self.data if stage.inputs else self.root
        models = (self.path(name) for name in stage.inputs if name != DATA)
        stage.make(self.path(file), source, self.params, *models, watch=watch)
        for kept in (
            ("data", "space", "fit_space") if file == DATA else ("space", "fit_space")
        ):  # read from the files that were replaced
            self.__dict__.pop(kept, None)

    def need(self, file: str) -> Path:
        """The path of a stage's file. Raises DataError saying which notebook to run if it is missing or outdated."""
        if self.is_current(file):
            return self.path(file)
        shown = self.path(file).relative_to(self.root)
        if not self.path(file).is_file():
            what = "is missing"
        elif self._records().get(file, {}).get("identity") == self.identity(file):
            what = "has changed since it was made (another size or checksum)"
        else:
            what = "was made with other parameters or code"
        raise DataError(f"{shown} {what}: run notebook {STAGES[file].notebook} first (or: starclip run PARAMS)")

    @cached_property
    def data(self) -> PairedSpectra:
        """The data set of the run, read once."""
        return PairedSpectra.read(self.need(DATA), memory=self.params.memory * 1e9)

    def _records(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "stages.json"
        damaged = "make the run again: starclip run PARAMS --fresh"
        return read_json(path, dict[str, dict[str, str | int]], damaged=damaged) if path.exists() else {}

    def _record(self, file: str, record: dict[str, Any]) -> None:
        with locked(self.folder, "stages.lock", _PATIENCE):
            write_json(self.folder / SETTINGS, self.params.model_dump(mode="json"))
            write_json(self.folder / "stages.json", {**self._records(), file: record})


def _content(path: Path) -> str:
    """Digest of a stage's file; empty for a very large data set, of which HDF5 verifies each block when it is read."""
    return file_digest(path) if path.stat().st_size <= _HASHED else ""


@cache
def package_digest() -> str:
    """Digest of all files of the package: what any code may depend on."""
    files = sorted(path for path in _PACKAGE.rglob("*.*") if path.is_file() and path.parent.name != "__pycache__")
    return digest([[str(path.relative_to(_PACKAGE)), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files])
