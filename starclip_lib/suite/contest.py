"""The contest of methods that find stars again and read their labels, where theory is wrong as for real stars.

Every method sees the same views of the same test stars. docs/contest.md has the table and what each method knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from starclip_lib.metrics.retrieval import wilson_interval
from starclip_lib.run import Run
from starclip_lib.storage.csv_files import write_csv
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.suite import contestants
from starclip_lib.suite.contestants import DIRECTIONS, Contest, Entry
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import atomic_path, digest
from starclip_lib.support.threads import Callback

_MOST_VIEWS = 100


class _Record(BaseModel):
    """What is kept of a method that has run, with the digest of all it depends on."""

    key: str
    method: str
    knows: str
    hits: dict[str, float]
    labels: dict[str, dict[str, float]]
    train_seconds: float
    seconds_per_spectrum: float


# name: what it knows, and the function
METHODS: dict[str, tuple[str, Callable[[Contest], Entry]]] = {
    "overlap": ("nothing", contestants.by_overlap),
    "linear": ("pairs", contestants.by_linear_alignment),
    "labels": ("labels of each side", contestants.by_label_networks),
    "scratch": ("pairs", contestants.by_scratch),
    "contrastive": ("labels and pairs", contestants.by_contrast),
    "theory": ("physics", contestants.by_theory),
    "physics": ("physics and its doubts", contestants.by_physics),
    "errors": ("physics, pairs", contestants.by_learned_errors),
    "corrected": ("physics, labels, pairs", contestants.by_correction),
    "shared": ("physics, spectra without labels", contestants.by_shared_errors),
    "anchored": (
        "physics, labels, pairs, spectra without labels",
        contestants.by_anchor,
    ),
    "ideal": ("everything", contestants.by_ideal),
}


def check_names(names: Sequence[str]) -> None:
    """Raise DataError for the name of an unknown method."""
    if unknown := [name for name in names if name not in METHODS]:
        raise DataError(f"unknown method '{unknown[0]:.40}'; choose from {', '.join(METHODS)}")


def hold(
    run: Run, names: Sequence[str] = (), callback: Callback | None = None, n_views: int | None = None
) -> pd.DataFrame:
    """Run the methods that have not been run (all of `METHODS` if none is named), and write table and metrics.

    `n_views` of each NIRSpec star are judged, the run's `corruption.n_views` if it is None.

    Raises
    ------
    DataError
        For unknown names, a number of views outside 1 to 100, or a data set without pairs or without test stars.
    """
    check_names(names)
    if n_views is not None and not 1 <= n_views <= _MOST_VIEWS:
        raise DataError(f"--views {n_views}: give 1 to {_MOST_VIEWS} views of each NIRSpec star")
    names = list(names) or list(METHODS)
    run.build("data.h5")
    contest = Contest(run, n_views)
    folder = run.report / f"contest-{contest.telescope.n_views}"
    models = "starclip.ckpt", "mockstarclip.ckpt", "fit.ckpt"
    settings = contest.params.model_dump(mode="json", include={"corruption", "starclip", "mockstarclip", "limits"})
    key = digest([*map(run.identity, models), settings])
    for name in names:
        file = folder / f"{name}.json"
        if file.exists() and _read(file)["key"] == key:
            continue
        if callback is not None:
            callback(f"{name}: {METHODS[name][0]} ...")
        begin = time.perf_counter()
        entry = METHODS[name][1](contest)
        entry.train_seconds = time.perf_counter() - begin
        write_json(file, {"key": key, "method": name, "knows": METHODS[name][0], **vars(entry)})
    files = [folder / f"{name}.json" for name in METHODS]
    records = [_read(file) for file in files if file.exists()]
    records = [record for record in records if record["key"] == key]
    table = as_table(records)
    write_csv(table.reset_index(), run.report / "contest.csv")
    with atomic_path(run.report / "contest.md") as part:
        part.write_text(as_markdown(table), encoding="utf-8")
    if callback is not None:
        callback(table.filter(like="_to_").round(3).to_string(na_rep=""))
        callback(f"The whole table is in {run.report / 'contest.md'} and contest.csv beside it")
    run.save_metrics("contest", {record["method"]: {k: record[k] for k in ("hits", "labels")} for record in records})
    return table


def _read(file: Path) -> dict[str, Any]:
    """The record of a method. Raises DataError if it is damaged."""
    return read_json(file, _Record, damaged="delete it and run the contest again").model_dump()


def as_steps(table: pd.DataFrame, n_stars: int) -> dict[str, dict[str, Any]]:
    """What `figures.ladder` draws: method to direction to R@1 with its Wilson interval, one trial for each star."""
    return {
        str(name): {
            way: {"success@1": row[way], "interval": {"success@1": wilson_interval(row[way], n_stars)}}
            for way in DIRECTIONS
            if pd.notna(row[way])
        }
        for name, row in table.iterrows()
    }


def as_table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each method: R@1 by direction, RMSE and coverage by kind of spectra, seconds."""
    rows = {}
    for record in records:
        row: dict[str, Any] = {"knows": record["knows"], **{name: record["hits"].get(name) for name in DIRECTIONS}}
        for side, found in record["labels"].items():
            row |= {f"{side} {name}": value for name, value in found.items()}
        rows[record["method"]] = row | {k: record[k] for k in ("train_seconds", "seconds_per_spectrum")}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def as_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, with three significant digits."""
    lines = [["method", *table.columns], ["---"] * (1 + table.shape[1])]
    for name, row in table.iterrows():
        cells = ["" if pd.isna(x) else x if isinstance(x, str) else f"{x:.3g}" for x in row]
        lines.append([str(name), *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
