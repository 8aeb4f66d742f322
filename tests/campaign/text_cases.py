"""Damaged JSON and YAML: the files of a run, and parameter files, every setting of which is given absurd values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cases import Case
from damage import NASTY, no_file_at_all, put

from starclip_lib.lab.report import compare, read_metrics
from starclip_lib.lab.runner import _memory
from starclip_lib.run import Run, open_run
from starclip_lib.settings.base import Section
from starclip_lib.settings.params import Params, load_params, merge_assignments
from starclip_lib.stages import STAGES

TEXTS = {
    "half": '{"a": ', "a list": "[1, 2]", "a number": "3", "null": "null", "a text": '"hello"', "NaN": '{"a": NaN}',
    "deep": "[" * 100_000 + "]" * 100_000, "deep mappings": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "digits": '{"a": ' + "9" * 100_000 + "}", "no UTF-8": b"\xff\xfe{}", "trailing": "{} {}", "twice": '{"run": 1, "run": {}}',
    "numbers for records": '{"data.h5": 3, "00_tour": 3}', "lists for records": '{"data.h5": [], "00_tour": []}',
    "null for records": '{"data.h5": null, "00_tour": null, "run": null}', "wrong records": '{"data.h5": {"identity": {}}, "00_tour": {"key": []}}',
    "no seconds": '{"00_tour": {"key": "a"}, "data.h5": {"identity": [1]}}', "infinite": '{"run": "a", "x": Infinity}',
}  # fmt: skip


def in_run(file: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for name in ("notebooks", "params", "runs/small", "reports/small"):
            (folder / name).mkdir(parents=True)
        path = folder / file
        return put(path, content if isinstance(content, bytes) else content.encode())

    return make


def run_of(path: Path) -> Run:
    root = next(parent for parent in path.parents if (parent / "notebooks").is_dir())
    return Run(Params(name="small"), root)


def open_stages(path: Path) -> Any:
    run = run_of(path)
    return [run.is_current(file) for file in STAGES if file != "data.h5"]


def open_notebooks(path: Path) -> Any:
    return {name: (record.key, record.seconds) for name, record in _memory(run_of(path)).items()}


def open_settings(path: Path) -> Any:
    return open_run(path.parent).params


def open_metrics(path: Path) -> Any:
    metrics = read_metrics(path)
    return compare(metrics, metrics)


def json_cases() -> Iterator[Case]:
    for file, door in (
        ("runs/small/stages.json", open_stages),
        ("runs/small/notebooks.json", open_notebooks),
        ("runs/small/settings.json", open_settings),
        ("reports/small/metrics.json", open_metrics),
    ):
        never = {
            "half",
            "a list",
            "a number",
            "null",
            "a text",
            "NaN",
            "deep",
            "deep mappings",
            "digits",
            "no UTF-8",
            "trailing",
        }
        for what, text in TEXTS.items():
            yield Case(f"{file}: {what}", in_run(file, text), door, "never" if what in never else "any")
    for what, make in no_file_at_all("metrics", ".json"):
        yield Case(f"metrics.json: {what}", make, open_metrics)
    whole = json.loads(Params(name="small").model_dump_json())
    for key in whole:
        for what, value in ABSURD.items():
            content = json.dumps({**whole, key: value})
            yield Case(
                f"settings.json: {key} {what}", in_run("runs/small/settings.json", content), open_settings, "any"
            )


ROOT = Path(__file__).resolve().parents[2]
ABSURD: dict[str, Any] = {
    "null": None, "true": True, "a text": "hello", "a list": [1, 2, 3, 4], "a mapping": {"a": 1}, "-1": -1, "0": 0, "0.5": 0.5, "1": 1,
    "1.0": 1.0, "1e30": 1e30, "-1e30": -1e30, "a trillion": 10**12, "2**200": 2**200, "nested": [[[[]]]], "empty": "",
}  # fmt: skip
YAML_ONLY = {
    ".inf": ".inf",
    "-.inf": "-.inf",
    ".nan": ".nan",
    "a date": "2026-11-26",
    "octal": "0o17",
    "many digits": "9" * 10_000,
}


def fields(section: type[Section] = Params, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting and section, with its default."""
    for name, field in section.model_fields.items():
        yield (*at, name), field.default
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, (*at, name))


def open_params(path: Path) -> str:
    params = load_params(path)
    dumped = params.model_dump()
    _all_sane(dumped)
    return params.model_dump_json()


def _all_sane(value: Any) -> None:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            _all_sane(item)
    elif isinstance(value, int | float):
        assert math.isfinite(value), value
        assert abs(value) <= 1e9, value
    elif isinstance(value, str):
        assert value.isprintable(), value
        assert len(value) <= 1000, value


def open_assignment(path: Path) -> str:
    text = path.read_bytes().decode("utf-8", "replace")
    return load_params(ROOT / "params" / "quick.yaml", merge_assignments([text])).model_dump_json()


def yaml_cases() -> Iterator[Case]:
    for at, default in fields():
        key = ".".join(at)
        lines = "".join(f"{'  ' * depth}{part}:\n" for depth, part in enumerate(at[:-1]))
        indent = "  " * (len(at) - 1)
        values = {**{what: json.dumps(value) for what, value in ABSURD.items()}, **YAML_ONLY}
        nasty = NASTY if isinstance(default, str) else {"markup": NASTY["markup"]}
        values |= {what: json.dumps(text) for what, text in nasty.items()}
        for what, value in values.items():
            text = f"{lines}{indent}{at[-1]}: {value}\n".encode()
            yield Case(
                f"setting {key}: {what}", lambda folder, t=text: put(folder / "mine.yaml", t), open_params, "any"
            )
        if isinstance(default, float | int) and not isinstance(default, bool):
            for value in (1e30, -1e30, 10**12):
                text = f"{lines}{indent}{at[-1]}: {value!r}\n".encode()
                yield Case(
                    f"setting {key}: absurd {value:g}", lambda folder, t=text: put(folder / "mine.yaml", t), open_params
                )
    bombs = {
        "laughs": "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
        "merges": "a: &a {x: 1}\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [*{chr(97 + n)}, *{chr(97 + n)}]}}\n" for n in range(24)),
        "recursion": "a: &a [*a]\n", "itself": "&a a: *a\n", "deep": "[" * 100_000, "deep lists": "- " * 20_000 + "a", "tabs": "\tname: a", "a tag": "!!python/object/apply:os.system [ls]",
        "a set": "!!set {a, b}", "binary": "name: !!binary aGVsbG8=", "two documents": "seed: 1\n---\nseed: 2\n", "a list": "- 1\n", "a text": "hello",
        "keys of lists": "? [1, 2]\n: 3\n", "numbers as keys": "1: 2\n", "twice": "seed: 1\nseed: 2\n", "a long line": "name: " + "x" * 900_000, "too long": "#" * 2**21,
        "no UTF-8": "name: \udcff", "NUL": "name: \0", "UTF-16": "name: a".encode("utf-16").decode("latin-1"), "reversed S/N": "corruption: {snr_min: 5000}",
        "reversed S/N of APOGEE": "data: {apogee: {snr_min: 5000}}", "all dead": "corruption: {dead_fraction: 1.0}", "all bad": "data: {apogee: {bad_pixels: 1.0}}",
        "a blue edge beyond the red": "corruption: {gaps: {blue_edge: 1.0e+9}}", "a rate beyond reason": "pretrain: {apogee: {learning_rate: 1.0e+30}}",
        "a device of Windows": "name: con", "a path": "name: ../../etc", "a hidden folder": "name: .git",
    }  # fmt: skip
    for what, text in bombs.items():
        content = text.encode("utf-8", "surrogateescape")
        yield Case(f"parameter file: {what}", lambda folder, c=content: put(folder / "mine.yaml", c), open_params)
    for what, make in no_file_at_all("mine", ".yaml"):
        accepted = "any" if what in ("nothing", "no bytes") else "never"
        yield Case(f"parameter file: {what}", make, open_params, accepted)
    for text in (
        "",
        "=",
        "a",
        "seed",
        "seed=",
        "seed=[",
        "=3",
        "a.b=1",
        ".=1",
        "..a=1",
        "seed=1=2",
        "seed=9" + "9" * 5000,
        "x" * 5000 + "=1",
    ):
        yield Case(f"--set {text[:40]}", lambda folder, t=text: put(folder / "set.txt", t.encode()), open_set, "any")


def open_set(path: Path) -> Any:
    from starclip_lib.support.errors import ConfigError

    try:
        return open_assignment(path)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error  # the message names the setting, not a file


def cases(folder: Path, seed: int) -> Iterator[Case]:
    yield from json_cases()
    yield from yaml_cases()
