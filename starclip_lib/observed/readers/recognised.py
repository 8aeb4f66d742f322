"""Every kind of file that is read or refused by name, and which of them a file is."""

from __future__ import annotations

from starclip_lib.observed.readers import msaexp, pypeit, refused, spex, stsci, tables, with_specutils
from starclip_lib.observed.readers.kinds import Kind
from starclip_lib.observed.readers.look import FITS, Look

SPECTRUM, APOGEE, DATA_SET = "observed spectra", "APOGEE spectra", "data sets"
# The first kind that recognises a file reads it: a new one goes before the tables, which take whatever has the columns.
KINDS = (pypeit.SPEC1D, pypeit.ONE_SPEC, stsci.KIND, msaexp.KIND, spex.KIND, tables.KIND, with_specutils.KIND)
_ENDINGS = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz")


def kind_of(look: Look) -> Kind | None:
    """The kind of a file, read or refused; None if it is unknown."""
    every = (refused.DATA_SETS, refused.APOGEE_SPECTRA, *refused.REFUSED, *KINDS)
    return next((kind for kind in every if kind.recognises(look)), None)


def sort_of(look: Look) -> str:
    """`SPECTRUM`, `APOGEE` or `DATA_SET`; empty for what no command reads.

    A damaged file counts as what its name promises, so that its reader tells what is wrong with it.
    """
    kind = kind_of(look)
    if kind in (refused.DATA_SETS, refused.APOGEE_SPECTRA):
        return DATA_SET if kind is refused.DATA_SETS else APOGEE
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
