"""The page of a run: metrics.json, checked against its contract, and index.html."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
from pydantic import BaseModel, Field
from scipy import stats

from starclip_lib.metrics.retrieval import RANKS
from starclip_lib.physics.labels import LABELS, PLAIN, UNITS
from starclip_lib.storage.json_files import parse_value, read_json
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path

DIRECTIONS = {
    "starclip": ("nirspec_to_apogee", "apogee_to_nirspec"),
    "mockstarclip": ("mock_to_extended", "extended_to_mock"),
}
_LARGEST = 1e300  # of numbers in a metrics.json: beyond are only mistakes, and integers that no float can hold
_ALL_DIRECTIONS = tuple(direction for directions in DIRECTIONS.values() for direction in directions)
EVALUATED = ("baselines", "methods", "information")  # sections that notebook 12 leaves
_MAKE_EVALUATED = "starclip evaluate PARAMS makes them"
_RETRIEVAL = (*(f"success@{k}" for k in RANKS), "mrr", "queries", "candidates")
# R@1, R@5, R@10, R@50 and MRR of the paper's Table 3.
PUBLISHED_RETRIEVAL = {
    "nirspec_to_apogee": (0.14, 0.14, 0.24, 0.57, 0.17),
    "apogee_to_nirspec": (0.15, 0.41, 0.56, 0.86, 0.28),
    "mock_to_extended": (0.06, 0.22, 0.35, 0.75, 0.19),
    "extended_to_mock": (0.08, 0.27, 0.40, 0.75, 0.16),
}


_Number = Annotated[float, Field(allow_inf_nan=False)]


class _ObservedStar(BaseModel):
    """A star observed, as the page shows it."""

    name: str
    verdict: str
    reason: str
    velocity: _Number
    sigma_velocity: _Number
    Teff: _Number
    sigma_Teff: _Number
    logg: _Number
    sigma_logg: _Number
    Fe: _Number
    sigma_Fe: _Number


class _Observed(BaseModel):
    """The section of observed stars."""

    stars: list[_ObservedStar]
    set_aside: dict[str, str]


def assemble_metrics(provenance: dict[str, Any], sections: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """Put metrics.json together. Raises DataError listing what the contract asks for and is not there or not finite."""
    if "observed" in sections:
        parse_value(sections["observed"], "metrics/observed.json of the run", _Observed, "delete it and run again")
    metrics = {**provenance, **sections, "seconds": seconds}
    wanted = [*contract(), *(key for key in evaluated_contract() if key[0] in sections)]
    problems = [".".join(key) for key in wanted if not _is_finite(metrics, key)]
    if problems:
        shown = ", ".join(problems[:8]) + (" ..." if len(problems) > 8 else "")
        raise DataError(f"metrics.json lacks a finite value for {len(problems)} keys: {shown}; run all notebooks again")
    return metrics


def contract() -> Iterator[tuple[str, ...]]:
    """Every number that metrics.json must hold after `starclip run`, as a path of keys."""
    for count in ("n_stars", "n_train", "n_val", "n_test"):
        yield "data", count
    for section, names in (
        ("encoders", ("apogee", "nirspec", "supervised_mock")),
        ("probing", ("starclip", "mockstarclip", "supervised_cnn")),
    ):
        for name in names:
            yield section, name, "n"
            for score in ("r2", "bias", "rmse"):
                for label in LABELS:
                    yield section, name, score, label
    for model, directions in (*DIRECTIONS.items(), ("raw", _ALL_DIRECTIONS), ("chance", _ALL_DIRECTIONS)):
        for direction in directions:
            for score in _RETRIEVAL:
                yield "retrieval", model, direction, score
    for instrument in ("nirspec", "apogee"):
        for label in LABELS:
            yield "limits", instrument, label
    for model in DIRECTIONS:
        yield "pca", model, "0"
        yield "pca", model, "1"


def evaluated_contract() -> Iterator[tuple[str, ...]]:
    """What it must hold besides in the sections of notebook 12, if they are there (`starclip evaluate`)."""
    simple = (("overlap", DIRECTIONS["starclip"]), ("cca", DIRECTIONS["starclip"]), ("ideal", _ALL_DIRECTIONS))
    for model, directions in simple:
        for direction in directions:
            for score in _RETRIEVAL:
                yield "baselines", "retrieval", model, direction, score
    for label in LABELS:
        for method in ("ridge", "PCA + ridge", "nearest spectra", "CNN"):
            yield "baselines", "probing", method, "rmse", label
        for limit in ("limit", "limit_extended"):
            yield "baselines", limit, label
    for direction in DIRECTIONS["starclip"]:
        for score in _RETRIEVAL:
            yield "methods", "network", direction, score
    for model in DIRECTIONS:
        yield "information", model, "nats"


def _is_finite(metrics: Any, key: tuple[str, ...]) -> bool:
    for part in key:
        if isinstance(metrics, list) and part.isdigit() and int(part) < len(metrics):
            metrics = metrics[int(part)]
        elif isinstance(metrics, dict) and part in metrics:
            metrics = metrics[part]
        else:
            return False
    return isinstance(metrics, int | float) and not isinstance(metrics, bool) and abs(metrics) < _LARGEST


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Read a metrics.json. Raises DataError if it is missing or damaged."""
    path = Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    metrics = read_json(path, dict[str, Any], "starclip run PARAMS makes it", "starclip run PARAMS makes it again")
    if not isinstance(metrics.get("run"), str):
        raise DataError(f"{path} is not the metrics.json of a run: it has no entry 'run'; starclip run makes one")
    return metrics


def with_interval(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, from two values on, the half width of its 95 % interval (Student's t)."""
    x = np.array(values, float)
    text = f"{x.mean():.{digits}f}"
    if len(x) > 1:
        text += f" ± {stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)):.{digits}f}"
    return text


def headlines(metrics: dict[str, Any]) -> list[str]:
    """The numbers a person wants first, one line each."""
    found = {d: metrics["retrieval"][m][d] for m, directions in DIRECTIONS.items() for d in directions}
    chance, probe = metrics["retrieval"]["chance"], metrics["probing"]["starclip"]
    lines = [
        f"{direction.replace('_to_', ' -> '):<20} R@1 {score['success@1']:.3f}  R@10 {score['success@10']:.3f}  "
        f"MRR {score['mrr']:.3f}  (chance R@1 {chance[direction]['success@1']:.4f}, {score['candidates']} candidates)"
        for direction, score in found.items()
    ]
    main = ", ".join(
        f"{name} {probe['rmse'][label]:.3g} {unit} (r2 {probe['r2'][label]:.3f})"
        for name, label, unit in (("Teff", "Teff", "K"), ("log g", "logg", "dex"), ("[Fe/H]", "Fe", "dex"))
    )
    return [*lines, f"linear probe, all views of a star: {main}"]


def write_index(report: Path, metrics: dict[str, Any]) -> Path:
    """Write index.html beside the notebooks' pages and figures."""
    return write_page(
        report / "index.html",
        "index",
        m=metrics,
        published=PUBLISHED_RETRIEVAL,
        directions=[(model, d) for model, names in DIRECTIONS.items() for d in names],
        ranks=RANKS,
        labels=list(zip(LABELS, PLAIN, UNITS, strict=True)),
        params=json.dumps(metrics["params"], indent=2),
        observed=metrics.get("observed", {"stars": [], "set_aside": {}}),
    )


def write_star_page(report: Path, star: dict[str, Any], neighbours: list[dict[str, Any]]) -> Path:
    """Write observed_NAME.html for one star."""
    return write_page(
        report / f"observed_{star['name']}.html",
        "star",
        star=star,
        neighbours=neighbours,
        labels=list(zip(LABELS, PLAIN, UNITS, strict=True)),
    )


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Write a page from one of the templates; what is put in is escaped."""
    loader = jinja2.PackageLoader("starclip_lib.lab", "templates")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader)
    page = environment.get_template(f"{template}.html.j2").render(**content)
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files need not be text
    return path


def compare(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Two metrics.json side by side: every number of the contract, the change, and what cannot be compared."""
    name_a, name_b = (one_line(metrics["run"])[:40] for metrics in (a, b))
    width = max(len(name_a), len(name_b), 10)
    lines = [f"{'':<46}{name_a:>{width}}{name_b:>{width + 2}}{'change':>{width + 2}}"]
    evaluated = [key for key in evaluated_contract() if key[0] in a and key[0] in b]
    wanted = [*contract(), *evaluated]
    for key in wanted:
        if _is_finite(a, key) and _is_finite(b, key):
            x, y = _value(a, key), _value(b, key)
            lines.append(f"{'.'.join(key):<46}{x:>{width}.4g}{y:>{width + 2}.4g}{y - x:>+{width + 2}.3g}")
    for name, metrics in ((name_a, a), (name_b, b)):
        if left := [".".join(key) for key in wanted if not _is_finite(metrics, key)]:
            shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
            lines.append(f"not compared, for {name} has no finite number there ({len(left)}): {shown}")
        if left := [section for section in EVALUATED if section not in metrics]:
            lines.append(f"not compared, for {name} has no {', '.join(left)}: {_MAKE_EVALUATED}")
    return "\n".join(lines)


def _value(metrics: Any, key: tuple[str, ...]) -> float:
    for part in key:
        metrics = metrics[int(part)] if isinstance(metrics, list) else metrics[part]
    return float(metrics)
