"""The command itself: absurd arguments, closed and full outputs, folders where files belong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cases import Case
from damage import NASTY, put

from starclip_lib.support.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def project(folder: Path) -> None:
    (folder / "notebooks").mkdir()
    (folder / "params").mkdir()
    shutil.copy(ROOT / "params" / "small.yaml", folder / "params")


def door(*words: str, **how: Any) -> Callable[[Path], str]:
    """Runs the command in a project; raises what it said, if that is one line and status 1."""

    def run(path: Path) -> str:
        command = [sys.executable, "-m", "starclip_lib.lab.cli", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=path.parent, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
            timeout=250, **{"stdout": subprocess.DEVNULL, **how},
        )  # fmt: skip
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode == 2:  # argparse: usage, then one line
            said = said.splitlines()[-1] if said else ""
        elif done.returncode == 0:
            return "fine"
        elif done.returncode == 1 and said.startswith("starclip: error: ") and said.count("\n") == 1:
            said = said.strip()
        else:
            raise RuntimeError(f"status {done.returncode}: {said[-300:]}")
        raise DataError(f"{path.name}: {said}")

    return run


def place(folder: Path) -> Path:
    project(folder)
    return folder / "here"


def cases(folder: Path, seed: int) -> Iterator[Case]:
    small = "params/small.yaml"
    wrong: list[tuple[str, ...]] = [
        (), ("nonsense",), ("run",), ("run", "nowhere.yaml"), ("run", "."), ("run", "/dev/zero"), ("run", "x" * 3000), ("run", small, "--set", "seed"),
        ("run", small, "--set", "nonsense=1"), ("run", small, "--set", "data.n_stars=1000000000000"), ("run", small, "--set", "device=cuda:99"),
        ("run", small, "--set", "data.file=nowhere.h5"), ("run", small, "--set", "data.file=."), ("run", small, "--observed", "nowhere"),
        ("run", small, "--observed", "/dev/null"), ("observe", "nowhere"), ("observe", "nowhere", "--params", small), ("observe", ".", "--params", small),
        ("train", "nowhere.yaml"), ("evaluate", "nowhere.yaml"), ("evaluate", small), ("browse", small), ("browse", "nowhere.yaml"), ("browse", small, "--port", "x"),
        ("fetch",), ("fetch", "gaia"), ("fetch", "apogee", "nowhere.yaml"), ("compare", "a"), ("compare", "a", "b"), ("compare", "x" * 3000, "b"),
        ("compare", "/dev/zero", "b"), ("import-original",), ("import-original", "--jwst", "a", "--allstar", "b", "--spectra", "c"),
        ("import-original", "--jwst", ".", "--allstar", ".", "--spectra", "."),
        ("import-original", "--jwst", small, "--allstar", small, "--spectra", small, "--output", small),
        ("fetch", "apogee", small, "--set", "data.archive.base_url=http://127.0.0.1:9/", "--set", "data.archive.attempts=1"),
        ("fetch", "apogee", small, "--set", "data.archive.base_url=ftp://x/"),
    ]  # fmt: skip
    for words in wrong:
        yield Case(f"starclip {' '.join(words)[:80]}", place, door(*words))
    for what, text in NASTY.items():
        if "\0" not in text and len(text) < 100_000:
            yield Case(f"starclip run, a file of {what}", place, door("run", text))
            yield Case(f"starclip run, a name of {what}", place, door("run", small, "--set", f"name='{text}'"))

    def file_for_folder(folder: Path) -> Path:
        project(folder)
        put(folder / "runs", b"a file")
        return folder / "here"

    yield Case("starclip train, a file where runs belongs", file_for_folder, door("train", small))
    for what, stream in (("full", "/dev/full"), ("closed", None)):

        def output(path: Path, stream: str | None = stream) -> str:
            target = open(stream, "w") if stream else None  # noqa: SIM115
            closing = {} if stream else {"stdout": None, "preexec_fn": lambda: os.close(1)}
            return door("compare", "a", "b", **({"stdout": target} if target else closing))(path)

        yield Case(f"starclip compare, {what} output", place, output)

    def help_to_full(path: Path) -> str:
        with open("/dev/full", "w") as full:
            return door("train", small, stdout=full)(path)

    yield Case("starclip train, full output", place, help_to_full)
