"""`starclip browse`: the similarity browser as a page of its own, served on this machine by Voila."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from starclip_lib.errors import StarclipError
from starclip_lib.run import Run
from starclip_lib.widgets.spaces import NEEDED

_INTRODUCTION = """# StarCLIP: stars alike

Click a star on the map, type an identifier, move the sliders, or upload a NIRSpec spectrum. Its nearest neighbours
appear on the map, in the table and as spectra. Change the space to see what alignment does.
"""
_CODE = """import starclip_lib as starclip

starclip.SimilarityBrowser(starclip.open_run({file!r}, {overrides!r}))
"""
_UPLOAD_BYTES = 64 * 2**20
_UNFIT = ("jupyterlab-jupytext",)  # its extension of JupyterLab fails in a page of Voila
# Voila's own page, but for style sheets it fetches from the net: the same icons are in its bundle.
_TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{%- block notebook_css -%}
{{ super() | replace('href="https://cdn.jsdelivr.net/', 'href="data:text/css,') }}
{%- endblock notebook_css -%}
"""


def browse(run: Run, port: int, open_browser: bool, say: Callable[[str], None] = print) -> None:
    """Serve the browser of a run on 127.0.0.1 until it is stopped with Ctrl-C.

    Parameters
    ----------
    run : Run
    port : int
    open_browser : bool
        Open the page in the web browser of this machine.
    say : callable
        What messages are given to.

    Raises
    ------
    StarclipError
        If the run is not complete, if the port is in use, or if the server fails.
    """
    for file in NEEDED:
        run.need(file)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise StarclipError(f"port {port} cannot be used ({error}); name another one: --port") from error
    say(f"serving the browser of {run.params.name}; Ctrl-C stops it")
    say(f"open http://127.0.0.1:{port}/ (it takes some twenty seconds to fill)")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "StarCLIP.ipynb"
        code = _CODE.format(file=str(run.params_file or run.folder), overrides=run.overrides)
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(_INTRODUCTION), nbformat.v4.new_code_cell(code)],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, page)
        template = Path(folder) / "voila" / "templates" / "starclip"
        template.mkdir(parents=True)
        (template / "index.html.j2").write_text(_TEMPLATE, encoding="utf-8")
        (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
        settings: dict[str, dict[str, Any]] = {
            "Voila": {"ip": "127.0.0.1", "port": port, "log_level": "ERROR"}
            | {"tornado_settings": {"websocket_max_message_size": _UPLOAD_BYTES}},
            "VoilaConfiguration": {"template": "starclip", "show_tracebacks": True, "extension_denylist": list(_UNFIT)},
        }
        if os.name == "posix":  # as in the pipeline: sockets in a folder of our own, where nobody else can listen in
            settings["KernelManager"] = {"transport": "ipc", "ip": f"{folder}/kernel"}
        (Path(folder) / "voila.json").write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
            environment[name] = os.pathsep.join(filter(None, [folder, os.environ.get(name)]))
        command = [sys.executable, "-m", "voila", str(page), *([] if open_browser else ["--no-browser"])]
        status = subprocess.run(command, cwd=run.root, env=environment, check=False).returncode
    if status:
        raise StarclipError(f"the server stopped with status {status}; what it said is above")
