"""Tables of labels with units."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units
from astropy.table import QTable, Table

from starclip_lib.physics.labels import LABELS, UNITS
from starclip_lib.support.errors import one_line

_UNITS = {name: units.Unit(unit) for name, unit in zip(LABELS, UNITS, strict=True)}


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
