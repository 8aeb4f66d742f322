"""Labels of the same observed stars by networks that were trained on differently treated spectra."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoding import encode
from starclip_lib.observed.analysis import prepare_all
from starclip_lib.observed.files import read_observed_folder
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.settings.params import Params, changed_params
from starclip_lib.support.errors import DataError
from starclip_lib.training.recipes import train_encoder

# What the study of notebook 10 changes in the run's own parameters, one thing at a time.
STUDY: dict[str, dict[str, dict[str, Any]]] = {
    "as the run has it": {},
    "true continuum, as the paper's mock": {"corruption": {"continuum_spacing": 0.0}},
    "pseudo-continuum with knots at 600 Å": {"corruption": {"continuum_spacing": 600.0}},
    "from 10,000 Å": {
        "corruption": {"gaps": {"blue_edge": 10000.0}},
        "observed": {"wavelength_range": [10000.0, 18000.0]},
    },
    "observed spectra not broadened": {"observed": {"fwhm": 7.0}},
    "less noise: SNR 100 to 300": {"corruption": {"snr_min": 100.0}},
    "more noise: SNR 30 to 100": {"corruption": {"snr_max": 100.0}},
}


def corruption_study(data: PairedSpectra, params: Params, root: Path) -> pd.DataFrame:
    """Teff, log g, [Fe/H] and [Mg/H] of the observed stars, a row for each treatment (`STUDY`) and star.

    A label network is trained for each treatment, which takes a minute. Networks of the true continuum also get the
    observed spectrum on the pseudo-continuum, which is all an observer has. `observed.folder` is relative to `root`.
    """
    rows = []
    for kind, change in STUDY.items():
        changed = changed_params(params, change)
        stars = prepare_all(read_observed_folder(root, changed.observed), data, changed).stars
        if not stars:
            raise DataError("the study needs a good observed spectrum; set observed.study to false")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "nirspec.ckpt"
            train_encoder(path, data, changed, "nirspec")
            model = Model.load(path)
        scaled = encode(model.encoders["nirspec"], np.stack([star.flux for star in stars]), output="labels")
        for star, labels in zip(stars, model.scaler.inverse(scaled), strict=True):
            rows.append(
                {
                    "treatment": kind,
                    "star": star.name,
                    "Teff [K]": round(labels[TEFF]),
                    "log g": round(labels[LOGG], 2),
                    "[Fe/H]": round(labels[FE], 2),
                    "[Mg/H]": round(labels[LABELS.index("Mg")], 2),
                }
            )
    return pd.DataFrame(rows)
