"""Reading observed NIRSpec spectra: PypeIt's spec1d and STScI's x1d files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy import units
from astropy.io import fits
from scipy.ndimage import median_filter

from starclip_lib.data.instruments import MAD_PER_SIGMA
from starclip_lib.errors import DataError
from starclip_lib.observed.preparation import ObservedSpectrum
from starclip_lib.settings.evaluation import ObservedParams


def find_observed(folder: str | Path) -> list[Path]:
    """The spec1d and x1d files of a folder, sorted.

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
    paths = sorted({*folder.glob("spec1d*.fits*"), *folder.glob("*x1d*.fits*")})
    if not paths:
        raise DataError(f"{folder} holds no spec1d*.fits (PypeIt) and no *x1d*.fits (STScI) file")
    return paths


def read_spectra(
    source: str | Path | Iterable[str | Path], settings: ObservedParams | None = None
) -> list[ObservedSpectrum]:
    """Read observed NIRSpec spectra: PypeIt's spec1d and STScI's x1d files.

    Each spectrum gets its target's name; where several files have the same target, the file's name goes in front.

    Parameters
    ----------
    source : str, Path or iterable of these
        A folder, a file, or several files.
    settings : ObservedParams, optional
        Which wavelengths are used; the defaults if not given.

    Returns
    -------
    list of ObservedSpectrum

    Raises
    ------
    DataError
        That names the folder or file, and what is missing.
    """
    if isinstance(source, str | Path):
        paths = [Path(source)] if Path(source).is_file() else find_observed(source)
    else:
        paths = [Path(path) for path in source]
    read = [(path, spectrum) for path in paths for spectrum in read_observed(path, settings)]
    count = Counter(spectrum.name for _, spectrum in read)
    for path, spectrum in read:
        if count[spectrum.name] > 1:
            spectrum.name = _plain(f"{path.name.split('.')[0]}_{spectrum.name}")
    taken: set[str] = set()
    for _, spectrum in read:  # what was cut off or replaced may have been all the difference
        name, number = spectrum.name, 1
        while spectrum.name in taken:
            number += 1
            spectrum.name = f"{name}_{number}"
        taken.add(spectrum.name)
    return [spectrum for _, spectrum in read]


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
    """The spectra of a file: the target of a PypeIt spec1d, every source of an STScI x1d.

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
    try:
        with fits.open(path, memmap=False) as file:
            if path.name.startswith("spec1d"):
                return [_spec1d(file, path, settings)]
            return _x1d(file, path, settings)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} is truncated or no FITS file ({error})") from error


def _spec1d(file: fits.HDUList, path: Path, settings: ObservedParams) -> ObservedSpectrum:
    """The object with the highest S/N, optimal extraction.

    An object is one table (both detectors joined, MSC) or one for each detector (DET), which are joined here.
    """
    columns = ("OPT_WAVE", "OPT_COUNTS", "OPT_COUNTS_IVAR", "OPT_MASK")
    tables = [hdu for hdu in file[1:] if hdu.header.get("DMODCLS") == "SpecObj"]
    if not tables:
        raise DataError(f"{path}: no extracted object in it; is it a PypeIt spec1d file?")

    def snr(hdu: fits.BinTableHDU) -> float:
        return hdu.header.get("SMASH_SNR", hdu.header.get("S2N", 0.0)) or 0.0

    best = max(tables, key=snr)
    trace, detector = best.name.rsplit("-", 1)
    slit = trace.split("-")[1]
    others = [snr(hdu) for hdu in tables if f"-{slit}-" in hdu.name and not hdu.name.startswith(f"{trace}-")]
    parts = [best]
    if detector.startswith("DET"):
        parts = [hdu for hdu in tables if hdu.name.startswith(f"{trace}-DET")]
    wave, flux, ivar, good = _columns(parts, columns, path, f"{best.name} has no column", "(no optimal extraction)")
    return _spectrum(
        _plain(file[0].header.get("TARGET", path.stem)),
        *(wave, flux, ivar, good == 0),
        settings,
        max(others, default=0.0) / snr(best) if snr(best) > 0 else 0.0,
    )


def _x1d(file: fits.HDUList, path: Path, settings: ObservedParams) -> list[ObservedSpectrum]:
    """Every source of a MultiSpecModel: one EXTRACT1D table for each slit, flux density per frequency, microns."""
    tables = [hdu for hdu in file[1:] if hdu.name == "EXTRACT1D"]
    if not tables:
        raise DataError(f"{path}: no EXTRACT1D table in it; is it an STScI x1d file?")
    sources: dict[str, list[fits.BinTableHDU]] = {}
    for number, hdu in enumerate(tables, start=1):
        key = hdu.header.get("SRCNAME") or hdu.header.get("SOURCEID") or f"{path.name.split('.')[0]}_{number}"
        sources.setdefault(_plain(key), []).append(hdu)
    spectra = []
    for name, parts in sources.items():
        error = "FLUX_ERROR" if "FLUX_ERROR" in parts[0].columns.names else "ERROR"
        columns = ("WAVELENGTH", "FLUX", error, "DQ")
        wave, flux, sigma, quality = _columns(parts, columns, path, f"the table of {name} has no column", "")
        table = parts[0].columns
        angstrom = units.Unit(table["WAVELENGTH"].unit or "um").to("Angstrom")
        per_frequency = units.Unit(table["FLUX"].unit or "Jy")
        if not per_frequency.is_equivalent("Jy"):
            raise DataError(f"{path}: the flux of {name} is in {per_frequency}, expected Jy or a multiple of it")
        wave = wave * angstrom
        per_wavelength = per_frequency.to("Jy") * (12000.0 / np.maximum(wave, 1.0)) ** 2  # F_lambda ~ F_nu / lambda^2
        with np.errstate(divide="ignore"):
            ivar = np.where(sigma > 0, 1 / (sigma * per_wavelength) ** 2, 0.0)
        do_not_use = quality.astype(int) & 1 == 1
        spectra.append(_spectrum(name, wave, flux * per_wavelength, ivar, do_not_use, settings, 0.0))
    return spectra


def _columns(
    parts: list[fits.BinTableHDU], columns: tuple[str, ...], path: Path, complaint: str, hint: str
) -> tuple[np.ndarray, ...]:
    missing = [name for name in columns if name not in parts[0].columns.names]
    if missing:
        raise DataError(f"{path}: {complaint} {', '.join(missing)} {hint}".rstrip())
    return tuple(np.concatenate([hdu.data[name] for hdu in parts]).astype(float) for name in columns)


def _plain(name: object) -> str:
    """A name that is harmless in a page and in a file name: letters, digits, '_.+-', at most 80 of them."""
    return re.sub(r"[^\w.+-]+", "_", str(name), flags=re.ASCII).strip("._")[:80] or "unnamed"


def _spectrum(
    name: str,
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray,
    flagged: np.ndarray,
    settings: ObservedParams,
    second_source: float,
) -> ObservedSpectrum:
    order = np.argsort(wavelength)
    order = order[wavelength[order] > 0]
    wavelength, flux, ivar, flagged = (array[order] for array in (wavelength, flux, ivar, flagged))
    low, high = settings.wavelength_range
    flagged = flagged | ~(ivar > 0) | ~np.isfinite(flux) | ~(flux > 0)
    flux = np.where(np.isfinite(flux) & (flux > 0), flux, 0.0)
    flagged |= _outliers(flux, flagged)
    bad = flagged | (wavelength < low) | (wavelength > high)
    return ObservedSpectrum(name, wavelength, flux, np.where(flagged, 0.0, ivar), flagged, bad, second_source)


def _outliers(flux: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Good pixels far above the running median, or below it by more than any line of a giant at this resolution."""
    out = np.zeros(len(flux), bool)
    good = np.flatnonzero(~bad)
    if len(good) > 51:
        off = flux[good] / median_filter(flux[good], 15) - 1
        out[good] = (off > 6 * np.median(np.abs(off)) / MAD_PER_SIGMA) | (off < -0.25)
    return out
