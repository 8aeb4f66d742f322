"""Syntheses in batches on Dask: each finished batch is a file, and what is there is not made again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from starclip_lib.building.design import PHYSICS, Design
from starclip_lib.building.sampling import GRIDS, sampled
from starclip_lib.physics.labels import LOGG, N_LABELS
from starclip_lib.support.errors import DataError, StarclipError, SystemFault, one_line, system_message
from starclip_lib.support.files import atomic_path, damage_refused
from starclip_lib.support.threads import Callback
from starclip_lib.synthesis.lines import LineList, line_list
from starclip_lib.synthesis.physics import microturbulence
from starclip_lib.synthesis.synthesise import SyntheticSpectrum, synthesise

if TYPE_CHECKING:
    from dask.distributed import Client

SIZE = 20  # syntheses of a batch: about 10 s, and 1.1 MB on disk
_TABLES = ("lines.npz", "atmospheres.npz", "physics.npz")
_AHEAD = 3  # batches that are handed out for each worker
_EVERY = 10.0  # seconds between lines of progress


@cache
def tables_digest() -> str:
    """SHA-256 of the tables of the synthesis: lines, temperatures, chemistry."""
    total = hashlib.sha256()
    for name in _TABLES:
        total.update((files("starclip_lib") / "synthesis" / "tables" / name).read_bytes())
    return total.hexdigest()


@dataclass(frozen=True, eq=False)
class Batch:
    """A file to make: labels (n, 20), physics (n, n_physics), kind (n,)."""

    path: str
    labels: np.ndarray
    physics: np.ndarray
    kind: np.ndarray
    lines: str
    structure: str
    tables: str  # digest of the tables that the synthesis reads


def batches(design: Design, folder: Path, lines: str, structure: str, tables: str) -> list[Batch]:
    """The batches of a design that are not on disk, in its order."""
    todo = []
    for start in range(0, len(design.kind), SIZE):
        path, some = folder / f"{start:06d}.npz", slice(start, start + SIZE)
        if not path.exists():
            values = design.labels[some], design.physics[some], design.kind[some]
            todo.append(Batch(str(path), *values, lines, structure, tables))
    return todo


def synthesised(labels: np.ndarray, physics: np.ndarray, lines: LineList | str, structure: str) -> SyntheticSpectrum:
    """A whole spectrum of labels (20,) and physics (n_physics,), differences from nominal in the order of `PHYSICS`."""
    values: dict[str, Any] = {name: float(value) for name, value in zip(PHYSICS, physics, strict=True)}
    return synthesise(
        labels,
        vmic=microturbulence(labels[LOGG]) + values["vmic"],
        lines=lines,
        structure=structure,
        strengths={name: value for name, value in values.items() if " " in name and value},
        **{name: value for name, value in values.items() if " " not in name and name != "vmic"},
    )


@lru_cache(maxsize=1)
def _lines(name: str) -> LineList:
    return line_list(name)


def make(batch: Batch) -> int:
    """Synthesise a batch and write its file; the number of spectra.  What cannot be synthesised is marked as failed."""
    if tables_digest() != batch.tables:
        raise DataError("a worker has other tables of the synthesis than the command; install the same starclip there")
    n = len(batch.labels)
    found = {name: np.zeros((n, len(at)), np.uint16) for name, at in GRIDS.items()}
    reasons = [""] * n
    for i in range(n):
        try:
            spectrum = synthesised(batch.labels[i], batch.physics[i], _lines(batch.lines), batch.structure)
            for name, packed in sampled(spectrum).items():
                found[name][i] = packed
        except DataError as error:
            reasons[i] = str(error)[:200]
    drawn = {"labels": batch.labels, "physics": batch.physics, "kind": batch.kind, "failed": np.array(reasons)}
    with atomic_path(batch.path) as part:
        np.savez(part, allow_pickle=False, **drawn, **found)
    return n


def read_batch(path: Path) -> dict[str, np.ndarray]:
    """A finished batch: labels, physics, kind, why a synthesis failed ('' if not), and packed depths of each grid."""
    cure = "delete it and run the same command again"
    with damage_refused(path, "is not a batch of syntheses", cure), np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in ("labels", "physics", "kind", "failed", *GRIDS)}
    n = len(found["kind"])
    widths = {"labels": (N_LABELS,), "physics": (len(PHYSICS),), "kind": (), "failed": ()}
    widths |= {name: (len(at),) for name, at in GRIDS.items()}
    if any(found[name].shape != (n, *width) for name, width in widths.items()):
        raise DataError(f"{path} is not a batch of syntheses (its arrays do not fit together); {cure}")
    return found


def compute(client: Client, todo: list[Batch], callback: Callback) -> None:
    """Make batches on free workers; raises SystemFault if workers are lost, and what is finished stays."""
    from dask.distributed import as_completed

    from starclip_lib.survey.cluster import while_there_are_workers

    waiting, began, spectra, shown = iter(todo), time.monotonic(), 0, 0.0

    def hand_out(n: int) -> Iterator:
        for _, batch in zip(range(n), waiting, strict=False):
            yield client.submit(make, batch, key=f"batch-{Path(batch.path).stem}", retries=1)

    n_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    futures = as_completed(list(hand_out(_AHEAD * n_workers)))
    for done, future in enumerate(while_there_are_workers(client, futures), start=1):
        try:
            spectra += future.result()
        except StarclipError:
            raise
        except ModuleNotFoundError as error:
            raise DataError(f"a worker has no {error.name}: install starclip[synthesis,scale] there") from None
        except (OSError, MemoryError) as error:
            raise SystemFault(system_message(error)) from error
        except Exception as error:  # workers that died or were lost, or what another machine has
            reason = one_line(str(error))[:200]
            raise SystemFault(f"a worker failed ({type(error).__name__}: {reason}); run the command again") from error
        future.release()
        for new in hand_out(1):
            futures.add(new)
        elapsed = time.monotonic() - began
        if elapsed - shown > _EVERY or done == len(todo):
            shown = elapsed
            left = elapsed / done * (len(todo) - done)
            callback(
                f"{done} of {len(todo)} batches, {spectra / elapsed:.1f} spectra a second, {left / 60:.0f} min left"
            )
