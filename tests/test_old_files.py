"""What version 0.1.0 wrote, this version reads; what it made a run of is made anew.

The files are those of `data/written-by-0.1.0/make.py`, which ran with that version.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from starclip_lib.data.instruments import APOGEE
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.metrics.similarity import SimilarityIndex
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import read_embeddings
from starclip_lib.models.encoding import encode
from starclip_lib.run import Run, open_run
from starclip_lib.stages import STAGES

OLD = ROOT / "tests" / "data" / "written-by-0.1.0"
EXPECTED = json.loads((OLD / "expected.json").read_text())


@pytest.fixture
def old(run: Run) -> Run:
    """The run of this version, whose folder the other one has filled."""
    with tarfile.open(OLD / "run.tar.xz") as archive:
        archive.extractall(run.root, filter="data")
    return run


def test_the_data_set_is_read(old: Run) -> None:
    data = PairedSpectra.read(old.path("data.h5"), with_ivar=True)
    star, level = np.arange(8), 0.5 + np.arange(8) / 16
    assert data.star_id.tolist() == [f"OLD{number}" for number in star]
    expected = star[:, None] / 4 + np.arange(20) / 8 + 4000 * (np.arange(20) == 0)
    np.testing.assert_array_equal(data.labels, expected)
    assert (data.label_errors == 0.25).all()
    assert data.split.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert (data.source, data.seed, data.provenance) == ("made up", 7, {"written by": "0.1.0"})
    assert (data.nirspec.flux == level[:, None]).all()
    assert (data.apogee.flux == np.where(APOGEE.covered, level[:, None], 0)).all()
    assert (data.apogee.mask == ~APOGEE.covered).all()
    assert (data.apogee.ivar == np.where(APOGEE.covered, 4e4, 0)).all()
    assert data.star("OLD6").split == "test"


@pytest.mark.parametrize("key", EXPECTED)
def test_networks_give_the_labels_and_embeddings_that_they_gave(old: Run, key: str) -> None:
    name, role = key.split("/")
    model = Model.load(old.path(f"{name}.ckpt"))
    encoder = model.encoders[role]
    flux = (0.75 + 0.125 * torch.sin(torch.arange(encoder.instrument.n_pix) / 50)[None]).numpy()
    assert encode(encoder, flux, "labels")[0] == pytest.approx(EXPECTED[key]["labels"], abs=1e-5)
    assert encode(encoder, flux)[0] == pytest.approx(EXPECTED[key]["embedding"], abs=1e-5)
    assert (encoder.coordinates is not None) == (name == "starclip")
    assert encode(encoder, 0.5 * flux, "labels")[0] != pytest.approx(EXPECTED[key]["labels"], abs=1e-2)


def test_what_is_kept_beside_the_networks_is_read(old: Run) -> None:
    model = Model.load(old.path("starclip.ckpt"))
    assert list(model.encoders) == ["nirspec", "apogee"]
    assert (model.scaler.mean == np.arange(20)).all()
    assert (model.scaler.std == np.arange(1, 21)).all()
    assert model.logit_scale == 15.5
    assert (model.history.val_loss, model.history.val_retrieval) == ([2.5, 1.5], [0.25, 0.5])
    assert model.history.best_epoch == 2


def test_embeddings_are_read(old: Run) -> None:
    nirspec, apogee = (read_embeddings(old.path("embeddings.h5"), f"starclip/{name}") for name in ("nirspec", "apogee"))
    np.testing.assert_array_equal(nirspec.z, np.eye(4)[np.arange(16) % 4])
    assert nirspec.star_id.tolist() == np.repeat([f"OLD{number}" for number in range(8)], 2).tolist()
    assert nirspec.view.tolist() == [0, 1] * 8
    assert apogee.take("test").star_id.tolist() == ["OLD6", "OLD7"]
    assert SimilarityIndex(apogee.z, apogee.star_id).search(nirspec.z[:1], 1)[1] == 1


def test_the_run_is_stale_and_made_anew(old: Run) -> None:
    there = [file for file in STAGES if old.path(file).is_file()]
    assert len(there) == 6
    assert repr(old).endswith(": nothing up to date")
    for file in there:
        with pytest.raises(DataError, match=f"runs/small/{file} was made with other parameters or code: run notebook"):
            old.need(file)
    with pytest.raises(DataError, match=r"data\.h5 was made with other parameters or code: run notebook 01_data"):
        old.data  # noqa: B018
    with pytest.raises(DataError, match=r"data\.h5 was made with other parameters or code"):
        old.build("apogee.ckpt")
    said: list[str] = []
    old.train(said.append)
    assert said == [f"{file} ..." for file in STAGES]
    assert all(old.is_current(file) for file in STAGES)
    assert old.data.n_stars == 160
    assert len(old.embeddings("starclip/apogee")) == 160


def test_a_folder_without_settings_is_opened_by_its_parameter_file(old: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 0.1.0 did not leave the settings in a run's folder."""
    monkeypatch.chdir(old.root)
    with pytest.raises(DataError, match=r"^runs/small is no folder of a run: it has no settings\.json; give .*$"):
        open_run(Path("runs/small"))
    assert open_run("small").path("data.h5") == old.path("data.h5")
