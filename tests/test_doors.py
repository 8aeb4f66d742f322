"""Every door for files refuses what is no file and what breaks off: in one line that names it, leaving nothing behind.

The doors and their undamaged files are those of the campaign (`make campaign`), which tries thousands of other damages,
made from the declarations.  What a message has to say beside the name stands in the tests of each reader.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib.support.errors import StarclipError

sys.path.append(str(ROOT / "tests" / "campaign"))

import fits_cases
import hdf5_cases
import pandas_cases
import table_cases
import tensor_cases
import text_cases
from cases import Case

TRIED = ("missing", "a folder", "a pipe", "a circle", "the end of the world", "no bytes", "text", "noise", "cut at 0")
MODULES = (hdf5_cases, tensor_cases, text_cases, fits_cases, pandas_cases, table_cases)


def listing(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.suffix != ".lock"}


def check(case: Case, folder: Path) -> None:
    folder.mkdir()
    path = case.make(folder)
    before = listing(folder)
    with pytest.raises(StarclipError) as refusal:
        case.door(path)
    message = str(refusal.value)
    assert message.isprintable(), case.name  # one line
    assert path.name in message or path.parent.name in message, f"{case.name}: {message}"
    assert listing(folder) == before, case.name


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.partition("_")[0])
def test_what_is_no_file_or_breaks_off_is_refused(module, tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    cases = list(module.cases(tmp_path / "good", 0))
    whole = [case for case in cases if case.name.count(": ") == 1 and case.accepted == "never"]
    chosen = [case for case in whole if case.name.partition(": ")[2] in TRIED]
    halves = [case for case in cases if ": cut at " in case.name][10::25]  # about half of each kind of file
    assert len({case.door for case in (*chosen, *halves)}) >= 2
    for number, case in enumerate((*chosen, *halves)):
        check(case, tmp_path / str(number))
