"""The emulator fit that stands beside the networks of every run."""

from __future__ import annotations

import numpy as np

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.posterior import Posterior
from starclip_lib.metrics.retrieval import ranks_between, success_rate
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.labels import FE, TEFF
from starclip_lib.run import Run
from starclip_lib.settings.params import Params
from starclip_lib.training.refining import train_fit


def test_a_run_has_posteriors_of_a_fit(finished: Run) -> None:
    sides = {name: finished.embeddings(f"fit/{name}") for name in ("nirspec", "apogee", "mock", "extended")}
    assert all(side.posterior is not None for side in sides.values())
    assert finished.embeddings("starclip/nirspec").posterior is None
    test = sides["nirspec"].take("test")
    assert len(test) == finished.params.corruption.n_views * len(sides["apogee"].take("test"))
    assert len(sides["nirspec"].take("train", "val")) == len(sides["apogee"].take("train", "val"))  # one view each
    assert (sides["nirspec"].of_view(0).star_id == finished.data.star_id).all()
    stars, found = Posterior(test.posterior).combine(test.star_id)
    labels, covariance = finished.model("fit").encoders["nirspec"].population.physical(found)
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    error = labels - finished.data.labels_of(stars)
    teff, iron = np.sqrt((error[:, [TEFF, FE]] ** 2).mean(axis=0))
    assert teff < 30
    assert iron < 0.03
    assert 0.85 < (np.abs(error) < 1.96 * sigma).mean() <= 1.0  # 40 stars, and errors of pixels from a hundred
    pairs = {
        kind: [finished.embeddings(f"{kind}/{name}") for name in ("nirspec", "apogee")] for kind in ("fit", "starclip")
    }
    found = {kind: success_rate(ranks_between(*(s.take("test") for s in pair)), 1) for kind, pair in pairs.items()}
    assert found["fit"] > max(found["starclip"], 0.8)


def test_a_run_with_a_pseudo_continuum_is_fitted_without_it(finished: Run, survey: PairedSpectra, tmp_path) -> None:
    corruption = finished.params.corruption.changed(continuum_spacing=150.0)
    params: Params = finished.params.changed(corruption=corruption)
    train_fit(tmp_path / "fit.ckpt", finished.data, params, finished.path("nirspec.ckpt"), finished.path("apogee.ckpt"))
    encoder = Model.load(tmp_path / "fit.ckpt").encoders["nirspec"]
    assert isinstance(encoder, EmulatorFit)
    assert encoder.guess is None
