"""Spectra that stay on disk are the same spectra, and what is trained on them is the same model."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import empty_project

from starclip_lib.data.instruments import INSTRUMENTS
from starclip_lib.data.on_disk import RowsOnDisk
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.models.checkpoint import Model
from starclip_lib.run import Run
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.params import changed_params
from starclip_lib.stages import STAGES
from starclip_lib.surveys.curation import make_data_set
from starclip_lib.surveys.simulate import simulate_survey, write_survey

STARS = 700  # more than a block


@pytest.fixture(scope="module")
def in_memory() -> PairedSpectra:
    return simulate_survey(STARS, 5)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survey") / "data.h5"
    write_survey(path, STARS, 5, DataParams())
    return path


def same(one: PairedSpectra, other: PairedSpectra) -> None:
    for key, array in one._members().items():
        expected = other._members()[key]
        assert (array is None) == (expected is None)
        np.testing.assert_array_equal(np.asarray(array), np.asarray(expected), err_msg=key)


def test_a_survey_written_block_by_block_is_the_one_in_memory(
    in_memory: PairedSpectra, file: Path, tmp_path: Path
) -> None:
    same(PairedSpectra.read(file, with_ivar=True), in_memory)
    on_disk = PairedSpectra.read(file, with_ivar=True, memory=0)
    assert isinstance(on_disk.apogee.flux, RowsOnDisk)
    on_disk.write(tmp_path / "again.h5")
    same(PairedSpectra.read(tmp_path / "again.h5", with_ivar=True), in_memory)


@pytest.mark.parametrize(
    "key",
    [3, -1, slice(5, 9), slice(690, 800), slice(0, 0), slice(9, 2, -3), [4, 4, 1], np.array([600, 2, 601]), []],
    ids=str,
)
def test_rows_are_taken_as_from_an_array(file: Path, in_memory: PairedSpectra, key) -> None:
    key = np.array(key, int) if isinstance(key, list) else key
    for name in INSTRUMENTS:
        lying, there = getattr(PairedSpectra.read(file, memory=0), name), getattr(in_memory, name)
        np.testing.assert_array_equal(lying.flux[key], there.flux[key])
        some = np.arange(STARS)[::-2]
        np.testing.assert_array_equal(lying.mask.take(some)[:30], there.mask[some][:30])
        assert lying.mask[key].dtype == bool
        with pytest.raises(IndexError):
            lying.flux[STARS]


def test_what_is_wrong_with_a_row_is_said_when_it_is_read(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "r+") as opened:
        opened["nirspec/flux"][40, 7] = np.nan
    data = PairedSpectra.read(path, memory=0)
    assert np.isfinite(data.nirspec.flux[:40]).all()
    with pytest.raises(DataError, match=r"data\.h5: nirspec/flux .*star 40, pixel 7"):
        data.nirspec.flux[[2, 40, 39]]


def test_a_run_draws_its_stars_from_an_archive_on_disk(file: Path, in_memory: PairedSpectra) -> None:
    settings = DataParams(file=file.name, n_stars=200)
    lying, there = (make_data_set(settings, 1, file.parent, memory) for memory in (0, np.inf))
    assert lying.nirspec.on_disk
    assert not there.nirspec.on_disk
    same(lying, there)


@pytest.mark.parametrize("kind", ["finished", "refined"])
def test_models_trained_from_disk_are_the_same(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    known: Run = request.getfixturevalue(kind)
    run = empty_project(tmp_path, changed_params(known.params, {"memory": 0.0}))
    for name in STAGES if kind == "finished" else ("data.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt"):
        run.build(name)
    assert run.data.nirspec.on_disk
    for name in ("apogee", "nirspec", "starclip"):
        one, other = (Model.load(place.path(f"{name}.ckpt")).encoders for place in (known, run))
        for role, encoder in one.items():
            for key, value in encoder.state_dict().items():
                assert torch.equal(value, other[role].state_dict()[key]), f"{name} {role} {key}"
    if kind == "finished":
        for group in ("starclip/nirspec", "mockstarclip/extended"):
            np.testing.assert_array_equal(run.embeddings(group).z, known.embeddings(group).z)
