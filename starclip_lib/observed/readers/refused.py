"""Files that are no spectra for these commands, by name: what they are, and what to do."""

from __future__ import annotations

import re

from starclip_lib.observed.readers.kinds import Kind
from starclip_lib.observed.readers.look import FITS, HDF5, Look

_APOGEE_NAME = re.compile(r"(aspcapStar|apStar|asStar)")
_PRODUCT = re.compile(
    r"_(uncal|rate|rateints|ramp|cal|calints|crf|crfints|s2d|s3d|i2d|bsub|bsubints|msa|wcs)\.", re.IGNORECASE
)
_PIXELS = "8575"  # of an APOGEE spectrum


def is_apogee(look: Look) -> bool:
    """Combined spectra of APOGEE, by their names, or by their headers if they have been renamed."""
    return bool(_APOGEE_NAME.match(look.name)) or _PIXELS in (header.get("NAXIS1") for header in look.headers)


def _is_visit(look: Look) -> bool:
    return look.name.startswith(("apVisit", "asVisit"))


def _is_catalogue(look: Look) -> bool:
    names = {value.upper() for header in look.headers[1:] for key, value in header.items() if key.startswith("TTYPE")}
    return "APOGEE_ID" in names


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
