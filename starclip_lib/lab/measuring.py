"""`starclip.measure`: spectra, files or folders in, measured stars out that print and plot themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from starclip_lib.data.star import Star
from starclip_lib.lab import figures
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import is_pattern, read_spectra
from starclip_lib.observed.measured import Measured
from starclip_lib.observed.measurements import Measurements
from starclip_lib.observed.measuring import Prior
from starclip_lib.observed.measuring import measure as measure_spectra
from starclip_lib.observed.priors import read_priors
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.giants import WIDE
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.threads import Callback

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MeasuredStar(Measured):
    """A measured star with its figure."""

    @classmethod
    def of(cls, one: Measured) -> MeasuredStar:
        """The same measurement."""
        return cls(**{field.name: getattr(one, field.name) for field in fields(one)})

    def plot(self) -> Figure:
        """The observed spectrum over its fit, and the residuals.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            If the spectrum was set aside before it was fitted.
        """
        return figures.fitted_spectrum(self)

    def __iter__(self) -> Iterator[MeasuredStar]:
        """Itself, so that a loop over what `measure` gives works for one spectrum as for several."""
        yield self

    def __getitem__(self, name: str) -> Any:
        """A label with its unit, as `labels[name]`."""
        return self.labels[name]

    def __getattr__(self, name: str) -> Any:
        if name.lower() in {"teff", "logg", "feh", "fe_h", "fe"}:
            raise AttributeError(f'{name} is a label: take star["Teff"], star["logg"] or star["Fe"]')
        raise AttributeError(f"'MeasuredStar' object has no attribute {name!r}")

    def _repr_html_(self) -> str:
        head, *lines = repr(self).splitlines()
        return f"<b>{escape(head)}</b>" + "".join(f"<br>{escape(line)}" for line in lines)


def measure(
    source: Any,
    lsf: str = "",
    prior: str | Path | Mapping[str, Prior] | None = None,
    population: str = WIDE,
    combine: bool = False,
    *,
    air: bool | None = None,
    wavelength_unit: str = "",
    flux_unit: str = "",
    callback: Callback | None = None,
) -> MeasuredStar | Measurements:
    """Measure giants as `starclip observe` does: no run is needed, and nothing is trained.

    Parameters
    ----------
    source : ObservedSpectrum, str, Path, spectrum in memory, or list of these
        An observed spectrum, a file, a folder (searched at any depth), a pattern (``data/*.fits``), or what else
        `read_spectra` takes.
    lsf : str
        The line-spread function: '3.9' (FWHM in Angstrom), 'R=2000' or the name of a CSV table of wavelength and fwhm.
        Empty: what each file states, else that of NIRSpec's G140H.
    prior : str, Path or mapping, optional
        What is known besides the spectra: a CSV table as for `--prior`, or by star the precisions (20,) and values
        (20,) of the labels.
    population : str
        'wide' is flat in [Fe/H] and knows log g to 1 dex, for giants of any galaxy; 'milky-way' has the giant branch
        and the abundances of the Milky Way's giants.
    combine : bool
        Whether spectra of one target are exposures of one star.
    air : bool, optional
        Whether wavelengths are in air; what a file states counts if it is not given.
    wavelength_unit, flux_unit : str
        Of columns without a unit.
    callback : callable, optional
        Gets a line of text for each folder and spectrum, such as `print`.

    Returns
    -------
    MeasuredStar or Measurements
        One spectrum, or a file with one, gives one result; a list, a folder and a file with several give a list of
        results, also if there is one in it. Results that could not be measured have the reason.

    Raises
    ------
    DataError
        If nothing can be read, or an option is wrong.
    """
    spectra = _spectra(source, air, wavelength_unit, flux_unit, callback)
    priors = _priors(prior, spectra)
    found = measure_spectra(spectra, lsf, priors, callback=callback, population=population)
    if combine:
        found = combined(found, population)
    stars = Measurements(MeasuredStar.of(one) for one in found)
    return stars if _is_several(source) or len(stars) > 1 else stars[0]


def _spectra(
    source: Any, air: bool | None, wavelength_unit: str, flux_unit: str, callback: Callback | None
) -> list[ObservedSpectrum]:
    given = [source] if isinstance(source, ObservedSpectrum | Star | Measured) else source
    if isinstance(given, set | Iterator):
        given = list(given)
    if isinstance(given, list | tuple):
        if not given:
            raise DataError("there is nothing to measure: the list is empty; give spectra, files or a folder")
        if all(isinstance(one, ObservedSpectrum) for one in given):
            if air is not None or wavelength_unit or flux_unit:
                raise DataError("air and units count when spectra are read: give them to read_spectra")
            return list(given)
        for one in given:
            if isinstance(one, Star):
                raise DataError(f"{one.star_id} is a star of a data set, not an observed spectrum; use run.labels(...)")
            if isinstance(one, Measured):
                raise DataError(f"{one.name} is measured already; give its spectrum to measure it in another way")
        if any(isinstance(one, ObservedSpectrum) for one in given):
            raise DataError("measure takes spectra or files in one list, not both: read the files first")
    if isinstance(given, np.ndarray):
        raise DataError("an array of fluxes has no wavelengths: give (wavelength, flux, error) with units")
    spectra = read_spectra(given, None, air, wavelength_unit, flux_unit, callback)
    if not spectra:
        raise DataError(f"{one_line(str(source)):.200} holds no spectra; give a file or folder of extracted spectra")
    return spectra


def _is_several(source: Any) -> bool:
    """Whether a list or folder was given, whatever it holds."""
    if isinstance(source, str | Path):
        return Path(source).is_dir() or is_pattern(source)
    return isinstance(source, list | set | Iterator) or (
        isinstance(source, tuple) and all(isinstance(one, str | Path | ObservedSpectrum) for one in source)
    )


def _priors(
    prior: str | Path | Mapping[str, Prior] | None, spectra: list[ObservedSpectrum]
) -> Mapping[str, Prior] | None:
    if prior is None or isinstance(prior, Mapping):
        return prior
    names = {name for spectrum in spectra for name in (spectrum.name, spectrum.target)}
    priors, complaints = read_priors(Path(prior), names)
    for line in complaints:
        warnings.warn(line, stacklevel=3)
    return priors
