"""Widgets answer to their controls, say what is wrong, and leave a picture; a real browser is in tests/browser."""

from __future__ import annotations

import base64
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from matplotlib.figure import Figure
from nirspec_files import spec1d_bytes
from plotly.callbacks import InputDeviceState, Points

from starclip_lib.lab.widgets.base import ControlledBox, FigureSlider, PicturedFigure
from starclip_lib.lab.widgets.corruption_explorer import CorruptionExplorer
from starclip_lib.lab.widgets.similarity_browser import SimilarityBrowser
from starclip_lib.lab.widgets.training_viewer import TrainingViewer
from starclip_lib.models.checkpoint import History
from starclip_lib.models.encoding import encode
from starclip_lib.physics.labels import FE, TEFF
from starclip_lib.support.errors import DataError
from starclip_lib.training import recipes


@pytest.fixture
def browser(finished) -> SimilarityBrowser:
    return SimilarityBrowser(finished)


def control(browser: SimilarityBrowser, name: str):
    return browser._controls[name]


def said(browser: SimilarityBrowser) -> str:
    return browser._status.value


def click(browser: SimilarityBrowser, trace: int, point: int) -> None:
    """What a click in a page calls."""
    traces = browser._panels.map.data
    points = Points(point_inds=[point], xs=[], ys=[], trace_name="", trace_index=trace)
    for answer in traces[trace]._click_callbacks:
        answer(traces[trace], points, InputDeviceState())


def upload(browser: SimilarityBrowser, name: str, content: bytes) -> None:
    file = {"name": name, "type": "", "size": len(content), "content": content, "last_modified": datetime.now(UTC)}
    control(browser, "upload").value = (file,)


def test_a_click_makes_a_star_the_query(browser: SimilarityBrowser) -> None:
    rows = browser.gallery.rows(test_only=True)
    click(browser, 1, 9)
    star = str(browser.gallery.data.star_id[rows[9]])
    assert (browser.query.name, browser.query.side) == (star, "APOGEE")
    assert (control(browser, "star").value, control(browser, "side").value) == (star, "APOGEE")
    assert len(browser.table) == 10
    *rings, here = [(mark["x"], mark["y"]) for mark in browser._panels.kiel.marks]
    assert here == pytest.approx(tuple(browser.query.labels[:2]))
    np.testing.assert_allclose(rings, browser.gallery.data.labels[browser.result.row][:, :2])
    places = browser.gallery.places("StarCLIP", "PCA")
    *rings, here = [(mark["x"], mark["y"]) for mark in browser._panels.map.marks]
    assert here == pytest.approx(tuple(places["APOGEE"][rows[9]]))
    near = [places[side][row] for side, row in zip(browser.result.side, browser.result.row, strict=True)]
    np.testing.assert_allclose(rings, near, rtol=1e-3)


def test_every_control_changes_what_it_says(browser: SimilarityBrowser) -> None:
    before = browser.table
    control(browser, "k").value = 2
    assert len(browser.table) == 4
    control(browser, "among").value = "APOGEE"
    assert set(browser.table["spectrum"]) == {"APOGEE"}
    control(browser, "space").value = "MockStarCLIP"
    assert set(browser.table["spectrum"]) == {"NIRSpec", "extended mock"}
    control(browser, "space").value = "StarCLIP"
    control(browser, "k").value = 5
    assert browser.table.equals(before)  # back where we were
    control(browser, "stars").value = False
    assert "training" in set(
        browser.gallery.search("StarCLIP", browser.query, 99, ["APOGEE"], browser._rows).table["part"]
    )
    control(browser, "colour").value = 0
    teff = browser.gallery.data.labels[:, 0]
    np.testing.assert_array_equal(browser._panels.map.data[0].marker.color, teff)
    control(browser, "shown").value = "APOGEE"
    assert [trace.visible for trace in browser._panels.map.data[:2]] == [False, True]
    control(browser, "spectra").value = "APOGEE"
    control(browser, "window").value = "everything"
    assert browser._panels.spectra.layout.xaxis.range[1] > 16900
    control(browser, "Teff").value = float(teff.max())
    assert browser.query.labels[0] > np.median(teff)


def test_spectra_and_residuals_are_those_of_the_table(browser: SimilarityBrowser) -> None:
    control(browser, "window").value = "everything"
    drawn = browser._panels.spectra.data
    row = next(row for row in browser.result.row if row != browser.query.row)
    side = browser.gallery.space("StarCLIP")["NIRSpec"]
    flux = np.where(side.flux[row] == 1, np.nan, side.flux[row])
    own = np.where(side.flux[browser.query.row] == 1, np.nan, side.flux[browser.query.row])
    np.testing.assert_array_equal(drawn[0].y, flux)
    np.testing.assert_array_equal(drawn[5].y, flux - own)
    np.testing.assert_array_equal(drawn[-1].y, own)


def test_mistakes_are_reported_and_change_nothing(browser: SimilarityBrowser) -> None:
    before = browser.query.name
    control(browser, "star").value = f"{before}9"
    assert f"no star '{before}9' in this data set; similar: " in said(browser)
    assert before in said(browser)
    assert browser._status.bad
    assert control(browser, "star").value == browser.query.name == before
    upload(browser, "spec1d_x.fits", b"abc")
    assert "spec1d_x.fits" in said(browser)
    assert browser.query.name == before
    with pytest.raises(DataError, match="no star"):
        browser.choose("nobody")
    control(browser, "Teff").value += 120
    assert browser.query.name != before
    browser.choose(f" {browser.gallery.data.star_id[3].lower()} ")
    assert browser.query.row == 3


@pytest.mark.parametrize("fault", [DataError("no map today"), KeyboardInterrupt(), ValueError("unforeseen")])
def test_what_fails_or_is_cancelled_leaves_menus_and_map_in_step(
    browser: SimilarityBrowser, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    control(browser, "space").value = "raw spectra"
    control(browser, "spectra").value = "APOGEE"
    menus = {name: widget.value for name, widget in browser._controls.items()}
    drawn, table = browser._panels.map.to_json(), browser.table

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("starclip_lib.lab.widgets.gallery.fit_map", fail)
    for name, value in (("map", "UMAP"), ("space", "MockStarCLIP")):
        with suppress(ValueError):  # goes on to the log of the kernel
            control(browser, name).value = value
        assert (str(fault) or "Cancelled.") in said(browser)
        assert {name: widget.value for name, widget in browser._controls.items()} == menus
        assert browser._panels.map.to_json() == drawn
        assert browser.table.equals(table)
    monkeypatch.undo()
    control(browser, "space").value = "MockStarCLIP"
    assert set(browser.table["spectrum"]) == {"NIRSpec", "extended mock"}
    assert said(browser) == ""


def test_an_interrupt_that_the_work_discards_cancels_all_the_same() -> None:
    box = ControlledBox()

    def compiled(*_: object) -> None:
        with suppress(KeyboardInterrupt):  # as a callback of numba's compiler does
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    box._answer(compiled)()
    assert box._status.value == "Cancelled."
    assert signal.getsignal(signal.SIGINT) is before
    box._answer(lambda *_: None)()
    assert box._status.value == ""


def test_a_hidden_side_stays_hidden(browser: SimilarityBrowser) -> None:
    control(browser, "shown").value = "APOGEE"
    control(browser, "stars").value = False
    assert [trace.visible for trace in browser._panels.map.data[:2]] == [False, True]
    control(browser, "space").value = "raw spectra"  # other sides: both are shown
    assert control(browser, "shown").value == "both"
    assert [trace.visible for trace in browser._panels.map.data[:2]] == [True, True]


def test_the_query_is_inside_the_maps(browser: SimilarityBrowser) -> None:
    far = browser.query.labels.copy()
    far[:2] = 6000.0, 4.0
    for labels in (far, browser.query.labels):  # and back
        browser._show(replace(browser.query, labels=labels))
        for figure in (browser._panels.map, browser._panels.kiel):
            for axis, which in ((figure.layout.xaxis, "x"), (figure.layout.yaxis, "y")):
                low, high = sorted(axis.range)
                assert all(low < mark[which] < high for mark in figure.marks)
    assert browser._panels.kiel.layout.xaxis.range[0] < 6000


def test_an_upload_is_searched_with(browser: SimilarityBrowser, tmp_path: Path, rng: np.random.Generator) -> None:
    flux = browser.gallery.data.nirspec.flux[browser.gallery.rows(test_only=True)[2]]
    content = spec1d_bytes(tmp_path / "spec1d_up.fits", flux, rng)
    upload(browser, "spec1d_up.fits", content)
    assert "star_1: good" in said(browser)
    assert browser.query.row is None
    assert control(browser, "observed").value == "star_1"
    control(browser, "spectra").value = "APOGEE"  # it has no APOGEE spectrum; its neighbours have
    assert not np.isfinite(browser._panels.spectra.data[-1].y).any()
    assert "no data" in browser._panels.spectra.layout.title.text
    click(browser, 0, 3)
    assert control(browser, "observed").value == "(none)"
    click(browser, 2, 0)
    assert browser.query.name == "star_1"
    control(browser, "observed").value = "(none)"
    assert browser.query.row is not None


def test_a_query_beyond_the_stars_of_the_run_is_told(browser: SimilarityBrowser) -> None:
    assert "No star of this run" not in browser._caption.value
    labels = np.array(browser.query.labels)
    labels[[TEFF, FE]] = 9000, -5
    told = browser._beyond(replace(browser.query, labels=labels))
    assert told.startswith("<b>No star of this run has such Teff and [Fe/H]:</b>")


def test_a_star_that_is_uploaded_again_is_selected(browser: SimilarityBrowser, tmp_path: Path, rng) -> None:
    stars = browser.gallery.data.nirspec.flux[browser.gallery.rows(test_only=True)[2:4]]
    first, other = (spec1d_bytes(tmp_path / f"spec1d_{n}.fits", flux, rng) for n, flux in enumerate(stars))
    upload(browser, "spec1d_first.fits", first)
    click(browser, 0, 3)
    upload(browser, "spec1d_renamed.fits", first)
    assert "star_1: is already here" in said(browser)
    assert not browser._status.bad
    assert (browser.query.name, control(browser, "observed").value) == ("star_1", "star_1")
    upload(browser, "spec1d_other.fits", other)  # another star that its file calls by the same name
    assert browser.query.name == "star_1_2"
    assert "star_1_2: good" in said(browser)
    control(browser, "star").value = "STAR_1"
    assert browser.query.name == "star_1"
    upload(browser, "picture.png", b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert "picture.png" in said(browser)
    assert browser.query.name == "star_1"
    assert len(browser.gallery.observed) == 2


def test_widgets_leave_a_picture(browser: SimilarityBrowser, finished) -> None:
    for widget in (browser, CorruptionExplorer(finished)):
        bundle = widget._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in bundle
        assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")


def test_a_slider_shows_the_figure_of_its_stop() -> None:
    figures = {name: Figure(figsize=(size, 1)) for name, size in (("small", 1), ("large", 4))}
    stops = FigureSlider("size", figures)
    first = stops.image.value
    stops.slider.value = "large"
    assert stops.image.value != first
    assert stops.picture() is figures["large"]


def test_an_interactive_figure_is_illustrated_and_framed_if_it_was_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")  # as in a notebook
    figure = go.Figure(go.Scatter(y=[1, 4]))
    plain = PicturedFigure(figure, Figure())._repr_mimebundle_()
    assert plain["application/vnd.plotly.v1+json"]["data"][0]["y"] == [1, 4]
    assert base64.b64decode(plain["image/png"]).startswith(b"\x89PNG")
    assert "iframe" not in plain.get("text/html", "")
    framed = PicturedFigure(figure, Figure(), Path("/somewhere/reports/quick/atlas.html"))._repr_mimebundle_()
    assert framed["text/html"].startswith('<iframe src="atlas.html" ')
    assert framed["application/vnd.plotly.v1+json"] == plain["application/vnd.plotly.v1+json"]


def test_corruptions_follow_the_sliders(finished) -> None:
    explorer = CorruptionExplorer(finished)
    first = explorer.corrupted
    explorer.controls["draw"].click()
    assert not np.array_equal(explorer.corrupted, first)
    for box in explorer._on.values():
        box.value = False
    clean = finished.data.nirspec.flux[finished.data.rows("test")[0]]
    np.testing.assert_array_equal(explorer.corrupted, clean)
    assert explorer.cosine == pytest.approx(1, abs=1e-3)
    explorer._on["noise"].value = True
    explorer.controls["snr"].value = (50, 50)
    assert (explorer.corrupted - clean).std() == pytest.approx(0.02, rel=0.05)
    assert explorer.cosine < 1
    assert f"{explorer.cosine:.4f}" in explorer._effect.value
    explorer._on["noise"].value = False
    explorer._on["dead pixels"].value = True
    explorer.controls["dead"].value = 0.01
    assert 60 < (explorer.corrupted != clean).sum() <= 82
    explorer.controls["model"].value = "independent"
    assert explorer.controls["width"].disabled


def test_the_explorers_cosine_is_that_of_the_encoder(finished) -> None:
    explorer = CorruptionExplorer(finished)
    clean = finished.data.nirspec.flux[finished.data.rows("test")[0]]
    z = encode(finished.model("starclip").encoders["nirspec"], np.stack([clean, explorer.corrupted]))
    assert explorer.cosine == pytest.approx(z[0] @ z[1], abs=1e-3)


def test_without_models_the_explorer_says_what_to_run(run) -> None:
    run.build("data.h5")
    explorer = CorruptionExplorer(run)
    assert "run notebooks 03 to 06" in explorer._effect.value
    assert explorer.cosine is None


def test_the_viewer_follows_a_training(run, survey, params) -> None:
    viewer, calls = TrainingViewer("test"), []

    def watch(history: History, planned: int) -> None:
        calls.append((history.epochs, planned))
        viewer.update(history, planned)

    recipes.train_encoder(run.path("nirspec.ckpt"), survey, params, "nirspec", watch)
    planned = params.pretrain.nirspec.epochs
    assert calls == [(epoch, planned) for epoch in range(1, planned + 1)]
    loss, val, retrieval = (trace.y for trace in viewer._figure.data)
    assert len(loss) == len(val) == planned
    assert len(retrieval) == 0
    viewer.show(History([2.0, 1.0], [2.0, 1.5], [0.2, 0.6], [1e-3] * 2, [1.0] * 2))
    assert list(viewer._figure.data[2].y) == [0.2, 0.6]
    assert "epoch 2 was kept" in viewer._text.value


def test_an_alignment_keeps_its_retrieval(finished) -> None:
    history = finished.model("starclip").history
    assert len(history.val_retrieval) == history.epochs
    assert all(0 <= share <= 1 for share in history.val_retrieval)
