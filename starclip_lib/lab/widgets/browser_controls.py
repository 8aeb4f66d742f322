"""The controls of the similarity browser: menus, sliders and fields by name."""

from __future__ import annotations

import ipywidgets
import numpy as np

from starclip_lib.lab.widgets.base import menu, slider
from starclip_lib.lab.widgets.gallery import MAPS, Gallery
from starclip_lib.physics.labels import FE, LOGG, PLAIN, TEFF, UNITS

BOTH, NONE = "both", "(none)"


def browser_controls(gallery: Gallery) -> dict[str, ipywidgets.DOMWidget]:
    """The controls for the stars of a gallery, in the order in which the Tab key reaches them."""
    labels = [(f"{name} [{unit}]", i) for i, (name, unit) in enumerate(zip(PLAIN, UNITS, strict=True))]

    def star_like(column: int, step: float, form: str) -> ipywidgets.FloatSlider:
        values, title = gallery.data.labels[:, column], f"{PLAIN[column]} [{UNITS[column]}]"
        low, high = np.floor(values.min() / step) * step, np.ceil(values.max() / step) * step
        return slider(title, low, high, step, form, (low + high) / 2)

    return {
        "space": menu("space", gallery.spaces, width="270px"),
        "map": menu("map", MAPS, width="150px"),
        "colour": menu("colour", labels, FE, width="190px"),
        "shown": menu("show", [BOTH], width="200px"),
        "stars": menu("stars", [("test stars", True), ("all stars", False)], True, width="170px"),
        "star": ipywidgets.Text(description="star", continuous_update=False, layout={"width": "330px"}),
        "side": menu("its spectrum", [BOTH]),
        "observed": menu("observed", [NONE, *(star.name for star in gallery.observed)]),
        "upload": ipywidgets.FileUpload(
            description="upload spec1d or x1d", multiple=True, accept=".fits,.fits.gz", layout={"width": "190px"}
        ),
        "Teff": star_like(TEFF, 10, ".0f"),
        "logg": star_like(LOGG, 0.05, ".2f"),
        "Fe": star_like(FE, 0.05, ".2f"),
        "k": ipywidgets.IntSlider(value=5, min=1, max=20, description="k", continuous_update=False),
        "among": menu("search in", [BOTH]),
        "spectra": menu("spectra of", [BOTH]),
        "window": menu("stretch", ["everything"], width="210px"),
    }
