"""Rate and memory of a training whose spectra stay on disk, and of the same training with all spectra in memory.

    python benchmarks/training_from_disk.py [--stars 100000] [--epochs 1] [--folder FOLDER] [--instrument nirspec]

Simulates the stars into FOLDER (made anew unless it is there; 100 kB a star), then trains a network of the default run
on them, in a process of its own for each: spectra on disk, in memory, on disk.  The models must be the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from starclip_lib.data.simulate import write_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import Model
from starclip_lib.settings.params import changed_params, load_params
from starclip_lib.training.recipes import train_encoder

ROOT = Path(__file__).resolve().parent.parent


def train(data: Path, instrument: str, epochs: int, memory: float, model: Path) -> None:
    """In a process of its own: read, train, and say how fast."""
    params = load_params(ROOT / "params" / "quick.yaml")
    params = changed_params(params, {"pretrain": {instrument: {"epochs": epochs}}})
    began = time.perf_counter()
    stars = PairedSpectra.read(data, memory=memory)
    opened = time.perf_counter() - began
    train_encoder(model, stars, params, instrument)
    seconds = Model.load(model).history.seconds
    print(json.dumps({"opening": opened, "epoch": sum(seconds) / epochs,
                      "rate": len(stars.rows("train")) * epochs / sum(seconds)}))  # fmt: skip


def watched(command: list[str]) -> tuple[dict[str, float], int]:
    """What a process prints, and the most memory it had."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            try:
                peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.05)
        assert process.stdout is not None
        return json.loads(process.stdout.read()), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stars", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--instrument", choices=["nirspec", "apogee"], default="nirspec")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "training-from-disk")
    parser.add_argument("--memory", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    data, model = options.folder / f"data-{options.stars}.h5", options.folder / f"model-{options.memory}.ckpt"
    if options.memory is not None:
        train(data, options.instrument, options.epochs, options.memory, model)
        return
    if not data.is_file():
        began = time.perf_counter()
        write_survey(data, options.stars, 1, load_params(ROOT / "params" / "quick.yaml").data)
        peak = psutil.Process().memory_info().rss / 1e9
        print(f"{options.stars:,} stars simulated in {time.perf_counter() - began:.0f} s, {peak:.2f} GB, "
              f"{data.stat().st_size / 1e9:.1f} GB on disk", flush=True)  # fmt: skip
    for memory in (0.0, float("inf"), 0.0):
        found, peak = watched([sys.executable, __file__, *sys.argv[1:], "--memory", str(memory)])
        print(f"{'in memory' if memory else 'on disk  '}: {found['rate']:.0f} spectra/s, opened in "
              f"{found['opening']:.1f} s, {peak / 1e9:.2f} GB", flush=True)  # fmt: skip
    one, other = (Model.load(options.folder / f"model-{memory}.ckpt").encoders for memory in (0.0, float("inf")))
    states = [encoders[options.instrument].state_dict() for encoders in (one, other)]
    print("the same model:", all((states[0][key] == states[1][key]).all() for key in states[0]))


if __name__ == "__main__":
    main()
