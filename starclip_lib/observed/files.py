"""Reading observed spectra: PypeIt's spec1d and STScI's x1d files of NIRSpec, and SpeX spectra of the IRTF library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.io import fits

from starclip_lib.data.fits_files import opened_fits, read_columns
from starclip_lib.data.formats import SPEC1D, X1D
from starclip_lib.data.line_spread import DEFAULT, G140M
from starclip_lib.data.schema import Member
from starclip_lib.errors import DataError, one_line
from starclip_lib.files import as_path, safe_name
from starclip_lib.observed.foreign import from_file, from_memory
from starclip_lib.observed.spectrum import ObservedSpectrum, as_observed
from starclip_lib.settings.evaluation import ObservedParams

_FITS = re.compile(r"\.(fits?|fts)(\.gz)?$", re.IGNORECASE)
# Angstrom between which telluric absorption is weak enough to be divided out.
_FROM_THE_GROUND = ((9700.0, 11100.0), (11600.0, 13250.0), (14900.0, 17300.0))


def find_observed(folder: str | Path) -> list[Path]:
    """The spec1d and x1d files of a folder, or all its FITS files if it has none of these; sorted.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of Path

    Raises
    ------
    DataError
        If there is no such folder or none in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder and no file; give one with spec1d_*.fits or *_x1d.fits files")
    paths = sorted({*folder.glob("spec1d*.fits*"), *folder.glob("*x1d*.fits*")} or {*folder.glob("*.fits*")})
    if not paths:
        raise DataError(f"{folder} holds no spec1d*.fits (PypeIt), no *x1d*.fits (STScI) and no other FITS file")
    return paths


def read_spectra(source: Any, settings: ObservedParams | None = None, air: bool = False) -> list[ObservedSpectrum]:
    """Observed spectra: PypeIt's spec1d and STScI's x1d files, SpeX files of the IRTF library, or what is in memory.

    Each spectrum gets its target's name; where several files have the same target, the file's name goes in front.  Of
    several files, one that cannot be read becomes a spectrum without pixels that says why (`damage`), and is set aside
    as a bad spectrum is.

    Parameters
    ----------
    source : str, Path or iterable of these; specutils.Spectrum, astropy table, tuple of Quantity, or list of these
        A folder, a file, or several files (of other kinds, too, if specutils is installed and knows them); or spectra
        that another program has read: of a tuple wavelength (or frequency), flux and error, of a table columns of these
        names.  What has no unit is refused.
    settings : ObservedParams, optional
        Which wavelengths are used; the defaults if not given.
    air : bool
        Whether wavelengths are those in air; of spectra in memory only, since the files that are read have vacuum.

    Returns
    -------
    list of ObservedSpectrum

    Raises
    ------
    DataError
        That names the folder or file, and what is missing; for several files, if none can be read.
    """
    in_memory = from_memory(source, settings or ObservedParams(), air)
    if in_memory is not None:
        return _told_apart([(None, spectrum) for spectrum in in_memory])
    if air:
        raise DataError("air=True is for spectra in memory: the files that are read have wavelengths in vacuum")
    if not isinstance(source, str | Path | Iterable):
        raise DataError(f"{one_line(repr(source))[:80]} is no spectrum, file or folder")
    one = as_path(source, "a file or folder of spectra") if isinstance(source, str | Path) else None
    if one is not None and one.exists() and not one.is_dir():
        read = [(one, spectrum) for spectrum in read_observed(one, settings)]
    else:
        paths = find_observed(one) if one is not None else [as_path(path, "a file of spectra") for path in list(source)]  # type: ignore[arg-type]
        read = [(path, spectrum) for path in paths for spectrum in _read_or_damaged(path, settings)]
        if read and all(spectrum.damage for _, spectrum in read):
            raise DataError(f"none of {len(read)} files can be read; the first: {read[0][1].damage}")
    return _told_apart(read)


def _told_apart(read: Sequence[tuple[Path | None, ObservedSpectrum]]) -> list[ObservedSpectrum]:
    """The spectra, each with a name of its own."""
    count = Counter(spectrum.name for _, spectrum in read)
    for path, spectrum in read:
        if count[spectrum.name] > 1 and path is not None:
            spectrum.name = safe_name(f"{_stem(path)}_{spectrum.name}")
    taken: set[str] = set()
    for _, spectrum in read:  # what was cut off or replaced may have been all the difference
        name, number = spectrum.name, 1
        while spectrum.name in taken:
            number += 1
            spectrum.name = f"{name}_{number}"
        taken.add(spectrum.name)
    return [spectrum for _, spectrum in read]


def _read_or_damaged(path: Path, settings: ObservedParams | None) -> list[ObservedSpectrum]:
    """The spectra of a file, or one without pixels that says what is wrong: it must not cost us the good ones."""
    try:
        return read_observed(path, settings)
    except DataError as error:
        nothing, none = np.empty(0), np.empty(0, bool)
        return [ObservedSpectrum(safe_name(_stem(path)), nothing, nothing, nothing, none, none, damage=str(error))]


def _stem(path: Path) -> str:
    return re.sub(r"\.fits(\.gz)?$", "", path.name)


def read_observed_folder(root: Path, settings: ObservedParams) -> list[ObservedSpectrum]:
    """The spectra of `observed.folder`.

    Parameters
    ----------
    root : Path
        To which the folder is relative.
    settings : ObservedParams

    Returns
    -------
    list of ObservedSpectrum
        Empty if no folder is set.
    """
    return read_spectra(root / settings.folder, settings) if settings.folder else []


def read_observed(path: str | Path, settings: ObservedParams | None = None) -> list[ObservedSpectrum]:
    """The spectra of a file: the target of a PypeIt spec1d, every source of an STScI x1d, the star of a SpeX file.

    Any other kind is left to specutils, if that is installed.

    Parameters
    ----------
    path : str or Path
    settings : ObservedParams, optional
        Which wavelengths are used; the defaults if not given.

    Returns
    -------
    list of ObservedSpectrum

    Raises
    ------
    DataError
        That names the file and what is missing in it.
    """
    settings, path = settings or ObservedParams(), Path(path)
    if not _FITS.search(path.name):
        return from_file(path, settings)
    with opened_fits(path) as file:
        if path.name.startswith("spec1d") or file[0].header.get("DMODCLS") == "SpecObjs":
            return [_spec1d(file, path, settings)]
        if file[0].header.get("NAXIS1", 0) and file[0].header.get("NAXIS2") == 3:
            return [_spex(file, path, settings)]
        if "x1d" in path.name or any(hdu.name == "EXTRACT1D" for hdu in file):
            return _x1d(file, path, settings)
    return from_file(path, settings)


def _grating(name: object, path: Path) -> str:
    """The line-spread function of a grating; of one that is not ours nothing can be read."""
    text = str(name or "").strip().upper()
    if text and not text.startswith("G140"):
        raise DataError(f"{path}: taken with {text:.20}; what can be read is G140H and G140M, 9,000 to 18,000 Angstrom")
    return G140M if text.startswith("G140M") else DEFAULT


def _spex(file: fits.HDUList, path: Path, settings: ObservedParams) -> ObservedSpectrum:
    """One star of the IRTF library (Rayner, Cushing & Vacca 2009): an image of wavelength [micron], flux and error.

    It was observed from the ground: where the atmosphere is opaque or nearly so, nothing counts as good.
    """
    header, data = file[0].header, np.asarray(file[0].data, np.float64)
    if str(header.get("XUNITS", "")).strip() != "um" or str(header.get("WAVETYPE", "")).strip() != "Vacuum":
        raise DataError(f"{path}: its header says neither XUNITS = um nor WAVETYPE = Vacuum; is it a SpeX file?")
    if data.ndim != 2:
        raise DataError(f"{path}: its image has shape {data.shape}, expected wavelength, flux and error")
    wave, (flux, error) = data[0] * 1e4, data[1:]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        positive = flux[flux > 0]
        level = np.median(positive) if len(positive) else 1.0
        ivar = np.where(error > 0, 1 / (error / level) ** 2, 0.0)
        flux = flux / level
    seen = np.zeros(len(wave), bool)
    for low, high in _FROM_THE_GROUND:
        seen |= (wave > low) & (wave < high)
    resolution = str(header.get("SXD_R", "2000")).strip()
    name = safe_name(header.get("OBJECT", path.stem))
    return as_observed(name, wave, flux, ivar, ~seen, settings, 0.0, str(path), f"R={resolution}")


def _spec1d(file: fits.HDUList, path: Path, settings: ObservedParams) -> ObservedSpectrum:
    """The object with the highest S/N, optimal extraction.

    An object is one table (both detectors joined, MSC) or one for each detector (DET), which are joined here.
    """
    tables = [hdu for hdu in file[1:] if hdu.header.get("DMODCLS") == "SpecObj"]
    if not tables:
        raise DataError(f"{path}: no extracted object in it; is it a PypeIt spec1d file?")

    def snr(hdu: fits.BinTableHDU) -> float:
        value = hdu.header.get("SMASH_SNR", hdu.header.get("S2N"))
        return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0

    best = max(tables, key=snr)
    named = re.fullmatch(r"([^-]+-([^-]+))-([^-]+)", best.name)
    if named is None:
        raise DataError(f"{path}: an object is named {best.name[:80]!r}, expected SPAT...-SLIT...-DET...")
    trace, slit, detector = named.groups()
    others = [snr(hdu) for hdu in tables if f"-{slit}-" in hdu.name and not hdu.name.startswith(f"{trace}-")]
    parts = [best]
    if detector.startswith("DET"):
        parts = [hdu for hdu in tables if hdu.name.startswith(f"{trace}-DET")]
    columns = _columns(parts, SPEC1D, f"{path}: {best.name}", "(no optimal extraction)")
    wave, flux, ivar, good = (columns[name] for name in SPEC1D)
    return as_observed(
        safe_name(file[0].header.get("TARGET", path.stem)),
        *(wave, flux, ivar, ~good),
        settings,
        max(others, default=0.0) / snr(best) if snr(best) > 0 else 0.0,
        str(path),
        _grating(file[0].header.get("DISPNAME"), path),
    )


def _x1d(file: fits.HDUList, path: Path, settings: ObservedParams) -> list[ObservedSpectrum]:
    """Every source of a MultiSpecModel: one EXTRACT1D table for each slit, flux density per frequency, microns."""
    tables = [hdu for hdu in file[1:] if hdu.name == "EXTRACT1D"]
    if not tables:
        raise DataError(f"{path}: no EXTRACT1D table in it; is it an STScI x1d file?")
    spread = _grating(file[0].header.get("GRATING"), path)
    sources: dict[str, list[fits.BinTableHDU]] = {}
    for number, hdu in enumerate(tables, start=1):
        key = hdu.header.get("SRCNAME") or hdu.header.get("SOURCEID") or f"{_stem(path)}_{number}"
        sources.setdefault(safe_name(key), []).append(hdu)
    spectra = []
    for name, parts in sources.items():
        columns = _columns(parts, X1D, f"{path}: the table of {name}", "")
        error = columns.get("FLUX_ERROR", columns.get("ERROR"))
        if error is None:
            raise DataError(f"{path}: the table of {name} has no column FLUX_ERROR or ERROR")
        table = parts[0].columns
        angstrom = _unit(table["WAVELENGTH"].unit or "um", "Angstrom", f"{path}: the wavelength of {name}")
        jansky = _unit(table["FLUX"].unit or "Jy", "Jy", f"{path}: the flux of {name}")
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            wave = columns["WAVELENGTH"] * angstrom
            per_wavelength = jansky * (12000.0 / np.maximum(wave, 1.0)) ** 2  # F_lambda ~ F_nu / lambda^2
            ivar = np.where(error > 0, 1 / (error * per_wavelength) ** 2, 0.0)
            flux = columns["FLUX"] * per_wavelength
        do_not_use = columns["DQ"].astype(np.int64) & 1 == 1
        spectra.append(as_observed(name, wave, flux, ivar, do_not_use, settings, 0.0, str(path), spread))
    return spectra


def _unit(text: str, wanted: str, where: str) -> float:
    """How many of the wanted unit one of a table's unit is."""
    try:
        unit = units.Unit(text)
    except (ValueError, TypeError):
        raise DataError(f"{where} is in {text!r}, which is no unit; expected {wanted} or a multiple of it") from None
    if not unit.is_equivalent(wanted):
        raise DataError(f"{where} is in {unit}, expected {wanted} or a multiple of it")
    return float(unit.to(wanted))


def _columns(parts: list[fits.BinTableHDU], members: dict[str, Member], where: str, hint: str) -> dict[str, np.ndarray]:
    """The columns of tables, one table after the other."""
    read = [read_columns(hdu, members, where, hint) for hdu in parts]
    if any(columns.keys() != read[0].keys() for columns in read):
        raise DataError(f"{where} has parts with other columns than the first")
    return {name: np.concatenate([columns[name] for columns in read]) for name in read[0]}
