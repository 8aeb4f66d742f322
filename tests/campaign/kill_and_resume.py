"""kill -9 at random moments of `starclip run params/small.yaml`; each run, resumed, must end in an undisturbed one's metrics.

    python tests/campaign/kill_and_resume.py [--kills 50] [--runs 5] [--seed N]

The kills are shared out over some runs; every second one kills the command alone, the others its kernel and all, too.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scratch import expected_metrics, metrics_of, new_project, parser_of, start


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    rng, failed = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        expected = expected_metrics(arguments.like, Path(scratch))
        print("undisturbed: done", flush=True)
        for number in range(arguments.runs):
            project = new_project(Path(scratch) / f"run{number}")
            kills = arguments.kills // arguments.runs
            moments = [disturbed(project, rng, alone=bool(kill % 2)) for kill in range(kills)]
            last = start(project, project / "log.txt").wait()
            same = last == 0 and metrics_of(project) == expected
            failed += not same
            places = ", ".join(filter(None, moments))
            print(
                f"run {number + 1}: {kills} kills ({places}): {'same metrics' if same else 'NOT THE SAME'}", flush=True
            )
            if last:
                print((project / "log.txt").read_text()[-2000:])
    print(f"{arguments.runs - failed} passed, {failed} failed")
    return int(failed > 0)


def disturbed(project: Path, rng: random.Random, alone: bool) -> str:
    """Start the command and kill it; says in which notebook it was."""
    log = project / "log.txt"
    command = start(project, log)
    try:
        if rng.random() < 0.6:  # get somewhere first: until one more notebook is done
            while command.poll() is None and not re.search(r": \d+ s$", log.read_text(), re.MULTILINE):
                time.sleep(0.2)
        command.wait(rng.uniform(0.2, 20))
        return "after its end"
    except subprocess.TimeoutExpired:
        (os.kill if alone else os.killpg)(command.pid, signal.SIGKILL)
        command.wait()
    lines = [line for line in log.read_text().splitlines() if line.endswith(" ...")]
    return lines[-1].split("] ")[1].split(" ")[0][:3].rstrip("_") if lines else "at the beginning"


if __name__ == "__main__":
    sys.exit(main())
