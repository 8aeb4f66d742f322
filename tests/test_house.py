"""Rules of the house that a reviewer would otherwise have to watch."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

# Each module may import from those in front of it only (docs/design.md).
ORDER = (
    "settings_data", "settings", "config", "exercises", "files", "labels", "instruments", "emulator", "fitting",
    "spectra", "simulate", "download", "apogee", "datasets", "apogee_dr17", "foreign_files", "original",
    "continuum", "nirspec", "nirspec_files", "gaps", "corruptions", "distributed", "encoders", "contrastive",
    "calibration", "batches", "history", "training", "models", "embeddings", "recipes", "embed_run", "retrieval",
    "probing",
    "baselines", "atlas", "limits", "evaluation.resampling", "evaluation.probes", "evaluation.benchmark",
    "evaluation.clusters", "evaluation.strata", "evaluation.residuals", "evaluation.pairs", "evaluation.decoders",
    "evaluation.anomalies", "evaluation.densities", "evaluation.attenuation", "evaluation.transfer",
    "evaluation.scaling", "evaluation.ablation", "toy", "style", "evaluation.figures", "figures_spectra", "figures",
    "figures_browser", "figures_limits", "run", "observed", "gallery", "widgets", "live_figure", "similarity_panels",
    "similarity_browser", "corruption_explorer", "training_viewer", "browse", "stages", "forecast", "report",
    "pipeline", "refresh", "cli",
)  # fmt: skip
PACKAGE = ROOT / "starclip_lib"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("starclip_lib."):
            names.add(node.module.removeprefix("starclip_lib."))
    return names


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem != "__init__"], ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    before = ORDER[: ORDER.index(name_of(path))]
    assert imported(path) <= set(before)


def test_modules_stay_readable() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > 320} == {}


def test_no_module_touches_global_random_state_or_unpickles() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "np.random.seed" not in text, path
        assert "weights_only=False" not in text, path
        assert "import pickle" not in text, path
        assert ("from pickle import" in text) == (path.stem == "foreign_files"), path  # its restricted unpickler
        assert "manual_seed_all" not in text, path
        assert text.count("torch.manual_seed") == (path.stem == "encoders"), path  # inside fork_rng


def test_versions_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        assert "==" in requirement, requirement


def test_every_figure_function_returns_a_figure_and_is_documented() -> None:
    for name in ("figures", "figures_spectra", "figures_limits", "evaluation/figures"):
        for node in ast.parse((ROOT / "starclip_lib" / f"{name}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), node.name
                assert "Figure" in ast.unparse(node.returns), node.name


def public(node: ast.Module | ast.ClassDef) -> list[ast.FunctionDef | ast.ClassDef]:
    """Public functions and classes, methods included; properties explain themselves in their class."""
    found = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef) and not item.name.startswith("_"):
            found.append(item)
            if isinstance(item, ast.ClassDef):
                found += public(item)
    return [item for item in found if not any(isinstance(d, ast.Name) for d in item.decorator_list)]


def test_public_functions_are_documented() -> None:
    overrides = {"forward", "apply_"}  # documented where they are first declared
    missing = [
        f"{path.stem}.{item.name}"
        for path in MODULES
        for item in public(ast.parse(path.read_text()))
        if item.name not in overrides and not ast.get_docstring(item)
    ]
    assert missing == []
