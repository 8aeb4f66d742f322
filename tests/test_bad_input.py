"""A programme folder as it comes: what cannot be measured gets one line, the others get their answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from nirspec_files import spec1d_table
from test_measuring import labels_of, seen, spectrum_of

from starclip_lib.lab.observing import observe
from starclip_lib.observed.measurements import Measurements
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.labels import FE, LOGG, TEFF

GIANT = {"Teff": 4500, "logg": 2.0, "Fe": -0.4}
OTHER = {"Teff": 5000, "logg": 2.9, "Fe": 0.1}
CARBON = {"Teff": 4200, "logg": 1.2, "Fe": -0.3, "C": 0.8, "O": -0.4}

Change = Callable[[ObservedSpectrum, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


def part(low: float, high: float) -> Change:
    def cut(one: ObservedSpectrum, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        inside = (one.wavelength > low) & (one.wavelength < high)
        return one.wavelength[inside], flux[inside], one.ivar[inside]

    return cut


def times(factor: Callable[[np.ndarray], np.ndarray | float]) -> Change:
    return lambda one, flux: (one.wavelength, flux * factor(one.wavelength), one.ivar)


# name: labels, S/N, what is done to the spectrum, cards of the header, the verdict, and what is told
CASES: dict[str, tuple[dict, float, Change, dict, str, str]] = {
    "good": (GIANT, 100, times(lambda x: 1.0), {}, "good", ""),
    "blue": (GIANT, 100, part(9000, 13900), {}, "good", ""),
    "red": (GIANT, 100, part(14200, 18000), {}, "good", ""),
    "partly_negative": (GIANT, 100, times(lambda x: np.where(abs(x - 12500) < 400, -1, 1)), {}, "good", ""),
    "negative": (GIANT, 100, times(lambda x: -1.0), {}, "set aside", "none of its 3329 fluxes is a number above 0"),
    "no_numbers": (GIANT, 100, times(lambda x: np.nan), {}, "set aside", "none of its 3329 fluxes is a number above 0"),
    "faint": (GIANT, 5, times(lambda x: 1.0), {}, "set aside", "S/N 5 per pixel, below 20"),
    "dwarf": ({**OTHER, "logg": 4.5}, 100, times(lambda x: 1.0), {}, "outside", "log g held at the emulator's edge"),
    "carbon": (CARBON, 100, times(lambda x: 1.0), {}, "set aside", ""),
    "g235h": (GIANT, 100, times(lambda x: 1.0), {"DISPNAME": "G235H"}, "set aside", "G235H: it begins at 16,600"),
    "prism": (GIANT, 100, times(lambda x: 1.0), {"DISPNAME": "PRISM"}, "set aside", "PRISM: at a resolution of 30"),
    "lamp": (GIANT, 100, times(lambda x: 1.0), {"EXP_TYPE": "NRS_LAMP"}, "set aside", "is a lamp, not a star"),
}
PRIORS = """star,band,magnitude,magnitude_error,distance_modulus,distance_modulus_error,a_v,a_v_error
good,Ks,11.0,0.03,13.5,0.1,0.1,0.05
blue,Ks,10.9,0.03,,,0.1,0.05
red,ABJ,10.9,0.03,13.5,0.1,0.1,0.05
dwarf,Ks,5.0,0.03,24.4,0.1,0.1,0.05
carbon,Ks,11.0,,13.5,0.1,0.1,0.05
"""


def write(path: Path, arrays: tuple[np.ndarray, np.ndarray, np.ndarray], target: str, cards: dict) -> None:
    wave, flux, ivar = arrays
    table = spec1d_table("SPAT1-SLIT1-MSC01", wave, flux)
    table.data["OPT_COUNTS_IVAR"] = ivar
    primary = fits.PrimaryHDU()
    primary.header["TARGET"] = target
    primary.header.update(cards)
    fits.HDUList([primary, table]).writeto(path)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Measurements, list[str], Path]:
    """Every case, two stars of one slit, and two stars under one name, in one folder, with one table of priors."""
    folder, lines = tmp_path_factory.mktemp("programme"), list[str]()
    rng = np.random.default_rng(0)
    for name, (labels, snr, change, cards, *_) in CASES.items():
        one = spectrum_of(seen(labels_of(**labels)), rng, snr=snr)
        write(folder / f"spec1d_{name}.fits", change(one, one.flux), name, cards)
    here, there = (
        spectrum_of(seen(labels_of(**x)), rng, velocity=v) for x, v in ((GIANT, 40), ({**GIANT, "Teff": 4300}, 200))
    )
    write(
        folder / "spec1d_slit.fits", (here.wavelength, 0.6 * here.flux + 0.4 * there.flux, here.ivar), "two_in_slit", {}
    )
    for name, labels in (("a", GIANT), ("b", OTHER)):
        one = spectrum_of(seen(labels_of(**labels)), rng)
        write(folder / f"spec1d_{name}.fits", (one.wavelength, one.flux, one.ivar), "one_name", {})
    (folder / "known.csv").write_text(PRIORS)
    out = folder.parent / "out"
    found = observe([folder], out, lines.append, lsf="3.9", priors=folder / "known.csv", combine=True)
    return found, lines, out


@pytest.mark.parametrize("name", CASES)
def test_each_spectrum_gets_its_verdict_and_one_line(name: str, answers: tuple[Measurements, list[str], Path]) -> None:
    found, lines, out = answers
    *_, verdict, told = CASES[name]
    (one,) = [one for one in found if one.name in (name, f"spec1d_{name}")]
    assert one.verdict == verdict
    assert told in one.reason
    assert "\n" not in one.reason
    assert (out / "stars" / f"{one.name}.html").is_file()
    assert sum(line.startswith("[") and f" {one.name}: " in line for line in lines) == 1
    if verdict == "good":
        off = np.abs(one.labels - labels_of(**CASES[name][0])) / one.sigma
        assert off[[TEFF, LOGG, FE]].max() < 2


def test_two_stars_in_one_slit_and_two_under_one_name_are_told(answers: tuple[Measurements, list[str], Path]) -> None:
    found, _, _ = answers
    assert "two stars" in found["two_in_slit"].reason
    pair = [one for one in found if one.target == "one_name"]
    assert len(pair) == 2  # they are not averaged
    for one in pair:
        assert one.verdict == "doubtful"
        assert "is it another star?" in one.reason
    assert sorted(round(float(one.labels[TEFF]), -2) for one in pair) == [4500, 5000]


@pytest.mark.parametrize(
    ("star", "told"),
    [
        ("blue", "magnitude in Ks without distance_modulus and its error; not used"),
        ("red", "magnitude in 'ABJ'; known are J, H, Ks"),
        ("dwarf", "Ks 5 at a distance modulus of 24.4 gives log g"),
        ("carbon", "magnitude 11.0 without its error; not used"),
    ],
)
def test_photometry_that_is_wrong_gets_one_line_and_costs_no_star(
    star: str, told: str, answers: tuple[Measurements, list[str], Path]
) -> None:
    _, lines, _ = answers
    assert sum(f" {star}" in line and told in line for line in lines) == 1
    assert not any("known.csv: good" in line for line in lines)
