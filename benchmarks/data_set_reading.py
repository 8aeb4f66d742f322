"""What the checks of a data set cost: `PairedSpectra.read` against h5py alone, and a model with and without checksums.

    python benchmarks/data_set_reading.py [--stars 2000]

Both of a pair are measured in turn, in one process; the ratio of the medians is what counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import numpy as np

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.training import EncoderParams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=2000)
    stars = parser.parse_args().stars
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        simulate_survey(stars, 1, DataParams(n_stars=stars)).write(path)
        compare(
            f"data set of {stars:,} stars",
            {"h5py alone": lambda: plain(path), "checked": lambda: PairedSpectra.read(path)},
        )
        model = Path(folder) / "model.ckpt"
        encoder = make_encoder(NIRSPEC, EncoderParams(width=1024), 1)
        Model({"nirspec": encoder}, LabelScaler(np.zeros(20), np.ones(20)), History(), 1.0).save(model)
        name = f"model of {model.stat().st_size / 1e6:.0f} MB"
        compare(name, {"STARCLIP_CHECKSUMS=skip": lambda: loaded(model, "skip"), "verified": lambda: loaded(model, "")})


def plain(path: Path) -> None:
    """All arrays that a run reads, as they are."""
    with h5py.File(path) as file:
        arrays = [file[key][:] for key in ("labels", "label_errors", "split")]
        arrays += [file[f"{name}/{key}"][:] for name in ("apogee", "nirspec") for key in ("flux", "mask")]
        arrays.append(file["star_id"].asstr()[:])


def loaded(path: Path, checksums: str) -> None:
    os.environ["STARCLIP_CHECKSUMS"] = checksums
    Model.load(path)


def compare(what: str, ways: dict[str, Callable[[], object]], rounds: int = 7) -> None:
    """Print the median time of each way and the ratio of the last to the first."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    medians = {name: median(values) for name, values in times.items()}
    first, *_, last = medians.values()
    shown = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in medians.items())
    print(f"{what}: {shown}; ratio {last / first:.2f}")


if __name__ == "__main__":
    main()
