"""Which columns of a table are the wavelength, the flux, the error and the mask, by their names in any case."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAMES = {
    "wavelength": ("wavelength", "wavelengths", "wave", "lambda", "lam", "wl", "spectral_axis", "frequency",
                   "freq", "wavenumber"),
    "log_wavelength": ("loglam", "log_wavelength", "loglambda"),
    "flux": ("flux", "flux_density", "fluxdensity", "flux_lambda", "f_lambda", "flam", "flux_nu", "f_nu", "fnu",
             "intensity", "counts", "flux_reduced"),
    "error": ("error", "flux_error", "fluxerror", "fluxerr", "flux_err", "err", "e_flux", "eflux", "sigma",
              "uncertainty", "flux_uncertainty", "unc", "std", "stddev", "noise", "err_reduced", "errors", "dflux",
              "flux_unc"),
    "ivar": ("ivar", "inverse_variance", "flux_ivar", "invvar", "weight"),
    "variance": ("variance", "var", "flux_var"),
    "mask": ("mask", "bad", "dq", "qual", "quality", "flag", "flags", "and_mask"),
}  # fmt: skip
_UNIT = re.compile(
    r"\s*[\[(]\s*([^\])]+?)\s*[\])]\s*$|[ _](um|micron|microns|nm|aa|ang|angstrom|angstroms|jy|mjy|hz|ghz)$"
)
_MEDIUM = re.compile(r"^(?:air|vac|vacuum)_|_[(\[]?(?:in_)?(?:air|vac|vacuum)[)\]]?$")  # 'wavelength_air'
_SPELLED = {**dict.fromkeys(("a", "å", "aa", "ang", "angstrom", "angstroms"), "Angstrom"), "microns": "micron",
            "µm": "um", "jy": "Jy", "mjy": "mJy", "hz": "Hz", "ghz": "GHz"}  # fmt: skip


def plain_name(column: str) -> tuple[str, str]:
    """The name of a column in lower case without a unit, and the unit that stands in it: 'Wave [um]', 'flux_jy'."""
    name = column.strip().lower()
    found = _UNIT.search(name)
    if found is None or not found.start() or (found[1] or "").startswith(("air", "vac", "in ")):
        return name, ""
    where = found.span(1) if found[1] else found.span(2)
    unit = column.strip()[slice(*where)] if found[1] else found[2]
    return name[: found.start()].strip().rstrip("_"), spelled(unit)


def spelled(unit: str) -> str:
    """A unit as astropy spells it."""
    return _SPELLED.get(unit.strip().lower(), unit.strip())


def roles(columns: Iterable[str]) -> dict[str, str]:
    """The column of each role: wavelength, log_wavelength, flux, error, ivar, variance, mask."""
    there: dict[str, str] = {}
    for column in columns:
        name = plain_name(column)[0]
        there.setdefault(name, column)
        there.setdefault(_MEDIUM.sub("", name.replace(" ", "_")), column)
    found = {}
    for role, names in _NAMES.items():
        if column := next((there[name] for name in names if name in there), ""):
            found[role] = column
    return found


def has_spectrum(columns: Iterable[str]) -> bool:
    """Whether columns hold wavelength and flux."""
    found = roles(columns)
    return "flux" in found and ("wavelength" in found or "log_wavelength" in found)
