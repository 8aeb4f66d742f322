"""One star has one answer: observe, Python, a store and the browser give the same labels with the same errors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nirspec_files import spec1d_bytes

import starclip_lib as starclip
from starclip_lib.lab.observing import observe
from starclip_lib.lab.widgets.similarity_browser import SimilarityBrowser
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings.params import changed_params
from starclip_lib.survey.embedding import Setup, describe_model, embed_task
from starclip_lib.survey.searching import search
from starclip_lib.survey.sources import find_inputs
from starclip_lib.survey.store import Store

IRTF = Path(os.environ.get("STARCLIP_IRTF", ROOT.parent / "shared" / "irtf"))
SIGMA = [f"sigma_{name}" for name in LABELS]


def stored(
    run: Run, paths: list[Path], folder: Path, instruments: tuple[str, ...] = ("nirspec",), model: str = "starclip"
) -> Store:
    """A store, filled by this process."""
    model = run.path(f"{model}.ckpt")
    setup = Setup(str(folder), str(model), describe_model(model), run.params.model_dump_json())
    Store.create(folder, setup.about)
    for task in find_inputs(paths, instruments)[0]:
        embed_task(task, setup)
    return Store(folder)


def answers(run: Run, path: Path, folder: Path) -> list[np.ndarray]:
    """Labels and errors (40,) of the one star in a file, from each door."""
    spectra = starclip.read_spectra(path)
    (observed,) = observe([path], folder / "observed", lambda line: None)
    (measured,) = starclip.measure(spectra)
    table = run.labels(spectra)
    row = stored(run, [path], folder / "store").rows(np.array([0]))
    (folder / "sky").mkdir()
    shutil.copy(path, folder / "sky")
    looking = Run(changed_params(run.params, {"observed": {"folder": str(folder / "sky")}}), run.root)
    browser = SimilarityBrowser(looking)
    browser.choose(browser.gallery.observed[0].name)
    shown = browser.gallery.measured[browser.query.name]
    assert f"Teff {observed.labels[0]:.0f} ± {observed.sigma[0]:.0f}" in browser._caption.value
    np.testing.assert_array_equal(browser.query.labels, shown.labels)
    return [
        *(np.concatenate([one.labels, one.sigma]) for one in (observed, measured, shown)),
        np.array([table[name].value[0] for name in (*LABELS, *SIGMA)]),
        row[[*LABELS, *SIGMA]].to_numpy(float)[0],
    ]


def test_a_synthetic_star_has_one_answer(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    spec1d_bytes(tmp_path / "spec1d_star.fits", finished.data.nirspec.flux[3], rng)
    first, *others = answers(finished, tmp_path / "spec1d_star.fits", tmp_path)
    assert np.isfinite(first).all()
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not IRTF.is_dir(), reason="no spectra of the IRTF library: set STARCLIP_IRTF to their folder")
def test_hd_58367_has_one_answer(finished: Run, tmp_path: Path) -> None:
    first, *others = answers(finished, IRTF / "G6IIb_HD58367.fits", tmp_path)
    assert first[len(LABELS)] > 30  # Kelvin: with the error of the synthesis
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-3)


def test_a_search_in_a_store_ranks_as_the_run_does(finished: Run, tmp_path: Path) -> None:
    store = stored(finished, [finished.folder / "data.h5"], tmp_path / "store", ("apogee",), "fit")
    queries = finished.embeddings("fit/nirspec").take("test").of_view(0)
    found = search(store, queries.z, 1, posterior=queries.posterior)
    names = store.rows(found.place[:, 0])["star_id"].to_numpy()
    expected = finished.fit_space.by_posterior(queries.z, 1, queries.posterior)[0][:, 0]
    assert (names == expected).mean() >= 0.95  # eleven bits may decide between equals
    by_cosine = store.rows(search(store, queries.z, 1).place[:, 0])["star_id"].to_numpy()
    assert (names == queries.star_id).mean() >= (by_cosine == queries.star_id).mean()
