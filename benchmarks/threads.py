"""What a small training costs when threads spin while they wait, and when they sleep, alone and beside busy programs.

    python benchmarks/threads.py [--busy 2]

Prints seconds for 300 steps of a small network in processes of their own; importing starclip_lib makes threads sleep.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

TRAINING = """
import time, torch
torch.manual_seed(0)
widths = (64, 512, 512, 20)
model = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])))
optimiser, x, y = torch.optim.AdamW(model.parameters()), torch.randn(512, 64), torch.randn(512, 20)
began = time.perf_counter()
for _ in range(300):
    optimiser.zero_grad()
    ((model(x) - y) ** 2).mean().backward()
    optimiser.step()
print(time.perf_counter() - began)
"""


def seconds(**settings: str) -> float:
    """The training's time in a process with environment variables of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", TRAINING]
    return float(subprocess.run(command, env=kept | settings, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="programs that compute beside it")
    arguments = parser.parse_args()
    kinds = {
        "threads spin": {},
        "threads sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
        "one thread": {"OMP_NUM_THREADS": "1"},
    }
    alone = {name: seconds(**settings) for name, settings in kinds.items()}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.busy)]
    try:
        beside = {name: seconds(**settings) for name, settings in kinds.items()}
    finally:
        for program in busy:
            program.kill()
    print(f"{'':<16}{'alone [s]':>12}{f'beside {arguments.busy} [s]':>16}{'times':>8}")
    for name in kinds:
        print(f"{name:<16}{alone[name]:>12.1f}{beside[name]:>16.1f}{beside[name] / alone[name]:>8.1f}")


if __name__ == "__main__":
    main()
