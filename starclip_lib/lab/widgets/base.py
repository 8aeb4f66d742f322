"""What our widgets share: a picture for readers without a running kernel, a status line, menus and sliders."""

from __future__ import annotations

import base64
import io
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import plotly.graph_objects as go
import traitlets
from matplotlib.figure import Figure

from starclip_lib.support.errors import StarclipError, one_line


class PicturedBox(ipywidgets.VBox):
    """A box of widgets that leaves a picture of itself in the notebook, for readers without a running kernel."""

    def picture(self) -> Figure:
        """A figure of the present state."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {**data, "image/png": base64.b64encode(_png(self.picture())).decode()}


class StatusLine(anywidget.AnyWidget):
    """A line of text; its page adds a button that interrupts long work, and a notice when the kernel has ended."""

    value = traitlets.Unicode("").tag(sync=True)
    bad = traitlets.Bool(False).tag(sync=True)
    _esm = Path(__file__).with_name("status_line.js")

    def show(self, text: str, bad: bool = False) -> None:
        """Replace the text; a bad one is red."""
        with self.hold_sync():
            self.value, self.bad = text, bad


class ControlledBox(PicturedBox):
    """A box whose controls are answered, with a status line for what goes wrong or was cancelled."""

    _quiet = False

    @cached_property
    def _status(self) -> StatusLine:
        return StatusLine()

    def _answer(self, handler: Callable[..., None]) -> Callable[..., None]:
        """A handler that ignores what the box itself sets, and after a failure restores what is drawn."""

        def answer(*event: object) -> None:
            if self._quiet:
                return
            self._say("")
            try:
                with _interrupted_surely():
                    handler(*event)
                self._keep()
            except KeyboardInterrupt:  # the status line's button, or that of JupyterLab
                self._restore()
                self._say("Cancelled.")
            except StarclipError as error:
                self._restore()
                self._say(str(error), bad=True)
            except Exception as error:  # a page shows no traceback
                self._restore()
                self._say(f"Internal error: {type(error).__name__}: {error}", bad=True)
                raise

        return answer

    def _keep(self) -> None:
        """Remember the controls' values, which are drawn now."""

    def _restore(self) -> None:
        """Set the controls back to the values that were kept."""

    @contextmanager
    def _silently(self) -> Iterator[None]:
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _say(self, text: str, bad: bool = False) -> None:
        self._status.show(one_line(text), bad)


class FigureSlider(PicturedBox):
    """A slider with a figure at each of its stops, by name."""

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


class PicturedFigure:
    """A plotly figure with a matplotlib picture for pages that cannot draw it; `page` is where it was saved."""

    def __init__(self, figure: go.Figure, picture: Figure, page: Path | None = None):
        self.figure, self.picture, self.page = figure, picture, page

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = dict(self.figure._repr_mimebundle_(**kwargs))
        if self.page is not None:
            frame = f'<iframe src="{self.page.name}" width="100%" height="660" style="border:0"></iframe>'
            bundle["text/html"] = frame
        return {**bundle, "image/png": base64.b64encode(_png(self.picture)).decode()}


@contextmanager
def _interrupted_surely() -> Iterator[None]:
    """Raise KeyboardInterrupt at the latest when the block ends: callbacks of numba's compiler discard one in five."""
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


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
