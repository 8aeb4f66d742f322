"""What our widgets share: a picture for readers without a running kernel, and the viewer of a training."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

WIDGET = "application/vnd.jupyter.widget-view+json"


class Pictured(ipywidgets.VBox):
    """A box of widgets that leaves a picture of itself in the notebook.

    Where a kernel runs, the widgets are shown; on GitHub, on a page or on paper the picture of the moment in which the
    cell was run.  Who inherits says in `picture` what it shows.
    """

    def picture(self) -> Figure:
        """A figure of the present state."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        png = io.BytesIO()
        self.picture().savefig(png, format="png", dpi=90)
        return {**data, "image/png": base64.b64encode(png.getvalue()).decode()}


def menu(description: str, options: Sequence, value: Any = None, width: str = "230px") -> ipywidgets.Dropdown:
    """A drop-down menu of options, or of (title, option); the first one is chosen unless `value` is given."""
    value = options[0] if value is None else value
    style = {"description_width": "initial"}
    return ipywidgets.Dropdown(
        options=list(options), value=value, description=description, style=style, layout={"width": width}
    )


def slider(
    description: str, low: float, high: float, step: float, form: str, value: float, width: str = "340px"
) -> ipywidgets.FloatSlider:
    """A slider that answers when it is let go; `form` is how its value is written, such as '.2f'."""
    style = {"description_width": "initial"}
    return ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        readout_format=form,
        description=description,
        continuous_update=False,
        style=style,
        layout={"width": width},
    )


def line(title: str, *widgets: ipywidgets.DOMWidget) -> ipywidgets.HBox:
    """Widgets side by side behind a title, in as many rows as the page needs."""
    head = ipywidgets.HTML(f"<b>{title}</b>", layout={"width": "80px"})
    return ipywidgets.HBox([head, *widgets], layout={"flex_flow": "row wrap", "align_items": "center"})
