"""Memory and time of stores and of data sets on disk against their size, with exponents: the figure of docs/scale.md.

    python benchmarks/scale.py runs/quick --figure docs/figures/scale.png

Spectra are made on the fly: giants of the atlas, NIRSpec, noise at SNR 50.  The bare encoder's rate on spectra in
memory and the rates of one and two workers are measured in one run.  Memory is the peak of the resident memory of all
processes together, looked at twice a second.  Data sets are opened and trained on, one epoch of the NIRSpec
network, with their spectra on disk; they take 100 kB a star, in SCALE_FOLDER or where temporary files go.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of every process; workers have one anyway

import matplotlib.pyplot as plt
import numpy as np
import psutil
from training_from_disk import watched

from starclip_lib.data.simulate import write_survey
from starclip_lib.inference.posterior import DIAGONAL, WIDTH
from starclip_lib.lab.widgets.store_browser import StoreBrowser
from starclip_lib.models.checkpoint import Model
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import giants
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.run import open_run
from starclip_lib.settings.data import DataParams
from starclip_lib.survey.cluster import cluster, compute
from starclip_lib.survey.embedding import Done, Setup, describe_model, embed
from starclip_lib.survey.formats import MODEL, About, Input, Part, write_part
from starclip_lib.survey.searching import search
from starclip_lib.survey.sources import ROWS, Task
from starclip_lib.survey.store import Store

SNR = 50.0


class Peak:
    """The most memory that this process and its children had together."""

    def __init__(self) -> None:
        self.bytes, self._end = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        me, ended = psutil.Process(), False
        while not ended:
            ended, total = self._end.wait(0.5), 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


def spectra(start: int, stop: int) -> np.ndarray:
    """NIRSpec spectra (n, 8192) of giants, with noise; the same whoever makes them."""
    rng, atlas = np.random.default_rng([11, start]), giants().atlas
    clean = default_emulator()(atlas[np.arange(start, stop) % len(atlas)], NIRSPEC)
    return (clean + rng.normal(0, 1 / SNR, clean.shape)).astype(np.float32)


@cache
def model(path: str) -> Model:
    return Model.load(path)


def work(task: Task, setup: Setup) -> Done:
    """What a worker does with a task here: `embed_task`, with spectra out of nothing."""
    (one,) = task.inputs
    found = model(setup.model)
    out = embed(found.encoders["nirspec"], found.scaler, spectra(one.start, one.stop))
    n = one.stop - one.start
    rows = {"star_id": [f"M{i}" for i in range(one.start, one.stop)], "file": ["made"] * n,
            "row": range(one.start, one.stop), "instrument": ["nirspec"] * n, "verdict": out.verdict,
            "labels_from": [MODEL] * n, "from_prior": [""] * n}  # fmt: skip
    part = Part(model_sha256=setup.about.model_sha256, instrument="nirspec", rows=n, inputs=task.inputs)
    path = write_part(Path(setup.store), setup.about, part, rows, out.z, out.labels, out.sigma, out.posterior)
    return Done(n, path.stat().st_size)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_FOLDER")) as name:
        yield Path(name)


def embedding(run: Path, n: int, workers: int) -> dict[str, float]:
    file = run.resolve() / "starclip.ckpt"
    tasks = [
        Task("made", "nirspec", (Input("made", 0, 0, i, min(i + ROWS, n)),)) for i in range(0, n, ROWS)
    ]  # fmt: skip
    with folder() as store, Peak() as peak:
        setup = Setup(str(store), str(file), describe_model(file), open_run(run).params.model_dump_json())
        Store.create(store, setup.about)
        with cluster(workers, "", lambda line: None) as client:
            compute(client, tasks[:workers], setup, lambda line: None, work)  # imports, model: not the rate
            began = time.perf_counter()
            compute(client, tasks[workers:], setup, print, work)
            seconds = time.perf_counter() - began
        assert len(Store(store)) == n
    done = n - min(n, workers * ROWS)
    return {"n": n, "workers": workers, "rate": done / seconds, "seconds": n * seconds / done, "memory": peak.bytes}


def bare(run: Path, n: int = 2048) -> float:
    """Spectra a second that the encoder embeds from memory, on one thread."""
    found, flux = model(str(run.resolve() / "starclip.ckpt")), spectra(0, n)
    embed(found.encoders["nirspec"], found.scaler, flux[:256])
    began = time.perf_counter()
    embed(found.encoders["nirspec"], found.scaler, flux)
    return n / (time.perf_counter() - began)


def random_posteriors(rng: np.random.Generator, n: int) -> np.ndarray:
    """Posteriors (n, 230) ten times as precise as the population."""
    kept = rng.normal(size=(n, WIDTH)).astype(np.float32)
    kept[:, DIAGONAL] = 10 + np.abs(kept[:, DIAGONAL])
    return kept


def random_store(folder: Path, n: int, dim: int = 23) -> Store:
    """A store of unit vectors and posteriors drawn at random, in parts as `starclip embed` leaves them."""
    rng = np.random.default_rng(3)
    about = About(model="none", model_sha256="0" * 64, emulator="none", package="none", dim=dim, posterior=True)
    Store.create(folder, about)
    for number, start in enumerate(range(0, n, ROWS)):
        m = min(ROWS, n - start)
        z = rng.normal(size=(m, dim)).astype(np.float32)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        rows = {
            "star_id": [f"M{i}" for i in range(start, start + m)],
            "file": ["made"] * m,
            "row": range(m),
            "instrument": ["nirspec"] * m,
            "verdict": ["good"] * m,
            "labels_from": [MODEL] * m,
        }
        part = Part(model_sha256="0" * 64, instrument="nirspec", rows=m, inputs=(Input("made", 0, number),))
        kept = random_posteriors(rng, m)
        write_part(folder, about, part, rows, z, rng.normal(size=(m, 20)), np.zeros((m, 20)), kept)
    return Store(folder)


def querying(n: int, queries: int = 100, k: int = 10) -> dict[str, float]:
    with folder() as place:
        store = random_store(place, n)
        asked = np.random.default_rng(5).normal(size=(queries, store.about.dim))
        with Peak() as peak:
            began = time.perf_counter()
            search(store, asked, k, posterior=random_posteriors(np.random.default_rng(6), queries))
            seconds = time.perf_counter() - began
    return {"n": n, "seconds": seconds, "memory": peak.bytes}


def browsing(n: int) -> dict[str, float]:
    """Opening a store in the browser, and the median of twenty clicks."""
    with folder() as place:
        store = random_store(place, n)
        with Peak() as peak:
            began = time.perf_counter()
            browser = StoreBrowser(store)
            opening, clicks = time.perf_counter() - began, []
            for row in np.random.default_rng(5).integers(n, size=20):
                began = time.perf_counter()
                browser.choose(int(row))
                clicks.append(time.perf_counter() - began)
    return {"n": n, "opening": opening, "click": float(np.median(clicks)), "memory": peak.bytes}


def opening(n: int) -> dict[str, float]:
    """Opening a data set whose spectra stay on disk, and one epoch of a training, in a process of their own."""
    with folder() as place:
        write_survey(place / f"data-{n}.h5", n, 1, DataParams())
        script = Path(__file__).with_name("training_from_disk.py")
        found, peak = watched([sys.executable, str(script), "--stars", str(n), "--folder", str(place), "--memory", "0"])
    return {"n": n, **found, "memory": peak}


def exponent(rows: list[dict[str, float]], what: str) -> float:
    """Of a power law through the largest three, to two digits."""
    last = rows[-3:]
    power = np.polyfit(np.log([row["n"] for row in last]), np.log([row[what] for row in last]), 1)[0]
    return round(float(power), 2) + 0.0  # no -0.0


def draw(found: dict, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    embedded = [row for row in found["embedding"] if row["workers"] == 1]
    lines = (
        (embedded, "seconds", "embedding, one worker", "o-"),
        (found["querying"], "seconds", "100 queries, k = 10", "s--"),
        (found["opening"], "epoch", "an epoch of training", "^-."),
        (found["opening"], "opening", "opening a data set", "v:"),
    )
    for rows, what, label, style in lines:
        if len(rows) > 1:
            n, power = [row["n"] for row in rows], exponent(rows, what)
            (line,) = left.loglog(n, [row[what] for row in rows], style, label=f"{label}: $n^{{{power:.2f}}}$")
            if what != "opening":  # in one process with the epoch
                memory, power = [row["memory"] / 1e9 for row in rows], exponent(rows, "memory")
                right.loglog(n, memory, style, color=line.get_color(), label=f"{label}: $n^{{{power:.2f}}}$")
    for ax, title in ((left, "seconds"), (right, "peak memory [GB]")):
        ax.set(xlabel="stars", ylabel=title)
        ax.grid(alpha=0.3)
        ax.legend(loc="upper left")
    left.set(ylim=(None, 1e6))
    right.set(ylim=(0.3, 10))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/quick")
    parser.add_argument("--stars", type=int, nargs="*", default=[4096, 12_288, 49_152], help="more than 1,024 a worker")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--embeddings", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--opened", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--browsed", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    if (few := min(options.stars, default=0)) and few <= ROWS * max(options.workers):
        parser.error(f"--stars: {few} are done by the first task of each worker, which is not timed")
    found: dict = {"bare": bare(options.run), "embedding": [], "querying": [], "opening": []}
    print(f"bare encoder, one thread: {found['bare']:.0f} spectra/s")
    for n in options.stars:
        for workers in options.workers:
            row = embedding(options.run, n, workers)
            found["embedding"].append(row)
            print(f"{n:,} spectra, {workers} workers: {row['rate']:.0f}/s ({row['rate'] / found['bare']:.2f} of bare), "
                  f"{row['memory'] / 1e9:.2f} GB", flush=True)  # fmt: skip
    for n in options.embeddings:
        row = querying(n)
        found["querying"].append(row)
        print(f"{n:,} embeddings: 100 queries in {row['seconds']:.2f} s, {row['memory'] / 1e9:.2f} GB", flush=True)
    for n in options.opened:
        row = opening(n)
        found["opening"].append(row)
        print(f"{n:,} stars on disk: opened in {row['opening']:.2f} s, an epoch {row['epoch']:.1f} s "
              f"({row['rate']:.0f}/s), {row['memory'] / 1e9:.2f} GB", flush=True)  # fmt: skip
    for n in options.browsed:
        row = browsing(n)
        print(f"browser of {n:,} embeddings: opened in {row['opening']:.1f} s, a click {row['click']:.2f} s, "
              f"{row['memory'] / 1e9:.2f} GB", flush=True)  # fmt: skip
    print(json.dumps(found))
    if options.figure:
        draw(found, options.figure)


if __name__ == "__main__":
    main()
