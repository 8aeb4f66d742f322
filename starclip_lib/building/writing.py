"""The file of an emulator, its errors against syntheses that no fit has seen, and its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from starclip_lib import __version__
from starclip_lib.building import design
from starclip_lib.building.design import FE_RANGE, HELD_OUT, LOGG_RANGE, PHYSICS, PHYSICS_UNIT, PHYSICS_WIDTH
from starclip_lib.building.fitting import Basis, Earlier, Syntheses, inputs, train
from starclip_lib.building.sampling import FINE, FINE_FWHM, GRIDS, depths
from starclip_lib.building.teacher import Teacher
from starclip_lib.physics.emulator import FORMAT, Emulator
from starclip_lib.physics.instruments import APOGEE, CHIPS, NIRSPEC, on_chips
from starclip_lib.physics.labels import FE, LABELS, N_LABELS, UNITS
from starclip_lib.physics.lsf import broadening
from starclip_lib.settings.emulator import EmulatorParams
from starclip_lib.support.files import atomic_path
from starclip_lib.support.threads import Callback

# Vacuum Angstrom; of the fine grid, and APOGEE's chips.
_SHARP = replace(NIRSPEC, name="nirspec_sharp", constant_fwhm=2.75)  # about as sharp as NIRSpec is for point sources
REGIONS = {"9,000-10,000": (9000.0, 10000.0), "10,000-11,500": (10000.0, 11500.0), "11,500-13,500": (11500.0, 13500.0),
           "13,500-15,100": (13500.0, 15100.0), "15,100-17,000": (15100.0, 17000.0),
           "17,000-18,000": (17000.0, 18000.0)}  # fmt: skip
_FINE_WEIGHT = 1.5  # of the fine grid's coefficients in the fit


def fitted(syntheses: Syntheses, params: EmulatorParams, callback: Callback) -> dict[str, np.ndarray]:
    """The arrays of an emulator but its card: bases and network, which see the training set only."""
    rows, settings = syntheses.training, params.network
    sizes = {"apogee": settings.components_apogee, "fine": settings.components_fine}
    bases, targets = {}, []
    for grid, weight in (("apogee", 1.0), ("fine", _FINE_WEIGHT)):
        callback(f"{sizes[grid]} principal components of {len(rows):,} spectra on the grid '{grid}'")
        packed = syntheses.packed[grid][rows]
        bases[grid] = Basis.of(packed, min(sizes[grid], len(rows) - 1), params.seed)
        targets.append(weight * bases[grid].coefficients(packed))
    y = np.concatenate(targets, axis=1)
    unit = float(y.std())
    x, earlier = inputs(syntheses.labels[rows], syntheses.physics[rows]), Earlier.packaged()
    rng = np.random.default_rng([params.seed, 1])
    teacher = Teacher(x, earlier(syntheses.labels[rows]), y, rng, callback)
    more = design.draw(settings.distilled, 0, params.seed + 1)
    more_x = inputs(more.labels, more.physics)
    callback(f"a network learns {settings.distilled:,} spectra of the Gaussian process, and those it was fitted to")
    taught = teacher(more_x, earlier(more.labels))
    x, y = np.concatenate([more_x, x, x]), np.concatenate([taught, y, y])  # what was synthesised counts twice
    net = train(x, y / unit, settings, params.seed, earlier, callback)
    state = [parameter.detach().numpy().astype(np.float64) for parameter in net.parameters()]
    w1, (b1, w2, b2, w3, b3) = state[0].T, state[1:]
    # [X/Fe] of the fit becomes [X/H] of the file
    over = [i for i in range(2, N_LABELS) if i != FE]
    scale = np.array([400.0, 0.7] + [0.7] * 18)
    first = w1.copy()
    first[over] *= scale[2] / 0.4
    first[FE] -= first[over].sum(axis=0)
    n_apogee = len(bases["apogee"].components)
    outwards = -unit * np.where(np.arange(len(b3)) < n_apogee, 1.0, 1 / _FINE_WEIGHT)  # depth becomes flux
    layers = {"w1": first, "b1": b1, "w2": w2.T, "b2": b2, "w3": w3.T * outwards, "b3": b3 * outwards}
    arrays: dict[str, np.ndarray] = {key: np.ascontiguousarray(array, np.float32) for key, array in layers.items()}
    for grid, at in GRIDS.items():
        arrays |= {f"{grid}_wavelength": at, f"{grid}_mean": 1 - bases[grid].mean}
        arrays[f"{grid}_basis"] = bases[grid].components.astype(np.float16)
    low, high = design.over_fe_limits()
    ends = np.full(2, np.nan)
    arrays |= {
        "label_center": np.array([4500.0, 1.4] + [-0.7] * 18),
        "label_scale": scale,
        "label_min": np.concatenate([[design.TEFF_LOW.min(), LOGG_RANGE[0]], FE_RANGE[0] + low]),
        "label_max": np.concatenate([[design.TEFF_HIGH.max(), LOGG_RANGE[1]], FE_RANGE[1] + high]),
        "xfe_min": np.concatenate([ends, low]),
        "xfe_max": np.concatenate([ends, high]),
        "max_c_over_o": np.array(design.MAX_C_OVER_O),
        "logg_knots": design.LOGG_KNOTS,
        "teff_low": design.TEFF_LOW,
        "teff_high": design.TEFF_HIGH,
        "fine_fwhm": np.array(FINE_FWHM),
        "apogee_resolution": np.array(APOGEE.resolution),
        "physics_width": PHYSICS_WIDTH,
        "physics_nominal": np.zeros(len(PHYSICS)),
        "physics_reach": np.array(design.REACH),
    }
    words = {"format": FORMAT, "version": params.name, "activation": "silu"}
    lists = {"label_names": LABELS, "label_units": UNITS, "physics_names": PHYSICS, "physics_units": PHYSICS_UNIT}
    return arrays | {key: np.array(text) for key, text in words.items()} | {k: np.array(v) for k, v in lists.items()}


def errors(emulator: Emulator, syntheses: Syntheses) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of flux by held-out set and instrument or region: median and 95th percentile of their size, worst RMS."""
    matrices = {grid.name: broadening(FINE, FINE_FWHM, grid.wavelength, grid.fwhm) for grid in (NIRSPEC, _SHARP)}
    grids = {"apogee": APOGEE, "fine": emulator.fine}
    out: dict[str, dict[str, dict[str, float]]] = {}
    for name in HELD_OUT:
        rows = syntheses.held(name)
        labels, physics = syntheses.labels[rows], syntheses.physics[rows]
        packed = {name: syntheses.packed[name][rows] for name in grids}
        wrong = {name: emulator(labels, grid, physics) - 1 + depths(packed[name]) for name, grid in grids.items()}
        wrong |= {key: (matrix @ wrong["fine"].T).T for key, matrix in matrices.items()}
        wrong["chips"] = wrong["apogee"][:, on_chips(APOGEE.wavelength)]
        for region, (first, last) in REGIONS.items():
            wrong[region] = wrong["fine"][:, (first <= FINE) & (last > FINE)]
        out[name] = {key: _summary(error) for key, error in wrong.items()}
    return out


def _summary(error: np.ndarray) -> dict[str, float]:
    size = np.abs(error)
    worst = np.sqrt((error.astype(np.float64) ** 2).mean(axis=1)).max()
    return {
        "spectra": len(error),
        "median": round(float(np.median(size)), 7),
        "p95": round(float(np.percentile(size, 95)), 7),
        "worst_rms": round(float(worst), 7),
    }


def card_of(params: EmulatorParams, syntheses: Syntheses, tables: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a user should know of an emulator."""
    return {
        "version": params.name,
        "package": __version__,
        "lines": params.lines,
        "structure": params.structure,
        "tables_sha256": tables,
        "seed": params.seed,
        "syntheses": {"training": len(syntheses.training), "held_out": int((syntheses.kind < len(HELD_OUT)).sum()),
                      "asked_for": params.syntheses, "failed": syntheses.n_failed},
        "domain": {
            "logg": list(LOGG_RANGE),
            "teff": {f"{g:g}": [float(a), float(b)] for g, a, b in
                     zip(design.LOGG_KNOTS, design.TEFF_LOW, design.TEFF_HIGH, strict=True)},
            "fe_h": list(FE_RANGE),
            "x_fe": {"C": list(design.OVER_FE["C"]), "N": list(design.OVER_FE["N"]), "others": [-0.6, 0.6]},
            "physics_widths": design.REACH,
        },
        "network": params.network.model_dump(mode="json"),
        "fine_grid": {"first": FINE[0], "last": FINE[-1], "pixels": len(FINE), "fwhm": FINE_FWHM},
        "chips": [list(chip) for chip in CHIPS],
        "errors": found,
    }  # fmt: skip


def card_text(card: dict[str, Any]) -> str:
    """The card for people, Markdown."""
    number, errors_ = card["syntheses"], card["errors"]
    teff = ", ".join(f"{low:g}-{high:g} K at {logg}" for logg, (low, high) in card["domain"]["teff"].items())
    lines = [
        f"# Emulator {card['version']}",
        "",
        f"Made by starclip {card['package']}, `starclip emulator build`, seed {card['seed']}, lines `{card['lines']}`, "
        f"structure `{card['structure']}`; tables of the synthesis: SHA-256 {card['tables_sha256']}.",
        "",
        f"Syntheses: {number['training']:,} fitted, {number['held_out']} held out, {number['failed']} failed, of "
        f"{number['asked_for']:,} that the build asks for.",
        "",
        f"Domain: log g {LOGG_RANGE[0]:g} to {LOGG_RANGE[1]:g}; Teff by log g: {teff}; [Fe/H] {FE_RANGE[0]:g} to "
        f"{FE_RANGE[1]:g}; [X/Fe] -0.6 to 0.6 (C -0.8 to 0.4, N -0.2 to 1); [C/O] below {design.MAX_C_OVER_O:g}; "
        f"physics within {design.REACH:g} prior widths.",
        "",
        "Errors of flux against held-out syntheses: median and 95th percentile of their size, RMS of the worst star.",
        "",
        "| set | spectra | instrument or region | median | 95 % | worst RMS |",
        "|---|---|---|---|---|---|",
    ]
    for name, by_place in errors_.items():
        for place, e in by_place.items():
            values = f"{e['median']:.5f} | {e['p95']:.5f} | {e['worst_rms']:.5f}"
            lines.append(f"| {name} | {e['spectra']} | {place} | {values} |")
    return "\n".join(lines) + "\n"


def write(path: Path, arrays: dict[str, np.ndarray], card: dict[str, Any]) -> None:
    """Write the file of an emulator, whole or not at all."""
    with atomic_path(path) as part:
        np.savez(part, allow_pickle=False, card=np.array(json.dumps(card)), **arrays)
