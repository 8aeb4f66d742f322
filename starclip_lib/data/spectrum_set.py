"""Spectra of one instrument, and what is computed on them everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from starclip_lib.physics.instruments import INSTRUMENTS, Instrument
from starclip_lib.storage.formats import OBSERVED
from starclip_lib.storage.hdf5 import Rows
from starclip_lib.storage.schema import as_boolean
from starclip_lib.support.errors import DataError

MIN_PIXELS = 100  # with data; fewer tell nothing about a star
_BLOCK = 512  # spectra looked at together


@dataclass(eq=False)
class SpectrumSet:
    """Spectra of one instrument.

    Parameters
    ----------
    flux : ndarray or RowsOnDisk, shape (n, n_pix)
        float32, relative to the continuum, `instrument.fill_value` where `mask` is true.
    mask : ndarray of bool or RowsOnDisk, shape (n, n_pix)
        True where there is no data.
    ivar : ndarray or RowsOnDisk, shape (n, n_pix), optional
        float32, inverse variance, 0 where there is no data; None where it is not known.
    """

    instrument: Instrument
    flux: Rows
    mask: Rows
    ivar: Rows | None = None

    def __post_init__(self) -> None:
        # integers 0 and 1 would pick rows where a mask is meant
        if not self.on_disk:
            self.mask = as_boolean(np.asarray(self.mask), f"{self.instrument.name}/mask")

    @property
    def on_disk(self) -> bool:
        """True if the spectra are read from their file when they are asked for."""
        return not isinstance(self.flux, np.ndarray)

    def members(self) -> dict[str, Rows | None]:
        """Its arrays under the names that they have in a file."""
        return {f"{self.instrument.name}/{key}": getattr(self, key) for key in ("flux", "mask", "ivar")}

    def check_together(self, where: str) -> None:
        """Raise DataError, naming array and star, unless fluxes and mask fit together and every star has data.

        Parameters
        ----------
        where : str
            What the message begins with.
        """
        name, fill = self.instrument.name, self.instrument.fill_value
        for start in range(0, len(self.flux), _BLOCK):
            flux, mask = self.flux[start : start + _BLOCK], self.mask[start : start + _BLOCK]
            if (flux[mask] != fill).any():
                raise DataError(f"{where}: {name}/flux must be {fill:g} wherever {name}/mask is set")
            good = self.instrument.n_pix - mask.sum(axis=1)
            if (good < MIN_PIXELS).any():
                star = int(np.argmax(good < MIN_PIXELS))
                raise DataError(
                    f"{where}: {name}/mask leaves {good[star]} pixels of star {start + star}, {MIN_PIXELS} are needed; "
                    "drop such stars"
                )
            dark = ~(np.where(mask, 0, flux) > 0).any(axis=1)
            if dark.any():
                raise DataError(f"{where}: {name}/flux of star {start + int(np.argmax(dark))} is nowhere above 0")


def observed_members(spectra: SpectrumSet, labels: np.ndarray | None) -> dict[str, Rows | None]:
    """Observed NIRSpec spectra of test stars and the labels they were made at, under the names they have in a file."""
    return {f"{OBSERVED}/flux": spectra.flux, f"{OBSERVED}/mask": spectra.mask, f"{OBSERVED}/labels": labels}


def observed_of(arrays: Mapping[str, Any], where: str) -> SpectrumSet | None:
    """The observed NIRSpec spectra among the arrays of a file, if it has any."""
    flux, mask = (arrays.get(f"{OBSERVED}/{key}") for key in ("flux", "mask"))
    if flux is None and mask is None:
        return None
    if flux is None or mask is None:
        raise DataError(f"{where}: {OBSERVED} needs flux and mask, and has only one of them; make the data set again")
    return SpectrumSet(INSTRUMENTS["nirspec"], flux, mask)


def spectra_bytes(n_stars: int) -> int:
    """Bytes of memory that the spectra of stars take, of both instruments, with masks and without inverse variances."""
    return 5 * n_stars * sum(instrument.n_pix for instrument in INSTRUMENTS.values())


def file_bytes(n_stars: int) -> int:
    """Bytes of disk that a data set of so many stars can take: fluxes, and APOGEE's inverse variances, in float32."""
    return 4 * n_stars * (sum(instrument.n_pix for instrument in INSTRUMENTS.values()) + INSTRUMENTS["apogee"].n_pix)


def mean_of_data(flux: np.ndarray, fill_value: float) -> np.ndarray:
    """Mean spectrum (n_pix,) of spectra (n, n_pix), each pixel over those that hold data there; 0 where none does."""
    missing = flux == fill_value
    return np.where(missing, 0, flux).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)


def on_nirspec_grid(flux: np.ndarray) -> np.ndarray:
    """Spectra (n, 8192) float32 of one (8192,) or several. Raises DataError if they are none of that or not finite."""
    given = np.asarray(flux)
    if given.dtype.kind not in "fiu":
        raise DataError(f"NIRSpec spectra are real numbers, (n, 8192), not {type(flux).__name__} of {given.dtype}")
    with np.errstate(over="ignore"):
        flux = np.atleast_2d(given.astype(np.float32, copy=False))
    n_pix = INSTRUMENTS["nirspec"].n_pix
    if flux.ndim != 2 or flux.shape[1] != n_pix:
        raise DataError(f"NIRSpec spectra have shape (n, {n_pix}), not {flux.shape}; put them on the grid first")
    if not np.isfinite(flux).all():
        raise DataError("the spectra hold NaN or infinite values; set pixels without data to 1")
    return flux
