"""Data shared by the tests: a small survey, made once, and a run of it that is complete."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.data.curation import make_data_set
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.run import Run
from starclip_lib.settings.params import Params, load_params
from starclip_lib.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
OVERRIDES = {
    "seed": 3,
    "data": {"n_stars": 160},
    "mockstarclip": {"n_stars": 48},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that two processes end at the same time."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(scope="session")
def params() -> Params:
    return load_params(ROOT / "params" / "small.yaml", OVERRIDES)


@pytest.fixture(scope="session")
def survey(params: Params) -> PairedSpectra:
    """The stars of the run, with the inverse variances that a run does not read."""
    return make_data_set(params.data, params.seed, ROOT)


def empty_project(root: Path, params: Params) -> Run:
    """A run of params/small.yaml in a project that has nothing else."""
    for folder in ("notebooks", "params"):
        (root / folder).mkdir()
    params_file = shutil.copy(ROOT / "params" / "small.yaml", root / "params")
    return Run(params, root, Path(params_file), OVERRIDES)


@pytest.fixture
def run(tmp_path: Path, params: Params) -> Run:
    """A run in an empty project."""
    return empty_project(tmp_path, params)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Run:
    """A run whose models have been trained for a moment; read it, or copy it (`trained`) to write."""
    run = empty_project(tmp_path_factory.mktemp("finished"), params)
    for file in STAGES:
        run.build(file)
    return run


@pytest.fixture
def trained(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run in a project of its own."""
    shutil.copytree(finished.root, tmp_path, dirs_exist_ok=True)
    return Run(finished.params, tmp_path, tmp_path / "params" / "small.yaml", OVERRIDES)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(12)
