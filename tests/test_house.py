"""Rules of the house that a reviewer would otherwise have to watch."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "starclip_lib"
MODULES = sorted(PACKAGE.rglob("*.py"))
# The floors from the bottom to the top (docs/design.md): a room may import from the floors below it, and within itself.
FLOORS = (
    ("support",), ("settings", "physics"), ("storage", "inference"), ("data",), ("transforms",), ("models",),
    ("metrics", "training"), ("observed",), ("stages",), ("run",),
    ("synthesis", "suite", "survey", "teaching"), ("building",), ("lab",),
)  # fmt: skip
BESIDE = {
    "synthesis",
    "suite",
    "survey",
    "teaching",
    "building",
    "lab",
}  # beside the core, which imports nothing from them
NO_TORCH = ("support", "settings", "data", "synthesis")
DRAWING = ("lab",)  # besides the notebooks
CORE = {name for floor in FLOORS for name in floor} - BESIDE
# What the floors alone would allow.
FORBIDDEN = {"metrics": {"training"}, "synthesis": CORE - {"support", "physics"}}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(path: Path) -> str:
    return name_of(path).split(".")[0]


def imported(source: str) -> set[str]:
    """Every module that a source file imports, wherever the import stands; of ours with what is taken from it."""
    names = set()
    for node in ast.walk(without_type_checking(ast.parse(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def without_type_checking(tree: ast.Module) -> ast.Module:
    """What only type checkers read loads nothing."""
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return tree


def rooms(source: str) -> set[str]:
    """The rooms of the package that a source file imports from; '__init__' for the front door."""
    ours = [name.split(".")[1:] for name in imported(source) if name.split(".")[0] == "starclip_lib"]
    return {parts[0] if parts and _is_room(parts[0]) else "__init__" for parts in ours}


def _is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def test_rooms_are_seen_however_they_are_imported() -> None:
    for line in ("from starclip_lib import run", "import starclip_lib.run", "from starclip_lib.run import Run"):
        assert rooms(line) == {"run"}
        assert rooms(f"def later():\n    {line}") == {"run"}
    assert rooms("from starclip_lib import __version__") == {"__init__"}


def test_set_aside_stars_are_told_by_their_reason() -> None:
    """The labels of a star that is set aside are NaN and never None, so asking for None would take it for measured."""
    places = [*MODULES, *(ROOT / "tests").glob("*.py"), *(ROOT / "notebooks").glob("*.py")]
    asking = re.compile(r"\b(?!self\b)\w+\]?\.(labels|covariance) is (not )?None")
    assert [path.name for path in places if asking.search(path.read_text())] == []


def test_the_tree_in_the_design_is_the_one_on_disk() -> None:
    tree = (ROOT / "docs" / "design.md").read_text().split("```")[1]
    words = set(re.findall(r"[\w.]+", tree))
    for path in MODULES:
        if path.stem != "__init__":
            assert {path.stem, path.name} & words, f"{name_of(path)} is not in the tree of docs/design.md"


def test_every_room_has_its_floor() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} == {room for floor in FLOORS for room in floor}


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p) != "__init__"], ids=name_of)
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    floor = next(number for number, names in enumerate(FLOORS) if room in names)
    below = {name for names in FLOORS[:floor] for name in names} - FORBIDDEN.get(room, set())
    found = rooms(path.read_text()) - {room}
    doors = {name for name in imported(path.read_text()) if name.startswith("starclip_lib.") and name.count(".") == 1}
    # the version, and nothing else: the front door stands above everything
    assert {name for name in doors if not _is_room(name.partition(".")[2])} <= {"starclip_lib.__version__"}
    assert found - {"__init__"} <= below


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    packages = {name.split(".")[0] for name in imported(path.read_text())}
    if room_of(path) in NO_TORCH and path.stem != "seeds":
        assert "torch" not in packages
    if room_of(path) not in DRAWING:
        assert not packages & {"matplotlib", "plotly", "ipywidgets"}
    if room_of(path) != "lab":
        assert not packages & {"papermill", "nbformat", "jupytext"}


def test_modules_stay_readable() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > 320} == {}


def test_no_module_touches_global_random_state_or_unpickles() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "np.random.seed" not in text, path
        assert "weights_only=False" not in text, path
        assert "import pickle" not in text, path
        assert ("from pickle import" in text) == (path.stem == "pandas_files"), path  # its restricted unpickler
        assert "manual_seed_all" not in text, path
        assert text.count("torch.manual_seed") == (path.stem == "seeds"), path  # inside fork_rng


def extras(project: dict, but: str = "") -> list[str]:
    """What the extras of the package bring, besides each other."""
    found = [one for name, needs in project["optional-dependencies"].items() if name != but for one in needs]
    return [requirement for requirement in found if not requirement.startswith("starclip[")]


def test_versions_are_bounded_and_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = [line for line in (ROOT / "lock.txt").read_text().splitlines() if not line.startswith("#")]
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lock}
    assert all(line.count("==") == 1 for line in lock)
    for requirement in [*project["dependencies"], *extras(project)]:
        name, bound, _ = requirement.partition("~=")
        assert bound, requirement
        assert name.lower() in locked, requirement


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {"cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "umap": "umap-learn",
             "ruamel": "ruamel.yaml", "lazy_loader": "lazy-loader", "jupyter_server": "jupyter-server",
             "jupyter_client": "jupyter-client"}  # fmt: skip
    declared = {requirement.partition("~=")[0] for requirement in [*project["dependencies"], *extras(project, "test")]}
    used = {name.split(".")[0] for path in MODULES for name in imported(path.read_text())}
    foreign = used - set(sys.stdlib_module_names) - {"starclip_lib"}
    assert {names.get(name, name) for name in foreign} <= declared


def test_figures_return_a_figure_and_neither_save_nor_show_it() -> None:
    for path in (PACKAGE / "lab" / "figures").glob("*.py"):
        text = path.read_text()
        assert not {"savefig", "write_html", "write_image", "show"} & {
            node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)
        }
        for node in ast.parse(text).body if path.stem not in {"style", "__init__"} else ():
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


def test_notebooks_open_the_front_door_before_torch() -> None:
    """Threads of a torch that is loaded first spin while they wait (`starclip_lib/__init__.py`)."""
    for path in (ROOT / "notebooks").glob("*.py"):
        lines = path.read_text().splitlines()
        torch = [number for number, line in enumerate(lines) if re.match(r"(import|from) torch", line)]
        ours = next(number for number, line in enumerate(lines) if re.match(r"(import|from) starclip_lib", line))
        assert not torch or ours < torch[0], path.name
