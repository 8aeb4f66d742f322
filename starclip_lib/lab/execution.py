"""One notebook through papermill, and its page."""

from __future__ import annotations

import builtins
import inspect
import os
import re
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import jupytext
import latex2mathml.converter
import nbformat
import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from starclip_lib.lab import figures
from starclip_lib.lab.widgets.corruption_explorer import CorruptionExplorer
from starclip_lib.lab.widgets.kernels import NotebookKernel
from starclip_lib.lab.widgets.similarity_browser import SimilarityBrowser
from starclip_lib.run import Run
from starclip_lib.support.errors import (
    ConfigError,
    DataError,
    NotebookError,
    StarclipError,
    SystemFault,
    one_line,
    system_message,
)
from starclip_lib.support.files import atomic_path
from starclip_lib.support.machine import socket_folder

_PLOTLY = "application/vnd.plotly.v1+json"
_PICTURE = "image/png"
_STARTING = 600  # seconds that a kernel may take to answer, on a machine that has much else to do
_WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(run: Run, name: str, bars: bool = True) -> None:
    """Run a notebook with the parameters of a run; leave it executed, and as a page, in the report's folder."""
    if run.params_file is None:
        raise StarclipError("this run was not opened by a parameter file; notebooks need one to read")
    folder = run.root / "notebooks"
    parameters = {"params_file": os.path.relpath(run.params_file, folder), "overrides": run.overrides}
    failed = run.report / f"{name}.failed.ipynb"
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=socket_folder()) as private:
        # Sockets in a folder of our own instead of TCP ports: no other user of a shared machine can listen.
        # The notebook, too, is run there: papermill writes its path into it, and that of a project need not be UTF-8.
        work = Path(private, f"{name}.ipynb")
        sockets = {"transport": "ipc", "ip": f"{private}/kernel"} if os.name == "posix" else {}
        nbformat.write(jupytext.read(folder / f"{name}.py"), work)
        try:
            papermill.execute_notebook(
                work,
                work,
                parameters,
                kernel_name="python3",
                kernel_manager_class=NotebookKernel,
                start_timeout=_STARTING,
                progress_bar=False,
                stderr_file=sys.stderr if bars and sys.stderr.isatty() else None,
                cwd=folder,
                config=Config({"KernelManager": sockets}),
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # its own chatter, not the notebook's
            )
        except PapermillExecutionError as error:
            with atomic_path(failed) as part:
                shutil.copyfile(work, part)
            raise _failure(error, name, failed, run.root) from error
        except DeadKernelError:
            raise StarclipError(
                f"notebook {name}: its kernel died (out of memory, or killed). Run the same command again to resume."
            ) from None
        except RuntimeError as error:
            raise StarclipError(f"notebook {name}: its kernel cannot be used ({one_line(str(error))})") from error
        executed = nbformat.read(work, as_version=4)
    _sweep(executed)
    with atomic_path(run.report / f"{name}.ipynb") as part:
        part.write_text(nbformat.writes(executed) + "\n", encoding="utf-8", errors="backslashreplace")
    for output in (o for cell in executed.cells for o in cell.get("outputs", ()) if _PLOTLY in o.get("data", {})):
        del output.data[_PLOTLY]  # nbconvert cannot draw it; beside it stands the saved page in a frame
    for cell in executed.cells:
        if cell.cell_type == "markdown":  # pages link to pages, and show formulas without a network
            cell.source = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.html)", cell.source)
            cell.source = cell.source.replace("](../docs/", "](../../docs/")
            cell.source = re.sub(r"\$\$(.+?)\$\$|\$(.+?)\$", _mathml, cell.source, flags=re.DOTALL)
    html, _ = HTMLExporter(template_name="lab").from_notebook_node(executed)
    with atomic_path(run.report / f"{name}.html") as part:
        part.write_text(html, encoding="utf-8", errors="backslashreplace")


def end_kernels() -> None:
    """End the kernels of all notebooks that run; each `execute` then raises StarclipError."""
    for process in psutil.Process().children():
        with suppress(psutil.Error):
            if "ipykernel_launcher" in process.cmdline():
                process.kill()


def alternative_text(source: str) -> str:
    """Alternative text for the pictures of a cell: the first line of the documentation of what draws them."""
    drawn = [getattr(figures, name, None) for name in re.findall(r"\bfigures\.(\w+)\(", source)]
    drawn += [widget for widget in (CorruptionExplorer, SimilarityBrowser) if f"{widget.__name__}(" in source]
    said = dict.fromkeys((inspect.getdoc(what) or "").partition("\n")[0] for what in drawn)
    return " ".join(filter(None, said)) or "A picture; the text beside it says what it shows."


def _mathml(formula: re.Match[str]) -> str:
    block, inline = formula.groups()
    return latex2mathml.converter.convert(block or inline, display="block" if block else "inline")


_OURS = {kind.__name__ for kind in (StarclipError, ConfigError, DataError, SystemFault)}


def _failure(error: PapermillExecutionError, name: str, failed: Path, root: Path) -> StarclipError:
    """One line where the input is to blame, and the cell itself where something else is."""
    cell, left = f"cell {error.cell_index + 1}", failed.relative_to(root)
    if error.ename in _OURS:
        return StarclipError(f"{error.evalue} (notebook {name}, {cell}; as far as it came: {left})")
    system = getattr(builtins, error.ename, None)
    if isinstance(system, type) and issubclass(system, OSError | MemoryError):
        number = re.match(r"\[Errno (\d+)\]", error.evalue)
        cause = OSError(int(number[1]), error.evalue) if number else OSError(error.evalue)
        message = system_message(MemoryError() if system is MemoryError else cause)
        return StarclipError(f"{message} (notebook {name}, {cell}; as far as it came: {left})")
    code = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[:8])
    return NotebookError(
        f"notebook {name} stopped in {cell} (In [{error.exec_count}]):\n{code}\n"
        f"{error.ename}: {error.evalue}\n"
        f"The notebook as far as it came: {left}. Run the same command again to go on from there."
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
                if _PICTURE in output.get("data", {}):
                    output.metadata[_PICTURE] = {"alt": alternative_text(cell.source)}
                if output.get("data", {}).pop(_WIDGET, None):  # its picture stays, if it has one; its repr says nothing
                    output.data.pop("text/plain", None)
            cell.outputs = [o for o in cell.outputs if o.get("data") != {}]
