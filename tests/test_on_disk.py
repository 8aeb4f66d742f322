"""Spectra that stay on disk are the same spectra, and what is trained on them is the same model."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import empty_project

from starclip_lib.data.curation import make_data_set
from starclip_lib.data.selection import in_parts
from starclip_lib.data.simulate import simulate_survey, write_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.lab.widgets.gallery import Gallery
from starclip_lib.metrics import baselines, linear_alignment, view_information
from starclip_lib.metrics.view_information import seen_by, seen_by_apogee
from starclip_lib.models.checkpoint import Model
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import INSTRUMENTS, NIRSPEC
from starclip_lib.run import Run
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.params import changed_params
from starclip_lib.settings.training import CorruptionParams
from starclip_lib.stages import STAGES
from starclip_lib.storage.hdf5 import RowsOnDisk, RowsReplaced
from starclip_lib.suite.decoders import SpectrumBasis
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.corruptions import mock
from starclip_lib.transforms.views import ViewSampler

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


@pytest.mark.parametrize("key", [3, slice(2, 9), np.array([600, 3, 2]), [5]], ids=str)
def test_some_rows_are_replaced_and_no_others(file: Path, in_memory: PairedSpectra, key) -> None:
    places, others = np.array([600, 3]), np.full((2, 8192), 0.5, np.float32)
    expected = in_memory.nirspec.flux.copy()
    expected[places] = others
    for spectra in (PairedSpectra.read(file, memory=0).nirspec, in_memory.nirspec):
        rows = RowsReplaced(spectra.flux, places, others)
        assert rows.shape == expected.shape == (len(rows), 8192)
        np.testing.assert_array_equal(rows[key], expected[key])
    assert (in_memory.nirspec.flux[3] != 0.5).any()


def test_what_is_judged_in_parts_from_disk_is_what_is_judged_at_once(
    file: Path, in_memory: PairedSpectra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simple methods, information, linear alignment and principal components."""
    telescope = ViewSampler(mock(CorruptionParams()), 2, seed=1)
    rows = in_memory.rows("test")[:5]

    def judged(data: PairedSpectra) -> dict[str, np.ndarray]:
        seen = seen_by(telescope, data, rows, default_emulator()), seen_by_apogee(data, rows, 1.0, default_emulator())
        basis = SpectrumBasis.fit(data.nirspec.flux[rows], NIRSPEC.fill_value, 3)
        found = {name: side.z for name, side in linear_alignment.align_linearly(data, telescope).items()}
        for number, one in enumerate(seen):
            found |= {f"{number} information": one.information, f"{number} snr": one.snr}
        found["components"] = basis.coefficients(data.nirspec.flux, NIRSPEC.fill_value)
        return found | baselines.simple_methods(data, telescope, 0)

    expected = judged(in_memory)
    for module, size in ((baselines, 13), (linear_alignment, 50), (view_information, 2)):
        monkeypatch.setattr(module, "_STARS", size)
    found = judged(PairedSpectra.read(file, with_ivar=True, memory=0))
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_allclose(
            values, expected[name], rtol=2e-4, atol=2e-4 * np.abs(expected[name]).max(), err_msg=name
        )


def test_of_a_survey_some_are_taken_evenly(in_memory: PairedSpectra) -> None:
    rows = in_memory.rows("train")
    for n in (len(rows), 10_000, None):
        np.testing.assert_array_equal(in_memory.rows("train", n), rows)
    quarter = len(rows) // 4
    np.testing.assert_array_equal(in_memory.rows("train", 4)[:2], rows[[0, quarter]])
    assert len(np.unique(in_memory.rows("train", 33))) == 33
    assert not len(in_memory.rows("train", 0))
    assert [len(part) for part in in_parts(rows[:100], 40)] == [40, 40, 20]
    np.testing.assert_array_equal(np.concatenate(in_parts(rows, 40)), rows)
    assert [len(part) for part in in_parts(rows[:0])] == [0]


def test_the_browser_of_spectra_on_disk_finds_and_shows_what_the_other_does(finished: Run) -> None:
    usual = Gallery(finished)
    run = Run(changed_params(finished.params, {"memory": 0.0}), finished.root, finished.params_file)
    lying = Gallery(run)
    assert run.data.nirspec.on_disk
    assert lying.spaces == ("StarCLIP",) != usual.spaces
    rows = usual.rows(test_only=True)
    for side in ("NIRSpec", "APOGEE"):
        one, other = (gallery.star("StarCLIP", side, rows[1]) for gallery in (usual, lying))
        np.testing.assert_array_equal(one.flux, other.flux)
        found = [gallery.search("StarCLIP", one, 4, [side], rows).row for gallery in (usual, lying)]
        np.testing.assert_array_equal(*found)


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


def test_models_trained_from_disk_are_the_same(finished: Run, tmp_path: Path) -> None:
    known, run = finished, empty_project(tmp_path, changed_params(finished.params, {"memory": 0.0}))
    for name in STAGES:
        run.build(name)
    assert run.data.nirspec.on_disk
    for name in ("apogee", "nirspec", "starclip", "fit"):
        one, other = (Model.load(place.path(f"{name}.ckpt")).encoders for place in (known, run))
        for role, encoder in one.items():
            for key, value in encoder.state_dict().items():
                assert torch.equal(value, other[role].state_dict()[key]), f"{name} {role} {key}"
    for group in ("starclip/nirspec", "mockstarclip/extended"):
        np.testing.assert_array_equal(run.embeddings(group).z, known.embeddings(group).z)
