"""No photon counts twice: the same exposures in several files, by one pipeline or two, in one command or the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from nirspec_files import spec1d_bytes, spec1d_table, write_spec1d
from test_one_answer import stored
from test_readers import FLUX, WAVE, extracted, primary, written
from test_stores import embedded, whole

import starclip_lib as starclip
from starclip_lib.observed.analysis import posterior_of_fit
from starclip_lib.observed.spectrum import OBSERVED
from starclip_lib.physics.giants import scale_covariance
from starclip_lib.run import Run
from starclip_lib.support.errors import DataError, SystemFault

RATE = "jw02609006001_03101_00002_nrs1_rate.fits"
X1D = "jw02609006001_03101_00002_nrs1_x1d.fits"
PRODUCT = "jw02609-o006_s000000019_nirspec_f100lp-g140h_x1d.fits"


def pypeit(path: Path, target: str = "2609_19", flux: np.ndarray = FLUX, place: tuple = (), **header: object) -> Path:
    """A spec1d of an exposure of JWST, both detectors joined."""
    table = spec1d_table("SPAT1-SLIT1-MSC01", WAVE, 400 * flux)
    if place:
        table.header["RA"], table.header["DEC"] = place
    write_spec1d(path, table)
    with fits.open(path, "update") as file:
        file[0].header.update({"TARGET": target, "DISPNAME": "G140H", "FILTER1": "F100LP", "FILENAME": RATE, **header})
    return path


def stsci(path: Path, source: str = "2609_19", wave: np.ndarray = WAVE, place: tuple = (), **header: object) -> Path:
    head = {"EXP_TYPE": "NRS_MSASPEC", "PROGRAM": "02609", "OBSERVTN": "006", **header}
    names = {"SRCNAME": source} | (dict(zip(("SRCRA", "SRCDEC"), place, strict=True)) if place else {})
    return written(path, primary(**head), extracted(np.interp(wave, WAVE, FLUX), wave, **names))


def used(folder: Path) -> list[str]:
    return sorted(str(Path(one.file).relative_to(folder)) for one in starclip.read_spectra(folder) if not one.damage)


def test_two_pipelines_of_one_exposure(tmp_path: Path) -> None:
    first = pypeit(tmp_path / "spec1d_a.fits")
    x1d = stsci(tmp_path / X1D)
    assert used(tmp_path) == ["spec1d_a.fits"]
    (left,) = [one for one in starclip.read_spectra(tmp_path) if one.damage]
    assert left.file == str(x1d)
    assert "its exposures are in spec1d_a.fits (PypeIt)" in left.damage
    assert not starclip.read_spectra(x1d)[0].damage  # alone it is used
    stsci(tmp_path / X1D.replace("00002", "00003"))  # another exposure
    stsci(tmp_path / X1D.replace("03101", "05101"), GRATING="G140M")  # another grating
    stsci(tmp_path / "source7_x1d.fits", "2609_7")  # another star
    assert len(used(tmp_path)) == 4
    stsci(tmp_path / PRODUCT)  # all exposures of the observation
    assert used(tmp_path) == sorted([PRODUCT, X1D.replace("03101", "05101"), "source7_x1d.fits"])
    assert first.exists()


def test_what_cannot_be_used_replaces_nothing(tmp_path: Path) -> None:
    saw = FLUX * (1 + 0.2 * (-1.0) ** np.arange(len(WAVE)))
    pypeit(tmp_path / "spec1d_a.fits", flux=saw)
    stsci(tmp_path / X1D)
    faults = {Path(one.file).name: bool(one.faults(OBSERVED)) for one in starclip.read_spectra(tmp_path)}
    assert faults == {"spec1d_a.fits": True, X1D: False}


def test_one_detector_is_not_in_the_other(tmp_path: Path) -> None:
    stsci(tmp_path / X1D, wave=WAVE[WAVE < 13000])
    stsci(tmp_path / X1D.replace("nrs1", "nrs2"), wave=WAVE[WAVE > 13100])
    assert len(used(tmp_path)) == 2
    pypeit(tmp_path / "spec1d_a.fits")  # it has both
    assert used(tmp_path) == ["spec1d_a.fits"]


@pytest.mark.parametrize(("apart", "n_used"), [(0.05, 1), (2.0, 2)])
def test_names_differ_and_positions_tell(tmp_path: Path, apart: float, n_used: int) -> None:
    pypeit(tmp_path / "spec1d_a.fits", "star A", place=(298.4423, 18.7729))
    stsci(tmp_path / X1D, "2609_19", place=(298.4423, 18.7729 + apart / 3600))
    assert len(used(tmp_path)) == n_used


@pytest.mark.parametrize(("seconds", "n_used"), [(70, 1), (600, 2)])
def test_files_without_their_names_are_recognised_by_date(tmp_path: Path, seconds: float, n_used: int) -> None:
    date = {"PROGRAM": "2609", "OBSERVTN": "006"}
    pypeit(tmp_path / "spec1d_a.fits", FILENAME="rate.fits", MJD=59877.0 + seconds / 86400, EXPTIME=146.0, **date)
    stsci(tmp_path / "star_x1d.fits", EXPSTART=59877.0, EFFEXPTM=146.0)
    assert len(used(tmp_path)) == n_used


def test_two_reductions_of_one_name(tmp_path: Path) -> None:
    stsci(tmp_path / "pmap1" / X1D)
    stsci(tmp_path / "pmap2" / X1D)
    assert used(tmp_path) == [f"pmap1/{X1D}"]


def test_a_store_counts_exposures_once_also_when_a_folder_grows(
    finished: Run, tmp_path: Path, rng: np.random.Generator
) -> None:
    sky, said = tmp_path / "sky", list[str]()
    sky.mkdir()
    for name, row in (("spec1d_a.fits", 3), ("spec1d_b.fits", 4)):
        spec1d_bytes(sky / name, finished.data.nirspec.flux[row], rng)
        with fits.open(sky / name, "update") as file:
            file[0].header.update({"TARGET": f"2609_{row}", "FILENAME": RATE, "DISPNAME": "G140H"})
    store = embedded(finished, [sky], tmp_path / "store", said=said)
    assert whole(store).star_id.tolist() == ["2609_3", "2609_4"]
    with fits.open(sky / "spec1d_a.fits") as file:
        table = file[1].data
        wave, flux = table["OPT_WAVE"], table["OPT_COUNTS"]
    head = {"EXP_TYPE": "NRS_MSASPEC", "PROGRAM": "02609", "OBSERVTN": "006"}
    written(sky / PRODUCT, primary(**head), extracted(flux / 400, wave, SRCNAME="2609_3"))
    table = whole(embedded(finished, [sky], tmp_path / "store", said=said))
    assert [Path(file).name for file in table.file] == [PRODUCT, "spec1d_b.fits"]
    assert "3 files found, 3 used; 1 spectrum set aside: its exposures are in another file" in said
    assert "its exposures are in" in (tmp_path / "store" / "failed.csv").read_text()
    again = whole(embedded(finished, [sky / "spec1d_a.fits"], tmp_path / "store"))  # the other is still in the store
    assert again.file.tolist() == table.file.tolist()


def test_stars_of_one_name_are_two_in_a_store(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    for number, dec in enumerate((18.0, 18.1)):
        spec1d_bytes(tmp_path / f"spec1d_{number}.fits", finished.data.nirspec.flux[number], rng)
        with fits.open(tmp_path / f"spec1d_{number}.fits", "update") as file:
            file[1].header["RA"], file[1].header["DEC"] = 298.0, dec
    paths = [tmp_path / "spec1d_0.fits", tmp_path / "spec1d_1.fits"]
    store = stored(finished, paths, tmp_path / "store")
    assert sorted(store.rows(np.arange(2)).star_id) == ["star_1", "star_1_2"]


def test_a_store_in_a_folder_that_is_not_utf8_is_refused_before_anything_is_written(
    finished: Run, tmp_path: Path
) -> None:
    folder = Path(str(tmp_path), b"caf\xe9".decode("utf-8", "surrogateescape"))
    for output in (folder, folder / "store"):
        with pytest.raises(DataError, match=r"the store .*caf\\xe9.*: its name has characters that are not UTF-8"):
            embedded(finished, [finished.folder / "data.h5"], output)
    assert not folder.exists()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemFault, match=r"loop: (symbolic links|a file stands)"):
        embedded(finished, [finished.folder / "data.h5"], tmp_path / "loop")


def test_a_store_tells_which_labels_are_the_priors(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    spec1d_bytes(tmp_path / "spec1d_0.fits", finished.data.nirspec.flux[0], rng)
    (one,) = starclip.measure(starclip.read_spectra(tmp_path / "spec1d_0.fits"))
    row = stored(finished, [tmp_path / "spec1d_0.fits"], tmp_path / "store").rows(np.array([0]))
    assert row.from_prior[0] == one.from_prior != ""


def test_the_posterior_of_an_observed_spectrum_is_that_of_its_fit(
    finished: Run, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Its likelihood, widened by the scales of the labels, times the prior of the run's population."""
    spec1d_bytes(tmp_path / "spec1d_0.fits", finished.data.nirspec.flux[0], rng)
    (spectrum,) = starclip.read_spectra(tmp_path / "spec1d_0.fits")
    (one,) = starclip.measure([spectrum])
    encoder, fit = finished.fit_space.encoder, one.fits[0]
    population = encoder.population
    labels, covariance = population.physical(posterior_of_fit(population, one))

    mean, precision, _ = fit.prior
    likelihood = np.linalg.inv(np.linalg.inv(fit.covariance) - precision)
    value = likelihood @ (np.linalg.solve(fit.covariance, fit.labels) - precision @ mean)
    wide = likelihood + scale_covariance()
    expected_covariance = np.linalg.inv(np.linalg.inv(wide) + population.precision)
    expected = expected_covariance @ (np.linalg.solve(wide, value) + population.precision @ population.mean)
    sigma = np.sqrt(np.diag(expected_covariance))
    np.testing.assert_allclose((labels[0] - expected) / sigma, 0, atol=0.02)
    np.testing.assert_allclose(np.sqrt(np.diag(covariance[0])) / sigma, 1, rtol=1e-2)

    store = stored(finished, [tmp_path / "spec1d_0.fits"], tmp_path / "store", model="fit")
    kept = finished._point(spectrum, finished.fit_space)[1]
    np.testing.assert_allclose(store.posteriors(np.array([0])), kept, rtol=2e-3, atol=2e-3)
    own = encoder.posterior(torch.from_numpy(finished.data.nirspec.flux[:1])).covariance[0]
    found = posterior_of_fit(population, one).covariance[0]
    assert np.linalg.slogdet(found)[1] > np.linalg.slogdet(own)[1]  # it claims less than the encoder
