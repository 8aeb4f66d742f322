"""Damaged spectra and catalogues of others, made from their declarations and from the cards of their headers."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from apogee_files import catalogue, image
from astropy.io import fits
from astropy.table import Table
from cases import Case, fingerprint
from damage import NASTY, gzip_bomb, put, whole_file
from nirspec_files import observe

from starclip_lib.observed.files import read_spectra
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.storage.formats import AP_STAR, ASPCAP_STAR, SPEC1D, X1D
from starclip_lib.storage.schema import Member
from starclip_lib.support.errors import DataError
from starclip_lib.survey.allstar import CATALOGUE, read_all_star
from starclip_lib.survey.apogee import normalised, read_ap_star, read_aspcap_star


def written(*hdus: fits.hdu.base.ExtensionHDU, **main: object) -> bytes:
    primary = fits.PrimaryHDU()
    primary.header.update(main)
    buffer = io.BytesIO()
    fits.HDUList([primary, *hdus]).writeto(buffer)
    return buffer.getvalue()


@cache
def star() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lines = 1 - 0.2 * (rng.random(NIRSPEC.n_pix) < 0.05)
    return observe(lines, 20.0, rng)


def table(columns: dict[str, np.ndarray], name: str, **header: object) -> fits.BinTableHDU:
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(key, _form(array), array=array, dim=None) for key, array in columns.items()],
        name=name,
    )
    hdu.header.update(header)
    return hdu


def _form(array: np.ndarray) -> str:
    width = "" if array.ndim == 1 else str(int(np.prod(array.shape[1:])))
    kinds = {"f8": "D", "f4": "E", "i8": "K", "i4": "J", "i2": "I", "u1": "B", "b1": "L", "c16": "M"}
    if array.dtype.kind in "SU":
        return f"{max(1, array.dtype.itemsize // (4 if array.dtype.kind == 'U' else 1))}A"
    return width + kinds[array.dtype.str[1:]]


def spec1d_columns() -> dict[str, np.ndarray]:
    wave, flux = star()
    return dict(zip(SPEC1D, (wave, flux, np.full(len(wave), 1e-2), np.ones(len(wave), bool)), strict=True))


def spec1d(columns: dict[str, np.ndarray]) -> bytes:
    hdu = table(columns, "SPAT1-SLIT1-MSC01", DMODCLS="SpecObj", S2N=100.0)
    detector = fits.BinTableHDU.from_columns([fits.Column("gain", "D", array=[1.0])], name="MSC01-DETECTOR")
    return written(hdu, detector, TARGET="star_1")


def x1d_columns() -> dict[str, np.ndarray]:
    wave, flux = star()
    values = (wave / 1e4, flux, flux / 100, flux / 100, np.zeros(len(wave), np.int32))
    return dict(zip(X1D, values, strict=True))


def x1d(columns: dict[str, np.ndarray]) -> bytes:
    return written(table(columns, "EXTRACT1D", SRCNAME="star_1", DISPAXIS=1))


def images(arrays: dict[str, np.ndarray], **header: object) -> bytes:
    first, *others = arrays.values()
    return written(image(first, **header), *(image(array) for array in others), OBJID="2M00000000+0000001")


def aspcap_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"flux": 0.9 + 0.01 * rng.standard_normal(8575), "error": np.full(8575, 0.01), "model": np.ones(8575)}


def ap_arrays() -> dict[str, np.ndarray]:
    return {
        "flux": np.full(8575, 80.0),
        "error": np.full(8575, 0.5),
        "mask": np.zeros(8575, np.int32),
        "sky": np.ones(8575),
    }


@cache
def catalogue_columns() -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in Table.from_pandas(catalogue(40)).columns.items()}


def all_star(columns: dict[str, np.ndarray]) -> bytes:
    return written(table(columns, "ALLSTAR"))


def open_observed(path: Path) -> str:
    (spectrum,) = read_spectra(path)
    assert not spectrum.damage or spectrum.damage.startswith("none of its ")  # not a single usable number
    assert spectrum.name.isprintable()
    assert not set(spectrum.name) & set("<>&\"'/\\")
    assert len(spectrum.name) <= 80
    return fingerprint(spectrum.wavelength, spectrum.flux, spectrum.ivar, spectrum.bad)


def open_aspcap(path: Path) -> str:
    found = read_aspcap_star(path)
    assert np.isfinite(found.flux).all()
    assert np.isfinite(found.ivar).all()
    return fingerprint(found.flux, found.ivar, found.mask)


def open_ap(path: Path) -> str:
    found = read_ap_star(path)
    try:
        normalised(found)
    except DataError as error:  # `starclip embed` lists the file beside it
        raise DataError(f"{path}: {error}") from None
    return fingerprint(found.flux, found.ivar, found.mask)


def open_catalogue(path: Path) -> int:
    return len(read_all_star(path))


Columns = dict[str, np.ndarray]


def damaged(key: str, columns: Columns, member: Member) -> Iterator[tuple[str, Columns, str]]:
    """Each way in which a column can be wrong."""
    array, n = columns[key], len(columns[key])

    def other(value: np.ndarray) -> Columns:
        return {**columns, key: value}

    yield (
        "missing",
        {name: column for name, column in columns.items() if name != key},
        "any" if member.optional else "never",
    )
    yield "text", other(np.full(n, "abc")), "any" if member.kind == "text" else "never"
    yield "complex", other(np.full(n, 1 + 1j)), "never"
    yield (
        "two columns",
        other(np.stack([array, array], axis=1)) if array.dtype.kind not in "SUO" else other(np.ones(n)),
        "never",
    )
    if member.kind == "float":
        yield "integers", other(np.ones(n, np.int32)), "never"
        yield "true and false", other(np.ones(n, bool)), "never"
        for value in (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30, -1e30, 1e300):
            yield f"{value:g} everywhere", other(np.full(n, value)), "any"
            yield f"{value:g} in one pixel", other(np.r_[value, array[1:]]), "any"
        yield "float32", other(array.astype(np.float32)), "any"
    else:
        yield "real numbers", other(np.ones(n)), "never"


def column_cases(
    kind: str, name: str, columns: Columns, write: Callable, door: Callable, members: dict
) -> Iterator[Case]:
    for key, member in members.items():
        for what, changed, accepted in damaged(key, columns, member):

            def make(folder: Path, changed: Columns = changed) -> Path:
                return put(folder / name, write(changed))

            yield Case(f"{kind}: {key}: {what}", make, door, accepted)


CARDS = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "TFORM1", "TTYPE1", "TDIM1", "XTENSION",
         "EXTNAME", "END", "CRVAL1", "BSCALE", "BZERO", "TSCAL1", "TZERO1", "THEAP", "DATASUM", "ZIMAGE", "BUNIT", "SRCNAME", "S2N")  # fmt: skip
VALUES = ("0", "-1", "10000000000", "9" * 25, "'text    '", "1.5", "T", "NaN", "'PD(9999)'", "", "'<img src=x>'")


def card_cases(kind: str, name: str, good: bytes, door: Callable[[Path], Any]) -> Iterator[Case]:
    """Each card of the first and the last header with another value, or put in where it is not."""
    for card in CARDS:
        found = [place for place in range(0, len(good), 80) if good[place : place + 8] == card.ljust(8).encode()]
        end = next(place for place in range(2880, len(good), 80) if good[place : place + 80].strip() == b"END")
        for place in {found[0], found[-1]} if found else {end - 80}:
            for value in VALUES:
                line = f"{card:<8}= {value:>20}".ljust(80)[:80].encode()

                def make(folder: Path, place: int = place, line: bytes = line) -> Path:
                    return put(folder / name, good[:place] + line + good[place + 80 :])

                yield Case(f"{kind}: {card} at {place} is {value[:12]}", make, door, "any")
    for what, text in NASTY.items():
        if text.isprintable() and 0 < len(text) < 60:
            place = (
                next(p for p in range(0, len(good), 80) if good[p : p + 6] == b"TARGET") if b"TARGET" in good else None
            )
            if place is not None and text.isascii():
                content = good[:place] + f"TARGET  = '{text}'".ljust(80).encode() + good[place + 80 :]
                yield Case(f"{kind}: TARGET {what}", lambda f, c=content: put(f / name, c), door, "any")


def cases(folder: Path, seed: int) -> Iterator[Case]:
    kinds = (
        ("spec1d", "spec1d_a.fits", spec1d_columns(), spec1d, open_observed, SPEC1D),
        ("x1d", "a_x1d.fits", x1d_columns(), x1d, open_observed, X1D),
        ("aspcapStar", "aspcapStar-dr17-2M1.fits", aspcap_arrays(), images, open_aspcap, ASPCAP_STAR),
        ("apStar", "apStar-dr17-2M1.fits", ap_arrays(), lambda a: images(a, BUNIT="1e-17 erg/s/cm^2/Ang"), open_ap, AP_STAR),
        ("allStar", "allStar.fits", catalogue_columns(), all_star, open_catalogue, CATALOGUE),
    )  # fmt: skip
    for kind, name, columns, write, door, members in kinds:
        good = write(columns)
        if kind in ("spec1d", "x1d", "allStar"):
            some = dict(list(members.items())[:14])  # of a catalogue's 65, one of each kind at least
            yield from column_cases(kind, name, columns, write, door, some)
        else:
            yield from image_cases(kind, name, columns, write, door, members)
        yield from card_cases(kind, name, good, door)
        stem, _, suffix = name.partition(".")
        yield from whole_file(kind, good, stem, f".{suffix}", door, 100, 20, seed, checked=False, reference=None)
        if kind != "allStar":

            def bomb(folder: Path, name: str = name, good: bytes = good) -> Path:
                return gzip_bomb(folder / f"{name}.gz", good, 2**29)

            yield Case(f"{kind}: a gzip bomb", bomb, door)
            yield Case(f"{kind}: gzipped", lambda f, n=name, g=good: put(f / f"{n}.gz", gzip.compress(g)), door, "any")
        yield Case(f"{kind}: an image", lambda f, n=name: put(f / n, written(fits.ImageHDU(np.ones((9, 9))))), door)
        yield Case(f"{kind}: nothing but a header", lambda f, n=name: put(f / n, written()), door)
        yield Case(f"{kind}: an empty image", lambda f, n=name: put(f / n, written(*[fits.ImageHDU()] * 4)), door)


def image_cases(
    kind: str, name: str, arrays: Columns, write: Callable, door: Callable, members: dict
) -> Iterator[Case]:
    for key, member in members.items():
        good = arrays[key]
        others: dict[str, tuple[np.ndarray, str]] = {
            "one pixel less": (good[:-1], "never"), "4,096 pixels": (good[:4096], "never"), "a cube": (np.ones((2, 2, 8575)), "never"),
            "other visits": (np.vstack([good, good * 0]), "any"), "bytes": (np.ones(8575, np.uint8), "never" if member.kind == "float" else "any"),
        }  # fmt: skip
        if member.kind == "float":
            for value in (np.nan, np.inf, 0.0, -1.0, 1e30, 4.8e23):
                sane = key == "error" and value > 0
                others[f"{value:g} everywhere"] = (np.full(8575, value), "any" if sane else "never")
                others[f"{value:g} in one pixel"] = (np.where(np.arange(8575) == 1000, value, good), "any")
            others["negative"] = (-np.abs(good), "never")
        else:
            others["real numbers"] = (np.ones(8575), "never")
            others["all bad"] = (np.full(8575, 1, np.int32), "never")
        for what, (array, accepted) in others.items():

            def make(folder: Path, array: np.ndarray = array, key: str = key) -> Path:
                return put(folder / name, write({**arrays, key: array}))

            yield Case(f"{kind}: {key}: {what}", make, door, accepted)
