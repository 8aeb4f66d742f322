from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.models.checkpoint import History, Model, save_tensors
from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.training import EncoderParams
from starclip_lib.support.errors import DataError


@pytest.fixture
def model(generator: torch.Generator) -> Model:
    settings = EncoderParams(width=8, depth=1)
    encoders = {"nirspec": make_encoder(NIRSPEC, settings, 1), "apogee": make_encoder(APOGEE, settings, 2)}
    encoders["nirspec"].fit_scaling(torch.rand((9, 8192), generator=generator))
    scaler = LabelScaler(np.arange(20.0), np.arange(1.0, 21.0))
    return Model(encoders, scaler, History([1.0], [2.0], [0.5], [4.0], [3.0]), 15.5)


def test_a_model_comes_back_as_it_was(model: Model, tmp_path: Path, generator: torch.Generator) -> None:
    model.save(tmp_path / "m.ckpt")
    again = Model.load(tmp_path / "m.ckpt")
    flux = torch.rand((3, 8192), generator=generator)
    assert torch.equal(again.encoders["nirspec"](flux), model.encoders["nirspec"](flux))
    assert list(again.encoders) == ["nirspec", "apogee"]
    assert (again.scaler.std == model.scaler.std).all()
    assert (again.history, again.logit_scale) == (model.history, 15.5)
    assert not again.encoders["apogee"].training


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.ckpt is missing"):
        Model.load(tmp_path / "none.ckpt")
    save_tensors(tmp_path / "other.ckpt", {"weights": torch.ones(2)})
    with pytest.raises(DataError, match=r"other.ckpt is not a StarCLIP model"):
        Model.load(tmp_path / "other.ckpt")


def test_a_model_of_other_labels_is_refused(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    model.save(path)
    content = torch.load(path, weights_only=True)
    save_tensors(path, {**content, "labels": ["Teff", "logg"]})
    with pytest.raises(DataError, match=r"m.ckpt predicts the labels Teff, logg, not this version's"):
        Model.load(path)


def test_a_model_of_another_grid_or_instrument_is_refused_by_name(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    model.save(path)
    content = torch.load(path, weights_only=True)
    role, state = next(iter(content["encoders"].items()))
    foreign = {**state, "instrument": "miri"}
    save_tensors(path, {**content, "encoders": {role: foreign}})
    with pytest.raises(DataError, match=r"m.ckpt is for the instrument 'miri', not for apogee or nirspec"):
        Model.load(path)
    other = "apogee" if state["instrument"] == "nirspec" else "nirspec"
    save_tensors(path, {**content, "encoders": {role: {**state, "instrument": other}}})
    with pytest.raises(DataError, match=r"m.ckpt: the weights do not fit .* grid of 8,\d+ pixels"):
        Model.load(path)


class Hostile:
    """What unpickling must never run."""

    def __reduce__(self):
        return (Path.touch, (Path("/tmp/starclip-was-here"),))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.ckpt", Path("/tmp/starclip-was-here")
    trace.unlink(missing_ok=True)
    torch.save({"format": Hostile()}, path)
    with pytest.raises(DataError, match=r"evil.ckpt is damaged or no checkpoint"):
        Model.load(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match=r"evil.ckpt is damaged or no checkpoint"):
        Model.load(path)
    assert not trace.exists()
