"""What a kernel of a class takes: memory that is its own and that kernels share, and time, for some kernels at once.

    python benchmarks/classroom.py runs/quick [--kernels 1 4] [--notebooks 00b_contrastive_from_scratch 06_retrieval]

Each kernel runs a notebook to its end, on one thread, as on a server that a class shares, and then waits with what it
has in memory, as a student's does.  Linux: memory is the proportional set size, which counts shared pages once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.util import run_sync

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parent.parent


class Student:
    """A kernel that has run a notebook."""

    def __init__(self, name: str, run: Path):
        self.desk = tempfile.TemporaryDirectory()
        place = Path(self.desk.name)
        for folder in ("notebooks", "params", f"runs/{run.name}"):
            (place / folder).mkdir(parents=True)
        shutil.copy(ROOT / "params" / f"{run.name}.yaml", place / "params")
        for path in run.resolve().iterdir():  # the room's data and models, metrics and figures of one's own
            if path.is_file() and not path.name.endswith(".lock"):
                (place / "runs" / run.name / path.name).symlink_to(path)
        folder, book = place / "notebooks", nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        self.client = NotebookClient(book, timeout=1200, resources={"metadata": {"path": str(folder)}})

    def work(self) -> float:
        began = time.perf_counter()
        self.client.create_kernel_manager()
        self.client.start_new_kernel()
        self.client.start_new_kernel_client()
        for number, cell in enumerate(self.client.nb.cells):
            if cell.cell_type == "code":
                self.client.execute_cell(cell, number)
        return time.perf_counter() - began

    @property
    def memory(self) -> int:
        return psutil.Process(self.client.km.provisioner.pid).memory_full_info().pss

    def leave(self) -> None:
        run_sync(self.client.km.shutdown_kernel)(now=True)
        self.desk.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--kernels", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--notebooks", nargs="*", default=["00b_contrastive_from_scratch", "06_retrieval"])
    options = parser.parse_args()
    for name in options.notebooks:
        for n in options.kernels:
            students = [Student(name, options.run) for _ in range(n)]
            with ThreadPoolExecutor(n) as pool:
                seconds = list(pool.map(Student.work, students))
            each = sum(student.memory for student in students) / n
            for student in students:
                student.leave()
            print(f"{name}, {n} kernels: {each / 1e9:.2f} GB each, {max(seconds):.0f} s", flush=True)


if __name__ == "__main__":
    main()
