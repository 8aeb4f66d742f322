"""How long the page of `starclip browse` takes to open, visit after visit, in headless Chromium.

    python benchmarks/browser_opening.py [params/quick.yaml] [--visits 3] [--pause 15]

Needs a finished run.  Prints seconds until the command has printed its address, and then for each visit until the page
shows map, table and spectra, with the seconds of processor time that Chromium took (it draws WebGL in software here).
The pause between visits is the time in which the server makes the next kernel ready; with 0 a visit waits for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))
from servers import ARGUMENTS, MINUTE, free_port, printed_address, stop  # noqa: E402

OPEN = """() => {
  const plots = [...document.querySelectorAll('.js-plotly-plot')];
  return plots.length >= 3 && plots.every(plot => plot._fullData)
    && document.querySelectorAll('.dt-container tbody tr').length > 3;
}"""


def chromium_seconds() -> float:
    """Processor time of all processes below this one that belong to Chromium."""
    children = psutil.Process().children(recursive=True)
    return sum(sum(child.cpu_times()[:2]) for child in children if "chrom" in child.name())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("params", nargs="?", default="params/quick.yaml")
    parser.add_argument("--visits", type=int, default=3)
    parser.add_argument("--pause", type=float, default=15.0)
    arguments = parser.parse_args()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        port, began = free_port(), time.perf_counter()
        command = [sys.executable, "-m", "starclip_lib.lab.cli", "browse", arguments.params, "--no-browser"]
        with Path(folder, "server.log").open("w") as log:
            server = subprocess.Popen([*command, f"--port={port}"], stdout=log, stderr=log, start_new_session=True)
        try:
            address = printed_address(Path(folder))
            print(f"address after {time.perf_counter() - began:.1f} s", flush=True)
            browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            for number in range(1, arguments.visits + 1):
                page, used = browser.new_context().new_page(), chromium_seconds()
                page.set_default_timeout(MINUTE)
                began = time.perf_counter()
                page.goto(address, wait_until="commit")
                page.wait_for_function(OPEN, polling=50)
                seconds, busy = time.perf_counter() - began, os.getloadavg()[0]
                used = chromium_seconds() - used
                print(
                    f"visit {number}: {seconds:.1f} s (Chromium's processors {used:.1f} s, load {busy:.1f})", flush=True
                )
                page.close()
                time.sleep(arguments.pause)
        finally:
            stop(server)


if __name__ == "__main__":
    main()
