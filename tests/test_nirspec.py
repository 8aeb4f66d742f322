"""Reading and preparing observed spectra: files that the test writes, and, where they are at hand, real ones."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from conftest import ROOT
from nirspec_files import observe, spec1d_table, write_spec1d
from scipy.ndimage import median_filter

from starclip_lib.observed.files import read_observed
from starclip_lib.observed.finder import find_observed
from starclip_lib.observed.preparation import ObservedSpectrum, match_resolution, prepare_observed
from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.continuum import PseudoContinuum

SETTINGS, CONTINUUM = ObservedParams(), PseudoContinuum(150)

M71 = Path(os.environ.get("STARCLIP_M71", ROOT.parent / "shared" / "m71"))
needs_m71 = pytest.mark.skipif(not M71.is_dir(), reason="no real spectra: set STARCLIP_M71 to PypeIt's files of M71")


def read_spec1d(path: Path) -> ObservedSpectrum:
    (spectrum,) = read_observed(path)
    return spectrum


@pytest.mark.parametrize("velocity", [-120.0, 3.0, 251.0])
def test_velocity_continuum_and_grid_of_a_known_star(
    survey, rng: np.random.Generator, velocity: float, tmp_path: Path
) -> None:
    truth = survey.nirspec.flux[9]
    wave, flux = observe(truth, velocity, rng)
    good = np.ones(len(wave), bool)
    flux[[700, 1500, 1900]] *= [3.0, 0.1, 2.0]  # cosmic rays that the file calls good
    good[1000] = False
    spectrum = read_spec1d(
        write_spec1d(tmp_path / "spec1d_a.fits", spec1d_table("SPAT0013-SLIT0011-MSC01", wave, flux, good=good))
    )
    assert spectrum.faults(SETTINGS) == []
    out = prepare_observed(spectrum, survey.nirspec.flux[:40], CONTINUUM)
    assert out.velocity == pytest.approx(velocity, abs=8)
    for value, error in out.detector_velocities:
        assert value == pytest.approx(velocity, abs=20)
        assert 0 < error < 20
    assert len(out.detector_velocities) == 2
    assert 0 < out.velocity_error < 8
    assert out.faults(SETTINGS) == []
    grid, seen = NIRSPEC.wavelength, ~out.mask
    assert (out.flux[out.mask] == 1).all()
    assert out.mask[grid < 10700].all()
    inside_gap = (grid > 11380 * (1 - velocity / SPEED_OF_LIGHT)) & (grid < 11790 * (1 - velocity / SPEED_OF_LIGHT))
    assert out.mask[inside_gap].all()
    assert out.flux.dtype == np.float32
    same = CONTINUUM.normalise(torch.from_numpy(np.where(out.mask, 1, truth).astype(np.float32)[None])).numpy()[0]
    difference = out.flux[seen] - same[seen]  # the continuum it was given is gone
    assert np.abs(np.median(difference)) < 0.003
    assert difference.std() < 0.015
    assert np.abs(difference).max() < 0.12  # and so are the cosmic rays
    assert out.noise[seen].mean() == pytest.approx(difference.std(), rel=0.4)


def test_defects_do_not_move_the_velocity(survey, rng: np.random.Generator, tmp_path: Path) -> None:
    """A false line 60 km/s to the red of every strong one in a part of the spectrum, as bad extractions have them."""
    wave, flux = observe(survey.nirspec.flux[9], 10.0, rng)
    part = (wave > 13000) & (wave < 13600)
    false = 1 - np.interp(wave / (1 + 70 / SPEED_OF_LIGHT), NIRSPEC.wavelength, survey.nirspec.flux[9])
    flux[part] *= 1 - 2.5 * np.clip(false, 0, 0.06)[part]
    spectrum = read_spec1d(write_spec1d(tmp_path / "spec1d_a.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, flux)))
    out = prepare_observed(spectrum, survey.nirspec.flux[9:10], CONTINUUM)
    assert out.velocity == pytest.approx(10.0, abs=3)


def test_velocity_errors_tell_the_scatter(survey, rng: np.random.Generator, tmp_path: Path) -> None:
    pulls = []
    for number in range(12):
        wave, flux = observe(survey.nirspec.flux[9], 30.0, rng)
        path = write_spec1d(tmp_path / f"spec1d_{number}.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, flux))
        out = prepare_observed(read_spec1d(path), survey.nirspec.flux[9:10], CONTINUUM)
        pulls.append((out.velocity - 30.0) / out.velocity_error)
    assert 0.2 < np.std(pulls) < 2.5
    assert abs(np.mean(pulls)) < 2


def test_resolution_is_matched_to_the_templates() -> None:
    def line(fwhm: float) -> np.ndarray:
        sigma = fwhm / np.sqrt(8 * np.log(2))
        return 1 - 0.3 / fwhm * np.exp(-0.5 * ((NIRSPEC.wavelength - 15000) / sigma) ** 2)

    out = match_resolution(line(4.06), np.zeros(8192, bool), 4.06)
    np.testing.assert_allclose(out, line(15000 / 2700), atol=5e-4)
    mask = NIRSPEC.wavelength > 15010
    masked = match_resolution(np.where(mask, 1e6, line(4.06)), mask, 4.06)  # nothing leaks in from masked pixels
    assert np.abs(masked[NIRSPEC.wavelength < 14995] - out[NIRSPEC.wavelength < 14995]).max() < 2e-3
    assert (masked[mask] == 1).all()
    blue = np.random.default_rng(0).normal(1, 0.1, 8192)
    same = match_resolution(blue, np.zeros(8192, bool), 4.06)
    np.testing.assert_allclose(same[NIRSPEC.wavelength < 10900], blue[NIRSPEC.wavelength < 10900], rtol=1e-9)


def test_the_better_of_two_objects_is_the_target_and_the_other_one_is_told(tmp_path: Path) -> None:
    wave = np.linspace(9700, 16000, 2500)
    bright = spec1d_table("SPAT0011-SLIT0012-MSC01", wave, np.full(2500, 70.0), snr=300)
    for snr, complaint in ((20, []), (150, ["a second source in the slit, with 50% of the S/N"])):
        faint = spec1d_table("SPAT0016-SLIT0012-MSC01", wave, np.full(2500, 5.0), snr=snr)
        spectrum = read_spec1d(write_spec1d(tmp_path / f"spec1d_{snr}.fits", faint, bright))
        assert (spectrum.name, np.median(spectrum.flux[~spectrum.bad])) == ("star_1", 70.0)
        assert spectrum.faults(ObservedParams(min_snr=1.0)) == complaint
    elsewhere = spec1d_table("SPAT0016-SLIT0013-MSC01", wave, np.full(2500, 5.0), snr=150)
    both = read_observed(write_spec1d(tmp_path / "spec1d_other.fits", elsewhere, bright))
    assert [(one.name, one.second_source) for one in both] == [("star_1_SLIT0013", 0), ("star_1_SLIT0012", 0)]


def test_detectors_in_separate_tables_are_joined_in_order(tmp_path: Path) -> None:
    red, blue = np.arange(13500, 16000, 2.35), np.arange(9700, 13100, 2.35)
    tables = [spec1d_table("SPAT0013-SLIT0011-DET02", red, 3 * np.ones(len(red)))]
    tables += [spec1d_table("SPAT0013-SLIT0011-DET01", blue, 2 * np.ones(len(blue)))]
    spectrum = read_spec1d(write_spec1d(tmp_path / "spec1d_det.fits", *tables))
    assert (np.diff(spectrum.wavelength) > 0).all()
    assert len(spectrum.wavelength) == len(red) + len(blue)
    assert spectrum.flux[-1] == 3


def x1d(path: Path, sources: dict[str, tuple[np.ndarray, np.ndarray]], unit: str = "MJy", drop: str = "") -> Path:
    """An STScI file: one table for each slit, microns and flux density per frequency."""
    tables = [fits.PrimaryHDU()]
    for name, (wave, flux) in sources.items():
        per_frequency = flux * (wave / 12000) ** 2 * 1e-9
        columns = {
            "WAVELENGTH": ("D", wave / 1e4, "um"),
            "FLUX": ("D", per_frequency, unit),
            "FLUX_ERROR": ("D", per_frequency / 100, unit),
            "DQ": ("J", np.where(np.arange(len(wave)) == 500, 1, 4), ""),
        }
        hdu = fits.BinTableHDU.from_columns(
            [fits.Column(key, form, unit=u or None, array=v) for key, (form, v, u) in columns.items() if key != drop],
            name="EXTRACT1D",
        )
        hdu.header["SRCNAME"] = name
        tables.append(hdu)
    fits.HDUList(tables).writeto(path)
    return path


@pytest.mark.parametrize("unit", ["Jy", "MJy"])
def test_stsci_files_give_every_source(survey, rng: np.random.Generator, tmp_path: Path, unit: str) -> None:
    stars = {
        "2609_1": observe(survey.nirspec.flux[9], 40.0, rng),
        "2609 b": observe(survey.nirspec.flux[3], -60.0, rng),
    }
    spectra = read_observed(x1d(tmp_path / "jw_x1d.fits", stars, unit))
    assert [spectrum.name for spectrum in spectra] == ["2609_1", "2609_b"]
    for spectrum, (wave, flux), velocity in zip(spectra, stars.values(), (40.0, -60.0), strict=True):
        np.testing.assert_allclose(spectrum.wavelength, wave)
        ratio = spectrum.flux[~spectrum.bad] / flux[~spectrum.bad]
        np.testing.assert_allclose(ratio, ratio[0])  # per wavelength again, in whatever unit
        assert spectrum.bad[500]
        assert spectrum.snr == pytest.approx(100)
        out = prepare_observed(spectrum, survey.nirspec.flux[:40], CONTINUUM)
        assert out.velocity == pytest.approx(velocity, abs=8)


def test_bad_stsci_files_are_named(tmp_path: Path) -> None:
    wave = np.arange(9700, 16000, 2.35)
    with pytest.raises(DataError, match=r"a_x1d.fits: the table of s has no column DQ"):
        read_observed(x1d(tmp_path / "a_x1d.fits", {"s": (wave, wave)}, drop="DQ"))
    with pytest.raises(DataError, match=r"b_x1d.fits: the table of s: the flux is in m, expected Jy"):
        read_observed(x1d(tmp_path / "b_x1d.fits", {"s": (wave, wave)}, unit="m"))
    with pytest.raises(DataError, match=r"c_x1d.fits: no EXTRACT1D or COMBINE1D table"):
        read_observed(x1d(tmp_path / "c_x1d.fits", {}))


def test_spectra_that_cannot_be_used_get_a_reason(survey, tmp_path: Path, rng: np.random.Generator) -> None:
    wave, flux = observe(survey.nirspec.flux[9], 0.0, rng)

    def faults(name: str, flux: np.ndarray, **options) -> list[str]:
        path = write_spec1d(tmp_path / f"spec1d_{name}.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, flux, **options))
        return read_spec1d(path).faults(SETTINGS)

    (saw,) = faults("saw", flux * (1 + 0.08 * rng.standard_normal(len(wave))))
    assert saw.startswith("saw-tooth extraction: neighbours differ by")
    (shuffled,) = faults("shuffled", rng.permutation(flux))
    assert shuffled.startswith("saw-tooth extraction")
    (few,) = faults("few", flux, good=wave < 11500)
    assert re.match(r"only 2\d\d good pixels", few)
    (faint,) = faults("faint", 0.1 * flux)
    assert faint.startswith("S/N")
    smooth = 400 * (wave / 12000) ** -1.2 * (1 + 0.01 * rng.standard_normal(len(wave)))  # a galaxy without lines
    galaxy = read_spec1d(write_spec1d(tmp_path / "spec1d_galaxy.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, smooth)))
    assert galaxy.faults(SETTINGS) == []
    (reason,) = prepare_observed(galaxy, survey.nirspec.flux[:40], CONTINUUM).faults(SETTINGS)
    assert reason.startswith("no stellar lines: correlation 0.")
    short = read_spec1d(tmp_path / "spec1d_few.fits")
    with pytest.raises(DataError, match=r"star_1: only 2\d\d good pixels"):
        prepare_observed(short, np.ones((2, 8192)), CONTINUUM)


def test_bad_files_are_named(tmp_path: Path) -> None:
    wave = np.arange(9700, 16000, 2.35)
    path = write_spec1d(tmp_path / "spec1d_box.fits", spec1d_table("SPAT1-SLIT1-MSC01", wave, wave, drop="OPT_WAVE"))
    with pytest.raises(DataError, match=r"spec1d_box.fits: SPAT1-SLIT1-MSC01 has no column OPT_WAVE"):
        read_spec1d(path)
    with pytest.raises(DataError, match=r"spec1d_empty.fits: no extracted object in it"):
        read_spec1d(write_spec1d(tmp_path / "spec1d_empty.fits"))


def test_folders_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a folder and not a file; give one with"):
        find_observed(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no observed spectra"):
        find_observed(tmp_path)


@needs_m71
def test_real_spectra_are_judged_rightly_and_move_with_their_cluster(survey, rng: np.random.Generator) -> None:
    velocities = {}
    for path in find_observed(M71):
        spectrum = read_spec1d(path)
        source = int(spectrum.name.split("_")[1])
        faults = spectrum.faults(SETTINGS)
        assert (not faults) == (source in (3, 19, 152)), spectrum.name
        if faults:
            assert faults[0].startswith("saw-tooth")
            continue
        out = prepare_observed(spectrum, survey.nirspec.flux[:64], CONTINUUM)
        assert out.faults(SETTINGS) == []
        velocities[source] = out.velocity
        good = np.flatnonzero(~spectrum.bad)
        shuffled = replace(spectrum, flux=spectrum.flux.copy())
        shuffled.flux[good] = spectrum.flux[rng.permutation(good)]
        assert shuffled.faults(SETTINGS)
        smooth = median_filter(spectrum.flux, 301) * (1 + 0.01 * rng.standard_normal(len(spectrum.flux)))
        featureless = replace(spectrum, flux=np.where(spectrum.bad, 0, smooth))
        assert prepare_observed(featureless, survey.nirspec.flux[:64], CONTINUUM).faults(SETTINGS)
    assert velocities[152] == pytest.approx(-20.5, abs=10)
    assert velocities[19] == pytest.approx(-23.3, abs=10)
    assert velocities[3] == pytest.approx(-22.9, abs=25)
