"""What happens to labels and retrieval where the emulator is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from starclip_lib.lab.figures.style import CYCLE, legend_below, new_axes, plain_ticks, styled


@styled
def robustness(table: pd.DataFrame) -> Figure:
    """What each method makes of spectra from a synthesis that is wrong: errors of labels, and right stars found first.

    Parameters
    ----------
    table : DataFrame
        Columns `wrong` and `method`, and the numbers `ratio` and `first`; as benchmarks/robustness.py writes them.
    """
    kinds, methods = list(dict.fromkeys(table["wrong"])), list(dict.fromkeys(table["method"]))
    figure, axes = new_axes(1, 2, (11, 1.2 + 0.55 * len(kinds)), sharey=True)
    titles = {"ratio": "RMSE of labels / that of the steps without errors", "first": "right star found first"}
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        for number, (method, colour, marker) in enumerate(zip(methods, CYCLE, "os^D", strict=False)):
            one = table[table["method"] == method].set_index("wrong")[column]
            place = np.arange(len(kinds)) + 0.16 * (number - (len(methods) - 1) / 2)
            ax.plot(one[kinds], place, marker, color=colour, ms=6, label=method)
        ax.set(title=title)
    axes[0].set_xscale("log")
    plain_ticks(axes[0], (1, 1.5, 2, 3, 4, 6))
    axes[1].set_xlim(0, 1)
    axes[0].set_yticks(range(len(kinds)), kinds)
    axes[0].invert_yaxis()
    legend_below(figure, axes[0], len(methods))
    return figure
