"""Doors for files, and what the system may refuse."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib.lab.cli import main
from starclip_lib.storage.json_files import parse_json, read_json, write_json
from starclip_lib.support.errors import DataError, NotebookError, StarclipError, SystemFault, one_line, system_message
from starclip_lib.support.files import (
    as_path,
    atomic_path,
    check_memory,
    locked,
    read_bytes,
    regular_file,
    safe_name,
    size_text,
    unpacked_limit,
)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert regular_file(tmp_path / "a", limit=5) == tmp_path / "a"
    assert read_bytes(tmp_path / "a", 5) == b"12345"
    for path, message in (
        (tmp_path / "a", "a has 5 bytes, more than such a file can have"),
        (tmp_path, r"is a folder, not a file$"),
        (tmp_path / "pipe", "is a pipe, socket or device, not a file"),
        (Path("/dev/zero"), "/dev/zero is a pipe, socket or device"),
        (tmp_path / "b", "b is missing; make it"),
        (tmp_path / "a" / "b", "a/b is missing; make it"),
        (tmp_path / ("x" * 300), "is not a file: no file can have that name"),
    ):
        with pytest.raises(DataError, match=message):
            read_bytes(path, 4, "make it")
    for bad in ("", "a\0b", None, 3):
        with pytest.raises(DataError, match="is not a run"):
            as_path(bad, "a run")


def test_a_circle_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(SystemFault, match=r"a: symbolic links lead in a circle$"):
        regular_file(tmp_path / "a")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.ENAMETOOLONG, "the name is too long"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(SystemFault, match=rf"a\.json: {message}"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(SystemFault, match="a file stands where a folder belongs"):
        write_json(tmp_path / "runs" / "a.json", {})
    (tmp_path / "b.json").mkdir()
    with pytest.raises(SystemFault, match=r"b\.json: a folder stands where a file belongs"):
        write_json(tmp_path / "b.json", {})


def test_what_libraries_say_of_a_full_disk_is_understood(tmp_path: Path) -> None:
    text = "Can't write data (file write failed: errno = 28, error message = 'No space left on device')"
    with pytest.raises(SystemFault, match="x: the disk is full"), atomic_path(tmp_path / "x"):
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="something else"), atomic_path(tmp_path / "x"):
        raise RuntimeError("something else")
    assert (
        system_message(OSError(f"[Errno 28] {text}"), "y")
        == "y: the disk is full; make room, and the same command goes on"
    )
    assert "not enough memory" in system_message(MemoryError())


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        code = f"from starclip_lib.support.files import locked\nwith locked({str(tmp_path / 'run')!r}): pass"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "run: another process is working there; wait until it is done" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("<img src=x onerror=alert(1)>", "img_src_x_onerror_alert_1"),
        ("M71 \u202e152", "M71_152"),
        ("a\0b/../c", "a_b_.._c"),
        ("x" * 3000, "x" * 80),
        ("con", "con_"),
        ("LPT1.fits", "LPT1.fits_"),
        ("...", "unnamed"),
        ("2M19534827+1845166", "2M19534827+1845166"),
    ],
)
def test_names_are_harmless_once_they_are_inside(name: str, plain: str) -> None:
    assert safe_name(name) == plain


def test_messages_are_one_line() -> None:
    assert str(DataError("a\n  b\x1b[31m \u202ec")) == "a b\\x1b[31m \\x202ec"
    assert len(str(StarclipError("x" * 10_000))) < 1300
    assert str(NotebookError("a\nb")) == "a\nb"
    assert one_line("") == ""


def test_sizes_for_people_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [size_text(n) for n in (5, 1500, 25_000_000, 3.2e9)] == ["5 bytes", "1.5 kB", "25 MB", "3.2 GB"]
    assert unpacked_limit(0) == 256 * 2**20
    assert unpacked_limit(2**20) == (256 + 50) * 2**20
    check_memory(1000, "a")
    with pytest.raises(DataError, match=r"^data\.h5 needs 1,000,000 TB of memory, this machine has \d"):
        check_memory(1e18, "data.h5")


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 100_000, "NaN", '{"a": Infinity}', "9" * 10_000, b"\xff", '{"a": 1} x'],
    ids=lambda text: str(text[:8]),
)
def test_json_that_is_none(text: str | bytes) -> None:
    with pytest.raises(DataError, match=r"^a\.json is not JSON"):
        parse_json(text, "a.json")


def test_json_of_another_kind_names_the_key() -> None:
    assert parse_json('{"a": {"b": 1}}', "x", dict[str, dict[str, int]]) == {"a": {"b": 1}}
    with pytest.raises(DataError, match=r"^x does not hold what it should: a\.b: input should be a valid integer"):
        parse_json('{"a": {"b": "c"}}', "x", dict[str, dict[str, int]])


def test_a_full_output_is_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "starclip_lib.lab.cli", "compare", str(tmp_path), str(tmp_path)]
    metrics = {"run": "a", "data": {"n_stars": 3}}
    write_json(tmp_path / "metrics.json", metrics)
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    what = "starclip: error: standard output cannot be written: the disk is full"
    assert done.stderr == f"{what}; make room, and the same command goes on\n"


def test_the_output_may_not_be_one_of_the_inputs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.h5"
    path.write_bytes(b"precious")
    words = [
        "import-original",
        *(word for key in ("jwst", "allstar", "spectra", "output") for word in (f"--{key}", str(path))),
    ]
    assert main(words) == 1
    assert "mine.h5 is one of the files to read; give it another name" in capsys.readouterr().err
    assert path.read_bytes() == b"precious"
