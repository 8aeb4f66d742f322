"""One damaged input, and the judge of what becomes of it: a process of its own, with limits of time and memory."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import shutil
import signal
import stat
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from starclip_lib.support.errors import StarclipError

SECONDS = 30  # of computing; a machine that is slow or busy may take ten times as long
LIMITS = signal.SIGPROF, signal.SIGALRM
MEMORY = 10**9  # bytes that a case may take


@dataclass(frozen=True, eq=False)
class Case:
    """One damaged input.

    name : what it is, unique
    make : writes it into an empty folder, returns the path to open
    door : opens it, returns what was read, as something to compare
    accepted : 'never'; 'same', if what is read is `good`; or 'any'
    good : what the undamaged input gives
    """

    name: str
    make: Callable[[Path], Path]
    door: Callable[[Path], Any]
    accepted: Literal["never", "same", "any"] = "never"
    good: Any = None


def fingerprint(*parts: Any) -> str:
    """Of arrays, tensors and plain values."""
    digest = hashlib.sha256()
    for part in parts:
        array = np.asarray(part)
        plain = array.dtype.kind in "OU"
        digest.update(repr(array.tolist()).encode() if plain else array.tobytes())
        digest.update(f"{array.shape}".encode())
    return digest.hexdigest()


def judged(case: Case) -> str:
    """'' if all is well, else what is wrong."""
    reader, writer = os.pipe()
    folder = Path(tempfile.mkdtemp(prefix="campaign"))
    child = os.fork()
    if child == 0:
        os.close(reader)
        verdict = "died"
        try:
            verdict = _in_child(case, folder)
        finally:
            os.write(writer, verdict.encode("utf-8", "replace")[:60000])
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status, used = os.wait4(child, 0)
    _make_deletable(folder)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"no answer within {SECONDS} s" if number in LIMITS else f"killed by signal {number}"
    peak = used.ru_maxrss * 1024
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if not said and peak - begun > MEMORY:
        return f"took {(peak - begun) / 1e9:.1f} GB"
    return said


def _in_child(case: Case, folder: Path) -> str:
    for limit in LIMITS:
        signal.signal(limit, signal.SIG_DFL)
    path = case.make(folder)
    before = _listing(folder)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(10 * SECONDS)
    try:
        found = case.door(path)
    except StarclipError as error:
        return _judged_message(str(error), path, folder) or _left_behind(folder, before)
    except BaseException as error:
        line = traceback.format_exception(error)[-2].strip().splitlines()[0] if error.__traceback__ else ""
        return f"{type(error).__name__}: {str(error)[:200]} ({line})"
    if case.accepted == "never":
        return "accepted"
    if case.accepted == "same" and pickle.dumps(found) != pickle.dumps(case.good):
        return f"accepted, but not as it was: {found!r:.100}"
    return _left_behind(folder, before)


def _judged_message(message: str, path: Path, folder: Path) -> str:
    if "\n" in message or not message.strip() or len(message) > 3000:
        return f"no line: {message[:200]!r}"
    names = {path.name, path.parent.name, *(p.name for p in folder.rglob("*"))} - {folder.name}
    if f"{folder.name}{os.sep}" not in message and not any(name[:40] in message for name in names):
        return f"names no file: {message[:200]!r}"
    return ""


def _listing(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def _left_behind(folder: Path, before: set[str]) -> str:
    left = {path for path in _listing(folder) - before if not path.endswith((".lock", "settings.json", "stages.json"))}
    return f"left behind: {sorted(left)}" if left else ""


def _make_deletable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
