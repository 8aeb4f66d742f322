"""What the similarity browser asks, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Query:
    """A spectrum to search with.

    Parameters
    ----------
    row : int or None
        Of its star in the data set; None for an observed spectrum.
    side : str
        Title of its side.
    z : ndarray, shape (dim,)
        Its vector.
    flux : ndarray, shape (n_pix,)
        The spectrum.
    labels : ndarray, shape (20,)
        Of the catalogue, or of the fit of an observed spectrum.
    posterior : ndarray, shape (230,), or None
        Packed posterior of its labels; of fits.
    """

    name: str
    row: int | None
    side: str
    z: np.ndarray
    flux: np.ndarray
    labels: np.ndarray
    posterior: np.ndarray | None


@dataclass(frozen=True, eq=False)
class QueryResult:
    """The neighbours of a query, most similar first.

    Parameters
    ----------
    row : ndarray of int, shape (m,)
        Row of each in the data set.
    side : list of str
        Title of the side of each.
    table : DataFrame
        What is known about them.
    excluded : bool
        Whether the posteriors exclude that even the best of them is the same star: no match.
    """

    row: np.ndarray
    side: list[str]
    table: pd.DataFrame
    excluded: bool = False
