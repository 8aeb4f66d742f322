"""Files as users have them: every kind that is read, what is left out, and who is who."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
import specutils
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable, Table
from conftest import ROOT
from nirspec_files import observe, spec1d_table, write_spec1d

import starclip_lib as starclip
from starclip_lib.lab import observing
from starclip_lib.lab.arguments import parser
from starclip_lib.lab.labelled import labelled
from starclip_lib.observed import finder
from starclip_lib.observed.combining import combined
from starclip_lib.observed.finder import find_files
from starclip_lib.observed.measured import Measured
from starclip_lib.observed.readers.look import look
from starclip_lib.observed.readers.making import Options, plain_name, roles, vacuum
from starclip_lib.observed.velocity import doubtful_medium
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError

IRTF = ROOT.parent / "shared" / "irtf"
WAVE = np.arange(9800.0, 16500.0, 2.35)
FLUX = 1 + 0.1 * np.sin(WAVE / 9)
ERROR = np.full(len(WAVE), 0.01)
PER_FREQUENCY = (WAVE / 12000) ** 2  # F_nu of F_lambda
AIR = WAVE / (1 + 0.05792105 / (238.0185 - (1e4 / WAVE) ** 2) + 0.00167917 / (57.362 - (1e4 / WAVE) ** 2))


def primary(**header: object) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    hdu.header.update({"TELESCOP": "JWST", "INSTRUME": "NIRSPEC", "GRATING": "G140H", "FILTER": "F100LP", **header})
    return hdu


def extracted(
    flux: np.ndarray = FLUX, wave: np.ndarray = WAVE, name: str = "EXTRACT1D", **header: object
) -> fits.BinTableHDU:
    scale = (wave / 12000) ** 2
    columns = {"WAVELENGTH": wave / 1e4, "FLUX": flux * scale, "FLUX_ERROR": 0.01 * scale}
    units = {"WAVELENGTH": "um"}
    unit = header.pop("unit", "Jy")
    table = [fits.Column(key, "D", unit=units.get(key, unit), array=array) for key, array in columns.items()]
    hdu = fits.BinTableHDU.from_columns([*table, fits.Column("DQ", "J", array=np.zeros(len(wave), int))], name=name)
    hdu.header.update(header)
    return hdu


def written(path: Path, *hdus: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(list(hdus)).writeto(path)
    return path


def same(spectrum, flux: np.ndarray = FLUX, wave: np.ndarray = WAVE) -> bool:
    """Wavelengths as they were, flux up to a factor, errors with it."""
    assert not spectrum.damage
    good = ~spectrum.bad
    factor = np.median(spectrum.flux[good] / flux[good])
    return (
        np.allclose(spectrum.wavelength, wave, rtol=1e-8)
        and np.allclose(spectrum.flux[good], factor * flux[good], rtol=1e-5)
        and np.allclose(1 / np.sqrt(spectrum.ivar[good]), factor * 0.01, rtol=1e-5)
    )


# One default of what is read


def test_python_reads_what_the_command_reads(tmp_path: Path) -> None:
    path = write_spec1d(tmp_path / "spec1d_a.fits", spec1d_table("SPAT1-SLIT1-MSC01", WAVE, FLUX))
    (spectrum,) = starclip.read_spectra(path)
    used = spectrum.wavelength[~spectrum.bad]
    assert used[0] < 9810  # 10,700 is where the networks of a run begin
    assert spectrum.n_good > spectrum.within(ObservedParams()).n_good > 0
    assert spectrum.within(ObservedParams()).wavelength[~spectrum.within(ObservedParams()).bad][0] >= 10700


def test_python_and_the_command_give_the_same_labels(tmp_path: Path, survey, rng: np.random.Generator) -> None:
    table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(survey.nirspec.flux[3], 20.0, rng))
    path = write_spec1d(tmp_path / "spec1d_a.fits", table)
    (by_python,) = starclip.measure(starclip.read_spectra(path))
    told: list[str] = []
    (by_command,) = observing.observe([tmp_path], tmp_path / "out", told.append)
    assert not by_python.set_aside
    np.testing.assert_array_equal(by_python.labels, by_command.labels)
    np.testing.assert_array_equal(by_python.covariance, by_command.covariance)
    assert told[-1] == "1 file found, 1 used"


def test_labels_find_their_spectra_whatever_the_kind(tmp_path: Path) -> None:
    folder = folder_of_kinds(tmp_path / "here")
    written(folder / "two" / "c.fit", primary(TARGNAME="another"), extracted())
    spectra = starclip.read_spectra(folder)
    rows: list[dict[str, object]] = [
        {"file": " spec1d_a.fits "}, {"file": "e"}, {"file": "MAST/jw1/c.fit"}, {"star": " b "},
        {"file": float("nan"), "star": "f"},
        {"file": "nowhere.fits"},
    ]  # fmt: skip
    told: list[str] = []
    found = {Path(one.file).name: row for one, row in labelled(spectra, rows, folder, told.append)}
    assert found == dict(zip(("spec1d_a.fits", "e.fits", "c.fit", "b_x1d.FITS", "f.ecsv"), rows, strict=False))
    assert told == [
        f"1 of 6 labelled stars have no spectrum in {folder}: nowhere.fits",
        "2 of 7 spectra have no labels and are left out",
    ]
    with pytest.raises(DataError, match=r"2 files in .* are called c\.fit: give their paths in its column file"):
        labelled(spectra, [{"file": "c.fit"}], folder, told.append)


def test_what_is_said_of_files_on_the_command_line() -> None:
    given = parser().parse_args(["observe", "a.csv", "--air", "--wavelength-unit", "um", "--flux-unit", "Jy"])
    assert given.reading == {"air": True, "wavelength_unit": "um", "flux_unit": "Jy"}
    assert parser().parse_args(["benchmark-real", "a", "--vacuum"]).reading == {"air": False}
    assert parser().parse_args(["observe", "a.csv"]).reading == {}


# Damage is of a source


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: extracted(np.full(100, np.nan), np.full(100, np.nan)), "has 0 wavelengths for 0 pixels"),
        (lambda: extracted(np.empty(0), np.empty(0)), "has 0 wavelengths for 0 pixels"),
        (lambda: extracted(unit="DN/s"), "the flux is in DN / s, expected Jy"),
        (lambda: fits.ImageHDU(np.ones((5, 5)), name="EXTRACT1D"), "is not a table"),
    ],
)
def test_one_bad_source_does_not_cost_the_file(tmp_path: Path, other, said: str) -> None:
    hdu = other()
    hdu.header["SRCNAME"] = "bad"
    path = written(tmp_path / "a_x1d.fits", primary(EXP_TYPE="NRS_MSASPEC"), extracted(SRCNAME="good"), hdu)
    good, bad = starclip.read_spectra(path)
    assert same(good)
    assert (good.name, bad.name) == ("good", "bad")
    assert said in bad.damage
    assert str(path) in bad.damage


def test_one_bad_slit_does_not_cost_the_mask(tmp_path: Path) -> None:
    tables = [
        spec1d_table(f"SPAT000{n}-SLIT000{n}-MSC01", WAVE, FLUX, drop="OPT_WAVE" if n == 2 else "") for n in (1, 2, 3)
    ]
    spectra = starclip.read_spectra(write_spec1d(tmp_path / "spec1d_mask.fits", *tables))
    assert [bool(spectrum.damage) for spectrum in spectra] == [False, True, False]
    assert "has no column OPT_WAVE" in spectra[1].damage


def test_a_file_of_bad_sources_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a_x1d.fits", primary(), *(extracted(unit="DN/s", SRCNAME=name) for name in "ab"))
    with pytest.raises(
        DataError, match=r"none of its 2 spectra can be read; the first: .* the table of a: the flux is in"
    ):
        starclip.read_spectra(path)


# Nothing is left out without a word


def test_every_object_of_a_mask_is_read(tmp_path: Path) -> None:
    tables = [spec1d_table(f"SPAT00{n}-SLIT00{n}-MSC01", WAVE, FLUX * n) for n in (12, 19, 25)]
    for table, name in zip(tables, ("star 12", " star_19 ", "SERENDIP"), strict=True):
        table.header["HIERARCH MASKDEF_OBJNAME"] = name
    second = spec1d_table("SPAT0013-SLIT0012-MSC01", WAVE, FLUX, snr=10.0)
    path = write_spec1d(tmp_path / "spec1d_mask.fits", *tables, second)
    told: list[str] = []
    spectra = starclip.read_spectra(path, callback=told.append)
    assert [one.name for one in spectra] == ["star_12", "star_19", "star_1_SLIT0025"]
    assert told == ["star_12: 1 fainter object(s) in the slit of star_12"]


def folder_of_kinds(folder: Path) -> Path:
    folder.mkdir()
    write_spec1d(folder / "spec1d_a.fits", spec1d_table("SPAT1-SLIT1-MSC01", WAVE, FLUX))
    deep = folder / "MAST" / "jw1"
    written(deep / "b_x1d.fits", primary(TARGNAME="b"), extracted())
    (deep / "b_x1d.fits").rename(deep / "b_x1d.FITS")
    written(deep / "c.fit", primary(TARGNAME="c"), extracted())
    (deep / "d_x1d.fits.gz").write_bytes(gzip.compress((deep / "c.fit").read_bytes()))
    image = np.stack([WAVE / 1e4, FLUX, ERROR]).astype(np.float32)
    fits.PrimaryHDU(image, fits.Header({"OBJECT": "HD 1", "XUNITS": "um", "WAVETYPE": "Vacuum"})).writeto(
        folder / "e.fits"
    )
    QTable({"wavelength": WAVE * u.AA, "flux": FLUX * u.adu, "error": ERROR * u.adu}).write(folder / "f.ecsv")
    return folder


def test_one_finder_for_folders(tmp_path: Path) -> None:
    folder, elsewhere = folder_of_kinds(tmp_path / "here"), tmp_path / "there"
    written(elsewhere / "g_x1d.fits", primary(TARGNAME="g"), extracted())
    (folder / "link").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "back").symlink_to(folder, target_is_directory=True)  # a circle
    (folder / "again.fits").symlink_to(folder / "spec1d_a.fits")
    (folder / "gone.fits").symlink_to(folder / "nowhere")
    (folder / ".hidden.fits").write_bytes(b"x")
    written(folder / "jw1_nrs1_s2d.fits", primary(DATAMODL="SlitModel"), fits.ImageHDU(np.ones((9, 9))))
    written(folder / "phot.fits", primary(), fits.BinTableHDU.from_columns([fits.Column("mag", "D", array=[1.0])]))
    (folder / "labels.csv").write_text("file,teff\na,1\n")
    (folder / "notes.md").write_text("x")
    (folder / "run.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (folder / "empty.fits").write_bytes(b"")
    found = find_files(folder)
    names = sorted(path.name for path in found.files)
    assert names == [
        "b_x1d.FITS",
        "c.fit",
        "d_x1d.fits.gz",
        "e.fits",
        "empty.fits",
        "f.ecsv",
        "g_x1d.fits",
        "spec1d_a.fits",
    ]
    assert set(found.files.values()) == {finder.SPECTRUM}
    left_out = {path.name: reason for path, reason in found.left_out.items()}
    assert left_out["jw1_nrs1_s2d.fits"].startswith("images of the JWST pipeline")
    assert left_out["labels.csv"] == "tables or texts of an unknown kind, without columns of wavelength and flux"
    assert left_out["run.h5"].startswith("data sets")
    assert left_out["gone.fits"] == "no such file or folder"
    assert set(left_out) == {"jw1_nrs1_s2d.fits", "phot.fits", "labels.csv", "notes.md", "run.h5", "gone.fits"}
    assert found.summary().startswith("14 files found, 8 used, 6 left out: ")
    assert find_files(folder, (finder.DATA_SET,)).files == {folder / "run.h5": finder.DATA_SET}

    told: list[str] = []
    spectra = starclip.read_spectra(folder, callback=told.append)
    assert {one.name for one in spectra if not one.damage} == {"star_1", "b", "HD_1", "f", "g", "c_c", "d_x1d_c"}
    (damage,) = [one.damage for one in spectra if one.damage]
    assert "empty.fits is truncated or no FITS file (its 0 bytes" in damage
    assert told[0].startswith("14 files found, 7 used, 1 could not be read, 6 left out: ")


def test_missing_files_are_told_and_do_not_cost_the_others(tmp_path: Path) -> None:
    path, told = written(tmp_path / "a_x1d.fits", primary(TARGNAME="a"), extracted()), list[str]()
    good, missing = starclip.read_spectra([path, path, tmp_path / "b.fits"], callback=told.append)
    assert same(good)
    assert "b.fits is missing" in missing.damage
    assert told == ["2 files found, 1 used, 1 left out: missing files (1, such as b.fits)"]


def test_each_unknown_kind_is_named_once(tmp_path: Path) -> None:
    written(tmp_path / "a_x1d.fits", primary(), extracted())
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text("hello\n")
    image = written(tmp_path / "0_s2d.fits", primary(), fits.ImageHDU(np.ones((9, 9)))).read_bytes()
    for number in range(1, 50):
        (tmp_path / f"{number}_s2d.fits").write_bytes(image)
    line = find_files(tmp_path).summary()
    assert line.startswith("101 files found, 1 used, 100 left out: ")
    assert line.count("images of the JWST pipeline") == line.count("unknown kind") == 1
    assert "(50, such as" in line


def test_ten_spectra_among_ten_thousand_files(tmp_path: Path) -> None:
    good = written(tmp_path / "0_x1d.fits", primary(TARGNAME="s"), extracted()).read_bytes()
    image = written(tmp_path / "image.fits", primary(), fits.ImageHDU(np.ones((30, 30)))).read_bytes()
    for number in range(1, 10):
        (tmp_path / f"{number}_x1d.fits").write_bytes(good)
    for number in range(9989):
        (tmp_path / f"image_{number}.fits").write_bytes(image)
    start = time.process_time()
    found = find_files(tmp_path)
    assert len(found.files) == 10
    assert len(found.left_out) == 9990
    assert time.process_time() - start < 40  # ten seconds, on a machine four times slower


def test_a_thousand_extensions_of_which_one_is_a_star(tmp_path: Path) -> None:
    hdus = [fits.ImageHDU(np.ones((2, 2)), name=f"X{n}") for n in range(1000)]
    hdus[700] = extracted(SRCNAME="star")
    path = written(tmp_path / "many.fits", primary(), *hdus)
    assert list(find_files(tmp_path).files) == [path]
    (spectrum,) = starclip.read_spectra(path)
    assert same(spectrum)
    assert spectrum.name == "star"


@pytest.mark.parametrize("card", ["GCOUNT  = -1", "NAXIS   = 99999999999", "PCOUNT  = -999999999", "NAXIS1  = 'x'"])
def test_headers_that_lie_are_looked_at_in_one_line(tmp_path: Path, card: str) -> None:
    path = written(tmp_path / "a_x1d.fits", primary(), extracted())
    content = path.read_bytes()
    place = content.rindex(card[:8].encode())
    path.write_bytes(content[:place] + card.ljust(80).encode() + content[place + 80 :])
    assert list(find_files(tmp_path).files) == [path]
    with pytest.raises(DataError, match=r"a_x1d\.fits"):
        starclip.read_spectra(path)


def test_the_same_name_in_two_folders(tmp_path: Path) -> None:
    for folder, name in (("a", "s1"), ("b", "s1")):
        written(tmp_path / folder / "s_x1d.fits", primary(TARGNAME=name), extracted())
    names = [one.name for one in starclip.read_spectra(tmp_path)]
    assert names == ["s_x1d_s1", "s_x1d_s1_2"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(tmp_path: Path) -> None:
    written(tmp_path / "a_x1d.fits", primary(), extracted())
    (tmp_path / "b_x1d.fits").write_bytes(b"SIMPLE")
    (tmp_path / "b_x1d.fits").chmod(0)
    assert find_files(tmp_path).left_out[tmp_path / "b_x1d.fits"].startswith("permission denied")


# Who is who


def test_a_fixed_slit_is_named_after_its_target(tmp_path: Path) -> None:
    for number, name in enumerate(("HD-1", "HD-2")):
        slit = extracted(FLUX * (1 + number), SLTNAME="S200A1", SOURCEID=1)
        written(
            tmp_path / f"{number}_x1d.fits", primary(TARGNAME=name, EXP_TYPE="NRS_FIXEDSLIT", FXD_SLIT="S200A1"), slit
        )
    assert [one.target for one in starclip.read_spectra(tmp_path)] == ["HD-1", "HD-2"]


def test_two_slits_of_one_star_are_one_star(tmp_path: Path) -> None:
    both = [extracted(FLUX * (1 + n), SLTNAME=f"S200A{n + 1}", SOURCEID=1, SRCNAME=str(n + 1)) for n in range(2)]
    written(tmp_path / "a_x1d.fits", primary(TARGNAME=" HD 1  ", EXP_TYPE="NRS_FIXEDSLIT", FXD_SLIT="S200A1"), *both)
    spectra = starclip.read_spectra(tmp_path)
    assert [(one.name, one.target) for one in spectra] == [("HD_1_S200A1", "HD_1"), ("HD_1_S200A2", "HD_1")]
    (star,) = combined([Measured(one.name, one.target, "not measured") for one in spectra])
    assert star.name == "HD_1"


def test_stars_of_one_name_and_two_places_are_two(tmp_path: Path) -> None:
    for number, dec in enumerate((18.0, 18.0001, 18.1)):
        hdu = extracted(SRCNAME="s1", SRCRA=298.0, SRCDEC=dec)
        written(tmp_path / f"{number}_x1d.fits", primary(EXP_TYPE="NRS_MSASPEC"), hdu)
    spectra = starclip.read_spectra(tmp_path)
    assert [one.target for one in spectra] == ["s1", "s1", "s1_2"]
    assert "another star is called s1" in spectra[2].note


def test_exposures_count_once(tmp_path: Path) -> None:
    head = {"TARGNAME": "M71", "EXP_TYPE": "NRS_MSASPEC", "PROGRAM": "02609", "OBSERVTN": "006"}
    level2 = written(tmp_path / "jw02609006001_03101_00002_nrs1_x1d.fits", primary(**head),
                     extracted(SRCNAME="2609_19"), extracted(SRCNAME="2609_3"))  # fmt: skip
    level3 = written(tmp_path / "jw02609-o006_s000000019_nirspec_f100lp-g140h_x1d.fits", primary(**head),
                     extracted(SRCNAME="2609_19"))  # fmt: skip
    spectra = {Path(one.file).name + one.target: one for one in starclip.read_spectra(tmp_path)}
    assert level3.name in spectra[level2.name + "2609_19"].damage
    assert same(spectra[level3.name + "2609_19"])
    assert same(spectra[level2.name + "2609_3"])  # it has no product of level 3
    (alone,) = [one for one in starclip.read_spectra(level2) if one.target == "2609_19"]
    assert same(alone)
    c1d = written(
        tmp_path / level3.name.replace("x1d", "c1d"), primary(**head), extracted(name="COMBINE1D", SRCNAME="2609_19")
    )
    used = [
        Path(one.file).name for one in starclip.read_spectra(tmp_path) if not one.damage and one.target == "2609_19"
    ]
    assert used == [c1d.name]


# Air and vacuum


@pytest.mark.parametrize(
    ("name", "write"),
    [
        (
            "a.ecsv",
            lambda path: QTable(
                {"wavelength": AIR * u.AA, "flux": FLUX * u.Jy / PER_FREQUENCY, "error": ERROR * u.Jy}
            ).write(path),
        ),
        (
            "a.csv",
            lambda path: pd.DataFrame({"wavelength [um]": AIR / 1e4, "flux (adu)": FLUX, "error": ERROR}).to_csv(
                path, index=False
            ),
        ),
    ],
)
def test_air_can_be_given_for_files(tmp_path: Path, name: str, write) -> None:
    write(tmp_path / name)
    (given,) = starclip.read_spectra(tmp_path / name, air=True)
    assert np.allclose(given.wavelength, WAVE, rtol=1e-8)
    assert given.medium == "air"
    (unstated,) = starclip.read_spectra(tmp_path / name)
    assert np.allclose(unstated.wavelength, AIR, rtol=1e-12)
    assert unstated.medium == ""
    (remark,) = doubtful_medium(unstated, -109.0)
    assert "its velocity is -109 km/s if they are in vacuum and -27 km/s if in air" in remark
    assert doubtful_medium(unstated, -27.0) == doubtful_medium(unstated, 60.0) == ()
    assert doubtful_medium(given, -109.0) == ()


@pytest.mark.parametrize(
    ("header", "medium"),
    [
        ({"AIRORVAC": "air"}, "air"), ({"VACUUM": False}, "air"), ({"CTYPE1": "AWAV"}, "air"),
        ({"TUCD1": "em.wl;obs.atmos"}, "air"),
        ({"AIRORVAC": "vac"}, "vacuum"), ({"VACUUM": True}, "vacuum"), ({"TUCD1": "em.wl"}, "vacuum"), ({}, ""),
    ],
)  # fmt: skip
def test_headers_that_state_air_or_vacuum_are_honoured(tmp_path: Path, header: dict, medium: str) -> None:
    columns = {"WAVE": (AIR if medium == "air" else WAVE) / 10, "FLUX": FLUX, "ERR": ERROR}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(key, f"{len(WAVE)}D", unit="nm" if key == "WAVE" else "adu", array=[x])
            for key, x in columns.items()
        ]
    )
    table.header.update(header)
    (spectrum,) = starclip.read_spectra(written(tmp_path / "ADP.fits", fits.PrimaryHDU(), table))
    assert spectrum.medium == medium
    assert same(spectrum)


# Every kind


def tso_rows(n: int = 3) -> fits.BinTableHDU:
    m = len(WAVE)
    rng = np.random.default_rng(1)
    noisy = FLUX + 0.01 * rng.standard_normal((n, m))
    pad = 5  # vectors are filled up to the length of the longest
    columns = {
        "WAVELENGTH": np.tile(WAVE / 1e4, (n, 1)),
        "FLUX": noisy * PER_FREQUENCY,
        "FLUX_ERROR": 0.01 * PER_FREQUENCY + np.zeros((n, 1)),
    }
    table = [
        fits.Column(
            key,
            f"{m + pad}D",
            unit="um" if key == "WAVELENGTH" else "Jy",
            array=np.pad(x, ((0, 0), (0, pad)), constant_values=np.nan),
        )
        for key, x in columns.items()
    ]
    table.append(fits.Column("DQ", f"{m + pad}J", array=np.zeros((n, m + pad), int)))
    table += [fits.Column("N_ALONGDISP", "J", array=np.full(n, m)), fits.Column("INT_NUM", "J", array=np.arange(n))]
    return fits.BinTableHDU.from_columns(table, name="EXTRACT1D")


def test_time_series_are_averaged_in_either_layout(tmp_path: Path) -> None:
    new = tso_rows()
    old = [extracted(new.data["FLUX"][n][: len(WAVE)] / PER_FREQUENCY, INT_NUM=n, SOURCEID=1) for n in range(3)]
    for name, hdus in (("new", [new]), ("old", old)):
        path = written(tmp_path / f"{name}_x1dints.fits", primary(EXP_TYPE="NRS_BRIGHTOBJ", TARGNAME="HD 1"), *hdus)
        (spectrum,) = starclip.read_spectra(path)
        assert spectrum.name == "HD_1"
        assert spectrum.note == "3 integrations of the same star averaged"
        mean = new.data["FLUX"][:, : len(WAVE)].mean(axis=0) / PER_FREQUENCY
        good = ~spectrum.bad
        np.testing.assert_allclose(spectrum.flux[good], mean[good], rtol=1e-6)
        np.testing.assert_allclose(spectrum.ivar[good], 3 / 0.01**2, rtol=1e-6)


def test_rows_of_sources_are_stars(tmp_path: Path) -> None:
    table = tso_rows(2)
    columns = [column for column in table.columns if column.name != "INT_NUM"]
    table = fits.BinTableHDU.from_columns([*columns, fits.Column("SOURCE_ID", "J", array=[7, 8])], name="EXTRACT1D")
    path = written(tmp_path / "a_x1d.fits", primary(PROGRAM="01234", EXP_TYPE="NRS_MSASPEC"), table)
    assert [one.name for one in starclip.read_spectra(path)] == ["1234_7", "1234_8"]


def test_columns_in_lower_case(tmp_path: Path) -> None:
    table = extracted(SRCNAME="s1")
    for name in ("WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"):
        table.columns[name].name = name.lower()
    (spectrum,) = starclip.read_spectra(written(tmp_path / "a_x1d.fits", primary(), table))
    assert same(spectrum)
    spec1d = spec1d_table("SPAT1-SLIT1-MSC01", WAVE, FLUX)
    for name in ("OPT_WAVE", "OPT_COUNTS", "OPT_MASK"):
        spec1d.columns[name].name = name.lower()
    (spectrum,) = starclip.read_spectra(write_spec1d(tmp_path / "spec1d_a.fits", spec1d))
    assert np.array_equal(spectrum.wavelength, WAVE)


def test_pypeits_sum_of_exposures(tmp_path: Path) -> None:
    columns = {"wave": WAVE, "flux": FLUX, "ivar": 1 / ERROR**2, "mask": np.ones(len(WAVE), np.int64)}
    columns["mask"][10] = 0
    table = fits.BinTableHDU.from_columns(
        [fits.Column(key, "K" if key == "mask" else "D", array=x) for key, x in columns.items()], name="SPECTRUM"
    )
    table.header["DMODCLS"] = "OneSpec"
    (spectrum,) = starclip.read_spectra(written(tmp_path / "coadd.fits", primary(TARGET="s1"), table))
    assert same(spectrum)
    assert spectrum.name == "s1"
    assert spectrum.bad[10]


@pytest.mark.parametrize("orders", [1, 3])
@pytest.mark.parametrize("rows", [3, 4])
def test_spex_as_spextool_writes_it(tmp_path: Path, orders: int, rows: int) -> None:
    cut = np.array_split(np.arange(len(WAVE)), orders)
    overlapping = [np.arange(max(part[0] - 40, 0), part[-1] + 1) for part in cut]
    n = max(map(len, overlapping))
    image = np.full((orders, rows, n), np.nan)
    for order, part in zip(image[::-1], overlapping, strict=True):  # the reddest order comes first
        order[:, : len(part)] = np.stack([WAVE[part] / 1e4, FLUX[part], ERROR[part], 0 * part])[:rows]
    header = {"OBJECT": "HD 1", "XUNITS": "Microns", "NORDERS": orders, "NAPS": 1, "RP": 1200}
    fits.PrimaryHDU(image[0] if orders == 1 else image, fits.Header(header)).writeto(tmp_path / "spec.fits")
    (spectrum,) = starclip.read_spectra(tmp_path / "spec.fits")
    assert (spectrum.name, spectrum.lsf, spectrum.medium) == ("HD_1", "R=1200", "vacuum")
    good = ~spectrum.bad
    np.testing.assert_allclose(spectrum.wavelength, WAVE, rtol=1e-7)
    np.testing.assert_allclose(spectrum.flux[good] / FLUX[good], spectrum.flux[good][0] / FLUX[good][0], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "wavelength,flux,error\n{rows}"),
        ("a.csv", "Wave , FLUX_DENSITY, Sigma\n{rows}"),
        ("a.txt", "# wavelength flux error\n{rows}"),
        ("a.txt", "# a star, in vacuum\n# Wavelength  Flux  ERROR\n{rows}"),
        ("a.dat", "{rows}"),
    ],
)
def test_plain_tables_need_units_from_somebody(tmp_path: Path, name: str, text: str) -> None:
    mark = "," if "," in text else " "
    rows = "\n".join(
        mark.join(map(repr, map(float, row))) for row in np.c_[WAVE, FLUX * PER_FREQUENCY, ERROR * PER_FREQUENCY]
    )
    (tmp_path / name).write_text(text.format(rows=rows))
    with pytest.raises(
        DataError, match=r"columns \w+ and \w+ have no unit; give it, such as --wavelength-unit Angstrom --flux-unit Jy"
    ):
        starclip.read_spectra(tmp_path / name)
    (spectrum,) = starclip.read_spectra(tmp_path / name, wavelength_unit="AA", flux_unit="Jy")
    assert same(spectrum)
    assert spectrum.name == "a"
    with pytest.raises(DataError, match="--flux-unit parsec/ is not a unit"):
        starclip.read_spectra(tmp_path / name, wavelength_unit="AA", flux_unit="parsec/")


def test_a_comment_that_names_other_columns_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# flux wavelength sky error\n1 11000 0.1\n1 11001 0.1\n")
    with pytest.raises(DataError, match="has no columns of wavelength, flux and error, but columns without names"):
        starclip.read_spectra(tmp_path / "a.txt")
    columns = np.c_[FLUX * PER_FREQUENCY, WAVE / 1e4, ERROR * PER_FREQUENCY]
    np.savetxt(tmp_path / "b.txt", columns, header="flux [Jy]  wavelength [um]  error [Jy]")
    (spectrum,) = starclip.read_spectra(tmp_path / "b.txt")
    assert same(spectrum)


def test_tables_with_units(tmp_path: Path) -> None:
    table = QTable(
        {"WAVE": WAVE / 10 * u.nm, "Flux": FLUX * PER_FREQUENCY * u.mJy, "ivar": (ERROR * PER_FREQUENCY * u.mJy) ** -2}
    )
    table.write(tmp_path / "a.ecsv")
    Table(table).write(tmp_path / "a.vot", format="votable")
    Table(table["WAVE", "Flux"]).write(tmp_path / "bare.vot", format="votable")
    pd.DataFrame({"wavelength_um": WAVE / 1e4, "flux [adu]": FLUX, "err": ERROR}).to_csv(
        tmp_path / "b.csv", index=False
    )
    for name in ("a.ecsv", "a.vot", "b.csv"):
        (spectrum,) = starclip.read_spectra(tmp_path / name)
        assert same(spectrum), name
    with pytest.raises(DataError, match=r"bare\.vot has no column error .* it has WAVE, Flux"):
        starclip.read_spectra(tmp_path / "bare.vot")
    (tmp_path / "c.csv").write_text("wavelength_um,flux [adu],err\n1.0,a,b\n")
    with pytest.raises(DataError, match=r"c\.csv: column flux \[adu\] holds text, expected numbers"):
        starclip.read_spectra(tmp_path / "c.csv")


def test_names_of_columns() -> None:
    assert plain_name(" Wavelength [um] ") == ("wavelength", "um")
    assert plain_name("wave_nm") == ("wave", "nm")
    assert plain_name("flux_density") == ("flux_density", "")
    assert plain_name("LAMBDA (Å)") == ("lambda", "Angstrom")
    assert roles(["WAVE_um", "Flux", "FLUX_ERR", "DQ"]) == {
        "wavelength": "WAVE_um", "flux": "Flux", "error": "FLUX_ERR", "mask": "DQ",
    }  # fmt: skip


def test_the_example_for_contributors_works(tmp_path: Path) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a file kind")[2]
    names: dict = {}
    exec(guide.split("```python\n")[1].split("```")[0], names)
    columns = {"lam": WAVE / 10, "signal": FLUX, "noise": ERROR}
    table = fits.BinTableHDU.from_columns([fits.Column(key, "D", array=x) for key, x in columns.items()], name="LIGHT")
    table.header["STAR"] = "HD 1"
    path = written(tmp_path / "example.fits", primary(), table)
    assert names["KIND"].recognises(look(path))
    (spectrum,) = names["KIND"].read(path, Options())
    assert same(spectrum)
    assert (spectrum.name, spectrum.medium, spectrum.lsf) == ("HD_1", "vacuum", "R=2500")


@pytest.mark.skipif(not IRTF.is_dir(), reason="the real spectra are not here; they are not part of the project")
def test_every_star_of_the_irtf_library_is_read() -> None:
    told: list[str] = []
    spectra = starclip.read_spectra(IRTF, callback=told.append)
    assert len(spectra) == len(list((IRTF).glob("*.fits"))) > 20
    assert not any(spectrum.damage for spectrum in spectra)
    assert {spectrum.medium for spectrum in spectra} == {"vacuum"}
    assert told[0].startswith(f"{len(spectra) + 3} files found, {len(spectra)} used, 3 left out")


# Named as what it is


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            {"INSTRUME": "NIRISS", "EXP_TYPE": "NIS_SOSS", "GRATING": "N/A", "PUPIL": "GR700XD"},
            r"taken with JWST NIRISS \(NIS_SOSS, GR700XD\)",
        ),
        ({"GRATING": "PRISM"}, "taken with PRISM"),
        ({"TELESCOP": "Keck", "INSTRUME": "NIRSPEC"}, "taken with KECK NIRSPEC"),
    ],
)
def test_another_instrument_is_named(tmp_path: Path, header: dict, said: str) -> None:
    path = written(tmp_path / "a_x1d.fits", primary(**header), extracted())
    with pytest.raises(DataError, match=said):
        starclip.read_spectra(path)


def test_other_products_are_named(tmp_path: Path) -> None:
    ap_star = fits.ImageHDU(np.ones((2, 8575)))
    cases = {
        "apStar-dr17-2M1.fits": ("APOGEE spectra .*`starclip embed` takes it", [ap_star]),
        "renamed.fits": ("APOGEE spectra .*`starclip embed` takes it", [ap_star]),
        "jw1_s2d.fits": ("images of the JWST pipeline .*x1d or c1d", [fits.ImageHDU(np.ones((9, 9)))]),
        "jw1_cal.fits": ("images of the JWST pipeline .*x1d or c1d", [fits.ImageHDU(np.ones((9, 9)))]),
    }
    for name, (said, hdus) in cases.items():
        with pytest.raises(DataError, match=said):
            starclip.read_spectra(written(tmp_path / name, primary(), *hdus))
    (tmp_path / "run.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DataError, match="is one of the data sets, not an observed spectrum"):
        starclip.read_spectra(tmp_path / "run.h5")


# In memory


def test_dicts_and_data_frames() -> None:
    columns = {"Wavelength": WAVE, "flux": FLUX * PER_FREQUENCY, "error": ERROR * PER_FREQUENCY}
    for given in (columns, pd.DataFrame(columns), {key: list(x) for key, x in columns.items()}):
        (spectrum,) = starclip.read_spectra(given, wavelength_unit="Angstrom", flux_unit="Jy")
        assert same(spectrum)
        with pytest.raises(DataError, match="columns Wavelength and flux have no unit"):
            starclip.read_spectra(given)
    (named,) = starclip.read_spectra({**columns, "name": "HD 1"}, wavelength_unit="Angstrom", flux_unit="Jy")
    assert named.name == "HD_1"
    (arrays,) = starclip.read_spectra(tuple(columns.values()), wavelength_unit="Angstrom", flux_unit="Jy")
    assert same(arrays)


def given(**changes: object) -> specutils.Spectrum:
    parts = {"spectral_axis": WAVE * u.AA, "flux": FLUX * u.ct, "uncertainty": StdDevUncertainty(ERROR), **changes}
    return specutils.Spectrum(**parts)


def test_collections(tmp_path: Path) -> None:
    axes = np.stack([WAVE, WAVE + 1]) * u.AA
    both = specutils.SpectrumCollection(
        flux=np.stack([FLUX, FLUX]) * u.ct, spectral_axis=axes, uncertainty=StdDevUncertainty(np.stack([ERROR, ERROR]))
    )
    first, second = starclip.read_spectra(both)
    assert same(first)
    assert same(second, wave=WAVE + 1)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (lambda: (WAVE * u.AA, FLUX * u.mag, ERROR * u.mag), "mag"),
        (lambda: {"wavelength": WAVE * u.AA, "flux": FLUX * u.ABmag, "error": ERROR * u.ABmag}, "not a linear unit"),
        (lambda: (np.empty(0) * u.AA, np.empty(0) * u.ct, np.empty(0) * u.ct), "is empty"),
        (lambda: (WAVE * u.AA, FLUX * u.ct, -ERROR * u.ct), "errors of spectrum are negative"),
        (lambda: (WAVE * u.AA, FLUX * u.ct, ERROR * u.ct, np.zeros(3, bool)), "shapes"),
        (lambda: given(uncertainty=StdDevUncertainty(-ERROR)), "negative"),
        (lambda: {"wavelength": WAVE * u.AA, "flux": FLUX[1:] * u.ct, "error": ERROR * u.ct}, "several lengths"),
        (lambda: {"wavelength": WAVE * u.AA, "flux": FLUX * u.ct}, "no column error"),
        (dict, "no column wavelength; it has none"),
        (lambda: pd.DataFrame({"wavelength": ["a"], "flux": [1.0], "error": [1.0]}), "column wavelength holds text"),
    ],
)  # fmt: skip
def test_what_in_memory_cannot_be_used_is_named(source, said: str) -> None:
    with pytest.raises(DataError, match=said):
        starclip.read_spectra(source())


def test_vacuum_undoes_air() -> None:
    assert np.allclose(vacuum(AIR), WAVE, rtol=1e-9)


def rows_of_text(separator: str, row: str = "{:.4f}") -> str:
    return "\n".join(separator.join(map(row.format, values)) for values in zip(WAVE, FLUX, ERROR, strict=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("decimal commas", ("wave;flux;err\n" + rows_of_text(";").replace(".", ",")).encode()),
        ("of a spreadsheet", ("wave\tflux\terr\n" + rows_of_text("\t")).encode("utf-16")),
        ("Latin-1", ("# \xc5ngstr\xf6m\nwave,flux,err\n" + rows_of_text(",")).encode("latin-1")),
        ("Fortran", ("wave flux err\n" + rows_of_text(" ", "{:.8E}").replace("E", "D")).encode()),
        ("marks of what is missing", ("wave,flux,err\n9700,--,INDEF\n" + rows_of_text(",")).encode()),
    ],
)
def test_text_as_other_programs_write_it(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    (spectrum,) = starclip.read_spectra(path, wavelength_unit="Angstrom", flux_unit="1")
    good = ~spectrum.bad
    assert good.sum() == len(WAVE)
    np.testing.assert_allclose(spectrum.wavelength[good], WAVE, rtol=1e-6)
    assert np.ptp(spectrum.flux[good] / FLUX) < 1e-3


def test_a_row_of_units_below_the_names(tmp_path: Path) -> None:
    text = "wave,flux,err\nnm,W m-2 um-1,W m-2 um-1\n" + "\n".join(
        f"{a / 10},{b},{c}" for a, b, c in zip(WAVE, FLUX, ERROR, strict=True)
    )
    (tmp_path / "a.csv").write_text(text)
    assert same(starclip.read_spectra(tmp_path / "a.csv")[0])


@pytest.mark.parametrize("column", ["wavelength_air", "Wavelength (air)", "air_wavelength", "lambda in air"])
def test_names_of_columns_tell_air(tmp_path: Path, column: str) -> None:
    Table({column: AIR, "flux": FLUX, "error": ERROR}).write(tmp_path / "a.csv")
    (spectrum,) = starclip.read_spectra(tmp_path / "a.csv", wavelength_unit="Angstrom", flux_unit="1")
    assert spectrum.medium == "air"
    np.testing.assert_allclose(spectrum.wavelength, WAVE, atol=0.02)


@pytest.mark.parametrize(
    ("comment", "medium"),
    [
        ("wavelengths were converted from air to vacuum", "vacuum"),
        ("wavelengths are in air", "air"),
        ("the air was dry", ""),
        ("vacuum wavelengths, not those in air", ""),
    ],
)
def test_comments_tell_air_or_vacuum(tmp_path: Path, comment: str, medium: str) -> None:
    (tmp_path / "a.csv").write_text(f"# {comment}\nwave,flux,err\n" + rows_of_text(","))
    (spectrum,) = starclip.read_spectra(tmp_path / "a.csv", wavelength_unit="Angstrom", flux_unit="1")
    assert spectrum.medium == medium


def test_an_object_of_an_odd_name_costs_itself_only(tmp_path: Path) -> None:
    tables = [spec1d_table(name, WAVE, 400 * FLUX) for name in ("SPAT1-SLIT1-MSC01", "ODD")]
    good, odd = starclip.read_spectra(write_spec1d(tmp_path / "spec1d_a.fits", *tables))
    assert not good.damage
    assert "is named 'ODD', expected SPAT" in odd.damage


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", r"a\.csv is empty: it has 0 bytes"),
        ("a.csv", b"wave [AA],flux [Jy],err\n", r"a\.csv: the spectrum of a is empty"),
        ("a.txt", b"9800 1\n9801 2\n", r"a\.txt has two columns of numbers; a third one, the error"),
    ],
)
def test_what_is_missing_in_a_text_is_named_with_the_file(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        starclip.read_spectra(tmp_path / name)
    with pytest.raises(DataError, match="no spectrum is given"):
        starclip.read_spectra([])
