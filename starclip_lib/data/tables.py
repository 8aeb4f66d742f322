"""Labels with units, and tables of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units
from astropy.table import QTable, Table

from starclip_lib.physics.labels import LABELS, N_LABELS, PLAIN, TEFF, UNITS
from starclip_lib.support.errors import DataError, one_line

_UNITS = {name: units.Unit(unit) for name, unit in zip(LABELS, UNITS, strict=True)}
_NAMES = {name.lower(): i for names in (LABELS, PLAIN) for i, name in enumerate(names)}


class Labels(np.ndarray):
    """An array (20,) of labels in K and dex, or of their errors, which also takes names.

    `labels["Teff"]` and `labels["Fe"]` (or `labels["[Fe/H]"]`) are quantities with units; numbers and slices index as
    in every array, and results of arithmetic are plain arrays.
    """

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return self.view(np.ndarray)[key]
        if key.strip().lower() not in _NAMES or self.shape != (N_LABELS,):
            raise DataError(f"unknown label {key!r:.60}; the labels are {', '.join(LABELS)}")
        i = _NAMES[key.strip().lower()]
        return float(self.view(np.ndarray)[i]) * _UNITS[LABELS[i]]

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else array.view(np.ndarray)

    def keys(self) -> tuple[str, ...]:
        """Names of the labels, so that `dict(labels)` works."""
        return LABELS

    def __repr__(self) -> str:
        if self.shape != (N_LABELS,):
            return repr(self.view(np.ndarray))
        values = self.view(np.ndarray)
        return ", ".join(
            f"{name} {values[i]:.0f} K" if i == TEFF else f"{name} {values[i]:.2f}" for i, name in enumerate(PLAIN)
        )


def as_labels(values: np.ndarray) -> Labels:
    """Values (20,) in the order of `LABELS` as `Labels`."""
    return np.asarray(values, np.float64).view(Labels)


def label_table(labels: np.ndarray, sigma: np.ndarray | None = None, **columns: Any) -> QTable:
    """A table with one row a star: further columns first, then the labels, then their uncertainties."""
    table = QTable({name: column for name, column in columns.items() if column is not None})
    for i, name in enumerate(LABELS):
        table[name] = np.asarray(labels)[:, i] * _UNITS[name]
    if sigma is not None:
        spread = np.broadcast_to(sigma, np.shape(labels))
        for i, name in enumerate(LABELS):
            table[f"sigma_{name}"] = spread[:, i] * _UNITS[name]
    return with_units(table)


def with_units(table: Table) -> QTable:
    """The same table with the units of labels, of `sigma_...` beside them and of velocities, and with short numbers."""
    for name in table.colnames:
        label = name.removeprefix("sigma_")
        if label in LABELS:
            table[name].info.format = ".0f" if label == "Teff" else ".2f"
        elif label == "velocity":
            table[name].info.format = ".1f"
        unit = "km / s" if label == "velocity" else _UNITS.get(label)
        if unit is not None and table[name].unit is None:
            table[name].unit = unit
    return QTable(table)


def printable(table: QTable) -> QTable:
    """A copy whose texts can be written as UTF-8, one line each: names of files need not be text."""
    out = table.copy()
    for name in out.colnames:
        if getattr(out[name].dtype, "kind", "") in "UO":
            out[name] = [one_line(cell) if isinstance(cell, str) else cell for cell in out[name]]
    return out
