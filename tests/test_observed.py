"""Observed spectra from a folder to labels and twins, on files that the test writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_nirspec import observe, table, write

from starclip_lib import observed, recipes
from starclip_lib.config import DataError
from starclip_lib.embeddings import read_embeddings
from starclip_lib.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings import ObservedParams


@pytest.fixture
def folder(survey, tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "sky"
    folder.mkdir()
    for number, velocity in ((1, 20.0), (2, -90.0)):
        wave, flux = observe(survey.nirspec.flux[number], velocity, rng)
        write(folder / f"spec1d_exposure_{number}.fits", table("SPAT1-SLIT1-MSC01", wave, flux))
    saw = flux * (1 + 0.1 * rng.standard_normal(len(flux)))
    write(folder / "spec1d_ruined.fits", table("SPAT1-SLIT1-MSC01", wave, saw))
    return folder


@pytest.fixture
def trained(run: Run, survey) -> Run:
    """A run whose models have been trained for a moment."""
    params, path = run.params, run.path
    run.build("data.h5", survey.write)
    for name in ("apogee", "nirspec"):
        run.build(f"{name}.ckpt", lambda p, name=name: recipes.train_encoder(p, survey, params, name))
    start = (path("nirspec.ckpt"), path("apogee.ckpt"))
    run.build("starclip.ckpt", lambda p: recipes.train_starclip(p, survey, params, *start))
    run.build("mockstarclip.ckpt", lambda p: recipes.train_mockstarclip(p, survey, params, path("starclip.ckpt")))
    models = (path("starclip.ckpt"), path("mockstarclip.ckpt"))
    run.build("embeddings.h5", lambda p: recipes.embed_all(p, survey, params, *models))
    return run


def test_from_a_folder_to_labels_and_twins(folder: Path, trained: Run) -> None:
    data = trained.data()
    settings = ObservedParams(folder="sky")
    spectra = observed.read_folder(trained.root, settings)
    names = ["spec1d_exposure_1", "spec1d_exposure_2", "spec1d_ruined"]  # all have the same target
    assert [spectrum.name for spectrum in spectra] == names
    assert list(observed.rejected(spectra)) == ["spec1d_ruined"]
    assert observed.describe(spectra[2])["verdict"].startswith("saw-tooth")
    prepared = observed.prepare_all(spectra, data, settings)
    assert [star.velocity for star in prepared] == pytest.approx([20.0, -90.0], abs=8)
    assert all(star.template in data.rows("train") for star in prepared)
    apogee = read_embeddings(trained.need("embeddings.h5"), "starclip/apogee")
    twins = observed.find_twins(prepared, data, trained, apogee)
    assert twins.labels["name"].tolist() == names[:2]
    assert np.isfinite(twins.labels[list(LABELS)].to_numpy(float)).all()
    assert len(twins.neighbours) == 6
    assert (twins.neighbours.groupby("observed")["cosine"].diff().dropna() <= 0).all()
    json.dumps(twins.labels.to_dict("records"))  # goes into metrics.json


def test_without_a_folder_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert observed.read_folder(tmp_path, ObservedParams()) == []
    assert observed.find_twins([], None, None, None).labels.empty
    with pytest.raises(DataError, match="is no folder"):
        observed.read_folder(tmp_path, ObservedParams(folder="nowhere"))
