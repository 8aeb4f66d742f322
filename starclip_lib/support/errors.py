"""The errors that users meet; the command prints them as one line."""

from __future__ import annotations

import errno
import os
import re

_LONGEST = 1200  # characters of a message; what a damaged file says about itself has no end


def one_line(text: str) -> str:
    """A message as one line that any terminal can show: no control characters, no direction marks, an end."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class StarclipError(Exception):
    """Something the user can mend; the message says what was wrong and what to do, in one line."""

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class ConfigError(StarclipError):
    """A parameter that is unknown, of the wrong type or out of range."""


class DataError(StarclipError):
    """Input that is missing, damaged or does not fit."""


class NotebookError(StarclipError):
    """A notebook that failed for another reason than its input; the message shows the cell."""

    def __init__(self, message: str = ""):
        Exception.__init__(self, message)


class SystemFault(StarclipError):
    """The operating system refused: disk full, no permission, file locked, bad file name, or out of memory."""


# Of file systems that cannot lock: NFS without its lock service, Lustre mounted without flock, some FUSE ones.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524)  # 524: ENOTSUPP of the Linux kernel
# Numbers that come from what a file holds: it made the reader ask for something impossible.
_OF_CONTENT = (0, errno.EINVAL, errno.EFBIG, errno.EOVERFLOW, errno.ERANGE, errno.EDOM, errno.EILSEQ)
_CURES = {
    errno.ENOSPC: "the disk is full; make room, and the same command goes on",
    errno.EDQUOT: "your quota of the disk is used up; make room, and the same command goes on",
    errno.EROFS: "the disk is read-only; work in a folder that can be written",
    errno.EACCES: "permission denied; change its permissions or take another place",
    errno.EPERM: "not permitted, it may be immutable; change that or take another place",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
    errno.EISDIR: "a folder stands where a file belongs; move it away",
    errno.ENOTEMPTY: "a folder stands where a file belongs; move it away",
    errno.ENAMETOOLONG: "the name is too long; take a shorter one",
    errno.ELOOP: "symbolic links lead in a circle",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "not enough memory",
    errno.EIO: "the disk does not answer as it should (input/output error)",
    errno.ESTALE: "the network disk has lost it; try again",
    errno.ETIMEDOUT: "the network disk does not answer; try again",
    errno.ENOTCONN: "the network disk is not connected; mount it again",
    errno.EBUSY: "the system is using it; try again",
    **dict.fromkeys(NO_LOCKS, "this file system has no locks; export HDF5_USE_FILE_LOCKING=FALSE to work without them"),
}
_LOCKED = "another program has it open for writing; close it there, or wait until it is done"
_KILLED = (
    "another program has it open for writing, or was killed while it wrote; close it there, or, if it has ended, "
    "mark the file as closed: h5clear -s FILE"
)


def system_number(error: BaseException) -> int:
    """The system's number of an error or of what caused it, 0 if there is none; HDF5 and PyTorch hide it in text."""
    hidden = re.search(r"errno = (\d+)|\[Errno (\d+)\]", str(error))
    number = error.errno if isinstance(error, OSError) else None
    if not number and hidden:
        number = int(hidden[1] or hidden[2])
    return number or (system_number(error.__cause__) if error.__cause__ else 0)


def is_refusal(error: BaseException) -> bool:
    """Whether an error comes from the system (permission, lock, disk, memory), not from what a file holds."""
    return isinstance(error, MemoryError) or system_number(error) not in _OF_CONTENT or _is_open_elsewhere(error)


def _is_open_elsewhere(error: BaseException) -> bool:
    """Whether HDF5 found the mark that a program leaves in a file while it writes."""
    return "consistency flags" in str(error) or "already open for write" in str(error)


def system_message(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """What the system refused, where, and what to do about it."""
    if isinstance(error, MemoryError):
        return f"{f'{path}: ' if path else ''}not enough memory; close other programs, or ask for fewer stars"
    place = path or getattr(error, "filename", None)
    number = system_number(error)
    what = _CURES.get(number) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    if number in (errno.EAGAIN, errno.EACCES) and "lock" in str(error):
        what = _LOCKED
    elif _is_open_elsewhere(error):
        what = _KILLED
    return f"{f'{os.fspath(place)}: ' if place and not isinstance(place, int) else ''}{what}"
