"""The wheel in an empty environment and an empty folder: what `pip install starclip` brings, and what an extra does.

Builds both distributions and installs them twice; some five minutes and 3 GB.  `make test-package` runs it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nirspec_files import spec1d_bytes

from starclip_lib.data.spectra import PairedSpectra


def run(*command: str | Path, folder: Path, fine: bool = True) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run([*map(str, command)], cwd=folder, env=clean, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0 or not fine, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, made from what git knows, and the wheel, made from the sdist."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT).stdout
    for name in listed.strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--outdir", dist, source, folder=source)
    return dist


@pytest.fixture(scope="session")
def place(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with nothing but an environment into which the wheel was installed, without extras."""
    folder = tmp_path_factory.mktemp("place")
    venv.create(folder / "venv", with_pip=True)
    install(folder, built, "")
    yield folder
    shutil.rmtree(folder)  # two gigabytes


def install(folder: Path, built: Path, extra: str) -> None:
    (wheel,) = built.glob("*.whl")
    pip = (folder / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--constraint", ROOT / "lock.txt", f"starclip{extra} @ file://{wheel}", folder=folder)


def test_both_distributions_are_complete(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    brought = set(zipfile.ZipFile(wheel).namelist())
    for path in ("physics/emulator.npz", "workspace/notebooks/00_tour.ipynb", "workspace/params/quick.yaml"):
        assert f"starclip_lib/{path}" in brought
    for folder, ending in (("starclip_lib", ".py"), ("starclip_lib/lab/templates", ".j2")):
        for path in (ROOT / folder).glob(f"*{ending}"):
            assert str(path.relative_to(ROOT)) in brought
    assert not [name for name in brought if name.startswith(("tests", "notebooks", "benchmarks"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "LICENSE", "tests/conftest.py", "lock.txt", "notebooks/00_tour.py"} <= names
    print(f"wheel {wheel.stat().st_size / 1e6:.1f} MB, sdist {sdist.stat().st_size / 1e6:.1f} MB")


def test_measuring_straight_after_the_installation(
    place: Path, survey: PairedSpectra, rng: np.random.Generator
) -> None:
    starclip = place / "venv" / "bin" / "starclip"
    spec1d_bytes(place / "spec1d_a.fits", survey.nirspec.flux[3], rng)
    assert "observed" in run(starclip, "observe", "spec1d_a.fits", folder=place).stdout
    assert (place / "observed" / "observed.ecsv").is_file()
    assert "none here" in run(starclip, "doctor", folder=place).stdout
    refused = run(starclip, "evaluate", "quick", folder=place, fine=False)
    assert refused.stderr.startswith("starclip: error")
    size = sum(path.stat().st_size for path in (place / "venv").rglob("*") if path.is_file())
    began = time.perf_counter()
    run(place / "venv" / "bin" / "python", "-c", "import starclip_lib", folder=place)
    print(f"environment without extras {size / 1e9:.2f} GB, import {time.perf_counter() - began:.2f} s")


def test_a_workspace_runs(place: Path, built: Path) -> None:
    starclip, mine = place / "venv" / "bin" / "starclip", place / "my-stars"
    run(starclip, "new", "my-stars", folder=place)
    refused = run(starclip, "run", "small", folder=mine, fine=False)
    assert "pip install 'starclip[notebooks]'" in refused.stderr
    install(place, built, "[browse]")
    run(starclip, "run", "small", folder=mine)
    assert (mine / "reports" / "small" / "index.html").is_file()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [starclip, "browse", "small", "--no-browser", "--port", port]
    page = subprocess.Popen(
        command, cwd=mine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert page.stdout is not None
    try:
        said = []
        for line in page.stdout:
            said.append(line)
            if f":{port}" in line:
                break
        assert f":{port}" in said[-1], said
    finally:
        os.killpg(page.pid, signal.SIGTERM)
        page.wait(30)
    size = sum(path.stat().st_size for path in (place / "venv").rglob("*") if path.is_file())
    print(f"environment with notebooks and browser {size / 1e9:.2f} GB")
