from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.embeddings import as_embeddings, join, read_embeddings, write_embeddings
from starclip_lib.models.encoders import make_encoder
from starclip_lib.models.encoding import encode, predict_labels, run_encoder
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.training import CorruptionParams, EncoderParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.corruptions import mock
from starclip_lib.transforms.views import ViewSampler


@pytest.fixture
def encoder():
    return make_encoder(NIRSPEC, EncoderParams(width=8, depth=1), seed=1)


def test_every_view_of_every_row_lands_in_its_place(survey, encoder) -> None:
    rows = np.array([140, 2, 60])
    telescope = ViewSampler(mock(CorruptionParams()), 3, seed=9)
    z = run_encoder(encoder, survey.nirspec, rows, telescope)
    assert z.shape == (3, 3, 21)
    np.testing.assert_allclose(np.linalg.norm(z, axis=2), 1, rtol=1e-3)
    for place, view, batch in telescope.blocks(survey.nirspec, rows):
        with torch.no_grad():
            np.testing.assert_allclose(z[place, view], encoder.embed(batch).numpy(), atol=1e-3)


def test_predicted_labels_are_in_kelvin_and_dex(survey, encoder) -> None:
    scaler = LabelScaler(np.full(20, 7.0), np.full(20, 2.0))
    rows = np.array([5, 1])
    labels = predict_labels(Model({"nirspec": encoder}, scaler, History()), survey.nirspec, rows)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(survey.nirspec.flux[rows])).numpy() * 2.0 + 7.0
    np.testing.assert_allclose(labels[:, 0], expected, rtol=1e-3)


def test_no_rows_is_an_error(survey, encoder) -> None:
    with pytest.raises(DataError, match="there is no star"):
        run_encoder(encoder, survey.nirspec, np.array([], int))


def test_plain_spectra_are_encoded_as_those_of_a_data_set(survey, encoder, monkeypatch) -> None:
    monkeypatch.setattr("starclip_lib.models.encoding._BLOCK", 3)
    rows = np.arange(10, 17)
    for output, dim in (("embedding", 21), ("labels", 20)):
        expected = run_encoder(encoder, survey.nirspec, rows, output=output)[:, 0]
        found = encode(encoder, survey.nirspec.flux[rows], output)
        assert found.shape == (7, dim)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_file_round_trip_and_selection(tmp_path: Path, rng: np.random.Generator) -> None:
    z = rng.normal(size=(4, 2, 5)).astype(np.float32)
    z /= np.linalg.norm(z, axis=2, keepdims=True)
    ids, split = np.array(["a", "b", "c", "d"]), np.array([0, 1, 2, 2], np.uint8)
    whole = as_embeddings(z, ids, split)
    assert whole.star_id.tolist() == list("aabbccdd")
    assert whole.view.tolist() == [0, 1] * 4
    assert (whole.z == z.reshape(8, 5)).all()
    write_embeddings(tmp_path / "e.h5", {"starclip/nirspec": whole})
    again = read_embeddings(tmp_path / "e.h5", "starclip/nirspec")
    for key in ("z", "star_id", "view", "split"):
        assert (getattr(again, key) == getattr(whole, key)).all()
    assert again.take("test").star_id.tolist() == list("ccdd")
    assert again.take("train", "val").of_view(1).star_id.tolist() == ["a", "b"]
    assert len(join(again, again.take("test"))) == 12


def test_a_missing_file_and_a_missing_group_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with pytest.raises(DataError, match="notebook 06_retrieval makes it"):
        read_embeddings(path, "starclip/nirspec")
    z = as_embeddings(np.full((2, 1, 3), 3**-0.5), np.array(["a", "b"]), np.zeros(2))
    write_embeddings(path, {"starclip/nirspec": z})
    with pytest.raises(DataError, match="no embeddings 'starclip/apogee' in it"):
        read_embeddings(path, "starclip/apogee")
