"""`starclip browse` against strangers: other origins, other hosts, no token; and what becomes of its kernels."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from nirspec_files import observe, spec1d_table, write_spec1d
from playwright.sync_api import Browser, Page
from servers import MINUTE, free_port, printed_address, serve, stop

from starclip_lib.run import Run

# What a page of another origin tries on the server; it reports what it could read.
ATTACK = """async (target) => {
  const found = [];
  for (const path of ['/', '/api/kernels', '/voila/static/voila.js', '/voila/files/StarCLIP.ipynb'])
    for (const mode of ['cors', 'no-cors'])
      try {
        const answer = await fetch(target + path, {credentials: 'include', mode});
        if (answer.type !== 'opaque') found.push(mode + ' ' + path + ' ' + answer.status);
      } catch (error) {}
  const kernel = '/api/kernels/00000000-0000-0000-0000-000000000000/channels';
  const socket = new WebSocket(target.replace('http', 'ws') + kernel);
  await new Promise(done => { socket.onopen = () => { found.push('websocket'); done(); }; socket.onerror = done; });
  const frame = document.createElement('iframe');
  frame.src = target + '/';
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; setTimeout(done, 2000); });
  const image = new Image();
  image.src = target + '/';
  const form = document.createElement('form');
  form.method = 'post'; form.action = target + '/voila/api/shutdown/x'; form.target = 'elsewhere';
  document.body.append(form);
  const other = document.createElement('iframe'); other.name = 'elsewhere'; document.body.append(other);
  form.submit();
  await new Promise(done => setTimeout(done, 1000));
  return found;
}"""


@contextmanager
def site() -> Iterator[str]:
    """A page of somebody else, on another port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>harmless</title><body>nothing to see")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def kernels_of(server: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(server.pid).children(recursive=True) if is_kernel(child)]


def is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it has just ended
        return False


def answer(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    got = connection.getresponse()
    return got.status, f"{got.headers}{got.read().decode('utf-8', 'replace')}"


@pytest.fixture(scope="module")
def served(project: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    port = free_port()
    command = [sys.executable, "-m", "starclip_lib.lab.cli", "browse", "params/small.yaml", "--no-browser"]
    server = serve([*command, f"--port={port}"], port, project)
    yield server, printed_address(project)
    stop(server)


def test_requests_without_the_token_are_refused(served: tuple[subprocess.Popen, str]) -> None:
    server, address = served
    ready = kernels_of(server)  # the one that is kept for the next visit
    host = urlsplit(address).netloc
    port = host.split(":")[1]
    for path in (
        "/",
        "/?token=",
        "/?token=guess",
        "/voila/static/voila.js",
        "/api/kernels",
        "/api/kernels/00000000-0000-0000-0000-000000000000/interrupt",
        "/login",
        "/..%2f..%2fetc",
    ):
        for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
            assert answer(address, path, method)[0] == 403, (method, path)
    way_in = address.removeprefix(f"http://{host}")
    for foreign in (f"evil.example:{port}", "127.0.0.1:1", "127.0.0.1", f"127.0.0.1:{port}.evil.example", ""):
        assert answer(address, way_in, Host=foreign)[0] in (400, 403), foreign
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"https://{host}"):
        assert answer(address, way_in, Origin=origin)[0] == 403, origin
    status, page = answer(address, way_in)
    assert status == 200
    cookie = re.search(r"Set-Cookie: (\S+?=\S+?); (.*)", page)
    assert cookie is not None
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie[2].split("; "))
    for headers in (
        {"Host": f"evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        assert answer(address, "/", Cookie=cookie[1], **headers)[0] == 403, headers
    assert answer(address, "/", Cookie=cookie[1].replace("=", "=x"))[0] == 403
    assert answer(address, "/voila/static/voila.js", Cookie=cookie[1])[0] == 200
    assert kernels_of(server) == ready
    assert len(ready) == 1


def test_a_page_of_another_origin_finds_nothing_open(chromium: Browser, served: tuple[subprocess.Popen, str]) -> None:
    """Also in a web browser that has been let in before."""
    server, address = served
    ready = kernels_of(server)
    target = f"http://{urlsplit(address).netloc}"
    context = chromium.new_context()
    with site() as evil:
        page = context.new_page()
        page.goto(evil)
        assert page.evaluate(ATTACK, target) == []
        assert kernels_of(server) == ready
        context.request.get(address)  # let in: the cookie is there
        assert context.request.get(f"{target}/voila/static/voila.js").status == 200
        assert page.evaluate(ATTACK, target) == []
        page.goto(evil.replace("127.0.0.1", "localhost"))
        assert page.evaluate(ATTACK, target) == []
    assert kernels_of(server) == ready
    context.close()


def test_a_kernel_ends_with_its_page(page: Page, served: tuple[subprocess.Popen, str]) -> None:
    server, address = served
    (kernel,) = kernels_of(server)
    page.goto(address)
    page.wait_for_selector(".js-plotly-plot", timeout=2 * MINUTE)
    assert page.url == f"http://{urlsplit(address).netloc}/"  # the token does not stay in the address
    assert kernel in kernels_of(server)
    page.goto("about:blank")
    for _ in range(1200):
        if kernel not in kernels_of(server):
            break
        time.sleep(0.1)
    assert kernel not in kernels_of(server)
    assert len(kernels_of(server)) == 1  # ready for the next visit


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_kernels_and_port_are_free_when_the_server_ends(chromium: Browser, project: Path, how: signal.Signals) -> None:
    page = chromium.new_page()  # which loses its server in the middle of things
    port = free_port()
    command = [sys.executable, "-m", "starclip_lib.lab.cli", "browse", "params/small.yaml", "--no-browser"]
    server = serve([*command, f"--port={port}"], port, project)
    page.goto(printed_address(project))
    page.wait_for_selector(".js-plotly-plot", timeout=2 * MINUTE)
    kernels = kernels_of(server)
    assert kernels
    os.kill(server.pid, how)
    server.wait(30)
    assert psutil.wait_procs(kernels, 30)[1] == []
    page.wait_for_selector("[role=status] >> text=/has ended|has lost its server/", timeout=MINUTE)
    again = serve([*command, f"--port={port}"], port, project)  # the port is free at once
    stop(again)
    page.close()


DAMAGED = {
    "spec1d_empty.fits": lambda good: b"",
    "spec1d_half.fits": lambda good: good[: len(good) // 2],
    "spec1d_noise.fits": lambda good: bytes(range(256)) * 12,
    "spec1d_<img src=x onerror=document.title='owned'>.fits": lambda good: good[:2880],
    "spec1d_table.fits": lambda good: good.replace(b"NAXIS2  =", b"NAXIS2  = 99999", 1),
    "spec1d_form.fits": lambda good: good.replace(b"'D       '", b"'QQ      '"),
    "other_x1d.fits": lambda good: good,
}


def test_every_failed_upload_is_shown(
    page: Page, served: tuple[subprocess.Popen, str], project: Path, tmp_path, rng
) -> None:
    data = Run.open(project / "params" / "small.yaml").data
    table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(data.nirspec.flux[0], 30.0, rng))
    good = write_spec1d(tmp_path / "good.fits", table).read_bytes()
    page.goto(served[1])
    page.wait_for_selector(".dt-container tbody tr >> nth=3", timeout=2 * MINUTE)
    page.wait_for_timeout(1500)
    for name, spoil in DAMAGED.items():
        with page.expect_file_chooser() as chooser:
            page.click("button:has-text('upload spec1d or x1d')")
        chooser.value.set_files({"name": name, "mimeType": "application/fits", "buffer": spoil(good)})
        stem = re.split(r"[<.]", name)[0]
        page.wait_for_selector(f"[role=status] >> text=/^(?!Reading).*{stem}/", timeout=MINUTE)
    assert page.title() != "owned"
    assert not page.locator("img[src=x]").count()
