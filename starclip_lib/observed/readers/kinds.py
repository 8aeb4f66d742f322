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
