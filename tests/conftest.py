"""Data shared by the tests: a small survey, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.config import load_params
from starclip_lib.run import Run
from starclip_lib.settings import Params
from starclip_lib.simulate import simulate_survey
from starclip_lib.spectra import PairedSpectra

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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(12)
