"""Make the pictures of the README from a finished run of params/quick.yaml: `make pictures`.

Needs Chromium; `make test-browser` installs it where apt can.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from starclip_lib.support.files import atomic_path, project_root

PORT = 8867
ARGUMENTS = ["--no-sandbox", "--disable-sync", "--disable-background-networking", "--enable-unsafe-swiftshader"]


def save(page: Page, path: Path, full_page: bool = False) -> None:
    """A screenshot in few colours, so that it stays small."""
    image = Image.open(io.BytesIO(page.screenshot(full_page=full_page))).convert("RGB")
    image = image.resize((1000, round(image.height * 1000 / image.width)), Image.LANCZOS)
    with atomic_path(path) as part:
        image.quantize(200).save(part, "PNG", optimize=True)
    print(f"{path.name}: {path.stat().st_size // 1000} kB")


def address_of(server: subprocess.Popen[str]) -> str:
    """The address, with its token, that `starclip browse` prints once it serves."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://\S+", line):
            return found[0]
    sys.exit("error: the browser did not start")


def main() -> None:
    root = project_root(Path.cwd())
    index = root / "reports" / "quick" / "index.html"
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None or not index.is_file():
        sys.exit(f"error: need Chromium (or CHROMIUM set to its path) and {index}; run `make run` first")
    command = [sys.executable, "-m", "starclip_lib.lab.cli", "browse", "--no-browser", f"--port={PORT}"]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1200, "height": 1300})
            page.goto(index.as_uri())
            page.wait_for_timeout(1000)
            save(page, root / "docs" / "figures" / "page.png")
            page.set_viewport_size({"width": 1300, "height": 1700})
            page.goto(address_of(server), timeout=120_000)
            page.wait_for_selector(".dt-container tbody tr >> nth=3", timeout=120_000)
            page.get_by_label("stretch").select_option("Mg 15029")
            page.wait_for_timeout(4000)
            save(page, root / "docs" / "figures" / "browser.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
