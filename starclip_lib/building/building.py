"""From a parameter file to an emulator: one build at a time works in a folder, and a killed one goes on there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from starclip_lib import __version__
from starclip_lib.building import batches
from starclip_lib.building.batches import tables_digest
from starclip_lib.building.design import HELD_OUT, PHYSICS, Design, draw
from starclip_lib.building.fitting import read_syntheses
from starclip_lib.building.sampling import GRIDS
from starclip_lib.building.writing import card_of, card_text, errors, fitted, write
from starclip_lib.physics.emulator import Emulator
from starclip_lib.settings.emulator import EmulatorParams, load_emulator_params
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.files import atomic_path, check_disk, digest, locked
from starclip_lib.support.threads import Callback
from starclip_lib.synthesis.lines import CALIBRATIONS
from starclip_lib.synthesis.structure import STRUCTURES

BUILD = "build.json"  # what the syntheses of a folder are of
SYNTHESES = "syntheses"


def design_of(params: EmulatorParams) -> Design:
    """The design of a build; the same settings draw the same one."""
    return draw(params.syntheses, params.held_out, params.seed)


def _about(params: EmulatorParams) -> dict[str, object]:
    """What the syntheses depend on."""
    settings = params.model_dump(mode="json", exclude={"name", "network"})
    design = design_of(params)
    drawn = hashlib.sha256(np.concatenate([design.labels, design.physics], axis=1).round(6).tobytes()).hexdigest()
    about = {"settings": settings, "physics": list(PHYSICS), "design": drawn, "tables": tables_digest()}
    return {**about, "package": __version__}


def check_folder(params: EmulatorParams, folder: Path) -> None:
    """Begin a folder, or raise DataError if what is there belongs to other settings, tables or another version."""
    if params.lines not in CALIBRATIONS:
        raise ConfigError(f"lines: unknown line data '{params.lines}'; there are {', '.join(CALIBRATIONS)}")
    if params.structure not in STRUCTURES:
        raise ConfigError(f"structure: unknown '{params.structure}'; there are {', '.join(STRUCTURES)}")
    about, path = _about(params), folder / BUILD
    if not path.exists():
        write_json(path, about)
    elif digest(there := read_json(path, dict[str, object])) != digest(about):
        wrong = next((key for key in about if there.get(key) != about[key]), "content")
        raise DataError(f"{folder} holds a build with other {wrong}; give another folder, or delete this one")


def synthesise_all(params: EmulatorParams, folder: Path, workers: int, scheduler: str, callback: Callback) -> None:
    """Make the syntheses of a build that are not in its folder; the caller holds the folder.

    A worker needs about 500 MB of memory, a synthesis 53 kB of disk.
    """
    place = folder / SYNTHESES
    place.mkdir(exist_ok=True)
    todo = batches.batches(design_of(params), place, params.lines, params.structure, tables_digest())
    check_disk(len(todo) * batches.SIZE * 2 * sum(map(len, GRIDS.values())), place / "batch", "the rest of this build")
    if todo:
        from starclip_lib.survey.cluster import cluster  # a finished build does not need Dask

        with cluster(workers, scheduler, callback) as client:
            batches.compute(client, todo, callback)


def build(
    file: Path, folder: Path | None, workers: int, scheduler: str, callback: Callback, finished_only: bool = False
) -> Path:
    """Synthesise, fit, validate and write NAME.npz and its card, NAME.md; the path of the emulator.

    `file` is a parameter file, `folder` where all is written (emulators/NAME).  `finished_only` fits the syntheses
    that are there and makes no more.  The fit of 8,000 needs 2.5 GB of memory.
    """
    params = load_emulator_params(file)
    folder = folder or Path("emulators", params.name)
    if workers < 0:
        raise ConfigError(f"--workers {workers}: give 1 or more, or leave it out")
    with locked(folder) as note:
        if note:
            callback(note)
        check_folder(params, folder)
        if not finished_only:
            synthesise_all(params, folder, workers, scheduler, callback)
        syntheses = read_syntheses(folder / SYNTHESES)
        arrays = fitted(syntheses, params, callback)
        path = folder / f"{params.name}.npz"
        found = errors(Emulator.of(arrays), syntheses)
        card = card_of(params, syntheses, tables_digest(), found)
        write(path, arrays, card)
        with atomic_path(path.with_suffix(".md")) as part:
            part.write_text(card_text(card), encoding="utf-8")
        for name in HELD_OUT:
            there = found[name]["apogee"], found[name]["fine"]
            callback(f"{name}: median error {there[0]['median']:.5f} (apogee), {there[1]['median']:.5f} (fine)")
        callback(f"{path}: {path.stat().st_size / 1e6:.1f} MB, from {len(syntheses.training):,} syntheses")
    return path
