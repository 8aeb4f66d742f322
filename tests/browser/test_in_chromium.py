"""Notebooks and the similarity browser in a real web browser: `make test-browser`.

Needs Chromium and the run of params/small.yaml.  Screenshots are left in reports/small/browser.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from nirspec_files import observe, spec1d_table, write_spec1d
from playwright.sync_api import Browser, Page
from servers import MINUTE, ROOT, free_port, printed_address, serve, stop

from starclip_lib.run import Run

PICTURES = ROOT / "reports" / "small" / "browser"
PLOTS = ".js-plotly-plot"
# Where a star of a trace is on the screen; the names of the stars within 15 pixels of a place; what a figure has drawn.
POINT = """([figure, trace, point]) => {
  const plot = document.querySelectorAll('.js-plotly-plot')[figure], layout = plot._fullLayout;
  const box = plot.getBoundingClientRect(), data = plot._fullData[trace];
  return [box.x + layout.xaxis._offset + layout.xaxis.l2p(data.x[point]),
          box.y + layout.yaxis._offset + layout.yaxis.l2p(data.y[point])];
}"""
MIDDLE = """(figure) => {
  const plot = document.querySelectorAll('.js-plotly-plot')[figure], layout = plot._fullLayout;
  const box = plot.getBoundingClientRect(), middle = axis => axis._offset + axis._length / 2;
  return [box.x + middle(layout.xaxis), box.y + middle(layout.yaxis)];
}"""
NEARBY = """([figure, x, y]) => {
  const plot = document.querySelectorAll('.js-plotly-plot')[figure], layout = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  const near = (data, i) => Math.hypot(box.x + layout.xaxis._offset + layout.xaxis.l2p(data.x[i]) - x,
                                       box.y + layout.yaxis._offset + layout.yaxis.l2p(data.y[i]) - y) < 15;
  return plot._fullData.slice(0, 2).flatMap(d => Array.from(d.text).filter((_, i) => near(d, i))).join(' ');
}"""
DRAWN = """(figure) => JSON.stringify(document.querySelectorAll('.js-plotly-plot')[figure]._fullData.map(
  trace => [trace.name, Array.from(trace.y || []).slice(0, 600)]))"""

# What has the focus, by the name that its label gives it.
FOCUSED = """() => {
  const focused = document.activeElement;
  const labels = focused.labels && focused.labels.length ? focused.labels : null;
  const box = focused.closest('.widget-hslider, .jupyter-widget-hslider');
  const near = labels ? labels[0] : box ? box.querySelector('label, .widget-label') : focused;
  return (near.textContent || '').trim();
}"""
CONTROLS = (
    *("space", "map", "colour", "show", "stars", "star", "its spectrum", "observed"),
    *("Teff [K]", "log g [dex]", "[Fe/H] [dex]", "k", "search in", "spectra of", "stretch"),
)
# Where the star is that marks the query.
MARK = """(figure) => {
  const signs = document.querySelectorAll('.js-plotly-plot')[figure].querySelectorAll('span');
  const box = Array.from(signs).find(sign => sign.textContent === '★').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""


@pytest.fixture(scope="session")
def lab(project: Path) -> Iterator[str]:
    port = free_port()
    options = ["--no-browser", "--allow-root", "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1"]
    options += ["--LabApp.news_url=None", "--LabApp.extension_manager=readonly", "--ServerApp.disable_check_xsrf=True"]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        *options,
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={project}",
    ]
    server = serve(command, port, project)
    yield f"http://127.0.0.1:{port}/lab/tree/notebooks/"
    stop(server)


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def until(page: Page, true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    for _ in range(800):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("nothing happened within 80 seconds")


def changes(page: Page, what: Callable[[], str], action: Callable[[], None]) -> None:
    """Do something, and wait until something else has changed."""
    before = what()
    action()
    until(page, lambda: what() != before)


def rows_of(page: Page) -> str:
    return page.inner_text(".dt-container tbody")


def star_of(page: Page) -> str:
    return page.get_by_label("star", exact=True).input_value()


def click_on(page: Page, trace: int, point: int) -> tuple[float, float]:
    """Click a point of the map; returns where it is on the screen."""
    for _ in range(10):  # a WebGL map answers to the pointer a moment after it is drawn
        x, y = page.evaluate(POINT, [0, trace, point])
        page.mouse.move(x - 1, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(500)
        if page.locator(".hoverlayer .hovertext").count():
            break
    page.mouse.click(x, y)
    return x, y


def wait_for_browser(page: Page) -> None:
    page.wait_for_function(f"document.querySelectorAll('{PLOTS}').length >= 3")
    page.wait_for_selector(".dt-container tbody tr >> nth=3")
    page.wait_for_function(f"Array.from(document.querySelectorAll('{PLOTS}')).every(p => p._fullData)")
    page.wait_for_timeout(1500)


def test_the_similarity_browser_as_a_page(page: Page, voila: str) -> None:
    page.goto(voila)
    wait_for_browser(page)
    picture(page, "page_opened")

    table_before, spectra_before = rows_of(page), page.evaluate(DRAWN, 2)
    x, y = click_on(page, 1, 30)
    until(page, lambda: rows_of(page) != table_before and page.evaluate(DRAWN, 2) != spectra_before)
    assert star_of(page) in page.evaluate(NEARBY, [0, x, y])  # several stars may lie under the pointer
    picture(page, "page_clicked")
    np.testing.assert_allclose(page.evaluate(MARK, 0), [x, y], atol=15)
    middle = page.evaluate(MIDDLE, 0)
    changes(page, lambda: str(page.evaluate(MARK, 0)), lambda: page.mouse.dblclick(*middle))  # all stars in view

    changes(page, lambda: rows_of(page), lambda: page.get_by_label("space", exact=True).select_option("raw spectra"))
    picture(page, "page_raw_spectra")
    changes(page, lambda: rows_of(page), lambda: page.get_by_label("space", exact=True).select_option("StarCLIP"))
    # By keyboard alone: type an identifier, then move a slider.
    field = page.get_by_label("star", exact=True)
    field.fill("sim00000")
    field.press("Enter")
    page.wait_for_selector("[role=status] >> text=no star 'sim00000' in this data set; similar: SIM0")

    until(page, lambda: star_of(page) != "sim00000")

    def slide() -> None:
        page.locator("[role=slider]").nth(0).focus()
        page.keyboard.press("End")  # the hottest star

    changes(page, lambda: star_of(page), slide)
    # Sort the table, and save it.
    changes(page, lambda: rows_of(page), lambda: page.click(".dt-container th >> text=Teff [K]"))
    teff = [int(line.split("\t")[4]) for line in rows_of(page).splitlines() if line.count("\t") > 4]
    assert teff == sorted(teff)
    with page.expect_download() as download:
        page.click("text=Save as CSV")
    saved = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert saved.splitlines()[0].replace('"', "").startswith("star,spectrum,cosine,part,Teff [K]")
    assert len(saved.splitlines()) == 11


def test_what_takes_long_is_cancelled(page: Page, voila: str) -> None:
    page.goto(voila)
    wait_for_browser(page)
    before = page.evaluate(DRAWN, 0)
    page.get_by_label("map", exact=True).select_option("UMAP")  # imports and compiles for twenty seconds
    cancel = page.get_by_role("button", name="Cancel")
    cancel.wait_for()
    picture(page, "page_cancel")
    cancel.click()
    page.wait_for_selector("[role=status] >> text=Cancelled.")
    until(page, lambda: page.get_by_label("map", exact=True).input_value() == "PCA")
    assert page.evaluate(DRAWN, 0) == before
    cancel.wait_for(state="hidden")
    changes(page, lambda: rows_of(page), lambda: page.get_by_label("space", exact=True).select_option("raw spectra"))


def test_a_page_whose_kernel_has_died_tells_to_reload(chromium: Browser, voila: str) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 1700})  # whose console tells of the lost kernel
    page.set_default_timeout(MINUTE)
    page.goto(voila)
    wait_for_browser(page)
    kernel = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    for process in psutil.process_iter(["cmdline"]):
        if kernel in " ".join(process.info["cmdline"] or []):
            process.kill()
    page.wait_for_selector("[role=status] >> text=has ended. Reload the page")
    picture(page, "page_dead_kernel")
    page.reload()
    wait_for_browser(page)
    changes(page, lambda: rows_of(page), lambda: page.get_by_label("space", exact=True).select_option("raw spectra"))
    page.close()


def test_every_control_is_reached_and_moved_by_the_keyboard(page: Page, voila: str) -> None:
    page.goto(voila)
    wait_for_browser(page)
    page.get_by_label("space", exact=True).focus()
    reached = []
    for _ in range(60):
        reached.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    order = [name for name in dict.fromkeys(reached) if name in CONTROLS]
    assert order == list(CONTROLS), reached
    page.get_by_label("space", exact=True).focus()
    changes(page, lambda: rows_of(page), lambda: page.keyboard.press("ArrowDown"))  # the next of the menu
    page.get_by_label("stars", exact=True).focus()
    changes(page, lambda: str(page.evaluate(DRAWN, 0)), lambda: page.keyboard.press("ArrowDown"))


def test_uploads_in_the_page(page: Page, voila: str, project: Path, tmp_path: Path) -> None:
    data, rng = Run.open(project / "params" / "small.yaml").data, np.random.default_rng(0)
    for number, row in enumerate(data.rows("test")[:2]):
        table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(data.nirspec.flux[row], 30.0, rng))
        write_spec1d(tmp_path / f"spec1d_{number}.fits", table)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + bytes(5000))
    page.goto(voila)
    wait_for_browser(page)
    status = page.locator("[role=status]")

    def upload(*names: str) -> None:
        with page.expect_file_chooser() as chooser:
            page.click("button:has-text('upload spec1d or x1d')")
        chooser.value.set_files([tmp_path / name for name in names])

    changes(page, lambda: star_of(page), lambda: upload("spec1d_0.fits"))
    page.wait_for_selector("[role=status] >> text=star_1: good")
    assert "whose labels are from its fit: Teff" in page.inner_text("body")
    assert page.get_by_label("observed", exact=True).input_value() == "star_1"
    picture(page, "page_uploaded")

    changes(page, lambda: star_of(page), lambda: click_on(page, 0, 30))
    upload("spec1d_0.fits")  # again: it is selected
    page.wait_for_selector("[role=status] >> text=star_1: is already here")
    until(page, lambda: star_of(page) == "star_1")

    upload("picture.png")
    page.wait_for_selector("[role=status] >> text=/^(?!Reading).*picture.png/")
    assert star_of(page) == "star_1"
    picture(page, "page_another_kind")

    upload("picture.png")  # and a second file while the first is read
    status.filter(has_text="Reading picture.png ... (a file that is uploaded meanwhile is read afterwards)").wait_for()
    upload("spec1d_1.fits")
    until(page, lambda: star_of(page) == "star_1_2")
    page.wait_for_selector("[role=status] >> text=star_1_2: good")


@pytest.fixture
def survey(project: Path, tmp_path: Path) -> Iterator[str]:
    """The address of the browser of a store of the small run's stars."""
    starclip = [sys.executable, "-m", "starclip_lib.lab.cli"]
    embed = [*starclip, "embed", "runs/small/data.h5", "--params", "params/small.yaml", "--workers", "1"]
    subprocess.run([*embed, "--output", tmp_path / "survey"], cwd=project, check=True)
    port = free_port()
    server = serve([*starclip, "browse", "--store", "survey", "--no-browser", f"--port={port}"], port, tmp_path)
    yield printed_address(tmp_path)
    stop(server)


def test_the_browser_of_a_store_as_a_page(survey: str, page: Page) -> None:
    page.goto(survey)
    page.wait_for_function(f"document.querySelectorAll('{PLOTS}').length >= 2")
    page.wait_for_selector(".dt-container tbody tr >> nth=3")
    page.wait_for_timeout(1500)
    picture(page, "store_opened")
    assert "All 800 spectra are searched" in page.inner_text("body")

    changes(page, lambda: rows_of(page), lambda: click_on(page, 0, 30))
    field = page.get_by_label("only where", exact=True)
    field.fill("instrument == 'apogee' and Fe < -0.3")
    changes(page, lambda: rows_of(page), lambda: field.press("Enter"))
    rows = [line.split("\t") for line in rows_of(page).splitlines() if line.count("\t") > 5]
    assert {row[1] for row in rows[1:]} == {"apogee"}
    picture(page, "store_condition")
    field.fill("Iron < 0")
    field.press("Enter")
    page.wait_for_selector("[role=status] >> text=Iron")


def run_notebook(page: Page, address: str) -> None:
    """Open a notebook in JupyterLab and run all its cells."""
    page.goto(address + "?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector(".jp-Toolbar-kernelName >> text=Python 3")
    page.wait_for_timeout(2000)
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")


def test_the_browser_in_jupyterlab(page: Page, lab: str) -> None:
    run_notebook(page, lab + "09_similarity_browser.ipynb")
    page.wait_for_selector(PLOTS, state="attached", timeout=2 * MINUTE)
    page.locator(PLOTS).first.scroll_into_view_if_needed()
    wait_for_browser(page)
    changes(page, lambda: rows_of(page), lambda: page.get_by_label("space", exact=True).select_option("raw spectra"))
    picture(page, "lab_browser")


def test_the_corruption_explorer_in_jupyterlab(page: Page, lab: str) -> None:
    run_notebook(page, lab + "02_corruptions.ipynb")
    cosine = page.locator(".starclip-cosine").first
    cosine.wait_for(state="attached", timeout=2 * MINUTE)
    cosine.scroll_into_view_if_needed()
    changes(page, cosine.inner_text, lambda: page.click("button:has-text('New draw')"))
    changes(page, cosine.inner_text, lambda: page.get_by_label("gaps").first.uncheck())

    def slide() -> None:
        page.locator("[role=slider]").nth(2).focus()  # the share of dead pixels
        for _ in range(30):
            page.keyboard.press("ArrowRight")

    changes(page, cosine.inner_text, slide)
    picture(page, "lab_explorer")


def test_a_figure_hears_what_comes_before_plotly_is_there(page: Page, lab: str, project: Path) -> None:
    lines = [
        "import plotly.graph_objects as go",
        "from starclip_lib.lab.widgets.live_figure import FurtherFigure, LiveFigure",
        "figures = [kind(go.Figure(go.Scatter(y=[0]))) for kind in (LiveFigure, *[FurtherFigure] * 2)]",
        "display(*figures)",
        "for figure in figures:",
        "    for number in range(20):",
        "        figure.data[0].y = [number] * 3",
        "    figure.add_scatter(y=[7, 7])",
        "    figure.layout.title.text = 'heard'",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, project / "notebooks" / "live.ipynb")
    session = page.context.new_cdp_session(page)
    page.goto(lab + "live.ipynb?reset")
    page.wait_for_selector(".jp-Toolbar-kernelName >> text=Python 3")
    page.wait_for_timeout(2000)
    session.send("Emulation.setCPUThrottlingRate", {"rate": 3})  # plotly.js takes longer than anywidget waits
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells >> nth=0")
    drawn = f"""Array.from(document.querySelectorAll('{PLOTS}')).map(
      plot => JSON.stringify([plot._fullData.map(trace => Array.from(trace.y)), plot._fullLayout.title.text])).join()"""
    page.wait_for_selector(f"{PLOTS} >> nth=2", timeout=2 * MINUTE)
    until(page, lambda: page.evaluate(drawn) == ",".join(3 * ['[[[19,19,19],[7,7]],"heard"]']))


def test_a_training_is_watched_in_jupyterlab(page: Page, lab: str, project: Path) -> None:
    (project / "runs" / "small" / "starclip.ckpt").unlink()  # so that there is something to train
    run_notebook(page, lab + "04_starclip.ipynb")
    page.wait_for_selector("text=epochs in", state="attached", timeout=3 * MINUTE)
    page.locator(PLOTS).first.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    drawn = page.evaluate("document.querySelector('.js-plotly-plot')._fullData.map(t => Array.from(t.y || []).length)")
    epochs = Run.open(project / "params" / "small.yaml").params.starclip.train.epochs
    assert drawn == [epochs] * 3
    left = page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
    assert "".join(left).strip() == ""  # the progress bar has gone
    picture(page, "lab_training")
