"""Real stars as population, and worlds whose physics differs from theory."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from starclip_lib.data import simulate
from starclip_lib.data.apogee_mock import draw_snr, observe_apogee, standard_noise
from starclip_lib.data.selection import inside_cuts, split_by_star
from starclip_lib.data.simulate import catalogue_errors, perturb, simulate_survey, write_survey
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.worlds import World, broadened
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.physics.population import draw_population, draw_real_population, real_giants
from starclip_lib.settings.data import DataParams, WorldParams
from starclip_lib.support.errors import DataError

_PLAIN = {"physics": 0.0, "vmic_scatter": 0.0, "line_error_chips": 0.0, "line_error_outside": 0.0}
_PLAIN |= {"lsf_error": 0.0, "correlated_noise": 0.0}


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    return default_emulator()


@pytest.fixture(scope="module")
def realistic(emulator: Emulator) -> PairedSpectra:
    return simulate_survey(80, 4, DataParams(n_stars=80, world="realistic", population="apogee"), emulator)


def test_the_real_giants_are_those_of_the_catalogue() -> None:
    stars, steps = real_giants()
    assert stars.shape == (189_182, 4)
    assert (np.diff(stars[:, 0]) >= 0).all()
    inside = (stars > [4000, 0.5, -1.8, -1]).all(axis=1) & (stars < [5000, 2.0, 0.5, 1]).all(axis=1)
    assert inside.sum() == pytest.approx(58_900, rel=0.02)  # 59,000 at log g 0.5 to 2
    assert (steps == [2.0, 0.005, 0.005, 0.0025]).all()
    clump = (np.abs(stars[:, 0] - 4600) < 20) & (np.abs(stars[:, 2] + 0.2) < 0.02)  # and the branch beside it
    low, high = np.quantile(stars[clump, 1], [0.16, 0.84])
    assert (low, high) == pytest.approx((2.12, 2.59), abs=0.06)


def test_a_drawn_population_has_the_labels_of_real_stars_and_the_models_relations(
    rng: np.random.Generator,
) -> None:
    drawn, (stars, _) = draw_real_population(20_000, (0.5, 2.0), rng), real_giants()
    stars = stars[(stars[:, 1] > 0.5) & (stars[:, 1] < 2.0)]
    for column, index in ((TEFF, 0), (LOGG, 1), (FE, 2)):
        error = stars[:, index].std() * np.sqrt(1 / 20_000 + 1 / len(stars))
        assert drawn[:, column].mean() == pytest.approx(stars[:, index].mean(), abs=5 * error)
    assert np.corrcoef(drawn[:, TEFF], drawn[:, LOGG])[0, 1] == pytest.approx(np.corrcoef(stars.T)[0, 1], abs=0.03)
    silicon = drawn[:, 8] - drawn[:, FE]
    assert silicon.std() == pytest.approx(np.hypot(0.75 * stars[:, 3].std(), 0.04), rel=0.2)


def test_a_world_of_theory_is_the_survey_without_worlds_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of a survey of less than a block, written down as they were before there were worlds."""
    monkeypatch.setattr(simulate, "World", None)  # it is not made
    settings, emulator, n = DataParams(n_stars=60, world="theory"), default_emulator(), 60
    found = simulate_survey(n, 7, settings)
    rng = np.random.default_rng(7)
    truth = draw_population(2 * n + 100, settings.logg_range, rng)
    errors = catalogue_errors(len(truth), settings.error_spread, rng)
    catalogue = perturb(truth, errors, rng)
    keep = emulator.inside_domain(truth) & emulator.inside_domain(catalogue)
    keep &= np.all(list(inside_cuts(catalogue, settings).values()), axis=0)
    truth, catalogue = truth[keep][:n], catalogue[keep][:n]
    snr = draw_snr(n, settings.apogee, rng)
    noise = copy.deepcopy(rng)
    list(standard_noise(n, rng))
    flux, ivar = observe_apogee(emulator(truth, APOGEE), snr, settings.apogee, noise, rng)
    split = split_by_star(found.star_id, settings.split, rng)
    assert found.observed is None
    for a, b in ((found.labels, catalogue.astype(np.float32)), (found.apogee.flux, flux), (found.apogee.ivar, ivar)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found.nirspec.flux, emulator(catalogue, NIRSPEC))
    np.testing.assert_array_equal(found.split, split)


def test_a_world_without_differences_is_theory_at_the_true_labels(emulator: Emulator) -> None:
    world = World(emulator, WorldParams(**_PLAIN), 1)
    labels = np.repeat(emulator.center[None], 3, axis=0)
    physics = world.physics_of(3)
    assert not physics.any()
    for instrument in (APOGEE, NIRSPEC):
        np.testing.assert_allclose(world(labels, instrument, physics), emulator(labels, instrument), atol=2e-5)


def test_line_errors_scale_the_depth_of_lines_and_are_independent_beyond_a_line(emulator: Emulator) -> None:
    world = World(emulator, WorldParams(**{**_PLAIN, "line_error_chips": 0.1, "line_error_outside": 0.2}), 1)
    labels = emulator.center[None].copy()
    labels[:, TEFF], labels[:, 2:] = 4500.0, -0.4  # where errors do not depend on labels
    errors = world.line_errors(np.arange(15200.0, 15780.0, 1.0), labels)[0]
    assert errors.std() == pytest.approx(0.1, rel=0.25)
    assert abs(np.corrcoef(errors[:-3], errors[3:])[0, 1]) < 0.2
    assert world.line_errors(np.arange(9000.0, 14000.0, 1.0), labels).std() == pytest.approx(0.2, rel=0.25)
    ideal, found = emulator(labels, APOGEE)[0], world(labels, APOGEE, world.physics_of(1))[0]
    factor = 1 + world.line_errors(APOGEE.wavelength, labels)[0]
    np.testing.assert_allclose(1 - found, (1 - ideal) * factor, atol=2e-4)


def test_a_wider_line_spread_function_is_one_more_convolution(emulator: Emulator) -> None:
    flux = emulator(emulator.center[None], APOGEE)
    step = 6e-6 * np.log(10)
    sigma = 1 / APOGEE.resolution / np.sqrt(8 * np.log(2)) / step
    expected = gaussian_filter1d(flux.astype(float), sigma * np.sqrt(1.1**2 - 1), axis=1)
    np.testing.assert_allclose(broadened(flux, APOGEE, 1.1)[:, 200:-200], expected[:, 200:-200], atol=1e-3)


def test_observed_spectra_of_test_stars_are_those_of_the_world(realistic: PairedSpectra, emulator: Emulator) -> None:
    test = realistic.rows("test")
    assert realistic.observed is not None
    assert realistic.observed_labels is not None
    theory = emulator(realistic.observed_labels.astype(float), NIRSPEC)
    mismatch = realistic.observed.flux - theory
    assert 0.001 < mismatch.std() < 0.02
    off = realistic.labels[test] - realistic.observed_labels  # the catalogue's errors
    assert np.abs(off[:, TEFF]).mean() < 20
    np.testing.assert_allclose(realistic.nirspec.flux, emulator(realistic.labels.astype(float), NIRSPEC), atol=3e-5)
    mixed = realistic.with_observed()
    assert (mixed.nirspec.flux[test] == realistic.observed.flux).all()
    train = realistic.rows("train")
    assert (mixed.nirspec.flux[train] == realistic.nirspec.flux[train]).all()


def test_a_world_is_a_function_of_its_seed_and_shared_by_surveys(emulator: Emulator) -> None:
    one, same, other = (World(emulator, WorldParams(seed=seed), survey) for seed, survey in ((1, 1), (1, 2), (2, 1)))
    assert (one.physics == same.physics).all()
    assert one.lsf == same.lsf
    assert not (one.physics == other.physics).any()
    assert not (one.physics_of(5) == same.physics_of(5)).all()  # each star's own microturbulence


def test_observed_spectra_survive_a_file(
    realistic: PairedSpectra, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    realistic.write(tmp_path / "a.h5")
    monkeypatch.setattr(simulate, "default_emulator", lambda: emulator)
    write_survey(tmp_path / "b.h5", 80, 4, DataParams(n_stars=80, world="realistic", population="apogee"))
    for name in ("a.h5", "b.h5"):
        found = PairedSpectra.read(tmp_path / name)
        assert found.observed is not None
        assert realistic.observed is not None
        np.testing.assert_array_equal(found.observed.flux, realistic.observed.flux)
        np.testing.assert_array_equal(found.observed_labels, realistic.observed_labels)
        np.testing.assert_array_equal(found.apogee.flux, realistic.apogee.flux)


def test_as_many_observed_spectra_as_test_stars(realistic: PairedSpectra) -> None:
    assert realistic.observed is not None
    observed = realistic.observed
    try:
        realistic.observed = type(observed)(observed.instrument, observed.flux[1:], observed.mask[1:])
        with pytest.raises(
            DataError,
            match=r"observed_nirspec/labels has shape|observed_nirspec has 19 spectra, but there are 20 test stars",
        ):
            realistic.check("data set")
    finally:
        realistic.observed = observed


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"vmic": 2.0}, r"^data.world.fixed: vmic 2 leaves the domain of abinitio-3; .* up to 0.625 are covered$"),
        ({"viscosity": 1.0}, r"^data.world.fixed: unknown physics 'viscosity'; choose from vmic, "),
    ],
)
def test_a_world_outside_the_emulator_is_refused(emulator: Emulator, fixed: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulate_survey(60, 1, DataParams(n_stars=60, world={"fixed": fixed}), emulator)


def test_a_world_needs_an_emulator_with_physics(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "physics_names", ())
    with pytest.raises(DataError, match=r"^data.world: abinitio-3 has no physics among its inputs; set STARCLIP_EMUL"):
        simulate_survey(60, 1, DataParams(n_stars=60, world="realistic"), emulator)
