"""Which row of a catalogue belongs to which observed spectrum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from starclip_lib.observed.readers.making import stem
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import safe_name
from starclip_lib.support.threads import Callback

KEYS = ("file", "source_name", "star")


def labelled(
    spectra: Sequence[ObservedSpectrum], rows: Sequence[dict[str, object]], folder: Path, callback: Callback
) -> list[tuple[ObservedSpectrum, dict[str, object]]]:
    """Each spectrum that a row of a catalogue names, with that row; a line about the rows without a spectrum.

    A row names a file (its path in the folder, its name, or its name without ending) or else a star.
    """
    files = {name: spectrum.file for spectrum in reversed(spectra) for name in _file_names(Path(spectrum.file), folder)}
    several = Counter(name for file in {s.file for s in spectra} for name in set(_file_names(Path(file), folder)))
    sources = Counter(spectrum.file for spectrum in spectra)
    by_file: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for number, row in enumerate(rows):
        file = str(row.get("file", "")).strip() if isinstance(row.get("file"), str) else ""
        if several[file] > 1:
            raise DataError(f"{several[file]} files in {folder} are called {file}: give their paths in its column file")
        if sources[files.get(file, "")] == 1:  # of several sources in a file, its name does not tell which
            by_file.setdefault(files[file], number)
        for key in KEYS[1:]:
            if isinstance(row.get(key), str) and str(row[key]).strip():
                by_name.setdefault(safe_name(str(row[key]).strip()), number)
    found, used = [], set()
    for spectrum in spectra:
        of = by_file.get(spectrum.file, by_name.get(spectrum.target, by_name.get(spectrum.name)))
        if of is not None:
            found.append((spectrum, rows[of]))
            used.add(of)
    if missing := [row for number, row in enumerate(rows) if number not in used]:
        shown = ", ".join(
            next((str(row[key]) for key in KEYS if isinstance(row.get(key), str)), "?") for row in missing[:9]
        )
        callback(one_line(f"{len(missing)} of {len(rows)} labelled stars have no spectrum in {folder}: {shown}"))
    if len(found) < len(spectra):
        callback(f"{len(spectra) - len(found)} of {len(spectra)} spectra have no labels and are left out")
    return found


def _file_names(path: Path, folder: Path) -> tuple[str, ...]:
    """What a table may call a file."""
    inside = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return tuple(dict.fromkeys((inside, path.name, stem(path))))
