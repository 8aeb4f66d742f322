"""What the system refuses is named as such; only content that was read and found wrong is called damaged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from starclip_lib.storage import hdf5
from starclip_lib.storage.fits_files import opened_fits
from starclip_lib.storage.hdf5 import hdf5_file, opened_hdf5
from starclip_lib.storage.json_files import read_json
from starclip_lib.storage.tensor_files import load_tensors, save_tensors
from starclip_lib.support.errors import DataError, SystemFault
from starclip_lib.support.files import damage_refused, read_bytes
from starclip_lib.survey.pandas_files import read_frame_pickle

CURE = "delete it and run again"


@pytest.mark.parametrize(
    "number",
    [errno.EACCES, errno.EPERM, errno.EAGAIN, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO, errno.ESTALE, errno.EMFILE],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("form", ["number", "text of HDF5", "cause"])
def test_no_refusal_is_damage(number: int, form: str) -> None:
    plain = OSError(number, os.strerror(number))
    error: Exception = plain
    text = f"Can't read data (file read failed: time = x, errno = {number}, error message = 'y')"
    if form == "cause":
        error = ValueError("the library could not read it")
        error.__cause__ = plain
    elif form == "text of HDF5":
        error = OSError(text)
    with pytest.raises(SystemFault) as caught, damage_refused("a.h5", "is damaged", CURE):
        raise error
    assert str(caught.value).startswith("a.h5: ")
    assert "damaged" not in str(caught.value)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [OSError("file signature not found"), ValueError("bad"), OSError(errno.EINVAL, "seek"), KeyError("x"), EOFError()],
    ids=repr,
)
def test_what_was_read_and_is_wrong_is_damage_with_its_cure(error: Exception) -> None:
    with pytest.raises(DataError, match=r"^a\.h5 is damaged \(.*\); delete it and run again$"):  # noqa: SIM117
        with damage_refused("a.h5", "is damaged", CURE):
            raise error


def write_file(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    return path


def test_a_file_that_another_program_writes_is_said_to_be_open(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5")
    code = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with pytest.raises(SystemFault, match=r"a\.h5: another program has it open for writing; close it there"):  # noqa: SIM117
            with opened_hdf5(path, damaged=CURE):
                pass
        holder.communicate(b"\n")
    with opened_hdf5(path) as file:
        assert file["x"][2] == 2


def test_a_file_whose_writer_was_killed_names_the_tool_that_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    code = (
        f"import h5py, os; f = h5py.File({str(path)!r}, 'w', libver='latest'); f['x'] = 1; f.flush(); "
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with pytest.raises(SystemFault, match=r"was killed while it wrote; .*h5clear -s FILE"), opened_hdf5(path, "", CURE):
        pass


def test_hdf5_needs_no_locks_where_there_are_none(tmp_path: Path, monkeypatch) -> None:
    path, asked = write_file(tmp_path / "a.h5"), []
    real = h5py.File

    def locking(name: str, mode: str, locking: object, **options: object) -> h5py.File:
        asked.append(locking)
        if locking is not False:
            raise OSError(errno.ENOLCK, "unable to lock file, errno = 37")
        return real(name, mode, locking=False, **options)

    monkeypatch.setattr(hdf5.h5py, "File", locking)
    with hdf5_file(path) as file:
        assert file["x"][1] == 1
    assert asked == ["best-effort", False]


def refuse_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)


def test_a_file_of_a_colleague_is_not_damaged_whatever_its_kind(tmp_path: Path, monkeypatch) -> None:
    save_tensors(tmp_path / "a.ckpt", {"x": 1})
    for name in ("a.json", "a.fits", "a.pkl"):
        (tmp_path / name).write_bytes(b"{}")
    refuse_to_open(monkeypatch)
    for name, read in (
        ("a.json", lambda path: read_json(path, damaged=CURE)),
        ("a.fits", lambda path: opened_fits(path).__enter__()),
        ("a.ckpt", load_tensors),
        ("a.pkl", read_frame_pickle),
    ):
        with pytest.raises(SystemFault, match=rf"{name}: permission denied") as caught:
            read(tmp_path / name)
        assert "delete" not in str(caught.value)


def test_a_disk_that_fails_within_a_checkpoint_is_not_damage(tmp_path: Path, monkeypatch) -> None:
    save_tensors(tmp_path / "a.ckpt", {"x": 1})

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("starclip_lib.storage.tensor_files.zipfile.ZipFile", fail)
    with pytest.raises(SystemFault, match=r"a\.ckpt: the disk does not answer"):
        load_tensors(tmp_path / "a.ckpt")


def test_a_json_file_that_is_a_folder_is_not_advised_to_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DataError, match=r"a\.json is a folder, not a file$"):
        read_json(tmp_path / "a.json", damaged=CURE)


def test_files_that_declare_no_size_are_bounded() -> None:
    with pytest.raises(DataError, match="has more bytes than such a file can have"):
        read_bytes("/proc/self/maps", 10)
