"""Two notebooks on an idle machine and beside a busy program on every core, in one run: how much slower are they?

    python benchmarks/busy_notebooks.py

The tour and contrastive learning from scratch, which need no run, each in a kernel of its own as a student starts it.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import papermill

from starclip_lib.threads import usable_cores

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ("00_tour", "00b_contrastive_from_scratch")


def spin() -> None:
    while True:
        pass


def seconds(name: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        notebook = ROOT / "notebooks" / f"{name}.ipynb"
        papermill.execute_notebook(
            notebook, Path(folder) / "out.ipynb", kernel_name="python3", progress_bar=False, cwd=notebook.parent
        )
        return time.perf_counter() - began


def main() -> None:
    for name in NOTEBOOKS:
        seconds(name)  # what is read from disk once
        idle = seconds(name)
        others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(usable_cores())]
        for other in others:
            other.start()
        busy = seconds(name)
        for other in others:
            other.kill()
        print(
            f"{name}: {idle:.1f} s idle, {busy:.1f} s beside {len(others)} busy programs, {busy / idle:.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
