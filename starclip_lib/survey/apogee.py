"""Observed APOGEE spectra: readers of aspcapStar and apStar files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import Legendre

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import MIN_PIXELS
from starclip_lib.physics.instruments import APOGEE
from starclip_lib.physics.labels import FE
from starclip_lib.settings.data import DataParams
from starclip_lib.storage.fits_files import opened_fits, read_image
from starclip_lib.storage.formats import AP_STAR, ASPCAP_STAR, MAX_FLUX
from starclip_lib.storage.schema import Member
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import safe_name

BAD_PIXEL_BITS = (*range(8), 14)  # APOGEE_PIXMASK: bad, cosmic ray, saturated ... no sky, not enough profile
_DEGREE, _ROUNDS, _BELOW, _ABOVE = 4, 10, 0.1, 3.0  # of the pseudo-continuum: polynomial, fits, limits in sigma
MAX_ERROR = 0.1  # of a normalised flux; ASPCAP multiplies the errors of pixels that it distrusts by up to thousands

_RELEASE = re.compile(r"^a(?:spcap|p|s)Star-(?:(?:r|dr|l)\d[^-]*-)*")  # in file names, in front of the star's


@dataclass(frozen=True, eq=False)
class ApogeeSpectrum:
    """One combined spectrum on APOGEE's grid, at rest in vacuum."""

    star_id: str
    # (8575,), float32, 0 where `mask` is true; relative to the continuum (aspcapStar) or in 1e-17 erg/s/cm2/Angstrom
    # (apStar)
    flux: np.ndarray
    ivar: np.ndarray  # (8575,), float32 inverse variance, 0 where `mask` is true
    mask: np.ndarray  # (8575,), true off the chips and in bad pixels
    named: bool = True  # whether the file itself says which star it is, else its name does


def read_aspcap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a normalised spectrum (aspcapStar, DR13 to DR17: flux, error and best fit in HDU 1 to 3).

    Pixels count as bad off the chips, where flux is 0 or not finite, and where the error exceeds `MAX_ERROR`. DataError
    naming the file, if it is missing, truncated, not an aspcapStar or on another grid.
    """
    (flux, error), *name = _images(Path(path), ASPCAP_STAR, absolute=False)
    spectrum = _spectrum(path, name, flux, error, error > MAX_ERROR)
    _check_normalised(spectrum, path)
    return spectrum


def read_ap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a combined spectrum before normalisation (apStar, asStar: flux, error and bit mask in HDU 1 to 3).

    The arrays may hold one spectrum (8575,) or the combination followed by others (n, 8575); the combination is taken.
    Raises DataError naming the file, if it is missing, truncated, not an apStar or on another grid.
    """
    (flux, error, bits), *name = _images(Path(path), AP_STAR, absolute=True)
    bad = (bits.astype(np.int64) & sum(1 << bit for bit in BAD_PIXEL_BITS)) != 0
    spectrum = _spectrum(path, name, flux, error, bad)
    if not np.median(spectrum.flux[~spectrum.mask]) > 0:
        raise DataError(f"{path}: its median flux is not positive; that is not a star")
    return spectrum


def normalised(spectrum: ApogeeSpectrum) -> ApogeeSpectrum:
    """A spectrum in physical units over its pseudo-continuum, a polynomial of degree 4 for each chip.

    Pixels that lie more than 0.1 standard deviations below the fit, or 3 above it, are left out of the next one, ten
    times. This finds the true continuum of simulated giants to a per cent. ASPCAP draws it in another way: the one
    giant of DR13 of which both files were at hand lies 4 to 6 per cent higher in its aspcapStar file. Raises DataError
    if no continuum above 0 fits, or no chip is left.
    """
    continuum = np.zeros(APOGEE.n_pix)
    for start, stop in APOGEE.chips:
        pixel = start + np.flatnonzero(~spectrum.mask[start:stop])
        if len(pixel) >= MIN_PIXELS:
            continuum[pixel] = _upper_polynomial(pixel, spectrum.flux[pixel].astype(np.float64))
    known = ~spectrum.mask & (continuum != 0)
    if not known.any() or (continuum[known] <= 0).any():
        raise DataError(f"{spectrum.star_id}: no continuum above 0 can be drawn through this spectrum")
    continuum[~known] = 1
    flux = np.where(known, spectrum.flux / continuum, APOGEE.fill_value)
    ivar = np.where(known, np.minimum(spectrum.ivar * continuum**2, np.finfo(np.float32).max), 0)
    found = replace(spectrum, flux=flux.astype(np.float32), ivar=ivar.astype(np.float32), mask=~known)
    _check_normalised(found, spectrum.star_id)
    return found


def _check_normalised(spectrum: ApogeeSpectrum, where: str | Path) -> None:
    level, largest = np.median(spectrum.flux[~spectrum.mask]), np.abs(spectrum.flux).max()
    if not 0.2 < level < 5 or largest > MAX_FLUX:
        raise DataError(
            f"{where}: not normalised: its median flux is {level:.3g} and its largest {largest:.3g}, expected about 1"
        )


def _upper_polynomial(x: np.ndarray, flux: np.ndarray) -> np.ndarray:
    kept = np.ones(len(x), bool)
    for _ in range(_ROUNDS):
        fit = Legendre.fit(x[kept], flux[kept], _DEGREE, domain=(x[0], x[-1]))(x)
        off, sigma = flux - fit, np.std((flux - fit)[kept])
        above = (off >= -_BELOW * sigma) & (off <= _ABOVE * sigma)
        if above.sum() <= 2 * _DEGREE:
            break
        kept = above
    return fit


def read_apogee_folder(folder: str | Path, limit: int = 12) -> list[ApogeeSpectrum]:
    """Read the first `limit` aspcapStar, apStar and asStar files of a folder."""
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
    """Real APOGEE spectra to look at: those of `settings.real_spectra`, or three stars of a real data set, or none."""
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


def _images(path: Path, members: dict[str, Member], absolute: bool) -> tuple[list[np.ndarray], str, bool]:
    """First rows of HDU 1, 2, ..., the star's name, and whether that comes from the file's header."""
    with opened_fits(path) as hdus:
        if len(hdus) <= len(members):
            raise DataError(f"{path}: {len(hdus)} HDUs, an APOGEE spectrum has more than {len(members)}")
        if ("erg" in str(hdus[1].header.get("BUNIT", ""))) != absolute:
            if absolute:
                raise DataError(f"{path}: not an apStar file (HDU 1 in erg/s/cm2/Angstrom, HDU 3 a bit mask)")
            raise DataError(f"{path}: an apStar file, not normalised by ASPCAP; aspcapStar files are needed here")
        numbered = enumerate(members.values(), start=1)
        arrays = [read_image(hdus[number], member, f"{path}: HDU {number}") for number, member in numbered]
        header, main = hdus[1].header, hdus[0].header
        grid = tuple(header.get(key) for key in ("CRVAL1", "CDELT1", "CRPIX1"))
        numbers = all(isinstance(value, int | float) for value in grid)
        if not numbers or not np.allclose(np.array(grid, float), (4.179, 6e-6, 1), rtol=1e-9):
            raise DataError(
                f"{path}: the wavelength grid (CRVAL1, CDELT1, CRPIX1) is {grid}, expected (4.179, 6e-06, 1)"
            )
        named = str(main.get("OBJID") or main.get("OBJ") or "").strip()
        name = named or _RELEASE.sub("", path.name.removesuffix(".fits"))
    return arrays, safe_name(name), bool(named)


def _spectrum(
    path: str | Path, name: list[Any], flux: np.ndarray, error: np.ndarray, bad: np.ndarray
) -> ApogeeSpectrum:
    with np.errstate(over="ignore"):
        flux, error = flux.astype(np.float32), error.astype(np.float32)
    good = APOGEE.on_detector & ~bad & np.isfinite(flux) & np.isfinite(error) & (flux != 0) & (error > 0)
    with np.errstate(over="ignore", divide="ignore"):
        weight = np.where(good, error, 1) ** np.float32(-2)
    good &= np.isfinite(weight)
    if good.sum() < MIN_PIXELS:
        raise DataError(f"{path}: {good.sum()} good pixels on the chips, {MIN_PIXELS} are needed")
    ivar = np.where(good, weight, np.float32(0))
    star_id, named = name
    return ApogeeSpectrum(star_id, np.where(good, flux, np.float32(APOGEE.fill_value)), ivar, ~good, named)
