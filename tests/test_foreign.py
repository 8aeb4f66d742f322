"""Spectra that other programs have read come in with their units, or are refused by name."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import specutils
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, UnknownUncertainty
from astropy.table import QTable
from specutils.utils.wcs_utils import air_to_vac

import starclip_lib as starclip
from starclip_lib.observed.readers.making import vacuum
from starclip_lib.support.errors import DataError

ANGSTROM = np.linspace(11000.0, 17900.0, 4000)


@pytest.fixture
def flux(survey, rng: np.random.Generator) -> np.ndarray:
    clean = np.interp(ANGSTROM, starclip.NIRSPEC.wavelength, survey.nirspec.flux[3])
    return clean * (ANGSTROM / 12000) ** -1.5 + rng.normal(0, 0.005, len(ANGSTROM))


def same(spectrum, flux: np.ndarray) -> bool:
    """Wavelengths as they were, flux up to a factor, errors with it."""
    factor = np.median(spectrum.flux / flux)
    return (
        np.allclose(spectrum.wavelength, ANGSTROM, rtol=1e-9)
        and np.allclose(spectrum.flux, factor * flux, rtol=1e-6)
        and np.allclose(1 / np.sqrt(spectrum.ivar[~spectrum.bad]), factor * 0.01, rtol=1e-6)
    )


def test_files_that_specutils_knows(flux: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = np.full(len(flux), 0.01)
    given = specutils.Spectrum(spectral_axis=ANGSTROM * u.AA, flux=flux * u.Jy, uncertainty=StdDevUncertainty(error))
    given.write(tmp_path / "mine.fits", format="tabular-fits")
    table = QTable({"wavelength": ANGSTROM * u.AA, "flux": flux * u.Jy, "error": error * u.Jy})
    table.write(tmp_path / "table.ecsv")
    (in_memory,) = starclip.read_spectra(given)
    for name in ("mine.fits", "table.ecsv"):
        (mine,) = starclip.read_spectra(tmp_path / name)
        assert (mine.name, mine.file) == (name.partition(".")[0], str(tmp_path / name))
        assert np.allclose(mine.wavelength, in_memory.wavelength, rtol=1e-9)
        assert np.allclose(mine.flux, in_memory.flux, rtol=1e-6)
        assert np.allclose(mine.ivar, in_memory.ivar, rtol=1e-6)

    del table["error"]
    table.write(tmp_path / "bare.ecsv")
    with pytest.raises(DataError, match=r"bare\.ecsv has no column error \(nor ivar, variance\)"):
        starclip.read_spectra(tmp_path / "bare.ecsv")
    (tmp_path / "notes.txt").write_text("hello\n")
    for name, message in (
        ("notes.txt", "has no columns of wavelength, flux and error, but hello"),
        ("gone.ecsv", "is missing"),
    ):
        with pytest.raises(DataError, match=rf"{name} .*{message}") as refused:
            starclip.read_spectra([tmp_path / name])
        assert "\n" not in str(refused.value)
    monkeypatch.setitem(sys.modules, "specutils", None)
    (again,) = starclip.read_spectra(tmp_path / "table.ecsv")  # it is an extra that tables do without
    assert np.array_equal(again.flux, mine.flux)
    fits.PrimaryHDU(np.ones(9)).writeto(tmp_path / "image.fits")
    with pytest.raises(DataError, match=r"image\.fits is not of a kind .* pip install 'starclip\[specutils\]'"):
        starclip.read_spectra(tmp_path / "image.fits")


PER_FREQUENCY = (ANGSTROM / 12000) ** 2  # F_nu of F_lambda


@pytest.mark.parametrize(
    ("axis", "scale", "unit"),
    [
        (ANGSTROM * u.AA, 1, u.dimensionless_unscaled),
        ((ANGSTROM / 1e4) * u.micron, 1, u.electron),
        (ANGSTROM * u.AA, 1e-16, u.erg / u.s / u.cm**2 / u.AA),
        ((ANGSTROM * u.AA).to(u.THz, u.spectral()), PER_FREQUENCY, u.mJy),
        ((ANGSTROM * u.AA).to(1 / u.cm, u.spectral()), 1, u.W / u.m**2 / u.um),
        (ANGSTROM * u.AA, PER_FREQUENCY, u.MJy / u.sr),
        (ANGSTROM * u.AA, ANGSTROM, u.photon / u.s / u.m**2 / u.AA),
    ],
    ids=str,
)
def test_units_are_followed(axis: u.Quantity, scale, unit: u.Unit, flux: np.ndarray) -> None:
    (mine,) = starclip.read_spectra((axis, flux * scale * unit, np.full(len(flux), 0.01) * scale * unit))
    assert same(mine, flux)


def test_specutils_there_and_back(flux: np.ndarray) -> None:
    given = specutils.Spectrum(
        spectral_axis=ANGSTROM * u.AA,
        flux=flux * u.Jy,
        uncertainty=StdDevUncertainty(np.full(len(flux), 0.01)),
        mask=np.arange(len(flux)) < 100,
        meta={"name": "my star"},
    )
    (mine,) = starclip.read_spectra(given)
    assert mine.name == "my_star"
    assert mine.bad[:100].all()
    back = starclip.as_specutils(mine)
    assert isinstance(back, specutils.Spectrum)
    assert isinstance(back.uncertainty, InverseVariance)
    (again,) = starclip.read_spectra(back)
    assert np.allclose(again.flux / again.flux[2000], mine.flux / mine.flux[2000], rtol=1e-12)
    assert (again.bad | ~mine.bad).all()  # what was bad stays bad; among what is left, outliers are sought anew
    assert again.bad.sum() < mine.bad.sum() + 5
    assert len(starclip.read_spectra(specutils.SpectrumList([given, back]))) == 2


def test_a_table_and_a_file_that_specutils_can_read(flux: np.ndarray, tmp_path: Path) -> None:
    table = QTable({"wavelength": ANGSTROM * u.AA, "flux": flux * u.adu, "error": np.full(len(flux), 0.01) * u.adu})
    (mine,) = starclip.read_spectra(table)
    assert same(mine, flux)
    table.write(tmp_path / "mine.ecsv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # specutils guesses columns, and says so
        loaded = specutils.Spectrum.read(tmp_path / "mine.ecsv", format="ASCII")
    (again,) = starclip.read_spectra(loaded)
    assert same(again, flux)


def test_wavelengths_in_air(flux: np.ndarray) -> None:
    by_specutils = air_to_vac(ANGSTROM * u.AA, scheme="iteration", method="Ciddor1996").to_value(u.AA)
    assert np.abs(vacuum(ANGSTROM) / by_specutils - 1).max() < 1e-8
    (mine,) = starclip.read_spectra((ANGSTROM * u.AA, flux * u.ct, np.full(len(flux), 0.01) * u.ct), air=True)
    assert np.allclose(mine.wavelength, by_specutils, rtol=1e-8)
    assert 4.5 < (mine.wavelength - ANGSTROM).max() < 5.0  # 82 km/s


def test_several_rows_become_several_spectra(flux: np.ndarray) -> None:
    rows = np.stack([flux, flux[::-1]]) * u.ct
    both = specutils.Spectrum(
        spectral_axis=ANGSTROM * u.AA, flux=rows, uncertainty=StdDevUncertainty(np.full(rows.shape, 0.01))
    )
    first, second = starclip.read_spectra(both)
    assert first.name != second.name
    assert same(first, flux)


def test_the_spectral_axis_may_be_the_first(flux: np.ndarray) -> None:
    columns = np.stack([flux, flux[::-1]], axis=1) * u.ct
    error = StdDevUncertainty(np.full(columns.shape, 0.01))
    both = specutils.Spectrum(
        spectral_axis=ANGSTROM * u.AA, flux=columns, uncertainty=error, spectral_axis_index=0
    )  # fmt: skip
    assert same(starclip.read_spectra(both)[0], flux)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"flux": np.ones(4000) * u.ABmag}, "which is not a linear unit"),
        ({"flux": np.ones(4000) * (1 + 1j) * u.ct}, "holds complex128, expected numbers"),
        ({"mask": ["a"] * 4000}, "the mask of spectrum holds"),
        ({"mask": [[1], [1, 2]]}, "rows of several lengths"),
        ({"axis": ANGSTROM}, "the wavelength of spectrum has no unit"),
        ({"flux": np.ones(4000)}, "the flux of spectrum has no unit"),
        ({"axis": ANGSTROM * u.kg}, "is in kg, which is not a unit of wavelength"),
        ({"flux": np.ones(4000) * u.kg}, "are in kg and ct"),
        ({"flux": np.ones(4000) * u.Jy}, "are in Jy and ct"),
        ({"flux": np.ones(3999) * u.ct}, "give four of one length"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict, said: str) -> None:
    given = {"axis": ANGSTROM * u.AA, "flux": np.ones(4000) * u.ct, "error": np.ones(4000) * u.ct, **change}
    with pytest.raises(DataError, match=said):
        starclip.read_spectra((given["axis"], given["flux"], given["error"], given.get("mask")))


def test_more_slips(flux: np.ndarray) -> None:
    with pytest.raises(DataError, match="no uncertainty"):
        starclip.read_spectra(specutils.Spectrum(spectral_axis=ANGSTROM * u.AA, flux=flux * u.ct))
    unknown = UnknownUncertainty(0.01 * flux)
    with pytest.raises(DataError, match="the meaning of its UnknownUncertainty is not known"):
        starclip.read_spectra(specutils.Spectrum(spectral_axis=ANGSTROM * u.AA, flux=flux * u.ct, uncertainty=unknown))
    with pytest.raises(DataError, match="no star has"):
        starclip.read_spectra(
            specutils.Spectrum(
                spectral_axis=ANGSTROM * u.AA,
                flux=flux * u.ct,
                uncertainty=StdDevUncertainty(0.01 * flux),
                radial_velocity=60000 * u.km / u.s,
            )
        )
    with pytest.raises(DataError, match=r"has no column error .*; it has wavelength, flux"):
        starclip.read_spectra(QTable({"wavelength": ANGSTROM * u.AA, "flux": flux * u.ct}))
    with pytest.raises(DataError, match="column flux has no unit; give it, such as --flux-unit Jy"):
        starclip.read_spectra(QTable({"wavelength": ANGSTROM * u.AA, "flux": flux, "error": flux}))
    with pytest.raises(DataError, match="is not a spectrum, file or folder"):
        starclip.read_spectra(7)
