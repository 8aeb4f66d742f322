"""Make starclip_lib/synthesis/tables/*.npz from the line data and atmospheres that the README.md beside them names.

    python docs/make_synthesis_tables.py FOLDER

FOLDER holds synthesis/ (inputs/phys.npz, inputs/keep.npy, gf_*.csv, arcturus-calibration/) and atmospheres/.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import interp1d

import starclip_lib
from starclip_lib.synthesis import equation_of_state, opacity
from starclip_lib.synthesis.atmosphere import LOG_TAU
from starclip_lib.synthesis.chemistry import Chemistry
from starclip_lib.synthesis.chemistry import chemistry as starclip_chemistry
from starclip_lib.synthesis.constants import ATOMIC_MASS, BOLTZMANN
from starclip_lib.synthesis.structure import SevenModels

TABLES = Path(starclip_lib.__file__).parent / "synthesis" / "tables"
MOLECULES = {"HH": "H2", "CC": "C2", "HC": "CH", "HN": "NH", "HO": "OH", "NN": "N2", "OO": "O2", "OSi": "SiO",
             "HSi": "SiH", "OTi": "TiO", "HS": "SH", "HMg": "MgH", "HFe": "FeH", "HCa": "CaH", "HAl": "AlH",
             "OV": "VO", "HHO": "H2O"}  # fmt: skip
ROMAN = {"0": "I", "1": "II"}
CALIBRATIONS = ("listed", "apogee", "arcturus")
# Which lines of a molecule a factor of the first calibration acts on, Angstrom.
FIRST_RANGES = {
    "OH": (13540.0, 18200.0),
    "CO": (15000.0, 18200.0),
    "CN": (15000.0, 17500.0),
    "C2": (15000.0, 17000.0),
    "FeH": (15000.0, 17000.0),
}
ALPHA = ("O", "Ne", "Mg", "Si", "S", "Ar", "Ca", "Ti")
# MARCS has the Sun of Grevesse, Asplund & Sauval (2007).  What a model's opacity is follows from its own composition:
# with ours, whose metals give 9 % more electrons, its temperatures would seem 50 K cooler at an optical depth of 1.
MARCS_SUN = {"C": 8.39, "N": 7.78, "O": 8.66, "Ne": 7.84, "Na": 6.17, "Mg": 7.53, "Al": 6.37, "Si": 7.51, "P": 5.36,
             "S": 7.14, "K": 5.08, "Ca": 6.31, "Ti": 4.90, "V": 4.00, "Cr": 5.64, "Mn": 5.39, "Fe": 7.45, "Co": 4.92,
             "Ni": 6.23}  # fmt: skip
# The grid of MARCS giants that is nearly complete.
TEFF = np.array([3500.0, 4000.0, 4250.0, 4500.0, 4750.0, 5000.0, 5250.0, 5500.0])
LOGG = np.arange(0.0, 3.6, 0.5)
FE = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.25])
NOT_IN = np.iinfo(np.int16).min


def species_name(code: str) -> str:
    """'Fe0' is 'Fe I', 'HFe-1' is 'FeH'."""
    if code.endswith("-1"):
        return MOLECULES.get(code[:-2], code[:-2])
    return f"{code[:-1]} {ROMAN[code[-1]]}"


def physics(source: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Chemistry, and the Stark profiles of the Paschen lines."""
    tables = {
        "elements": source["els"],
        "molecules": np.array([MOLECULES.get(str(name), str(name)) for name in source["mols"]]),
        "solar": source["A"],
        "mass": source["mass"],
        "ionisation": source["chi"],
        "ln_temperature_ends": source["TG"][[0, -1]],
        "ln_partition": np.log(source["Q"]).astype(np.float32),
        "atoms": source["nu"].astype(np.uint8),
        "ln_equilibrium": (source["lognK"] * np.log(10)).astype(np.float32),
        "ln_partition_molecule": np.log(source["Qm"]).astype(np.float32),
    }
    assert np.ptp(np.diff(source["TG"])) < 1e-12
    for upper in range(5, 12):
        key = f"3_{upper}_"
        tables[f"paschen_{upper}_profile"] = source[key + "lp"].astype(np.float32)
        tables[f"paschen_{upper}_detuning"] = source[key + "x"]
        tables[f"paschen_{upper}_line"] = np.array([source[key + "w"], source[key + "gf"]])
    return tables


def lines(folder: Path, source: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """The table of lines with the strengths of each calibration; NOT_IN where a calibration lacks a line."""
    new = folder / "arcturus-calibration"
    names = np.array([species_name(str(code)) for code in source["spn"]])
    wavelength, species = source["lw"], names[source["lsp"]]
    listed = source["lgf"]
    strengths = {name: listed.copy() for name in CALIBRATIONS}
    damping = {name: source["lgam"].copy() for name in CALIBRATIONS}
    kept = {name: np.load(folder / "inputs" / "keep.npy").copy() for name in CALIBRATIONS}
    for name, table, column in (
        ("apogee", folder / "gf_corrections.csv", "delta_loggf"),
        ("arcturus", new / "gf_corrections.csv", "delta_loggf"),
    ):
        rows = pd.read_csv(table)
        index = rows["index_in_phys_npz"].to_numpy()
        assert np.abs(wavelength[index] - rows["wavelength_vac_A"]).max() < 2e-3
        strengths[name][index] += rows[column].to_numpy()
        kept[name][index] = True
    rows = pd.read_csv(new / "damping.csv")
    damping["arcturus"][rows["index_in_phys_npz"].to_numpy()] += rows["delta_log_gamma"].to_numpy()
    factors = pd.read_csv(folder / "gf_global_factors.csv").set_index("quantity")["log10_factor"]
    for molecule, (first, last) in FIRST_RANGES.items():
        strengths["apogee"][(species == molecule) & (wavelength > first) & (wavelength < last)] += factors[molecule]
    for row in pd.read_csv(new / "gf_global_factors.csv").itertuples():
        inside = (species == row.quantity) & (wavelength > row.from_A) & (wavelength < row.to_A)
        strengths["arcturus"][inside] += row.log10_factor
    brackett = 0.5 * 10 ** np.array([0.0, factors["Br"], factors["Br"]])
    for name in CALIBRATIONS:
        strengths[name][~kept[name]] = np.nan
    any_kept = np.any(list(kept.values()), axis=0)
    table = pd.DataFrame({"wavelength": wavelength, "species": species, "excitation": source["lx"]})
    for name in CALIBRATIONS:
        table[f"log_gf_{name}"], table[f"log_gamma_{name}"] = strengths[name], damping[name]
    table = pd.concat([table[any_kept], added(folder, new)], ignore_index=True)
    table = table.sort_values("wavelength", kind="stable")
    names = np.unique(table["species"])
    coded = {
        "species_names": names.astype(str),
        "species": np.searchsorted(names, table["species"]).astype(np.uint8),
        "wavelength_steps": np.diff(np.rint(table["wavelength"] * 1e4), prepend=0).astype(np.int32),  # 1e-4 Angstrom
        "excitation": np.rint(table["excitation"] * 1e4).astype(np.int32),  # 1e-4 eV
        "brackett": brackett,
    }
    for name in CALIBRATIONS:
        strength = table[f"log_gf_{name}"]
        coded[f"log_gf_{name}"] = np.where(strength.isna(), NOT_IN, np.rint(strength * 1000)).astype(np.int16)
    for name in ("listed", "arcturus"):
        coded[f"log_gamma_{name}"] = np.rint(table[f"log_gamma_{name}"] * 1000).astype(np.int16)
    return coded


def added(old: Path, new: Path) -> pd.DataFrame:
    """Lines that no list has: 151 found on the chips of APOGEE, 276 in the atlas of Arcturus."""
    rows = pd.read_csv(new / "gf_added_lines.csv")
    first = pd.read_csv(old / "gf_added_lines.csv")
    in_first = rows["loggf_abinitio2"].notna()
    assert np.allclose(np.sort(rows.loc[in_first, "wavelength_vac_A"]), np.sort(first["wavelength_vac_A"]), atol=2e-3)
    gamma = rows["log_gamma_vdw"].where(~in_first, rows["log_gamma_abinitio2"])
    return pd.DataFrame(
        {
            "wavelength": rows["wavelength_vac_A"],
            "species": rows["species_assumed"],
            "excitation": rows["excitation_eV"],
            "log_gf_listed": np.nan,
            "log_gf_apogee": rows["loggf_abinitio2"],
            "log_gf_arcturus": rows["loggf"],
            "log_gamma_listed": gamma,
            "log_gamma_apogee": gamma,
            "log_gamma_arcturus": rows["log_gamma_vdw"],
        }
    )


def marcs_models(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Teff, log g, [Fe/H], [alpha/Fe] of each MARCS giant; H column density, theta, Pe, Pg, log tau(5000) by depth."""
    record = path.read_bytes()
    for start in range(0, len(record), 1200):
        n = int.from_bytes(record[start : start + 4], "little")
        if n == 9999:
            return
        labels = np.frombuffer(record, "<f4", 4, start + 4).astype(float).round(2)
        yield labels, np.frombuffer(record, "<f4", 5 * n, start + 64).astype(float).reshape(n, 5)


def own_depth(
    labels: np.ndarray, depths: np.ndarray, chemistry: Chemistry
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log10 of the optical depth by our continuous opacity, temperatures, and our electron pressures over MARCS's."""
    over_sun = np.full(len(chemistry.elements), labels[2])
    over_sun[[chemistry.elements.index(name) for name in ALPHA]] += labels[3]
    over_sun[[chemistry.elements.index(name) for name in ("H", "He")]] = 0.0
    solar = np.array(
        [MARCS_SUN.get(name, value) for name, value in zip(chemistry.elements, chemistry.solar, strict=True)]
    )
    abundances = 10 ** (solar - 12 + over_sun)
    temperature = 5040 / depths[:, 1]
    gas = equation_of_state.solve(temperature, depths[:, 3], abundances, chemistry)
    column = depths[:, 0] * chemistry.mass_per_hydrogen(abundances) * ATOMIC_MASS  # g/cm^2
    slope = opacity.rosseland(temperature, gas, chemistry) * column  # d tau / d ln column
    steps = 0.5 * (slope[1:] + slope[:-1]) * np.diff(np.log(column))
    tau = slope[0] / 1.6 + np.concatenate([[0.0], np.cumsum(steps)])
    return np.log10(tau), temperature, gas.electrons * BOLTZMANN * temperature / depths[:, 2]


def filled(values: np.ndarray) -> np.ndarray:
    """Values (n_logg,) with gaps filled linearly in log g, also beyond the ends."""
    known = np.flatnonzero(np.isfinite(values))
    return interp1d(LOGG[known], values[known], fill_value="extrapolate")(LOGG)


def atmospheres(folder: Path) -> dict[str, np.ndarray]:
    """T / Teff at LOG_TAU: of MARCS models on a full grid, and the regression of seven models."""
    with np.load(folder / "synthesis" / "inputs" / "Tcoef.npz", allow_pickle=False) as source:
        seven = SevenModels(source["Cf"], source["Z"], source["W"], source["Lg"])
    chemistry = starclip_chemistry()
    over_teff = np.full((len(TEFF), len(LOGG), len(FE), len(LOG_TAU)), np.nan)
    ratios = []
    for labels, depths in marcs_models(folder / "atmospheres" / "marcs-pfant-grid.mod"):
        teff, logg, fe, _ = labels
        if teff not in TEFF or logg not in LOGG:
            continue
        log_tau, temperature, ratio = own_depth(labels, depths, chemistry)
        ratios.append(ratio)
        profile = interp1d(log_tau, temperature, bounds_error=False, fill_value="extrapolate")(LOG_TAU)
        above = log_tau[0] > LOG_TAU  # MARCS ends there; the seven models go on
        old = seven(teff, logg, fe)
        profile[above] = old[above] * temperature[0] / np.interp(log_tau[0], LOG_TAU, old)
        place = (TEFF.tolist().index(teff), LOGG.tolist().index(logg), FE.tolist().index(fe))
        over_teff[place] = profile / teff
    print(f"{np.isfinite(over_teff[..., 0]).sum()} of {over_teff[..., 0].size} points of the grid are MARCS models")
    percentiles = np.percentile(np.concatenate(ratios), [1, 50, 99])
    print("electron pressures over MARCS's, percentiles 1, 50, 99:", percentiles.round(3))
    return {
        "marcs_teff": TEFF,
        "marcs_logg": LOGG,
        "marcs_fe": FE,
        "marcs_over_teff": np.apply_along_axis(filled, 1, over_teff).astype(np.float32),
        "seven_linear": seven.linear,
        "seven_centres": seven.centres,
        "seven_corrections": seven.corrections,
        "seven_lengths": seven.lengths,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    TABLES.mkdir(exist_ok=True)
    with np.load(folder / "synthesis" / "inputs" / "phys.npz", allow_pickle=False) as source:
        np.savez_compressed(TABLES / "physics.npz", **physics(source))
        np.savez_compressed(TABLES / "lines.npz", **lines(folder / "synthesis", source))
    np.savez_compressed(TABLES / "atmospheres.npz", **atmospheres(folder))
    for path in sorted(TABLES.glob("*.npz")):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
