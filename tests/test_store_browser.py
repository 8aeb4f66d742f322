"""The browser of a store: what is drawn is thinned and says so, what is searched is everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_stores import filled

from starclip_lib.lab.widgets import store_browser
from starclip_lib.lab.widgets.store_browser import StoreBrowser
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.support.errors import DataError
from starclip_lib.survey.searching import search
from starclip_lib.survey.store import Store


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Store:
    return filled(tmp_path, rng)


def whole(store: Store) -> pd.DataFrame:
    """Everything in a store, in its order."""
    return pd.concat([pq.read_table(path).to_pandas() for path in store.parts], ignore_index=True)


def test_the_nearest_of_all_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_browser, "DRAWN", 20)
    browser, rows = StoreBrowser(store), whole(store)
    assert "20 of 66 spectra" in browser._caption.value
    assert "All 66 spectra are searched" in browser._caption.value
    assert sum(len(trace.x) for trace in browser.map.data[:2]) == 20
    browser.choose(7)
    z = np.stack(rows["embedding"].to_numpy())
    cosine = z @ z[7] / np.linalg.norm(z, axis=1) / np.linalg.norm(z[7])
    cosine[rows["star_id"] == rows["star_id"][7]] = -2
    best = np.argsort(-cosine)[:10]
    assert browser.table["star"].tolist() == ["S0-7 (query)", *rows["star_id"][best]]
    assert browser.table.columns[3:6].tolist() == ["Teff [K]", "log g", "[Fe/H]"]
    np.testing.assert_allclose(browser.table["cosine"][1:], cosine[best], atol=6e-5)
    np.testing.assert_allclose(browser.table["Teff [K]"], rows["Teff"][[7, *best]].round(), atol=0.5)
    assert browser.picture().axes[0].get_title() == "the map: 20 of 66 spectra, drawn at random"


def test_a_click_takes_the_star_below_it(store: Store) -> None:
    browser, rows = StoreBrowser(store), whole(store)
    for side, name in enumerate(("nirspec", "apogee")):
        mine = np.flatnonzero(rows["instrument"] == name)
        assert len(browser.map.data[side].x) == len(mine)
        if len(mine):
            browser._on_click(side, type("Points", (), {"point_inds": [len(mine) - 1]}))
            assert browser.query == mine[-1]
            label = browser.map.data[side].text[-1]
            assert label.startswith(f"{rows['Teff'][mine[-1]]:.0f} K, log g {rows['logg'][mine[-1]]:.2f}")
    assert browser.kiel.marks[-1]["x"] == pytest.approx(browser.table["Teff [K]"][0], abs=0.5)


def test_a_condition_says_which_stars_count(store: Store) -> None:
    browser, rows = StoreBrowser(store), whole(store)
    browser._controls["where"].value = "Fe < -0.5"
    assert (rows.set_index("star_id")["Fe"][browser.table["star"][1:]] < -0.5).all()
    assert "that meet Fe &lt; -0.5; " in browser._caption.value
    browser._controls["where"].value = "Iron < 0"
    assert "Iron" in browser._status.value
    browser._controls["where"].value = "Fe < -99"
    assert "no spectrum of" in browser._status.value
    assert "that meet Fe &lt; -0.5; " in browser._caption.value  # the filter that works stays
    browser._controls["star"].value = "s0-7"  # in any case
    assert browser._names[browser.query].as_py() == "S0-7"
    browser._controls["star"].value = "S0-77"
    assert "has no star 'S0-77'; similar: S0-7" in browser._status.value
    browser._controls["star"].value = "nobody"
    assert "has no star 'nobody'; identifiers look like S0-0" in browser._status.value
    for colour in range(3):
        browser._controls["colour"].value = colour
        column = ("Teff", "logg", "Fe")[colour]
        shown = np.concatenate([trace.marker.color for trace in browser.map.data[:2]])
        np.testing.assert_allclose(np.sort(shown), np.sort(rows[column].to_numpy(np.float32)))
    assert (TEFF, LOGG, FE) == (0, 1, 16)


def test_stores_with_posteriors_are_ranked_by_them(tmp_path: Path, rng: np.random.Generator) -> None:
    store = filled(tmp_path, rng, posterior=True)
    browser = StoreBrowser(store)
    browser.choose(7)
    shown = browser.table["ln B"][1:]
    values = shown.str.removesuffix(" (no match)").astype(float)
    z, kept = np.stack(whole(store)["embedding"].to_numpy())[[7]], store.posteriors(np.array([7]))
    expected = search(store, z, 10, but=["S0-7"], posterior=kept).ln_b[0]
    np.testing.assert_allclose(values, expected, atol=0.06)
    assert (shown.str.endswith("(no match)") == (values < 0)).all()
    assert "by Bayes factor (ln B)" in browser._caption.value
    assert ("No match:" in browser._caption.value) == (values.iloc[0] < 0)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not an embedding store"):
        StoreBrowser(tmp_path)


def test_a_store_of_next_to_nothing_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="holds 2 spectra, 3 are needed for a map"):
        StoreBrowser(filled(tmp_path, rng, (2,)))
