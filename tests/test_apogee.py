"""The APOGEE catalogue and spectra: files the tests write, and real ones where they are at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from apogee_files import catalogue, write_ap, write_aspcap
from astropy.table import Table
from conftest import ROOT

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.inference.fisher import cramer_rao
from starclip_lib.inference.spectrum import fit_spectrum
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.settings.data import DataParams
from starclip_lib.support.errors import DataError
from starclip_lib.survey.allstar import CATALOGUE_COLUMNS, catalogue_labels, read_all_star, select_giants
from starclip_lib.survey.apogee import normalised, read_ap_star, read_apogee_folder, read_aspcap_star

REAL = ROOT.parent / "shared" / "apogee"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"real APOGEE files are not part of the project ({REAL})")


def test_labels_are_sums_and_errors_add_in_quadrature() -> None:
    table = catalogue()
    table.loc[3, ["MG_FE", "MG_FE_ERR"]] = -9999.0
    table.loc[4, ["FE_H"]] = np.nan
    labels, errors = catalogue_labels(table)
    mg = LABELS.index("Mg")
    assert labels[0, mg] == pytest.approx(table["MG_FE"][0] + table["FE_H"][0], abs=1e-12)
    assert errors[0, mg] == pytest.approx((0.02**2 + 0.01**2) ** 0.5)
    assert errors[0, FE] == pytest.approx(0.01)
    assert np.isnan(labels[3, mg])
    assert np.isnan(errors[3, mg])
    assert np.isnan(labels[3]).sum() == 1
    assert np.isnan(labels[4, 2:]).all()
    assert np.isfinite(labels[4, :2]).all()


def test_each_cut_removes_the_stars_it_is_for() -> None:
    table = catalogue()
    spoil: list[tuple[str, float, str]] = [
        ("SNR", 200.0, "S/N > 200"),
        ("TEFF", 5000.0, "4000 < Teff < 5000 K"),
        ("LOGG", -9999.0, "0.5 < log g < 2"),
        ("VSCATTER", 1.0, "VSCATTER < 1 km/s"),
        ("ASPCAPFLAG", 1 << 23, "ASPCAPFLAG: not STAR_BAD"),
        ("STARFLAG", 1 << 16, "STARFLAG: nothing bad"),
        ("CE_FE_FLAG", 2, "abundance flags all 0"),
        ("V_FE", np.nan, "all labels and errors measured"),
        ("EXTRATARG", 1 << 4, "EXTRATARG: not DUPLICATE"),
    ]
    for row, (column, value, _) in enumerate(spoil):
        table.loc[row, column] = value
    table.loc[20, "ASPCAPFLAG"] = 1 << 7  # a warning is no reason
    table.loc[21, "STARFLAG"] = 1 << 9  # neither is persistence
    table.loc[30, "APOGEE_ID"] = table["APOGEE_ID"][31]  # 31 has the higher S/N
    table.loc[40, "NA_FE"] = 5.0  # no emulated spectrum
    stars, report = select_giants(table, DataParams())
    removed = dict(zip(report["cut"], report["removed"], strict=True))
    for _, _, cut in spoil:
        assert removed.pop(cut) == 1, cut
    assert removed.pop("one row for each APOGEE_ID") == 1
    assert removed.pop("inside the emulator's domain") == 1
    assert set(removed.values()) == {0}
    assert list(report["left"]) == list(len(table) - report["removed"].cumsum())
    assert len(stars) == report["left"].iloc[-1] == len(table) - 11
    expected = table["APOGEE_ID"].drop([*range(9), 30, 40]).tolist()
    assert stars["APOGEE_ID"].tolist() == expected
    assert stars["Mg"][0] == pytest.approx(table["MG_FE"][9] + table["FE_H"][9])


def test_the_catalogue_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = catalogue()
    path = tmp_path / "allStar.fits"
    wide = table.assign(APOGEE_ID=table["APOGEE_ID"] + "   ", UNUSED=1.0)
    Table.from_pandas(wide).write(path)
    monkeypatch.setattr("starclip_lib.survey.allstar._BLOCK", 7)
    read = read_all_star(path)
    assert list(read.columns) == list(CATALOGUE_COLUMNS)
    assert read["APOGEE_ID"].tolist() == table["APOGEE_ID"].tolist()
    np.testing.assert_array_equal(read["CE_FE"], table["CE_FE"])


def test_catalogues_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "old.fits"
    Table.from_pandas(catalogue().drop(columns=["CE_FE", "CE_FE_FLAG"])).write(path)
    with pytest.raises(DataError, match=r"old\.fits: the columns CE_FE, CE_FE_FLAG are missing"):
        read_all_star(path)


def test_aspcap_star_masks_what_is_not_there(tmp_path: Path) -> None:
    flux, error = np.full(8575, 0.9), np.full(8575, 0.005)
    flux[[1000, 1001]] = 0, np.nan
    error[1002], error[1003] = 50.0, np.inf
    star = read_aspcap_star(write_aspcap(tmp_path / "aspcapStar-dr17-2M00000000+0000001.fits", flux, error))
    assert star.star_id == "2M00000000+0000001"
    for name in ("aspcapStar-dr17-AP17433806-2948103", "aspcapStar-r6-l30e.2-VESTA", "apStar-r12-l33-N6791-2174"):
        other = read_aspcap_star(write_aspcap(tmp_path / f"{name}.fits", flux, error))
        assert other.star_id in ("AP17433806-2948103", "VESTA", "N6791-2174")
    assert star.mask[1000:1004].all()
    np.testing.assert_array_equal(
        np.delete(star.mask, range(1000, 1004)), np.delete(~APOGEE.on_detector, range(1000, 1004))
    )
    assert (star.flux[star.mask] == 0).all()
    assert (star.ivar[star.mask] == 0).all()
    np.testing.assert_allclose(star.ivar[~star.mask], 0.005**-2, rtol=1e-5)


@pytest.mark.parametrize("kind", [">i2", ">i8"])
@pytest.mark.parametrize("rows", [0, 2, 5])
def test_ap_star_layouts(tmp_path: Path, kind: str, rows: int) -> None:
    """One spectrum alone, or the combination in front of the visits; masks of 16 and of 64 bits."""
    flux, error, bits = np.full(8575, 80.0), np.full(8575, 0.5), np.zeros(8575, kind)
    bits[500], bits[501] = 1 << 3, 1 << 9  # unfixable; persistence, which is not bad
    arrays = (flux, error, bits)
    if rows:
        arrays = tuple(np.vstack([array, np.zeros((rows - 1, 8575), array.dtype)]) for array in arrays)
    star = read_ap_star(write_ap(tmp_path / "apStar-r12-2M00000000+0000001.fits", *arrays))
    assert star.mask[500]
    assert not star.mask[501]
    assert (star.flux[~star.mask] == 80).all()
    assert (~star.mask).sum() == APOGEE.on_detector.sum() - 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:40_000]), "is truncated"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "is truncated or no FITS file"),
        (lambda path: write_aspcap(path, np.ones(4096), np.ones(4096)), "HDU 1 has shape"),
        (lambda path: write_aspcap(path, np.ones(8575), np.ones(8575), CDELT1=5e-6), "the wavelength grid"),
        (lambda path: write_aspcap(path, np.ones(8575), np.ones(8575), BUNIT="erg/s/cm2/A"), "an apStar file"),
        (lambda path: write_aspcap(path, np.full(8575, np.nan), np.ones(8575)), ": 0 good pixels"),
    ],
)
def test_spectra_that_cannot_be_read(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    path = write_aspcap(tmp_path / "aspcapStar-dr17-2M1.fits", np.full(8575, 0.9), np.full(8575, 0.005))
    spoil(path)
    with pytest.raises(DataError, match=rf"aspcapStar-dr17-2M1\.fits:? ?.*{message}"):
        read_aspcap_star(path)


def test_ap_star_reader_refuses_aspcap_stars(tmp_path: Path) -> None:
    path = write_aspcap(tmp_path / "aspcapStar-dr17-2M1.fits", np.full(8575, 0.9), np.full(8575, 0.005))
    with pytest.raises(DataError, match="not an apStar file"):
        read_ap_star(path)


def blazed(tmp_path: Path, flux: np.ndarray, ivar: np.ndarray) -> Path:
    """An apStar file of a normalised spectrum: times a smooth curve, and of some brightness."""
    curve = 300 * (1 + 0.3 * np.sin(np.linspace(0, 4, 8575)))
    error = np.where(ivar > 0, curve / np.sqrt(np.maximum(ivar, 1)), 1e10)
    return write_ap(tmp_path / "apStar-r12-2M1.fits", flux * curve, error, np.where(ivar > 0, 0, 1))


def test_the_continuum_of_simulated_giants_is_found(tmp_path: Path) -> None:
    survey = simulate_survey(12, 3)
    for flux, ivar in zip(survey.apogee.flux, survey.apogee.ivar, strict=True):
        star = normalised(read_ap_star(blazed(tmp_path, flux, ivar)))
        good = ~star.mask
        assert np.median(star.flux[good] / flux[good]) == pytest.approx(1, abs=0.012)
        assert np.std(star.flux[good] / flux[good]) < 0.007
        snr = flux * np.sqrt(ivar)  # does not change
        np.testing.assert_allclose((star.flux * np.sqrt(star.ivar))[good], snr[good], rtol=1e-4)
        assert (star.flux[star.mask] == 0).all()
        assert (star.ivar[star.mask] == 0).all()


def test_a_chip_with_next_to_nothing_is_left_out_and_one_below_zero_is_refused(tmp_path: Path) -> None:
    survey = simulate_survey(12, 3)
    flux, ivar = survey.apogee.flux[0].copy(), survey.apogee.ivar[0].copy()
    (start, stop), rest = APOGEE.chips[0], APOGEE.chips[1:]
    ivar[start : stop - 60] = 0
    star = normalised(read_ap_star(blazed(tmp_path, flux, ivar)))
    assert star.mask[start:stop].all()
    assert all((~star.mask[a:b]).sum() > 1000 for a, b in rest)
    ivar[start:stop] = 0
    flux[slice(*rest[0])] *= -1
    flux[slice(*rest[1])] *= 2
    with pytest.raises(DataError, match=r"2M1: no continuum above 0|median flux is not positive"):
        normalised(read_ap_star(blazed(tmp_path, flux, ivar)))


def test_a_folder_without_spectra(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file in it is named aspcapStar\*\.fits"):
        read_apogee_folder(tmp_path)


def test_fit_finds_the_labels_of_emulated_spectra(rng: np.random.Generator) -> None:
    """As well as the Cramer-Rao bound at S/N 200 allows, under a sloping continuum."""
    pulls = []
    for truth in simulate_survey(40, 3).labels[:8].astype(float):
        flux = default_emulator()(truth[None], APOGEE)[0] * (1 + 0.05 * np.linspace(-1, 1, 8575))
        flux += rng.normal(0, 0.005, 8575)
        fit = fit_spectrum(flux, np.where(APOGEE.on_detector, 4e4, 0.0), APOGEE)
        assert fit.at_edge == ()
        assert fit.rms == pytest.approx(0.005, rel=0.05)
        pulls.append((fit.labels - truth) / cramer_rao(default_emulator(), truth, APOGEE, 200))
    assert np.abs(pulls).max() < 5
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.4  # errors of one star's labels are correlated


def test_fit_refuses_what_it_cannot_use() -> None:
    flux, ivar = np.ones(8575), np.zeros(8575)
    ivar[1000:1020] = 1
    with pytest.raises(DataError, match="20 pixels hold data, too few"):
        fit_spectrum(flux, ivar, APOGEE)
    flux[1005] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit_spectrum(flux, ivar, APOGEE)


@needs_real
def test_real_spectra_read_and_look_like_stars() -> None:
    stars = {path.name: read_aspcap_star(path) for path in REAL.glob("aspcapStar-*.fits")}
    assert len(stars) == 6
    for star in stars.values():
        assert 4000 < (~star.mask).sum() <= 7514
        assert 0.7 < np.median(star.flux[~star.mask]) < 1.1
    giant = stars["aspcapStar-r6-l30e.2-2M17334253-1654573.fits"]
    raw = read_ap_star(REAL / "apStar-r6-2M17334253-1654573.fits")
    assert giant.star_id == raw.star_id == "2M17334253-1654573"
    both = ~giant.mask & ~raw.mask
    for start, stop in APOGEE.chips:  # the ratio of the two is a continuum: smooth on each chip
        pixels = np.flatnonzero(both[start:stop]) + start
        ratio = raw.flux[pixels] / giant.flux[pixels]
        smooth = np.polynomial.Polynomial.fit(pixels, ratio, 4)(pixels)
        assert np.median(np.abs(ratio / smooth - 1)) < 0.005


@needs_real
def test_a_real_giant_is_normalised_as_a_fit_of_the_emulator_would() -> None:
    raw = read_ap_star(REAL / "apStar-r6-2M17334253-1654573.fits")
    star, unit = normalised(raw), np.median(raw.flux[~raw.mask])
    fit = fit_spectrum(raw.flux / unit, raw.ivar * unit**2, APOGEE)
    for start, stop in APOGEE.chips:
        good = np.flatnonzero(~star.mask[start:stop]) + start
        ratio = star.flux[good] / (raw.flux[good] / unit / fit.continuum[good])
        assert np.median(ratio) == pytest.approx(1, abs=0.02)
        assert np.std(ratio) < 0.01


@needs_real
@pytest.mark.parametrize(
    "name", ["apStar-dr17-2M19485057+5005279", "apStar-onevisit-2M16333217+3942519", "apStar-r6-2M17334253-1654573"]
)
def test_real_ap_stars(name: str) -> None:
    star = read_ap_star(REAL / f"{name}.fits")
    assert star.star_id == name[-18:]
    assert (~star.mask).sum() > 7000
    snr = star.flux * np.sqrt(star.ivar)
    assert 50 < np.median(snr[~star.mask]) < 1000


@needs_real
def test_emulator_fits_a_real_giant(tmp_path: Path) -> None:
    """2M16333217+3942519: the survey's radial-velocity template has 4500 K, log g 2.0, [Fe/H] -0.5."""
    shutil.copy(REAL / "apStar-onevisit-2M16333217+3942519.fits", tmp_path)
    (star,) = read_apogee_folder(tmp_path)
    fit = fit_spectrum(star.flux, star.ivar, APOGEE)
    assert fit.rms < 0.03
    assert abs(fit.labels[TEFF] - 4500) < 150
    assert abs(fit.labels[LOGG] - 2.0) < 0.5
    assert abs(fit.labels[FE] + 0.5) < 0.2


@needs_real
def test_real_catalogue_of_an_old_release_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="CE_FE, CE_FE_ERR, CE_FE_FLAG"):
        read_all_star(REAL / "allStar-eight-rows.fits")


@needs_real
def test_real_rows_and_cuts(tmp_path: Path) -> None:
    """The eight genuine rows, with cerium added: dwarfs, missing gravities, binaries; none is a star of the paper."""
    table = Table.read(REAL / "allStar-eight-rows.fits")
    for suffix, value in (("", 0.0), ("_ERR", 0.02), ("_FLAG", 0)):
        table[f"CE_FE{suffix}"] = np.full(len(table), value, table[f"MG_FE{suffix}"].dtype)
    table.write(tmp_path / "allStar.fits")
    read = read_all_star(tmp_path / "allStar.fits")
    assert read["APOGEE_ID"][0] == "VESTA"
    labels, _ = catalogue_labels(read)
    assert np.isnan(labels[0, LOGG])
    assert labels[7, LABELS.index("Mg")] == pytest.approx(0.04832089 - 0.18679619, abs=1e-6)
    stars, report = select_giants(read, DataParams())
    assert len(stars) == 0
    assert report["removed"].sum() == 8
    assert report.set_index("cut")["removed"]["S/N > 200"] == 4
