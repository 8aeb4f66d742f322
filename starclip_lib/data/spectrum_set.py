"""Spectra of one instrument, and what is computed on them everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starclip_lib.data.instruments import INSTRUMENTS, Instrument
from starclip_lib.errors import DataError


@dataclass(eq=False)
class SpectrumSet:
    """Spectra of one instrument.

    Parameters
    ----------
    instrument : Instrument
    flux : ndarray, shape (n, n_pix)
        float32, relative to the continuum, `instrument.no_data` where `mask` is true.
    mask : ndarray of bool, shape (n, n_pix)
        True where there is no data.
    ivar : ndarray, shape (n, n_pix), optional
        float32, inverse variance, 0 where there is no data; None where it is not known.
    """

    instrument: Instrument
    flux: np.ndarray
    mask: np.ndarray
    ivar: np.ndarray | None = None

    def check(self, n_stars: int, where: str) -> None:
        """Raise DataError, naming the array, if shapes disagree, values are not finite or the fill is wrong.

        Parameters
        ----------
        n_stars : int
        where : str
            What the message begins with.

        Raises
        ------
        DataError
        """
        name, shape = self.instrument.name, (n_stars, self.instrument.n_pix)
        for key, array in (("flux", self.flux), ("mask", self.mask), ("ivar", self.ivar)):
            if array is not None and array.shape != shape:
                raise DataError(
                    f"{where}: {name}/{key} has shape {array.shape}, expected {shape} "
                    f"({n_stars} stars on {self.instrument.title}'s grid)"
                )
        for start in range(0, n_stars, 1024):
            rows = slice(start, start + 1024)
            bad = ~np.isfinite(self.flux[rows])
            if bad.any():
                star, pixel = np.argwhere(bad)[0] + (start, 0)
                raise DataError(
                    f"{where}: {name}/flux is not finite in {bad.sum()} pixels, first in star {star}, pixel {pixel}; "
                    f"mark pixels without data in {name}/mask and fill them with {self.instrument.no_data:g}"
                )
            if (self.flux[rows][self.mask[rows]] != self.instrument.no_data).any():
                raise DataError(f"{where}: {name}/flux must be {self.instrument.no_data:g} wherever {name}/mask is set")


def mean_of_data(flux: np.ndarray, no_data: float) -> np.ndarray:
    """Mean spectrum (n_pix,) of spectra (n, n_pix), each pixel over those that hold data there; 0 where none does.

    Parameters
    ----------
    flux : ndarray, shape (n, n_pix)
    no_data : float

    Returns
    -------
    ndarray, shape (n_pix,)
    """
    missing = flux == no_data
    return np.where(missing, 0, flux).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)


def on_nirspec_grid(flux: np.ndarray) -> np.ndarray:
    """Spectra (n, 8192) float32 of one (8192,) or several.

    Parameters
    ----------
    flux : ndarray, shape (8192,) or (n, 8192)

    Returns
    -------
    ndarray, shape (n, 8192)

    Raises
    ------
    DataError
        If they are none of that or not finite.
    """
    flux = np.atleast_2d(np.asarray(flux, np.float32))
    n_pix = INSTRUMENTS["nirspec"].n_pix
    if flux.ndim != 2 or flux.shape[1] != n_pix:
        raise DataError(f"NIRSpec spectra have shape (n, {n_pix}), not {flux.shape}; put them on the grid first")
    if not np.isfinite(flux).all():
        raise DataError("the spectra hold NaN or infinite values; set pixels without data to 1")
    return flux
