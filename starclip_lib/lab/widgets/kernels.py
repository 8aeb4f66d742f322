"""Kernels of this Python, whatever JUPYTER_PATH offers under its name, with sockets that no other user can reach."""

from __future__ import annotations

import sys

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from traitlets import HasTraits

_COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


class OwnPython(HasTraits):
    """The part that kernel managers share: which program is started."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The interpreter that runs this; `JUPYTER_PATH` or a user's folder may hold another kernel named python3."""
        return KernelSpec(argv=list(_COMMAND), display_name="Python 3", language="python")


class NotebookKernel(OwnPython, AsyncKernelManager):
    """The kernel of a notebook that papermill runs."""
