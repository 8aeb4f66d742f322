"""The pages of `starclip observe` in Chromium, opened as files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_pages import found  # noqa: F401  # the fixture

from starclip_lib.lab.pages import write_pages
from starclip_lib.observed.measured import Measured, model_atlas


@pytest.fixture
def folder(found: list[Measured], tmp_path: Path) -> Path:  # noqa: F811
    write_pages(found, tmp_path, model_atlas(), ["observed.ecsv"], {"prior": "wide"}, [])
    return tmp_path


def test_the_index_draws_sorts_and_leads_to_the_stars(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("#kiel .scatterlayer .point")
    assert page.locator("#ratios .scatterlayer .point").count() >= 9
    assert page.locator("#stars tbody tr").count() == 1
    page.click("#stars th:nth-child(4)")
    page.click("text=a_star")
    page.wait_for_selector("#spectrum .scatterlayer .js-line")
    assert page.locator("#abundances .point").count() >= 17
    before = page.evaluate("document.getElementById('spectrum').layout.xaxis.range")
    page.click("#spectrum >> text=H band")
    after = page.evaluate("document.getElementById('spectrum').layout.xaxis.range")
    assert before != after == [14900, pytest.approx(16600, abs=100)]
    page.click("text=all stars")
    page.click("text=noise")
    page.wait_for_selector("#spectrum .scatterlayer .js-line")
