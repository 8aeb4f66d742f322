"""`starclip browse`: the similarity browser as a page of its own, served on this machine by Voila."""

from __future__ import annotations

import os
import socket
import tempfile
import webbrowser
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from jupyter_server.services.kernels.handlers import KernelActionHandler
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from tornado.ioloop import IOLoop
from traitlets import Unicode
from traitlets.config import Config
from voila.app import Voila

from starclip_lib.lab.widgets.gate import TokenAuth, TokenHandler
from starclip_lib.lab.widgets.kernels import OwnPython
from starclip_lib.lab.widgets.spaces import NEEDED
from starclip_lib.observed.files import read_observed_folder
from starclip_lib.observed.isolated import UPLOAD_BYTES
from starclip_lib.run import Run
from starclip_lib.support.errors import StarclipError, one_line
from starclip_lib.support.machine import socket_folder
from starclip_lib.survey.store import Store

_RUN = """# StarCLIP: similar stars

Click a star on the map, type an identifier, move the sliders, or upload a NIRSpec spectrum. Its nearest neighbours
appear on the map, in the table and as spectra. Change the space to see what alignment does.
"""
# The code of the page.  jsonschema, which plotly imports, compiles a grammar of web addresses for a second, and no code
# here checks one.  The box around the browser spares the picture that it would leave in a notebook.
_PREPARE = """import sys

sys.modules["rfc3987_syntax"] = None
import ipywidgets
import starclip_lib as starclip

"""
_CODE = (
    _PREPARE
    + """ipywidgets.VBox([starclip.SimilarityBrowser(starclip.open_run({file!r}, {overrides!r}))])
"""
)
_STORE = """# Similar stars in a survey

Click a star on the map or type an identifier. The nearest of all stars in the store appear in the table, on the map and
in the Kiel diagram; a condition, such as `instrument == 'apogee' and Fe < -0.5`, says which of them count.
"""
_STORE_CODE = (
    _PREPARE
    + """ipywidgets.VBox([starclip.StoreBrowser({folder!r})])
"""
)
# Extensions of JupyterLab that the page does without: the first fails in Voila, the second is a plotly.js of 5 MB, and
# our figures bring their own.
_UNFIT = ("jupyterlab-jupytext", "jupyterlab-plotly", "@voila-dashboards/jupyterlab-preview")
# Voila's own page, but for style sheets it fetches from the net: the same icons are in its bundle.
_TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{%- block notebook_css -%}
{{ super() | replace('href="https://cdn.jsdelivr.net/', 'href="data:text/css,') }}
{%- endblock notebook_css -%}
"""


def browse(run: Run, port: int, open_browser: bool, callback: Callable[[str], None] = print) -> None:
    """Serve the browser of a run on 127.0.0.1 until it is stopped with Ctrl-C.

    A kernel is kept ready for the next visit, 0.8 GB with a small run. The server lives in this process and ends with
    it, and so do its kernels; a kernel whose page is gone ends within two minutes. StarclipError if the run is not
    complete, or if the port is in use.
    """
    for file in NEEDED:
        run.need(file)
    for spectrum in read_observed_folder(run.root, run.params.observed, callback):  # those of no use are told of here
        if spectrum.damage:
            callback(one_line(f"{spectrum.name}: {spectrum.damage}"))
    code = _CODE.format(file=str(run.params_file or run.folder), overrides=run.overrides)
    _serve(_RUN, code, run.params.name, run.root, port, open_browser, callback)


def browse_store(store: Store, port: int, open_browser: bool, callback: Callable[[str], None] = print) -> None:
    """Serve the browser of an embedding store, as `browse` does that of a run."""
    folder = store.folder.resolve()
    _serve(_STORE, _STORE_CODE.format(folder=str(folder)), str(store.folder), folder, port, open_browser, callback)


def _serve(
    introduction: str, code: str, name: str, root: Path, port: int, open_browser: bool, callback: Callable[[str], None]
) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if not 1 <= port <= 65535:
                raise StarclipError(f"port {port} cannot be used: ports are numbers from 1 to 65535; name one: --port")
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StarclipError(f"port {port} cannot be used ({error}); name another one: --port") from error
    with tempfile.TemporaryDirectory(dir=socket_folder()) as folder:
        page = Path(folder) / "StarCLIP.ipynb"
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(introduction), nbformat.v4.new_code_cell(code)],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, page)
        template = Path(folder) / "voila" / "templates" / "starclip"
        template.mkdir(parents=True)
        (template / "index.html.j2").write_text(_TEMPLATE, encoding="utf-8")
        (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
        os.environ["PYTHONWARNINGS"] = "ignore"
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        os.chdir(root)
        callback(f"starting the browser of {name} (some ten seconds) ...")
        auth = TokenAuth(port)
        server = _Server(
            auth,
            lambda: _announce(auth.address, Path(folder), open_browser, name, callback),
            config=_settings(port, folder),
        )
        server.initialize([str(page)])
        server.start()
        if server.failure is not None:
            raise server.failure


def _settings(port: int, folder: str) -> Config:
    kernels: dict[str, Any] = {"cull_idle_timeout": 120, "cull_interval": 15, "cull_connected": False}
    settings: dict[str, dict[str, Any]] = {
        "Voila": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "log_level": "ERROR", "open_browser": False}
        | {"tornado_settings": {"websocket_max_message_size": 4 * UPLOAD_BYTES}},
        "VoilaConfiguration": {"template": "starclip", "show_tracebacks": True, "extension_denylist": list(_UNFIT)}
        | {"preheat_kernel": True, "default_pool_size": 1},
        "MappingKernelManager": kernels,
    }
    settings["KernelRestarter"] = {"restart_limit": 0}  # a new kernel would not know the page: the page tells to reload
    settings["MultiKernelManager"] = {"kernel_manager_class": f"{__name__}.PrivateKernelManager"}
    if os.name == "posix":  # as in the pipeline: sockets in a folder of our own, where no other user can listen
        settings["KernelManager"] = {"transport": "ipc"}
        settings["PrivateKernelManager"] = {"sockets": folder}
    return Config(settings)


def _announce(address: str, folder: Path, open_browser: bool, name: str, callback: Callable[[str], None]) -> None:
    callback(f"serving the browser of {name}; Ctrl-C stops it")
    callback(f"open {address}")
    if open_browser:  # by a file that only we can read: other users see the arguments of a program
        link = folder / "open.html"
        link.touch(mode=0o600)
        link.write_text(f'<meta http-equiv="refresh" content="0; url={escape(address)}">', encoding="utf-8")
        webbrowser.open(link.as_uri())


class PrivateKernelManager(OwnPython, ServerKernelManager):
    """A kernel whose sockets lie in a folder of its own: two that start at once would share those of one folder."""

    sockets = Unicode(help="where that folder is made").tag(config=True)

    def _ip_default(self) -> str:
        if self.transport != "ipc":
            return super()._ip_default()
        return f"{tempfile.mkdtemp(prefix='k', dir=self.sockets)}/k"


class _Server(Voila):
    """Voila behind access control, with no settings but ours; `ready` is called when its first kernel is."""

    failure: StarclipError | None = None

    def __init__(self, auth: TokenAuth, ready: Callable[[], None], **kwargs: Any):
        super().__init__(**kwargs)
        self.auth, self.ready = auth, ready
        self.config_file_paths: list[str] = []

    def init_settings(self) -> dict[str, Any]:
        return {**super().init_settings(), "allow_remote_access": False, "local_hostnames": ["localhost"]}

    def init_handlers(self) -> list[Any]:
        interrupt = r"/api/kernels/(?P<kernel_id>[\w-]+)/(?P<action>interrupt)"  # the page's Cancel
        return [
            (self.auth, TokenHandler, {"auth": self.auth}),
            (interrupt, KernelActionHandler),
            *super().init_handlers(),
        ]

    def listen(self) -> None:
        IOLoop.current().add_callback(self._wait_for_kernel)
        super().listen()

    async def _wait_for_kernel(self) -> None:
        """Call `ready` when the page of the first kernel has been rendered, or stop if it cannot be started."""
        try:
            for pool in list(self.kernel_manager._pools.values()):
                for heating in list(pool):
                    await (await heating)["task"]
        except Exception as error:
            self.failure = StarclipError(f"the browser's kernel cannot be started: {type(error).__name__}: {error}")
            IOLoop.current().stop()
        else:
            self.ready()
