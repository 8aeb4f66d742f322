"""kill -9 at random moments of `starclip embed`, of the command or of its worker; the store must be an undisturbed one's.

    python tests/campaign/kill_embedding.py [--run runs/quick] [--kills 10] [--seed N]

Embeds both sides of the run's data set in tasks of 128 rows.  A command whose worker was killed goes on by itself.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """import sys
from starclip_lib.lab.cli import main
from starclip_lib.survey import sources

sources.ROWS = 128
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quick")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "embed.py"
        script.write_text(SCRIPT)

        def start(output: str) -> subprocess.Popen:
            given = [
                "embed",
                options.run / "data.h5",
                "--params",
                options.run,
                "--instrument",
                "both",
                "--workers",
                "1",
            ]
            command = [sys.executable, script, *given, "--output", Path(scratch) / output]
            return subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL)

        began = time.monotonic()
        assert start("whole").wait() == 0
        lasts = time.monotonic() - began
        print(f"undisturbed: {lasts:.0f} s", flush=True)
        folder = Path(scratch) / "disturbed"
        for kill in range(options.kills):
            command = start("disturbed")
            with suppress(subprocess.TimeoutExpired):
                command.wait(rng.uniform(1, lasts / 2))
            whom = "command" if kill % 2 else "worker"
            if command.poll() is None:
                if whom == "worker":
                    with suppress(psutil.Error, ValueError):
                        children = psutil.Process(command.pid).children(recursive=True)
                        max(children, key=lambda child: child.memory_info().rss).kill()
                    with suppress(subprocess.TimeoutExpired):
                        command.wait(rng.uniform(1, 10))
                command.send_signal(signal.SIGKILL)
            command.wait()
            print(f"kill {kill + 1} ({whom}): {len(list(folder.glob('part-*.parquet')))} parts", flush=True)
        assert start("disturbed").wait() == 0
        same = content(folder).equals(content(Path(scratch) / "whole"))
        left = [path.name for path in folder.glob(".*")]
    print(
        f"the store {'is' if same else 'is NOT'} that of an undisturbed run{f'; left behind: {left}' if left else ''}"
    )
    return int(not same or bool(left))


def content(folder: Path) -> pd.DataFrame:
    """All rows of a store, embeddings and posteriors as bytes."""
    table = pd.concat([pq.read_table(path).to_pandas() for path in folder.glob("part-*.parquet")])
    for name in {"embedding", "posterior"} & set(table.columns):
        table[name] = [np.asarray(values, np.float32).tobytes() for values in table[name]]
    return table.sort_values(["instrument", "row"]).reset_index(drop=True)


if __name__ == "__main__":
    sys.exit(main())
