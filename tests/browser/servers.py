"""Servers that the tests in Chromium start and stop."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a GPU
]
MINUTE = 240_000  # milliseconds: a minute on a machine four times slower


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(command: list[str], port: int, folder: Path) -> subprocess.Popen:
    """Start a server and wait until it answers."""
    log = (folder / "server.log").open("w")
    server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=1)
        except urllib.error.HTTPError:
            return server
        except OSError:
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.25)
        else:
            return server
    raise AssertionError(f"no answer within five minutes: {(folder / 'server.log').read_text()}")


def stop(server: subprocess.Popen) -> None:
    os.killpg(server.pid, 15)
    server.wait(120)


def printed_address(folder: Path) -> str:
    """The address, with its token, that `starclip browse` has printed."""
    for _ in range(1200):
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", (folder / "server.log").read_text()):
            return found[0]
        time.sleep(0.1)
    raise AssertionError((folder / "server.log").read_text())
