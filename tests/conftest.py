"""Data shared by the tests: a small survey, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.embeddings import embed_all
from starclip_lib.run import Run
from starclip_lib.settings.params import Params, load_params
from starclip_lib.surveys.simulate import simulate_survey
from starclip_lib.training import recipes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def survey() -> PairedSpectra:
    return simulate_survey(160, seed=3)


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(ROOT / "params" / "small.yaml", {"mockstarclip": {"n_stars": 48}})


@pytest.fixture
def run(tmp_path: Path, params: Params) -> Run:
    """A run in an empty project."""
    for folder in ("notebooks", "params"):
        (tmp_path / folder).mkdir()
    return Run(params, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, params: Params, survey: PairedSpectra) -> Run:
    """A run whose models have been trained for a moment; read it, or copy it (`trained`) to write."""
    root = tmp_path_factory.mktemp("finished")
    for folder in ("notebooks", "params"):
        (root / folder).mkdir()
    run = Run(params, root)
    path = run.path
    run.build("data.h5", survey.write)
    for name in ("apogee", "nirspec"):
        run.build(f"{name}.ckpt", lambda p, name=name: recipes.train_encoder(p, survey, params, name))
    start = (path("nirspec.ckpt"), path("apogee.ckpt"))
    run.build("starclip.ckpt", lambda p: recipes.train_starclip(p, survey, params, *start))
    run.build("mockstarclip.ckpt", lambda p: recipes.train_mockstarclip(p, survey, params, path("starclip.ckpt")))
    models = (path("starclip.ckpt"), path("mockstarclip.ckpt"))
    run.build("embeddings.h5", lambda p: embed_all(p, survey, params, *models))
    return run


@pytest.fixture
def trained(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run in a project of its own."""
    shutil.copytree(finished.root, tmp_path, dirs_exist_ok=True)
    return Run(finished.params, tmp_path)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(12)
