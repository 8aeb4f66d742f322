"""From a parameter file to a page: the notebooks in order through papermill, and what they leave put together."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import torch
from papermill.iorw import local_file_io_cwd
from pydantic import BaseModel, Field

from starclip_lib.data.curation import data_file
from starclip_lib.lab import notebooks
from starclip_lib.lab.execution import end_kernels, execute
from starclip_lib.lab.report import assemble_metrics, write_index
from starclip_lib.models.encoding import pick_device
from starclip_lib.observed.finder import check_found, find_files, find_observed
from starclip_lib.run import Run
from starclip_lib.stages import package_digest
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.suite.transfer import drawable
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import digest, locked
from starclip_lib.support.machine import memory
from starclip_lib.support.threads import allowed_threads

# Bytes for a kernel, on its own and for each star, with some to spare: with 4,000 stars 2.8 GB were seen, with 19,001
# 8.4.
_KERNEL_BYTES, _STAR_BYTES = 1.6e9, 0.4e6
_LOOK = 1.0  # seconds between two looks at what has become ready


class Remembered(BaseModel):
    """What is kept of a notebook that was run: the digest of all it depends on, and how long it took."""

    key: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]


def run_pipeline(run: Run, callback: Callable[[str], None] = print) -> Path:
    """Run what is not up to date and write the report.

    A notebook runs as soon as what it reads is there, two at a time where processors and memory allow it. What was
    finished stays, so that after a failing cell the same call goes on from there. Raises StarclipError at the first
    failing cell, naming notebook, cell and error.
    """
    device = pick_device(run.params.device)  # what is wrong with the request is said before anything is computed
    if run.params.data.file:
        data_file(run.params.data, run.root)
    if run.params.observed.folder:
        found = find_files(run.root / run.params.observed.folder)
        check_found(run.params.observed.folder, found)
        callback(f"observed spectra in {run.params.observed.folder}: {one_line(found.summary())}")
    unknown = sorted({path.stem for path in (run.root / "notebooks").glob("*.py")} ^ set(notebooks.every_notebook()))
    if unknown:
        raise StarclipError(f"the folder notebooks and lab/notebooks.py disagree about {', '.join(unknown)}")
    with locked(run.folder) as note:
        if note:
            callback(note)
        _run_notebooks(run, notebooks.NOTEBOOKS, callback)
        return _write_report(run, device)


def run_evaluation(run: Run, callback: Callable[[str], None] = print) -> Path:
    """Judge a finished run: the notebooks of the evaluation suite, and the report once more."""
    device = pick_device(run.params.device)
    for file in dict.fromkeys(file for notebook in notebooks.EVALUATION.values() for file in notebook.inputs):
        run.need(file)
    _check_enough_stars(run)
    with locked(run.folder):
        _run_notebooks(run, notebooks.EVALUATION, callback)
        return _write_report(run, device)


def _check_enough_stars(run: Run) -> None:
    """Raise DataError, naming the setting, if the evaluation asks for more stars than the run has."""
    settings, data = run.params.evaluation, run.data
    for key, asked, split, there in (
        ("transfer_stars", max(settings.transfer_stars), "val", drawable(len(data.rows("val")))),
        ("scaling_stars", max(settings.scaling_stars), "train", len(data.rows("train"))),
    ):
        if asked > there:
            raise DataError(
                f"evaluation.{key} asks for {asked} {split} stars, but the run has {there} for it; lower it"
            )


def _run_notebooks(run: Run, table: Mapping[str, notebooks.Notebook], callback: Callable[[str], None]) -> None:
    place = {name: f"[{number:2d}/{len(table)}] {name}" for number, name in enumerate(table, start=1)}
    waiting, running = list(table), dict[Future[float], str]()
    at_once = notebooks_at_once(run)
    # papermill changes working directories of the whole process and back, each notebook for itself
    folder = run.root / "notebooks"
    with chdir(folder), local_file_io_cwd(str(folder)), ThreadPoolExecutor(at_once) as pool:
        try:
            while waiting or running:
                name = _next(run, table, waiting, running.values()) if len(running) < at_once else None
                if name is None:
                    # files that others wait for may be there before the notebook that makes them is done
                    for future in wait(running, _LOOK, return_when=FIRST_COMPLETED).done:
                        name, seconds = running.pop(future), future.result()
                        _remember(run, name, seconds)
                        callback(f"{place[name]}: {seconds:.0f} s")
                    continue
                waiting.remove(name)
                if _is_current(run, name):
                    callback(f"{place[name]}: up to date")
                else:
                    callback(f"{place[name]} ...")
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
    """Two, where two threads may be used on the CPU and there is memory for two kernels; else one."""
    needed = 2 * (_KERNEL_BYTES + _STAR_BYTES * run.params.data.n_stars)
    room = run.params.data.n_stars > 0 and memory()[0] > needed
    return 2 if room and allowed_threads() > 1 and pick_device(run.params.device).type == "cpu" else 1


def effort(run: Run) -> str:
    """How much of the machine a run takes, in words."""
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
    # an evaluation of models that have been replaced since would describe other models
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
        package_digest(),
        observed,
    ]
    return digest(content)


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
        read_json(path, dict[str, Remembered], damaged="delete it; every notebook is then run again")
        if path.exists()
        else {}
    )


def _remember(run: Run, name: str, seconds: float) -> None:
    known = {**_memory(run), name: Remembered(key=_key(run, name), seconds=seconds)}
    write_json(run.folder / "notebooks.json", {name: record.model_dump() for name, record in known.items()})
