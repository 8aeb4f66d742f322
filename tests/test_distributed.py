"""Two processes on the CPU (gloo) against one with the whole batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from conftest import ROOT

from starclip_lib.data.instruments import APOGEE, NIRSPEC
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.factory import make_encoder
from starclip_lib.run import Run
from starclip_lib.settings.training import AlignParams, EncoderParams, TrainParams
from starclip_lib.training.batches import SpectrumSource
from starclip_lib.training.devices import session, share, wrapped
from starclip_lib.training.loop import Trainer

CPU = torch.device("cpu")
SMALL = EncoderParams(width=16, depth=1)
SETTINGS = AlignParams(train=TrainParams(epochs=2, batch_size=20), label_weight=0.5)


def model(data: PairedSpectra) -> StarCLIP:
    encoders = [make_encoder(i, SMALL, seed) for seed, i in enumerate((NIRSPEC, APOGEE))]
    for encoder, spectra in zip(encoders, (data.nirspec, data.apogee), strict=True):
        encoder.fit_scaling(torch.from_numpy(spectra.flux))
    return StarCLIP(*encoders, SETTINGS)


def batch(data: PairedSpectra) -> tuple[torch.Tensor, ...]:
    star = torch.arange(24) % 22  # two stars come twice
    labels = torch.from_numpy(data.labels[star.numpy()] / 100)
    return torch.from_numpy(data.nirspec.flux)[star], torch.from_numpy(data.apogee.flux)[star], star, labels


def gradients(net: torch.nn.Module, *inputs: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    loss = net(*inputs)
    loss.backward()
    return loss.item(), {name.removeprefix("module."): p.grad for name, p in net.named_parameters()}


def train(data: PairedSpectra) -> StarCLIP:
    whole = model(data)
    pairs = []
    for rows in (np.arange(80), np.arange(80, 110)):
        labels = np.zeros((len(rows), 20), np.float32)
        pairs.append([SpectrumSource(spectra, rows, labels, CPU) for spectra in (data.nirspec, data.apogee)])
    Trainer(SETTINGS.train, seed=4).align(whole, *pairs)
    return whole


def one_of_two(number: int, port: int, folder: str) -> None:
    os.environ.update(
        RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    data = PairedSpectra.read(f"{folder}/data.h5")
    with session(CPU):
        loss, found = gradients(wrapped(model(data)), *(share(part) for part in batch(data)))
        torch.save({"loss": loss, "gradients": found, "trained": train(data).state_dict()}, f"{folder}/{number}.pt")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_two_processes_equal_one_with_the_whole_batch(survey: PairedSpectra, tmp_path: Path) -> None:
    survey.write(tmp_path / "data.h5")
    mp.spawn(one_of_two, (free_port(), str(tmp_path)), nprocs=2)
    halves = [torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (0, 1)]
    loss, found = gradients(model(survey), *batch(survey))
    assert np.mean([half["loss"] for half in halves]) == pytest.approx(loss, rel=1e-5)
    for name, gradient in found.items():
        for half in halves:
            torch.testing.assert_close(half["gradients"][name], gradient, rtol=1e-3, atol=1e-5)
    whole = train(survey).state_dict()
    for name, value in halves[0]["trained"].items():
        assert torch.equal(value, halves[1]["trained"][name]), name  # both processes end with the same weights
        torch.testing.assert_close(value, whole[name], rtol=2e-2, atol=2e-3)


def test_a_share_is_equal_for_all_and_alone_everything() -> None:
    assert share(torch.arange(7)).tolist() == list(range(7))


def test_torchrun_makes_the_models_of_a_run(run: Run, params) -> None:
    """`torchrun -m starclip_lib.cli train` leaves files that a run in one process takes for its own."""
    (run.root / "params" / "tiny.yaml").write_text((ROOT / "params" / "small.yaml").read_text())
    settings = ["name=small", "data.n_stars=80", "mockstarclip.n_stars=16", "mockstarclip.feh_bins=4"]
    settings += [f"{key}.epochs=1" for key in ("pretrain.apogee", "pretrain.nirspec", "starclip.train")]
    overrides = [word for setting in settings for word in ("--set", setting)]
    port = f"--master-port={free_port()}"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", port, "-m", "starclip_lib.cli"]
    done = subprocess.run(
        [*command, "train", "params/tiny.yaml", *overrides],
        cwd=run.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("starclip.ckpt ...") == 2  # starclip and mockstarclip, each said once
    assert Model.load(run.root / "runs" / "small" / "starclip.ckpt").history.epochs == 1
    alone = subprocess.run(
        [sys.executable, "-m", "starclip_lib.cli", "train", "params/tiny.yaml", *overrides],
        cwd=run.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.stdout.count("up to date") == 8, alone.stdout + alone.stderr
