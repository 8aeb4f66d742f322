"""The gallery behind the similarity browser: the same spectra and neighbours as elsewhere, by other routes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nirspec_files import spec1d_bytes

from starclip_lib.inference.posterior import log_bayes_factor
from starclip_lib.lab.widgets.gallery import Gallery
from starclip_lib.lab.widgets.spaces import EXTENDED, FIT, NEEDED, SPACES, Spaces
from starclip_lib.models.encoding import encode
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.run import Run
from starclip_lib.support.errors import DataError


@pytest.fixture(scope="module")
def gallery(finished) -> Gallery:
    return Gallery(finished)


def test_vectors_are_those_of_the_embeddings_file(gallery: Gallery, finished) -> None:
    for side, group in (("NIRSpec", "nirspec"), ("APOGEE", "apogee")):
        known = finished.embeddings(f"starclip/{group}").of_view(0)
        np.testing.assert_allclose(gallery.space("StarCLIP")[side].index.z, known.z, atol=2e-5)
    few = finished.embeddings("mockstarclip/extended").of_view(0)
    rows = [gallery.data.row(star) for star in few.star_id]
    np.testing.assert_allclose(gallery.space("MockStarCLIP")[EXTENDED].index.z[rows], few.z, atol=2e-5)


@pytest.mark.parametrize("space", SPACES)
def test_neighbours_are_those_of_the_exact_search(space: str, gallery: Gallery) -> None:
    rows = gallery.rows(test_only=True)
    first, second = gallery.space(space).values()
    query = gallery.star(space, first.title, rows[3])
    other = np.delete(rows, 3)
    for side, among in ((first, other), (second, rows)):  # no spectrum finds itself, but its partner may be found
        cosine = side.index.z[among] @ query.z
        best = np.argsort(-cosine, kind="stable")[: 6 if query.posterior is None else 50]
        if query.posterior is not None:
            factor = log_bayes_factor(query.posterior[None], side.index.posterior[among[best]][None])[0]
            best = best[np.argsort(-factor)][:6]
        found = gallery.search(space, query, 6, [side.title], rows)
        np.testing.assert_array_equal(found.row, among[best])
        np.testing.assert_allclose(found.table["cosine"], cosine[best], atol=6e-5)
    both = gallery.search(space, query, 6, [first.title, second.title], rows)
    assert len(both.row) == 12
    assert ("ln B" in both.table) == (space == FIT)
    assert (np.diff(both.table[both.table.columns[2]]) <= 0).all()
    assert both.table["star"].str.endswith("(itself)").tolist() == (both.row == rows[3]).tolist()
    assert set(both.table["part"]) == {"test"}


def test_the_table_has_label_differences(gallery: Gallery) -> None:
    query = gallery.star("StarCLIP", "APOGEE", 0)
    found = gallery.search("StarCLIP", query, 3, ["NIRSpec"], gallery.rows(test_only=False))
    wanted = gallery.data.labels[found.row][:, FE] - gallery.data.labels[0, FE]
    np.testing.assert_allclose(found.table["Δ [Fe/H]"], wanted, atol=0.0051)
    np.testing.assert_allclose(found.table["Teff [K]"], gallery.data.labels[found.row][:, TEFF], atol=0.51)


def test_the_map_is_the_projection_on_the_first_two_axes(gallery: Gallery) -> None:
    places = gallery.places("StarCLIP", "PCA")
    z = np.concatenate([side.index.z for side in gallery.space("StarCLIP").values()])
    axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)[2][:2]
    xy = (z - z.mean(axis=0)) @ axes.T
    np.testing.assert_allclose(np.abs(np.concatenate(list(places.values()))), np.abs(xy), atol=1e-3)
    side = gallery.space("StarCLIP")["APOGEE"]
    np.testing.assert_allclose(gallery.place("StarCLIP", "PCA", 3 * side.index.z[5]), places["APOGEE"][5], atol=1e-3)


def test_a_star_with_given_labels(gallery: Gallery) -> None:
    rows = gallery.rows(test_only=True)
    star = gallery.data.labels[rows[7]]
    assert gallery.star_with({"Teff": star[TEFF], "logg": star[LOGG], "Fe": star[FE]}, rows) == rows[7]


def test_an_uploaded_spectrum_becomes_a_query(finished, tmp_path: Path, rng: np.random.Generator) -> None:
    gallery = Gallery(finished)
    star = gallery.rows(test_only=True)[2]
    content = spec1d_bytes(tmp_path / "spec1d_one.fits", gallery.data.nirspec.flux[star], rng)
    assert gallery.add_file("../spec1d_one.fits", content) == {"star_1": "good"}
    for space in SPACES:
        query = gallery.observation(space, 0)
        found = gallery.search(space, query, 4, list(gallery.space(space)), gallery.rows(test_only=True))
        assert query.row is None
        assert np.isfinite(query.labels).all()
        assert np.isfinite(found.table["cosine"]).all()
    assert gallery.add_file("spec1d_one.fits", content) == {"star_1": "is already here"}
    assert len(gallery.observed) == 1


def test_a_file_without_a_spectrum_is_refused(gallery: Gallery) -> None:
    with pytest.raises(DataError, match=r"spec1d_two\.fits"):
        gallery.add_file("spec1d_two.fits", b"SIMPLE  =                    F")
    assert gallery.observed == []


def test_unknown_stars_and_too_many_neighbours(gallery: Gallery) -> None:
    name = str(gallery.data.star_id[4])
    with pytest.raises(DataError, match=f"no star '{name}9' in this data set; similar: .*{name}"):
        gallery.data.row(f"{name}9")
    with pytest.raises(DataError, match="'StarCLIP' has no side 'Gaia'; its sides are NIRSpec and APOGEE"):
        gallery.star("StarCLIP", "Gaia", 0)
    query = gallery.star("StarCLIP", "NIRSpec", 0)
    with pytest.raises(DataError, match="k must be between 1 and"):
        gallery.search("StarCLIP", query, 10_000, ["APOGEE"], gallery.rows(test_only=True))


def test_an_unfinished_run_says_what_is_missing(run) -> None:
    with pytest.raises(DataError, match=r"data\.h5 is missing: run notebook 01_data first"):
        Gallery(run)


def test_every_file_that_is_needed_is_asked_for(trained: Run) -> None:
    for file in NEEDED:
        aside = trained.path(file).rename(trained.path(f"{file}.aside"))
        with pytest.raises(DataError, match=f"runs/small/{file} is missing: run notebook"):
            Spaces(trained)
        aside.rename(trained.path(file))
    Spaces(trained)


def test_vectors_of_a_space_are_unit_vectors_of_the_flux_beside_them(gallery: Gallery) -> None:
    for space in SPACES:
        for side in gallery.space(space).values():
            assert side.index.z.dtype == np.float32
            assert side.index.star_id.tolist() == gallery.data.star_id.tolist()
            np.testing.assert_allclose(np.linalg.norm(side.index.z, axis=1), 1, rtol=1e-3)
            if side.encoder is not None:
                np.testing.assert_allclose(encode(side.encoder, side.flux[:9]), side.index.z[:9], atol=2e-5)
    raw = gallery.space("raw spectra")["APOGEE"]
    cropped = raw.flux[:, 246 : 246 + 8192]
    np.testing.assert_allclose(raw.index.z, cropped / np.linalg.norm(cropped, axis=1, keepdims=True), atol=1e-3)
