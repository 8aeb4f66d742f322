"""The contest of methods, and syntheses corrected from data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.data.spectra import UNDIVIDED, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.data.worlds import World
from starclip_lib.inference.gauss_newton import marginalised
from starclip_lib.inference.grid import GridModel, correction_terms
from starclip_lib.inference.posterior import Population, Posterior
from starclip_lib.lab.cli import main
from starclip_lib.metrics.ideal import ideal_among_observed
from starclip_lib.metrics.retrieval import wilson_interval
from starclip_lib.metrics.view_information import ViewInformation
from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.physics.labels import FE, N_LABELS, TEFF, LabelScaler
from starclip_lib.run import Run
from starclip_lib.settings.data import DataParams, WorldParams
from starclip_lib.settings.training import EncoderParams
from starclip_lib.suite.contest import METHODS, as_markdown, as_steps, as_table, check_names, hold
from starclip_lib.suite.contestants import check_data
from starclip_lib.suite.corrected import agreed, learn_correction, new_fit
from starclip_lib.support.errors import DataError


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return default_emulator()


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda one: one.name)
def test_physics_are_nuisances_with_the_derivatives_of_the_spectrum(emulator: Emulator, instrument: Instrument) -> None:
    """Normal equations against those of finite differences; the normal matrix is summed over blocks of pixels."""
    width = emulator.physics_width
    model = GridModel(emulator, instrument, physics=(0 * width, np.diag(width**-2))).double()
    labels, nuisances = torch.from_numpy(emulator.center[None]), model.expected[None].clone()
    nuisances[0, -len(width) :] = torch.from_numpy(0.3 * width)
    spectra, eye = model(labels, nuisances), torch.eye(N_LABELS, dtype=torch.float64)
    weight = torch.full((1, instrument.n_pix), 1e4, dtype=torch.float64)
    noise = 0.01 * torch.randn(1, instrument.n_pix, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix, right = model.equations(spectra, weight, noise, eye)
    steps = torch.tensor(
        [2.0, *[0.005] * (N_LABELS - 1), *[1e-4] * (len(model.expected) - len(width)), *(0.01 * width)]
    )
    joined, rows = torch.cat([labels, nuisances], 1), []
    for i, step in enumerate(steps):
        ends = [joined.clone(), joined.clone()]
        ends[0][0, i], ends[1][0, i] = joined[0, i] + step, joined[0, i] - step
        high, low = (model(one[:, :N_LABELS], one[:, N_LABELS:]) for one in ends)
        rows.append((high.model * high.continuum - low.model * low.continuum)[0] / (2 * step))
    design = torch.stack(rows)
    expected = design * 1e4 @ design.T
    size = expected.diagonal().sqrt()
    assert ((matrix[0] - expected) / (size[:, None] * size)).abs().max() < 0.04
    assert ((right[0] - design @ (weight * noise)[0]) / size).abs().max() < 0.05  # of several standard deviations
    plain = GridModel(emulator, instrument).double()
    known, _ = plain.equations(plain(labels, plain.expected[None]), weight, noise, eye)
    matrix, _ = model.equations(model(labels, model.expected[None]), weight, noise, eye)
    free = marginalised(matrix + torch.block_diag(torch.zeros(N_LABELS, N_LABELS), model.penalty))[0]
    assert (free.diagonal() <= 1.01 * marginalised(known)[0].diagonal()).all()  # doubts cost information


def test_a_correction_is_learned_from_stars_of_known_labels(emulator: Emulator) -> None:
    settings = WorldParams(
        kind="realistic", physics=0.0, vmic_scatter=0.0, lsf_error=0.0, correlated_noise=0.0, line_error_chips=0.1
    )
    data = simulate_survey(150, 2, DataParams(n_stars=150, world=settings), emulator)
    labels = torch.from_numpy(data.labels.astype(np.float64))
    guess = make_encoder(APOGEE, EncoderParams(width=16), 0)
    scaler = LabelScaler.fit(data.labels)
    made = new_fit(emulator, guess, Population.of(data.labels), scaler, 2)
    learn_correction(made, torch.from_numpy(data.apogee.flux), labels)
    assert made.forward_model.correction is not None
    at = emulator.center[None].copy()
    at[:, TEFF], at[:, 2:] = 4500.0, -0.4
    world = World(emulator, settings, 2)
    expected = world.line_errors(APOGEE.wavelength, at)[0]
    found = (correction_terms(torch.from_numpy(at)).float() @ made.forward_model.correction)[0].numpy()
    deep = APOGEE.on_detector & (emulator(at, APOGEE)[0] < 0.85)
    deep &= at[0, FE] < 0
    assert np.corrcoef(found[deep], expected[deep])[0, 1] > 0.9
    assert np.std(found[deep] - expected[deep]) < 0.5 * np.std(expected[deep])


def test_what_all_posteriors_have_wrong_is_seen_at_their_matches() -> None:
    """Estimates with a common offset and a scatter that their errors do not know: both come back, intervals hold."""
    rng, n, population = np.random.default_rng(4), 400, Population(np.zeros(N_LABELS), np.eye(N_LABELS))
    truth = rng.standard_normal((n, N_LABELS))
    error, extra, offset = 0.05, 0.15, np.linspace(-0.4, 0.4, N_LABELS)
    covariance = np.tile(error**2 * np.eye(N_LABELS), (n, 1, 1))
    right = Posterior.of_estimates(population, truth + error * rng.standard_normal(truth.shape), covariance)
    wrong = truth + offset + np.hypot(error, extra) * rng.standard_normal(truth.shape)
    found = Posterior.of_estimates(population, np.repeat(wrong, 2, axis=0), np.repeat(covariance, 2, axis=0))
    order = rng.permutation(n)
    corrected = agreed(found, 2, Posterior(right.packed[order]))
    missed = corrected.mean - np.repeat(truth, 2, axis=0)
    assert np.abs(missed.mean(axis=0)).max() < 0.03
    sigma = np.sqrt(np.diagonal(corrected.covariance, axis1=1, axis2=2))
    assert (np.abs(missed) < 1.96 * sigma).mean() == pytest.approx(0.95, abs=0.015)
    assert np.median(sigma) == pytest.approx(np.hypot(error, extra), rel=0.1)


def test_the_ideal_matcher_of_observed_spectra_finds_all_or_none(survey: PairedSpectra) -> None:
    test = survey.rows("test")
    truth = survey.labels[test] + np.float32(0.01)
    spectra = SpectrumSet(NIRSPEC, survey.nirspec.flux[test], survey.nirspec.mask[test])
    data = dataclasses.replace(survey, observed=spectra, observed_labels=truth)
    labels, snr = data.labels[test].astype(float), np.full((len(test), 1), 50.0)
    found = []
    for information in (1e9, 1e-9):
        seen = ViewInformation(test, labels, np.tile(information * np.eye(N_LABELS), (len(test), 1, 1, 1)), snr)
        found.append(ideal_among_observed(data, seen, seen, len(test), 1)["success@1"])
    assert found[0] == 1.0
    assert found[1] < 0.2


def test_a_shifted_posterior_is_that_of_shifted_estimates() -> None:
    rng = np.random.default_rng(5)
    population = Population(np.zeros(N_LABELS), np.eye(N_LABELS))
    root = rng.standard_normal((3, N_LABELS, N_LABELS))
    labels, by = rng.standard_normal((3, N_LABELS)), rng.standard_normal(N_LABELS)
    covariance = 0.1 * np.eye(N_LABELS) + root @ root.transpose(0, 2, 1) / N_LABELS
    one, other = (Posterior.of_estimates(population, x, covariance) for x in (labels, labels + by))
    np.testing.assert_allclose(one.shifted(by).mean, other.mean, atol=1e-3)


def test_unknown_methods_are_refused_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"^unknown method 'magic'; choose from overlap, linear, labels, "):
        check_names(["overlap", "magic"])
    assert main(["contest", "params/nowhere.yaml", "magic"]) == 1
    assert capsys.readouterr().err.startswith("starclip: error: unknown method 'magic'; choose from overlap, ")


def test_a_contest_needs_pairs_and_test_stars(survey: PairedSpectra) -> None:
    undivided = np.full(survey.n_stars, UNDIVIDED, np.uint8)
    archive = dataclasses.replace(survey, split=undivided, observed=None, observed_labels=None)
    with pytest.raises(DataError, match=r"^the contest needs training and test stars; this is an archive"):
        check_data(archive)


def test_a_data_set_with_one_instrument_is_refused(survey: PairedSpectra, tmp_path: Path) -> None:
    import h5py

    survey.write(tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5", "a") as file:
        del file["nirspec"]
    with pytest.raises(DataError, match=r"one\.h5: nirspec/wavelength is missing"):
        PairedSpectra.read(tmp_path / "one.h5")


def test_a_contest_is_written_resumed_and_the_same_again(trained: Run) -> None:
    said: list[str] = []
    table = hold(trained, ["overlap", "theory"], said.append)
    assert list(table.index) == ["overlap", "theory"]
    assert 0 <= table.loc["overlap", "nirspec_to_apogee"] <= 1
    assert table.loc["theory", "nirspec Teff"] > 0
    assert "observed_to_apogee" in table
    assert [line for line in said if line.endswith(" ...")] == ["overlap: nothing ...", "theory: physics ..."]
    said.clear()
    again = hold(trained, ["overlap", "theory"], said.append)
    assert not [line for line in said if line.endswith(" ...")]  # nothing was run
    assert again.equals(table)
    record = trained.report / f"contest-{trained.params.corruption.n_views}" / "theory.json"
    before = json.loads(record.read_text())
    record.unlink()
    hold(trained, ["theory"])
    after = json.loads(record.read_text())
    assert (before["hits"], before["labels"]) == (after["hits"], after["labels"])
    whole = record.read_text()
    for damaged in (whole[:100], whole.replace('"hits"', '"hit"')):
        record.write_text(damaged)
        with pytest.raises(DataError, match=r"theory\.json .*; delete it and run the contest again$"):
            hold(trained, ["theory"])
    record.write_text(whole)
    assert (trained.report / "contest.csv").is_file()
    assert (trained.report / "contest.md").read_text().startswith("| method | knows |")
    assert set(trained.metrics()["contest"]) == {"overlap", "theory"}


def test_as_many_views_as_are_asked_for_and_the_ladder_has_their_intervals(trained: Run) -> None:
    table = hold(trained, ["overlap"], n_views=1)
    assert (trained.report / "contest-1" / "overlap.json").is_file()
    steps, n = as_steps(table, 40), float(table.loc["overlap", "nirspec_to_apogee"])
    assert steps["overlap"]["nirspec_to_apogee"]["success@1"] == n
    assert steps["overlap"]["nirspec_to_apogee"]["interval"]["success@1"] == wilson_interval(n, 40)
    assert "mock_to_extended" not in steps["overlap"]
    with pytest.raises(DataError, match=r"^--views 0: give 1 to 100 views of each NIRSpec star"):
        hold(trained, ["overlap"], n_views=0)


def test_the_table_has_empty_cells_where_a_method_has_no_answer() -> None:
    record = {"method": "overlap", "knows": "nothing", "hits": {"nirspec_to_apogee": 0.5}, "labels": {}}
    table = as_table([{**record, "train_seconds": 1.0, "seconds_per_spectrum": 0.0}])
    line = as_markdown(table).splitlines()[2]
    assert line == "| overlap | nothing | 0.5 |  |  |  |  | 1 | 0 |"
    assert set(METHODS) >= {"overlap", "linear", "labels", "scratch", "contrastive", "theory", "physics", "ideal"}
