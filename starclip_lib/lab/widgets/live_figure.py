"""Plotly figures in a running notebook that answer fast and miss nothing.

Plotly's own FigureWidget brings 5 MB of plotly.js with every figure, and takes a second or more to read it.  Several on
one page, or one on a slow machine, take longer than the two seconds after which anywidget rejects everything that
Python sends to a widget: the figure is there, and never changes again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import traitlets


class LiveFigure(go.FigureWidget):
    """A FigureWidget that starts at once, and reads plotly.js afterwards."""

    # signs above the figure: plotly redraws all points at every change, which takes long with twenty thousand of them.
    # Each is a mapping of `x` and `y` on the axes, `text`, and `css`, its style
    marks: Any = traitlets.List().tag(sync=True)
    _esm = Path(__file__).with_name("live_figure.js")
    _plotly = traitlets.Unicode(str(go.FigureWidget._esm)).tag(sync=True)


class FurtherFigure(LiveFigure):
    """Another figure of a page that has a LiveFigure: it uses that one's plotly.js."""

    _plotly = traitlets.Unicode("").tag(sync=True)
