"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starclip_lib.errors import DataError


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, and refuse NaN and infinity (no JSON reader has to accept them).

    Parameters
    ----------
    path : str or Path
    content : object
    """
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    object

    Raises
    ------
    FileNotFoundError
        If it is not there.
    DataError
        That names it if it is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no JSON ({error})") from error


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
        "run from inside a clone of the project, which has the folders notebooks and params"
    )
