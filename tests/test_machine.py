"""Containers and clusters: limits, folders that cannot be written, long names, file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import ROOT

from starclip_lib.lab import doctor
from starclip_lib.support import files, machine
from starclip_lib.support.errors import DataError, SystemFault

GB = 10**9


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of our own, on a machine of 20 GB, 19 of them free, with 16 processors."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=19 * GB, total=20 * GB))
    monkeypatch.setattr(machine, "_affinity", lambda: 16)
    return tmp_path


def write(folder: Path, **contents: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_limits_of_version_2_hold_also_where_a_group_above_sets_them(groups: Path) -> None:
    write(groups, own="0::/job/step")
    write(groups / "job", memory__max="2500000000", memory__current="1000000000", cpu__max="150000 100000",
          memory__stat="anon 7\ninactive_file 200000000")  # fmt: skip
    write(groups / "job" / "step", memory__max="max", memory__current="900000000", cpu__max="max 100000")
    assert machine.memory() == (1.7 * GB, 2.5 * GB)
    assert machine.usable_cores() == 2
    with pytest.raises(DataError, match=r"^a needs 2\.0 GB of memory, this machine has 1\.7 GB left"):
        files.check_memory(2 * GB, "a")
    assert doctor._memory().found == "1.6 of 2.3 GiB free, the limit of this container"


def test_limits_of_version_1_hold_also_where_the_path_is_that_of_the_host(groups: Path) -> None:
    write(groups, own="5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc")
    write(groups / "memory", memory__limit_in_bytes="4000000000", memory__usage_in_bytes="3900000000",
          memory__stat="total_inactive_file 300000000")  # fmt: skip
    write(groups / "cpu", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert machine.memory() == (0.4 * GB, 4 * GB)
    assert machine.usable_cores() == 1


def test_without_limits_the_machine_counts(groups: Path) -> None:
    write(groups, own="5:memory:/\n3:cpu,cpuacct:/\n0::/")
    write(groups / "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="1")
    write(groups / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    write(groups, memory__max="max", memory__current="1", cpu__max="max 100000")
    assert machine.memory() == (19 * GB, 20 * GB)
    assert machine.usable_cores() == 16


def test_threads_follow_the_quota_unless_the_user_sets_them(groups: Path, monkeypatch) -> None:
    write(groups, own="0::/", cpu__max="300000 100000")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine.prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    machine.prepare_environment()
    assert os.environ["OMP_NUM_THREADS"] == "7"


def without_home(tmp_path: Path, **more: str) -> dict[str, str]:
    """What a process sees of its environment if HOME cannot be made, since a file stands in its way."""
    (tmp_path / "file").touch()
    known = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if key in os.environ}
    code = "import json, os, starclip_lib; print(json.dumps(dict(os.environ)))"
    env = {**known, "HOME": str(tmp_path / "file" / "home"), "TMPDIR": str(tmp_path), **more}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_caches_are_private_where_home_cannot_be_written(tmp_path: Path) -> None:
    found = without_home(tmp_path, MPLCONFIGDIR="/mine")
    folder = tmp_path / f"starclip-{os.getuid()}"
    assert folder.stat().st_mode & 0o077 == 0
    for name in ("NUMBA_CACHE_DIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        assert Path(found[name]).parent == folder
        assert Path(found[name]).is_dir()
    assert found["MPLCONFIGDIR"] == "/mine"


def test_a_cache_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    """numba runs what it finds in its cache."""
    shared = tmp_path / f"starclip-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert Path(without_home(tmp_path)["NUMBA_CACHE_DIR"]).parent != shared


def test_a_home_that_can_be_written_stays_in_use(tmp_path: Path) -> None:
    found = without_home(tmp_path, HOME=str(tmp_path / "new"))
    assert not {"NUMBA_CACHE_DIR", "MPLCONFIGDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"} & set(found)


def test_sockets_have_short_names(tmp_path: Path, monkeypatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert len(machine.socket_folder()) < 70
    assert "is too long for them" in doctor._sockets().found
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SystemFault, match=r"^TMPDIR .*x: a name of \d+ characters is too long .*export TMPDIR=/tmp"):
        machine.socket_folder()
    assert doctor._sockets().verdict == "problem"


def test_the_kernel_is_this_python(tmp_path: Path, monkeypatch) -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    from starclip_lib.lab.widgets.browser_page import PrivateKernelManager
    from starclip_lib.lab.widgets.kernels import NotebookKernel

    spec = {"argv": ["/bin/false"], "display_name": "another", "language": "python"}
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert KernelSpecManager().get_kernel_spec("python3").argv == ["/bin/false"]
    for manager in (NotebookKernel, PrivateKernelManager):
        assert manager(kernel_name="python3").kernel_spec.argv[0] == sys.executable
    found = doctor._kernel()
    assert (found.verdict, "/bin/false" in found.found) == ("note", True)


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.filterwarnings("error")
def test_without_flock_a_file_marks_the_folder(tmp_path: Path, no_flock: None) -> None:
    (tmp_path / files.LOCK).touch()  # as a finished run leaves it
    for _ in range(2):
        with files.locked(tmp_path) as note:
            assert "has no locks" in note
            record = (tmp_path / f"{files.LOCK}.held").read_text()
            assert f"pid={os.getpid()}" in record.split()
        assert not (tmp_path / f"{files.LOCK}.held").exists()
    assert doctor._locks(tmp_path).verdict == "note"
    assert [path.name for path in tmp_path.iterdir()] == [files.LOCK]


def marker(folder: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> Path:
    """What a process of another host, or one that was killed, leaves in a folder."""
    from filelock import _identity

    path = folder / f"{files.LOCK}.held"
    with files.locked(folder):
        record = path.read_text().replace(f"host={_identity.host_name()}", f"host={host}")
    path.write_text(record.replace(f"pid={os.getpid()}", "pid=4194304"))  # larger than any process can have here
    return path


@pytest.mark.parametrize("swap", [True, False], ids=["swap", "no swap"])
def test_a_copied_run_is_not_locked_for_ever(tmp_path: Path, no_flock: None, monkeypatch, swap: bool) -> None:
    monkeypatch.setattr(files, "LEASE", 0.3)
    marker(tmp_path, monkeypatch, "elsewhere")
    if not swap:  # Lustre and NFS refuse to exchange two names
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *_: False)
    with files.locked(tmp_path) as note:
        assert note


def test_what_a_killed_process_of_this_host_left_holds_nothing_up(tmp_path: Path, no_flock: None, monkeypatch) -> None:
    from filelock import _identity

    marker(tmp_path, monkeypatch, _identity.host_name())
    with files.locked(tmp_path) as note:
        assert note


def test_a_process_that_works_keeps_its_folder_without_flock(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "LEASE", 6.0)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        files.locked(tmp_path),
        pytest.raises(DataError, match="another process is working there"),
        files.locked(tmp_path),
    ):
        pass
