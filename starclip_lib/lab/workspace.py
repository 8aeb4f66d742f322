"""A workspace: the package's notebooks, parameter files and documents in a folder of one's own, and what differs since.

A clone of the project is one already; `starclip new` makes one for those who have installed a wheel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader
from pydantic import BaseModel

from starclip_lib import __version__
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.support.errors import DataError, SystemFault, one_line, system_message
from starclip_lib.support.files import atomic_path, read_bytes

RECORD = "workspace.json"
_LARGEST = 64 * 2**20  # bytes of a file that a workspace is made of
_BROUGHT = (
    "notebooks/*.py",
    "notebooks/*.ipynb",
    "params/*.yaml",
    "docs/*.md",
    "docs/guides/*.md",
    "docs/figures/*.png",
)


class Record(BaseModel):
    """What a workspace was made of: the version of the package, and each file's SHA-256 as it was then."""

    version: str
    files: dict[str, str]


def new_workspace(folder: Path) -> None:
    """Make a workspace in a new or empty folder; it has its record only when it is whole."""
    if folder.is_symlink() and not folder.exists():
        raise DataError(f"{folder} is a link that leads nowhere; give the workspace another name")
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; give the workspace another name")
    if folder.is_dir() and any(folder.iterdir()):
        hint = f"it is a workspace: starclip new {folder} --update renews it" if (folder / RECORD).is_file() else ""
        raise DataError(f"{folder} is not empty; {hint or 'give the workspace another name'}")
    try:
        place = Path(os.path.realpath(folder))
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place if place.exists() else place.parent  # of an empty folder the one above may not be ours to write
        with tempfile.TemporaryDirectory(prefix=".starclip.", dir=beside) as private:
            made = Path(private) / "workspace"
            for name, source in brought().items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, made / name)
            pages = Environment(loader=PackageLoader("starclip_lib.lab"), keep_trailing_newline=True)
            text = pages.get_template("workspace.md.j2").render(name=one_line(place.name), version=__version__)
            (made / "README.md").write_text(text, encoding="utf-8")
            _write_record(made, {name: _sha256(made / name) for name in brought()})
            if not place.exists():
                os.replace(made, place)
            else:  # somebody may stand in it, so it stays the folder it is
                for path in sorted(made.iterdir(), key=lambda path: path.name == RECORD):
                    os.replace(path, place / path.name)
    except OSError as error:
        raise SystemFault(system_message(error, folder)) from error


def update_workspace(folder: Path, callback: Callable[[str], None]) -> None:
    """Update a workspace from the package; files that were edited in the workspace are left alone, and named."""
    record, sources = _record(folder), brought()
    for name, what in differences(folder).items():
        callback(f"{name}: {what}")
    for name, source in sources.items():
        path, there = folder / name, (folder / name).exists()
        mine = there and _sha256(path) not in (record.files.get(name), _sha256(source))
        if not mine and (not there or _sha256(path) != _sha256(source)):
            with atomic_path(path) as part:
                shutil.copyfile(source, part)
    # of edited files, too: the package's are known now, and are told of again when they change again
    _write_record(folder, {name: _sha256(source) for name, source in sources.items()})


def differences(folder: Path) -> dict[str, str]:
    """How a workspace differs from what this version of the package would make."""
    record, found = _record(folder), {}
    for name, source in brought().items():
        if name not in record.files:
            found[name] = "new in the package" if not (folder / name).exists() else "new in the package; you have one"
        elif _sha256(source) != record.files[name]:
            mine = (folder / name).exists() and _sha256(folder / name) not in (record.files[name], _sha256(source))
            found[name] = "newer in the package" + ("; edited here, left as it is" if mine else "")
    gone = set(record.files) - set(brought())
    return found | dict.fromkeys(sorted(gone), "no longer in the package; left as it is")


def notice(folder: Path) -> str:
    """A line about a workspace that an earlier version of the package has made; nothing is changed."""
    if not (folder / RECORD).is_file() or not (changed := differences(folder)):
        return ""
    return (
        f"this workspace was made by starclip {_record(folder).version}, this is {__version__}: {len(changed)} files "
        f"differ ({', '.join(list(changed)[:3])}{', ...' if len(changed) > 3 else ''}); "
        f"starclip new {os.path.relpath(folder)} --update renews those that you have not edited"
    )


def brought() -> dict[str, Path]:
    """What a workspace is made of: names in it, and where the package has them."""
    package = Path(__file__).parent.parent
    root = packed if (packed := package / "workspace").is_dir() else package.parent  # an editable installation
    files = sorted(path for pattern in _BROUGHT for path in root.glob(pattern))
    if not any(path.suffix == ".yaml" for path in files):
        raise DataError(
            f"this installation of starclip has no notebooks and parameter files in {root}; install it again"
        )
    return {path.relative_to(root).as_posix(): path for path in files}


def _record(folder: Path) -> Record:
    path = folder / RECORD
    if not path.is_file():
        raise DataError(f"{folder} is not a workspace: it has no {RECORD}; starclip new {folder} makes one")
    return read_json(path, Record, damaged=f"restore it, or make a new workspace and move {folder}/runs there")


def _write_record(folder: Path, files: dict[str, str]) -> None:
    write_json(folder / RECORD, Record(version=__version__, files=files).model_dump())


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_bytes(path, _LARGEST)).hexdigest()
