"""Data shared by the tests and by their processes: a small survey and a run of it that is complete, each made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

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
        (root / folder).mkdir(exist_ok=True)
    params_file = shutil.copy(ROOT / "params" / "small.yaml", root / "params")
    return Run(params, root, Path(params_file), OVERRIDES)


@pytest.fixture
def run(tmp_path: Path, params: Params) -> Run:
    """A run in an empty project."""
    return empty_project(tmp_path, params)


def made_once(factory: pytest.TempPathFactory, name: str, params: Params, files: Iterable[str]) -> Run:
    """A run that one of the processes of this session makes while the others that need it wait."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{root}.lock"):
        root.mkdir(exist_ok=True)
        run = empty_project(root, params)
        for file in files:
            run.build(file)  # what the other process has made is up to date
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Run:
    """A run whose models have been trained for a moment; read it, or copy it (`trained`) to write."""
    return made_once(tmp_path_factory, "finished", params, STAGES)


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
