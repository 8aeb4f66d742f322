"""What our widgets share: a picture for readers without a running kernel, and menus and sliders."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import plotly.graph_objects as go
from matplotlib.figure import Figure

from starclip_lib.support.errors import StarclipError, one_line


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
        return {**data, "image/png": base64.b64encode(_png(self.picture())).decode()}


class Answering(Pictured):
    """A box whose controls are answered, with a line that says what went wrong.

    Who inherits makes `_status`, the line.
    """

    _status: ipywidgets.HTML
    _quiet = False

    def _answer(self, handler: Callable[..., None]) -> Callable[..., None]:
        """A handler that stays silent when we set a control ourselves, and says what went wrong."""

        def answer(*event: object) -> None:
            if self._quiet:
                return
            self._status.value = ""
            try:
                handler(*event)
            except StarclipError as error:
                self._say(one_line(str(error)), bad=True)
            except Exception as error:  # a page shows no traceback, and `Reading ...` would stay for ever
                self._say(one_line(f"This should not have happened: {type(error).__name__}: {error}"), bad=True)
                raise

        return answer

    @contextmanager
    def _silently(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _say(self, text: str, bad: bool = False) -> None:
        colour = "#b00020" if bad else "#444444"
        self._status.value = f'<span role="status" style="color:{colour}">{escape(text)}</span>'


class Stops(Pictured):
    """A slider with a figure at each of its stops.

    Parameters
    ----------
    description : str
        Title of the slider.
    figures : mapping of str to Figure
        Name of the stop to what is shown there.
    """

    def __init__(self, description: str, figures: Mapping[str, Figure]):
        self._figures = figures
        self.slider = ipywidgets.SelectionSlider(options=list(figures), description=description)
        self.image = ipywidgets.Image(format="png")
        super().__init__([self.slider, self.image])
        self.slider.observe(self._show, "value")
        self._show()

    def _show(self, _: Any = None) -> None:
        self.image.value = _png(self.picture())

    def picture(self) -> Figure:
        """The figure of the present stop."""
        return self._figures[self.slider.value]


class Illustrated:
    """A plotly figure that leaves a picture beside itself, for readers whose page cannot draw it.

    Parameters
    ----------
    figure : go.Figure
        What is shown.
    picture : Figure
        A matplotlib figure of the same.
    page : Path, optional
        Where the figure was saved as a page of its own, which the report shows in a frame; None if it was not.
    """

    def __init__(self, figure: go.Figure, picture: Figure, page: Path | None = None):
        self.figure, self.picture, self.page = figure, picture, page

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.figure._repr_mimebundle_(**kwargs))
        if self.page is not None:
            frame = f'<iframe src="{self.page.name}" width="100%" height="660" style="border:0"></iframe>'
            bundle["text/html"] = frame
        return {**bundle, "image/png": base64.b64encode(_png(self.picture)).decode()}


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=90)
    return png.getvalue()


def menu(description: str, options: Sequence, value: Any = None, width: str = "230px") -> ipywidgets.Dropdown:
    """A drop-down menu."""
    first = options[0]
    value = value if value is not None else first[1] if isinstance(first, tuple) else first
    style = {"description_width": "initial"}
    return ipywidgets.Dropdown(
        options=list(options), value=value, description=description, style=style, layout={"width": width}
    )


def slider(
    description: str, low: float, high: float, step: float, form: str, value: float, width: str = "340px"
) -> ipywidgets.FloatSlider:
    """A slider that answers when it is let go."""
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
