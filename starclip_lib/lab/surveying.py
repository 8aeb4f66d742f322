"""`starclip embed` and `starclip search`: any number of spectra into a store, and the nearest of some in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table

from starclip_lib.inference.posterior import WIDTH
from starclip_lib.models.checkpoint import Model
from starclip_lib.run import Run, open_run
from starclip_lib.storage.csv_files import write_csv
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path, locked, printable_path
from starclip_lib.support.threads import Callback
from starclip_lib.survey.embedding import Setup, describe_model, embed, fit_observed
from starclip_lib.survey.formats import SIMULATIONS, Input, vectors
from starclip_lib.survey.searching import found_table, search
from starclip_lib.survey.sources import NIRSPEC_FILES, Task, find_inputs, read_batches
from starclip_lib.survey.store import FAILED, Store

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
    callback: Callback,
) -> Store:
    """Embed whatever spectra are in files and folders; what is in the store already is left as it is."""
    place = printable_path(Path(os.path.realpath(output)), "the store")  # before anything is written
    model = printable_path(run.need("starclip.ckpt").resolve(), "the model")
    setup = Setup(str(place), str(model), describe_model(model), run.params.model_dump_json())
    tasks, unopened = find_inputs(paths, instruments, callback)
    if not tasks:
        raise DataError(f"none of {len(unopened)} files can be embedded; the first, {unopened[0][0]}: {unopened[0][2]}")
    with locked(output):
        store = Store.create(output, setup.about)
        todo, changed = _what_is_new(store, tasks, callback)
        lost: list[tuple[str, int, str]] = []
        if todo:
            from starclip_lib.survey.cluster import cluster, compute  # the only command that needs Dask

            with cluster(workers, scheduler, callback) as client:
                lost = compute(client, todo, setup, callback)
        for path, files in changed.items():
            store.drop(path, files)
        store = Store(output)
        n_failed = store.write_failed([*unopened, *lost])
    if not len(store):
        raise DataError(f"none of the spectra could be embedded; {output / FAILED} has the reason for each")
    callback(f"{store}" + (f"; {n_failed:,} were not embedded: {output / FAILED}" if n_failed else ""))
    return store


def search_store(
    folder: Path,
    queries: Sequence[Path],
    stars: Sequence[str],
    k: int,
    where: str,
    output: Path | None,
    callback: Callback,
) -> pd.DataFrame:
    """The nearest spectra of a store, of some that are in files or in the store itself."""
    if output is not None and output.suffix not in _TABLES:
        given = output.suffix or "no ending"
        raise DataError(f"--output: {given} is not a kind of table; give one of {', '.join(_TABLES)}")
    store = Store(folder)
    names, z, posterior, is_known = _of_files(store, queries, callback) if queries else _of_stars(store, stars)
    found = search(store, z, k, where, None if queries else names, posterior)
    table = found_table(store, names, found, is_known)
    callback(found.ranking)
    if found.ln_b is not None:
        for best in table[(table["number"] == 1) & (table["match"] == "no match")].itertuples():
            callback(
                f"{best.query}: no match: the posteriors exclude that even the best is the same star "
                f"(ln B = {best.ln_B:.0f})"
            )
        if (table["match"] == "not known").any():
            callback("match not known: a model of simulations does not know the errors of observed APOGEE spectra")
    columns = ["query", "number", "ln_B", "cosine", "match", "star_id", "instrument", "verdict", *_THREE]
    shown = table[[name for name in columns if name in table]]
    callback(shown.head(_SHOWN).to_string(index=False, float_format="{:.4g}".format))
    if len(table) > _SHOWN and output is None:
        callback(f"... {len(table) - _SHOWN} more: --output found.ecsv writes all")
    if output is not None:
        with atomic_path(output) as part:
            _write(table, part, output.suffix)
        callback(f"{output}: {len(table):,} rows")
    return table


def _write(table: pd.DataFrame, path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv":
        write_csv(table, path)
    else:
        Table.from_pandas(table).write(path, format=_TABLES[suffix], overwrite=True)


def _what_is_new(store: Store, tasks: list[Task], callback: Callback) -> tuple[list[Task], dict[Path, set[str]]]:
    """Tasks less the inputs that the store has; and parts with files that have changed since, which go afterwards."""
    now = {(one.file, task.instrument): one for task in tasks for one in task.inputs}
    done: set[tuple] = set()
    changed: dict[Path, set[str]] = {}
    for path, made in store.made_from().items():
        for one in made.inputs:
            if _has_changed(now.get((one.file, made.instrument), one), one):
                changed.setdefault(path, set()).add(one.file)
            else:
                done.add((one.file, one.start, one.stop, made.instrument))
    todo = []
    for task in tasks:
        new = tuple(one for one in task.inputs if (one.file, one.start, one.stop, task.instrument) not in done)
        if new:
            todo.append(Task(task.kind, task.instrument, new))
    if len(todo) < len(tasks):
        callback(f"{len(tasks) - len(todo)} of {len(tasks)} parts are there already")
    if files := {file for some in changed.values() for file in some}:
        callback(f"{len(files)} {'file has' if len(files) == 1 else 'files have'} changed since: embedded again")
    return todo, changed


def _has_changed(now: Input, before: Input) -> bool:
    """Whether a file, or what its spectra are beside those of other files, differs from what is in the store.

    What was told of it beside files that are not given now stays.
    """
    told = now.stars != before.stars or now.repeats != before.repeats
    return (now.size, now.modified) != (before.size, before.modified) or bool(told and (now.stars or now.repeats))


Queries = tuple[list[str], np.ndarray, np.ndarray | None, list[bool]]


def _of_files(store: Store, paths: Sequence[Path], callback: Callback) -> Queries:
    """Names, embeddings and posteriors of spectra in files, by the store's own model; whether it knows their errors."""
    file = Path(store.about.model)
    if not file.is_file():
        raise DataError(f"the model of this store is gone: {file}; restore it, or search by --star, which needs none")
    now = describe_model(file)
    for key in ("model_sha256", "emulator"):
        if getattr(now, key) != getattr(store.about, key):
            raise DataError(f"{file} is not the model of this store ({key} differs); embed into a new folder")
    params, model = open_run(file.parent).params, Model.load(file)
    tasks, failed = find_inputs(paths, ("nirspec",), callback)
    names: list[str] = []
    is_known: list[bool] = []
    z: list[np.ndarray] = []
    posterior: list[np.ndarray] = []
    for task in tasks:
        batch = read_batches(task, params)
        failed += batch.failed
        one = embed(model.encoders[task.instrument], batch.flux)
        good = np.ones(len(batch.star_id), bool)
        if store.about.posterior and batch.observed:
            fit_observed(one, batch.observed, model.encoders[task.instrument])
            good = np.isfinite(one.labels).all(axis=1)
            failed += [(batch.file[i], batch.row[i], one.verdict[i]) for i in np.flatnonzero(~good)]
        is_known += [task.kind == NIRSPEC_FILES or batch.simulated or bool(params.data.file)] * int(good.sum())
        names += [name for name, is_good in zip(batch.star_id, good, strict=True) if is_good]
        z.append(one.z[good])
        posterior.append(np.empty((0, WIDTH), np.float32) if one.posterior is None else one.posterior[good])
    for path, row, reason in failed:
        callback(one_line(f"set aside: {path} [{row}]: {reason}"))
    if not names:
        raise DataError("none of the queries can be read")
    return names, np.concatenate(z), np.concatenate(posterior) if store.about.posterior else None, is_known


def _of_stars(store: Store, stars: Sequence[str]) -> Queries:
    """The same of the first spectrum of each star that the store has."""
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
    is_known = (store.rows(np.array(list(places.values())))["labels_from"] != SIMULATIONS).tolist()
    return list(found), np.stack(list(found.values())), posterior, is_known
