from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from starclip_lib.data.selection import split_by_star
from starclip_lib.data.spectra import SPLITS, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.support.errors import DataError


@pytest.fixture
def path(survey: PairedSpectra, tmp_path: Path) -> Path:
    survey.write(tmp_path / "data.h5")
    return tmp_path / "data.h5"


def test_split_has_the_papers_counts() -> None:
    split = split_by_star(np.arange(19001).astype(str), (5, 1, 2), np.random.default_rng(0))
    assert np.bincount(split).tolist() == [11875, 2375, 4751]


def test_split_keeps_the_rows_of_a_star_together_whatever_their_order(rng: np.random.Generator) -> None:
    star = rng.integers(0, 60, 500).astype(str)
    split = split_by_star(star, (5, 1, 2), np.random.default_rng(4))
    for name in np.unique(star):
        assert len(set(split[star == name])) == 1
    order = rng.permutation(500)
    assert (split_by_star(star[order], (5, 1, 2), np.random.default_rng(4)) == split[order]).all()


def test_what_is_written_is_what_is_read(survey: PairedSpectra, path: Path) -> None:
    again = PairedSpectra.read(path, with_ivar=True)
    for key in ("star_id", "labels", "label_errors", "split"):
        assert (getattr(again, key) == getattr(survey, key)).all()
    for name in ("apogee", "nirspec"):
        for key in ("flux", "mask"):
            assert (getattr(getattr(again, name), key) == getattr(getattr(survey, name), key)).all()
    assert (again.apogee.ivar == survey.apogee.ivar).all()
    assert again.nirspec.ivar is None
    assert (again.source, again.seed, again.provenance) == (survey.source, survey.seed, survey.provenance)
    assert PairedSpectra.read(path).apogee.ivar is None


def test_stars_are_looked_up_by_name(survey: PairedSpectra, rng: np.random.Generator) -> None:
    order = rng.permutation(survey.n_stars)
    mixed = _reordered(survey, order)
    asked = np.array([7, 2, 7, 159])
    names = mixed.star_id[asked]
    np.testing.assert_array_equal(mixed.labels_of(names), survey.labels[order[asked]])
    assert mixed.labels_of(names).dtype == np.float64
    assert mixed.row(names[1]) == 2
    star = mixed.star(names[1])
    row = order[2]
    assert (star.star_id, star.row, star.split) == (survey.star_id[row], 2, SPLITS[survey.split[row]])
    for key in ("labels", "label_errors"):
        np.testing.assert_array_equal(getattr(star, key), getattr(survey, key)[row])
    np.testing.assert_array_equal(star.apogee, survey.apogee.flux[row])
    np.testing.assert_array_equal(star.nirspec, survey.nirspec.flux[row])


def test_unknown_stars_are_named_with_similar_ones(survey: PairedSpectra) -> None:
    with pytest.raises(DataError, match=r"no star 'SIM000004x' in this data set; similar: SIM000004, "):
        survey.row("SIM000004x")
    with pytest.raises(DataError, match=r"no star 'x' in this data set; identifiers look like SIM000000$"):
        survey.star("x")
    with pytest.raises(DataError, match="2 stars have no labels in the data set, y among them"):
        survey.labels_of(np.array(["SIM000003", "y", "z"]))


def _reordered(data: PairedSpectra, order: np.ndarray) -> PairedSpectra:
    """The same stars in another order."""
    arrays = {key: getattr(data, key)[order] for key in ("star_id", "labels", "label_errors", "split")}
    sides = {
        name: SpectrumSet(spectra.instrument, spectra.flux[order], spectra.mask[order])
        for name, spectra in (("apogee", data.apogee), ("nirspec", data.nirspec))
    }
    return replace(data, **arrays, **sides)


def test_the_file_says_what_it_is(path: Path) -> None:
    with h5py.File(path) as file:
        assert file.attrs["schema_version"] == 1
        assert file.attrs["source"] == "simulate"
        assert list(file["labels"].attrs["units"])[:2] == ["K", "dex"]
        assert file["apogee/flux"].chunks == (1, 8575)
        assert file["apogee/flux"].attrs["no_data_value"] == 0
        assert file["nirspec/wavelength"].attrs["unit"] == "Angstrom"


def edit(path: Path, key: str, change) -> None:
    with h5py.File(path, "a") as file:
        change(file, key)


def delete(file: h5py.File, key: str) -> None:
    del file[key]


def cut(file: h5py.File, key: str) -> None:
    values = file[key][:]
    del file[key]
    file[key] = values[..., :-1]


def put_nan(file: h5py.File, key: str) -> None:
    file[key][7, 11] = np.nan


def repeat_star(file: h5py.File, key: str) -> None:
    file[key][1] = file[key][0]


def unmask_fill(file: h5py.File, key: str) -> None:
    file[key][0, 0] = 0.5


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("apogee/mask", delete, "data.h5: .*mask"),
        ("nirspec/flux", cut, r"nirspec/flux has 8191 pixels but nirspec/wavelength has 8192. Rebuild it"),
        (
            "labels",
            put_nan,
            r"data.h5: labels is not finite in 1 labels, first in star 7, label 11; .* drop stars without labels",
        ),
        ("star_id", repeat_star, "data.h5: star_id has 1 repeats"),
        ("apogee/flux", unmask_fill, "apogee/flux must be 0 wherever apogee/mask is set"),
    ],
)
def test_a_damaged_file_is_refused_by_name(path: Path, key: str, change, message: str) -> None:
    edit(path, key, change)
    with pytest.raises(DataError, match=message):
        PairedSpectra.read(path)


def test_another_version_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(DataError, match="schema_version 99, this version reads 1"):
        PairedSpectra.read(path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(survey: PairedSpectra, path: Path) -> None:
    before = path.read_bytes()
    survey.provenance["bad"] = object()  # not JSON
    try:
        with pytest.raises(TypeError):
            survey.write(path)
    finally:
        del survey.provenance["bad"]
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["data.h5"]
