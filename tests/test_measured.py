"""What users get from a measurement: one result or several, their labels, abundances, verdicts, figures and tables."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io.votable import parse as parse_votable
from astropy.table import QTable, Table
from conftest import ROOT
from matplotlib.figure import Figure
from nirspec_files import observe as observed_pixels
from nirspec_files import spec1d_table, write_spec1d

import starclip_lib as starclip
from starclip_lib.data.tables import as_labels
from starclip_lib.lab import cli
from starclip_lib.lab.measuring import MeasuredStar
from starclip_lib.observed.measured import VERDICTS, Measured, reason_of, verdict_of
from starclip_lib.observed.measurements import Measurements, measured_table
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, PLAIN, TEFF
from starclip_lib.support.errors import DataError

MG = LABELS.index("Mg")
TRUTH = np.array([4600.0, 2.0, *[-0.5] * 18])
TRUTH[MG] = -0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exposures of star_1, and star_2, whose spectrum is noise."""
    folder, rng = tmp_path_factory.mktemp("sky"), np.random.default_rng(4)
    flux = default_emulator()(TRUTH[None], NIRSPEC)[0]
    for name in ("a", "b"):
        write_spec1d(
            folder / f"spec1d_{name}.fits", spec1d_table("SPAT1-SLIT1-MSC01", *observed_pixels(flux, 30.0, rng))
        )
    wave, noise = observed_pixels(np.ones(8192), 0.0, rng)
    table = spec1d_table("SPAT1-SLIT1-MSC01", wave, noise)
    table.header["HIERARCH MASKDEF_OBJNAME"] = "noise"
    write_spec1d(folder / "spec1d_noise.fits", table)
    return folder


@pytest.fixture(scope="module")
def star(folder: Path) -> MeasuredStar:
    return starclip.measure(folder / "spec1d_a.fits")


@pytest.fixture(scope="module")
def found(folder: Path) -> Measurements:
    return starclip.measure(folder)


def test_one_spectrum_gives_one_result_and_several_a_list(
    folder: Path, star: MeasuredStar, found: Measurements
) -> None:
    spectra = starclip.read_spectra(folder / "spec1d_a.fits")
    for source in (spectra[0], str(folder / "spec1d_a.fits")):
        one = starclip.measure(source)
        assert isinstance(one, MeasuredStar)
        np.testing.assert_allclose(one.labels, star.labels, rtol=1e-3, atol=1e-3)
    for several in (spectra, tuple(spectra), iter(spectra), [str(folder / "spec1d_a.fits")]):
        few = starclip.measure(several)
        assert isinstance(few, Measurements)
        assert [one.name for one in few] == ["star_1"]
    assert isinstance(found, Measurements)
    assert len(found) == 3
    assert list(star) == [star]  # a loop works for both


def test_exposures_are_combined_on_request(folder: Path) -> None:
    one, other = (
        starclip.measure([folder / "spec1d_a.fits", folder / "spec1d_b.fits"]),
        starclip.measure([folder / "spec1d_a.fits", folder / "spec1d_b.fits"], combine=True),
    )
    assert [len(m.fits) for m in one] == [1, 1]
    assert [(m.name, len(m.fits)) for m in other] == [("star_1", 2)]
    assert other[0].sigma_velocity == pytest.approx(np.hypot(*(m.sigma_velocity for m in one)) / 2, rel=1e-3)
    assert isinstance(other[0], MeasuredStar)
    assert "2 spectra, scatter" in repr(other[0])


def test_a_result_prints_what_matters(star: MeasuredStar, found: Measurements) -> None:
    text = repr(star)
    teff, logg, iron = star.labels[[TEFF, LOGG, FE]]
    assert text.splitlines()[0].startswith(f"star_1: {star.verdict}")
    assert f"Teff {teff:.0f} ± {star.sigma[TEFF]:.0f} K, log g {logg:.2f} ± {star.sigma[LOGG]:.2f}" in text
    assert f"[Fe/H] {iron:.2f} ± {star.sigma[FE]:.2f}" in text
    assert f"velocity {star.velocity:.1f} ± {star.velocity_error:.1f} km/s" in text
    assert abs(star.velocity - 30) < 5
    assert star._repr_html_().count("<br>") == len(text.splitlines()) - 1
    aside = found[[one.verdict for one in found].index("set aside")]
    assert repr(aside) == f"{aside.name}: set aside, {aside.reason}"
    lines = repr(found).splitlines()
    assert lines[0].split()[:3] == ["star", "Teff", "[K]"]
    assert any(line.startswith(aside.name) and "set aside: " in line for line in lines)
    assert "<table" in found._repr_html_()
    assert repr(Measurements()) == Measurements()._repr_html_() == "no measurements: no spectrum was given"
    assert len(Measurements().table) == 0


def test_labels_take_names_and_have_units(star: MeasuredStar) -> None:
    values = np.asarray(star.labels).view(np.ndarray)
    assert star.labels["Teff"] == values[TEFF] * u.K
    for name in ("Fe", "fe", "[Fe/H]", " FE "):
        assert star.labels[name] == values[FE] * u.dex
    assert star.labels["log g"] == star.labels["logg"] == values[LOGG] * u.dex
    assert star.sigma["Mg"] == np.sqrt(star.covariance[MG, MG]) * u.dex
    assert list(dict(star.labels)) == list(LABELS)
    with pytest.raises(DataError, match="unknown label 'Iron'; the labels are Teff, logg, C"):
        star.labels["Iron"]
    assert repr(star.labels).startswith(f"Teff {values[TEFF]:.0f} K, log g {values[LOGG]:.2f}, [C/H]")


def test_labels_are_an_array_and_what_is_computed_with_them_is_a_plain_one(star: MeasuredStar) -> None:
    values = np.asarray(star.labels).view(np.ndarray)
    for computed, expected in (
        (star.labels - 1, values - 1),
        (star.labels[:3], values[:3]),
        (star.labels[[TEFF, FE]], values[[TEFF, FE]]),
        (np.eye(20) @ star.labels, values),
        (np.sqrt(star.sigma), np.sqrt(np.diag(star.covariance) ** 0.5)),
    ):
        assert type(computed) is np.ndarray
        np.testing.assert_array_equal(computed, expected)
    assert isinstance(star.labels[TEFF], float)
    assert isinstance(star.labels.mean(), float)
    copy = pickle.loads(pickle.dumps(star.labels))
    assert copy["Teff"] == star.labels["Teff"]
    with pytest.raises(DataError, match="unknown label 'Teff'"):
        np.concatenate([star.labels, star.sigma]).view(type(star.labels))["Teff"]  # forty numbers have no names


def test_abundances_have_the_error_of_the_covariance(star: MeasuredStar, rng: np.random.Generator) -> None:
    """Against draws from the Gaussian of the labels."""
    draws = rng.multivariate_normal(star.labels, star.covariance, 40_000)
    for over, drawn in (("Fe", draws[:, MG] - draws[:, FE]), ("H", draws[:, MG]), ("Si", draws[:, MG] - draws[:, 8])):
        one = star.abundance("Mg", over=over)
        value, sigma = one
        assert value == pytest.approx(drawn.mean(), abs=4 * drawn.std() / 200)
        assert sigma == pytest.approx(drawn.std(), rel=0.03)
        assert repr(one).startswith(f"[Mg/{over}] = {value:+.2f} ± {sigma:.2f} dex")
    assert star.abundance(" mg ", over="fe") == star.abundance("Mg", over="Fe")
    quadrature = np.hypot(star.sigma[MG], star.sigma[FE])
    assert star.abundance("Mg", over="Fe").sigma < 0.6 * quadrature  # what moves all lines cancels
    assert abs(star.abundance("Mg", over="Fe").value - 0.3) < 0.2


def test_abundances_of_the_prior_are_marked(star: MeasuredStar) -> None:
    for element in ELEMENTS:
        one = star.abundance(element)
        assert one.from_prior == (PLAIN[LABELS.index(element)] in star.from_prior.split(", "))
        assert repr(one).endswith("(from the prior)") == one.from_prior
    assert star.abundance("Ce").from_prior
    assert star.abundance("Mg", over="Ce").from_prior


@pytest.mark.parametrize(
    ("element", "over", "message"),
    [
        ("Mgg", "H", r"unknown element 'Mgg'; did you mean Mg.*\? the elements are C, N, O"),
        ("Mg", "Xe", "unknown element 'Xe'; .*the elements are C, N, O"),
        ("Teff", "H", "unknown element 'Teff'"),
        ("Fe", "fe", r"\[Fe/Fe\] is 0 by definition; give two elements, or over='H'"),
        ("Mg/Xe", "H", "unknown element 'Xe'"),
        (5, "H", "unknown element 5"),
    ],
)
def test_slips_about_elements_are_named(star: MeasuredStar, element: object, over: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        star.abundance(element, over=over)


def test_a_ratio_may_be_given_as_it_is_written(star: MeasuredStar) -> None:
    wanted = repr(star.abundance("Mg", over="Fe"))
    assert all(repr(star.abundance(name)) == wanted for name in ("[Mg/Fe]", "mg/fe", " Mg / Fe "))
    assert repr(star.abundance("[Fe/H]")) == repr(star.abundance("Fe"))


def test_labels_are_found_where_people_look_for_them(star: MeasuredStar) -> None:
    assert star["Teff"] == star.labels["Teff"]
    with pytest.raises(AttributeError, match=r'Teff is a label: take star\["Teff"\]'):
        _ = star.Teff
    assert not hasattr(star, "colour")


def test_a_pattern_of_names_is_a_list(folder: Path, found: Measurements) -> None:
    pattern = str(folder / "*.fits")
    assert {one.name for one in starclip.measure(pattern)} == {one.name for one in found}
    with pytest.raises(DataError, match=r"no file matches .*nothing\*; check the folder and the pattern"):
        starclip.measure(str(folder / "nothing*"))


def test_what_was_set_aside_tells_why_at_every_question() -> None:
    one = MeasuredStar("x", "x", "S/N 5 per pixel, below 20")
    for ask in (lambda: one.abundance("Mg"), one.plot, one.nearest_neighbours):
        with pytest.raises(DataError, match=r"^x has no .*: S/N 5 per pixel, below 20$"):
            ask()
    assert np.isnan(one.sigma).all()
    assert np.isnan(one.labels["Teff"])
    assert np.isnan(one.covariance).all()
    assert np.isnan(one.velocity)
    assert np.isnan(one.sigma_velocity)


def test_the_figure_shows_the_spectrum_the_fit_and_the_residuals(star: MeasuredStar) -> None:
    figure = star.plot()
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert {"observed", "best model", "observed - model"} <= set(lines)
    rest = star.fits[0].wavelength / (1 + star.velocity / 299792.458)
    x, y = lines["observed"].get_data()
    np.testing.assert_allclose(y, np.interp(x, rest, star.fits[0].flux), rtol=1e-3)
    assert figure._repr_png_().startswith(b"\x89PNG")  # a notebook without pyplot shows it
    residual = lines["observed - model"].get_ydata()
    assert np.ptp(residual - (y - lines["best model"].get_ydata())) < 1e-9


def test_several_results_take_names_and_point_to_one(found: Measurements) -> None:
    name = found[0].name
    assert found[name] is found[0]
    assert isinstance(found[:2], Measurements)
    with pytest.raises(DataError, match=rf"no star 'x' among 3 measurements; there is {re.escape(name)}"):
        found["x"]
    for what in ("plot", "labels", "abundance", "name"):
        with pytest.raises(
            AttributeError, match=rf"3 measurements have no '{what}'; take one star: found\[0\]\.{what}"
        ):
            getattr(found, what)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        found.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "there is nothing to measure: the list is empty; give spectra, files or a folder"),
        (None, "None is not a spectrum, file or folder"),
        (5, "5 is not a spectrum, file or folder"),
        ("nowhere.fits", "nowhere.fits is missing"),
        (
            ROOT / "params",
            r"params holds no observed spectra \(PypeIt spec1d, STScI x1d, ...\): \d+ files found, 0 used",
        ),
        (np.ones(8192), "an array of fluxes has no wavelengths: give \\(wavelength, flux, error\\) with units"),
        ([Measured("x", "x", "flat")], "x is measured already"),
    ],
)
def test_what_cannot_be_measured_gets_one_line(source: object, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        starclip.measure(source)
    assert len(str(caught.value).splitlines()) == 1


def test_stars_and_mixed_lists_are_sent_to_the_right_door(survey, folder: Path) -> None:
    star, (spectrum,) = survey.star("SIM000003"), starclip.read_spectra(folder / "spec1d_a.fits")
    for source in (star, [star], [spectrum, star]):
        with pytest.raises(
            DataError, match=r"SIM000003 is a star of a data set, not an observed spectrum; use run\.labels"
        ):
            starclip.measure(source)
    with pytest.raises(DataError, match="spectra or files in one list, not both"):
        starclip.measure([spectrum, str(folder)])
    with pytest.raises(DataError, match="give them to read_spectra"):
        starclip.measure(spectrum, air=True)


def test_options_are_those_of_the_command(folder: Path, star: MeasuredStar, tmp_path: Path) -> None:
    path = folder / "spec1d_a.fits"
    lines: list[str] = []
    assert starclip.measure(path, lsf="R=2700", callback=lines.append).name == "star_1"
    assert any(line.startswith("[1/1] star_1: ") for line in lines)
    narrow = starclip.measure(path, population="milky-way")
    assert narrow.prior_fraction[LOGG] > star.prior_fraction[LOGG]
    prior = tmp_path / "prior.csv"
    prior.write_text(f"star,teff,teff_error\nstar_1,{star.labels[TEFF] + 150},10\nother,4500,50\n")
    with pytest.warns(UserWarning, match="there is no spectrum of other"):
        held = starclip.measure(path, prior=prior)
    assert held.labels[TEFF] > star.labels[TEFF] + 100
    for options, message in (
        ({"lsf": "wide"}, "expected a width in Angstrom"),
        ({"population": "andromeda"}, "unknown population 'andromeda'"),
        ({"prior": "nowhere.csv"}, "nowhere.csv is missing"),
    ):
        with pytest.raises(DataError, match=message):
            starclip.measure(path, **options)


def test_spectra_in_memory_are_measured_at_once(folder: Path, star: MeasuredStar) -> None:
    (spectrum,) = starclip.read_spectra(folder / "spec1d_a.fits")
    good = ~spectrum.bad
    arrays = (spectrum.wavelength[good] * u.AA, spectrum.flux[good] * u.Unit("erg / (s cm2 AA)"))
    error = spectrum.ivar[good] ** -0.5 * arrays[1].unit
    one = starclip.measure((*arrays, error))
    assert isinstance(one, MeasuredStar)
    assert abs(one.labels[TEFF] - star.labels[TEFF]) < 30


def test_the_verdict_is_the_worst_of_the_warnings() -> None:
    assert verdict_of([]) == "good"
    assert reason_of([]) == ""
    warnings = ["at the edge: a", "outside: b: c", "doubtful: d", "at the edge: e"]
    assert verdict_of(warnings) == "outside"
    assert verdict_of(warnings[::2]) == "doubtful"
    assert reason_of(warnings) == "b: c; d; a; e"
    one = Measured("x", "x", "", as_labels(TRUTH), np.eye(20), tuple(warnings))
    assert (one.verdict, one.reason) == ("outside", "b: c; d; a; e")
    assert Measured("x", "x", "flat").verdict == "set aside"


def test_documents_have_the_verdicts_and_their_meanings() -> None:
    glossary = " ".join((ROOT / "docs" / "glossary.md").read_text().split())
    guide = (ROOT / "docs" / "guides" / "observe.md").read_text()
    for name, meaning in VERDICTS.items():
        assert f"{name} ({meaning})" in glossary
        assert f"| {name} | {meaning} |" in guide


def test_tables_have_ratios_with_the_errors_of_the_covariance(star: MeasuredStar, found: Measurements) -> None:
    table = measured_table(star)
    assert isinstance(table, QTable)
    for element in ELEMENTS:
        if element != "Fe":
            one = star.abundance(element, over="Fe")
            assert table[f"{element}_Fe"][0].to_value(u.dex) == pytest.approx(one.value, abs=1e-6)
            assert table[f"sigma_{element}_Fe"][0].to_value(u.dex) == pytest.approx(one.sigma, rel=1e-6)
    assert "Fe_Fe" not in table.colnames
    assert table["Teff"].unit == u.K
    several = found.table
    assert np.isnan(several["Mg_Fe"].value).tolist() == [bool(one.set_aside) for one in found]
    assert several["verdict"].tolist() == [one.verdict for one in found]
    assert several["reason"].tolist() == [one.reason for one in found]
    assert "covariance" not in several.colnames


def test_files_have_the_covariance_and_the_text_stays_readable(
    folder: Path, tmp_path: Path, found: Measurements
) -> None:
    assert cli.main(["observe", str(folder), "--output", str(tmp_path / "out")]) == 0
    place = next(i for i, one in enumerate(found) if not one.set_aside)
    frame = pd.read_parquet(tmp_path / "out" / "observed.parquet")
    covariance = np.zeros((20, 20))
    covariance[np.tril_indices(20)] = frame["covariance"][place]
    covariance += np.tril(covariance, -1).T
    np.testing.assert_allclose(covariance, found[place].covariance, rtol=1e-3, atol=1e-6)
    votable = Table.read(tmp_path / "out" / "observed.vot")
    np.testing.assert_allclose(np.stack(votable["covariance"])[place], frame["covariance"][place], rtol=1e-6)
    (fields,) = (
        [f for f in t.fields if f.name == "covariance"]
        for t in parse_votable(tmp_path / "out" / "observed.vot", verify="exception").iter_tables()
    )
    assert [(f.datatype, f.arraysize) for f in fields] == [("double", "210")]
    text = Table.read(tmp_path / "out" / "observed.ecsv")
    assert "covariance" not in text.colnames
    assert {"Mg_Fe", "sigma_Mg_Fe", "from_prior", "reason"} <= set(text.colnames)
    assert all(text[name].ndim == 1 for name in text.colnames)


def test_a_folder_without_spectra_is_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    for target in (tmp_path, tmp_path / "nowhere"):
        assert cli.main(["observe", str(target), "--output", str(tmp_path / "out")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert str(target) in error
    assert not (tmp_path / "out").exists()
