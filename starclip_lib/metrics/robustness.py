"""Measured once by benchmarks: fits where the synthesis is wrong, and what contrastive training adds to a fit."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any

import pandas as pd


def measured_robustness() -> pd.DataFrame:
    """Errors and first hits of four methods on spectra from syntheses that are wrong."""
    with as_file(files(__package__) / "robustness.csv") as path:
        return pd.read_csv(path)


def measured_contrastive_fit() -> dict[str, Any]:
    """Retrieval of the emulator fit after contrastive training, as version 0.2 could do it (measured once)."""
    return json.loads((files(__package__) / "contrastive_fit.json").read_text(encoding="utf-8"))
