"""From a parameter file to a page: the notebooks in order through papermill, and what they leave put together."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jupytext
import latex2mathml.converter
import nbformat
import papermill
import torch
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from starclip_lib.batches import pick_device
from starclip_lib.config import DataError, StarclipError
from starclip_lib.datasets import data_file
from starclip_lib.files import atomic_path, write_json
from starclip_lib.forecast import forecast
from starclip_lib.nirspec_files import find_observed
from starclip_lib.report import assemble_metrics, write_index
from starclip_lib.run import Run, digest
from starclip_lib.training import BARS
from starclip_lib.widgets import WIDGET


@dataclass(frozen=True)
class Notebook:
    """What a notebook reads from the parameters and from other stages, and what it leaves."""

    sections: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


_MODELS = ("starclip.ckpt", "mockstarclip.ckpt")
NOTEBOOKS = {
    "00_tour": Notebook(("seed",)),
    "contrastive_from_scratch": Notebook(("seed",)),
    "01_data": Notebook(("seed", "data"), makes=("data.h5",), metrics=("data",)),
    "02_corruptions": Notebook(("seed", "corruption"), ("data.h5",)),
    "03_encoders": Notebook(
        ("seed", "pretrain", "supervised", "corruption", "device", "precision"),
        ("data.h5",),
        ("apogee.ckpt", "nirspec.ckpt", "supervised.ckpt"),
        ("encoders",),
    ),
    "04_starclip": Notebook(
        ("seed", "starclip", "corruption", "device", "precision"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt"),
        ("starclip.ckpt",),
    ),
    "05_mockstarclip": Notebook(
        ("seed", "mockstarclip", "supervised", "corruption", "device", "precision"),
        ("data.h5", "starclip.ckpt", "supervised.ckpt"),
        ("mockstarclip.ckpt", "supervised_extended.ckpt"),
    ),
    "06_retrieval": Notebook(
        ("seed", "corruption", "mockstarclip", "retrieval", "device"),
        ("data.h5", *_MODELS),
        ("embeddings.h5",),
        ("retrieval",),
    ),
    "07_atlas": Notebook(("seed", "atlas"), ("data.h5", "embeddings.h5"), metrics=("pca",)),
    "08_probing": Notebook(
        ("seed", "corruption", "limits", "mockstarclip", "device"),
        ("data.h5", "embeddings.h5", "supervised.ckpt", "supervised_extended.ckpt"),
        metrics=("probing", "limits"),
    ),
    "09_similarity_browser": Notebook(
        ("seed", "corruption", "observed", "atlas"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt", "embeddings.h5", *_MODELS),
    ),
    "10_observed_nirspec": Notebook(
        ("seed", "data", "corruption", "pretrain", "observed", "device"), ("data.h5", "embeddings.h5", "starclip.ckpt")
    ),
    "12_limits": Notebook(
        ("seed", "corruption", "limits"), ("data.h5", "embeddings.h5", "supervised.ckpt"), metrics=("baselines",)
    ),
}

_EVALUATED = ("seed", "corruption", "evaluation", "device")
EVALUATION = {  # `starclip evaluate`: notebooks that judge a finished run, each on its own
    "11_benchmark": Notebook(
        _EVALUATED,
        ("data.h5", "apogee.ckpt", "nirspec.ckpt", "embeddings.h5"),
        metrics=("evaluation.benchmark",),
    ),
    "13_decoders": Notebook(
        _EVALUATED, ("data.h5", "embeddings.h5", "starclip.ckpt"), metrics=("evaluation.decoders",)
    ),
    "14_densities": Notebook(_EVALUATED, ("data.h5", "embeddings.h5"), metrics=("evaluation.densities",)),
    "15_transfer": Notebook(
        (*_EVALUATED, "starclip", "pretrain"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt"),
        metrics=("evaluation.transfer",),
    ),
}
_PLOTLY = "application/vnd.plotly.v1+json"


def every_notebook() -> dict[str, Notebook]:
    """The notebooks of `starclip run`, then those of `starclip evaluate`."""
    return {**NOTEBOOKS, **EVALUATION}


def run_pipeline(run: Run, params_file: Path, overrides: dict[str, Any], say: Callable[[str], None] = print) -> Path:
    """Run what is not up to date, in order, and write the report; returns the path of its index.html.

    Raises StarclipError at the first failing cell, naming notebook, cell and error.  What was finished stays, so the
    same call goes on from there.
    """
    device = pick_device(run.params.device)  # what is wrong with the request is said before anything is computed
    if run.params.data.file:
        data_file(run.params.data, run.root)
    if run.params.observed.folder:
        find_observed(run.root / run.params.observed.folder)
    unknown = sorted({path.stem for path in (run.root / "notebooks").glob("*.py")} ^ set(every_notebook()))
    if unknown:
        raise StarclipError(f"notebooks and pipeline.py disagree about {', '.join(unknown)}")
    if not run.is_current("starclip.ckpt") and (warning := forecast(run.params, device)):
        say(warning)
    _run_notebooks(run, NOTEBOOKS, params_file, overrides, say)
    return _write_report(run, device)


def run_evaluation(run: Run, params_file: Path, overrides: dict[str, Any], say: Callable[[str], None] = print) -> Path:
    """Judge a finished run: the notebooks of the evaluation suite, and the report once more; returns its index.html.

    Raises DataError if the run is not finished, saying what to run; otherwise as `run_pipeline`.
    """
    device = pick_device(run.params.device)
    for file in ("data.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt", "embeddings.h5"):
        run.need(file)
    _check_enough_stars(run)
    _run_notebooks(run, EVALUATION, params_file, overrides, say)
    return _write_report(run, device)


def _check_enough_stars(run: Run) -> None:
    """Raise DataError, naming the setting, if the evaluation asks for more stars than the run has."""
    settings, data = run.params.evaluation, run.data()
    for key, asked, split in (
        ("transfer_stars", max(settings.transfer_stars), "val"),
        ("scaling_stars", max(settings.scaling_stars), "train"),
    ):
        if asked > (there := len(data.rows(split))):
            raise DataError(f"evaluation.{key} asks for {asked} {split} stars, but the run has {there}; lower it")


def _run_notebooks(
    run: Run, names: Iterable[str], params_file: Path, overrides: dict[str, Any], say: Callable[[str], None]
) -> None:
    parameters = {"params_file": os.path.relpath(params_file, run.root / "notebooks"), "overrides": overrides}
    total = len(list(names))
    for number, name in enumerate(names, start=1):
        place = f"[{number:2d}/{total}] {name}"
        if _is_current(run, name):
            say(f"{place}: up to date")
            continue
        say(f"{place} ...")
        began = time.perf_counter()
        _execute(run, name, parameters)
        seconds = time.perf_counter() - began
        _remember(run, name, seconds)
        say(f"{place}: {seconds:.0f} s")


def _write_report(run: Run, device: torch.device) -> Path:
    provenance = {
        "run": run.params.name,
        "seed": run.params.seed,
        "device": _device_name(device),
        "versions": versions(),
        "params": run.params.model_dump(mode="json"),
    }
    # an evaluation of models that have been trained anew since would be one of others
    done = [name for name in every_notebook() if name in NOTEBOOKS or _is_current(run, name)]
    outdated = {section for name in set(EVALUATION) - set(done) for section in EVALUATION[name].metrics}
    seconds = {name: round(record["seconds"], 1) for name, record in _memory(run).items() if name in done}
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
    notebook = every_notebook()[name]
    package = Path(__file__).parent
    paths = [*package.glob("*.py"), *(package.glob("evaluation/*.py") if name in EVALUATION else ())]
    code = {str(path.relative_to(package)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
    observed = []
    if "observed" in notebook.sections and run.params.observed.folder:
        paths = find_observed(run.root / run.params.observed.folder)
        observed = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    content = [
        (run.root / "notebooks" / f"{name}.py").read_text(encoding="utf-8"),
        run.params.model_dump(mode="json", include=set(notebook.sections)),
        [run.identity(file) for file in (*notebook.needs, *notebook.makes)],
        code,
        observed,
    ]
    return digest(content)


def _is_current(run: Run, name: str) -> bool:
    notebook = every_notebook()[name]
    files = [run.report / f"{name}.ipynb", run.report / f"{name}.html"]
    files += [run.folder / "metrics" / f"{section}.json" for section in notebook.metrics]
    return (
        _memory(run).get(name, {}).get("key") == _key(run, name)
        and all(path.is_file() for path in files)
        and all(run.is_current(file) for file in notebook.makes)
    )


def _memory(run: Run) -> dict[str, dict[str, Any]]:
    path = run.folder / "notebooks.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _remember(run: Run, name: str, seconds: float) -> None:
    write_json(run.folder / "notebooks.json", {**_memory(run), name: {"key": _key(run, name), "seconds": seconds}})


def _execute(run: Run, name: str, parameters: dict[str, Any]) -> None:
    folder = run.root / "notebooks"
    failed = run.report / f"{name}.failed.ipynb"
    failed.unlink(missing_ok=True)
    bars = sys.stderr if sys.stderr.isatty() else None  # the progress bars of the trainings, live
    os.environ[BARS] = "1"  # the notebooks' viewers are out of sight here
    with atomic_path(run.report / f"{name}.ipynb") as part, tempfile.TemporaryDirectory() as private:
        # Sockets in a folder of our own instead of TCP ports: nobody else on a shared machine can listen in.
        sockets = {"transport": "ipc", "ip": f"{private}/kernel"} if os.name == "posix" else {}
        nbformat.write(jupytext.read(folder / f"{name}.py"), part)
        try:
            papermill.execute_notebook(
                part,
                part,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                stderr_file=bars,
                cwd=folder,
                config=Config({"KernelManager": sockets}),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # its own chatter, not the notebook's
            )
        except PapermillExecutionError as error:
            os.replace(part, failed)
            part.touch()  # for atomic_path to remove
            raise StarclipError(_failure(error, name, failed, run.root)) from error
        executed = nbformat.read(part, as_version=4)
        _sweep(executed)
        nbformat.write(executed, part)
    for output in (o for cell in executed.cells for o in cell.get("outputs", ()) if _PLOTLY in o.get("data", {})):
        page = output.data.pop(_PLOTLY)["layout"]["meta"]["page"]  # nbconvert cannot draw it, so frame the saved page
        output.data["text/html"] = f'<iframe src="{page}" width="100%" height="660" style="border:0"></iframe>'
    for cell in executed.cells:
        if cell.cell_type == "markdown":  # pages link to pages, and show formulas without a network
            cell.source = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.html)", cell.source)
            cell.source = re.sub(r"\$\$(.+?)\$\$|\$(.+?)\$", _mathml, cell.source, flags=re.DOTALL)
    html, _ = HTMLExporter(template_name="lab").from_notebook_node(executed)
    with atomic_path(run.report / f"{name}.html") as part:
        part.write_text(html, encoding="utf-8")


def _mathml(formula: re.Match[str]) -> str:
    block, inline = formula.groups()
    return latex2mathml.converter.convert(block or inline, display="block" if block else "inline")


def _failure(error: PapermillExecutionError, name: str, failed: Path, root: Path) -> str:
    code = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[:8])
    return (
        f"notebook {name} stopped in cell {error.cell_index + 1} (In [{error.exec_count}]):\n{code}\n"
        f"{error.ename}: {error.evalue}\n"
        f"The notebook as far as it came: {failed.relative_to(root)}. Run the same command again to go on from there."
    )


def _sweep(notebook: nbformat.NotebookNode) -> None:
    """Take out of an executed notebook what needs a kernel, progress bars, and what changes from run to run."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.get("name") == "stderr" and "\r" in o.get("text", ""))]
            for output in cell.outputs:
                if output.get("data", {}).pop(WIDGET, None):  # its picture stays, if it has one; its repr says nothing
                    output.data.pop("text/plain", None)
            cell.outputs = [o for o in cell.outputs if o.get("data") != {}]
