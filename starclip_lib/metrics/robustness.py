"""What happens where the synthesis is wrong: a table that benchmarks/robustness.py has measured."""

from __future__ import annotations

from importlib.resources import as_file, files

import pandas as pd


def measured_robustness() -> pd.DataFrame:
    """Errors and first hits of four methods on spectra from syntheses that are wrong.

    Returns
    -------
    DataFrame
        Columns `wrong` and `method`; `Teff` [K], `logg`, `Fe` [dex]: RMSE of single views; `ratio`: median over the
        labels of RMSE over that of the steps where nothing is wrong; `first`: share of right stars found first.
    """
    with as_file(files(__package__) / "robustness.csv") as path:
        return pd.read_csv(path)
