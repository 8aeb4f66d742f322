"""Every kind of file that is read or refused by name, and which of them a file is."""

from __future__ import annotations

import re

from starclip_lib.observed.readers import memory, pypeit, spex, stsci, tables
from starclip_lib.observed.readers.look import FITS, HDF5, Look
from starclip_lib.observed.readers.making import Kind

_APOGEE_NAME = re.compile(r"(aspcapStar|apStar|asStar)")
_PRODUCT = re.compile(
    r"_(uncal|rate|rateints|ramp|cal|calints|crf|crfints|s2d|s3d|i2d|bsub|bsubints|msa|wcs)\.", re.IGNORECASE
)
_PIXELS = "8575"  # of an APOGEE spectrum
SPECTRUM, APOGEE, DATA_SET = "observed spectra", "APOGEE spectra", "data sets"
# The first kind that recognises a file reads it: a new one goes before the tables, which take whatever has the columns.
KINDS = (pypeit.SPEC1D, pypeit.ONE_SPEC, stsci.KIND, stsci.MSAEXP, spex.KIND, tables.KIND, memory.SPECUTILS)
_ENDINGS = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz")


def is_apogee(look: Look) -> bool:
    """Combined spectra of APOGEE, by their names, or by their headers if they have been renamed."""
    return bool(_APOGEE_NAME.match(look.name)) or _PIXELS in (header.get("NAXIS1") for header in look.headers)


def _is_visit(look: Look) -> bool:
    return look.name.startswith(("apVisit", "asVisit"))


def _is_catalogue(look: Look) -> bool:
    return "APOGEE_ID" in map(str.upper, look.table_columns)


def _is_image_product(look: Look) -> bool:
    """Images and cubes of the JWST pipeline: by name, or by what the header calls their data model."""
    if any(name in ("EXTRACT1D", "COMBINE1D") for name in look.extensions("EXTNAME")):
        return False
    model = look.primary.get("DATAMODL", "")
    of_jwst = look.primary.get("TELESCOP") == "JWST"
    return bool(
        (look.form == FITS and _PRODUCT.search(look.name) and (of_jwst or look.name.startswith("jw")))
        or (of_jwst and re.search(r"Image|Cube|Slit|Ramp|Level1b", model))
    )


DATA_SETS = Kind("data sets", lambda look: look.form == HDF5 or look.name.lower().endswith((".h5", ".hdf5")),
                 instead="`starclip run --set data.file=...` and `starclip embed` take it")  # fmt: skip
APOGEE_SPECTRA = Kind(
    "APOGEE spectra (aspcapStar, apStar)",
    is_apogee,
    instead="`starclip embed` takes it, this command measures NIRSpec's",
)
REFUSED = (
    Kind(
        "single visits of APOGEE (apVisit)",
        _is_visit,
        instead="give the combined spectrum, apStar, to `starclip embed`",
    ),
    Kind("catalogues of APOGEE (allStar)", _is_catalogue, instead="`starclip fetch apogee` uses it"),
    Kind(
        "images of the JWST pipeline (s2d, cal, ...)",
        _is_image_product,
        instead="give the extracted spectrum, x1d or c1d",
    ),
)


def kind_of(look: Look) -> Kind | None:
    """The kind of a file, read or refused; None if it is unknown."""
    every = (DATA_SETS, APOGEE_SPECTRA, *REFUSED, *KINDS)
    return next((kind for kind in every if kind.recognises(look)), None)


def sort_of(look: Look) -> str:
    """`SPECTRUM`, `APOGEE` or `DATA_SET`; empty for what no command reads.

    A damaged file counts as what its name promises, so that its reader tells what is wrong with it.
    """
    kind = kind_of(look)
    if kind in (DATA_SETS, APOGEE_SPECTRA):
        return DATA_SET if kind is DATA_SETS else APOGEE
    if kind is not None:
        return SPECTRUM if kind.read else ""
    fits = look.name.lower().endswith(_ENDINGS)
    return SPECTRUM if fits and (look.form != FITS or not look.whole) else ""


def refusal(look: Look) -> str:
    """Why a file of a folder is left out, in words that are the same for every file of its kind."""
    kind = kind_of(look)
    if kind is not None:
        return f"{kind.name}{f': {kind.instead}' if kind.instead else ''}"
    what = "FITS files" if look.form == FITS else "tables or texts"
    return f"{what} of an unknown kind, without columns of wavelength and flux"
