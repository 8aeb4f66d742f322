"""Spectra of msaexp (DAWN JWST Archive): a table SPEC1D with columns wave, flux and err, and NIRSpec's cards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u

from starclip_lib.observed.barycentre import velocity_frame, with_correction
from starclip_lib.observed.readers.instrument import check_instrument, grating_spread, text
from starclip_lib.observed.readers.kinds import Kind, Options
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import from_quantities, stem
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.storage.fits_files import opened_fits
from starclip_lib.support.errors import DataError

_UNITS = {"wave": "um", "flux": "uJy", "err": "uJy"}


def _recognises(look: Look) -> bool:
    return look.form == FITS and "SPEC1D" in look.extensions("EXTNAME")


def _read(path: Path, options: Options) -> list[ObservedSpectrum]:
    with opened_fits(path) as file:
        table = file["SPEC1D"]
        header = {**dict(file[0].header), **dict(table.header)}
        check_instrument(header, path)
        spread = grating_spread({"EXP_TYPE": "NRS_MSASPEC", **header}, path)
        columns = {name.lower(): name for name in table.columns.names}
        if missing := [name for name in _UNITS if name not in columns]:
            raise DataError(f"{path}: the table SPEC1D has no column {missing[0]}; is it a spectrum of msaexp?")
        wave, flux, error = (
            np.array(table.data[columns[name]], float) * u.Unit(table.columns[columns[name]].unit or unit)
            for name, unit in _UNITS.items()
        )
    frame, factor = velocity_frame([header], None)
    name, bad = text(header, "SRCNAME") or stem(path), ~(error.value > 0)
    spectrum = from_quantities(
        name, wave * factor, flux, error, bad, options=options, stated="vacuum", where=str(path), line_spread=spread
    )
    spectrum.frame, spectrum.note = frame, with_correction("", factor)
    return [spectrum]


KIND = Kind("msaexp", _recognises, _read)
