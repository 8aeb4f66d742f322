"""`starclip embed` and `starclip search`: any number of spectra into a store, and the nearest of some in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table

from starclip_lib.models.checkpoint import Model
from starclip_lib.run import Run, open_run
from starclip_lib.storage.csv_files import write_csv
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path, locked
from starclip_lib.survey.embedding import Setup, describe_model, embed
from starclip_lib.survey.formats import vectors
from starclip_lib.survey.searching import found_table, no_match, search
from starclip_lib.survey.sources import Task, find_inputs, read_batches
from starclip_lib.survey.store import FAILED, Store

Say = Callable[[str], None]
_TABLES = {".ecsv": "ascii.ecsv", ".vot": "votable", ".csv": "ascii.csv", ".parquet": "parquet"}
_THREE = ("Teff", "logg", "Fe")
_SHOWN = 30  # lines of what was found


def embed_files(
    paths: Sequence[Path],
    run: Run,
    output: Path,
    instruments: Sequence[str],
    workers: int,
    scheduler: str,
    say: Say,
) -> Store:
    """Embed whatever spectra are in files and folders; what is in the store already is left as it is.

    Raises
    ------
    DataError or SystemFault
        In one line; what was finished stays.
    """
    model = run.need("starclip.ckpt").resolve()
    setup = Setup(str(output.resolve()), str(model), describe_model(model), run.params.model_dump_json())
    tasks, unopened = find_inputs(paths, instruments, say)
    if not tasks:
        raise DataError(f"none of {len(unopened)} files can be embedded; the first, {unopened[0][0]}: {unopened[0][2]}")
    with locked(output):
        store = Store.create(output, setup.about)
        todo, changed = _what_is_new(store, tasks, say)
        lost: list[tuple[str, int, str]] = []
        if todo:
            from starclip_lib.survey.cluster import cluster, compute  # the only command that needs Dask

            with cluster(workers, scheduler, say) as client:
                lost = compute(client, todo, setup, say)
        for path, files in changed.items():
            store.drop(path, files)
        store = Store(output)
        n_failed = store.write_failed([*unopened, *lost])
    if not len(store):
        raise DataError(f"none of the spectra could be embedded; {output / FAILED} has the reason for each")
    say(f"{store}" + (f"; {n_failed:,} could not be embedded: {output / FAILED}" if n_failed else ""))
    return store


def search_store(
    folder: Path, queries: Sequence[Path], stars: Sequence[str], k: int, where: str, output: Path | None, say: Say
) -> pd.DataFrame:
    """The nearest spectra of a store, of some that are in files or in the store itself.

    Raises
    ------
    DataError
        In one line.
    """
    if output is not None and output.suffix not in _TABLES:
        given = output.suffix or "no ending"
        raise DataError(f"--output: {given} is no kind of table; give one of {', '.join(_TABLES)}")
    store = Store(folder)
    names, z, posterior = _of_files(store, queries, say) if queries else _of_stars(store, stars)
    found = search(store, z, k, where, None if queries else names, posterior)
    table = found_table(store, names, found)
    say(found.ranking)
    for name, ln_b in zip(names, found.ln_b[:, 0] if found.ln_b is not None else (), strict=False):
        if no_match(ln_b):
            say(f"{name}: no match: the posteriors exclude that even the best is the same star (ln B = {ln_b:.0f})")
    columns = ["query", "number", "ln_B", "cosine", "match", "star_id", "instrument", "verdict", *_THREE]
    shown = table[[name for name in columns if name in table]]
    say(shown.head(_SHOWN).to_string(index=False, float_format="{:.4g}".format))
    if len(table) > _SHOWN and output is None:
        say(f"... {len(table) - _SHOWN} more: --output found.ecsv writes all")
    if output is not None:
        with atomic_path(output) as part:
            _write(table, part, output.suffix)
        say(f"{output}: {len(table):,} rows")
    return table


def _write(table: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv":
        write_csv(table, path)
    else:
        Table.from_pandas(table).write(path, format=_TABLES[suffix], overwrite=True)


def _what_is_new(store: Store, tasks: list[Task], say: Say) -> tuple[list[Task], dict[Path, set[str]]]:
    """Tasks less the inputs that the store has; and parts with files that have changed since, which go afterwards."""
    now = {(one.file, task.instrument): (one.size, one.modified) for task in tasks for one in task.inputs}
    done: set[tuple] = set()
    changed: dict[Path, set[str]] = {}
    for path, made in store.made_from().items():
        for one in made.inputs:
            state = now.get((one.file, made.instrument))
            if state is not None and state != (one.size, one.modified):
                changed.setdefault(path, set()).add(one.file)
            else:
                done.add((one.file, one.start, one.stop, made.instrument))
    todo = []
    for task in tasks:
        new = tuple(one for one in task.inputs if (one.file, one.start, one.stop, task.instrument) not in done)
        if new:
            todo.append(Task(task.kind, task.instrument, new))
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} parts are there already")
    if files := {file for some in changed.values() for file in some}:
        say(f"{len(files)} {'file has' if len(files) == 1 else 'files have'} changed since: embedded again")
    return todo, changed


Queries = tuple[list[str], np.ndarray, np.ndarray | None]


def _of_files(store: Store, paths: Sequence[Path], say: Say) -> Queries:
    """Names, embeddings and posteriors of spectra in files, by the store's own model."""
    file = Path(store.about.model)
    if not file.is_file():
        raise DataError(f"the model of this store is gone: {file}; restore it, or search by --star, which needs none")
    now = describe_model(file)
    for key in ("model_sha256", "emulator"):
        if getattr(now, key) != getattr(store.about, key):
            raise DataError(f"{file} is not the model of this store ({key} differs); embed into a new folder")
    params, model = open_run(file.parent).params, Model.load(file)
    tasks, failed = find_inputs(paths, ("nirspec",), say)
    names, found = [], []
    for task in tasks:
        batch = read_batches(task, params)
        failed += batch.failed
        names += batch.star_id
        found.append(embed(model.encoders[task.instrument], batch.flux))
    for path, row, reason in failed:
        say(one_line(f"set aside: {path} [{row}]: {reason}"))
    if not names:
        raise DataError("none of the queries can be read")
    z, posterior = np.concatenate([one.z for one in found]), None
    if store.about.posterior:
        posterior = np.concatenate([one.posterior for one in found if one.posterior is not None])
    return names, z, posterior


def _of_stars(store: Store, stars: Sequence[str]) -> Queries:
    """Names, embeddings and posteriors of the first spectrum of each star that the store has."""
    wanted = dict.fromkeys(stars)
    found: dict[str, np.ndarray] = {}
    places: dict[str, int] = {}
    for place, table in store.blocks(["embedding", "star_id"]):
        names = table.column("star_id").to_pylist()
        for row in [row for row, name in enumerate(names) if name in wanted and name not in found]:
            found.setdefault(names[row], vectors(table.slice(row, 1))[0])
            places.setdefault(names[row], int(place[row]))
    if missing := [star for star in wanted if star not in found]:
        raise DataError(
            f"{store.folder} has no star {missing[0]!r}" + (f", and {len(missing) - 1} more" * (len(missing) > 1))
        )
    posterior = store.posteriors(np.array(list(places.values()))) if store.about.posterior else None
    return list(found), np.stack(list(found.values())), posterior
