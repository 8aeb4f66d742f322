"""What this process may use: memory and processors under the limits of a container, folders for caches and sockets.

The front door calls `prepare_environment` before anything is loaded, so this module imports nothing heavy.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from starclip_lib.support.errors import SystemFault, one_line

_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 2**60  # bytes; version 1 writes a number near 2^63 where there is no limit
# The longest name of a socket is 103 bytes (macOS) or 107 (Linux); a private folder and the kernel's part take 30.
_SOCKET_FOLDER = 70
_PRIVATE = (
    "starclip-"  # names of folders for caches begin so; a process that has inherited one sees it in the variables
)
# Where packages keep caches and settings below HOME, by the variable that moves them.
_CACHES = {
    "NUMBA_CACHE_DIR": ".cache/numba",
    "XDG_CACHE_HOME": ".cache",
    "MPLCONFIGDIR": ".config/matplotlib",
    "IPYTHONDIR": ".ipython",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "JUPYTER_DATA_DIR": ".local/share/jupyter",
    "JUPYTER_RUNTIME_DIR": ".local/share/jupyter/runtime",
}


def prepare_environment() -> None:
    """Set environment variables for packages that read them when they are loaded; kernels and workers inherit them."""
    # Threads that wait for each other sleep.  By default they spin, which beside other busy programs makes small
    # networks several times slower (benchmarks/threads.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if (cores := usable_cores()) < _affinity():  # PyTorch and OpenBLAS count processors, but do not know quotas
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))
    if missing := [variable for variable in unwritable_caches() if not os.environ.get(variable)]:
        with suppress(OSError):  # there is no temporary folder either: the commands that need one name the problem
            folder = _private_folder()
            for variable in missing:
                place = Path(folder, variable.lower())
                place.mkdir(mode=0o700, exist_ok=True)
                os.environ[variable] = str(place)


def unwritable_caches() -> list[str]:
    """The variables whose folder below HOME cannot be written, and that the user has not set."""
    home = Path(os.path.expanduser("~"))  # '~' itself if there is no HOME and the user has no entry in passwd
    return [
        variable
        for variable, place in _CACHES.items()
        if (not os.environ.get(variable) or Path(os.environ[variable]).parent.name.startswith(_PRIVATE))
        and not _can_be_written(home / place)
    ]


def _can_be_written(folder: Path) -> bool:
    """Whether a folder can be written, or made where it is missing."""
    if not folder.is_absolute():
        return False
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
    except (OSError, StopIteration):
        return False
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _private_folder() -> str:
    """A folder for caches below the temporary one that no other user can write: numba runs what it finds there."""
    shared = Path(tempfile.gettempdir(), f"{_PRIVATE}{os.getuid() if hasattr(os, 'getuid') else 'cache'}")
    with suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        state = shared.lstat()
        ours = not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o077)
        if stat.S_ISDIR(state.st_mode) and ours:
            return str(shared)
    return tempfile.mkdtemp(prefix=_PRIVATE)


def socket_folder() -> str:
    """A folder whose name is short enough for sockets: that for temporary files, or a shorter one."""
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"]
    for place in filter(None, places):
        if len(os.fsencode(place)) <= _SOCKET_FOLDER and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return place
    raise SystemFault(
        f"TMPDIR {one_line(places[0])}: a name of {len(os.fsencode(places[0]))} characters is too long for the sockets "
        f"of a kernel; set TMPDIR to a folder with at most {_SOCKET_FOLDER} (export TMPDIR=/tmp)"
    )


def usable_cores() -> int:
    """Processors that this process may use: those that the system gives it, or the quota of its container."""
    cores = _affinity()
    for folder, version in _groups("cpu"):
        if version == 2:
            words = _read(folder / "cpu.max").split()
        else:
            words = (_read(folder / "cpu.cfs_quota_us") + " " + _read(folder / "cpu.cfs_period_us")).split()
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            cores = min(cores, max(1, math.ceil(int(words[0]) / int(words[1]))))
    return cores


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[float, float]:
    """Bytes that this process can still get, and bytes in all: of the machine, or of its container if that has less."""
    import psutil

    machine = psutil.virtual_memory()
    free, total = float(machine.available), float(machine.total)
    for folder, version in _groups("memory"):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_read(folder / name).strip() for name in names)
        if not limit.isdigit() or int(limit) > _UNLIMITED or not used.isdigit():
            continue
        # pages of files that were read are counted as used, and given back when memory is short
        words = dict(line.split(maxsplit=1) for line in _read(folder / "memory.stat").splitlines() if " " in line)
        cached = words.get("inactive_file" if version == 2 else "total_inactive_file", "0")
        free = min(free, max(0.0, float(limit) - float(used) + float(cached)))
        total = min(total, float(limit))
    return free, total


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The control groups that limit this process, with the version of their interface: its own and those above it.

    In a container the mounted root is the container's own group, whatever the path in /proc says.
    """
    for line in _read(_OWN_GROUPS).splitlines():
        _, controllers, place = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        mount = _CGROUPS / controller if version == 1 else _CGROUPS
        inside = PurePosixPath(place.strip("/"))
        for folder in dict.fromkeys((inside, *inside.parents, PurePosixPath("."))):
            yield mount / folder, version


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
