"""Files of strangers: FITS files that would take all memory, uploads, names, and good stars beside damaged ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from nirspec_files import observe, spec1d_table, write_spec1d

from starclip_lib.observed.analysis import describe
from starclip_lib.observed.files import read_observed, read_spectra
from starclip_lib.observed.isolated import read_isolated
from starclip_lib.settings.evaluation import ObservedParams
from starclip_lib.support.errors import DataError


@pytest.fixture
def good(tmp_path: Path, survey, rng: np.random.Generator) -> Path:
    table = spec1d_table("SPAT1-SLIT1-MSC01", *observe(survey.nirspec.flux[0], 20.0, rng))
    return write_spec1d(tmp_path / "spec1d_good.fits", table)


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
    described = describe(spectra, ObservedParams())
    assert described["verdict"].tolist() == ["set aside", "good"]
    assert "is truncated or no FITS file" in described["reason"][0]
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
