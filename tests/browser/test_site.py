"""The documentation site in Chromium, as files: two widths, light and dark, nothing from elsewhere, words for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from servers import ROOT

SITE = ROOT / "build" / "site"
PAGES = [
    "docs/index",
    "docs/guides/observe",
    "docs/results",
    "docs/parameters",
    "notebooks/00_tour",
    "notebooks/08_probing",
]

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="build/site is missing: make docs")


@pytest.fixture(params=[(1300, "light"), (390, "dark")], ids=["wide-light", "phone-dark"])
def reader(request: pytest.FixtureRequest, chromium: Browser) -> Iterator[Page]:
    """A page that fails the test if it asks for anything but its own files."""
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, elsewhere = context.new_page(), []
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else elsewhere.append(r.url))
    page.on("console", lambda message: elsewhere.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert elsewhere == []


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_every_picture_has_words(reader: Page, name: str) -> None:
    reader.goto((SITE / f"{name}.html").as_uri())
    root = "document.documentElement"
    assert reader.evaluate(f"{root}.scrollWidth - {root}.clientWidth") <= 0
    pictures = reader.eval_on_selector_all(".bd-article img", "all => all.map(one => [one.alt, one.naturalWidth])")
    assert pictures or not name.startswith("notebooks")
    assert all(len(words) > 20 and width > 0 for words, width in pictures), pictures
    scheme = reader.evaluate("document.documentElement.dataset.theme")
    assert scheme == ("dark" if reader.viewport_size["width"] == 390 else "light")


def test_search_works_without_a_server(reader: Page) -> None:
    reader.goto((SITE / "search.html").as_uri() + "?q=marginalise")
    reader.wait_for_selector("#search-results li a[href*='glossary']")


def test_terms_lead_to_the_glossary(reader: Page) -> None:
    reader.goto((SITE / "notebooks" / "00b_contrastive_from_scratch.html").as_uri())
    reader.click("a.glossary-term >> nth=0")
    reader.wait_for_url("**#term-*")  # a click does not wait for the page that it opens
    anchor = reader.evaluate("location.hash")
    assert anchor.startswith("#term-")
    assert reader.is_visible(anchor)


def test_formulas_are_drawn_by_the_browser_itself(reader: Page) -> None:
    reader.goto((SITE / "notebooks" / "00b_contrastive_from_scratch.html").as_uri())
    assert (
        reader.eval_on_selector_all("math", "all => Math.min(...all.map(one => one.getBoundingClientRect().width))") > 3
    )
