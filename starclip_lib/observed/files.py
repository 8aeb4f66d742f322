"""The door to observed spectra: files of every kind that is read, folders of them, and what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from starclip_lib.observed.finder import check_found, find_files
from starclip_lib.observed.identity import set_aside_repeats, tell_targets_apart
from starclip_lib.observed.readers.look import TEXT, VOTABLE, Look, look
from starclip_lib.observed.readers.making import Options, damaged, stem
from starclip_lib.observed.readers.memory import from_memory, read_with_specutils
from starclip_lib.observed.readers.recognised import kind_of, sort_of
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.storage.fits_files import opened_fits
from starclip_lib.support.errors import DataError, StarclipError, SystemFault, one_line, system_message
from starclip_lib.support.files import as_path, regular_file, safe_name


def read_spectra(
    source: Any,
    settings: ObservedParams | None = None,
    air: bool | None = None,
    wavelength_unit: str = "",
    flux_unit: str = "",
    callback: Callable[[str], None] | None = None,
) -> list[ObservedSpectrum]:
    """Observed spectra from files of any kind that docs/guides/observe.md lists, from folders, or from memory.

    Each spectrum gets its star's name; where several files have the same star, the file's name goes in front.  Of
    several files or sources, one that cannot be read becomes a spectrum without pixels that tells why (`damage`), and
    is set aside as a bad spectrum is.  So is a spectrum whose exposures are in another one that is read.

    Parameters
    ----------
    source : str, Path or iterable of these; or a spectrum in memory, or a list of these
        A folder (searched at any depth), a file, a pattern such as ``data/*.fits``, or several. In memory: a
        specutils.Spectrum, SpectrumList or SpectrumCollection; a tuple of Quantity: wavelength (or frequency), flux,
        standard deviation, and if wanted a mask; an astropy table, pandas DataFrame or dict with such columns.
    settings : ObservedParams, optional
        Which wavelengths are used; those of `starclip observe` if not given, 9,700 to 18,000 Angstrom.
    air : bool, optional
        Whether wavelengths are in air.  If not given, what the file states counts; what states nothing is taken for
        vacuum, and `measure` flags it if its velocity suggests air.
    wavelength_unit, flux_unit : str
        Of columns without a unit, such as 'Angstrom' and 'Jy', or '1' for relative fluxes.
    callback : callable, optional
        Is given a line of text: what was found in folders, used and left out.

    Raises
    ------
    DataError
        That names the folder or file, and what is missing; for several files, if none can be read.
    """
    options = Options(settings or OBSERVED, air, wavelength_unit, flux_unit)
    in_memory = from_memory(source, options)
    if in_memory is not None:
        return _told_apart([(None, spectrum) for spectrum in in_memory], options.settings)
    if not isinstance(source, str | Path | Iterable):
        raise DataError(f"{one_line(repr(source))[:80]} is not a spectrum, file or folder")
    given = [source] if isinstance(source, str | Path) else list(source)
    paths = [path for one in given for path in _of_pattern(as_path(one, "a file or folder of spectra"))]
    if not paths:
        raise DataError("no spectrum is given: the list is empty")
    if len(paths) == 1 and not paths[0].is_dir():
        spectra = _told_apart([(paths[0], spectrum) for spectrum in _read(paths[0], options)], options.settings)
        _say_notes(spectra, callback)
        return spectra
    return _read_found(paths, options, callback)


def is_pattern(path: str | Path) -> bool:
    """Whether a name is a pattern of names, such as ``data/*.fits``, and not that of a file."""
    return has_magic(str(path)) and not Path(path).exists()


def _of_pattern(path: Path) -> list[Path]:
    """The files and folders that a pattern stands for; a path that is none as it is."""
    path = path.expanduser()
    if not is_pattern(path):
        return [path]
    found = [Path(one) for one in sorted(glob(str(path), recursive=True))]
    if not found:
        raise DataError(f"no file matches {one_line(str(path))}; check the folder and the pattern")
    return found


def _read_found(paths: list[Path], options: Options, callback: Callable[[str], None] | None) -> list[ObservedSpectrum]:
    """The spectra of several files and folders, and one line about what was found."""
    there = [path for path in paths if path.exists()]
    found = find_files(there)
    if len(paths) == 1:
        check_found(paths[0], found)
    missing = [path for path in paths if path not in there]
    found.left_out |= dict.fromkeys(missing, "missing files")
    files = [*found.files, *missing]
    read = [(path, spectrum) for path in files for spectrum in _read_or_damaged(path, options)]
    if read and all(spectrum.damage for _, spectrum in read):
        raise DataError(f"none of {len(files)} files can be read; the first: {read[0][1].damage}")
    unusable = len(set(found.files) - {path for path, spectrum in read if not spectrum.damage})
    if callback is not None:
        callback(one_line(found.summary(unusable)))
    spectra = _told_apart(read, options.settings)
    _say_notes(spectra, callback)
    return spectra


def _say_notes(spectra: Sequence[ObservedSpectrum], callback: Callable[[str], None] | None) -> None:
    if callback is not None:
        for spectrum in spectra:
            if spectrum.note:
                callback(one_line(f"{spectrum.name}: {spectrum.note}"))


def _told_apart(
    read: Sequence[tuple[Path | None, ObservedSpectrum]], settings: ObservedParams
) -> list[ObservedSpectrum]:
    """The spectra, each with a name of its own; repeats of the same exposures set aside."""
    spectra = [spectrum for _, spectrum in read]
    tell_targets_apart(spectra)
    set_aside_repeats(spectra, settings)
    count = Counter(spectrum.name for spectrum in spectra)
    for path, spectrum in read:
        if count[spectrum.name] > 1 and path is not None:
            spectrum.name = safe_name(f"{stem(path)}_{spectrum.name}")
    taken: set[str] = set()
    for spectrum in spectra:  # what was cut off or replaced may have been all the difference
        name, number = spectrum.name, 1
        while spectrum.name in taken:
            number += 1
            spectrum.name = f"{name}_{number}"
        taken.add(spectrum.name)
    return spectra


def _read_or_damaged(path: Path, options: Options) -> list[ObservedSpectrum]:
    """The spectra of a file, or one without pixels that tells what is wrong: it must not cost the good ones."""
    try:
        return _read(path, options)
    except StarclipError as error:
        return [damaged(stem(path), str(error), str(path))]


def _read(path: Path, options: Options) -> list[ObservedSpectrum]:
    try:
        seen = look(regular_file(path))
    except OSError as error:
        raise SystemFault(system_message(error, path)) from error
    kind = kind_of(seen)
    if kind is not None and kind.read is None:
        raise DataError(f"{path} is one of the {kind.name}, not an observed spectrum; {kind.instead}")
    if kind is None:
        return _read_unknown(path, seen, options)
    spectra = kind.read(path, options)  # type: ignore[misc]  # it is one that reads
    for spectrum in spectra:
        spectrum.file = str(path)
    return spectra


def _read_unknown(path: Path, seen: Look, options: Options) -> list[ObservedSpectrum]:
    """What is wrong with a file of an unknown kind; specutils reads it if it is a FITS file that it knows."""
    if sort_of(seen):  # its name promises a FITS file
        with opened_fits(path):
            pass
    if not path.stat().st_size:
        raise DataError(f"{path} is empty: it has 0 bytes; copy or download it again")
    if seen.form == TEXT and seen.n_numbers == 2:
        raise DataError(f"{path} has two columns of numbers; a third one, the error of the flux, is needed")
    if seen.form in (TEXT, VOTABLE):
        columns = ", ".join(seen.columns[:20]) or "columns without names"
        raise DataError(
            f"{path} has no columns of wavelength, flux and error, but {columns}: name them so, in upper or lower case"
        )
    return read_with_specutils(path, options)


def read_observed_folder(
    root: Path, settings: ObservedParams, callback: Callable[[str], None] | None = None
) -> list[ObservedSpectrum]:
    """The spectra of `observed.folder`, which is relative to `root`; none if no folder is set."""
    return read_spectra(root / settings.folder, settings, callback=callback) if settings.folder else []


def read_observed(
    path: str | Path, settings: ObservedParams | None = None, air: bool | None = None
) -> list[ObservedSpectrum]:
    """The spectra of one file of any kind that is read; DataError names the file and what is missing in it."""
    return _read(as_path(path, "a file of spectra"), Options(settings or OBSERVED, air))
