"""The parts of the synthesis against closed forms, published values and the synthesis that made the emulator."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.special import wofz

import starclip_lib as starclip
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.synthesis import (
    atmosphere,
    equation_of_state,
    grid,
    hydrogen,
    line_opacity,
    opacity,
    physics,
    structure,
    transfer,
)
from starclip_lib.synthesis.broadening import broadened
from starclip_lib.synthesis.chemistry import Chemistry, chemistry
from starclip_lib.synthesis.constants import (
    BOLTZMANN,
    BOLTZMANN_EV,
    ELECTRON_MASS,
    LIGHT,
    OSCILLATOR,
    PLANCK,
    SECOND_RADIATION,
)
from starclip_lib.synthesis.lines import LineList, as_line_list, line_list, vacuum
from starclip_lib.synthesis.synthesise import synthesise

REFERENCE = ROOT.parent / "shared" / "synthesis" / "reference.npz"
MARCS_ARCTURUS = ROOT.parent / "shared" / "atmospheres" / "marcs-arcturus.mod"
SUN = np.array([4500.0, 2.0] + [0.0] * 18)
WINDOW = (16000.0, 16060.0)


@pytest.fixture(scope="module")
def contents() -> Chemistry:
    return chemistry()


@pytest.fixture(scope="module")
def giant(contents: Chemistry) -> atmosphere.Atmosphere:
    temperature = structure.temperatures("marcs")(4500.0, 2.0, 0.0)
    return atmosphere.build(temperature, 100.0, contents.abundances(SUN), contents)


def hydrogen_only(contents: Chemistry) -> np.ndarray:
    """Abundances of next to nothing but hydrogen."""
    return np.where(np.array(contents.elements) == "H", 1.0, 1e-25)


# ---- gas


def test_ionisation_of_hydrogen_follows_saha(contents: Chemistry) -> None:
    temperature, pressure = np.array([8000.0, 10000.0, 12000.0]), np.array([10.0, 100.0, 1000.0])
    gas = equation_of_state.solve(temperature, pressure, hydrogen_only(contents), contents)
    # n_e n_p / n_H = (2 pi m k T / h^2)^(3/2) exp(-E / kT), n_e = n_p, 2 n_e + n_H = P / kT
    constant = (2 * np.pi * ELECTRON_MASS * BOLTZMANN * temperature / PLANCK**2) ** 1.5
    constant = constant * np.exp(-13.5984 / (BOLTZMANN_EV * temperature))
    electrons = np.sqrt(constant**2 + constant * pressure / (BOLTZMANN * temperature)) - constant
    np.testing.assert_allclose(gas.electrons, electrons, rtol=2e-3)  # a trace of H2 and of excited hydrogen


def test_hydrogen_molecules_follow_the_law_of_mass_action(contents: Chemistry) -> None:
    temperature, pressure = np.array([2200.0, 2600.0, 3000.0]), np.array([1e3, 1e4, 1e5])
    gas = equation_of_state.solve(temperature, pressure, hydrogen_only(contents), contents)
    h2 = contents.molecules.index("H2")
    constant = np.exp(contents.interpolated(contents.ln_equilibrium[h2], temperature))
    total = pressure / (BOLTZMANN * temperature)
    atoms = (np.sqrt(1 + 4 * total / constant) - 1) * constant / 2
    np.testing.assert_allclose(gas.neutral[:, 0], atoms, rtol=1e-5)
    np.testing.assert_allclose(gas.molecules[:, h2], total - atoms, rtol=1e-5)


def test_nuclei_charges_and_particles_are_conserved(contents: Chemistry) -> None:
    rng = np.random.default_rng(1)
    temperature, pressure = rng.uniform(2300, 9000, 40), 10 ** rng.uniform(0, 5.5, 40)
    abundances = contents.abundances(SUN + np.r_[0, 0, rng.normal(-0.5, 0.5, 18)])
    gas = equation_of_state.solve(temperature, pressure, abundances, contents)
    first, second = equation_of_state.saha(temperature, contents)
    twice = gas.ionised * second / gas.electrons[:, None]
    nuclei = gas.neutral + gas.ionised + twice + gas.molecules @ contents.atoms
    np.testing.assert_allclose(nuclei, abundances * gas.hydrogen[:, None], rtol=1e-5)
    np.testing.assert_allclose((gas.ionised + 2 * twice).sum(axis=1), gas.electrons, rtol=1e-5)
    particles = (gas.neutral + gas.ionised + twice).sum(axis=1) + gas.molecules.sum(axis=1) + gas.electrons
    np.testing.assert_allclose(particles * BOLTZMANN * temperature, pressure, rtol=1e-5)
    np.testing.assert_allclose(gas.ionised * gas.electrons[:, None], gas.neutral * first, rtol=1e-9)


def test_a_gas_is_the_same_from_any_start(contents: Chemistry) -> None:
    temperature, abundances = np.array([3000.0, 4000.0, 6000.0]), contents.abundances(SUN)
    one = equation_of_state.solve(temperature, np.full(3, 1e3), abundances, contents)
    other = equation_of_state.solve(temperature, np.full(3, 3e4), abundances, contents)
    again = equation_of_state.solve(temperature, np.full(3, 1e3), abundances, contents, other.unknowns)
    np.testing.assert_allclose(again.electrons, one.electrons, rtol=1e-6)
    np.testing.assert_allclose(again.molecules, one.molecules, rtol=1e-5)


def test_electron_pressures_are_those_of_marcs(contents: Chemistry) -> None:
    if not MARCS_ARCTURUS.is_file():
        pytest.skip("../shared/atmospheres/marcs-arcturus.mod is not here")
    text = MARCS_ARCTURUS.read_text().splitlines()
    start = next(k for k, line in enumerate(text) if line.startswith("Logarithmic chemical")) + 1
    epsilon = np.array([float(value) for line in text[start : start + 10] for value in line.split()])
    numbers = {
        "H": 1,
        "He": 2,
        "C": 6,
        "N": 7,
        "O": 8,
        "Na": 11,
        "Mg": 12,
        "Al": 13,
        "Si": 14,
        "S": 16,
        "K": 19,
        "Ca": 20,
    }
    numbers |= {"Ti": 22, "Cr": 24, "Mn": 25, "Fe": 26, "Ni": 28}
    solar = contents.solar - 0.52
    for name, number in numbers.items():
        solar[contents.elements.index(name)] = epsilon[number - 1]
    start = next(k for k, line in enumerate(text) if line.startswith("Model structure")) + 2
    table = np.array([[float(value) for value in line.split()[4:7]] for line in text[start : start + 56]])
    temperature, electron_pressure, pressure = table.T
    gas = equation_of_state.solve(temperature, pressure, 10 ** (solar - 12), contents)
    np.testing.assert_allclose(gas.electrons * BOLTZMANN * temperature, electron_pressure, rtol=0.01)


# ---- continuum


def test_detachment_of_negative_hydrogen_has_the_published_cross_section() -> None:
    wavelength = np.arange(4000.0, 16420.0)
    found = opacity.detachment(wavelength)
    # Wishart (1979): the maximum is 4.0e-17 cm^2 near 8,500 Angstrom; the threshold is 0.7542 eV
    assert found.max() == pytest.approx(4.0e-17, rel=0.01)
    assert wavelength[found.argmax()] == pytest.approx(8500, abs=200)
    assert found[-1] == 0.0
    assert wavelength[found > 0][-1] == pytest.approx(12398.42 / 0.7542, rel=3e-3)


def test_neutral_hydrogen_equals_a_sum_over_levels() -> None:
    wavelength, temperature = 12000.0, 9000.0
    kt, energy = BOLTZMANN_EV * temperature, 12398.42 / wavelength
    n = np.arange(4, 3000)
    # Kramers: 7.907e-18 n (lambda / lambda_n)^3, populations 2 n^2 / 2
    section = 7.907e-18 * n * (wavelength / (911.75 * n**2)) ** 3
    bound_free = (n**2 * np.exp(-13.598 * (1 - 1 / n**2) / kt) * section).sum()
    # the continuum behind the levels: integral over n of the same, from n = infinity on
    beyond = 7.907e-18 * (wavelength / 911.75) ** 3 * kt / (2 * 13.598) * np.exp(-13.598 / kt)
    expected = (bound_free + beyond) * (1 - np.exp(-energy / kt))
    found = opacity.neutral_hydrogen(np.array(wavelength), np.array(temperature))
    assert found / expected == pytest.approx(1.0, abs=0.1)  # Gaunt factors are within a tenth of 1


def test_rosseland_mean_equals_an_integral_over_frequency(giant: atmosphere.Atmosphere, contents: Chemistry) -> None:
    u = np.linspace(0.05, 25, 4000)
    weight = u**4 * np.exp(-u) / np.expm1(-u) ** 2
    wavelength = np.maximum(SECOND_RADIATION / (u * giant.temperature[:, None]), 2000.0)
    inverse = weight / opacity.continuous(wavelength, giant.temperature, giant.gas, contents)
    mean = np.trapezoid(weight, u) / np.trapezoid(inverse, u) / giant.gas.density
    # 28 frequencies stand for all: edges of hydrogen lie between them
    np.testing.assert_allclose(giant.mass_opacity, mean, rtol=0.12)
    assert (giant.mass_opacity / mean).mean() == pytest.approx(1.0, abs=0.02)


# ---- atmosphere


def test_hydrostatic_pressure_follows_closed_forms() -> None:
    tau = 10**atmosphere.LOG_TAU
    power = atmosphere.hydrostatic(atmosphere.LOG_TAU, 50.0, lambda p: 1e-3 * p**0.6)
    np.testing.assert_allclose(power, (1.6 * 50.0 * tau / 1e-3) ** (1 / 1.6), rtol=1e-4)
    constant = atmosphere.hydrostatic(atmosphere.LOG_TAU, 50.0, lambda p: np.full_like(p, 0.02))
    np.testing.assert_allclose(constant, 50.0 / 0.02 * (tau + 0.6 * tau[0]), rtol=1e-4)


def test_the_atmosphere_carries_its_weight(giant: atmosphere.Atmosphere) -> None:
    tau = 10**atmosphere.LOG_TAU
    column = np.trapezoid(100.0 / giant.mass_opacity * tau, np.log(tau))
    assert column == pytest.approx(giant.pressure[-1] - giant.pressure[0], rel=0.01)


@pytest.mark.parametrize("name", structure.STRUCTURES)
def test_temperatures_rise_inwards_and_change_smoothly(name: str) -> None:
    profile = structure.temperatures(name)
    for labels in ((3600.0, 0.0, 0.6), (5500.0, 3.7, -2.3), (4500.0, 2.0, 0.0)):
        assert (np.diff(profile(*labels)) >= 0).all()
    before, there, after = (profile(teff, 2.0, -0.5) for teff in (4499.0, 4500.0, 4501.0))
    np.testing.assert_allclose(there, (before + after) / 2, atol=0.05)
    assert (after > before)[:50].all()


@pytest.mark.parametrize("axis", [1, 2])
def test_temperatures_between_models_are_interpolated_well(axis: int) -> None:
    marcs = structure.temperatures("marcs")
    kept = np.arange(0, len(marcs.axes[axis]), 2)  # every second log g or [Fe/H]
    axes = tuple(values[kept] if k == axis else values for k, values in enumerate(marcs.axes))
    fewer = structure.Marcs(axes, marcs.over_teff.take(kept, axis=axis))
    labels = [(teff, logg, fe) for teff in (4000.0, 4500.0, 5000.0) for logg in (1.5, 2.5) for fe in (-1.5, -0.5)]
    difference = np.array([fewer(*star) - marcs(*star) for star in labels])
    lines_form = (atmosphere.LOG_TAU > -3.5) & (atmosphere.LOG_TAU < 0.05)
    assert np.sqrt((difference[:, lines_form] ** 2).mean()) < 8  # K; with all models the distance is half as long


def test_the_two_structures_agree_as_the_priors_say() -> None:
    both = [structure.temperatures(name) for name in structure.STRUCTURES]
    branch = [(4000.0, 1.0), (4250.0, 1.5), (4500.0, 2.0), (4750.0, 2.5), (5000.0, 3.0)]
    stars = [(*star, fe) for star in branch for fe in (-1.5, -1.0, -0.5, 0.0, 0.25)]
    difference = np.array([both[0](*star) - both[1](*star) for star in stars])
    at = [int(np.abs(atmosphere.LOG_TAU - value).argmin()) for value in (-2.0, 0.0)]
    gradient = np.diff(difference[:, at], axis=1) / 2
    assert np.sqrt((gradient**2).mean()) == pytest.approx(16, abs=2)  # K/dex
    assert np.abs(gradient).max() < 32
    assert np.sqrt((difference[:, at] ** 2).mean(axis=0)) == pytest.approx([15, 30], abs=3)  # K


# ---- lines


def test_voigt_function_equals_the_faddeeva_function() -> None:
    rng = np.random.default_rng(2)
    damping, offset = 10 ** rng.uniform(-5, 1.3, 20000), rng.uniform(-30, 30, 20000) * rng.uniform(size=20000)
    found = line_opacity.voigt(damping, offset, line_opacity.voigt_table())
    exact = wofz(np.abs(offset) + 1j * damping).real
    np.testing.assert_allclose(found, exact, rtol=3e-3, atol=3e-5)


def one_line(**changes: float) -> LineList:
    values = {"wavelength": 16030.0, "excitation": 3.0, "log_gf": -1.0, "log_gamma": -7.5, **changes}
    names = ("Fe I",)
    arrays = {name: np.array([value]) for name, value in values.items()}
    return LineList(species_names=names, species=np.array([0]), brackett=0.0, **arrays)


def test_the_area_of_a_line_is_its_strength(giant: atmosphere.Atmosphere, contents: Chemistry) -> None:
    part = grid.grid(15950.0, 16110.0)
    continuum = np.full((56, len(grid.COARSE)), 1e-16)  # so that the line is followed far out
    added = np.zeros((56, part.size))
    line_opacity.add_lines(added, continuum, part, one_line(), giant, contents, 1.5, 40)
    frequency = LIGHT * 1e8 / part.wavelength
    area = (added * frequency).sum(axis=1) * grid.STEP
    iron, depth = contents.elements.index("Fe"), np.arange(40)
    temperature = giant.temperature[depth]
    partition = np.exp(contents.interpolated(contents.ln_partition[iron, 0], temperature))
    lower = giant.gas.neutral[depth, iron] / partition * np.exp(-3.0 / (BOLTZMANN_EV * temperature))
    expected = OSCILLATOR * 0.1 * lower * (1 - np.exp(-SECOND_RADIATION / (16030.0 * temperature)))
    np.testing.assert_allclose(area[depth], expected, rtol=5e-3)
    assert (area[40:] == 0).all()


def test_a_line_grows_linearly_and_then_saturates() -> None:
    def flux(log_gf: float, vmic: float = 1.5) -> np.ndarray:
        return synthesise(SUN, lines=one_line(log_gf=log_gf), wavelengths=WINDOW, vmic=vmic).flux

    continuum = flux(-15.0)
    np.testing.assert_allclose(continuum, 1.0, atol=1e-4)

    def width(log_gf: float, vmic: float = 1.5) -> float:
        return float((continuum - flux(log_gf, vmic)).sum())

    assert width(-6.0) / width(-7.0) == pytest.approx(10, rel=0.05)  # weak
    assert width(-2.0) / width(-4.0) < 4  # saturated
    assert width(1.0) / width(0.0) == pytest.approx(np.sqrt(10), rel=0.1)  # damped
    # microturbulence delays saturation, and changes nothing else
    assert width(-4.0, vmic=3.0) > 1.3 * width(-4.0, vmic=1.0)
    assert width(-7.0, vmic=3.0) == pytest.approx(width(-7.0, vmic=1.0), rel=0.01)


def test_hydrogen_lines_have_their_strength(giant: atmosphere.Atmosphere, contents: Chemistry) -> None:
    part = grid.grid(12700.0, 12950.0)
    added = np.zeros((56, part.size))
    hydrogen.add_paschen(added, part, giant, contents, 53)
    area = (added * LIGHT * 1e8 / part.wavelength).sum(axis=1) * grid.STEP
    temperature = giant.temperature
    lower = giant.gas.neutral[:, 0] / 2 * np.exp(-13.5984 * 8 / 9 / (BOLTZMANN_EV * temperature))
    # Wiese & Fuhr (2009): the transition 3-5 has f = 0.1506 and statistical weight 18
    expected = OSCILLATOR * 18 * 0.1506 * lower * (1 - np.exp(-SECOND_RADIATION / (12821.6 * temperature)))
    np.testing.assert_allclose(area[:53], expected[:53], rtol=5e-3)
    # exact f = 0.01196 of the transition 4-10 (Wiese & Fuhr 2009), statistical weight 32
    assert hydrogen.brackett_gf(10) == pytest.approx(32 * 0.01196, rel=0.02)


def test_a_window_of_a_hydrogen_line_is_part_of_the_whole(giant: atmosphere.Atmosphere, contents: Chemistry) -> None:
    whole, part = grid.grid(12700.0, 12950.0), grid.grid(12800.0, 12825.0)
    both = [np.zeros((56, g.size)) for g in (whole, part)]
    for added, g in zip(both, (whole, part), strict=True):
        hydrogen.add_paschen(added, g, giant, contents, 53)
    first = part.start - whole.start
    np.testing.assert_allclose(both[1], both[0][:, first : first + part.size], rtol=1e-6)


def test_vacuum_wavelengths() -> None:
    # Paschen beta, and a line of argon (NIST): air, vacuum
    np.testing.assert_allclose(vacuum(np.array([12818.072, 15046.500])), [12821.578, 15050.61], atol=0.02)


# ---- transfer


def linear_source(first: float, slope: float, wavelength: float) -> np.ndarray:
    """Temperatures whose Planck function over 2 h c^2 / wavelength^5 is linear in optical depth."""
    return SECOND_RADIATION / (wavelength * np.log1p(1 / (first + slope * 10**atmosphere.LOG_TAU)))


def test_flux_of_a_linear_source_function_follows_eddington_and_barbier() -> None:
    wavelength, first, slope = 16000.0, 0.1, 0.15
    temperature = linear_source(first, slope, wavelength)
    standard = np.geomspace(1e-12, 1e-7, 56)
    lines = np.array([0.0, 0.5, 3.0, 20.0])  # over the continuous opacity
    flux = transfer.emergent_flux(
        standard[:, None] * (1 + lines), standard, atmosphere.LOG_TAU, temperature, np.full(4, wavelength), close=False
    )
    # S = a + b tau gives the integral of (a + b mu / (1 + line)) mu over mu
    np.testing.assert_allclose(flux, first / 2 + slope / 3 / (1 + lines), rtol=6e-3)


def test_flux_of_an_isothermal_gas_is_the_planck_function() -> None:
    wavelength = np.array([9000.0, 18000.0])
    flux = transfer.emergent_flux(
        np.ones((56, 2)), np.ones(56), atmosphere.LOG_TAU, np.full(56, 5000.0), wavelength, False
    )
    np.testing.assert_allclose(flux, 0.5 / np.expm1(SECOND_RADIATION / (wavelength * 5000.0)), rtol=1e-6)


def test_interpolated_planck_function_changes_nothing(giant: atmosphere.Atmosphere) -> None:
    part = grid.grid(9000.0, 9100.0)
    values = np.geomspace(1e-12, 1e-7, 56)[:, None] * np.ones(part.size)
    given = (values, values[:, 0], atmosphere.LOG_TAU, giant.temperature, part.wavelength)
    np.testing.assert_allclose(transfer.emergent_flux(*given), transfer.emergent_flux(*given, close=False), rtol=1e-6)


# ---- broadening


@pytest.mark.parametrize(("fwhm", "macroturbulence"), [(2.75, 4.0), (0.7, 0.0), (16030.0 / 22500, 4.0)])
def test_widths_of_gaussians_add_in_quadrature(fwhm: float, macroturbulence: float) -> None:
    wavelength = grid.grid(15900.0, 16160.0).wavelength
    own = 0.4
    flux = 1 - 0.3 * np.exp(-0.5 * ((wavelength - 16030.0) / own) ** 2)
    at = np.linspace(16020.0, 16040.0, 301)
    found = broadened(wavelength, flux, at, np.full_like(wavelength, fwhm), macroturbulence)
    turbulence = 16030.0 * macroturbulence / SPEED_OF_LIGHT / np.sqrt(2)
    width = np.sqrt(own**2 + (fwhm * SIGMA_PER_FWHM) ** 2 + turbulence**2)
    expected = 1 - 0.3 * own / width * np.exp(-0.5 * ((at - 16030.0) / width) ** 2)
    np.testing.assert_allclose(found, expected, atol=2e-4)


# ---- the whole


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    if not REFERENCE.is_file():
        pytest.skip("../shared/synthesis/reference.npz is not here")
    with np.load(REFERENCE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def test_the_synthesis_of_abinitio_2_is_reproduced(reference: dict[str, np.ndarray]) -> None:
    for star, labels in enumerate(reference["full_labels"]):
        made = synthesise(labels, lines="apogee", structure="seven")
        difference = np.abs(1 - made.flux - reference["full_depth"][star])
        assert np.median(difference) < 5e-5
        assert np.percentile(difference, 99) < 1e-3
        np.testing.assert_allclose(made.atmosphere.temperature, reference["temperature"][star], atol=0.1)
        np.testing.assert_allclose(made.atmosphere.pressure, reference["gas_pressure"][star], rtol=5e-3)
        np.testing.assert_allclose(made.atmosphere.gas.electrons, reference["electron_density"][star], rtol=5e-3)


@pytest.mark.parametrize("star", [0, 25, 55])
def test_instruments_see_what_they_saw(reference: dict[str, np.ndarray], star: int) -> None:
    made = synthesise(reference["labels"][star].astype(float), lines="apogee", structure="seven")
    for instrument, key in ((APOGEE, "apogee"), (NIRSPEC, "nirspec"), (replace(NIRSPEC, constant_fwhm=2.75), "sharp")):
        difference = np.abs(1 - made.observed(instrument) - reference[f"{key}_depth"][star])
        assert np.median(difference) < 1e-4
        assert difference.max() < 2e-3


def test_a_window_is_part_of_the_whole_spectrum() -> None:
    narrow, wide = (synthesise(SUN, wavelengths=w) for w in (WINDOW, (15950.0, 16110.0)))
    np.testing.assert_allclose(narrow.flux, np.interp(narrow.wavelength, wide.wavelength, wide.flux), atol=1e-4)
    assert WINDOW[0] <= narrow.wavelength[0] < WINDOW[0] + 0.2
    assert WINDOW[1] - 0.2 < narrow.wavelength[-1] <= WINDOW[1]


def test_lists_of_lines_differ_where_they_should() -> None:
    lists = {name: line_list(name) for name in ("listed", "apogee", "arcturus")}
    n = {name: len(lines.wavelength) for name, lines in lists.items()}
    assert n["apogee"] - n["listed"] >= 151
    assert n["arcturus"] - n["apogee"] >= 276
    for lines in lists.values():
        assert (np.diff(lines.wavelength) >= 0).all()
    # [Si I] at 16,459 Angstrom: listed 0.4 deep, which no star shows
    tables = {name: lines.table().query("species == 'Si I' and excitation < 0.1") for name, lines in lists.items()}
    strength = {
        name: t.loc[t["wavelength_vacuum"].between(16458, 16460), "log_gf"].item() for name, t in tables.items()
    }
    assert strength["arcturus"] < strength["listed"] - 1


def test_physics_does_what_its_names_promise() -> None:
    def made(**changed: object) -> np.ndarray:
        return synthesise(SUN, wavelengths=WINDOW, **changed).flux

    nominal = made()
    assert made(vmic=physics.microturbulence(2.0) + 0.5).mean() < nominal.mean()
    assert made(surface_temperature=100.0).min() > nominal.min()
    assert made(temperature_gradient=50.0).mean() != pytest.approx(nominal.mean(), abs=1e-5)
    assert made(continuous_opacity=0.1).mean() > nominal.mean()
    assert made(van_der_waals=0.5).mean() < nominal.mean()
    assert made(strengths={"CN": 0.2}).mean() < nominal.mean()
    np.testing.assert_array_equal(made(strengths={"CN outside": 0.2}), nominal)  # the window lies on a chip
    np.testing.assert_array_equal(made(strengths={"CN chips": 0.2}), made(strengths={"CN": 0.2}))


def test_groups_of_lines_do_not_overlap() -> None:
    lines = line_list()
    groups = np.array([physics.in_group(lines, group) for group in physics.GROUPS])
    assert groups.sum(axis=0).max() == 1
    assert groups.any(axis=1).all()
    changed = physics.changed(lines, 0.3, {"CO": 0.1})
    carbon_monoxide = physics.in_group(lines, "CO")
    np.testing.assert_allclose(changed.log_gf - lines.log_gf, 0.1 * carbon_monoxide, atol=1e-12)
    assert ((changed.log_gamma - lines.log_gamma)[carbon_monoxide] == 0).all()


def test_lines_of_ones_own(tmp_path: Path) -> None:
    ours = line_list().between(15900.0, 16160.0)
    path = tmp_path / "lines.csv"
    ours.table().to_csv(path, index=False)
    nominal = synthesise(SUN, wavelengths=WINDOW).flux
    np.testing.assert_allclose(synthesise(SUN, wavelengths=WINDOW, lines=path).flux, nominal, atol=1e-7)
    stronger = ours.table()
    stronger.loc[stronger["species"] == "CN", "log_gf"] += 0.1
    changed = synthesise(SUN, wavelengths=WINDOW, lines=stronger).flux
    np.testing.assert_allclose(changed, synthesise(SUN, wavelengths=WINDOW, strengths={"CN": 0.1}).flux, atol=1e-7)
    assert np.abs(changed - nominal).max() > 1e-3
    in_air = ours.table().rename(columns={"wavelength_vacuum": "wavelength_air"})
    shift = as_line_list(in_air).wavelength - ours.wavelength
    np.testing.assert_allclose(shift, 4.38, atol=0.05)  # Angstrom, at 16,000


TABLE = pd.DataFrame(
    {"wavelength_air": [16030.0], "species": ["Fe I"], "excitation": [3.0], "log_gf": [-1.0], "log_gamma": [-7.5]}
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": SUN[:19]}, "20 finite numbers"),
        ({"labels": np.r_[SUN[:5], np.nan, SUN[6:]]}, "20 finite numbers"),
        ({"labels": np.r_[7000.0, SUN[1:]]}, "Teff 7000 is outside the grid of atmospheres, 3600 to 5500"),
        ({"labels": np.r_[4500.0, 4.4, SUN[2:]]}, "log g 4.4 is outside"),
        ({"labels": SUN - np.r_[0, 0, np.full(18, 3.0)]}, r"\[Fe/H\] -3 is outside"),
        ({"vmic": -1.0}, "vmic is -1.0; a number from 0 to 8 km/s"),
        ({"surface_temperature": 5000.0}, "surface_temperature is 5000.0; a number from -500 to 500 K"),
        ({"van_der_waals": "much"}, "van_der_waals is 'much'"),
        ({"wavelengths": 16000.0}, "wavelengths are 16000.0; the first and the last"),
        ({"wavelengths": (5000.0, 6000.0)}, "the synthesis reaches from 8870 to 18120"),
        ({"lines": TABLE.rename(columns={"wavelength_air": "wavelength"})}, "wavelength_vacuum or wavelength_air"),
        ({"lines": TABLE.drop(columns="log_gf")}, "columns are missing: log_gf"),
        ({"lines": TABLE.assign(wavelength_air=1.603)}, "wavelength_air of line 1 is 1.603; 8000 to 20000 Angstrom"),
        ({"lines": TABLE.assign(excitation=24196.6)}, "excitation of line 1 is 24196.6; 0 to 40 eV"),
        ({"lines": TABLE.assign(log_gf=np.nan)}, "log_gf of line 1 is nan"),
        ({"lines": TABLE.assign(species="Fe 26.0")}, "unknown species 'Fe 26.0'"),
        ({"lines": "nowhere.csv"}, "nowhere.csv is missing"),
    ],
)
def test_bad_input_gets_one_clear_line(changes: dict, message: str) -> None:
    given = {"labels": SUN, "wavelengths": WINDOW, **changes}
    with pytest.raises(DataError, match=message):
        synthesise(**given)


@pytest.mark.parametrize("changes", [{"lines": "vald"}, {"structure": "kurucz"}, {"strengths": {"NH": 0.1}}])
def test_unknown_names_are_listed(changes: dict) -> None:
    with pytest.raises(ConfigError, match="there are"):
        synthesise(SUN, wavelengths=WINDOW, **changes)


def test_a_spectrum_too_short_for_an_instrument_is_refused() -> None:
    spectrum = synthesise(SUN, wavelengths=WINDOW)
    with pytest.raises(DataError, match="synthesise a longer stretch"):
        spectrum.observed(APOGEE)
    with pytest.raises(DataError, match="synthesise a longer stretch"):  # what lies beyond the end would reach in
        spectrum.sampled(np.linspace(16001.0, 16050.0, 50), 2.75)
    with pytest.raises(DataError, match="too sharp"):
        spectrum.sampled(np.linspace(16010.0, 16050.0, 50), 0.05, macroturbulence=0.0)


def test_the_front_door_has_it() -> None:
    assert starclip.synthesise is synthesise


def test_without_numba_the_extra_is_named() -> None:
    code = "import sys; sys.modules['numba'] = None\nimport starclip_lib\nstarclip_lib.synthesise"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].endswith("pip install 'starclip[synthesis]'")


def test_the_page_has_the_parameters_of_the_code() -> None:
    rows = (ROOT / "docs" / "synthesis.md").read_text()
    for p in physics.PARAMETERS:
        nominal = "from log g (Holtzman et al. 2018)" if p.nominal is None else f"{p.nominal:g}"
        assert f"| `{p.name}` | {p.unit} | {nominal} | {p.width:g} | {p.meaning} | {p.reason} |" in rows


def test_the_code_of_the_page_runs() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["spectrum"].flux.shape == names["weaker"].flux.shape
    assert names["weaker"].flux.mean() > names["spectrum"].flux.mean()
