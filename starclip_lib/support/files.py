"""Files that are either whole or not there, and doors that only let through what is expected."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLease, Timeout

from starclip_lib.support.errors import (
    NO_LOCKS,
    DataError,
    StarclipError,
    SystemFault,
    is_refusal,
    one_line,
    system_message,
    system_number,
)
from starclip_lib.support.machine import memory

LOCK = "run.lock"  # in a folder that a command works in; empty, and locked only while it does
LEASE = 30.0  # seconds
NO_LOCKS_NOTE = "this file system has no locks: a file with the suffix .held marks the folder as in use"
# What a file may hold when it is unpacked.  Real spectra shrink to a third at best, masks of a few per cent of a file
# to nothing; zeros that pretend to be data shrink a thousandfold.
_UNPACKED_FREE, _UNPACKED_RATIO = 256 * 2**20, 50
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # of Windows


def checksums_wanted() -> bool:
    """False if the environment variable STARCLIP_CHECKSUMS is 'skip'."""
    return os.environ.get("STARCLIP_CHECKSUMS", "") != "skip"


def as_path(what: object, meaning: str) -> Path:
    """What somebody gave as a path, if a system could have a file of that name."""
    if not isinstance(what, str | os.PathLike) or not os.fspath(what):
        raise DataError(f"{what!r} is not {meaning}: give a name or a path")
    path = Path(what)
    if "\0" in str(path) or any(len(os.fsencode(part)) > 255 for part in path.parts) or len(str(path)) > 4000:
        raise DataError(f"{str(path)[:80]!r} is not {meaning}: no file can have that name")
    return path


def printable_path(path: Path, meaning: str) -> Path:
    """An absolute path that can be shown and kept in UTF-8; DataError if a folder's name is of another kind."""
    shown = one_line(os.fsencode(path.absolute()).decode("utf-8", "backslashreplace"))
    if shown != str(path.absolute()):
        raise DataError(f"{meaning} {shown}: its name has characters that are not UTF-8, or cannot be shown; rename it")
    return path.absolute()


def regular_file(path: str | Path, hint: str = "", limit: int | None = None) -> Path:
    """The path of a file that is there, is not a folder, pipe or device, and has at most `limit` bytes.

    `hint` tells how to get it where it is missing.  Raises DataError, or SystemFault if the system refuses to look.
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
        raise DataError(f"{path} is {what}, not a file")
    if limit is not None and status.st_size > limit:
        raise DataError(f"{path} has {size_text(status.st_size)}, more than such a file can have ({size_text(limit)})")
    return path


def read_bytes(path: str | Path, limit: int, hint: str = "") -> bytes:
    """All of a file of at most `limit` bytes; DataError or SystemFault as for `regular_file`."""
    try:
        with regular_file(path, hint, limit).open("rb") as file:
            content = file.read(limit + 1)  # what grows, or lies in /proc, has another size than it declares
    except OSError as error:
        raise SystemFault(system_message(error, path)) from error
    if len(content) > limit:
        raise DataError(f"{path} has more bytes than such a file can have ({size_text(limit)})")
    return content


@contextmanager
def damage_refused(path: str | Path, what: str, cure: str = "") -> Iterator[None]:
    """Make one line, with the file's name, of any error of a library that reads a file.

    What the system refused (permission, lock, disk, memory) is a SystemFault with its own cure.  `what` and `cure` are
    used only where the content was read and found wrong.
    """
    try:
        yield
    except StarclipError:
        raise
    except Exception as error:
        if is_refusal(error):
            raise SystemFault(system_message(error, path)) from error
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
    """Bytes that `stored` bytes of a compressed file may unpack to; more is a trap."""
    return _UNPACKED_FREE + _UNPACKED_RATIO * stored


def check_memory(n_bytes: float, what: str) -> None:
    """Raise DataError if this machine, or its container, has not that much memory left for `what`."""
    free, _ = memory()
    if n_bytes > free:
        raise DataError(f"{what} needs {size_text(n_bytes)} of memory, this machine has {size_text(free)} left")


def check_disk(n_bytes: float, path: Path, what: str) -> None:
    """Raise DataError if the disk on which `path` is to be written has not that much room."""
    place = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise SystemFault(system_message(error, place)) from error
    if n_bytes > free:
        raise DataError(f"{what} needs {size_text(n_bytes)} of disk, {place} has {size_text(free)} left")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    The name is always the same, so what a killed process leaves behind is overwritten by the next one.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a link of that name would lead what is written to another file
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
def whole_folder(folder: Path, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """A temporary folder, whose files are moved into `folder` when the block ends well: all of them, or none.

    Raises DataError if one of them would replace one of `inputs`, SystemFault if the system refuses to write.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".starclip.", dir=folder) as private:
            yield Path(private)
            moves = {part: folder / part.relative_to(private) for part in Path(private).rglob("*") if part.is_file()}
            kept = {os.path.realpath(path) for path in inputs}
            for place in moves.values():
                if os.path.realpath(place) in kept:
                    raise DataError(f"{place} is one of the files to read; give another folder for what is written")
                if place.is_dir():
                    raise SystemFault(system_message(IsADirectoryError(errno.EISDIR, ""), place))
            for part, place in moves.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, place)
    except OSError as error:
        raise SystemFault(system_message(error, error.filename or folder)) from error
    finally:
        if made:
            with suppress(OSError):  # it is not empty where all went well
                folder.rmdir()


@contextmanager
def locked(folder: str | Path, name: str = LOCK, wait: float = 0) -> Iterator[str]:
    """Hold a folder, so that two commands do not work in it at once; a process that dies lets go of it.

    `wait` is in seconds.  Yields a note for the user if the file system has no locks, else an empty text.  Raises
    DataError if another process holds the folder, SystemFault if it cannot be made or written.
    """
    folder = Path(folder)
    lock: FileLock | SoftFileLease = FileLock(folder / name, timeout=wait, fallback_to_soft=False)
    note = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except OSError as error:
            if isinstance(error, Timeout) or system_number(error) not in NO_LOCKS:
                raise
            lock, note = _lease(folder / f"{name}.held", wait), NO_LOCKS_NOTE
    except Timeout:
        raise DataError(
            f"{folder}: another process is working there; wait until it is done, or give this run another name"
        ) from None
    except OSError as error:
        raise SystemFault(system_message(error, folder)) from error
    try:
        yield note
    finally:
        lock.release()


def _lease(path: Path, wait: float) -> SoftFileLease:
    """Hold a file that names host, process and start, and is touched every few seconds as long as the process lives.

    A holder that has ended on this host is recognised at once; one of another host, such as in a copied folder, when
    the file has not been touched for `LEASE` seconds.
    """
    lease = SoftFileLease(path, lease_duration=LEASE, timeout=max(wait, 1.5 * LEASE))
    before = _state(path)
    try:
        lease.acquire()
    except Timeout:  # filelock takes over an idle file by a swap of names, which Lustre and NFS refuse
        if before is None or _state(path) != before:
            raise
        path.unlink(missing_ok=True)
        lease.acquire(timeout=0)
    return lease


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def safe_name(name: object) -> str:
    """A name that is harmless in a page, as a file name and in a terminal: letters, digits, '_.+-', at most 80.

    It does not begin with a sign, which would make it an option of a command or a formula of a spreadsheet.
    """
    plain = re.sub(r"[^\w.+-]+", "_", str(name)[:4000], flags=re.ASCII).strip("._").lstrip("+-")[:80] or "unnamed"
    return f"{plain}_" if plain.split(".")[0].lower() in _RESERVED else plain


def digest(content: Any) -> str:
    """SHA-256 of anything that is JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, which are read again only when its size, time or inode has changed."""
    try:
        state = path.stat()
        return _file_digest(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except OSError as error:
        raise SystemFault(system_message(error, path)) from error


@lru_cache(maxsize=256)
def _file_digest(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def project_root(*starts: Path) -> Path:
    """The nearest folder at or above one of `starts` that holds `notebooks` and `params`."""
    for start in starts:
        place = Path(os.path.realpath(start))  # unlike `Path.resolve`, bears links that lead in a circle
        for folder in (place, *place.parents):
            if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
                return folder
    raise DataError(
        f"no project found at or above {' or '.join(str(start) for start in starts)}: "
        "run from inside a clone of the project, or a workspace (starclip new my-stars), with notebooks and params"
    )
