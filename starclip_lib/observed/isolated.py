"""Reading a file that a stranger has sent: in a process of its own, with limits on time and memory.

What the child finds comes back as plain arrays; whatever becomes of it, the parent goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from starclip_lib.observed.files import read_observed
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import safe_name, size_text

UPLOAD_BYTES = 64 * 2**20
_SECONDS = 60.0
_MEMORY = 2 * 2**30  # bytes of address space
_WORDS = ("name", "second_source", "damage", "lsf", "target", "medium", "note", "frame")
_ARRAYS = ("wavelength", "flux", "ivar", "flagged", "bad")


def read_isolated(
    name: str, content: bytes, settings: ObservedParams, seconds: float = _SECONDS, memory: int = _MEMORY
) -> list[ObservedSpectrum]:
    """The spectra of an uploaded file. Raises DataError naming the file, whatever is wrong with it."""
    plain = safe_name(name)
    if len(content) > UPLOAD_BYTES:
        raise DataError(f"{plain}: {size_text(len(content))}, at most {size_text(UPLOAD_BYTES)} can be uploaded")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / plain
        path.write_bytes(content)
        command = [sys.executable, "-m", __name__, str(path), settings.model_dump_json(), str(memory)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # each would reserve memory
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds, env=environment, check=False)
        except subprocess.TimeoutExpired:
            raise DataError(f"{plain}: not read within {seconds:g} s; it is given up") from None
        if done.returncode == 1 and done.stdout:
            raise DataError(done.stdout.decode("utf-8", "replace").replace(f"{folder}{os.sep}", ""))
        if done.returncode:
            raise DataError(f"{plain}: reading it needs more than {size_text(memory)} of memory, or crashed")
        with np.load(f"{path}.npz", allow_pickle=False) as found:
            return [
                ObservedSpectrum(**one, **{key: found[f"{number}_{key}"] for key in _ARRAYS})
                for number, one in enumerate(json.loads(str(found["about"])))
            ]


def _child(path: str, settings: str, memory: str) -> int:
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    try:
        spectra = read_observed(path, ObservedParams.model_validate_json(settings))
    except StarclipError as error:
        print(one_line(str(error)), end="")
        return 1
    about = [{key: getattr(spectrum, key) for key in _WORDS} for spectrum in spectra]
    arrays = {f"{n}_{key}": getattr(spectrum, key) for n, spectrum in enumerate(spectra) for key in _ARRAYS}
    np.savez(f"{path}.npz", about=json.dumps(about), **arrays)
    return 0


if __name__ == "__main__":
    sys.exit(_child(*sys.argv[1:]))
