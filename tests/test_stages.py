"""The stages of a run: their order, and the package that they depend on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib import stages
from starclip_lib.settings.params import Params
from starclip_lib.stages import STAGES

PACKAGE = ROOT / "starclip_lib"


def test_stages_come_after_their_inputs_and_name_settings_that_there_are() -> None:
    seen: set[str] = set()
    for file, stage in STAGES.items():
        assert set(stage.inputs) <= seen, file
        assert (file == "data.h5") == (stage.inputs == ())
        assert set(stage.sections) <= set(Params.model_fields), file
        seen.add(file)


def test_every_file_of_the_package_counts_and_none_that_python_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "starclip_lib", ignore=shutil.ignore_patterns("__pycache__")))
    monkeypatch.setattr(stages, "_PACKAGE", copy)
    digest = stages.package_digest.__wrapped__  # without its memory: the files change
    before = {digest()}
    (copy / "__pycache__").mkdir()
    for name in ("run.cpython-311.pyc", "transfer.flux-17.py311.nbi"):  # Python's and numba's caches
        (copy / "__pycache__" / name).write_bytes(b"x")
    assert {digest()} == before
    for name in ("training/recipes.py", "transforms/nirspec-gaps.csv", "physics/emulator.npz"):
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        before.add(digest())
    assert len(before) == 4
