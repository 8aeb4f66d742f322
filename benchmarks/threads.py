"""What small trainings cost alone and beside busy programs: threads that spin or sleep while they wait, and notebooks.

    python benchmarks/threads.py [--busy 2] [--notebooks 00b_contrastive_from_scratch 00_tour]

Prints seconds for 300 steps of a small network in processes of their own (importing starclip_lib makes threads sleep),
and for notebooks as they are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent

TRAINING = """
import time, torch
torch.manual_seed(0)
widths = (64, 512, 512, 20)
model = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])))
optimiser, x, y = torch.optim.AdamW(model.parameters()), torch.randn(512, 64), torch.randn(512, 20)
began = time.perf_counter()
for _ in range(300):
    optimiser.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    optimiser.step()
print(time.perf_counter() - began)
"""


def seconds(**settings: str) -> float:
    """The training's time in a process with environment variables of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", TRAINING]
    return float(subprocess.run(command, env=kept | settings, capture_output=True, text=True, check=True).stdout)


def notebook_seconds(name: str) -> float:
    """A notebook's time, kernel and imports included."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    began = time.perf_counter()
    NotebookClient(book, timeout=3600, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="programs that compute beside it")
    parser.add_argument("--notebooks", nargs="*", default=["00b_contrastive_from_scratch", "00_tour"])
    arguments = parser.parse_args()
    work: dict[str, Callable[[], float]] = {
        "threads spin": lambda: seconds(),
        "threads sleep": lambda: seconds(OMP_WAIT_POLICY="PASSIVE"),
        "one thread": lambda: seconds(OMP_NUM_THREADS="1"),
        **{name: lambda name=name: notebook_seconds(name) for name in arguments.notebooks},
    }
    alone = {name: measure() for name, measure in work.items()}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.busy)]
    try:
        beside = {name: measure() for name, measure in work.items()}
    finally:
        for program in busy:
            program.kill()
    print(f"{'':<28}{'alone [s]':>12}{f'beside {arguments.busy} [s]':>16}{'times':>8}")
    for name in work:
        print(f"{name:<28}{alone[name]:>12.1f}{beside[name]:>16.1f}{beside[name] / alone[name]:>8.1f}")


if __name__ == "__main__":
    main()
