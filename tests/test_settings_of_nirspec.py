"""NIRSpec's settings, frames of velocities, several exposures and limits: what headers say, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from conftest import ROOT
from test_measuring import labels_of, seen, spectrum_of
from test_readers import ERROR, FLUX, WAVE, extracted, primary, written

from starclip_lib.data.tables import as_labels
from starclip_lib.observed.combining import combined
from starclip_lib.observed.files import read_observed
from starclip_lib.observed.isolated import read_isolated
from starclip_lib.observed.lsf import DEFAULT, nirspec_settings, parse_lsf
from starclip_lib.observed.measured import Measured, limits_text, upper_limits
from starclip_lib.observed.measurements import measured_table
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.readers.instrument import ZERO_POINT, barycentric_correction, velocity_frame
from starclip_lib.observed.spectrum import OBSERVED, as_observed
from starclip_lib.physics.giants import giants, prior_fraction
from starclip_lib.physics.instruments import NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.support.errors import DataError

M71 = ROOT.parent / "shared" / "m71"


def test_every_setting_has_its_line_spread_function_and_a_source() -> None:
    table = pd.read_csv(ROOT / "starclip_lib" / "observed" / "nirspec-lsf.csv")
    assert table["source"].str.len().min() > 20
    names = product(("G140H", "G140M"), ("F070LP", "F100LP"), ("SLIT", "MSA", "IFU"))
    assert set(nirspec_settings()) == set(map("/".join, names))
    at = np.array([12000.0])
    for name in nirspec_settings():
        assert 2.8 < parse_lsf(name)(at)[0] < 14
        assert parse_lsf(name.lower())(at) == parse_lsf(name)(at)
    slit, ifu = parse_lsf("G140H/F100LP/slit"), parse_lsf("G140H/F100LP/IFU")
    assert ifu(at) / slit(at) == pytest.approx(1.30 / 1.12, rel=0.01)
    # 2.2 pixels of 2.35 Angstrom before launch, 11 to 53 per cent sharper in flight
    assert 5.17 / 1.53 < slit(at)[0] < 5.17 / 1.11


@pytest.mark.parametrize(
    ("header", "setting"),
    [
        ({"EXP_TYPE": "NRS_FIXEDSLIT", "APERNAME": "NRS_S200A1_SLIT"}, "G140H/F100LP/slit"),
        ({"EXP_TYPE": "NRS_MSASPEC", "FILTER": "F070LP"}, "G140H/F070LP/MSA"),
        ({"EXP_TYPE": "NRS_IFU", "GRATING": "G140M"}, "G140M/F100LP/IFU"),
        ({"EXP_TYPE": "NRS_BRIGHTOBJ", "GRATING": "G140M", "FILTER": "F070LP"}, "G140M/F070LP/slit"),
        ({"GRATING": ""}, DEFAULT),
    ],
)
def test_headers_choose_the_line_spread_function(header: dict, setting: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a_x1d.fits", primary(TARGNAME="a", **header), extracted())
    assert read_observed(path)[0].lsf == setting


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"GRATING": "G235H", "FILTER": "F170LP"}, "begins at 16,600 Angstrom"),
        ({"GRATING": "G395M", "FILTER": "F290LP"}, "begins at 28,700 Angstrom"),
        ({"GRATING": "PRISM", "FILTER": "CLEAR"}, "no line of a giant is resolved"),
        ({"GRATING": "G140H", "FILTER": "F290LP"}, "are read with the filters F070LP and F100LP"),
        ({"EXP_TYPE": "NRS_LAMP"}, "is a lamp"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused_with_the_reason(
    header: dict, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        read_observed(written(tmp_path / "a_x1d.fits", primary(TARGNAME="a", **header), extracted()))


def test_the_motion_of_the_earth_is_astropys() -> None:
    """Against astropy's own correction for an observatory: 0.5 km/s is the rotation of the Earth."""
    for date, ra, dec in (("2022-10-25T04:07:16", 298.44, 18.77), ("2024-03-01", 11.5, 42.1)):
        place = EarthLocation.from_geodetic(-70.0, -30.0, 2400.0)
        theirs = SkyCoord(ra, dec, unit="deg").radial_velocity_correction(obstime=Time(date), location=place)
        assert barycentric_correction(Time(date), ra, dec) == pytest.approx(theirs.to_value(u.km / u.s), abs=0.5)


def test_what_headers_state_about_the_frame() -> None:
    place = (298.44, 18.77)
    topocentric = {"SPECSYS": "TOPOCENT", "DATE-OBS": "2022-10-25T04:07:16"}
    assert velocity_frame([{"SPECSYS": "BARYCENT", "VELOSYS": 9000.0}], place) == ("barycentric", 1.0)
    assert velocity_frame([{"TELESCOP": "JWST"}], None) == ("barycentric", 1.0)
    assert velocity_frame([{"VEL_TYPE": "heliocentric"}], None) == ("heliocentric", 1.0)
    assert velocity_frame([{"TELESCOP": "NASA IRTF"}], place) == ("", 1.0)
    frame, factor = velocity_frame([{**topocentric, "VELOSYS": 23312.0}], place)  # the observer recedes
    assert frame == "barycentric"
    assert factor == pytest.approx(1 - 23.312 / SPEED_OF_LIGHT, abs=1e-12)
    assert velocity_frame([{}, topocentric], place)[1] == pytest.approx(factor, abs=1e-8)
    assert velocity_frame([topocentric], None) == ("", 1.0)
    for date in ("yesterday", "9999-01-01", "0001-01-01"):
        assert velocity_frame([{"SPECSYS": "TOPOCENT", "DATE-OBS": date}], place) == ("", 1.0)
    assert velocity_frame([{**topocentric, "VELOSYS": 1e300, "MJD": 1e300}], place) == ("", 1.0)


def test_topocentric_wavelengths_are_corrected(tmp_path: Path) -> None:
    header = {"SPECSYS": "TOPOCENT", "VELOSYS": -30000.0}
    moved = read_observed(written(tmp_path / "a_x1d.fits", primary(TARGNAME="a"), extracted(**header)))[0]
    assert np.allclose(moved.wavelength, WAVE * (1 + 30 / SPEED_OF_LIGHT), rtol=1e-10)
    assert (moved.frame, moved.note) == (
        "barycentric",
        "+30.00 km/s added to velocities: the motion of the observer",
    )


def one_of(velocity_error: float, **changed: object) -> Measured:
    """A measurement from nothing but its prior, with as little of a fit as tables look at."""
    known = giants()

    class Fit:
        labels, covariance, prior = known.mean, known.covariance, (known.mean, known.precision, known.covariance)
        velocity, fwhm, noise, misfit = -27.4, 3.0, 0.01, 0.1

    Fit.velocity_error = velocity_error  # type: ignore[attr-defined]
    whole = {
        "labels": as_labels(known.mean),
        "covariance": known.covariance,
        "prior_fraction": np.ones(N_LABELS),
        "fits": (Fit(),),
        **changed,
    }
    return Measured("a", "a", **whole)  # type: ignore[arg-type]


def test_the_error_of_a_velocity_holds_the_zero_point() -> None:
    one = one_of(0.8, frame="barycentric")
    assert one.velocity_error == pytest.approx(np.hypot(0.8, ZERO_POINT))
    table = measured_table([one, one_of(0.8)])
    assert table["velocity_error"].unit == u.km / u.s
    assert list(table["velocity_frame"]) == ["barycentric", "not stated"]
    several = replace(one, fits=one.fits * 4)
    assert several.sigma_velocity == pytest.approx(0.4)
    assert several.velocity_error > ZERO_POINT  # it is shared: exposures do not average it away


def test_limits_are_of_lines_that_are_not_seen_and_point_down() -> None:
    """A Gaussian prior and measurements of Teff, [Fe/H] and [Ce/H], in closed form."""
    known, ce = giants(), LABELS.index("Ce")
    for sigma, shift, limited in ((0.6, -1.2, True), (0.6, 0.0, False), (0.6, 1.2, False), (0.05, -1.2, False)):
        weight = np.zeros((N_LABELS, N_LABELS))
        weight[[TEFF, FE, ce], [TEFF, FE, ce]] = 50.0**-2, 0.05**-2, sigma**-2
        covariance = np.linalg.inv(np.linalg.inv(known.covariance) + weight)
        labels = known.mean + covariance[:, ce] / sigma**2 * shift
        fraction = prior_fraction(covariance, known.covariance)
        one = one_of(1.0, labels=as_labels(labels), covariance=covariance, prior_fraction=fraction)
        limits = upper_limits(one)
        assert np.isfinite(limits[ce]) == limited, (sigma, shift)
        if limited:
            assert limits[ce] == pytest.approx(labels[ce] + 1.645 * np.sqrt(covariance[ce, ce]))
            assert f"[Ce/H] < {limits[ce]:+.2f}" in limits_text(one)
            assert measured_table([one])["upper_limits"][0] == limits_text(one)
    assert not np.isfinite(upper_limits(Measured("a", "a", "dark"))).any()


@pytest.mark.parametrize(
    ("setting", "ends", "step", "fwhm"),
    [
        ("G140M/F100LP/MSA", (9750, 17950), 6.36, 9.5),
        ("G140M/F070LP/MSA", (9000, 12680), 6.36, 9.5),
        ("G140H/F070LP/MSA", (9000, 12680), 2.35, 3.6),
    ],
)
def test_stars_are_measured_in_every_setting(
    setting: str, ends: tuple[int, int], step: float, fwhm: float, rng: np.random.Generator
) -> None:
    """The lines are a tenth sharper than the setting's line-spread function: the fit finds the width."""
    truth = labels_of(Teff=4400, logg=1.8, Fe=-0.5)
    wave = np.arange(*ends, step)
    flux = np.interp(wave / (1 + 40 / SPEED_OF_LIGHT), NIRSPEC.wavelength, seen(truth, fwhm))
    noisy, none = flux + rng.standard_normal(len(wave)) / 100, np.zeros(len(wave), bool)
    spectrum = as_observed("x", wave, noisy, np.full(len(wave), 1e4), none, OBSERVED, 0.0, "x", setting)
    (one,) = measure([spectrum])
    assert one.verdict == "good"
    off = np.abs(one.labels - truth) / one.sigma  # type: ignore[operator]
    assert off[[TEFF, LOGG, FE]].max() < 1.5
    assert abs(one.velocity - 40) < 10
    assert one.fits[0].fwhm == pytest.approx(fwhm, rel=0.1)


def test_an_offset_in_flux_between_detectors_changes_nothing(rng: np.random.Generator) -> None:
    spectrum = spectrum_of(seen(labels_of()), rng, snr=80)
    red = spectrum.wavelength > 14000
    factor = np.where(red, 0.6, 1.0)
    offset = replace(spectrum, flux=spectrum.flux * factor, ivar=spectrum.ivar / factor**2)
    even, uneven = measure([spectrum, replace(offset, name="offset")])
    assert not even.set_aside
    assert not uneven.set_aside
    assert (np.abs(even.labels - uneven.labels) < 0.15 * even.sigma).all()


def test_a_cosmic_ray_in_one_of_four_nods_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    nods = [level * (FLUX + rng.normal(0, 0.003, len(WAVE))) for level in (1.0, 0.93, 1.04, 1.0)]
    nods[2][1000:1003] *= 1.6
    tables = [extracted(flux, INT_NUM=number) for number, flux in enumerate(nods, start=1)]
    (spectrum,) = read_observed(written(tmp_path / "a_x1dints.fits", primary(TARGNAME="a"), *tables))
    there = spectrum.flux / FLUX
    assert abs(there[1000:1003] / np.median(there) - 1).max() < 0.02
    assert np.std(there[500:900]) < 0.003  # four levels leave no steps
    assert np.median(np.sqrt(spectrum.ivar)) == pytest.approx(2 / ERROR[0], rel=0.1)


def test_an_exposure_of_another_star_is_left_out_of_several(rng: np.random.Generator) -> None:
    giant, other = labels_of(Teff=4300, logg=1.5, Fe=-0.4), labels_of(Teff=5000, logg=2.8, Fe=0.0)
    spectra = [spectrum_of(seen(labels), rng, name=f"e{n}") for n, labels in enumerate((giant, giant, other))]
    singles = measure(spectra)
    (one,) = combined([replace(single, target="star") for single in singles])
    assert len(one.fits) == 2
    assert "e2 is left out" in one.reason
    (alone,) = combined([replace(single, target="star") for single in singles[:2]])
    assert np.array_equal(one.labels, alone.labels)


@pytest.mark.skipif(not M71.is_dir(), reason="real spectra lie in ../shared")
def test_a_giant_of_m71_moves_as_apogee_says_within_the_error() -> None:
    """19: APOGEE has -23.3 km/s; the Earth's motion there and then is 23.3 km/s, so the frame is barycentric."""
    (path,) = M71.glob("spec1d_*_source_2609_19.fits")
    spectra = read_observed(path)
    (one,) = measure(spectra)
    assert one.frame == "barycentric"
    assert abs(one.velocity - -23.3) < one.velocity_error
    assert abs(one.velocity - -23.3) > one.sigma_velocity  # noise alone does not explain the difference
    assert spectra[0].lsf == "G140H/F100LP/MSA"


def test_spectra_of_msaexp_know_their_grating(tmp_path: Path) -> None:
    wave, flux = WAVE / 1e4, FLUX * (WAVE / 12000) ** 2
    columns = [fits.Column("wave", "D", unit="um", array=wave), fits.Column("flux", "D", unit="uJy", array=flux)]
    error = 0.01 * (WAVE / 12000) ** 2
    error[7] = 0.0  # msaexp marks pixels without data so
    table = fits.BinTableHDU.from_columns([*columns, fits.Column("err", "D", unit="uJy", array=error)], name="SPEC1D")
    table.header.update({"TELESCOP": "JWST", "INSTRUME": "NIRSPEC", "GRATING": "G140M", "FILTER": "F100LP"})
    table.header["SRCNAME"] = "2609_19"
    (spectrum,) = read_observed(written(tmp_path / "m71_g140m-f100lp_2609_19.spec.fits", fits.PrimaryHDU(), table))
    assert (spectrum.name, spectrum.lsf, spectrum.frame) == ("2609_19", "G140M/F100LP/MSA", "barycentric")
    assert spectrum.bad[7]
    good = ~spectrum.bad
    assert np.allclose((spectrum.flux / FLUX)[good], np.median((spectrum.flux / FLUX)[good]), rtol=1e-6)
    table.header["GRATING"] = "G235M"
    with pytest.raises(DataError, match=r"taken with G235M: it begins at 16,600 Angstrom"):
        read_observed(written(tmp_path / "g235m.spec.fits", fits.PrimaryHDU(), table))


def test_tables_with_the_cards_of_nirspec_know_their_grating(tmp_path: Path) -> None:
    columns = [
        fits.Column("wavelength", "D", unit="Angstrom", array=WAVE),
        fits.Column("flux", "D", unit="mJy", array=FLUX),
    ]
    columns.append(fits.Column("error", "D", unit="mJy", array=0.01 * FLUX))
    cases = (
        ({"GRATING": "G140M", "FILTER": "F100LP"}, "G140M/F100LP/slit"),
        ({"INSTRUME": "NIRSPEC", "GRATING": "G140H", "FILTER": "F070LP", "EXP_TYPE": "NRS_IFU"}, "G140H/F070LP/IFU"),
        ({"INSTRUME": "FLAMINGOS", "GRATING": "JH"}, ""),
        ({"TELESCOP": "Gemini", "GRATING": "G140H"}, ""),
        ({}, ""),
    )
    for number, (cards, setting) in enumerate(cases):
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update(cards)
        (spectrum,) = read_observed(written(tmp_path / f"{number}.fits", fits.PrimaryHDU(), table))
        assert spectrum.lsf == setting
    table.header["GRATING"] = "G235H"
    with pytest.raises(DataError, match=r"taken with G235H: it begins at 16,600 Angstrom"):
        read_observed(written(tmp_path / "red.fits", fits.PrimaryHDU(), table))


def test_an_uploaded_file_of_jwst_keeps_its_frame(tmp_path: Path) -> None:
    header = {"TARGNAME": "a", "PROGRAM": "02609", "OBSERVTN": "006", "SPECSYS": "BARYCENT"}
    path = written(tmp_path / "jw02609-o006_t001_nirspec_x1d.fits", primary(**header), extracted())
    assert read_observed(path)[0].exposures is not None
    (spectrum,) = read_isolated(path.name, path.read_bytes(), OBSERVED)
    assert (spectrum.name, spectrum.frame, spectrum.lsf) == ("a", "barycentric", DEFAULT)
