"""Observed APOGEE spectra: readers of aspcapStar and apStar files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from starclip_lib.data.instruments import APOGEE
from starclip_lib.data.labels import FE
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.settings.data import DataParams

BAD_PIXEL_BITS = (*range(8), 14)  # APOGEE_PIXMASK: bad, cosmic ray, saturated ... no sky, not enough profile
MAX_ERROR = 0.1  # of a normalised flux; ASPCAP multiplies the errors of pixels that it distrusts by up to thousands

_RELEASE = re.compile(r"^a(?:spcap|p|s)Star-(?:(?:r|dr|l)\d[^-]*-)*")  # in file names, in front of the star's


@dataclass(frozen=True, eq=False)
class ApogeeSpectrum:
    """One combined spectrum on APOGEE's grid, at rest in vacuum.

    Parameters
    ----------
    star_id : str
    flux : ndarray, shape (8575,)
        float32, 0 where `mask` is true; relative to the continuum (aspcapStar) or in 1e-17 erg/s/cm2/Angstrom (apStar).
    ivar : ndarray, shape (8575,)
        float32 inverse variance, 0 where `mask` is true.
    mask : ndarray of bool, shape (8575,)
        True off the chips and in bad pixels.
    """

    star_id: str
    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def read_aspcap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a normalised spectrum (aspcapStar, DR13 to DR17: flux, error and best fit in HDU 1 to 3).

    Pixels count as bad off the chips, where flux is 0 or not finite, and where the error exceeds `MAX_ERROR`.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ApogeeSpectrum

    Raises
    ------
    DataError
        Naming the file, if it is missing, truncated, not an aspcapStar or on another grid.
    """
    (flux, error), header, name = _images(Path(path), 2)
    if "erg" in str(header.get("BUNIT", "")):
        raise DataError(f"{path}: an apStar file, not normalised by ASPCAP; aspcapStar files are needed here")
    return _spectrum(path, name, flux, error, error > MAX_ERROR)


def read_ap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a combined spectrum before normalisation (apStar, asStar: flux, error and bit mask in HDU 1 to 3).

    The arrays may hold one spectrum (8575,) or the combination followed by others (n, 8575); the combination is taken.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ApogeeSpectrum

    Raises
    ------
    DataError
        Naming the file, if it is missing, truncated, not an apStar or on another grid.
    """
    (flux, error, bits), header, name = _images(Path(path), 3)
    if "erg" not in str(header.get("BUNIT", "")) or not np.issubdtype(bits.dtype, np.integer):
        raise DataError(f"{path}: not an apStar file (HDU 1 in erg/s/cm2/Angstrom, HDU 3 a bit mask)")
    return _spectrum(path, name, flux, error, (bits & sum(1 << bit for bit in BAD_PIXEL_BITS)) != 0)


def read_apogee_folder(folder: str | Path, limit: int = 12) -> list[ApogeeSpectrum]:
    """Read the first `limit` aspcapStar, apStar and asStar files of a folder.

    Parameters
    ----------
    folder : str or Path
    limit : int

    Returns
    -------
    list of ApogeeSpectrum
        All with a median flux of about 1.

    Raises
    ------
    DataError
        If the folder or such files are missing, or one of them cannot be read.
    """
    kinds = ("aspcapStar", "apStar", "asStar")
    paths = sorted(path for path in Path(folder).rglob("*.fits") if path.name.startswith(kinds))
    if not paths:
        raise DataError(f"{folder}: no such folder, or no file in it is named {'*.fits, '.join(kinds)}*.fits")
    spectra = []
    for path in paths[:limit]:
        if path.name.startswith("aspcapStar"):
            spectra.append(read_aspcap_star(path))
            continue
        raw = read_ap_star(path)
        unit = np.median(raw.flux[~raw.mask])
        spectra.append(ApogeeSpectrum(raw.star_id, raw.flux / unit, raw.ivar * unit**2, raw.mask))
    return spectra


def real_examples(settings: DataParams, root: Path, data: PairedSpectra) -> list[ApogeeSpectrum]:
    """Real APOGEE spectra to look at: those of `settings.real_spectra`, or three stars of a real data set, or none.

    Parameters
    ----------
    settings : DataParams
    root : Path
        To which `settings.real_spectra` is relative.
    data : PairedSpectra

    Returns
    -------
    list of ApogeeSpectrum
    """
    if settings.real_spectra:
        return read_apogee_folder(root / settings.real_spectra)
    if data.source == "simulate":
        return []
    order = np.argsort(data.labels[:, FE])
    stars = order[[len(order) // 20, len(order) // 2, -1 - len(order) // 20]]
    ivar = np.where(data.apogee.mask[stars], 0, 200.0**2)  # their S/N is above 200
    return [
        ApogeeSpectrum(data.star_id[star], data.apogee.flux[star], weight, data.apogee.mask[star])
        for star, weight in zip(stars, ivar, strict=True)
    ]


def _images(path: Path, count: int) -> tuple[list[np.ndarray], fits.Header, str]:
    """First rows of HDU 1 to `count`, the header of HDU 1, and the star's name from main header or file name."""
    try:
        check_size(path)
        with fits.open(path, memmap=False) as hdus:
            arrays = [np.atleast_2d(hdus[number].data)[0] for number in range(1, count + 1)]
            header, main = hdus[1].header, hdus[0].header
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: truncated, or no APOGEE spectrum ({reason}); download it again") from error
    for number, array in enumerate(arrays, start=1):
        if array.shape != (APOGEE.n_pix,):
            raise DataError(f"{path}: HDU {number} has shape {array.shape}, expected {APOGEE.n_pix} pixels")
    grid = tuple(header.get(key) for key in ("CRVAL1", "CDELT1", "CRPIX1"))
    if None in grid or not np.allclose(grid, (4.179, 6e-6, 1), rtol=1e-9):
        raise DataError(f"{path}: the wavelength grid (CRVAL1, CDELT1, CRPIX1) is {grid}, expected (4.179, 6e-06, 1)")
    name = main.get("OBJID") or main.get("OBJ") or _RELEASE.sub("", path.name.removesuffix(".fits"))
    return arrays, header, str(name).strip()


def check_size(path: Path) -> None:
    """Raise OSError unless a file is made of whole FITS blocks, as one that was not cut off is.

    Parameters
    ----------
    path : Path
    """
    size = path.stat().st_size
    if size == 0 or size % 2880:
        raise OSError(f"{size:,} bytes are not whole FITS blocks of 2,880")


def _spectrum(path: str | Path, star_id: str, flux: np.ndarray, error: np.ndarray, bad: np.ndarray) -> ApogeeSpectrum:
    flux, error = flux.astype(np.float32), error.astype(np.float32)
    good = APOGEE.covered & ~bad & np.isfinite(flux) & np.isfinite(error) & (flux != 0) & (error > 0)
    if not good.any():
        raise DataError(f"{path}: no good pixel on the chips")
    ivar = np.zeros(APOGEE.n_pix, np.float32)
    ivar[good] = error[good] ** -2
    return ApogeeSpectrum(star_id, np.where(good, flux, np.float32(APOGEE.no_data)), ivar, ~good)
