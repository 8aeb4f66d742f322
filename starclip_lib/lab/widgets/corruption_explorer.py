"""The corruption explorer: move a slider, see what the telescope does to a spectrum and what the models make of it."""

from __future__ import annotations

from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import torch
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from starclip_lib.lab import figures
from starclip_lib.lab.figures.style import NIRSPEC_COLOUR, without_gaps
from starclip_lib.lab.widgets.base import PicturedBox, line, menu, slider
from starclip_lib.lab.widgets.live_figure import LiveFigure
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LABELS, PLAIN, UNITS
from starclip_lib.run import Run
from starclip_lib.settings.training import GapParams
from starclip_lib.support.seeds import seeded
from starclip_lib.transforms.corruptions import (
    PASCHEN_LINES,
    Compose,
    Corruption,
    DeadPixels,
    Denormalisation,
    DetectorGaps,
    GaussianNoise,
    PaschenSubstitution,
    normalisation,
    reference_flux,
)
from starclip_lib.transforms.gaps import GapModel

_STEPS = ("Paschen substitution", "dead pixels", "wrong continuum", "noise", "gaps")
_SHOWN = ("Teff", "logg", "Fe", "Mg", "Al", "V")
_WINDOWS = {
    "everything": (float(NIRSPEC.wavelength[0]), float(NIRSPEC.wavelength[-1])),
    **{
        f"Paschen {name}, {place:.0f} Å": (place - 60, place + 60)
        for name, place in zip("εδγβ", PASCHEN_LINES, strict=True)
    },
}


class CorruptionExplorer(PicturedBox):
    """Sliders for the five corruptions, the spectrum before and after, and what the models read from it.

    Parameters
    ----------
    run : Run
        With its data set; cosine similarity and labels are shown if StarCLIP has been trained and has embedded it.

    Attributes
    ----------
    corrupted : ndarray, shape (8192,)
        The spectrum shown.
    cosine : float or None
        Its similarity to the clean one; None without a model.
    """

    corrupted: np.ndarray
    cosine: float | None = None

    def __init__(self, run: Run):
        self._run, self._data, self._seed = run, run.data, 0
        self._rows = self._data.rows("test")
        trained = run.is_current("starclip.ckpt") and run.is_current("embeddings.h5")
        self._space = run.space if trained else None
        self._on = {name: ipywidgets.Checkbox(True, description=name, indent=False) for name in _STEPS}
        for box in self._on.values():
            box.layout.width = "190px"
        self.controls = self._make_controls()
        self._figure = LiveFigure(_empty_figure())
        self._effect = ipywidgets.HTML()
        super().__init__([*self._lines(), self._figure, self._effect])
        self._draw()
        for widget in (*self.controls.values(), *self._on.values()):
            if isinstance(widget, ipywidgets.Button):
                widget.on_click(self._new_draw)
            else:
                widget.observe(self._draw, "value")

    def _make_controls(self) -> dict[str, ipywidgets.DOMWidget]:
        now = self._run.params.corruption
        return {
            "star": ipywidgets.IntSlider(0, 0, len(self._rows) - 1, description="test star", continuous_update=False),
            "draw": ipywidgets.Button(description="New draw", icon="refresh"),
            "window": menu("show", list(_WINDOWS), width="240px"),
            "radius": slider("half-width [Å]", 0, 100, 1, ".0f", now.paschen_radius),
            "dead": slider("share of pixels", 0, 0.05, 0.0005, ".4f", now.dead_fraction),
            "amplitude": slider("amplitude", 0, 0.2, 0.002, ".3f", now.continuum_amplitude),
            "degree": ipywidgets.IntSlider(now.continuum_degree, 1, 20, description="degree", continuous_update=False),
            "snr": ipywidgets.FloatRangeSlider(
                value=(now.snr_min, now.snr_max),
                min=5,
                max=500,
                step=5,
                readout_format=".0f",
                description="SNR per pixel between",
                continuous_update=False,
                style={"description_width": "initial"},
                layout={"width": "420px"},
            ),
            "model": menu("model", ("detector", "independent"), now.gaps.model, width="200px"),
            "width": slider("width [Å]", 10, 1500, 2, ".0f", now.gaps.width, "280px"),
            "length": slider("detector length [Å]", 2000, 6000, 10, ".0f", now.gaps.detector_length, "320px"),
            "blue": slider("blue edge [Å]", 9000, 12000, 50, ".0f", now.gaps.blue_edge, "300px"),
        }

    def _lines(self) -> list[ipywidgets.Widget]:
        c, on = self.controls, self._on
        parameters = (("radius",), ("dead",), ("amplitude", "degree"), ("snr",), ("model", "width", "length", "blue"))
        steps = [
            line(f"({number})", on[name], *(c[key] for key in keys))
            for number, name, keys in zip(("i", "ii", "iii", "iv", "v"), _STEPS, parameters, strict=True)
        ]
        return [line("Spectrum", c["star"], c["draw"], c["window"]), *steps]

    def corruption(self) -> Corruption:
        """The chain as the controls stand."""
        c = {name: widget.value for name, widget in self.controls.items() if name != "draw"}
        detector = c["model"] == "detector"
        for name in ("width", "length", "blue"):  # the independent model draws all of them
            self.controls[name].disabled = not detector
        gaps = GapParams(model=c["model"], width=c["width"], detector_length=c["length"], blue_edge=c["blue"])
        wave = NIRSPEC.wavelength
        steps = dict(
            zip(
                _STEPS,
                (
                    PaschenSubstitution(reference_flux(self._data), wave, c["radius"]),
                    DeadPixels(c["dead"]),
                    Denormalisation(wave, c["amplitude"], c["degree"]),
                    GaussianNoise(*c["snr"]),
                    DetectorGaps(GapModel.measured(gaps), wave, NIRSPEC.fill_value),
                ),
                strict=True,
            )
        )
        chosen = [step for name, step in steps.items() if self._on[name].value]
        return Compose([*chosen, *normalisation(self._run.params.corruption)])

    def _new_draw(self, _: Any) -> None:
        self._seed += 1
        self._draw()

    @property
    def _clean(self) -> np.ndarray:
        flux = torch.from_numpy(self._data.nirspec.flux[[self._rows[self.controls["star"].value]]])
        return Compose(normalisation(self._run.params.corruption))(flux, seeded("cpu", 0))[0].numpy()

    def _draw(self, _: Any = None) -> None:
        row = self._rows[self.controls["star"].value]
        flux = torch.from_numpy(self._data.nirspec.flux[[row]])
        self.corrupted = self.corruption()(flux, seeded("cpu", self._run.params.seed, self._seed))[0].numpy()
        clean, wave = self._clean, NIRSPEC.wavelength
        before, after, difference = self._figure.data
        seen = without_gaps(self.corrupted, NIRSPEC.fill_value)
        with self._figure.batch_update():
            before.update(x=wave, y=clean)
            after.update(x=wave, y=seen)
            difference.update(x=wave, y=seen - clean)
            self._figure.update_xaxes(range=_WINDOWS[self.controls["window"].value])
        self._effect.value = self._judge(clean, row)

    def _judge(self, clean: np.ndarray, row: int) -> str:
        """What the models make of it, as HTML."""
        if self._space is None:
            return (
                "<i>Cosine similarity and labels appear here once StarCLIP has been trained: run notebooks 03 to 06, "
                "then this cell again.</i>"
            )
        z = self._space.embed(np.stack([clean, self.corrupted]))
        self.cosine = float(z[0] @ z[1])
        read = self._space.read(z)
        catalogue = self._data.labels[row]
        columns = [LABELS.index(name) for name in _SHOWN]

        def cells(values: np.ndarray, sign: str = "") -> str:
            forms = [f"{sign}.0f" if UNITS[i] == "K" else f"{sign}.2f" for i in columns]
            return "".join(f"<td>{values[i]:{form}}</td>" for i, form in zip(columns, forms, strict=True))

        head = "".join(f"<th>{PLAIN[i]} [{UNITS[i]}]</th>" for i in columns)
        rows = (
            ("catalogue", cells(catalogue)),
            ("read from the clean spectrum", cells(read[0])),
            ("read from the corrupted one", cells(read[1])),
            ("difference by corruption", cells(read[1] - read[0], "+")),
        )
        body = "".join(f"<tr><th style='text-align:left'>{title}</th>{values}</tr>" for title, values in rows)
        return (
            f"<p>Cosine similarity of the embeddings, corrupted to clean: <b class='starclip-cosine'>{self.cosine:.4f}"
            f"</b></p><table style='border-spacing:14px 2px;text-align:right'><tr><td></td>{head}</tr>{body}</table>"
        )

    def picture(self) -> Figure:
        """The spectrum before and after, as it is now."""
        return figures.before_and_after(self._clean, self.corrupted, _WINDOWS[self.controls["window"].value])


def _empty_figure() -> go.Figure:
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3], vertical_spacing=0.04)
    grey, blue = {"color": "#999999", "width": 1}, {"color": NIRSPEC_COLOUR, "width": 1}
    figure.add_trace(go.Scattergl(mode="lines", line=grey, name="ab initio"), 1, 1)
    figure.add_trace(go.Scattergl(mode="lines", line=blue, name="corrupted"), 1, 1)
    figure.add_trace(go.Scattergl(mode="lines", line=blue, showlegend=False), 2, 1)
    figure.update_layout(
        template="plotly_white",
        height=420,
        margin={"l": 60, "r": 10, "t": 20, "b": 46},
        legend={"orientation": "h", "y": 1.08},
    )
    figure.update_yaxes(title_text="flux / continuum", row=1, col=1)
    figure.update_yaxes(title_text="difference", row=2, col=1)
    figure.update_xaxes(title_text="vacuum wavelength [Å]", row=2, col=1)
    return figure
