"""Reading and preparing observed spectra: files that the test writes, and, where they are at hand, real ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from conftest import ROOT

from starclip_lib.config import DataError
from starclip_lib.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.nirspec import find_spec1d, prepare_observed, read_spec1d
from starclip_lib.settings import ObservedParams

M71 = Path(os.environ.get("STARCLIP_M71", ROOT.parent / "shared" / "m71"))
needs_m71 = pytest.mark.skipif(not M71.is_dir(), reason="no real spectra: set STARCLIP_M71 to PypeIt's files of M71")


def table(
    name: str, wave: np.ndarray, flux: np.ndarray, snr: float = 100.0, good=None, drop: str = ""
) -> fits.BinTableHDU:
    columns = {
        "OPT_WAVE": wave,
        "OPT_COUNTS": flux,
        "OPT_COUNTS_IVAR": np.full(len(wave), 1e-2),
        "OPT_MASK": np.ones(len(wave), bool) if good is None else good,
    }
    formats = {"OPT_MASK": "L"}
    hdu = fits.BinTableHDU.from_columns(
        [fits.Column(key, formats.get(key, "D"), array=value) for key, value in columns.items() if key != drop],
        name=name,
    )
    hdu.header["DMODCLS"], hdu.header["HIERARCH SMASH_SNR"] = "SpecObj", snr
    return hdu


def write(path: Path, *tables: fits.BinTableHDU) -> Path:
    primary = fits.PrimaryHDU()
    primary.header["TARGET"] = "star_1"
    detector = fits.BinTableHDU.from_columns([fits.Column("gain", "D", array=[1.0])], name="MSC01-DETECTOR")
    fits.HDUList([primary, *tables, detector]).writeto(path)
    return path


def observe(template: np.ndarray, velocity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A star at a velocity, with a continuum, noise and the gap of the detectors, on 2.35 Angstrom pixels."""
    wave = np.concatenate([np.arange(9700, 11400, 2.35), np.arange(11774, 16584, 2.35)])
    rest = wave / (1 + velocity / SPEED_OF_LIGHT)
    continuum = 400 * (1 + 0.3 * np.sin(wave / 1500)) * (wave / 12000) ** -1.2
    return wave, continuum * (np.interp(rest, NIRSPEC.wavelength, template) + rng.normal(0, 0.008, len(wave)))


@pytest.mark.parametrize("velocity", [-120.0, 3.0, 251.0])
def test_velocity_continuum_and_grid_of_a_known_star(
    survey, rng: np.random.Generator, velocity: float, tmp_path: Path
) -> None:
    truth = survey.nirspec.flux[9]
    wave, flux = observe(truth, velocity, rng)
    good = np.ones(len(wave), bool)
    flux[[700, 1500, 1900]] *= [3.0, 0.1, 2.0]  # cosmic rays that the file calls good
    good[1000] = False
    spectrum = read_spec1d(write(tmp_path / "spec1d_a.fits", table("SPAT0013-SLIT0011-MSC01", wave, flux, good=good)))
    assert spectrum.verdict == "good"
    out = prepare_observed(spectrum, survey.nirspec.flux[:40])
    assert out.velocity == pytest.approx(velocity, abs=8)
    grid, seen = NIRSPEC.wavelength, ~out.mask
    assert (out.flux[out.mask] == 1).all()
    assert out.mask[grid < 10400].all()
    inside_gap = (grid > 11380 * (1 - velocity / SPEED_OF_LIGHT)) & (grid < 11790 * (1 - velocity / SPEED_OF_LIGHT))
    assert out.mask[inside_gap].all()
    assert out.flux.dtype == np.float32
    difference = out.flux[seen] - truth[seen]
    assert np.abs(np.median(difference)) < 0.01
    assert difference.std() < 0.02
    assert np.abs(difference).max() < 0.12  # the cosmic rays are gone


def test_the_better_of_two_objects_is_the_target(tmp_path: Path) -> None:
    wave = np.linspace(9700, 16000, 2500)
    faint = table("SPAT0016-SLIT0012-MSC01", wave, np.full(2500, 5.0), snr=20)
    bright = table("SPAT0011-SLIT0012-MSC01", wave, np.full(2500, 70.0), snr=300)
    spectrum = read_spec1d(write(tmp_path / "spec1d_two.fits", faint, bright))
    assert (spectrum.name, np.median(spectrum.flux[~spectrum.bad])) == ("star_1", 70.0)


def test_detectors_in_separate_tables_are_joined_in_order(tmp_path: Path) -> None:
    red, blue = np.arange(13500, 16000, 2.35), np.arange(9700, 13100, 2.35)
    tables = [table("SPAT0013-SLIT0011-DET02", red, 3 * np.ones(len(red)))]
    tables += [table("SPAT0013-SLIT0011-DET01", blue, 2 * np.ones(len(blue)))]
    spectrum = read_spec1d(write(tmp_path / "spec1d_det.fits", *tables))
    assert (np.diff(spectrum.wavelength) > 0).all()
    assert len(spectrum.wavelength) == len(red) + len(blue)
    assert spectrum.flux[-1] == 3


def test_ruined_and_empty_spectra_get_a_reason(tmp_path: Path, rng: np.random.Generator) -> None:
    wave = np.arange(9700, 16000, 2.35)
    saw = 100 * (1 + 0.08 * rng.standard_normal(len(wave)))
    ruined = read_spec1d(write(tmp_path / "spec1d_saw.fits", table("SPAT1-SLIT1-MSC01", wave, saw)))
    assert ruined.verdict.startswith("saw-tooth extraction: neighbours differ by")
    few = read_spec1d(write(tmp_path / "spec1d_few.fits", table("SPAT1-SLIT1-MSC01", wave, saw, good=wave < 11000)))
    assert few.verdict.startswith("only 25")
    with pytest.raises(DataError, match=r"star_1: only 25\d good pixels"):
        prepare_observed(few, np.ones((2, 8192)))


def test_bad_files_are_named(tmp_path: Path) -> None:
    wave = np.arange(9700, 16000, 2.35)
    with pytest.raises(DataError, match=r"none.fits is missing"):
        read_spec1d(tmp_path / "none.fits")
    path = write(tmp_path / "spec1d_box.fits", table("SPAT1-SLIT1-MSC01", wave, wave, drop="OPT_WAVE"))
    with pytest.raises(DataError, match=r"spec1d_box.fits: SPAT1-SLIT1-MSC01 has no column OPT_WAVE"):
        read_spec1d(path)
    with pytest.raises(DataError, match=r"spec1d_empty.fits: no extracted object in it"):
        read_spec1d(write(tmp_path / "spec1d_empty.fits"))
    whole = write(tmp_path / "spec1d_cut.fits", table("SPAT1-SLIT1-MSC01", wave, wave))
    whole.write_bytes(whole.read_bytes()[:12000])
    with pytest.raises(DataError, match=r"spec1d_cut.fits is truncated or no FITS file"):
        read_spec1d(whole)
    (tmp_path / "spec1d_text.fits").write_text("hello")
    with pytest.raises(DataError, match="is truncated or no FITS file"):
        read_spec1d(tmp_path / "spec1d_text.fits")


def test_folders_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no folder; set observed\.folder"):
        find_spec1d(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no spec1d\*.fits file"):
        find_spec1d(tmp_path)


@needs_m71
def test_real_spectra_are_judged_rightly_and_move_with_their_cluster(survey) -> None:
    velocities = {}
    for path in find_spec1d(M71):
        spectrum = read_spec1d(path, ObservedParams())
        source = int(spectrum.name.split("_")[1])
        assert (spectrum.verdict == "good") == (source in (3, 19, 152)), spectrum.name
        if spectrum.verdict == "good":
            velocities[source] = prepare_observed(spectrum, survey.nirspec.flux[:64]).velocity
    assert velocities[152] == pytest.approx(-20.5, abs=15)
    assert velocities[19] == pytest.approx(-23.3, abs=15)
    assert velocities[3] == pytest.approx(-22.9, abs=25)
