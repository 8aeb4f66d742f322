"""The pages of `starclip observe`: what their figures hold, what their tables tell, and that they need no network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nirspec_files import observe as observed_pixels

from starclip_lib.lab.figures import observed as drawn
from starclip_lib.lab.observing import apogee_stars
from starclip_lib.lab.pages import star_link, write_pages
from starclip_lib.observed.measured import Catalogue, Measured, model_atlas, nearest_neighbours
from starclip_lib.observed.measuring import measure, width_notes
from starclip_lib.observed.spectrum import OBSERVED, as_observed
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import FROM_PRIOR, giants
from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, TEFF
from starclip_lib.physics.lsf import LineSpread
from starclip_lib.support.errors import DataError
from starclip_lib.survey.formats import MODEL, About, Input, Part, write_part
from starclip_lib.survey.store import Store

MG = LABELS.index("Mg")


@pytest.fixture(scope="module")
def found() -> list[Measured]:
    """A star with a bad stretch from 12,000 to 12,100 Angstrom, and a spectrum that was set aside."""
    rng, labels = np.random.default_rng(2), np.array([4600.0, 2.1, *[-0.5] * 18])
    wave, flux = observed_pixels(default_emulator()(labels[None], NIRSPEC)[0], 30.0, rng)
    bad = (wave > 12000) & (wave < 12100)
    star = as_observed("a_star", wave, flux, (0.008 * flux) ** -2, bad, OBSERVED, 0.0, "a.fits", "3.9")
    noise = replace(star, name="noise", target="noise", flux=rng.lognormal(size=len(flux)))
    return list(measure([star, noise]))


def traces(figure: dict) -> dict[str, dict]:
    return {trace["name"]: trace for trace in figure["data"]}


def test_the_spectrum_shows_data_model_residual_and_what_was_not_used(found: list[Measured]) -> None:
    one, fit = found[0], found[0].fits[0]
    figure = drawn.observed_spectrum(one)
    there = traces(figure)
    x, y = (np.array(there["observed"][key], float) for key in "xy")
    rest = fit.wavelength / (1 + fit.velocity / SPEED_OF_LIGHT)
    good = np.isfinite(x)
    np.testing.assert_allclose(x[good], rest, atol=0.06)
    np.testing.assert_allclose(y[good], fit.flux, atol=1e-4)
    residual, model = (np.array(there[name]["y"], float)[good] for name in ("residual", "best model"))
    np.testing.assert_allclose(residual, y[good] - model, atol=2e-4)
    stretches = [(shape["x0"], shape["x1"]) for shape in figure["layout"]["shapes"]]
    factor = 1 + fit.velocity / SPEED_OF_LIGHT
    for low, high in ((12000 / factor, 12100 / factor), (10810.0, 10850.0), (11400 / factor, 11774 / factor)):
        assert any(start < low + 3 and end > high - 3 for start, end in stretches)
    assert not any(start < 12500 < end for start, end in stretches)
    unused = np.array(there["not used"]["x"], float)
    assert ((unused > 12000 / factor) & (unused < 12100 / factor)).sum() > 30
    json.dumps(figure, allow_nan=False)


def test_what_the_prior_decides_is_grey(found: list[Measured]) -> None:
    one = found[0]
    there = traces(drawn.abundances(one))
    measured, prior = (there[name] for name in ("measured", "from the prior: not measured"))
    assert sorted(measured["x"] + prior["x"]) == sorted(set(LABELS[2:]) - {"Fe"})
    for trace, is_prior in ((measured, False), (prior, True)):
        for name, value, error in zip(trace["x"], trace["y"], trace["error_y"]["array"], strict=True):
            ratio = one.abundance(name, "Fe")
            assert (value, error) == (round(ratio.value, 3), round(ratio.sigma, 3))
            assert ratio.from_prior == is_prior


def test_the_index_has_every_star_and_why_some_were_set_aside(found: list[Measured], tmp_path: Path) -> None:
    write_pages(found, tmp_path, model_atlas(), ["observed.ecsv"], {"prior": "wide"}, ["2 files found"])
    index, page = ((tmp_path / name).read_text() for name in ("index.html", "stars/a_star.html"))
    for text in ("stars/a_star.html", "stars/noise.html", "Set aside: 1", found[1].reason, "2 files found"):
        assert text in index
    figures = json.loads(re.search(r"const figures = (\{.*\});", index)[1])
    (star,) = (trace for trace in figures["kiel"]["data"] if "customdata" in trace)
    assert star["customdata"] == ["stars/a_star.html"]
    assert star["x"] == [round(float(found[0].labels[TEFF]))]
    aside = (tmp_path / "stars" / "noise.html").read_text()
    assert found[1].reason[1:] in aside
    assert '"observed"' in aside  # the spectrum is drawn
    assert "S/N" not in found[0].reason
    for text in ("a.fits", f"{found[0].snr:.0f} per pixel", "StarCLIP 0.", "Please cite", "model population"):
        assert text in page
    share = round(100 * float(found[0].prior_fraction[MG]) ** 2)
    assert re.search(rf"\[Mg/H\]</td>.*?{share} %", page)
    grey = re.findall(r'<tr class="prior"><td>\[(\w+)/H\]', page)
    assert set(grey) == {LABELS[i] for i in np.flatnonzero(found[0].prior_fraction > FROM_PRIOR)}
    assert not re.findall(r'(?:src|href)="https?://', index + page)  # nothing is loaded from elsewhere


def test_neighbours_of_a_catalogue_by_brute_force(found: list[Measured]) -> None:
    rng, one = np.random.default_rng(0), found[0]
    labels = giants().atlas[rng.choice(20_000, 300, replace=False)]
    sigma = np.full(20, 0.1)
    names = np.array([f"2M{k:08d}+0000000" for k in range(300)])
    nearest = nearest_neighbours(one, 3, Catalogue("store", labels, names, sigma))
    inverse = np.linalg.inv(one.covariance + np.diag(sigma**2))
    distance = [np.sqrt((x - one.labels) @ inverse @ (x - one.labels) / 20) for x in labels]
    assert list(nearest["star_id"]) == list(names[np.argsort(distance)[:3]])
    np.testing.assert_allclose(nearest["distance"], np.sort(distance)[:3], atol=2e-3)
    np.testing.assert_allclose(nearest["Fe"].value, labels[np.argsort(distance)[:3], FE], rtol=1e-3)


def test_stars_with_2mass_identifiers_have_links() -> None:
    assert star_link("2M19534525+1846553").endswith("Ident=2MASS+J19534525%2B1846553")
    assert star_link("ATLAS00001") == star_link("2M1953") == ""


def test_a_line_width_at_the_limit_is_told(found: list[Measured]) -> None:
    limit, spread = default_emulator().narrowest, LineSpread((10000.0, 18000.0), (4.0, 4.0))
    for width, is_told in ((limit, True), (1.05 * limit, False)):
        notes = width_notes(replace(found[0].fits[0], fwhm=width), spread)
        assert any(f"emulator's limit ({limit:.1f} Angstrom)" in note for note in notes) == is_told
    assert not found[0].notes


def test_neighbours_come_from_the_apogee_stars_of_a_store(found: list[Measured], tmp_path: Path) -> None:
    rng, n = np.random.default_rng(1), 30
    what = {"model": "starclip.ckpt", "model_sha256": "0" * 64, "emulator": "none", "package": "none"}
    about = About(**what, dim=5, posterior=False)
    Store.create(tmp_path / "store", about)
    names = [f"2M{k:08d}+0000000" for k in range(n)]
    rows = {"star_id": names, "file": ["a.h5"] * n, "row": range(n), "instrument": ["apogee", "nirspec"] * (n // 2)}
    rows |= {"verdict": ["good"] * n, "labels_from": [MODEL] * n, "from_prior": [""] * n}
    part = Part(model_sha256="0" * 64, instrument="apogee", rows=n, inputs=(Input("a.h5", 1, 1, 0, n),))
    labels, sigma = giants().atlas[rng.choice(20_000, n, replace=False)], np.full((n, 20), 0.1)
    z = np.tile(np.eye(5, dtype=np.float32)[0], (n, 1))
    write_part(tmp_path / "store", about, part, rows, z, labels, sigma)
    catalogue = apogee_stars(tmp_path / "store")
    assert list(catalogue.star_id) == names[::2]
    np.testing.assert_allclose(catalogue.labels, labels[::2], rtol=1e-3)
    np.testing.assert_allclose(catalogue.sigma, 0.1, rtol=1e-3)
    write_pages(found[:1], tmp_path, catalogue, [], {}, [])
    page = (tmp_path / "stars" / "a_star.html").read_text()
    best = nearest_neighbours(found[0], 1, catalogue)["star_id"][0]
    assert f"Ident=2MASS+J{best[2:10]}%2B0000000" in page
    assert "Nearest stars of the store store" in page
    assert "model population, not a catalogue" not in page
    with pytest.raises(DataError, match="is not an embedding store"):
        apogee_stars(tmp_path)
