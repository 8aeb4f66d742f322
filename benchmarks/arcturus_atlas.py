"""How far is the synthesis from the infrared atlas of Arcturus, region by region?

    python benchmarks/arcturus_atlas.py FOLDER

FOLDER/atlas.npz holds the atlas of Hinkle, Wallace & Livingston (1995): wavenumber, and for summer and winter what was
observed, the telluric spectrum and their ratio.  The labels are those of Ramirez & Allende Prieto (2011), no parameter
is fitted but the continuum (a median in bins of 25 Angstrom).  Printed: root mean square and mean of atlas minus
synthesis, at the atlas's own resolution and at R = 2,700, for each list of lines and structure.  Left out: where the
transmission of the air is below 0.6 (0.93 in the oxygen band at 12,650 Angstrom) and 10 km/s beside, where the seasons
disagree, hydrogen lines, and He I 10,833.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation, gaussian_filter1d

from starclip_lib.physics.instruments import SIGMA_PER_FWHM, SPEED_OF_LIGHT, on_chips
from starclip_lib.physics.labels import LABELS
from starclip_lib.synthesis.grid import STEP
from starclip_lib.synthesis.synthesise import synthesise

OVER_IRON = {"C": 0.10, "N": 0.3, "O": 0.42, "Na": 0.11, "Mg": 0.35, "Al": 0.34, "Si": 0.3, "S": 0.3, "K": 0.2,
             "Ca": 0.15, "Ti": 0.25, "V": 0.15, "Mn": -0.15, "Co": 0.1, "Ni": 0.06, "Ce": -0.1}  # fmt: skip
ARCTURUS = np.array([4286.0, 1.66] + [-0.52 + OVER_IRON.get(name, 0.0) for name in LABELS[2:]])
MOLECULES = {"CN": 0.10, "OH": -0.14, "CO": 0.06, "FeH": -0.2}  # this star's abundances, from the same atlas
BROADENING = 2.85  # km/s, standard deviation: macroturbulence and atlas together
# Rest frame: factor on the wavenumber, and what is still to be added, in km/s, by wavenumber.
SEASONS = {
    "summer": (1.0000478, ((0.0, 0.1), (8900.0, 3.2))),
    "winter": (0.9999129, ((0.0, 0.1), (6700.0, 4.3), (8875.0, 4.9))),
}
REGIONS = {
    "9,100-10,000": (9100, 10000),
    "10,000-11,000": (10000, 11000),
    "11,000-12,000": (11000, 12000),
    "12,000-13,500": (12000, 13500),
    "H outside the chips, to 17,300": (14980, 17300),
    "17,300-18,100": (17300, 18100),
    "chips": (15000, 17000),
}
HYDROGEN = [1e8 / (109677.5759 * (1 / 9 - 1 / n**2)) for n in range(5, 12)]
BRACKETT = [1e8 / (109677.5759 * (1 / 16 - 1 / n**2)) for n in range(10, 21)]
OPAQUE = ((9300.0, 9400.0), (9500.0, 9600.0), (11200.0, 11300.0), (13500.0, 14990.0), (18000.0, 18200.0))  # the air
_BESIDE = 10.0  # km/s from what cannot be used
_BIN = 25.0  # Angstrom, of the continuum
_DISAGREE = 4.5  # standard deviations


def season(atlas: np.lib.npyio.NpzFile, name: str, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flux of a season at rest on the grid, and its error; infinite where it cannot be used."""
    factor, shifts = SEASONS[name]
    wavenumber = atlas["wavenumber"]
    steps = np.array(shifts)
    shift = steps[np.searchsorted(steps[:, 0], wavenumber, side="right") - 1, 1]
    rest = 1e8 / (wavenumber * factor) * (1 + shift / SPEED_OF_LIGHT)
    _, telluric, ratio = atlas[name] / float(atlas["scale"])
    order = np.argsort(rest)
    rest, telluric, ratio = rest[order], telluric[order], ratio[order]
    flux, transmission = np.interp(grid, rest, ratio), np.interp(grid, rest, telluric)
    right = np.clip(np.searchsorted(rest, grid), 1, len(rest) - 1)
    gap = rest[right] - rest[right - 1] > 1.0
    needed = np.where((grid > 12570) & (grid < 12730), 0.93, 0.6)
    unusable = gap | (transmission < needed) | (flux > 1.15) | (flux < 0.15) | (grid < rest[0]) | (grid > rest[-1])
    unusable |= np.any([(grid > first) & (grid < last) for first, last in OPAQUE], axis=0)
    unusable = binary_dilation(unusable, iterations=round(_BESIDE / (STEP * SPEED_OF_LIGHT)))
    return flux, np.where(unusable, np.inf, np.hypot(0.004, 0.1 * (1 - transmission.clip(0, 1))))


def to_continuum(flux: np.ndarray, error: np.ndarray, model: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Flux over the median of flux over model in bins, in the less absorbed half of the pixels."""
    numbers = ((grid - grid[0]) / _BIN).astype(int)
    table = pd.DataFrame({"bin": numbers, "ratio": flux / model, "model": model, "grid": grid})[np.isfinite(error)]
    less = table[table["model"] >= table.groupby("bin")["model"].transform("median")]
    found = less.groupby("bin").median()[lambda t: less.groupby("bin").size() > 20]
    return flux / np.interp(grid, found["grid"], found["ratio"])


def observed(atlas: np.lib.npyio.NpzFile, model: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The atlas on the grid with the model's continuum, and where it can be used."""
    both = []
    for name in SEASONS:
        flux, error = season(atlas, name, grid)
        both.append((to_continuum(flux, error, model, grid), error))
    (summer, a), (winter, b) = both
    finite = np.isfinite(a) & np.isfinite(b)
    disagree = finite & (np.abs(summer - winter) > _DISAGREE * np.hypot(a, b))
    weights = np.array([a**-2, b**-2])
    used = (weights.sum(axis=0) > 0) & ~disagree & (np.abs(grid - 10833) > 5)
    for lines, reach in ((HYDROGEN, 20.0), (BRACKETT, 12.0)):
        for line in lines:
            used &= np.abs(grid - line) > reach
    flux = (weights * [summer, winter]).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-9)
    return flux, used


def compared(atlas: np.lib.npyio.NpzFile, lines: str, structure: str, strengths: dict) -> pd.DataFrame:
    """Residuals of a synthesis on the grid, native and at R = 2,700; NaN where nothing can be said."""
    spectrum = synthesise(ARCTURUS, lines=lines, structure=structure, strengths=strengths)
    grid, pixel = spectrum.wavelength, STEP * SPEED_OF_LIGHT
    model = gaussian_filter1d(spectrum.flux, BROADENING / pixel)
    flux, used = observed(atlas, model, grid)
    residual = np.where(used, flux - model, 0.0)
    sigma = SPEED_OF_LIGHT / 2700 * SIGMA_PER_FWHM / pixel
    share = gaussian_filter1d(used.astype(float), sigma)
    smooth = gaussian_filter1d(residual, sigma) / np.maximum(share, 0.1)
    return pd.DataFrame(
        {
            "wavelength": grid,
            "native": np.where(used, residual, np.nan),
            "smooth": np.where((share > 0.5) & used, smooth, np.nan),
        }
    )


def of_region(name: str, wavelength: pd.Series) -> np.ndarray:
    first, last = REGIONS[name]
    inside = wavelength.between(first, last).to_numpy()
    if name.startswith("H "):
        return inside & ~on_chips(wavelength.to_numpy())
    return inside & on_chips(wavelength.to_numpy()) if name == "chips" else inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    path = parser.parse_args().folder / "atlas.npz"
    variants = {
        "listed, seven": ("listed", "seven", {}),
        "apogee, seven": ("apogee", "seven", {}),
        "apogee, seven, molecules": ("apogee", "seven", MOLECULES),
        "arcturus, seven": ("arcturus", "seven", {}),
        "arcturus, seven, molecules": ("arcturus", "seven", MOLECULES),
        "arcturus, marcs, molecules": ("arcturus", "marcs", MOLECULES),
    }
    rows: dict[str, dict[str, str]] = {}
    with np.load(path, allow_pickle=False) as atlas:
        for title, (lines, structure, strengths) in variants.items():
            table = compared(atlas, lines, structure, strengths)
            for region in REGIONS:
                part = table[of_region(region, table["wavelength"])]
                native, smooth = part["native"].dropna(), part["smooth"].dropna()
                cell = f"{np.sqrt((native**2).mean()):.4f}, {np.sqrt((smooth**2).mean()):.4f} ({smooth.mean():+.4f})"
                rows.setdefault(region, {})[title] = cell
                rows[region]["share of pixels"] = f"{len(native) / len(part):.2f}"
    print("RMS at the atlas's resolution, RMS at R = 2,700 (mean of atlas minus synthesis there)")
    print(pd.DataFrame(rows).T.to_string())


if __name__ == "__main__":
    main()
