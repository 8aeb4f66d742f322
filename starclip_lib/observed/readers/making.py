"""What readers share: kinds of files, columns by their names, and observed spectra from numbers with units."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from astropy import units as u

from starclip_lib.observed.readers.look import Look
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum, as_observed
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import damage_refused, safe_name

Part = TypeVar("Part")
_PER_WAVELENGTH = (u.W / u.m**2 / u.um, u.W / u.m**2 / u.um / u.sr)
_PER_PIXEL = (u.dimensionless_unscaled, u.electron, u.count, u.DN, u.adu, u.photon)
_FAR = 1e6  # Angstrom; and 100 at the other end: what lies outside is not light that is measured here
_ENDINGS = (".gz", ".fits", ".fit", ".fts", ".csv", ".ecsv", ".vot", ".votable", ".xml", ".txt", ".dat", ".tsv", ".asc")
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


@dataclass(frozen=True)
class Options:
    """What a user says about files that do not say it themselves."""

    settings: ObservedParams = field(default=OBSERVED)  # which wavelengths are used
    air: bool | None = None  # whether wavelengths are in air; None: as the file states, else vacuum
    wavelength_unit: str = ""  # of columns without a unit
    flux_unit: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    name: str  # for people
    recognises: Callable[[Look], bool]  # whether a file is of this kind, from a first look at it
    # its spectra.  None: files of this kind are refused by name
    read: Callable[[Path, Options], list[ObservedSpectrum]] | None = None
    instead: str = ""  # of a kind that is refused: what to do


def vacuum(wavelength: np.ndarray) -> np.ndarray:
    """Wavelengths in vacuum of wavelengths in standard air, both in Angstrom (Ciddor 1996, Applied Optics 35, 1566)."""
    in_vacuum = wavelength
    for _ in range(3):  # the index of refraction is a function of the wavelength in vacuum
        wavenumber2 = (1e4 / in_vacuum) ** 2
        in_vacuum = wavelength * (1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2))
    return in_vacuum


def in_vacuum(angstrom: np.ndarray, stated: str, options: Options) -> tuple[np.ndarray, str]:
    """Wavelengths in vacuum, and the medium that is stated: by the user, else by the file ('air', 'vacuum' or '')."""
    medium = stated if options.air is None else "air" if options.air else "vacuum"
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return (vacuum(angstrom) if medium == "air" else angstrom), medium


def stem(path: Path) -> str:
    """The name of a file without its endings."""
    name = path.name
    for ending in _ENDINGS:
        name = name[: -len(ending)] if name.lower().endswith(ending) and len(name) > len(ending) else name
    return name


def damaged(name: str, reason: str, file: str = "") -> ObservedSpectrum:
    """A spectrum without pixels that tells why it could not be read."""
    nothing, none = np.empty(0), np.empty(0, bool)
    name = safe_name(name)
    return ObservedSpectrum(name, nothing, nothing, nothing, none, none, damage=reason, file=file, target=name)


def each(
    path: Path, parts: Iterable[tuple[str, Part]], read: Callable[[str, Part], ObservedSpectrum]
) -> list[ObservedSpectrum]:
    """The spectra of a file that holds several: one that is damaged tells why and does not cost the others.

    DataError if none of them can be read.
    """
    spectra, errors = [], []
    for name, part in parts:
        try:
            with damage_refused(path, f"cannot be read: its spectrum {name}"):
                spectra.append(read(name, part))
        except StarclipError as error:
            if str(path) not in str(error):
                error = type(error)(f"{path}: {error}")
            errors.append(error)
            spectra.append(damaged(name, str(error), str(path)))
    if errors and len(errors) == len(spectra):
        if len(errors) == 1:
            raise errors[0]
        raise DataError(f"{path}: none of its {len(errors)} spectra can be read; the first: {errors[0]}")
    return spectra


def from_quantities(
    name: str,
    wavelength: Any,
    flux: Any,
    error: Any,
    mask: Any = None,
    *,
    options: Options,
    stated: str = "",
    where: str = "",
    lsf: str = "",
) -> ObservedSpectrum:
    """An observed spectrum from wavelength (or frequency), flux and standard deviation, each with a unit.

    DataError names what has no unit, or one that cannot be used, or another length than the rest.
    """
    wavelength, flux, error = (
        quantity(value, f"the {what} of {name}")
        for value, what in ((wavelength, "wavelength"), (flux, "flux"), (error, "error"))
    )
    mask = _mask(mask, name, flux.shape)
    if wavelength.ndim != 1 or not wavelength.shape == flux.shape == error.shape == mask.shape:
        shapes = ", ".join(str(part.shape) for part in (wavelength, flux, error, mask))
        raise DataError(f"wavelength, flux, error and mask of {name} have shapes {shapes}; give four of one length")
    if not wavelength.size:
        raise DataError(f"the spectrum of {name} is empty: it has no pixels")
    if (error.value < 0).any():
        count = int((error.value < 0).sum())
        raise DataError(
            f"{count} errors of {name} are negative; give standard deviations, NaN or 0 where there is none"
        )
    try:
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            angstrom = wavelength.to_value(u.AA, u.spectral())
    except u.UnitConversionError:
        raise DataError(
            f"the wavelength of {name} is in {wavelength.unit}, which is not a unit of wavelength or frequency"
        ) from None
    angstrom = np.where((angstrom > 0) & (angstrom < 1e12), angstrom, np.nan)
    flux, error = _per_wavelength(name, flux, error, u.spectral_density(wavelength))
    positive = flux[(flux > 0) & np.isfinite(flux)]
    level = np.median(positive) if len(positive) else 1.0  # of W/m2/um little is left in numbers
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ivar = np.where(error > 0, 1 / (error / level) ** 2, 0.0)
        relative = flux / level
    angstrom, medium = in_vacuum(angstrom, stated, options)
    where = where or one_line(name)
    made = as_observed(safe_name(name), angstrom, relative, ivar, mask, options.settings, 0.0, where, lsf)
    made.medium = medium
    return made


def _mask(mask: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        mask = np.zeros(shape, bool) if mask is None else np.asarray(mask)
    except ValueError:
        raise DataError(f"the mask of {name} has rows of several lengths") from None
    if mask.dtype.kind not in "bui":
        raise DataError(f"the mask of {name} holds {mask.dtype}; expected true where a pixel must not be used")
    return mask.astype(bool)


def _per_wavelength(name: str, flux: u.Quantity, error: u.Quantity, equal: Any) -> tuple[np.ndarray, np.ndarray]:
    """Flux and error in one unit per wavelength or pixel."""
    for unit in (*_PER_WAVELENGTH, *_PER_PIXEL):
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            try:
                return flux.to_value(unit, equal), error.to_value(unit, equal)
            except u.UnitConversionError:
                continue
    raise DataError(f"flux and error of {name} are in {flux.unit} and {error.unit}; expected flux densities, or counts")


def quantity(value: Any, what: str) -> u.Quantity:
    """Numbers with a unit; numbers without one are refused."""
    unit = getattr(value, "unit", None)
    if unit is None:
        raise DataError(
            f"{what} has no unit; give (wavelength * u.Angstrom, flux * u.Jy, error * u.Jy), or the arrays and "
            "wavelength_unit='Angstrom', flux_unit='Jy' ('1': relative)"
        )
    if not isinstance(unit, u.UnitBase) or isinstance(unit, u.UnrecognizedUnit):
        raise DataError(f"{what} is in {unit}, which is not a linear unit (magnitudes are none); convert it first")
    given = np.ma.asarray(getattr(value, "value", value))
    if given.dtype.kind not in "buif":
        raise DataError(f"{what} holds {given.dtype}, expected numbers")
    values: np.ndarray = np.ma.filled(given.astype(float), np.nan)
    return u.Quantity(values, unit)


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
