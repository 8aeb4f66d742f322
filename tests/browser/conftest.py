"""What the tests in Chromium share: the web browser, a page, a project with a finished run, and servers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from servers import ARGUMENTS, MINUTE, ROOT, free_port, printed_address, serve, stop

from starclip_lib.run import Run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no Chromium found: install it (Debian: apt install chromium) or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page that fails the test if anything in it went wrong."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1700}, accept_downloads=True)
    page.set_default_timeout(MINUTE)
    wrong: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"{request.url}: {request.failure}"))
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A copy of the project with the finished run of params/small.yaml, whose notebooks run on it."""
    run = Run.open(ROOT / "params" / "small.yaml")
    run.need("embeddings.h5")  # says what to do if it is not there
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "params", root / "params")
    shutil.copytree(run.folder, root / "runs" / "small")
    (root / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = parameterize_notebook(load_notebook_node(str(path)), {"params_file": "../params/small.yaml"})
        nbformat.write(notebook, root / "notebooks" / path.name)
    return root


@pytest.fixture(scope="session")
def voila(project: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "starclip_lib.lab.cli", "browse", "params/small.yaml", "--no-browser"]
    server = serve([*command, f"--port={port}"], port, project)
    yield printed_address(project)
    stop(server)
