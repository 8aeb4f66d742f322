"""The plan of a run, written once: each file, what it is made from, who makes it, and what decides its content.

`Books` keeps the books of one run; notebooks, `starclip run`, `starclip train`, the browser and the tests all ask this
plan.  The code that a file depends on is found by following imports from the function that makes it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from starclip_lib.data.json_files import read_json, write_json
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.files import digest, locked
from starclip_lib.models.checkpoint import resume_file
from starclip_lib.settings.params import Params
from starclip_lib.surveys.curation import data_file, write_data_set
from starclip_lib.training import recipes
from starclip_lib.training.loop import Watch

DATA = "data.h5"
SETTINGS = "settings.json"  # in a run's folder: the settings it was made with
_PACKAGE = Path(__file__).parent
_PATIENCE = 30.0  # seconds: somebody who makes another file writes down that he has


@dataclass(frozen=True)
class Stage:
    """One file of a run.

    Parameters
    ----------
    notebook : str
        In which it is made and explained.
    sections : tuple of str
        Of the settings that decide what is in it.
    inputs : tuple of str
        Files of earlier stages, in the order in which `make` takes them.
    make : callable
        `make(path, data, settings, *inputs, watch=watch)` writes the file; `data` is the data set, or for the data set
        itself the project's root, and `inputs` are paths of models.
    shared : bool
        Under `torchrun`, all processes make it together; else the first one alone.
    """

    notebook: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...]
    make: Callable[..., None]
    shared: bool = True

    def code_digest(self) -> str:
        """SHA-256 of all code, and of all files it brings along, that `make` depends on."""
        maker = self.make.func if isinstance(self.make, partial) else self.make
        return code_digest(maker.__module__)


_TRAINING = ("seed", "corruption", "precision")
STAGES = {
    DATA: Stage("01_data", ("seed", "data"), (), write_data_set, shared=False),
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
    "embeddings.h5": Stage(
        "06_retrieval",
        (*_TRAINING, "mockstarclip"),
        (DATA, "starclip.ckpt", "mockstarclip.ckpt"),
        recipes.embed_stars,
        shared=False,
    ),
}


class Books:
    """Which files of a run are there and up to date, and how they are made: the books that follow the plan.

    Parameters
    ----------
    params : Params
    root : Path
        Of the project.
    """

    def __init__(self, params: Params, root: Path):
        self.params, self.root = params, root
        self.folder = root / "runs" / params.name

    def path(self, file: str) -> Path:
        """Where a stage's file is, or would be.

        Parameters
        ----------
        file : str

        Returns
        -------
        Path
        """
        return self.folder / file

    def identity(self, file: str) -> str:
        """Digest of all that determines a stage's file: parameters, code, and the identities of its inputs.

        Parameters
        ----------
        file : str

        Returns
        -------
        str
        """
        stage = STAGES[file]
        content = self.params.model_dump(mode="json", include=set(stage.sections))
        inputs: list[str | int] = [self.identity(name) for name in stage.inputs]
        if file == DATA and self.params.data.file:
            state = data_file(self.params.data, self.root).stat()
            inputs = [state.st_size, state.st_mtime_ns]
        return digest([file, content, inputs, stage.code_digest()])

    def is_current(self, file: str) -> bool:
        """True if the file is there and was made with the present parameters, code and inputs.

        Parameters
        ----------
        file : str

        Returns
        -------
        bool
        """
        record = self._records().get(file)
        path = self.path(file)
        return path.is_file() and record == {"identity": self.identity(file), "bytes": path.stat().st_size}

    def build(self, file: str, watch: Watch | None = None) -> Path:
        """Make a stage's file unless it is up to date.

        A training that was stopped goes on from its checkpoint if nothing it depends on has changed.

        Parameters
        ----------
        file : str
        watch : Watch, optional
            Called after every epoch of a training.

        Returns
        -------
        Path
            That of the file.

        Raises
        ------
        DataError
            Saying which notebook to run, if an input is missing or outdated; or that another process makes it.
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
        self._record(file, {"identity": self.identity(file), "bytes": path.stat().st_size})

    def _make(self, file: str, watch: Watch | None = None) -> None:
        stage = STAGES[file]
        source = self.data if stage.inputs else self.root
        models = (self.path(name) for name in stage.inputs if name != DATA)
        stage.make(self.path(file), source, self.params, *models, watch=watch)
        for kept in ("data", "space") if file == DATA else ("space",):  # read from files that were made anew
            self.__dict__.pop(kept, None)

    def need(self, file: str) -> Path:
        """The path of a stage's file.

        Parameters
        ----------
        file : str

        Returns
        -------
        Path

        Raises
        ------
        DataError
            Saying which notebook to run if it is missing or outdated.
        """
        if self.is_current(file):
            return self.path(file)
        what = "was made with other parameters or code" if self.path(file).is_file() else "is missing"
        shown = self.path(file).relative_to(self.root)
        raise DataError(f"{shown} {what}: run notebook {STAGES[file].notebook} first (or: starclip run PARAMS)")

    @cached_property
    def data(self) -> PairedSpectra:
        """The data set of the run, read once."""
        return PairedSpectra.read(self.need(DATA), memory=self.params.memory * 1e9)

    def _records(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "stages.json"
        damaged = f"delete the folder {self.folder} and run again"
        return read_json(path, dict[str, dict[str, str | int]], damaged=damaged) if path.exists() else {}

    def _record(self, file: str, record: dict[str, Any]) -> None:
        with locked(self.folder, "stages.lock", _PATIENCE):
            write_json(self.folder / SETTINGS, self.params.model_dump(mode="json"))
            write_json(self.folder / "stages.json", {**self._records(), file: record})


@cache
def code_digest(module: str, package: Path = _PACKAGE) -> str:
    """SHA-256 of the files that a module depends on: see `code_of`.

    Parameters
    ----------
    module : str
        Its full name.
    package : Path
        Folder of the package.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    for path in code_of(module, package):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_of(module: str, package: Path = _PACKAGE) -> list[Path]:
    """The files that a module of the package depends on: its import closure.

    Imports count wherever they stand, in functions too, and so do the `__init__` of the folders passed through.  A file
    that lies beside a module and is named in it (a table, an emulator) belongs to it.  The package's own `__init__`,
    its front door, does not: it computes nothing, and what it offers would be everything.
    A module outside the package depends on nothing in it.

    Parameters
    ----------
    module : str
        Its full name.
    package : Path
        Folder of the package.

    Returns
    -------
    list of Path
        Sorted.
    """
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        top, *parts = waiting.pop().split(".")
        path = _file_of(parts, package) if top == package.name else None
        if path is None or path in found:
            continue
        found.add(path)
        source = ast.parse(path.read_text(encoding="utf-8"))
        waiting += _imports(source)
        waiting += [".".join([top, *parts[:depth]]) for depth in range(1, len(parts))]
        words = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
        found |= {
            beside
            for beside in path.parent.iterdir()
            if beside.is_file() and beside.name in words and beside.suffix != ".py"
        }
    return sorted(found)


def _imports(source: ast.Module) -> Iterator[str]:
    """Every name that is imported, with its module in front."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file_of(parts: list[str], package: Path) -> Path | None:
    """The file of a module, or of the module that a name is imported from; None for the package itself."""
    while parts:
        place = package.joinpath(*parts)
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                return path
        parts = parts[:-1]
    return None
