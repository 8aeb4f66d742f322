"""One star of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starclip_lib.physics.labels import FE, LOGG, TEFF


@dataclass(frozen=True, eq=False, repr=False)
class Star:
    """One star of a data set.

    Parameters
    ----------
    row : int
        In the data set.
    labels, label_errors : ndarray, shape (20,)
        In K and dex.
    apogee : ndarray, shape (8575,)
        Flux relative to the continuum.
    nirspec : ndarray, shape (8192,)
        Flux relative to the continuum.
    """

    star_id: str
    row: int
    split: str
    labels: np.ndarray
    label_errors: np.ndarray
    apogee: np.ndarray
    nirspec: np.ndarray

    def __repr__(self) -> str:
        teff, logg, iron = self.labels[[TEFF, LOGG, FE]]
        return f"{self.star_id} ({self.split}): Teff {teff:.0f} K, log g {logg:.2f}, [Fe/H] {iron:+.2f}"
