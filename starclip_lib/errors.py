"""The errors that users meet; the command prints them as one line."""

from __future__ import annotations

import errno
import os
import re

_LONGEST = 1200  # characters of a message; what a damaged file says about itself has no end


def one_line(text: str) -> str:
    """A message as one line that any terminal can show: no control characters, no direction marks, an end.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


class StarclipError(Exception):
    """Something the user can mend; the message says what was wrong and what to do, in one line.

    Parameters
    ----------
    message : str
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))


class ConfigError(StarclipError):
    """A parameter that is unknown, of the wrong type or out of range."""


class DataError(StarclipError):
    """Input that is missing, damaged or does not fit."""


class NotebookError(StarclipError):
    """A notebook that failed for another reason than its input; the message shows the cell.

    Parameters
    ----------
    message : str
        Of several lines.
    """

    def __init__(self, message: str = ""):
        Exception.__init__(self, message)


class SystemFault(StarclipError):
    """The machine would not: disk, permission, name, memory."""


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
}


def system_message(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """What the system refused, where, and what to do about it.

    Parameters
    ----------
    error : OSError, MemoryError or RuntimeError
        Those of HDF5 and PyTorch hide the system's number in their text.
    path : str or PathLike, optional
        The file it was about; the error's own if not given.

    Returns
    -------
    str
        One line.
    """
    if isinstance(error, MemoryError):
        return f"{f'{path}: ' if path else ''}not enough memory; close other programs, or ask for fewer stars"
    place = path or getattr(error, "filename", None)
    hidden = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(hidden[1]) if hidden else 0)
    what = _CURES.get(number) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{f'{os.fspath(place)}: ' if place and not isinstance(place, int) else ''}{what}"
