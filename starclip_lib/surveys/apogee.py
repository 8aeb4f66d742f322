"""Observed APOGEE data: the allStar catalogue with the paper's cuts, and readers of aspcapStar and apStar files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from starclip_lib.data.emulator import Emulator, default_emulator
from starclip_lib.data.instruments import APOGEE
from starclip_lib.data.labels import ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.data.selection import inside_cuts
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.settings.data import DataParams

# Bits that the survey's documentation calls bad (sdss.org, DR17, "APOGEE Bitmasks").
STAR_BAD = 1 << 23  # ASPCAPFLAG: the summary of everything that spoils a star's parameters
BAD_STAR_BITS = (
    0,
    3,
    4,
    16,
    17,
    21,
    22,
)  # STARFLAG: bad pixels, bright neighbour, low S/N, suspect RV or lines
BAD_PIXEL_BITS = (*range(8), 14)  # APOGEE_PIXMASK: bad, cosmic ray, saturated ... no sky, not enough profile
DUPLICATE = 1 << 4  # EXTRATARG: another row of the same star is the better one
MAX_ERROR = 0.1  # of a normalised flux; ASPCAP multiplies the errors of pixels that it distrusts by up to thousands

_UNMEASURED = -9000.0  # the catalogue writes -9999
_RELEASE = re.compile(r"^a(?:spcap|p|s)Star-(?:(?:r|dr|l)\d[^-]*-)*")  # in file names, in front of the star's
_BLOCK = 20_000  # rows read at once: 100 MB of the DR17 catalogue


def _columns() -> tuple[str, ...]:
    keys = ["FE_H"] + [f"{element.upper()}_FE" for element in ELEMENTS if element != "Fe"]
    measured = [f"{key}{suffix}" for key in keys for suffix in ("", "_ERR", "_FLAG")]
    place = ("APOGEE_ID", "TELESCOPE", "FIELD")
    quality = ("SNR", "VSCATTER", "STARFLAG", "ASPCAPFLAG", "EXTRATARG")
    return (*place, *quality, "TEFF", "TEFF_ERR", "LOGG", "LOGG_ERR", *measured)


CATALOGUE_COLUMNS = _columns()


@dataclass(frozen=True, eq=False)
class ApogeeSpectrum:
    """One combined spectrum on APOGEE's grid, at rest in vacuum.

    flux : (8575,) float32, 0 where `mask` is true; relative to the continuum (aspcapStar) or in
        1e-17 erg/s/cm2/Angstrom (apStar)
    ivar : (8575,) float32 inverse variance, 0 where `mask` is true
    mask : (8575,) bool, true off the chips and in bad pixels
    """

    star_id: str
    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray


def read_aspcap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a normalised spectrum (aspcapStar, DR13 to DR17: flux, error and best fit in HDU 1 to 3).

    Pixels count as bad off the chips, where flux is 0 or not finite, and where the error exceeds `MAX_ERROR`.
    Raises DataError, naming the file, if it is missing, truncated, not an aspcapStar or on another grid.
    """
    (flux, error), header, name = _images(Path(path), 2)
    if "erg" in str(header.get("BUNIT", "")):
        raise DataError(f"{path}: an apStar file, not normalised by ASPCAP; aspcapStar files are needed here")
    return _spectrum(path, name, flux, error, error > MAX_ERROR)


def read_ap_star(path: str | Path) -> ApogeeSpectrum:
    """Read a combined spectrum before normalisation (apStar, asStar: flux, error and bit mask in HDU 1 to 3).

    The arrays may hold one spectrum (8575,) or the combination followed by others (n, 8575); the combination is taken.
    Raises DataError, naming the file, if it is missing, truncated, not an apStar or on another grid.
    """
    (flux, error, bits), header, name = _images(Path(path), 3)
    if "erg" not in str(header.get("BUNIT", "")) or not np.issubdtype(bits.dtype, np.integer):
        raise DataError(f"{path}: not an apStar file (HDU 1 in erg/s/cm2/Angstrom, HDU 3 a bit mask)")
    return _spectrum(path, name, flux, error, (bits & sum(1 << bit for bit in BAD_PIXEL_BITS)) != 0)


def read_apogee_folder(folder: str | Path, limit: int = 12) -> list[ApogeeSpectrum]:
    """Read the first `limit` aspcapStar, apStar and asStar files of a folder, all with a median flux of about 1.

    Raises DataError if the folder or such files are missing, or one of them cannot be read.
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


def _images(path: Path, count: int) -> tuple[list[np.ndarray], fits.Header, str]:
    """First rows of HDU 1 to `count`, the header of HDU 1, and the star's name from main header or file name."""
    try:
        _check_size(path)
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


def _check_size(path: Path) -> None:
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


def read_all_star(path: str | Path) -> pd.DataFrame:
    """The columns of an allStar catalogue that are needed here, all its rows.

    It is read in blocks, whatever the file's size: 0.7 GB of memory for 733,900 rows.
    Raises DataError naming the file if it is missing, truncated or lacks columns (before DR16 there was no cerium).
    """
    try:
        _check_size(Path(path))
        blocks = list(_blocks(path))
    except FileNotFoundError:
        raise DataError(f"{path}: no such catalogue") from None
    except (OSError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: truncated, or no allStar catalogue ({reason}); download it again") from error
    return pd.concat(blocks, ignore_index=True)


def _blocks(path: str | Path) -> Iterator[pd.DataFrame]:
    with fits.open(path, memmap=True) as hdus:
        table = hdus[1]
        missing = [name for name in CATALOGUE_COLUMNS if name not in table.columns.names]
        if missing:
            raise DataError(
                f"{path}: the columns {', '.join(missing)} are missing; an allStar catalogue of DR16 or DR17 is needed"
            )
        data = table.data
        for start in range(0, len(data), _BLOCK):
            rows = data[start : start + _BLOCK]
            yield pd.DataFrame({name: _native(rows[name]) for name in CATALOGUE_COLUMNS})


def _native(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "US":
        return np.char.strip(column.astype(str))
    return column.astype(column.dtype.newbyteorder("="))


def catalogue_labels(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and errors, each (n, 20) float64 in K and dex, NaN where the catalogue has no measurement.

    [X/H] = [X/Fe] + [Fe/H], and its error is that of both in quadrature.
    """
    labels, errors = np.empty((len(table), len(LABELS))), np.empty((len(table), len(LABELS)))

    def measured(name: str) -> np.ndarray:
        values = table[name].to_numpy(np.float64)
        return np.where(values > _UNMEASURED, values, np.nan)

    for column, name in ((TEFF, "TEFF"), (LOGG, "LOGG"), (FE, "FE_H")):
        labels[:, column], errors[:, column] = measured(name), measured(f"{name}_ERR")
    for column, element in enumerate(ELEMENTS, start=2):
        if column != FE:
            name = f"{element.upper()}_FE"
            labels[:, column] = measured(name) + labels[:, FE]
            errors[:, column] = np.hypot(measured(f"{name}_ERR"), errors[:, FE])
    return labels, errors


def select_giants(
    table: pd.DataFrame, settings: DataParams, emulator: Emulator | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the paper's cuts to a catalogue, one after the other.

    Returns the stars that are left, one row each, with their labels in columns named as `LABELS` and the errors in
    `LABEL_err`; and a report with columns cut, removed and left.  Of several rows of a star the one with the highest
    S/N stays.  The last cut, the emulator's domain, is not the paper's: the NIRSpec spectra are computed from it.
    """
    emulator = emulator or default_emulator()
    labels, errors = catalogue_labels(table)
    flags = np.bitwise_or.reduce([table[name] for name in CATALOGUE_COLUMNS if name.endswith("_FLAG")])
    starflag, aspcapflag = table["STARFLAG"].to_numpy(), table["ASPCAPFLAG"].to_numpy()

    inside = inside_cuts(labels, settings)
    low, high = settings.teff_range, settings.logg_range
    archive = settings.archive
    cuts = [
        (f"S/N > {archive.snr_min:g}", table["SNR"].to_numpy() > archive.snr_min),
        (f"{low[0]:g} < Teff < {low[1]:g} K", inside["Teff"]),
        (f"{high[0]:g} < log g < {high[1]:g}", inside["logg"]),
        (f"VSCATTER < {archive.max_vscatter:g} km/s", table["VSCATTER"].to_numpy() < archive.max_vscatter),
        ("ASPCAPFLAG: not STAR_BAD", (aspcapflag & STAR_BAD) == 0),
        ("STARFLAG: nothing bad", (starflag & sum(1 << bit for bit in BAD_STAR_BITS)) == 0),
        ("abundance flags all 0", flags == 0),
        ("all labels and errors measured", np.isfinite(labels).all(1) & np.isfinite(errors).all(1)),
        (f"{settings.feh_range[0]:g} < [Fe/H] < {settings.feh_range[1]:g}", inside["Fe"]),
        ("EXTRATARG: not DUPLICATE", (table["EXTRATARG"].to_numpy() & DUPLICATE) == 0),
    ]
    kept, report = np.ones(len(table), bool), [("rows of the catalogue", 0, len(table))]

    def apply(name: str, keep: np.ndarray) -> None:
        nonlocal kept
        before, kept = kept.sum(), kept & keep
        report.append((name, int(before - kept.sum()), int(kept.sum())))

    for name, keep in cuts:
        apply(name, keep)
    best = table[kept].sort_values("SNR", ascending=False, kind="stable").drop_duplicates("APOGEE_ID").index
    apply("one row for each APOGEE_ID", table.index.isin(best))
    apply("inside the emulator's domain", emulator.inside_domain(labels))

    stars = table.loc[kept, ["APOGEE_ID", "TELESCOPE", "FIELD", "SNR"]].reset_index(drop=True)
    values = np.hstack([labels[kept], errors[kept]])
    names = [*LABELS, *(f"{name}_err" for name in LABELS)]
    stars = pd.concat([stars, pd.DataFrame(values, columns=names)], axis=1)
    return stars, pd.DataFrame(report, columns=["cut", "removed", "left"])
