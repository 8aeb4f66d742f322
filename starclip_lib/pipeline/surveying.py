"""`starclip embed` and `starclip search`: any number of spectra into a store, and the nearest of some in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table

from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path, locked
from starclip_lib.models.checkpoint import Model
from starclip_lib.run import Run, open_run
from starclip_lib.stores.embedding import Setup, describe_model, embed
from starclip_lib.stores.searching import found_table, search
from starclip_lib.stores.sources import Task, find_inputs, read_batches
from starclip_lib.stores.store import FAILED, Store, vectors

Say = Callable[[str], None]
_TABLES = {".ecsv": "ascii.ecsv", ".vot": "votable", ".csv": "ascii.csv", ".parquet": "parquet"}
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

    Parameters
    ----------
    paths : sequence of Path
    run : Run
        Whose model embeds them.
    output : Path
        Folder of the store.
    instruments : sequence of str
        Which sides of data sets are wanted.
    workers : int
        Processes of this machine; 0: as many as there are cores.
    scheduler : str
        Address of a Dask scheduler instead.
    say : callable
        Is given a line of text.

    Returns
    -------
    Store

    Raises
    ------
    DataError or SystemFault
        In one line; what was finished stays.
    """
    model = run.need("starclip.ckpt").resolve()
    setup = Setup(str(output.resolve()), str(model), describe_model(model), run.params.model_dump_json())
    tasks, unopened = find_inputs(paths, instruments)
    with locked(output):
        store = Store.create(output, setup.about)
        todo, changed = _what_is_new(store, tasks, say)
        lost: list[tuple[str, int, str]] = []
        if todo:
            from starclip_lib.stores.cluster import cluster, compute  # needs Dask, which nobody else does

            with cluster(workers, scheduler, say) as client:
                lost = compute(client, todo, setup, say)
        for path, files in changed.items():
            store.drop(path, files)
        store = Store(output)
        n_failed = store.write_failed([*unopened, *lost])
    say(f"{store}" + (f"; {n_failed:,} could not be embedded: {output / FAILED}" if n_failed else ""))
    return store


def search_store(
    folder: Path, queries: Sequence[Path], stars: Sequence[str], k: int, where: str, output: Path | None, say: Say
) -> pd.DataFrame:
    """The nearest spectra of a store, of some that are in files or in the store itself.

    Parameters
    ----------
    folder : Path
        Of the store.
    queries : sequence of Path
        Files or folders of spectra.
    stars : sequence of str
        Stars of the store by identifier; the spectra of a star itself do not count as found.
    k : int
    where : str
        Condition on what is found.
    output : Path, optional
        Table to write, .ecsv, .parquet, .csv or .vot.
    say : callable

    Returns
    -------
    DataFrame

    Raises
    ------
    DataError
        In one line.
    """
    if output is not None and output.suffix not in _TABLES:
        given = output.suffix or "no ending"
        raise DataError(f"--output: {given} is no kind of table; give one of {', '.join(_TABLES)}")
    store = Store(folder)
    names, z = _of_files(store, queries, say) if queries else _of_stars(store, stars)
    place, cosine = search(store, z, k, where, but=None if queries else names)
    table = found_table(store, names, place, cosine)
    shown = table[["query", "number", "cosine", "star_id", "instrument", "verdict", "Teff", "logg", "Fe"]]
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
    else:
        Table.from_pandas(table).write(path, format=_TABLES[suffix], overwrite=True)


def _what_is_new(store: Store, tasks: list[Task], say: Say) -> tuple[list[Task], dict[Path, set[str]]]:
    """Tasks less the inputs that the store has; and parts with files that have changed since, which go afterwards."""
    now = {(one.file, task.instrument): (one.size, one.modified) for task in tasks for one in task.inputs}
    done: set[tuple] = set()
    changed: dict[Path, set[str]] = {}
    for path, made in store.made_from().items():
        for one in made["inputs"]:
            state = now.get((one["file"], made["instrument"]))
            if state is not None and state != (one["size"], one["modified"]):
                changed.setdefault(path, set()).add(one["file"])
            else:
                done.add((one["file"], one["start"], one["stop"], made["instrument"]))
    todo = []
    for task in tasks:
        new = tuple(one for one in task.inputs if (one.file, one.start, one.stop, task.instrument) not in done)
        if new:
            todo.append(Task(task.kind, task.instrument, new))
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} parts are there already")
    if files := {file for some in changed.values() for file in some}:
        say(f"{len(files)} {'file has' if len(files) == 1 else 'files have'} changed since: embedded anew")
    return todo, changed


def _of_files(store: Store, paths: Sequence[Path], say: Say) -> tuple[list[str], np.ndarray]:
    """Names and embeddings of spectra in files, by the store's own model."""
    file = Path(store.about.model)
    if not file.is_file():
        raise DataError(f"the model of this store is gone: {file}; queries by --star need none")
    now = describe_model(file)
    for key in ("model_sha256", "emulator"):
        if getattr(now, key) != getattr(store.about, key):
            raise DataError(f"{file} is not the model that this store was made with ({key} differs); embed anew")
    params, model = open_run(file.parent).params, Model.load(file)
    tasks, failed = find_inputs(paths, ("nirspec",))
    names, found = [], []
    for task in tasks:
        batch = read_batches(task, params)
        failed += batch.failed
        names += batch.star_id
        found.append(embed(model.encoders[task.instrument], model.scaler, batch.flux)[0])
    for path, row, reason in failed:
        say(f"set aside: {path} [{row}]: {reason}")
    if not names:
        raise DataError("none of the queries can be read")
    return names, np.concatenate(found)


def _of_stars(store: Store, stars: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names and embeddings of the first spectrum of each star that the store has."""
    wanted = dict.fromkeys(stars)
    found: dict[str, np.ndarray] = {}
    for _, table in store.blocks(["embedding", "star_id"]):
        names = table.column("star_id").to_pylist()
        for row in [row for row, name in enumerate(names) if name in wanted and name not in found]:
            found.setdefault(names[row], vectors(table.slice(row, 1))[0])
    if missing := [star for star in wanted if star not in found]:
        raise DataError(
            f"{store.folder} has no star {missing[0]!r}" + (f", and {len(missing) - 1} more" * (len(missing) > 1))
        )
    return list(found), np.stack(list(found.values()))
