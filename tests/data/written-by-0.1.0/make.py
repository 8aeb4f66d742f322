"""Made run.tar.xz and expected.json beside it, with version 0.1.0 of the package:

    cd CLONE_OF_0.1.0 && .venv/bin/python .../tests/data/written-by-0.1.0/make.py

A run of a handful of stars that nobody observed, and of networks that nobody trained, in round numbers that compress.
"""
# ruff: noqa: I001 (the modules of 0.1.0 are not those of this version)

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch

from starclip_lib import __version__
from starclip_lib.config import load_params
from starclip_lib.embeddings import as_embeddings, write_embeddings
from starclip_lib.encoders import Coordinates, Encoder, make_encoder
from starclip_lib.history import History
from starclip_lib.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.labels import LabelScaler
from starclip_lib.models import Model
from starclip_lib.run import Run
from starclip_lib.settings import EncoderParams
from starclip_lib.spectra import PairedSpectra, SpectrumSet

HERE = Path(__file__).parent
N = 8


def data_set() -> PairedSpectra:
    level = np.float32(0.5) + np.arange(N, dtype=np.float32)[:, None] / 16
    off = np.tile(~APOGEE.covered, (N, 1))
    apogee = np.where(off, np.float32(0), np.repeat(level, APOGEE.n_pix, axis=1))
    nirspec = np.repeat(level, NIRSPEC.n_pix, axis=1)
    labels = np.arange(N)[:, None] / 4 + np.arange(20) / 8
    labels[:, 0] += 4000  # kelvin
    return PairedSpectra(
        star_id=np.array([f"OLD{number}" for number in range(N)]),
        labels=labels.astype(np.float32),
        label_errors=np.full((N, 20), 0.25, np.float32),
        split=np.array([0, 0, 0, 0, 1, 1, 2, 2], np.uint8),
        apogee=SpectrumSet(APOGEE, apogee, off, np.where(off, np.float32(0), np.float32(4e4))),
        nirspec=SpectrumSet(NIRSPEC, nirspec, np.zeros((N, NIRSPEC.n_pix), bool)),
        source="made up",
        seed=7,
        provenance={"written by": __version__},
    )


def encoder(instrument: Instrument, calibrated: bool) -> Encoder:
    """Every weight is a multiple of 1/64."""
    net = make_encoder(instrument, EncoderParams(width=4, depth=1, lift=4.5), seed=1)
    if calibrated:
        net.coordinates = Coordinates()
        net.coordinates.offset += 0.25
        net.coordinates.bonus += 0.125
        net.coordinates.reach[0] += 16
    with torch.no_grad():
        for weights in net.parameters():
            angle = 1 + torch.arange(weights.numel()) / (100 if weights.numel() > 1000 else 1)
            weights.copy_(torch.round(64 * torch.sin(angle)).view(weights.shape) / 64)
        net.scaling.mean += 0.75
        net.scaling.std.fill_(0.125)
    return net.eval()


def model(*roles: str, calibrated: bool = False) -> Model:
    instruments = {"apogee": APOGEE}
    encoders = {role: encoder(instruments.get(role, NIRSPEC), calibrated) for role in roles}
    history = History([2.0, 1.0], [2.5, 1.5], [0.25, 0.5], [1e-3, 1e-4], [3.0, 4.0])
    return Model(encoders, LabelScaler(np.arange(20.0), np.arange(1.0, 21.0)), history, 15.5)


def spectrum(instrument: Instrument) -> torch.Tensor:
    """What the networks are asked about, (1, n_pix)."""
    return 0.75 + 0.125 * torch.sin(torch.arange(instrument.n_pix) / 50)[None]


def main() -> None:
    assert __version__ == "0.1.0"
    data, expected = data_set(), {}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(load_params("params/small.yaml"), Path(folder))
        run.build("data.h5", data.write)
        models = {
            "apogee": model("apogee"),
            "nirspec": model("nirspec"),
            "starclip": model("nirspec", "apogee", calibrated=True),
            "mockstarclip": model("mock", "extended"),
        }
        for name, made in models.items():
            run.build(f"{name}.ckpt", made.save)
            for role, net in made.encoders.items():
                with torch.no_grad():
                    flux = spectrum(net.instrument)
                    answers = {"labels": net(flux)[0].tolist(), "embedding": net.embed(flux)[0].tolist()}
                expected[f"{name}/{role}"] = answers
        z = np.eye(4, dtype=np.float32)[np.arange(2 * N) % 4].reshape(N, 2, 4)
        groups = {"starclip/nirspec": as_embeddings(z, data.star_id, data.split)}
        groups["starclip/apogee"] = as_embeddings(z[:, :1], data.star_id, data.split)
        run.build("embeddings.h5", lambda path: write_embeddings(path, groups))
        with tarfile.open(HERE / "run.tar.xz", "w:xz") as archive:
            for path in sorted(run.folder.iterdir()):
                member, content = tarfile.TarInfo(f"runs/small/{path.name}"), path.read_bytes()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
