"""`starclip doctor`: is this machine ready?  Every doubt comes with a cure; nothing is changed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from starclip_lib.errors import StarclipError, one_line
from starclip_lib.files import project_root
from starclip_lib.pipeline.workspace import notice
from starclip_lib.threads import usable_cores

_MEMORY = 6 * 2**30  # bytes: `make run`
_OBSERVING = 2**30  # bytes: `starclip observe`
_DISK = 3 * 2**30
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """What was looked at.

    Parameters
    ----------
    what, found : str
    verdict : str
        'ok', 'note' (some things will not work, or slowly), or 'problem'.
    cure : str
        What to do; empty if nothing is needed.
    """

    what: str
    found: str
    verdict: str = "ok"
    cure: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Look at Python, packages, memory, processors, the folder, a GPU and Chromium; a few seconds.

    Parameters
    ----------
    folder : Path
        Where one wants to work.

    Yields
    ------
    Finding
    """
    for what, look in (
        ("Python", _python),
        ("packages", _packages),
        ("memory", _memory),
        ("threads", _threads),
        ("emulator", _emulator),
        ("GPU", _gpu),
        ("Chromium", _chromium),
    ):
        try:
            yield look()
        except (ImportError, OSError, RuntimeError) as error:  # what is broken must not hide what is not
            yield Finding(what, one_line(f"cannot be looked at: {error}"), "problem", "make setup, or install it anew")
    yield from _folder(folder)


def report(folder: Path, say: Callable[[str], None]) -> bool:
    """Say what was found, a line each.

    Parameters
    ----------
    folder : Path
    say : callable
        Is given a line of text.

    Returns
    -------
    bool
        Whether there is no problem.
    """
    began, problems = time.monotonic(), 0
    for finding in examine(folder):
        problems += finding.verdict == "problem"
        say(f"{finding.verdict:<8} {finding.what:<10} {finding.found}")
        if finding.cure:
            say(f"{'':<8} {'':<10} -> {finding.cure}")
    seconds = time.monotonic() - began
    say(f"\n{'this machine is ready' if not problems else f'{problems} to mend'} ({seconds:.0f} s)")
    return not problems


def _python() -> Finding:
    from packaging.specifiers import SpecifierSet  # each check imports what it needs, which may be missing

    found = f"{sys.version.split()[0]} in {sys.prefix}"
    wanted = distribution("starclip").metadata["Requires-Python"]
    if not SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return Finding("Python", found, "problem", f"{wanted} is needed: make setup PYTHON=python3.12")
    return Finding("Python", found)


def _packages() -> Finding:
    from packaging.requirements import Requirement

    wrong = []
    for line in distribution("starclip").requires or ():
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(there, prereleases=True):
            wrong.append(f"{need.name} is {there}, needs {need.specifier}")
    if wrong:
        return Finding("packages", "; ".join(wrong), "problem", "make setup, or pip install -e . -c lock.txt")
    return Finding("packages", f"starclip {version('starclip')}, torch {version('torch')}, all that it needs is there")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available < _OBSERVING:
        return Finding("memory", found, "problem", "close other programs: starclip observe needs 1 GiB, make run 6")
    if memory.available < _MEMORY:
        return Finding("memory", found, "note", "enough for starclip observe; for make run set data.n_stars=1000")
    return Finding("memory", found)


def _threads() -> Finding:
    cores = usable_cores()
    chosen = os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} cores, OMP_NUM_THREADS {chosen or 'not set'}"
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if chosen is not None and not re.fullmatch(r"0*[1-9][0-9]*(,[0-9]+)*", chosen):
        return Finding("threads", found, "problem", "OMP_NUM_THREADS must be a number: export OMP_NUM_THREADS=1")
    if chosen is None and busy > cores / 2:
        cure = "other programs compute here: export OMP_NUM_THREADS=1 leaves them their share"
        return Finding("threads", f"{found}, load {busy:.1f}", "note", cure)
    return Finding("threads", found)


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            pass
        yield Finding("folder", f"{folder.resolve()} can be written")
    except OSError as error:
        yield Finding("folder", f"{folder}: {error.strerror}", "problem", "work in a folder that you may write")
        return
    free = shutil.disk_usage(folder).free
    enough = free > _DISK
    cure = "" if enough else "make run needs 3 GiB; starclip observe a few MB"
    yield Finding("disk", f"{free / 2**30:.0f} GiB free", "ok" if enough else "note", cure)
    try:
        old = notice(root := project_root(folder))
        yield Finding("project", f"in {root}", "note" if old else "ok", old)
    except StarclipError:
        yield Finding("project", "none here", "note", "starclip observe works; for runs: starclip new my-stars")


def _emulator() -> Finding:
    from starclip_lib.data.emulator import default_emulator

    try:
        return Finding("emulator", f"{default_emulator().version} opens")
    except (StarclipError, OSError) as error:
        return Finding("emulator", str(error), "problem", "reinstall starclip")


def _gpu() -> Finding:
    import torch  # takes seconds; the lines above need not wait

    if torch.cuda.is_available():
        return Finding("GPU", f"{torch.cuda.get_device_name()}, PyTorch uses it")
    return Finding("GPU", "none that PyTorch sees; none is needed")


def _chromium() -> Finding:
    place = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if place is None:
        return Finding("Chromium", "not here", "note", "only make test-browser needs it: make chromium")
    return Finding("Chromium", place)
