"""Other FITS files that may hold a spectrum: read by specutils, if it is installed and knows them."""

from __future__ import annotations

import warnings
from pathlib import Path

from astropy.io.registry import IORegistryError

from starclip_lib.observed.readers.kinds import Kind, Options
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import each, stem
from starclip_lib.observed.readers.memory import of_specutils
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.storage.fits_files import SPECTRUM_BYTES
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused, regular_file


def _recognises(look: Look) -> bool:
    """A FITS file with a one-dimensional image, or a table with a column of fluxes."""
    columns = [value.lower() for header in look.headers[1:] for key, value in header.items() if key.startswith("TTYPE")]
    return look.form == FITS and (
        any("flux" in name for name in columns) or any(header.get("NAXIS") == "1" for header in look.headers)
    )


def read_with_specutils(path: Path, options: Options) -> list[ObservedSpectrum]:
    """The spectra of a file of a kind that only specutils knows; DataError if it does not, or is not installed."""
    regular_file(path, limit=SPECTRUM_BYTES)
    unknown = f"{path} is not of a kind that is read (PypeIt spec1d, STScI x1d, SpeX, a table with wavelength and flux)"
    try:
        from specutils import SpectrumList
    except ImportError:
        raise DataError(f"{unknown}; specutils knows more: pip install 'starclip[specutils]'") from None
    with (
        damage_refused(path, f"{unknown.removeprefix(f'{path} ')}, and specutils cannot read it"),
        warnings.catch_warnings(action="ignore"),  # of units and headers in files of others
    ):
        try:
            read = SpectrumList.read(str(path))
        except IORegistryError:
            raise DataError(f"{unknown}, and specutils does not know it either") from None
    base = stem(path)
    named = [(base if len(read) == 1 else f"{base}_{number}", one) for number, one in enumerate(read, start=1)]
    try:
        rows = [(name, row) for name, one in named for row in of_specutils(one, options, name)]
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return each(path, rows, lambda name, row: row(str(path)))


KIND = Kind("files that specutils knows", _recognises, read_with_specutils)
