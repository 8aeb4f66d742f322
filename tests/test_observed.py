"""Observed spectra from a folder to labels and twins, on files that the test writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from test_nirspec import observe, table, write

from starclip_lib.data.labels import LABELS
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.errors import DataError
from starclip_lib.observed import analysis as observed
from starclip_lib.observed import study
from starclip_lib.pipeline.report import write_star_page
from starclip_lib.run import Run
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.settings.params import changed_params


@pytest.fixture
def folder(survey, tmp_path: Path, rng: np.random.Generator) -> Path:
    folder = tmp_path / "sky"
    folder.mkdir()
    for number, velocity in ((1, 20.0), (2, -90.0)):
        wave, flux = observe(survey.nirspec.flux[number], velocity, rng)
        write(folder / f"spec1d_exposure_{number}.fits", table("SPAT1-SLIT1-MSC01", wave, flux))
    saw = flux * (1 + 0.1 * rng.standard_normal(len(flux)))
    write(folder / "spec1d_ruined.fits", table("SPAT1-SLIT1-MSC01", wave, saw))
    return folder


def test_from_a_folder_to_labels_neighbours_and_tables(folder: Path, trained: Run, tmp_path: Path) -> None:
    data, params = trained.data(), trained.params
    spectra = observed.read_folder(trained.root, ObservedParams(folder="sky"))
    names = [f"spec1d_{part}_star_1" for part in ("exposure_1", "exposure_2", "ruined")]  # all have the same target
    assert [spectrum.name for spectrum in spectra] == names
    assert observed.describe(spectra, params.observed)["verdict"].str.startswith("saw-tooth").tolist() == [0, 0, 1]
    prepared = observed.prepare_all(spectra, data, params)
    assert list(prepared.set_aside) == names[2:]
    assert [star.velocity for star in prepared.stars] == pytest.approx([20.0, -90.0], abs=8)
    assert all(star.template in data.rows("train") for star in prepared.stars)

    result = observed.analyse(prepared.stars, data, trained)
    assert result.labels["name"].tolist() == names[:2]
    assert np.isfinite(result.labels[list(LABELS)].to_numpy(float)).all()
    assert (result.labels[[f"sigma_{name}" for name in LABELS]] > 0).all(axis=None)
    assert len(result.neighbours) == 2 * params.observed.n_neighbours
    assert (result.neighbours.groupby("observed")["cosine"].diff().dropna() <= 0).all()
    assert json.dumps(result.labels.to_dict("records"))  # goes into metrics.json
    again = observed.analyse(prepared.stars, data, trained)
    assert again.labels.equals(result.labels)  # the resampled noise has a seed

    csv, ecsv = observed.write_tables(result, prepared.set_aside, tmp_path)
    table = Table.read(ecsv)
    assert table["name"].tolist() == names
    assert table["verdict"][2].startswith("saw-tooth")
    assert str(table["Teff"].unit) == str(table["sigma_Teff"].unit) == "K"
    assert str(table["velocity"].unit) == "km / s"
    assert pd.read_csv(csv)["name"].tolist() == names
    page = write_star_page(tmp_path, result.labels.to_dict("records")[0], result.neighbours.to_dict("records")[:5])
    assert f"observed_{names[0]}.png" in page.read_text()


def test_what_lies_outside_the_domain_is_said(folder: Path, trained: Run) -> None:
    stars = observed.prepare_all(
        observed.read_folder(trained.root, ObservedParams(folder="sky")), trained.data(), trained.params
    ).stars
    cold = trained.params.data.model_copy(update={"teff_range": (1000.0, 1100.0)})
    trained.params = trained.params.model_copy(update={"data": cold})
    trained.need = lambda file: trained.path(file)  # the files are those of the real domain
    table = observed.analyse(stars, PairedSpectra.read(trained.path("data.h5")), trained).labels
    assert table["domain"].str.contains(r"outside: Teff \d+ ± \d+, trained from 1000 to 1100").all()


def test_edge_and_distance_are_said(folder: Path, trained: Run, monkeypatch) -> None:
    data, params = trained.data(), trained.params
    labels, sigma = data.labels[0].astype(float), np.full(20, 0.1)
    for logg, said in ((1.0, []), (1.95, ["at the edge"]), (2.05, ["just outside"]), (2.5, ["outside"])):
        labels[:2], sigma[0] = (4500, logg), 30
        assert [text.split(":")[0] for text in observed._domain(labels, sigma, params)] == said
    (star,) = observed.prepare_all(
        observed.read_folder(trained.root, ObservedParams(folder="sky"))[:1], data, params
    ).stars
    monkeypatch.setattr(observed, "_FAR", 0.0)  # every spectrum is farther away than the closest one
    assert "outside: nearest training spectrum at cosine" in observed.analyse([star], data, trained).labels["domain"][0]


def test_the_study_gives_a_row_for_each_kind_and_star(folder: Path, trained: Run, monkeypatch) -> None:
    monkeypatch.setattr(study, "STUDY", {"as it is": {}, "normalised": {"corruption": {"continuum_spacing": 600.0}}})
    trained.params = changed_params(trained.params, {"observed": {"folder": "sky"}})
    table = study.corruption_study(trained, trained.data())
    assert table["treatment"].tolist() == ["as it is"] * 2 + ["normalised"] * 2
    assert np.isfinite(table[["Teff [K]", "log g", "[Fe/H]"]].to_numpy(float)).all()


def test_jackknife_over_stretches_of_the_spectrum(folder: Path, trained: Run, rng: np.random.Generator) -> None:
    """Every pixel is left out once; for a mean the jackknife is the standard error of the mean (closed form)."""
    stars = observed.prepare_all(
        observed.read_folder(trained.root, ObservedParams(folder="sky"))[:1], trained.data(), trained.params
    ).stars
    copies = observed._stretches_left_out(stars[0])
    left_out = (copies == 1) & ~stars[0].mask
    assert (left_out.sum(axis=0)[~stars[0].mask] - (stars[0].flux == 1)[~stars[0].mask] * 7 == 1).all()
    assert np.ptp(left_out.sum(axis=1)) <= 2
    values = rng.normal(0, 1, (8, 3))
    without = (values.sum(axis=0) - values) / 7
    np.testing.assert_allclose(observed.jackknife_error(without), values.std(axis=0, ddof=1) / np.sqrt(8))


def test_a_spectrum_that_contradicts_itself_gets_larger_uncertainties(
    folder: Path, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, params = trained.data(), trained.params
    (star,) = observed.prepare_all(
        observed.read_folder(trained.root, ObservedParams(folder="sky"))[:1], data, params
    ).stars
    before = observed.analyse([star], data, trained).labels
    monkeypatch.setattr(observed, "jackknife_error", lambda without: 3 * without.std(axis=0) + 1)
    after = observed.analyse([star], data, trained).labels
    assert (after["sigma_Fe"] > before["sigma_Fe"] + 0.5).all()


def test_without_a_folder_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert observed.read_folder(tmp_path, ObservedParams()) == []
    assert observed.describe([], ObservedParams()).empty
    empty = observed.analyse([], None, None)
    assert empty.labels.empty
    _, ecsv = observed.write_tables(empty, {}, tmp_path)
    assert len(Table.read(ecsv)) == 0
    with pytest.raises(DataError, match="is no folder"):
        observed.read_folder(tmp_path, ObservedParams(folder="nowhere"))
