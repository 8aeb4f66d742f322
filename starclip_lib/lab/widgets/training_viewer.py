"""Watch a training: loss and retrieval after every epoch, live in the notebook."""

from __future__ import annotations

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from starclip_lib.lab.figures.style import APOGEE_COLOUR, NIRSPEC_COLOUR
from starclip_lib.lab.widgets.live_figure import LiveFigure
from starclip_lib.models.checkpoint import History


class TrainingViewer(ipywidgets.VBox):
    """Curves that grow while a training runs; give `update` to the training as its `watch`.

    It lives in a running notebook only; `figures.loss_curves` draws the same for paper.

    Parameters
    ----------
    title : str
        Of the training.
    """

    def __init__(self, title: str):
        self._progress = ipywidgets.IntProgress(min=0, max=1, description=title, style={"description_width": "initial"})
        self._text = ipywidgets.HTML("waiting for the first epoch")
        figure = make_subplots(rows=1, cols=2, subplot_titles=("loss", "partner is the nearest (validation)"))
        for name, colour in (("training", NIRSPEC_COLOUR), ("validation", APOGEE_COLOUR)):
            figure.add_trace(go.Scatter(name=name, mode="lines+markers", line={"color": colour}), 1, 1)
        line = {"color": APOGEE_COLOUR}
        figure.add_trace(go.Scatter(name="retrieval", mode="lines+markers", line=line, showlegend=False), 1, 2)
        figure.update_layout(template="plotly_white", height=320, margin={"l": 60, "r": 10, "t": 40, "b": 50})
        figure.update_xaxes(title_text="epoch", rangemode="tozero")
        figure.update_yaxes(title_text="loss", type="log", row=1, col=1)
        figure.update_yaxes(title_text="share of stars", range=[0, 1.02], row=1, col=2)
        self._figure = LiveFigure(figure)
        super().__init__([ipywidgets.HBox([self._progress, self._text]), self._figure])

    def update(self, history: History, planned: int) -> None:
        """Show what has happened so far.

        Parameters
        ----------
        history : History
        planned : int
            How many epochs there will be.
        """
        epochs = np.arange(1, history.epochs + 1)
        with self._figure.batch_update():
            for trace, values in zip(
                self._figure.data, (history.train_loss, history.val_loss, history.val_retrieval), strict=True
            ):
                trace.update(x=epochs[: len(values)], y=values)
        self._progress.max, self._progress.value = planned, history.epochs
        left = (planned - history.epochs) * float(np.mean(history.seconds[-5:]))
        last = f"loss {history.train_loss[-1]:.3g}, validation {history.val_loss[-1]:.3g}"
        self._text.value = f"epoch {history.epochs} of {planned}, {last}, about {left:.0f} s left"

    def show(self, history: History) -> None:
        """Show a training that was finished before.

        Parameters
        ----------
        history : History
        """
        self.update(history, history.epochs)
        self._text.value = (
            f"{history.epochs} epochs in {sum(history.seconds):.0f} s; epoch {history.best_epoch} was kept"
        )
