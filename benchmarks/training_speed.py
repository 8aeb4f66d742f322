"""Alignment steps per second: our loop against the same recipe written as the original does it, in one run.

    python benchmarks/training_speed.py [--params params/paper.yaml] [--stars 2000] [--steps 200] [--device cuda]

Both train the same two encoders on the same pairs, at the batch size and loss of the parameter file.

- ours: spectra and corruptions on the device, mixed precision where the device has it, no loader in the way;
- the original's way: five fixed corrupted copies of each star on the CPU, a DataLoader, float32.

Prints steps per second of both, their ratio, and what the alignment of the parameter file takes at that speed.
Without a GPU it measures the CPU and says so; with --device cuda it is an error if there is none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.encoders import make_encoder
from starclip_lib.models.encoding import pick_device, pick_precision
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.settings.params import Params, load_params
from starclip_lib.support.errors import StarclipError
from starclip_lib.support.seeds import seeded
from starclip_lib.training.batches import SpectrumSource, batches
from starclip_lib.transforms.views import mock_telescope


def new_model(data: PairedSpectra, params: Params, device: torch.device) -> StarCLIP:
    encoders = [make_encoder(i, params.pretrain.encoder, seed=1) for i in (NIRSPEC, APOGEE)]
    for encoder, spectra in zip(encoders, (data.nirspec, data.apogee), strict=True):
        encoder.fit_scaling(torch.from_numpy(spectra.flux[:500]))
    return StarCLIP(*encoders, params.starclip).to(device)


def our_pairs(data: PairedSpectra, params: Params, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    rows, telescope = np.arange(data.n_stars), mock_telescope(params)
    sources = (
        SpectrumSource(data.nirspec, rows, data.labels, device, telescope, fresh=True),
        SpectrumSource(data.apogee, rows, data.labels, device),
    )
    generator, order = seeded(device, 1), np.random.default_rng(1)
    while True:
        for star, view in batches(data.n_stars, 0, params.starclip.train.batch_size, device, order):
            yield *(source.draw(star, view, generator)[0] for source in sources), star


def loader_pairs(data: PairedSpectra, params: Params, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    n_views = params.corruption.n_views
    copies = mock_telescope(params).views(data.nirspec, np.arange(data.n_stars))
    star = torch.arange(data.n_stars).repeat_interleave(n_views)
    apogee = torch.from_numpy(np.repeat(data.apogee.flux, n_views, axis=0))
    pairs = TensorDataset(torch.from_numpy(copies.reshape(-1, copies.shape[2])), apogee, star)
    while True:
        for batch in DataLoader(pairs, params.starclip.train.batch_size, shuffle=True):
            yield tuple(part.to(device) for part in batch)


def steps_per_second(
    pairs: Iterator[tuple[Tensor, Tensor, Tensor]],
    model: StarCLIP,
    labels: Tensor,
    device: torch.device,
    precision: torch.dtype,
    steps: int,
) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def go(count: int) -> None:
        for _ in range(count):
            flux_a, flux_b, star = next(pairs)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = model(flux_a, flux_b, star, labels[star])
            loss.backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    go(max(3, steps // 10))  # warm up: kernels, caches, the loader
    began = time.perf_counter()
    go(steps)
    return steps / (time.perf_counter() - began)


def main() -> int:
    """Measure both ways; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path(__file__).parent.parent / "params" / "paper.yaml")
    parser.add_argument("--stars", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    try:
        params = load_params(arguments.params)
        device = pick_device(arguments.device)
        data = simulate_survey(arguments.stars, seed=1)
    except StarclipError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    labels = torch.zeros(data.n_stars, 20, device=device)
    ways: dict[str, tuple[Callable, torch.dtype]] = {
        "ours": (our_pairs, pick_precision("auto", device)),
        "the original's way": (loader_pairs, torch.float32),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU, no GPU is measured here"
    print(f"{arguments.params.name}, batch {params.starclip.train.batch_size}, on {name}")
    speed = {}
    for way, (pairs, precision) in ways.items():
        model = new_model(data, params, device)
        speed[way] = steps_per_second(pairs(data, params, device), model, labels, device, precision, arguments.steps)
        print(f"{way:20} {speed[way]:9.1f} steps/s")
    ours, theirs = speed.values()
    train, copies = params.starclip.train, 1 if params.corruption.fresh else params.corruption.n_views
    stars = params.data.n_stars * params.data.split[0] // sum(params.data.split)
    steps = train.epochs * -(-stars * copies // train.batch_size)
    print(f"{'ratio':20} {ours / theirs:9.2f}")
    print(f"the alignment of {arguments.params.name}: {steps:,} steps, {steps / ours / 60:.1f} minutes at our speed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
