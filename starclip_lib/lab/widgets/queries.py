"""What the similarity browser asks, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Query:
    """A spectrum to search with."""

    name: str
    row: int | None  # of its star in the data set; None for an observed spectrum
    side: str  # title of its side
    z: np.ndarray  # (dim,), its vector
    flux: np.ndarray  # (n_pix,), the spectrum
    labels: np.ndarray  # (20,), of the catalogue, or of the fit of an observed spectrum
    posterior: np.ndarray | None  # (230,), packed posterior of its labels; of fits


@dataclass(frozen=True, eq=False)
class QueryResult:
    """The neighbours of a query, most similar first."""

    row: np.ndarray  # (m,), row of each in the data set
    side: list[str]  # title of the side of each
    table: pd.DataFrame  # what is known about them
    excluded: bool = False  # whether the posteriors exclude that even the best of them is the same star: no match
