"""Find the files that a command is given: in folders, at any depth, by their endings and their first bytes."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from starclip_lib.observed.readers.look import look
from starclip_lib.observed.readers.recognised import APOGEE, DATA_SET, SPECTRUM, refusal, sort_of
from starclip_lib.support.errors import DataError, system_message
from starclip_lib.support.files import as_path

__all__ = ["APOGEE", "DATA_SET", "SPECTRUM", "Found", "find_files", "find_observed"]

ENDINGS = (".fits", ".fit", ".fts", ".csv", ".ecsv", ".vot", ".votable", ".xml", ".tsv", ".txt", ".dat", ".asc", ".h5",
           ".hdf5")  # fmt: skip


@dataclass
class Found:
    """What was found in files and folders."""

    # files to use, in the order given and sorted within a folder, each with its sort: `SPECTRUM` (observed spectra),
    # `APOGEE` (aspcapStar, apStar, asStar) or `DATA_SET`
    files: dict[Path, str] = field(default_factory=dict)
    # the other files of the folders, each with the reason.  The files of one kind have the same reason
    left_out: dict[Path, str] = field(default_factory=dict)

    def summary(self, unusable: int = 0) -> str:
        """One line: how many files were found, used (less the `unusable`) and left out, with the reasons."""
        used = len(self.files) - unusable
        n = len(self.files) + len(self.left_out)
        line = f"{n} file{'s' * (n != 1)} found, {used} used"
        if unusable:
            line += f", {unusable} could not be read"
        if not self.left_out:
            return line
        examples: dict[str, Path] = {}
        for path, reason in self.left_out.items():
            examples.setdefault(reason, path)
        counted = Counter(self.left_out.values()).most_common()
        said = "; ".join(f"{reason} ({number}, such as {examples[reason].name})" for reason, number in counted)
        return f"{line}, {len(self.left_out)} left out: {said}"


def find_files(paths: str | Path | Iterable[str | Path], sorts: Collection[str] = (SPECTRUM,)) -> Found:
    """The files that a command uses, of what it is given.

    Folders are searched at any depth; links are followed, and a file or folder that is reached twice counts once.
    Hidden files and folders (their names begin with a dot) are not looked at. A file that is given by its own name is
    always in `files`, whatever it is: its reader tells what is wrong with it. A file of a folder is in `files` if its
    ending and its first bytes are those of one of the `sorts`, or if it should be one and is damaged. Raises DataError
    if a path does not exist.
    """
    found, seen = Found(), set[tuple[int, int]]()
    given = [as_path(path, "a file or folder") for path in ([paths] if isinstance(paths, str | Path) else paths)]
    for path in given:
        if not path.exists():
            raise DataError(f"{path} is missing: no such file or folder")
    by_name = {path for path in given if not path.is_dir() and _is_new(path.stat(), seen)}
    for path in given:
        if path in by_name:
            found.files.setdefault(path, _sort_of_given(path))
        elif path.is_dir():
            for one in _walk(path, seen):
                _sort_in(one, sorts, found)
    return found


def find_observed(folder: str | Path) -> list[Path]:
    """The files of observed spectra in a folder, at any depth; sorted."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder} is not a folder and not a file; give one with spec1d_*.fits or *_x1d.fits files")
    found = find_files(folder)
    check_found(folder, found)
    return list(found.files)


def check_found(folder: str | Path, found: Found) -> None:
    """Raise DataError, telling what is in a folder, if no observed spectra are."""
    if not found.files:
        raise DataError(f"{folder} holds no observed spectra (PypeIt spec1d, STScI x1d, ...): {found.summary()}")


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder, sorted, each once; what is there in its own place comes before links to elsewhere."""
    links: list[Path] = []
    files: list[Path] = []
    pending = [folder]
    while pending or links:
        place = pending.pop() if pending else links.pop(0)
        try:
            if not _is_new(place.stat(), seen):
                continue
            entries = sorted(os.scandir(place), key=lambda entry: entry.name) if place.is_dir() else None
        except OSError:
            entries = None
        if entries is None:  # a file; or what the system refuses, which is asked for the reason later
            files.append(place)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                links.append(place / entry.name)
            elif entry.is_dir():
                pending.append(place / entry.name)
            elif _is_new(entry.stat(), seen):
                files.append(place / entry.name)
    yield from sorted(files)


def _is_new(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    key = (status.st_dev, status.st_ino)
    if key in seen:
        return False
    seen.add(key)
    return True


def _ending(path: Path) -> str:
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _sort_in(path: Path, sorts: Collection[str], found: Found) -> None:
    """Put a file of a folder where it belongs."""
    try:
        if path.is_dir():
            os.scandir(path).close()  # it could not be read before, and that raises again
        if not stat.S_ISREG(path.stat().st_mode):
            found.left_out[path] = "pipes or devices, not regular files"
            return
        if _ending(path) not in ENDINGS:
            found.left_out[path] = "files with other endings"
            return
        seen = look(path)
    except OSError as error:
        found.left_out[path] = system_message(error, path).removeprefix(f"{path}: ")
        return
    sort = sort_of(seen)
    if sort in sorts:
        found.files[path] = sort
    else:
        found.left_out[path] = refusal(seen)


def _sort_of_given(path: Path) -> str:
    """The sort of a file that is given by name; what is unknown goes to the reader of spectra."""
    try:
        return (stat.S_ISREG(path.stat().st_mode) and sort_of(look(path))) or SPECTRUM
    except OSError:
        return SPECTRUM
