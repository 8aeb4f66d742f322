"""Which labels does the synthesis find for mean spectra of real APOGEE giants, whose labels are known?

    python benchmarks/mean_giants.py FOLDER [--structure seven] [--lines apogee] [--free vmic van_der_waals]
    python benchmarks/mean_giants.py FOLDER --emulator [--free all]

FOLDER holds the model of 1,801 giants that jobovy/apogee published (The Cannon: each pixel a quadratic in Teff, log g,
[Fe/H], [alpha/Fe]).  At each point, Gauss-Newton steps on direct syntheses fit Teff, log g, all metals together, alpha
elements, C, N, a continuum of order 5 on each chip, and the physics that --free names.  Printed: found minus given.
With --emulator the default emulator is fitted instead, its 19 parameters of physics at nominal or, with --free all, as
nuisances with their priors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from starclip_lib.inference.gauss_newton import Prior, fit
from starclip_lib.inference.grid import GridModel
from starclip_lib.inference.noise import GivenNoise
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE
from starclip_lib.physics.labels import LABELS, LOGG, N_LABELS, TEFF, label_index
from starclip_lib.synthesis import physics
from starclip_lib.synthesis.synthesise import MACROTURBULENCE, synthesise

CHIPS = ((322, 3242), (3648, 6048), (6412, 8306))  # pixels that the model has
PIXELS = np.concatenate([np.arange(*chip) for chip in CHIPS])
BASELINE = np.array([4500.0, 2.0, -0.3, 0.05])
POINTS = [(teff, fe) for fe in (-1.2, -0.7, -0.3, 0.0, 0.2) for teff in (4300.0, 4500.0, 4700.0)]
ALPHA = tuple(label_index(name) for name in ("O", "Mg", "Si", "S", "Ca", "Ti"))
# The labels that are fitted: what moves together, the step of a difference, the width of the prior around the given.
FITTED = {
    "Teff": ((TEFF,), 30.0, 400.0),
    "log g": ((LOGG,), 0.1, 0.6),
    "[M/H]": (tuple(range(2, N_LABELS)), 0.05, 0.4),
    "[alpha/M]": (ALPHA, 0.05, 0.3),
    "[C/M]": ((label_index("C"),), 0.05, 0.3),
    "[N/M]": ((label_index("N"),), 0.05, 0.3),
}
_MACRO = "macroturbulence"  # km/s; may be freed, too
_MACRO_WIDTH = 2.0
_ORDER = 5  # of the continuum on a chip
_ERROR = 0.012  # of a pixel, alike within two pixels
_STEPS = 4


def mean_spectrum(coefficients: np.ndarray, given: np.ndarray) -> np.ndarray:
    d = given - BASELINE
    products = [d[i] * d[j] for i in range(4) for j in range(i, 4)]
    return np.array([1.0, *d, *products]) @ coefficients


def typical(stars: pd.DataFrame, teff: float, fe: float) -> np.ndarray:
    """Teff, log g, [Fe/H], [alpha/Fe] with the gravity and alpha of the 25 training stars that are nearest."""
    distance = ((stars["teff"] - teff) / 150) ** 2 + ((stars["fe"] - fe) / 0.2) ** 2
    near = stars.loc[distance.nsmallest(25).index]
    # gravity at this temperature and metallicity: linear in both
    design = np.column_stack([np.ones(25), (near["teff"] - teff) / 150, (near["fe"] - fe) / 0.2])
    found = np.linalg.lstsq(design, near[["logg", "alpha"]].to_numpy(), rcond=None)[0][0]
    return np.array([teff, found[0], fe, found[1]])


def labels_of(given: np.ndarray) -> np.ndarray:
    """Labels with the C and N of giants after their first dredge-up."""
    labels = np.full(N_LABELS, given[2])
    labels[[TEFF, LOGG]] = given[:2]
    labels[list(ALPHA)] += given[3]
    labels[label_index("C")] -= 0.1
    labels[label_index("N")] += 0.25
    return labels


def continuum_basis() -> np.ndarray:
    """Polynomials on each chip, (n_pix, 3 (order + 1))."""
    blocks = [np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, b - a), _ORDER) for a, b in CHIPS]
    rows = sum(len(block) for block in blocks)
    basis, start = np.zeros((rows, 3 * (_ORDER + 1))), 0
    for k, block in enumerate(blocks):
        basis[start : start + len(block), k * (_ORDER + 1) : (k + 1) * (_ORDER + 1)] = block
        start += len(block)
    return basis


def fitted(flux: np.ndarray, given: np.ndarray, free: list[str], lines: str, structure: str) -> dict[str, float]:
    wavelength, basis = APOGEE.wavelength[PIXELS], continuum_basis()
    nominal = dict.fromkeys(free, 0.0) | {"vmic": physics.microturbulence(given[1]), _MACRO: MACROTURBULENCE}
    prior = {p.name: p.width for p in physics.PARAMETERS} | {_MACRO: _MACRO_WIDTH}
    names = [*FITTED, *free]
    steps = np.array([step for _, step, _ in FITTED.values()] + [prior[name] / 2 for name in free])
    widths = np.array([width for *_, width in FITTED.values()] + [prior[name] for name in free])
    start = labels_of(given)

    def model(offset: np.ndarray) -> np.ndarray:
        labels = start.copy()
        for (moved, *_), value in zip(FITTED.values(), offset, strict=False):
            labels[list(moved)] += value
        changed = dict(zip(free, offset[len(FITTED) :], strict=True))
        strengths = {name: value for name, value in changed.items() if name in physics.GROUPS}
        plain = {name: nominal[name] + value for name, value in changed.items() if name not in physics.GROUPS}
        options = {"lines": lines, "structure": structure, "wavelengths": (15050.0, 17050.0)}
        macroturbulence = plain.pop(_MACRO, MACROTURBULENCE)
        spectrum = synthesise(labels, strengths=strengths, **plain, **options)
        return spectrum.sampled(wavelength, wavelength / APOGEE.resolution, macroturbulence)

    offset, first = np.zeros(len(names)), float("nan")
    for number in range(_STEPS + 1):
        made = model(offset)
        level = np.linalg.lstsq(basis * made[:, None], flux, rcond=None)[0]
        continuum = basis @ level
        residual = flux - made * continuum
        root_mean_square = float(np.sqrt((residual**2).mean()))
        if number == 0:
            first = root_mean_square
        if number == _STEPS:
            break
        moved = [
            (model(offset + step * unit) - made) / step for step, unit in zip(steps, np.eye(len(names)), strict=True)
        ]
        design = np.column_stack([*(np.array(moved) * continuum), basis * made[:, None]])
        precision = np.concatenate([widths**-2.0, np.full(basis.shape[1], 1e-6)])
        pull = np.concatenate([offset / widths**2, np.zeros(basis.shape[1])])
        weight = 1 / (2 * _ERROR**2)
        change = np.linalg.solve(design.T @ design * weight + np.diag(precision), design.T @ residual * weight - pull)
        offset = offset + change[: len(names)]
    return {"RMS at labels": first, "RMS": root_mean_square, **dict(zip(names, offset, strict=True))}


def fitted_by_emulator(flux: np.ndarray, given: np.ndarray, physics_free: bool) -> dict[str, float]:
    """The same labels by the emulator; every label may differ from its group by 0.05 dex."""
    emulator = default_emulator()
    width = emulator.physics_width
    free = (0 * width, np.diag(width**-2)) if physics_free else None
    model = GridModel(emulator, APOGEE, _ORDER, chips=True, physics=free).double()
    start = labels_of(given)
    covariance = np.diag(np.where(np.arange(N_LABELS) < 2, 1e-6, 0.05**2))
    for moved, _, wide in FITTED.values():
        together = np.zeros(N_LABELS)
        together[list(moved)] = wide
        covariance += np.outer(together, together)
    whole, weight = np.zeros(APOGEE.n_pix), np.zeros(APOGEE.n_pix)
    whole[PIXELS], weight[PIXELS] = flux, 1 / (2 * _ERROR**2)
    found = fit(
        torch.from_numpy(whole[None]),
        model,
        GivenNoise(torch.from_numpy(weight[None]), 0.0, False),
        Prior(torch.from_numpy(start), torch.from_numpy(np.linalg.inv(covariance))),
        torch.from_numpy(start[None]),
        model.expected[None].clone(),
        directions=torch.diag(torch.from_numpy(np.sqrt(np.diag(covariance)))),
        steps=12,
    )
    offset = found.labels[0].numpy() - start
    residual = found.residual[0].numpy()[PIXELS]
    metals = [i for i in range(2, N_LABELS) if i not in ALPHA and LABELS[i] not in ("C", "N")]
    level = offset[metals].mean()
    groups = {"[alpha/M]": offset[list(ALPHA)].mean(), "[C/M]": offset[label_index("C")]}
    groups["[N/M]"] = offset[label_index("N")]
    values = {"Teff": offset[TEFF], "log g": offset[LOGG], "[M/H]": level}
    values |= {name: value - level for name, value in groups.items()}
    return {"RMS at labels": float("nan"), "RMS": float(np.sqrt((residual**2).mean())), **values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--lines", default="arcturus")
    parser.add_argument("--structure", default="marcs")
    parser.add_argument("--free", nargs="*", default=[], choices=["all", *(p.name for p in physics.PARAMETERS), _MACRO])
    parser.add_argument("--emulator", action="store_true")
    arguments = parser.parse_args()
    if arguments.free not in ([], ["all"]) if arguments.emulator else "all" in arguments.free:
        parser.error("--free all goes with --emulator, the names of single parameters without it")
    name = "trained_apokasc_gc_ind_feh_fix"
    coefficients = np.loadtxt(arguments.folder / f"{name}.txt")
    columns = ["file", "teff", "logg", "fe", "alpha"]
    stars = pd.read_csv(
        arguments.folder / f"{name.replace('trained', 'training')}.txt", sep=r"\s+", names=columns, comment="#"
    )
    rows = []
    for teff, fe in POINTS:
        given = typical(stars, teff, fe)
        flux = mean_spectrum(coefficients, given)
        if arguments.emulator:
            found = fitted_by_emulator(flux, given, "all" in arguments.free)
        else:
            found = fitted(flux, given, arguments.free, arguments.lines, arguments.structure)
        rows.append({"given Teff": teff, "given log g": given[1], "given [Fe/H]": fe, **found})
        print(" ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    table = pd.DataFrame(rows)
    print(
        table.groupby("given [Fe/H]")[[*FITTED, *(n for n in arguments.free if n != "all"), "RMS at labels", "RMS"]]
        .mean()
        .round(4)
        .to_string()
    )


if __name__ == "__main__":
    main()
