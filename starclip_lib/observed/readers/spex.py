"""SpeX spectra: of the IRTF library (Rayner, Cushing & Vacca 2009), and as Spextool 4 and 5 write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u

from starclip_lib.observed.readers.instrument import stated_medium, text
from starclip_lib.observed.readers.look import FITS, Look
from starclip_lib.observed.readers.making import Kind, Options, each, from_quantities, spelled, stem
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.storage.fits_files import opened_fits
from starclip_lib.support.errors import DataError

# Angstrom between which telluric absorption is weak enough to be divided out.
_FROM_THE_GROUND = ((9700.0, 11100.0), (11600.0, 13250.0), (14900.0, 17300.0))
_ROWS = (3, 4)  # wavelength, flux, error, and what Spextool flags


def _recognises(look: Look) -> bool:
    header = look.primary
    is_image = header.get("NAXIS") in ("2", "3") and header.get("NAXIS2") in [str(n) for n in _ROWS]
    return look.form == FITS and is_image and "XUNITS" in header


def _read(path: Path, options: Options) -> list[ObservedSpectrum]:
    """One star; of orders that are not merged yet, each is joined to the next where that begins.

    It was observed from the ground: where the atmosphere is opaque or nearly so, nothing counts as good.
    """
    with opened_fits(path) as file:
        header, data = file[0].header, np.atleast_3d(np.asarray(file[0].data, np.float64))
        if file[0].data.ndim == 2:
            data = np.asarray(file[0].data, np.float64)[None]
        unit = _unit(text(header, "XUNITS"), path)
        name = text(header, "OBJECT", "TCS_OBJ") or stem(path)
        n_apertures = int(header["NAPS"]) if isinstance(header.get("NAPS"), int) and header["NAPS"] > 0 else 1
        lsf = f"R={_resolution(header)}"
        medium = stated_medium(header) or "vacuum"  # as Spextool's wavelengths are
    if data.ndim != 3 or data.shape[1] not in _ROWS:
        raise DataError(f"{path}: its image has shape {data.shape}, expected wavelength, flux and error")
    several = n_apertures if len(data) % n_apertures == 0 else 1
    stars = [(name if several == 1 else f"{name}_{n + 1}", data[n::several]) for n in range(several)]

    def read(called: str, orders: np.ndarray) -> ObservedSpectrum:
        wave, flux, error = _merged(orders)
        with np.errstate(invalid="ignore"):
            error = np.where(error > 0, error, np.nan)
        angstrom = (wave * unit).to_value(u.AA)
        seen = np.zeros(len(wave), bool)
        for low, high in _FROM_THE_GROUND:
            seen |= (angstrom > low) & (angstrom < high)
        # flux per micron, in whatever unit: the fit draws its own continuum
        parts = (angstrom * u.AA, flux * u.dimensionless_unscaled, error * u.dimensionless_unscaled, ~seen)
        return from_quantities(called, *parts, options=options, stated=medium, where=str(path), lsf=lsf)

    return each(path, stars, read)


def _unit(said: str, path: Path) -> u.Unit:
    name = spelled(said)
    if name not in ("um", "micron", "Angstrom", "nm"):
        raise DataError(f"{path}: its header gives XUNITS = {said[:20]!r}, expected um or Microns; is it a SpeX file?")
    return u.Unit(name)


def _resolution(header: object) -> str:
    for key in ("SXD_R", "RP", "RESOLVE", "RES_POW"):
        said = text(header, key)  # type: ignore[arg-type]  # a header is a mapping
        if said.replace(".", "", 1).isdigit() and float(said) > 0:
            return said
    return "2000"


def _merged(orders: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and error of orders (n, rows, m), one after the other; each ends where the next one begins."""
    kept: list[np.ndarray] = []
    with np.errstate(invalid="ignore"):
        sorted_orders = sorted((order[:3, order[0] > 0] for order in orders), key=lambda order: _first(order))
    for order in sorted_orders:
        if kept and kept[-1].size and order.size:
            middle = (kept[-1][0].max() + _first(order)) / 2
            if middle > _first(order):  # they overlap
                kept[-1] = kept[-1][:, kept[-1][0] < middle]
                order = order[:, order[0] >= middle]
        kept.append(order)
    wave, flux, error = np.concatenate(kept, axis=1)
    return wave, flux, error


def _first(order: np.ndarray) -> float:
    return float(order[0].min()) if order.size else np.inf


KIND = Kind("SpeX (IRTF library, Spextool)", _recognises, _read)
