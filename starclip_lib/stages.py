"""The plan of a run, written once: each file, what it is made from, who makes it, and what decides its content.

`run.Run` keeps the books; notebooks, `starclip run`, `starclip train`, the browser and the tests all ask this plan.
The code that a file depends on is found by following imports from the function that makes it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from starclip_lib.surveys.curation import write_data_set
from starclip_lib.training import recipes

DATA = "data.h5"
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Stage:
    """One file of a run.

    notebook : in which it is made and explained
    sections : of the settings that decide what is in it
    inputs : files of earlier stages, in the order in which `make` takes them
    make : `make(path, data, settings, *inputs, watch=watch)` writes the file; `data` is the data set, or for the data
        set itself the project's root, and `inputs` are paths of models
    shared : under `torchrun`, all processes make it together; else the first one alone
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


@cache
def code_digest(module: str, package: Path = _PACKAGE) -> str:
    """SHA-256 of the files that a module depends on: see `code_of`."""
    digest = hashlib.sha256()
    for path in code_of(module, package):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_of(module: str, package: Path = _PACKAGE) -> list[Path]:
    """The files that a module of the package depends on, sorted: its import closure.

    Imports count wherever they stand, in functions too, and so do the `__init__` of the folders passed through.  A file
    that lies beside a module and is named in it (a table, an emulator) belongs to it.  The package's own `__init__`,
    its front door, does not: it computes nothing, and what it offers would be everything.
    A module outside the package depends on nothing in it.
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
        found |= {beside for beside in path.parent.iterdir() if beside.name in words and beside.suffix != ".py"}
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
