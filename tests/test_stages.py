"""The plan of a run: its order, and the code that each file depends on, found by following imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib import stages
from starclip_lib.settings.params import Params
from starclip_lib.stages import STAGES, code_of

PACKAGE = ROOT / "starclip_lib"
TRAINING = "starclip_lib.training.recipes"
CURATION = "starclip_lib.surveys.curation"


def digest(module: str, package: Path) -> str:
    return stages.code_digest.__wrapped__(module, package)  # without its memory: the files change


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "starclip_lib", ignore=shutil.ignore_patterns("__pycache__")))


def change_one_byte(path: Path) -> None:
    """In the middle of a file, or after the last line of code."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".py":
        content += b"#"
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_stages_come_after_their_inputs_and_name_settings_that_there_are() -> None:
    seen: set[str] = set()
    for file, stage in STAGES.items():
        assert set(stage.inputs) <= seen, file
        assert (file == "data.h5") == (stage.inputs == ())
        assert set(stage.sections) <= set(Params.model_fields), file
        seen.add(file)


def test_a_copy_has_the_digest_of_the_package(copy: Path) -> None:
    for stage in STAGES.values():
        maker = getattr(stage.make, "func", stage.make).__module__
        assert stage.code_digest() == digest(maker, copy) == digest(maker, PACKAGE)


@pytest.mark.parametrize(
    "file",
    [
        "training/recipes.py",
        "training/loop.py",
        "transforms/gaps.py",
        "transforms/nirspec-gaps.csv",
        "transforms/__init__.py",
        "models/embeddings.py",
        "settings/base.py",
        "data/emulator.py",
        "data/emulator.npz",
        "seeds.py",
        "errors.py",
    ],
)
def test_code_and_tables_that_a_training_uses_count(copy: Path, file: str) -> None:
    before = digest(TRAINING, copy)
    change_one_byte(copy / file)
    assert digest(TRAINING, copy) != before


@pytest.mark.parametrize(
    "file",
    [
        "__init__.py",
        "__init__.pyi",
        "cli.py",
        "run.py",
        "stages.py",
        "figures/spectra.py",
        "widgets/gallery.py",
        "widgets/live_figure.js",
        "pipeline/runner.py",
        "metrics/retrieval.py",
        "evaluation/transfer.py",
        "observed/files.py",
        "teaching/toy.py",
        "surveys/download.py",
        "surveys/simulate.py",
    ],
)
def test_what_a_training_does_not_use_does_not_count(copy: Path, file: str) -> None:
    before = digest(TRAINING, copy)
    change_one_byte(copy / file)
    assert digest(TRAINING, copy) == before


def test_a_new_file_counts_only_when_it_is_imported(copy: Path) -> None:
    before = digest(TRAINING, copy)
    (copy / "models" / "unused.py").write_text("x = 1\n")
    assert digest(TRAINING, copy) == before
    encoders = copy / "models" / "encoders.py"
    encoders.write_text(encoders.read_text() + "\n\ndef _later():\n    from starclip_lib.models import unused\n")
    with_import = digest(TRAINING, copy)
    (copy / "models" / "unused.py").write_text("x = 2\n")
    assert len({before, with_import, digest(TRAINING, copy)}) == 3


def test_the_data_set_depends_on_no_training_and_no_model(copy: Path) -> None:
    rooms = {path.relative_to(PACKAGE).parts[0] for path in code_of(CURATION)}
    assert rooms == {"data", "surveys", "settings", "errors.py", "files.py"}
    before = digest(CURATION, copy)
    for file in ("training/recipes.py", "models/encoders.py", "transforms/views.py", "seeds.py", "surveys/apogee.py"):
        change_one_byte(copy / file)
    assert digest(CURATION, copy) == before
    change_one_byte(copy / "surveys" / "simulate.py")
    assert digest(CURATION, copy) != before


def toy(folder: Path, **files: str) -> Path:
    """A package of a few files; `a__b` is a/b.py."""
    package = folder / "toy"
    for name, text in files.items():
        path = package.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for room in {path.parent for path in package.rglob("*.py")} | {package}:
        (room / "__init__.py").touch()
    return package


@pytest.mark.parametrize(
    "line",
    [
        "import toy.room.other",
        "import toy.room.other as x",
        "from toy.room import other",
        "from toy.room.other import value",
        "from toy.room.other import value as x, third",
        "def later():\n    from toy.room import other",
        "class Later:\n    def it(self):\n        import toy.room.other",
        "try:\n    import numpy\nexcept ImportError:\n    from toy.room.other import value",
    ],
)
def test_imports_are_seen_wherever_and_however_they_are_written(tmp_path: Path, line: str) -> None:
    package = toy(tmp_path, start=line, room__other="value, third = 1, 2\n", room__unused="")
    found = {str(path.relative_to(package)) for path in code_of("toy.start", package)}
    assert found == {"start.py", "room/__init__.py", "room/other.py"}


def test_names_that_a_folder_hands_on_are_followed(tmp_path: Path) -> None:
    package = toy(tmp_path, start="from toy.room import value", room__other="value = 1\n")
    (package / "room" / "__init__.py").write_text("from toy.room.other import value\n")
    found = {str(path.relative_to(package)) for path in code_of("toy.start", package)}
    assert found == {"start.py", "room/__init__.py", "room/other.py"}


def test_files_beside_a_module_count_if_it_names_them(tmp_path: Path) -> None:
    package = toy(tmp_path, room__start='PATH = "table.csv"\n')
    for name in ("table.csv", "other.csv"):
        (package / "room" / name).write_text("1")
    (package / "table.csv").write_text("1")
    found = {str(path.relative_to(package)) for path in code_of("toy.room.start", package)}
    assert found == {"room/__init__.py", "room/start.py", "room/table.csv"}


def test_modules_of_others_depend_on_nothing_here(tmp_path: Path) -> None:
    assert code_of("numpy.linalg") == []
    assert code_of("toy.start", toy(tmp_path, start="import sys\nimport starclip_lib.run\n")) == [
        tmp_path / "toy" / "start.py"
    ]


@pytest.mark.parametrize("module", [TRAINING, CURATION])
def test_the_closure_is_what_python_loads(module: str) -> None:
    """Nothing that is loaded is missing, and nothing else counts: these makers import nothing inside functions."""
    script = f"import sys, {module}\nprint(*sorted(name for name in sys.modules if name.startswith('starclip_lib.')))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    files = [path.relative_to(ROOT) for path in code_of(module) if path.suffix == ".py"]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert names == loaded


def test_a_word_that_names_a_folder_is_no_table(copy: Path) -> None:
    """Every module can be followed: a string such as "data" beside a folder of that name is only a string."""
    for path in copy.rglob("*.py"):
        module = ".".join(("starclip_lib", *path.relative_to(copy).with_suffix("").parts))
        assert all(found.is_file() for found in code_of(module, copy))
        digest(module, copy)
