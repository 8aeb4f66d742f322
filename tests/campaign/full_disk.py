"""A disk that fills up at random moments of `starclip run params/small.yaml`: nothing is lost, and the command goes on.

    python tests/campaign/full_disk.py FOLDER [--moments 10] [--seed N]

FOLDER is an empty folder on a small disk of its own, such as `mount -t tmpfs -o size=600m tmpfs FOLDER`.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from scratch import expected_metrics, metrics_of, new_project, parser_of, start


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=10)
    arguments = parser.parse_args()
    rng, failed = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        expected = expected_metrics(arguments.like, Path(scratch))
        project, log = new_project(arguments.folder / "project"), Path(scratch) / "log.txt"
        for moment in range(arguments.moments):
            command = start(project, log)
            with suppress(subprocess.TimeoutExpired):
                command.wait(rng.uniform(2, 25))
            before = _made(project)
            _fill(arguments.folder / "filler")
            status = command.wait(300)
            said = [line for line in log.read_text().splitlines() if "error" in line.lower() or "Traceback" in line]
            lost = sorted(before - _made(project))
            (arguments.folder / "filler").unlink()
            good = not lost and (
                status == 0 or (status == 1 and len(said) == 1 and said[0].startswith("starclip: error: "))
            )
            failed += not good
            print(
                f"moment {moment + 1}: status {status}, {said}, lost {lost}: {'good' if good else 'NOT GOOD'}",
                flush=True,
            )
        status = start(project, log).wait()
        same = status == 0 and metrics_of(project) == expected
        failed += not same
        print(f"with room again: status {status}, {'the same metrics' if same else log.read_text()[-1500:]}")
    print(f"{arguments.moments + 1 - failed} passed, {failed} failed")
    return int(failed > 0)


def _made(project: Path) -> set[str]:
    """The finished files of the run: those without a temporary name."""
    found = [path for name in ("runs", "reports") for path in (project / name).rglob("*") if path.is_file()]
    return {str(path) for path in found if not path.name.startswith(".") and path.suffix != ".resume"}


def _fill(path: Path) -> None:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(size))


if __name__ == "__main__":
    sys.exit(main())
