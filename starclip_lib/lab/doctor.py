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
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from starclip_lib.lab.workspace import notice
from starclip_lib.support.errors import StarclipError, SystemFault, one_line
from starclip_lib.support.files import locked, project_root
from starclip_lib.support.machine import memory, socket_folder, unwritable_caches, usable_cores

_MEMORY = 6 * 2**30  # bytes: `make run`
_OBSERVING = 2**30  # bytes: `starclip observe`
_DISK = 3 * 2**30
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """What was looked at."""

    what: str
    found: str
    verdict: str = "ok"  # 'ok', 'note' (some things will not work, or slowly), or 'problem'
    cure: str = ""  # what to do; empty if nothing is needed


def examine(folder: Path) -> Iterator[Finding]:
    """Look at Python, packages, memory, processors, caches, sockets, kernels, the folder, a GPU and Chromium."""
    for what, look in (
        ("Python", _python),
        ("packages", _packages),
        ("memory", _memory),
        ("threads", _threads),
        ("caches", _caches),
        ("sockets", _sockets),
        ("kernel", _kernel),
        ("emulator", _emulator),
        ("GPU", _gpu),
        ("Chromium", _chromium),
    ):
        try:
            yield look()
        except (ImportError, OSError, RuntimeError) as error:  # what is broken must not hide what is not
            yield Finding(what, one_line(f"cannot be inspected: {error}"), "problem", "make setup, or install it again")
    yield from _folder(folder)


def report(folder: Path, callback: Callable[[str], None]) -> bool:
    """Say what was found, a line each."""
    began, problems = time.monotonic(), 0
    for finding in examine(folder):
        problems += finding.verdict == "problem"
        callback(f"{finding.verdict:<8} {finding.what:<10} {finding.found}")
        if finding.cure:
            callback(f"{'':<8} {'':<10} -> {finding.cure}")
    seconds = time.monotonic() - began
    callback(f"\n{'this machine is ready' if not problems else f'{problems} to mend'} ({seconds:.0f} s)")
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

    free, total = memory()
    found = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if total < psutil.virtual_memory().total:
        found += ", the limit of this container"
    if free < _OBSERVING:
        return Finding("memory", found, "problem", "close other programs: starclip observe needs 1 GiB, make run 6")
    if free < _MEMORY:
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


def _caches() -> Finding:
    home = os.path.expanduser("~")
    if missing := unwritable_caches():
        place = Path(os.environ.get(missing[0], "nowhere")).parent
        cure = f"to keep them elsewhere, set HOME to a folder of your own, or each of {', '.join(missing)}"
        return Finding("caches", f"{home} cannot be written; they are in {place}", "note", cure)
    return Finding("caches", f"in {home}, or where the environment sets them")


def _sockets() -> Finding:
    temporary = tempfile.gettempdir()
    try:
        place = socket_folder()
    except SystemFault as error:
        return Finding("sockets", "no folder with a short name", "problem", str(error))
    if place != temporary:
        return Finding("sockets", f"in {place}: the name of {temporary} is too long for them")
    return Finding("sockets", f"in {place}")


def _kernel() -> Finding:
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ModuleNotFoundError:
        return Finding(
            "kernel", "Jupyter is not here", "note", "only notebooks need it: pip install 'starclip[notebooks]'"
        )
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        command = sys.executable
    if shutil.which(command) is None or not os.path.samefile(str(shutil.which(command)), sys.executable):
        cure = "starclip uses its own Python all the same; for JupyterLab unset JUPYTER_PATH"
        return Finding("kernel", f"Jupyter's python3 is {one_line(command)}, not {sys.executable}", "note", cure)
    return Finding("kernel", "Jupyter's python3 is this Python")


def _locks(folder: Path) -> Finding:
    try:
        with locked(folder, ".starclip-doctor.lock") as note:
            pass
    except StarclipError as error:
        return Finding("locks", str(error), "problem", "work in a folder that you may write")
    finally:
        with suppress(OSError):
            (folder / ".starclip-doctor.lock").unlink(missing_ok=True)
    return Finding("locks", note or "work in this folder", "note" if note else "ok")


def _folder(folder: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            pass
        yield Finding("folder", f"{folder.resolve()} can be written")
    except OSError as error:
        yield Finding("folder", f"{folder}: {error.strerror}", "problem", "work in a folder that you may write")
        return
    yield _locks(folder)
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
    from starclip_lib.physics.emulator import default_emulator

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
