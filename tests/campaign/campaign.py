"""Thousands of damaged inputs, made from the declarations of what is read: `make campaign`.

    python tests/campaign/campaign.py [--tenth K] [--only TEXT] [--seed N]

Each case runs in a process of its own.  It passes if it is refused in one line that names the file, or read as it was
where it still is what it should be; within 30 s and 1 GB; and if nothing is left behind.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import command_cases  # noqa: E402
import fits_cases  # noqa: E402
import hdf5_cases  # noqa: E402
import pandas_cases  # noqa: E402
import store_cases  # noqa: E402
import table_cases  # noqa: E402
import tensor_cases  # noqa: E402
import text_cases  # noqa: E402
import torch  # noqa: E402
from cases import Case, judged  # noqa: E402

CASES: list[Case] = []  # forked workers find them here; a case itself cannot be sent
MODULES = (hdf5_cases, tensor_cases, text_cases, fits_cases, pandas_cases, table_cases, store_cases, command_cases)


def judge(number: int) -> str:
    return judged(CASES[number])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tenth", action="store_true", help="a tenth of the cases, another one every day")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seed", type=int, default=date.today().toordinal(), help="of the bits that are flipped")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, failed, count = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for module in MODULES for case in module.cases(Path(folder), arguments.seed)]
        cases = [case for case in cases if arguments.only in case.name]
        CASES[:] = cases[arguments.seed % 10 :: 10] if arguments.tenth else cases
        print(f"{len(CASES)} damaged inputs, seed {arguments.seed}", flush=True)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for case, wrong in zip(CASES, pool.imap(judge, range(len(CASES)), 8), strict=True):
                count += 1
                if wrong:
                    failed += 1
                    print(f"FAILED {case.name}: {wrong}", flush=True)
                if count % 500 == 0:
                    print(f"{count} of {len(CASES)}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{count - failed} passed, {failed} failed")
    return int(failed > 0 or not count)


if __name__ == "__main__":
    sys.exit(main())
