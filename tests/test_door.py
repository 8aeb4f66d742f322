"""The front door: open a run, ask it for a star, its neighbours and its labels."""

from __future__ import annotations

import difflib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy import units as u
from conftest import OVERRIDES
from nirspec_files import observe, spec1d_table, write_spec1d

import starclip_lib as starclip
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS
from starclip_lib.run import Run, open_run
from starclip_lib.settings.params import changed_params
from starclip_lib.support.errors import ConfigError, DataError, StarclipError


@pytest.fixture
def here(trained: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run, seen from inside its project."""
    monkeypatch.chdir(trained.root)
    return trained


def spectrum_of(run: Run, star: str, folder: Path, rng: np.random.Generator) -> ObservedSpectrum:
    """A NIRSpec file of a star of the data set, read again."""
    wave, flux = observe(run.data.star(star).nirspec, 30.0, rng)
    write_spec1d(folder / "spec1d_a.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, flux))
    (spectrum,) = starclip.read_spectra(folder)
    return spectrum


def brute_force(run: Run, z: np.ndarray, k: int) -> tuple[list[str], np.ndarray]:
    """Identifiers and cosines of the APOGEE spectra nearest to a vector, one by one."""
    apogee = run.embeddings("starclip/apogee")
    cosine = [float(z.astype(float) @ other.astype(float)) for other in apogee.z]
    best = sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]
    return [str(apogee.star_id[i]) for i in best], np.array([cosine[i] for i in best])


def first_view(run: Run, star: str) -> np.ndarray:
    views = run.embeddings("starclip/nirspec")
    return views.z[(views.star_id == star) & (views.view == 0)][0]


def test_a_run_is_opened_by_name_by_parameter_file_and_by_its_folder(here: Run, tmp_path: Path) -> None:
    by_name = starclip.open_run("small", OVERRIDES)
    by_file = starclip.open_run("params/small.yaml", OVERRIDES)
    by_path = starclip.open_run(here.root / "params" / "small.yaml", OVERRIDES)
    by_folder = starclip.open_run("runs/small")  # the folder knows its settings
    for run in (by_name, by_file, by_path, by_folder):
        assert run.params == here.params
        assert (run.root, run.folder) == (here.root, here.folder)
        assert run.data.n_stars == 160
    assert by_name.params_file == by_file.params_file == here.params_file
    assert by_name.overrides == OVERRIDES
    assert by_folder.params_file is None
    (here.root / "params" / "small.yaml").unlink()
    assert starclip.open_run("small").params == here.params  # the folder of that name


def test_a_folder_is_opened_from_anywhere(trained: Run, tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    run = starclip.open_run(trained.folder)
    assert run.folder == trained.folder
    assert run.params == trained.params


def test_a_folder_that_was_renamed_or_copied_is_opened_itself(here: Run) -> None:
    """Not the one of the name that its settings had."""
    copy = Path(shutil.copytree(here.folder, here.root / "runs" / "copy"))
    (copy / "metrics").mkdir()
    (copy / "metrics" / "data.json").write_text('{"n_stars": 1}')
    run = starclip.open_run("runs/copy")
    assert run.folder == copy
    assert run.metrics() == {"data": {"n_stars": 1}}
    assert run.data.n_stars == 160


def test_settings_can_be_changed_on_the_way(here: Run) -> None:
    changes = {"atlas": {"n_neighbours": 33}, "seed": 9}
    assert starclip.open_run("runs/small", changes).params == changed_params(here.params, changes)
    assert starclip.open_run("params/small.yaml", changes).params.seed == 9


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("nowhere", DataError, r"^unknown run 'nowhere': \S+params has small; \S+runs has no folder of that name$"),
        ("params/nowhere.yaml", ConfigError, r"^params/nowhere\.yaml: no such parameter file$"),
        (
            "runs/nowhere",
            DataError,
            r"^runs/nowhere is not the folder of a run: it has no settings\.json; give one such as runs/quick$",
        ),
        ("params", DataError, r"^unknown run 'params': \S+params has small; \S+runs has no folder of that name$"),
    ],
)
def test_what_is_not_a_run_is_named(here: Run, what: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        starclip.open_run(what)
    assert len(str(caught.value).splitlines()) == 1


def test_settings_that_are_wrong_are_named(here: Run) -> None:
    for what, where in (
        ("small", "params/small.yaml"),
        ("params/small.yaml", "params/small.yaml"),
        ("runs/small", "runs/small/settings.json"),
    ):
        with pytest.raises(
            ConfigError, match=rf"{where}: unknown key 'data\.nstars'; did you mean 'n_stars'\?$"
        ) as caught:
            starclip.open_run(what, {"data": {"nstars": 5}})
        assert len(str(caught.value).splitlines()) == 1
    settings = here.folder / "settings.json"
    settings.write_text("{")
    with pytest.raises(DataError, match=r"runs/small/settings\.json is not JSON"):
        starclip.open_run("runs/small")


def test_a_run_that_is_not_finished_says_what_to_run(run: Run) -> None:
    for ask in (
        lambda: run.data,
        lambda: run.model("starclip"),
        lambda: run.embeddings("starclip/nirspec"),
        lambda: run.neighbours(np.ones(8192)),
        lambda: run.labels(np.ones(8192)),
    ):
        with pytest.raises(DataError, match=r"^runs/small/\S+ is missing: run notebook 0\d_\w+ first") as caught:
            ask()
        assert len(str(caught.value).splitlines()) == 1


def test_a_star_has_its_labels_and_spectra(finished: Run) -> None:
    star = finished.data.star("SIM000042")
    assert (star.star_id, star.row) == ("SIM000042", 42)
    np.testing.assert_array_equal(star.labels, finished.data.labels[42])
    np.testing.assert_array_equal(star.nirspec, finished.data.nirspec.flux[42])
    np.testing.assert_array_equal(star.apogee, finished.data.apogee.flux[42])
    with pytest.raises(DataError, match=r"no star 'SIM00042' in this data set; similar: \S+"):
        finished.data.star("SIM00042")


def test_identifiers_are_found_in_any_case_and_with_blanks(finished: Run) -> None:
    for given in ("SIM000042", "sim000042", "  Sim000042\n"):
        assert finished.data.star(given).star_id == "SIM000042"
        assert (
            finished.neighbours(given, k=3)["star_id"].tolist()
            == finished.neighbours("SIM000042", k=3)["star_id"].tolist()
        )
        assert finished.labels(given)["star_id"].tolist() == ["SIM000042"]
    assert len(finished.neighbours(["SIM000042"], k=3)) == 3
    for wrong in (42, None):
        with pytest.raises(DataError, match=f"^{wrong} is not a star: give an identifier such as SIM0"):
            finished.neighbours(wrong)


def test_unknown_identifiers_name_the_nearest_ones(finished: Run) -> None:
    similar = difflib.get_close_matches("sim00042", [name.lower() for name in finished.data.star_id.tolist()], 3, 0.5)
    named = ", ".join(similar).upper()
    for ask in (finished.neighbours, finished.labels, finished.data.star):
        with pytest.raises(DataError) as caught:
            ask("sim00042")
        assert str(caught.value) == f"no star 'sim00042' in this data set; similar: {named}"
        with pytest.raises(DataError, match=r"^no star 'HD 1' in this data set; identifiers look like SIM\d{6}$"):
            ask("HD 1")


def test_a_star_that_is_there_twice_is_named(survey: PairedSpectra) -> None:
    names = survey.star_id.copy()
    names[5] = names[4].lower()
    data = replace(survey, star_id=names)
    assert data.row("sim000004") == 5  # exactly
    assert data.row("SIM000004") == 4
    message = r"^2 stars of this data set are called 'Sim000004' but for case: give SIM000004, sim000004$"
    with pytest.raises(DataError, match=message):
        data.row("Sim000004")
    names[5] = names[4]
    with pytest.raises(DataError, match=r"star_id has 1 repeats, SIM000004 among them; drop duplicate stars first"):
        replace(survey, star_id=names)


def test_a_file_in_place_of_an_identifier_is_read_first(finished: Run, tmp_path: Path) -> None:
    for ask in (finished.neighbours, finished.labels):
        with pytest.raises(DataError, match=r"For a file or folder give starclip\.read_spectra\("):
            ask(str(tmp_path))


def test_neighbours_of_a_star_are_those_of_a_search_one_by_one(finished: Run) -> None:
    star = finished.data.star("SIM000042")
    table = finished.neighbours(star, k=3)
    names, cosine = brute_force(finished, first_view(finished, star.star_id), 3)
    assert table.colnames == ["star_id", "match", "cosine", "part", *LABELS]
    assert table["star_id"].tolist() == names
    np.testing.assert_allclose(table["cosine"], cosine, atol=6e-5)
    assert (np.diff(table["cosine"]) <= 0).all()
    rows = [finished.data.row(name) for name in names]
    assert table["part"].tolist() == [finished.data.star(name).split for name in names]
    assert table["Teff"].unit == u.K
    assert {table[name].unit for name in LABELS[1:]} == {u.dex}
    for i, name in enumerate(LABELS):
        np.testing.assert_allclose(table[name].value, finished.data.labels[rows, i])
    assert len(finished.neighbours(star)) == 5
    everything = finished.neighbours(star, k=10_000)
    assert len(everything) == 160  # all there are
    assert everything["star_id"][everything["match"] == "itself"].tolist() == [star.star_id]
    assert (np.diff(everything["cosine"]) <= 0).all()


def test_neighbours_of_flux_are_those_of_its_embedding(finished: Run) -> None:
    flux = finished.data.nirspec.flux[7]
    z = starclip.run_encoder(finished.model("starclip").encoders["nirspec"], finished.data.nirspec, np.array([7]))[0, 0]
    names, cosine = brute_force(finished, z, 4)
    for given in (flux, flux[None], flux.astype(np.float64)):
        table = finished.neighbours(given, k=4)
        assert table["star_id"].tolist() == names
        np.testing.assert_allclose(table["cosine"], cosine, atol=6e-5)


def test_neighbours_of_an_observed_spectrum(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    spectrum = spectrum_of(finished, "SIM000009", tmp_path, rng)
    table = finished.neighbours(spectrum, k=3)
    (row,) = finished.labels(spectrum)
    assert len(table) == 3
    assert "match" not in table.colnames
    assert (np.diff(table["cosine"]) <= 0).all()
    assert finished.neighbours([spectrum], k=3)["star_id"].tolist() == table["star_id"].tolist()
    assert row["verdict"] == "good"
    spectrum.flux[:] = rng.normal(size=len(spectrum.flux))
    with pytest.raises(DataError, match=r"^star_1 cannot be used: "):
        finished.neighbours(spectrum)


def test_labels_of_a_star_are_the_mean_of_its_views(finished: Run) -> None:
    """Views share the error of a network, so that more of them do not make it smaller."""
    star = finished.data.star("SIM000042")
    table = finished.labels(star)
    assert table.colnames == ["star_id", "part", *LABELS, *(f"sigma_{name}" for name in LABELS)]
    assert (table["star_id"][0], table["part"][0]) == (star.star_id, star.split)
    views = finished.labels(starclip.mock_telescope(finished.params).views(finished.data.nirspec, np.array([42]))[0])
    assert len(views) > 1
    for i, name in enumerate(LABELS):
        unit = u.K if name == "Teff" else u.dex
        assert table[name].unit == table[f"sigma_{name}"].unit == unit
        assert table[name][0].value == pytest.approx(views[name].value.mean(), abs=0.01 * ASPCAP_ERROR[i])
        assert table[f"sigma_{name}"][0].value == pytest.approx(views[f"sigma_{name}"][0].value, rel=1e-3)


def test_labels_of_flux_have_a_row_for_each_spectrum(finished: Run) -> None:
    flux, encoder = finished.data.nirspec.flux[:3], finished.model("starclip").encoders["nirspec"]
    table = finished.labels(flux)
    assert table.colnames == [*LABELS, *(f"sigma_{name}" for name in LABELS)]
    with torch.no_grad():
        whitened = (encoder(torch.from_numpy(flux)).double() @ encoder.readout + encoder.offset).numpy()
    expected = encoder.population.mean + whitened @ encoder.population.root.T
    np.testing.assert_allclose(table["Teff"].to_value(u.K), expected[:, 0], rtol=1e-3)
    np.testing.assert_allclose(table["Fe"].to_value(u.dex), expected[:, LABELS.index("Fe")], rtol=1e-3, atol=1e-3)
    error = np.sqrt(np.diag(encoder.population.root @ encoder.error.numpy() @ encoder.population.root.T))
    np.testing.assert_allclose([table[f"sigma_{name}"][0].value for name in LABELS], error, rtol=1e-3)
    one = finished.labels(flux[1])
    assert len(one) == 1
    np.testing.assert_allclose(one["logg"].value, table["logg"][1:2].value, rtol=1e-3)


def test_labels_of_observed_spectra_have_a_verdict(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    good = spectrum_of(finished, "SIM000009", tmp_path, rng)
    bad = spectrum_of(finished, "SIM000009", _new(tmp_path / "bad"), rng)
    bad.name, bad.bad = "ruined", np.ones(len(bad.flux), bool)
    table = finished.labels([good, bad])
    assert table["name"].tolist() == ["star_1", "ruined"]
    assert table["verdict"].tolist() == ["good", "set aside"]
    assert table["reason"][0] == ""
    assert table["reason"][1].startswith("only 0 good pixels")
    assert table["Teff"].unit == table["sigma_Teff"].unit == u.K
    assert table["velocity"].unit == u.km / u.s
    assert float(table["velocity"][0].value) == pytest.approx(30, abs=8)
    assert np.isfinite(float(table["Teff"][0].value))
    assert np.isnan(table["Teff"].value).tolist() == [False, True]
    assert finished.labels(good)["name"].tolist() == ["star_1"]


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("ask", ["neighbours", "labels"])
def test_spectra_of_another_shape_or_with_holes_are_refused(finished: Run, ask: str) -> None:
    flux = finished.data.nirspec.flux[0].copy()
    for wrong in (flux[:-1], finished.data.apogee.flux[:2], flux[None, None]):
        with pytest.raises(
            DataError, match=r"^NIRSpec spectra have shape \(n, 8192\), not \(.*\); put them on the grid"
        ):
            getattr(finished, ask)(wrong)
    for value in (np.nan, np.inf):
        flux[100] = value
        with pytest.raises(DataError, match="hold NaN or infinite values; set pixels without data to 1"):
            getattr(finished, ask)(flux)


def test_one_spectrum_at_a_time_has_neighbours(finished: Run) -> None:
    """Of two spectra, one must not be forgotten silently."""
    for two in (finished.data.nirspec.flux[:2], [finished.data.star("SIM000001")] * 2):
        with pytest.raises(DataError, match="`neighbours` takes one spectrum at a time; got 2"):
            finished.neighbours(two)


def test_labels_of_several_stars_have_a_row_each(finished: Run) -> None:
    names = ["SIM000042", "sim000007"]
    table = finished.labels(names)
    assert table["star_id"].tolist() == ["SIM000042", "SIM000007"]
    for row, name in zip(table, names, strict=True):
        (alone,) = finished.labels(name)
        assert row["Teff"].value == pytest.approx(alone["Teff"].value, rel=1e-3)
        assert row["sigma_Fe"].value == pytest.approx(alone["sigma_Fe"].value, rel=1e-3)
    with pytest.raises(DataError, match="not both at once"):
        finished.labels(["SIM000042", ObservedSpectrum("x", *[np.ones(3)] * 5)])


def test_posteriors_rank_neighbours_by_what_the_table_shows(finished: Run) -> None:
    table = finished.neighbours("SIM000042", k=60, by="fit")
    assert table.colnames[:4] == ["star_id", "ln_B", "match", "cosine"]
    assert (np.diff(table["ln_B"]) <= 0).all()
    others = table["star_id"] != "SIM000042"
    assert set(table["match"][~others]) == {"itself"}
    assert (table["match"][others] == np.where(table["ln_B"][others] < 0, "no match", "possible")).all()


def test_bad_numbers_of_neighbours_are_refused(finished: Run) -> None:
    for k in (0, -1):
        with pytest.raises(DataError, match=f"k must be at least 1, not {k}"):
            finished.neighbours(finished.data.star("SIM000042"), k=k)


def test_a_star_of_another_run_is_refused(finished: Run) -> None:
    foreign = starclip.simulate_survey(200, seed=9).star("SIM000170")
    for ask in (finished.neighbours, finished.labels):
        with pytest.raises(DataError, match="no star 'SIM000170' in this data set"):
            ask(foreign)


def test_things_say_what_they_hold(finished: Run, run: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    files = "data.h5, apogee.ckpt, nirspec.ckpt, supervised.ckpt, starclip.ckpt, mockstarclip.ckpt, "
    files += "supervised_extended.ckpt, fit.ckpt, fit.h5, embeddings.h5"
    assert repr(finished) == f"Run small in {finished.root}: {files} up to date"
    assert repr(run) == f"Run small in {run.root}: nothing up to date"
    data = finished.data
    assert repr(data) == ("160 stars (100 train, 20 val, 40 test), simulate; labels and spectra of APOGEE and NIRSpec")
    teff, logg, iron = data.labels[42, [0, 1, LABELS.index("Fe")]]
    split = data.star("SIM000042").split
    assert repr(data.star("SIM000042")) == (
        f"SIM000042 ({split}): Teff {teff:.0f} K, log g {logg:.2f}, [Fe/H] {iron:+.2f}"
    )
    spectrum = spectrum_of(finished, "SIM000009", tmp_path, rng)
    used = spectrum.wavelength[~spectrum.bad]
    assert repr(spectrum) == (
        f"star_1: {len(used):,} good pixels from {used[0]:,.0f} to {used[-1]:,.0f} Å, S/N {spectrum.snr:.0f} as claimed"
    )
    spectrum.bad[:] = True
    assert repr(spectrum) == "star_1: 0 good pixels, S/N 0 as claimed"
    model = repr(finished.model("starclip"))
    history = finished.model("starclip").history
    for part in ("nirspec: residual_mlp", "apogee: residual_mlp", f"epoch {history.best_epoch} of {history.epochs}"):
        assert part in model
    for part, encoder in finished.model("starclip").encoders.items():
        count = sum(weights.numel() for weights in encoder.parameters())
        assert re.search(rf"{part}: [^;]* {count:,} parameters", model)
    assert len(model.splitlines()) == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.labels("a text"), "no star 'a text' in this data set; identifiers look like"),
        (lambda run: run.labels(None), "expected observed spectra, as starclip.read_spectra gives, not NoneType"),
        (lambda run: run.labels([]), "the list of spectra is empty; starclip.read_spectra reads some"),
        (lambda run: run.network_labels("SIM000042"), "expected observed spectra, as starclip.read_spectra gives"),
        (lambda run: run.neighbours([]), r"NIRSpec spectra have shape \(n, 8192\)"),
        (lambda run: run.labels(np.full((1, 8192), "a")), "NIRSpec spectra are real numbers"),
        (lambda run: run.labels(np.ones((1, 8192), complex)), "NIRSpec spectra are real numbers"),
        (lambda run: run.labels(np.full((1, 8192), 1e300)), "the spectra hold NaN or infinite values"),
        (lambda run: run.neighbours("Arcturus"), "no star 'Arcturus' in this data set"),
        (lambda run: run.neighbours(run.data.star(str(run.data.star_id[0])), k="a"), "k must be at least 1, not 'a'"),
        (lambda run: run.data.star(5), "no star '5' in this data set"),
        (lambda run: open_run(3), "3 is not a run: give a name or a path"),
        (lambda run: open_run("x" * 400), "is not a run: no file can have that name"),
        (lambda run: open_run(run.params_file, [1]), "changes of settings are a mapping"),
    ],
)
def test_absurd_questions_get_one_line(finished: Run, ask, message: str) -> None:
    with pytest.raises(StarclipError, match=message) as caught:
        ask(finished)
    assert len(str(caught.value).splitlines()) == 1
