"""`starclip emulator build`: the design, the grids, a build that is killed and goes on, and its emulator."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from starclip_lib.building import batches, design, sampling
from starclip_lib.building.building import BUILD, SYNTHESES, build, check_folder
from starclip_lib.building.fitting import Earlier, inputs, labels_of, read_syntheses
from starclip_lib.building.writing import REGIONS
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.physics.lsf import broadening
from starclip_lib.settings.emulator import load_emulator_params
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.files import locked
from starclip_lib.synthesis.synthesise import synthesise

# As small as a fit allows: a test of the machinery.
TINY = """
seed: 3
syntheses: 124
held_out: 60
network: {hidden: [320, 320], components_apogee: 40, components_fine: 40, distilled: 500, epochs: 10, batch: 64}
"""
PACKAGED = ROOT / "starclip_lib" / "physics" / "emulator.npz"
ARCTURUS = np.array([4286.0, 1.66] + [-0.52] * 18)


def test_the_design_stays_in_its_domain_and_is_a_function_of_the_seed() -> None:
    drawn = design.draw(900, 100, 5)
    labels, over = drawn.labels, drawn.labels[:, 2:] - drawn.labels[:, [FE]]
    low, high = design.teff_limits(labels[:, LOGG])
    assert ((labels[:, TEFF] >= low) & (labels[:, TEFF] <= high)).all()
    assert labels[:, TEFF].min() < 3750
    assert labels[:, LOGG].min() < 0.1
    for column, (lowest, highest) in ((LOGG, design.LOGG_RANGE), (FE, design.FE_RANGE)):
        assert lowest <= labels[:, column].min()
        assert labels[:, column].max() <= highest
    lowest, highest = design.over_fe_limits()
    assert ((over >= lowest - 1e-9) & (over <= highest + 1e-9)).all()
    assert (labels[:, LABELS.index("C")] - labels[:, LABELS.index("O")]).max() <= design.MAX_C_OVER_O + 1e-9
    assert (np.abs(drawn.physics) <= design.REACH * design.PHYSICS_WIDTH * (1 + 1e-9)).all()
    assert (drawn.kind[:100] < len(design.HELD_OUT)).all()
    assert (drawn.kind[100:] >= len(design.HELD_OUT)).all()
    nominal = np.isin(drawn.kind, [design.KINDS.index("population"), design.KINDS.index("uniform")])
    assert not drawn.physics[nominal].any()
    assert 0.1 < (drawn.physics[100:] == 0).all(axis=1).mean() < 0.3
    assert all(0.8 < s < 1.2 for s in drawn.physics[100:][drawn.physics[100:].any(1)].std(0) / design.PHYSICS_WIDTH)
    again = design.draw(900, 100, 5)
    np.testing.assert_array_equal(again.labels, labels)
    assert not np.array_equal(design.draw(900, 100, 6).labels, labels)


def test_any_beginning_of_the_training_set_is_a_fair_sample() -> None:
    drawn = design.draw(2000, 100, 1)
    first, last = drawn.labels[100:700], drawn.labels[1400:]
    for column, scale in ((TEFF, 350), (LOGG, 0.9), (FE, 0.7)):
        assert abs(first[:, column].mean() - last[:, column].mean()) < 0.25 * scale


def test_the_grids_show_what_the_synthesis_shows() -> None:
    spectrum = synthesise(ARCTURUS)
    packed = sampling.sampled(spectrum)
    fine = 1 - sampling.depths(packed["fine"])
    np.testing.assert_allclose(1 - sampling.depths(packed["apogee"]), spectrum.observed(APOGEE), atol=2e-4)
    np.testing.assert_allclose(fine, spectrum.sampled(sampling.FINE, sampling.FINE_FWHM), atol=2e-4)
    for instrument in (NIRSPEC, replace(NIRSPEC, constant_fwhm=2.75)):
        matrix = broadening(sampling.FINE, sampling.FINE_FWHM, instrument.wavelength, instrument.fwhm)
        np.testing.assert_allclose(matrix @ fine, spectrum.observed(instrument), atol=2e-4)


def test_broadening_adds_variances() -> None:
    width, at = 1.2 * SIGMA_PER_FWHM, 12000.2
    line = np.exp(-0.5 * ((sampling.FINE - at) / width) ** 2) / width
    matrix = broadening(sampling.FINE, 1.2, NIRSPEC.wavelength, np.full(8192, 4.0))
    wider = 4.0 * SIGMA_PER_FWHM
    expected = np.exp(-0.5 * ((NIRSPEC.wavelength - at) / wider) ** 2) / wider
    np.testing.assert_allclose(matrix @ line, expected, atol=1e-3 * expected.max())


def test_depths_survive_packing() -> None:
    depth = np.linspace(-0.05, 1.0, 1001)
    np.testing.assert_allclose(sampling.depths(sampling._packed(depth)), depth, atol=1.1e-5)
    with pytest.raises(DataError, match="cannot be kept"):
        sampling._packed(np.array([2.0]))


def test_inputs_and_the_earlier_network_know_the_same_labels() -> None:
    labels = design.draw(80, 20, 1).labels
    x = inputs(labels, np.zeros((80, len(design.PHYSICS))))
    np.testing.assert_allclose(labels_of(x[:, :20].astype(float)), labels, rtol=1e-5, atol=1e-4)
    earlier = Earlier.packaged()
    weight, bias = earlier.first_layer()
    np.testing.assert_allclose(
        x[:, :20] @ weight + bias,
        (labels - earlier.center) / earlier.scale @ earlier.layers[0] + earlier.layers[1],
        atol=1e-4,
    )


def command(file: Path, folder: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "starclip_lib.lab.cli", "emulator", "build", str(file)),
        *("--output", str(folder), "--workers", "1"),
    ]


def finished(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / SYNTHESES).glob("[0-9]*.npz")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A build that was killed after its first batch and run again: parameter file, folder, what the first left."""
    root = tmp_path_factory.mktemp("emulator")
    file, folder = root / "tiny.yaml", root / "build"
    file.write_text(TINY)
    process = subprocess.Popen(
        command(file, folder), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 600
    while not (folder / SYNTHESES).is_dir() or not finished(folder):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with pytest.raises(DataError, match="another process is working there"):
        build(file, folder, 1, "", print)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = finished(folder)
    assert not list(folder.glob("*.npz"))
    done = subprocess.run(command(file, folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return file, folder, before


def test_a_killed_build_goes_on_and_repeats_nothing(built: tuple[Path, Path, dict[str, str]]) -> None:
    file, folder, before = built
    after = finished(folder)
    assert 0 < len(before) < len(after) == 7
    assert {name: after[name] for name in before} == before
    assert not list(folder.rglob(".*.part*"))
    written = (folder / "tiny.npz").read_bytes()
    lines: list[str] = []
    build(file, folder, 1, "", lines.append)  # nothing to synthesise: the same file once more
    assert (folder / "tiny.npz").read_bytes() == written
    assert not any("batches" in line for line in lines)
    known = read_syntheses(folder / SYNTHESES)
    wanted = design.draw(124, 60, 3)
    np.testing.assert_array_equal(known.labels, wanted.labels)
    np.testing.assert_array_equal(known.physics, wanted.physics)
    spectrum = batches.synthesised(wanted.labels[7], wanted.physics[7], "arcturus", "marcs")
    np.testing.assert_array_equal(sampling.sampled(spectrum)["fine"], known.packed["fine"][7])


def test_its_emulator_reproduces_held_out_syntheses(built: tuple[Path, Path, dict[str, str]]) -> None:
    _, folder, _ = built
    emulator = Emulator(folder / "tiny.npz")
    syntheses = read_syntheses(folder / SYNTHESES)
    rows = syntheses.held("population")
    truth = 1 - sampling.depths(syntheses.packed["apogee"][rows])
    error = np.abs(emulator(syntheses.labels[rows], APOGEE, syntheses.physics[rows]) - truth)
    assert np.median(error) < 0.003  # 64 syntheses
    assert np.median(error) < 0.2 * np.median(np.abs(truth - emulator.mean_spectrum(APOGEE)))
    card = json.loads(emulator.card)
    assert card["errors"]["population"]["apogee"]["median"] == pytest.approx(np.median(error), rel=1e-2)
    assert set(card["errors"]) == set(design.HELD_OUT)
    assert set(REGIONS) | {"apogee", "fine", "nirspec", "nirspec_sharp", "chips"} == set(card["errors"]["uniform"])
    assert card["syntheses"] == {"training": 64, "held_out": 60, "asked_for": 124, "failed": 0}
    assert card["tables_sha256"] == batches.tables_digest()
    assert "median" in (folder / "tiny.md").read_text()


def test_gradients_are_those_of_central_differences(built: tuple[Path, Path, dict[str, str]]) -> None:
    emulator = Emulator(built[1] / "tiny.npz")
    n_physics, emulated = len(design.PHYSICS), emulator.on(emulator.fine)
    every = torch.eye(20 + n_physics, dtype=torch.float64)
    gradient = (emulated.linearised(torch.from_numpy(ARCTURUS[None]), every)[1][0] @ emulated.basis).numpy()
    error = np.abs(emulator.gradient(ARCTURUS, emulator.fine) - gradient[:20]).max(axis=1)
    assert (error < 1e-3 * np.abs(gradient[:20]).max(axis=1)).all()
    assert gradient.shape == (20 + n_physics, len(sampling.FINE))
    for column, step in ((TEFF, 20.0), (FE, 0.05), (20, 0.1), (20 + n_physics - 1, 0.1)):
        sides = []
        for sign in (1, -1):
            inputs_ = np.concatenate([ARCTURUS, np.zeros(n_physics)])
            inputs_[column] += sign * step
            sides.append(emulator(inputs_[None, :20], emulator.fine, inputs_[None, 20:])[0])
        difference = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient[column], difference, atol=0.02 * np.abs(difference).max())


def test_outside_its_domain_an_emulator_refuses(built: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    emulator = Emulator(built[1] / "tiny.npz")
    for column, value, words in (
        (TEFF, 3000.0, "Teff must be between"),
        (LOGG, -1.0, "logg must be"),
        (5, np.nan, "/Fe"),
    ):
        labels = ARCTURUS.copy()
        labels[column] = value
        with pytest.raises(DataError, match=words):
            emulator(labels[None], APOGEE)
    physics = np.zeros((1, len(design.PHYSICS)))
    physics[0, 0] = 5
    with pytest.raises(DataError, match="vmic is 5"):
        emulator(ARCTURUS[None], APOGEE, physics)
    with pytest.raises(DataError, match="physics must have shape"):
        emulator(ARCTURUS[None], APOGEE, physics[:, :3])
    with np.load(built[1] / "tiny.npz") as file:
        arrays = dict(file)
    for change, words in (
        ({"format": np.array("starclip emulator 9")}, "another version"),
        ({"b2": arrays["b2"][:-1]}, "do not fit together"),
        ({"w2": np.full_like(arrays["w2"], np.nan)}, "NaN"),
    ):
        np.savez(tmp_path / "other.npz", **{**arrays, **change})
        with pytest.raises(DataError, match=words):
            Emulator(tmp_path / "other.npz")
    (tmp_path / "other.npz").write_bytes((built[1] / "tiny.npz").read_bytes()[:5000])
    with pytest.raises(DataError, match="is not an emulator"):
        Emulator(tmp_path / "other.npz")


def test_folders_and_batches_of_other_builds_are_refused(
    built: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    file, folder, _ = built
    (tmp_path / "other.yaml").write_text(TINY.replace("seed: 3", "seed: 4"))
    with pytest.raises(DataError, match="holds a build with other settings"):
        check_folder(load_emulator_params(tmp_path / "other.yaml"), folder)
    content = json.loads((folder / BUILD).read_text())
    (tmp_path / BUILD).write_text(json.dumps({**content, "tables": "0" * 64}))
    with pytest.raises(DataError, match="with other tables"):
        check_folder(load_emulator_params(file), tmp_path)
    (tmp_path / "000000.npz").write_bytes((folder / SYNTHESES / "000000.npz").read_bytes()[:-400])
    with pytest.raises(DataError, match=r"000000\.npz is not a batch of syntheses.*delete it"):
        read_syntheses(tmp_path)
    drawn = design.draw(80, 20, 1)
    batch = batches.batches(drawn, tmp_path, "arcturus", "marcs", "0" * 64)[0]
    with pytest.raises(DataError, match="other tables"):
        batches.make(batch)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds: 3", "unknown key 'seeds'"),
        ("network: {layers: 3}", r"unknown key 'network\.layers'"),
        ("syntheses: many", "syntheses: "),
        ("syntheses: 450\nheld_out: 400", "at least 60 must be left"),
        ("lines: mine.csv", "unknown line data 'mine.csv'"),
        ("structure: kurucz", "unknown 'kurucz'"),
        ("- 3", "expected 'key: value' lines"),
        ("a: [", "not a YAML file"),
    ],
)
def test_a_parameter_file_that_cannot_be_meant_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        build(tmp_path / "p.yaml", tmp_path / "b", 1, "", print)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b" / BUILD).exists()


def test_too_few_finished_syntheses_and_too_few_workers(tmp_path: Path) -> None:
    file = ROOT / "params" / "emulator-small.yaml"
    with pytest.raises(DataError, match="0 finished syntheses"):
        build(file, tmp_path / "b", 1, "", print, finished_only=True)
    with pytest.raises(ConfigError, match="--workers -1"):
        build(file, tmp_path / "c", -1, "", print)
    with pytest.raises(ConfigError, match="is missing"):
        build(tmp_path / "none.yaml", tmp_path / "c", 1, "", print)
    with locked(tmp_path / "d"), pytest.raises(DataError, match="another process"):
        build(file, tmp_path / "d", 1, "", print)


@pytest.fixture(scope="module")
def abinitio_3() -> Emulator:
    return Emulator(PACKAGED)


def test_abinitio_3_agrees_with_direct_syntheses(abinitio_3: Emulator) -> None:
    assert PACKAGED.stat().st_size < 12e6
    assert abinitio_3.physics_names == design.PHYSICS
    np.testing.assert_array_equal(abinitio_3.physics_width, design.PHYSICS_WIDTH)
    for sign in (0, 1):
        physics = sign * design.PHYSICS_WIDTH
        depth = sampling.sampled(batches.synthesised(ARCTURUS, physics, "arcturus", "marcs"))
        for name, grid in (("apogee", APOGEE), ("fine", abinitio_3.fine)):
            error = abinitio_3(ARCTURUS[None], grid, physics[None])[0] - 1 + sampling.depths(depth[name])
            assert np.median(np.abs(error)) < 0.001
            assert np.sqrt((error**2).mean()) < 0.004


def test_the_documents_have_the_numbers_of_its_card(abinitio_3: Emulator) -> None:
    card = json.loads(abinitio_3.card)
    text = (ROOT / "docs" / "emulator.md").read_text()
    assert f"{card['syntheses']['training']:,} syntheses" in text
    for by_place in card["errors"].values():
        for place in ("apogee", "nirspec", "nirspec_sharp", "fine", "chips"):
            assert f"{by_place[place]['median']:.5f}, {by_place[place]['p95']:.5f}" in text


def test_the_packaged_parameters_are_those_of_abinitio_3() -> None:
    params = load_emulator_params(ROOT / "params" / "emulator.yaml")
    assert (params.name, params.syntheses, params.held_out) == ("abinitio-3", 8000, 400)
