"""What a kind of file is: how it is recognised, and how its spectra are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starclip_lib.observed.readers.look import Look
from starclip_lib.observed.spectrum import OBSERVED, ObservedSpectrum
from starclip_lib.settings.evaluation import ObservedParams


@dataclass(frozen=True)
class Options:
    """What a user says about files that do not say it themselves.

    Parameters
    ----------
    settings : ObservedParams
        Which wavelengths are used.
    air : bool, optional
        Whether wavelengths are in air; None: as the file states, else vacuum.
    wavelength_unit, flux_unit : str
        Of columns without a unit.
    """

    settings: ObservedParams = field(default=OBSERVED)
    air: bool | None = None
    wavelength_unit: str = ""
    flux_unit: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Parameters
    ----------
    name : str
        For people.
    recognises : callable
        Whether a file is of this kind, from a first look at it.
    read : callable, optional
        Its spectra.  None: files of this kind are refused by name.
    instead : str
        Of a kind that is refused: what to do.
    """

    name: str
    recognises: Callable[[Look], bool]
    read: Callable[[Path, Options], list[ObservedSpectrum]] | None = None
    instead: str = ""
