"""Observed spectra from a folder to labels and neighbours, on files that the test writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from nirspec_files import observe, spec1d_table, write_spec1d

from starclip_lib.lab.report import write_star_page
from starclip_lib.observed import analysis
from starclip_lib.observed.files import read_observed_folder, read_spectra
from starclip_lib.observed.preparation import PreparedSpectrum
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.settings.params import changed_params
from starclip_lib.suite import study
from starclip_lib.support.errors import DataError


@pytest.fixture
def folder(survey, tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "sky"
    folder.mkdir()
    for number, velocity in ((1, 20.0), (2, -90.0)):
        wave, flux = observe(survey.nirspec.flux[number], velocity, rng)
        write_spec1d(folder / f"spec1d_exposure_{number}.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, flux))
    saw = flux * (1 + 0.1 * rng.standard_normal(len(flux)))
    write_spec1d(folder / "spec1d_ruined.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, saw))
    return folder


@pytest.fixture
def star(folder: Path, finished: Run) -> PreparedSpectrum:
    """The first of the observed stars."""
    (star,) = analysis.prepare_all(read_spectra(folder)[:1], finished.data, finished.params).stars
    return star


def test_names_are_harmless_in_pages_and_file_names(folder: Path) -> None:
    content = (folder / "spec1d_exposure_1.fits").read_bytes()
    for path in folder.glob("*"):
        path.unlink()
    names = ("<img src=x onerror=alert(1)>", "\u202egpj", "a" * 200, "a" * 200 + "b")
    for name in names:
        (folder / f"spec1d_{name}.fits").write_bytes(content)
    found = [spectrum.name for spectrum in read_spectra(folder)]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]{1,90}", name) for name in found)


def test_spectra_are_read_from_a_folder_a_file_or_several(folder: Path) -> None:
    names = [f"spec1d_{part}_star_1" for part in ("exposure_1", "exposure_2", "ruined")]  # all have the same target
    assert [spectrum.name for spectrum in read_spectra(folder)] == names
    assert [spectrum.name for spectrum in read_spectra(str(folder))] == names
    assert [spectrum.name for spectrum in read_spectra(folder / "spec1d_ruined.fits")] == ["star_1"]
    two = [folder / "spec1d_ruined.fits", str(folder / "spec1d_exposure_1.fits")]
    assert [spectrum.name for spectrum in read_spectra(two)] == [names[2], names[0]]
    narrow = read_spectra(folder, ObservedParams(wavelength_range=(13000.0, 14000.0)))[0]
    used = narrow.wavelength[~narrow.bad]
    assert 13000 <= used[0] < used[-1] <= 14000
    with pytest.raises(DataError, match=r"none\.fits is missing"):
        read_spectra([folder / "none.fits"])


def test_from_a_folder_to_labels_neighbours_and_tables(folder: Path, trained: Run, tmp_path: Path) -> None:
    data, params, space = trained.data, trained.params, trained.space
    spectra = read_observed_folder(trained.root, ObservedParams(folder="sky"))
    names = [f"spec1d_{part}_star_1" for part in ("exposure_1", "exposure_2", "ruined")]
    assert [spectrum.name for spectrum in spectra] == names
    assert analysis.describe(spectra, params.observed)["verdict"].tolist() == ["good", "good", "set aside"]
    prepared = analysis.prepare_all(spectra, data, params)
    assert list(prepared.set_aside) == names[2:]
    assert [star.velocity for star in prepared.stars] == pytest.approx([20.0, -90.0], abs=8)
    train = data.nirspec.flux[data.rows("train")]
    assert all((star.template == train).all(axis=1).any() for star in prepared.stars)

    result = analysis.analyse(prepared.stars, space, params)
    assert result.labels["name"].tolist() == names[:2]
    assert np.isfinite(result.labels[list(LABELS)].to_numpy(float)).all()
    assert (result.labels[[f"sigma_{name}" for name in LABELS]] > 0).all(axis=None)
    assert len(result.neighbours) == 2 * params.observed.n_neighbours
    assert (result.neighbours.groupby("observed")["cosine"].diff().dropna() <= 0).all()
    assert json.dumps(result.labels.to_dict("records"))  # goes into metrics.json
    again = analysis.analyse(prepared.stars, space, params)
    assert again.labels.equals(result.labels)  # the resampled noise has a seed

    csv, ecsv = analysis.write_tables(result, prepared.set_aside, tmp_path)
    table = Table.read(ecsv)
    assert table["name"].tolist() == names
    assert table["verdict"][2] == "set aside"
    assert table["reason"][2].startswith("saw-tooth")
    assert str(table["Teff"].unit) == str(table["sigma_Teff"].unit) == "K"
    assert str(table["velocity"].unit) == "km / s"
    assert pd.read_csv(csv)["name"].tolist() == names
    page = write_star_page(tmp_path, result.labels.to_dict("records")[0], result.neighbours.to_dict("records")[:5])
    assert f"observed_{names[0]}.png" in page.read_text()


def test_labels_and_neighbours_are_those_of_the_spectrum_itself(star: PreparedSpectrum, finished: Run) -> None:
    """Copies with other noise and without a stretch make the uncertainties, and nothing else."""
    space, params = finished.space, finished.params
    result = analysis.analyse([star], space, params)
    z = space.embed(analysis.model_input(star, star.flux[None], params))
    np.testing.assert_allclose(result.z, z, atol=1e-3)
    np.testing.assert_allclose(result.labels[list(LABELS)].to_numpy(float), space.read(z), rtol=1e-3, atol=1e-3)
    cosine = (space.apogee.z / np.linalg.norm(space.apogee.z, axis=1, keepdims=True)) @ (z[0] / np.linalg.norm(z[0]))
    best = np.argsort(-cosine)[: params.observed.n_neighbours]
    assert result.neighbours["APOGEE star"].tolist() == space.apogee.star_id[best].tolist()
    np.testing.assert_allclose(result.neighbours["cosine"], cosine[best], atol=1e-3)
    known = finished.data.labels_of(space.apogee.star_id[best])
    np.testing.assert_array_equal(result.neighbours[list(LABELS)].to_numpy(float), known)


def test_models_of_the_true_continuum_get_it_back(star: PreparedSpectrum, finished: Run) -> None:
    """The best template's continuum: the template as it was seen becomes the template itself, but for gaps."""
    plain = changed_params(finished.params, {"corruption": {"continuum_spacing": 0.0}})
    divided = changed_params(finished.params, {"corruption": {"continuum_spacing": 150.0}})
    seen = star.seen_template[None]
    assert analysis.model_input(star, seen, divided) is seen
    back = analysis.model_input(star, seen, plain)[0]
    measured = seen[0] != NIRSPEC.fill_value
    np.testing.assert_allclose(back[measured], star.template[measured], rtol=1e-3)
    assert (back[~measured] == NIRSPEC.fill_value).all()


def test_what_lies_outside_the_domain_is_said(star: PreparedSpectrum, finished: Run) -> None:
    cold = changed_params(finished.params, {"data": {"teff_range": [1000.0, 1100.0]}})
    (row,) = analysis.analyse([star], finished.space, cold).labels.to_dict("records")
    assert row["verdict"] == "outside"
    assert f"Teff {row['Teff']:.0f} ± {row['sigma_Teff']:.0f}, trained from 1000 to 1100" in row["reason"]


def test_edge_and_distance_are_said(star: PreparedSpectrum, finished: Run, monkeypatch) -> None:
    params = finished.params
    labels, sigma = finished.data.labels[0].astype(float), np.full(20, 0.1)
    for logg, said in ((1.0, []), (1.95, ["at the edge"]), (2.05, ["at the edge"]), (2.5, ["outside"])):
        labels[:2], sigma[0] = (4500, logg), 30
        assert [text.split(":")[0] for text in analysis._range_warnings(labels, sigma, params)] == said
    monkeypatch.setattr(analysis, "_FAR", 0.0)  # every spectrum is farther away than the closest one
    (row,) = analysis.analyse([star], finished.space, params).labels.to_dict("records")
    assert row["verdict"] == "outside"
    assert "nearest training spectrum at cosine" in row["reason"]


def test_the_study_gives_a_row_for_each_kind_and_star(folder: Path, trained: Run, monkeypatch) -> None:
    monkeypatch.setattr(study, "STUDY", {"as it is": {}, "normalised": {"corruption": {"continuum_spacing": 600.0}}})
    params = changed_params(trained.params, {"observed": {"folder": "sky"}})
    table = study.corruption_study(trained.data, params, trained.root)
    assert table["treatment"].tolist() == ["as it is"] * 2 + ["normalised"] * 2
    assert np.isfinite(table[["Teff [K]", "log g", "[Fe/H]"]].to_numpy(float)).all()
    (folder / "spec1d_exposure_1.fits").unlink()
    (folder / "spec1d_exposure_2.fits").unlink()
    with pytest.raises(DataError, match=r"needs a good observed spectrum; set observed\.study to false"):
        study.corruption_study(trained.data, params, trained.root)


def test_jackknife_over_stretches_of_the_spectrum(star: PreparedSpectrum, rng: np.random.Generator) -> None:
    """Every pixel is left out once; for a mean the jackknife is the standard error of the mean (closed form)."""
    copies = analysis._stretches_left_out(star)
    left_out = (copies == 1) & ~star.mask
    assert (left_out.sum(axis=0)[~star.mask] - (star.flux == 1)[~star.mask] * 7 == 1).all()
    assert np.ptp(left_out.sum(axis=1)) <= 2
    values = rng.normal(0, 1, (8, 3))
    without = (values.sum(axis=0) - values) / 7
    np.testing.assert_allclose(analysis.jackknife_error(without), values.std(axis=0, ddof=1) / np.sqrt(8))


def test_a_spectrum_that_contradicts_itself_gets_larger_uncertainties(
    star: PreparedSpectrum, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = analysis.analyse([star], finished.space, finished.params).labels
    monkeypatch.setattr(analysis, "jackknife_error", lambda without: 3 * without.std(axis=0) + 1)
    after = analysis.analyse([star], finished.space, finished.params).labels
    assert (after["sigma_Fe"] > before["sigma_Fe"] + 0.5).all()


def test_without_a_folder_there_is_nothing_to_do(finished: Run, tmp_path: Path) -> None:
    assert read_observed_folder(tmp_path, ObservedParams()) == []
    assert analysis.describe([], ObservedParams()).empty
    empty = analysis.analyse([], finished.space, finished.params)
    assert empty.labels.empty
    _, ecsv = analysis.write_tables(empty, {}, tmp_path)
    assert len(Table.read(ecsv)) == 0
    with pytest.raises(DataError, match="is missing"):
        read_observed_folder(tmp_path, ObservedParams(folder="nowhere"))
