"""Files of strangers: FITS files that would take all memory, uploads, names, and good stars beside damaged ones."""

from __future__ import annotations

import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from nirspec_files import observe, spec1d_table, write_spec1d

from starclip_lib.observed.analysis import describe
from starclip_lib.observed.files import read_observed, read_spectra
from starclip_lib.observed.isolated import read_isolated
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.storage.fits_files import opened_fits
from starclip_lib.support.errors import DataError


@pytest.fixture
def good(tmp_path: Path, survey, rng: np.random.Generator) -> Path:
    table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(survey.nirspec.flux[0], 20.0, rng))
    return write_spec1d(tmp_path / "spec1d_good.fits", table)


def edited(good: Path, old: bytes, new: bytes) -> Path:
    content = good.read_bytes()
    assert old in content
    path = good.with_name("spec1d_other.fits")
    path.write_bytes(content.replace(old, new.ljust(len(old)), 1))
    return path


def card(path: Path, key: str) -> bytes:
    content = path.read_bytes()
    place = content.rindex(key.ljust(8).encode() + b"=")
    return content[place : place + 80]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NAXIS2", "10000000000", "HDU 2 declares 80,000,000,000 bytes, the file has"),
        ("NAXIS", "999999999", "NAXIS is 999999999"),
        ("TFIELDS", "100000", "TFIELDS is 100000"),
        ("NAXIS1", "-8", ""),
        ("TFORM1", "'QQ      '", ""),
    ],
)
def test_headers_that_lie_cost_nothing(good: Path, key: str, value: str, message: str) -> None:
    line = card(good, key)
    path = edited(good, line, f"{key:<8}= {value:>20}".encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is wrong is an error, and nothing is a mere warning
        with pytest.raises(DataError, match=rf"spec1d_other\.fits is truncated or no FITS file \(.*{message}"):
            read_all(path)


def read_all(path: Path) -> None:
    with opened_fits(path) as hdus:
        assert [hdu.data for hdu in hdus]


def test_a_gzip_bomb_is_not_unpacked(good: Path) -> None:
    path = good.with_name("spec1d_bomb.fits.gz")
    path.write_bytes(gzip.compress(good.read_bytes() + bytes(2**28), 1))
    with pytest.raises(DataError, match=r"spec1d_bomb\.fits\.gz unpacks to more than 134 MB"):
        read_observed(path)
    path.write_bytes(gzip.compress(good.read_bytes()))
    assert len(read_observed(path)) == 1


def test_the_checksum_of_the_data_is_verified_where_there_is_one(good: Path) -> None:
    with fits.open(good) as hdus:
        hdus.writeto(good.with_name("spec1d_sum.fits"), checksum=True)
    path = good.with_name("spec1d_sum.fits")
    assert len(read_observed(path)) == 1
    with fits.open(path) as hdus:
        place = hdus[1].fileinfo()["datLoc"] + 100
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="the checksum of HDU 1 is not that of its data"):
        read_observed(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("OPT_WAVE", lambda a: np.full(len(a), 12000.0), "has 1 wavelengths for"),
        ("OPT_WAVE", lambda a: a / 1e4, "Angstrom are expected, not microns"),
        ("OPT_COUNTS", lambda a: a + 1j, "column OPT_COUNTS holds complex numbers, expected real numbers"),
        ("OPT_MASK", lambda a: np.full(len(a), 0.5), "column OPT_MASK holds real numbers, expected true and false"),
    ],
)
def test_columns_that_mean_nothing(tmp_path: Path, survey, rng, column: str, value, message: str) -> None:
    wave, flux = observe(survey.nirspec.flux[0], 20.0, rng)
    arrays = {
        "OPT_WAVE": wave,
        "OPT_COUNTS": flux,
        "OPT_COUNTS_IVAR": flux * 0 + 1e-2,
        "OPT_MASK": np.ones(len(wave), bool),
    }
    arrays[column] = value(arrays[column])
    forms = {"f": "D", "b": "L", "c": "M"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(key, forms[array.dtype.kind], array=array) for key, array in arrays.items()],
        name="SPAT1-SLIT1-MSC01",
    )
    table.header["DMODCLS"], table.header["S2N"] = "SpecObj", 100.0
    path = write_spec1d(tmp_path / "spec1d_a.fits", table)
    with pytest.raises(DataError, match=rf"spec1d_a\.fits: .*{message}"):
        read_observed(path)


def test_infinite_weights_are_no_weights(tmp_path: Path, survey, rng) -> None:
    table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(survey.nirspec.flux[0], 20.0, rng))
    table.data["OPT_COUNTS_IVAR"][:100] = np.inf
    (spectrum,) = read_observed(write_spec1d(tmp_path / "spec1d_a.fits", table))
    assert spectrum.flagged[:100].all()
    assert np.isfinite(spectrum.ivar).all()


def test_a_damaged_file_does_not_cost_the_good_ones(good: Path) -> None:
    bad = good.with_name("spec1d_<img src=x onerror=alert(1)>.fits")
    bad.write_bytes(good.read_bytes()[:5000])
    spectra = read_spectra(good.parent)
    assert [spectrum.name for spectrum in spectra] == ["spec1d__img_src_x_onerror_alert_1", "star_1"]
    assert repr(spectra[0]).endswith(": cannot be read")
    verdicts = describe(spectra, ObservedParams())["verdict"].tolist()
    assert "is truncated or no FITS file" in verdicts[0]
    assert verdicts[1] == "good"
    page = describe(spectra, ObservedParams()).style.format(precision=1, escape="html").to_html()  # as notebook 10 does
    assert "<img" not in page
    with pytest.raises(DataError, match="is truncated or no FITS file"):
        read_spectra(bad)  # asked for by name, it is an error
    good.unlink()
    with pytest.raises(DataError, match=r"^none of 1 files can be read; the first: .* is truncated"):
        read_spectra(good.parent)


def test_uploads_are_read_by_a_process_of_its_own(good: Path) -> None:
    settings = ObservedParams()
    (expected,) = read_observed(good, settings)
    (found,) = read_isolated("spec1d_<b>.fits", good.read_bytes(), settings)
    assert found.name == expected.name
    for key in ("wavelength", "flux", "ivar", "flagged", "bad"):
        np.testing.assert_array_equal(getattr(found, key), getattr(expected, key))
    with pytest.raises(DataError, match=r"^spec1d__b_\.fits is truncated or no FITS file"):
        read_isolated("spec1d_<b>.fits", good.read_bytes()[:4000], settings)
    with pytest.raises(DataError, match=r"^spec1d\.fits: 67 MB, at most 67 MB can be uploaded"):
        read_isolated("spec1d.fits", bytes(64 * 2**20 + 1), settings)
    with pytest.raises(DataError, match=r"^spec1d\.fits: not read within 0\.01 s; it is given up"):
        read_isolated("spec1d.fits", good.read_bytes(), settings, seconds=0.01)
    wave = np.linspace(9800, 16500, 200_000)  # arrays that do not fit into what the process has left over
    large = write_spec1d(good.with_name("spec1d_large.fits"), spec1d_table("SPAT1-SLIT1-MSC01", wave, 1 + 0 * wave))
    with pytest.raises(DataError, match=r"^spec1d\.fits: (reading it needs more than 105 MB|not enough memory)"):
        read_isolated("spec1d.fits", large.read_bytes(), settings, memory=100 * 2**20)


def test_nothing_is_said_about_a_file_that_is_good(good: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_observed(good)
    assert io.BytesIO(good.read_bytes()).read(6) == b"SIMPLE"
