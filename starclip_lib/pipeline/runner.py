"""From a parameter file to a page: the notebooks in order through papermill, and what they leave put together."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import chdir
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import torch
from pydantic import BaseModel, Field

from starclip_lib.data.json_files import read_json, write_json
from starclip_lib.errors import DataError, StarclipError
from starclip_lib.files import LOCK, digest, locked
from starclip_lib.observed.files import find_observed
from starclip_lib.pipeline import notebooks
from starclip_lib.pipeline.execution import end_kernels, execute
from starclip_lib.pipeline.forecast import forecast
from starclip_lib.pipeline.report import assemble_metrics, write_index
from starclip_lib.run import Run
from starclip_lib.surveys.curation import data_file
from starclip_lib.threads import allowed_threads
from starclip_lib.training.devices import pick_device

# Bytes for a kernel, on its own and for each star, with some to spare: with 4,000 stars 2.8 GB were seen, with 19,001
# 8.4.
_KERNEL_BYTES, _STAR_BYTES = 1.6e9, 0.4e6
_LOOK = 1.0  # seconds between two looks at what has become ready


class Remembered(BaseModel):
    """What is kept of a notebook that was run: the digest of all it depends on, and how long it took."""

    key: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def run_pipeline(run: Run, say: Callable[[str], None] = print) -> Path:
    """Run what is not up to date and write the report.

    A notebook runs as soon as what it reads is there, two at a time where processors and memory allow it.  What was
    finished stays, so that after a failing cell the same call goes on from there.

    Parameters
    ----------
    run : Run
    say : callable
        What messages are given to.

    Returns
    -------
    Path
        Of the report's index.html.

    Raises
    ------
    StarclipError
        At the first failing cell, naming notebook, cell and error.
    """
    device = pick_device(run.params.device)  # what is wrong with the request is said before anything is computed
    if run.params.data.file:
        data_file(run.params.data, run.root)
    if run.params.observed.folder:
        find_observed(run.root / run.params.observed.folder)
    unknown = sorted({path.stem for path in (run.root / "notebooks").glob("*.py")} ^ set(notebooks.every_notebook()))
    if unknown:
        raise StarclipError(f"the folder notebooks and pipeline/notebooks.py disagree about {', '.join(unknown)}")
    if not run.is_current("starclip.ckpt") and (warning := forecast(run.params, device)):
        say(warning)
    with locked(run.folder):
        _run_notebooks(run, notebooks.NOTEBOOKS, say)
        return _write_report(run, device)


def forget(run: Run) -> None:
    """Delete what a run has made before, unless another process is working on it.

    Parameters
    ----------
    run : Run

    Raises
    ------
    DataError
        If one is.
    """
    with locked(run.folder):
        for path in (path for folder in (run.folder, run.report) if folder.is_dir() for path in folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def run_evaluation(run: Run, say: Callable[[str], None] = print) -> Path:
    """Judge a finished run: the notebooks of the evaluation suite, and the report once more.

    Parameters
    ----------
    run : Run
    say : callable
        What messages are given to.

    Returns
    -------
    Path
        Of the report's index.html.

    Raises
    ------
    DataError
        If the run is not finished, saying what to run.
    StarclipError
        As `run_pipeline`.
    """
    device = pick_device(run.params.device)
    for file in dict.fromkeys(file for notebook in notebooks.EVALUATION.values() for file in notebook.inputs):
        run.need(file)
    _check_enough_stars(run)
    with locked(run.folder):
        _run_notebooks(run, notebooks.EVALUATION, say)
        return _write_report(run, device)


def _check_enough_stars(run: Run) -> None:
    """Raise DataError, naming the setting, if the evaluation asks for more stars than the run has."""
    settings, data = run.params.evaluation, run.data
    for key, asked, split in (
        ("transfer_stars", max(settings.transfer_stars), "val"),
        ("scaling_stars", max(settings.scaling_stars), "train"),
    ):
        if asked > (there := len(data.rows(split))):
            raise DataError(f"evaluation.{key} asks for {asked} {split} stars, but the run has {there}; lower it")


def _run_notebooks(run: Run, table: Mapping[str, notebooks.Notebook], say: Callable[[str], None]) -> None:
    place = {name: f"[{number:2d}/{len(table)}] {name}" for number, name in enumerate(table, start=1)}
    waiting, running = list(table), dict[Future[float], str]()
    at_once = notebooks_at_once(run)
    # papermill changes the working directory of the whole process and back, each notebook for itself
    with chdir(run.root / "notebooks"), ThreadPoolExecutor(at_once) as pool:
        try:
            while waiting or running:
                name = _next(run, table, waiting, running.values()) if len(running) < at_once else None
                if name is None:
                    # files that others wait for may be there before the notebook that makes them is done
                    for future in wait(running, _LOOK, return_when=FIRST_COMPLETED).done:
                        name, seconds = running.pop(future), future.result()
                        _remember(run, name, seconds)
                        say(f"{place[name]}: {seconds:.0f} s")
                    continue
                waiting.remove(name)
                if _is_current(run, name):
                    say(f"{place[name]}: up to date")
                else:
                    say(f"{place[name]} ...")
                    bars = not any(table[other].makes for other in running.values())  # of one training on a line
                    running[pool.submit(_timed, run, name, bars and bool(table[name].makes))] = name
        except BaseException:  # the others would go on, unseen, until they are done
            end_kernels()
            raise


def _next(
    run: Run, table: Mapping[str, notebooks.Notebook], waiting: Iterable[str], running: Iterable[str]
) -> str | None:
    """A notebook whose files are there; first those that make what others wait for, then those that take long."""
    coming = {file for name in (*waiting, *running) for file in table[name].makes if not run.is_current(file)}
    ready = [name for name in waiting if not coming.intersection(table[name].inputs)]
    return min(ready, key=lambda name: (not table[name].makes, not table[name].long), default=None)


def _timed(run: Run, name: str, bars: bool) -> float:
    began = time.perf_counter()
    execute(run, name, bars)
    return time.perf_counter() - began


def notebooks_at_once(run: Run) -> int:
    """Two, where two threads may be used on the CPU and there is memory for two kernels; else one.

    Parameters
    ----------
    run : Run

    Returns
    -------
    int
    """
    needed = 2 * (_KERNEL_BYTES + _STAR_BYTES * run.params.data.n_stars)
    room = run.params.data.n_stars > 0 and psutil.virtual_memory().available > needed
    return 2 if room and allowed_threads() > 1 and pick_device(run.params.device).type == "cpu" else 1


def effort(run: Run) -> str:
    """How much of the machine a run takes, in words.

    Parameters
    ----------
    run : Run

    Returns
    -------
    str
    """
    threads, at_once = allowed_threads(), notebooks_at_once(run)
    return f"{threads} thread{'s' * (threads > 1)}, {'two notebooks' if at_once > 1 else 'one notebook'} at a time"


def _write_report(run: Run, device: torch.device) -> Path:
    provenance = {
        "run": run.params.name,
        "seed": run.params.seed,
        "device": _device_name(device),
        "versions": versions(),
        "params": run.params.model_dump(mode="json"),
    }
    # an evaluation of models that have been trained anew since would be one of others
    done = [name for name in notebooks.every_notebook() if name in notebooks.NOTEBOOKS or _is_current(run, name)]
    outdated = {
        section for name in set(notebooks.EVALUATION) - set(done) for section in notebooks.EVALUATION[name].metrics
    }
    seconds = {name: round(record.seconds, 1) for name, record in _memory(run).items() if name in done}
    metrics = assemble_metrics(provenance, run.metrics(outdated), seconds)
    write_json(run.report / "metrics.json", metrics)
    return write_index(run.report, metrics)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose numbers end up in the report."""
    packages = ("starclip", "torch", "numpy", "scikit-learn", "umap-learn", "h5py", "papermill")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({os.cpu_count()} cores)"


def _key(run: Run, name: str) -> str:
    """Digest of all that an executed notebook depends on."""
    notebook = notebooks.every_notebook()[name]
    observed = []
    if "observed" in notebook.settings and run.params.observed.folder:
        paths = find_observed(run.root / run.params.observed.folder)
        observed = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    content = [
        notebooks.dated((run.root / "notebooks" / f"{name}.py").read_text(encoding="utf-8"), "0000-00-00"),
        run.params.model_dump(mode="json", include=notebook.settings),
        [run.identity(file) for file in (*notebook.inputs, *notebook.makes)],
        _package_digest(),
        observed,
    ]
    return digest(content)


@cache
def _package_digest() -> str:
    """Digest of the whole package: through its front door, a notebook can reach all of it."""
    package = Path(__file__).parent.parent
    files = sorted(path for path in package.rglob("*.*") if path.is_file() and path.suffix != ".pyc")
    return digest([[str(path.relative_to(package)), hashlib.sha256(path.read_bytes()).hexdigest()] for path in files])


def _is_current(run: Run, name: str) -> bool:
    notebook = notebooks.every_notebook()[name]
    files = [run.report / f"{name}.ipynb", run.report / f"{name}.html"]
    files += [run.folder / "metrics" / f"{section}.json" for section in notebook.metrics]
    return (
        (remembered := _memory(run).get(name)) is not None
        and remembered.key == _key(run, name)
        and all(path.is_file() for path in files)
        and all(run.is_current(file) for file in notebook.makes)
    )


def _memory(run: Run) -> dict[str, Remembered]:
    path = run.folder / "notebooks.json"
    return (
        read_json(path, dict[str, Remembered], damaged="delete it; every notebook is run anew") if path.exists() else {}
    )


def _remember(run: Run, name: str, seconds: float) -> None:
    memory = {**_memory(run), name: Remembered(key=_key(run, name), seconds=seconds)}
    write_json(run.folder / "notebooks.json", {name: record.model_dump() for name, record in memory.items()})
