"""A project of its own for commands that are disturbed, and what they must end in."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "starclip_lib.lab.cli", "run", "params/small.yaml"]


def parser_of(documentation: str) -> argparse.ArgumentParser:
    """What all these scripts ask for; the first line of their documentation says what they do."""
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--like", type=Path, help="a project with an undisturbed run of this version; made if not given"
    )
    return parser


def new_project(folder: Path) -> Path:
    """Notebooks and parameters of this project in an empty folder."""
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def start(project: Path, log: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as out:
        return subprocess.Popen(
            COMMAND,
            cwd=project,
            env=environment,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def metrics_of(project: Path) -> dict[str, Any]:
    """All numbers of a report but those that say how long it took."""
    metrics = json.loads((project / "reports" / "small" / "metrics.json").read_text())
    for key in ("seconds", "encoders"):
        metrics[key] = _without_times(metrics[key])
    return metrics


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {
            key: _without_times(value)
            for key, value in content.items()
            if key not in ("seconds",) and not key[:1].isdigit()
        }
    return content


def expected_metrics(like: Path | None, scratch: Path) -> dict[str, Any]:
    """The metrics of an undisturbed run: of a project that has one, or made in `scratch`."""
    if like:
        return metrics_of(like)
    project = new_project(scratch / "undisturbed")
    log = project / "log.txt"
    if start(project, log).wait():
        raise SystemExit(f"the undisturbed run failed: {log.read_text()}")
    return metrics_of(project)
