"""Files that are either whole or not there, and doors that only let through what is expected."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from starclip_lib.errors import DataError, StarclipError, SystemFault, one_line, system_message

LOCK = "run.lock"  # in a folder that a command works in; empty, and locked only while it does
# What a file may hold when it is unpacked.  Real spectra shrink to a third at best, masks of a few per cent of a file
# to nothing; zeros that pretend to be data shrink a thousandfold.
_UNPACKED_FREE, _UNPACKED_RATIO = 256 * 2**20, 50
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # of Windows


def checksums_wanted() -> bool:
    """False if the environment variable STARCLIP_CHECKSUMS is 'skip'."""
    return os.environ.get("STARCLIP_CHECKSUMS", "") != "skip"


def as_path(what: object, meaning: str) -> Path:
    """What somebody gave as a path, if a system could have a file of that name.

    Parameters
    ----------
    what : str or Path
    meaning : str
        What it should be, such as 'a run'; the message says so.

    Returns
    -------
    Path

    Raises
    ------
    DataError
    """
    if not isinstance(what, str | os.PathLike) or not os.fspath(what):
        raise DataError(f"{what!r} is not {meaning}: give a name or a path")
    path = Path(what)
    if "\0" in str(path) or any(len(os.fsencode(part)) > 255 for part in path.parts) or len(str(path)) > 4000:
        raise DataError(f"{str(path)[:80]!r} is not {meaning}: no file can have that name")
    return path


def regular_file(path: str | Path, hint: str = "", limit: int | None = None) -> Path:
    """The path of a file that can be read: there, no folder, no pipe, no device, not too large.

    Parameters
    ----------
    path : str or Path
    hint : str
        How to get it, said if it is missing.
    limit : int, optional
        Bytes it may have.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        Naming it and what it is instead.
    SystemFault
        If the system does not let us look.
    """
    path = as_path(path, "a file")
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} is missing{f'; {hint}' if hint else ''}") from None
    except OSError as error:
        raise SystemFault(system_message(error, path)) from None
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise DataError(f"{path} is {what}, no file")
    if limit is not None and status.st_size > limit:
        raise DataError(f"{path} has {size_text(status.st_size)}, more than such a file can have ({size_text(limit)})")
    return path


def read_bytes(path: str | Path, limit: int, hint: str = "") -> bytes:
    """All of a file.

    Parameters
    ----------
    path : str or Path
    limit : int
        Bytes it may have.
    hint : str
        How to get it, said if it is missing.

    Returns
    -------
    bytes

    Raises
    ------
    DataError or SystemFault
        As `regular_file`.
    """
    try:
        return regular_file(path, hint, limit).read_bytes()
    except OSError as error:
        raise SystemFault(system_message(error, path)) from error


@contextmanager
def damage_refused(path: str | Path, what: str, cure: str = "") -> Iterator[None]:
    """Whatever a library stumbles over while it reads a file becomes one line that names the file.

    Parameters
    ----------
    path : str or Path
    what : str
        What is then said of it, such as 'is truncated or no FITS file'.
    cure : str
        What to do about it.

    Raises
    ------
    DataError
        For anything but memory: damaged files fail in any way.
    SystemFault
        If there is not enough memory.
    """
    try:
        yield
    except StarclipError:
        raise
    except MemoryError as error:
        raise SystemFault(system_message(error, path)) from error
    except Exception as error:
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise DataError(f"{path} {what} ({reason}){f'; {cure}' if cure else ''}") from error


def size_text(n_bytes: float) -> str:
    """A number of bytes for people, such as '1.5 GB'."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if n_bytes < 1000 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:,.0f} {unit}" if n_bytes >= 10 or unit == "bytes" else f"{n_bytes:.1f} {unit}"


def unpacked_limit(stored: int) -> int:
    """Bytes that `stored` bytes of a compressed file may unpack to; more is a trap.

    Parameters
    ----------
    stored : int

    Returns
    -------
    int
    """
    return _UNPACKED_FREE + _UNPACKED_RATIO * stored


def check_memory(n_bytes: float, what: str) -> None:
    """Raise DataError if this machine has not that much memory left.

    Parameters
    ----------
    n_bytes : float
    what : str
        What needs it; the message begins with it.

    Raises
    ------
    DataError
    """
    free = psutil.virtual_memory().available
    if n_bytes > free:
        raise DataError(f"{what} needs {size_text(n_bytes)} of memory, this machine has {size_text(free)} left")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    The name is always the same, so what a killed process leaves behind is overwritten by the next one.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    Path
        The temporary name.

    Raises
    ------
    SystemFault
        If the disk is full or read-only, the name too long, ...
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        about = None if error.filename in (None, str(part)) else error.filename
        raise SystemFault(system_message(error, about or path)) from error
    except RuntimeError as error:  # that is how HDF5 and PyTorch say that the system refused to write
        if not re.search(r"errno = \d+|No space left|write failed|failed writing|unexpected pos", str(error)):
            raise
        raise SystemFault(f"{system_message(error, path)}; it could not be written whole") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def locked(folder: str | Path, name: str = LOCK, wait: float = 0) -> Iterator[None]:
    """Hold a folder, so that two commands do not work in it at once; a process that dies lets go of it.

    Parameters
    ----------
    folder : str or Path
        Made if it is not there.
    name : str
        Of the file that is locked in it.
    wait : float
        Seconds that another process may take to let go of it.

    Raises
    ------
    DataError
        If another process holds it.
    SystemFault
        If the folder cannot be made or written.
    """
    folder = Path(folder)
    lock = FileLock(folder / name, timeout=wait)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DataError(
            f"{folder}: another process is working there; wait until it is done, or give this run another name"
        ) from None
    except OSError as error:
        raise SystemFault(system_message(error, folder)) from error
    try:
        yield
    finally:
        lock.release()


def safe_name(name: object) -> str:
    """A name that is harmless in a page, as a file name and in a terminal: letters, digits, '_.+-', at most 80.

    Parameters
    ----------
    name : object

    Returns
    -------
    str
    """
    plain = re.sub(r"[^\w.+-]+", "_", str(name)[:4000], flags=re.ASCII).strip("._")[:80] or "unnamed"
    return f"{plain}_" if plain.split(".")[0].lower() in _RESERVED else plain


def digest(content: Any) -> str:
    """SHA-256 of anything that is JSON.

    Parameters
    ----------
    content : object

    Returns
    -------
    str
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def project_root(*starts: Path) -> Path:
    """The nearest folder at or above one of `starts` that holds `notebooks` and `params`.

    Parameters
    ----------
    *starts : Path

    Returns
    -------
    Path
    """
    for start in starts:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise DataError(
        f"no project found at or above {' or '.join(str(start) for start in starts)}: "
        "run from inside a clone of the project, or a workspace (starclip new my-stars), with notebooks and params"
    )
