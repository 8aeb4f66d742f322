"""The allStar catalogue of APOGEE, its labels, and the paper's cuts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from starclip_lib.data.selection import inside_cuts
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.settings.data import DataParams
from starclip_lib.storage.fits_files import mapped_fits
from starclip_lib.storage.schema import Member, check_kind, check_shape
from starclip_lib.support.errors import DataError

# Bits that the survey's documentation calls bad (sdss.org, DR17, "APOGEE Bitmasks").
STAR_BAD = 1 << 23  # ASPCAPFLAG: the summary of everything that spoils a star's parameters
BAD_STAR_BITS = (0, 3, 4, 16, 17, 21, 22)  # STARFLAG: bad pixels, bright neighbour, low S/N, suspect RV or lines
DUPLICATE = 1 << 4  # EXTRATARG: another row of the same star is the better one
_UNMEASURED = -9000.0  # the catalogue writes -9999
_BLOCK = 20_000  # rows read at once: 100 MB of the DR17 catalogue


def _catalogue() -> dict[str, Member]:
    keys = ["FE_H"] + [f"{element.upper()}_FE" for element in ELEMENTS if element != "Fe"]
    found = {name: Member("of the star", "text") for name in ("APOGEE_ID", "TELESCOPE", "FIELD")}
    found |= {"SNR": Member("per pixel", finite=False), "VSCATTER": Member("of visits", unit="km/s", finite=False)}
    found |= {name: Member("bit mask", "integer") for name in ("STARFLAG", "ASPCAPFLAG", "EXTRATARG")}
    for name, unit in (("TEFF", "K"), ("LOGG", "dex"), *((key, "dex") for key in keys)):
        found[name] = Member("-9999 where not measured", unit=unit, finite=False)
        found[f"{name}_ERR"] = Member("its error", unit=unit, finite=False)
        if name in keys:
            found[f"{name}_FLAG"] = Member("bit mask", "integer")
    return found


CATALOGUE = _catalogue()  # the columns of an allStar catalogue that are read
CATALOGUE_COLUMNS = tuple(CATALOGUE)
LABEL_COLUMNS = tuple(name for name, member in CATALOGUE.items() if member.unit in ("K", "dex"))


def read_all_star(path: str | Path) -> pd.DataFrame:
    """The columns of an allStar catalogue that are needed here, all its rows.

    It is read in blocks, whatever the file's size: 0.7 GB of memory for 733,900 rows. Raises DataError naming the file
    if it is missing, truncated or lacks columns (before DR16 there was no cerium).
    """
    blocks = list(_blocks(path))
    if not blocks:
        raise DataError(f"{path}: the catalogue has no rows")
    return pd.concat(blocks, ignore_index=True)


def _blocks(path: str | Path) -> Iterator[pd.DataFrame]:
    with mapped_fits(path) as hdus:
        if len(hdus) < 2 or not isinstance(hdus[1], fits.BinTableHDU):
            raise DataError(f"{path}: HDU 1 is not a table; an allStar catalogue of DR16 or DR17 is needed")
        table = hdus[1]
        missing = [name for name in CATALOGUE_COLUMNS if name not in table.columns.names]
        if missing:
            raise DataError(
                f"{path}: the columns {', '.join(missing)} are missing; an allStar catalogue of DR16 or DR17 is needed"
            )
        data = table.data
        for name, member in CATALOGUE.items():
            check_kind(np.asarray(data[:1][name]).dtype, member, f"{path}, column {name}")
            check_shape(np.shape(data[:1][name]), member, {}, f"{path}, column {name}")
        for start in range(0, len(data), _BLOCK):
            rows = data[start : start + _BLOCK]
            yield pd.DataFrame({name: _native(rows[name]) for name in CATALOGUE_COLUMNS})


def _native(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "US":
        return np.char.strip(column.astype(str))
    return column.astype(column.dtype.newbyteorder("="))


def catalogue_labels(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Labels and errors (n, 20) of the stars in a catalogue, in K and dex, NaN where it has no measurement.

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
    """Apply the paper's cuts to a catalogue, one after the other: the stars that are left, and a report of the cuts.

    Stars have their labels in columns named as `LABELS` and the errors in `LABEL_err`; the report has columns cut,
    removed and left. Of several rows of a star the one with the highest S/N stays. The last cut, the emulator's domain,
    is not the paper's: the NIRSpec spectra are computed from it.
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
