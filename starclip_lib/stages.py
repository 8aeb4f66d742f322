"""The models of a run without its notebooks, in one process or, under `torchrun`, in several: `starclip train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starclip_lib.models.embeddings import embed_all
from starclip_lib.run import Run
from starclip_lib.surveys.curation import make_data_set
from starclip_lib.training import recipes
from starclip_lib.training.devices import agreed, pick_device, rank, session

Make = Callable[[Path], None]


def train_models(run: Run, say: Callable[[str], None] = print) -> None:
    """Make every stage's file of a run that is not up to date, from the data set to the embeddings.

    Notebooks and `starclip run` find them and go on from there.  Under `torchrun` the processes share every batch; the
    first of them writes.
    """
    with session(pick_device(run.params.device)):
        _alone(run, "data.h5", lambda path: make_data_set(run.params.data, run.params.seed, run.root).write(path), say)
        data, params, path = run.data(), run.params, run.path
        for name in ("apogee", "nirspec"):
            _together(run, f"{name}.ckpt", lambda p, name=name: recipes.train_encoder(p, data, params, name), say)
        _together(run, "supervised.ckpt", lambda p: recipes.train_supervised(p, data, params), say)
        pretrained = path("nirspec.ckpt"), path("apogee.ckpt")
        _together(run, "starclip.ckpt", lambda p: recipes.train_starclip(p, data, params, *pretrained), say)
        start, cnn = path("starclip.ckpt"), path("supervised.ckpt")
        _together(run, "mockstarclip.ckpt", lambda p: recipes.train_mockstarclip(p, data, params, start), say)
        _together(
            run, "supervised_extended.ckpt", lambda p: recipes.train_supervised_extended(p, data, params, cnn), say
        )
        models = start, path("mockstarclip.ckpt")
        _alone(run, "embeddings.h5", lambda p: embed_all(p, data, params, *models), say)


def _together(run: Run, file: str, make: Make, say: Callable[[str], None]) -> None:
    """Make a file with all processes.  The first decides whether it is needed and keeps the books."""
    if agreed(run.is_current(file)):
        _tell(say, f"{file}: up to date")
    elif rank() == 0:
        _tell(say, f"{file} ...")
        run.build(file, make)
    else:
        make(run.path(file))
    agreed(True)  # nobody goes on before the file is there


def _alone(run: Run, file: str, make: Make, say: Callable[[str], None]) -> None:
    """Make a file with the first process while the others wait."""
    if rank() == 0:
        _tell(say, f"{file}: up to date" if run.is_current(file) else f"{file} ...")
        run.build(file, make)
    agreed(True)


def _tell(say: Callable[[str], None], line: str) -> None:
    if rank() == 0:
        say(line)
