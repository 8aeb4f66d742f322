"""`starclip doctor` says what is there, and what to do about what is not."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT

from starclip_lib.lab import cli, doctor


def findings(folder: Path) -> dict[str, doctor.Finding]:
    return {one.what: one for one in doctor.examine(folder)}


def test_this_machine_is_ready(capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "this machine is ready" in printed
    assert f"starclip {version('starclip')}" in printed


def test_little_memory_is_noted_and_too_little_a_problem(tmp_path: Path, monkeypatch) -> None:
    for gibibytes, verdict in ((4, "note"), (0.5, "problem"), (8, "ok")):
        memory = SimpleNamespace(available=gibibytes * 2**30, total=16 * 2**30)
        monkeypatch.setattr(psutil, "virtual_memory", lambda found=memory: found)
        assert findings(tmp_path)["memory"].verdict == verdict


def test_packages_are_compared_with_what_the_project_asks_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "numpy" else version(name))
    found = findings(tmp_path)["packages"]
    assert found.verdict == "problem"
    assert "numpy is 0.1, needs" in found.found
    assert "make setup" in found.cure


@pytest.mark.parametrize("threads", ["many", "0", "-1"])
def test_threads_must_be_a_number(threads: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert findings(tmp_path)["threads"].verdict == "problem"


def test_a_busy_machine_wants_one_thread(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    assert "export OMP_NUM_THREADS=1" in findings(tmp_path)["threads"].cure


def test_an_old_python_is_a_problem(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.2")
    assert findings(tmp_path)["Python"].cure.startswith(">=3.11 is needed")


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch, capsys) -> None:
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryDirectory", refuse)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "Permission denied" in printed.out
    assert "1 to mend" in printed.out
    assert printed.err.count("\n") == 1


def test_without_a_project_observing_still_works(tmp_path: Path) -> None:
    found = findings(tmp_path)["project"]
    assert (found.verdict, "starclip observe works" in found.cure) == ("note", True)


def test_a_missing_package_hides_nothing_else(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = findings(tmp_path)
    assert found["memory"].verdict == "problem"
    assert found["Python"].verdict == found["emulator"].verdict == "ok"
