"""A project of its own for commands that are disturbed, and what they must end in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "starclip_lib.cli", "run", "params/small.yaml"]


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


def undisturbed(folder: Path) -> dict[str, Any]:
    project = new_project(folder)
    log = folder / "log.txt"
    if start(project, log).wait():
        raise SystemExit(f"the undisturbed run failed: {log.read_text()}")
    return metrics_of(project)
