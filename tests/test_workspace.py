"""`starclip new`: a folder to work in, and what is said when the package has moved on."""

from __future__ import annotations

import re
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nirspec_files import spec1d_bytes

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.lab import cli
from starclip_lib.lab.workspace import RECORD, differences, new_workspace, notice, update_workspace
from starclip_lib.run import Run
from starclip_lib.storage.json_files import read_json, write_json
from starclip_lib.support.errors import DataError


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    new_workspace(tmp_path / "my-stars")
    return tmp_path / "my-stars"


def aged(workspace: Path, *names: str) -> None:
    """As if an earlier version had made it, with other files of these names."""
    record = read_json(workspace / RECORD)
    for name in names:
        (workspace / name).write_text("as it was")
        record["files"][name] = "0" * 64  # and yet others when it was made
    write_json(workspace / RECORD, {**record, "version": "0.1.0"})


def test_a_workspace_is_a_project(workspace: Path, monkeypatch) -> None:
    monkeypatch.chdir(workspace)
    for folder in ("notebooks", "params"):
        names = {path.name for path in (ROOT / folder).iterdir() if path.suffix in (".py", ".ipynb", ".yaml")}
        assert {path.name for path in (workspace / folder).iterdir()} == names
    assert Run.open("params/quick.yaml").root == workspace
    assert not differences(workspace)
    assert not notice(workspace)
    assert "my-stars" in (workspace / "README.md").read_text()


def test_its_documents_are_where_notebooks_look_for_them(workspace: Path) -> None:
    for notebook in (workspace / "notebooks").glob("*.py"):
        for target in re.findall(r"\]\((\.\./[^)#]+|\w+\.ipynb)", notebook.read_text()):
            assert (notebook.parent / target).exists(), (notebook.name, target)


@pytest.mark.parametrize("what", ["file", "full"])
def test_nothing_is_overwritten(tmp_path: Path, what: str, capsys) -> None:
    place = tmp_path / "here"
    if what == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    assert cli.main(["new", str(place)]) == 1
    assert "give the workspace another name" in capsys.readouterr().err
    assert (place if what == "file" else place / "mine.txt").read_text() == "mine"


def test_an_empty_folder_will_do(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert cli.main(["new", "."]) == 0
    assert (tmp_path / "empty" / "params" / "quick.yaml").is_file()
    assert cli.main(["new", "."]) == 1
    assert "starclip new . --update" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_old_workspace_says_what_differs_and_stays_as_it_is(workspace: Path, monkeypatch, capsys) -> None:
    aged(workspace, "params/small.yaml")
    assert differences(workspace) == {"params/small.yaml": "newer in the package; edited here, left as it is"}
    monkeypatch.chdir(workspace)
    assert cli.main(["evaluate", "quick"]) == 1  # nothing was run; but this comes first
    printed = capsys.readouterr()
    assert "was made by starclip 0.1.0" in printed.out
    assert "params/small.yaml" in printed.out
    assert "starclip new . --update" in printed.out
    assert (workspace / "params" / "small.yaml").read_text() == "as it was"


def test_an_update_leaves_what_was_edited(workspace: Path, capsys) -> None:
    record = read_json(workspace / RECORD)
    old, edited, own = "params/small.yaml", "params/quick.yaml", "params/mine.yaml"
    for name in (old, edited):
        (workspace / name).write_text("as it was")
        record["files"][name] = sha256(b"as it was").hexdigest()
    (workspace / edited).write_text("my own settings")
    (workspace / own).write_text("name: mine")
    record["files"]["params/gone.yaml"] = "0" * 64
    write_json(workspace / RECORD, {**record, "version": "0.1.0"})
    said: list[str] = []
    update_workspace(workspace, said.append)
    assert (workspace / old).read_bytes() == (ROOT / old).read_bytes()
    assert (workspace / edited).read_text() == "my own settings"
    assert (workspace / own).read_text() == "name: mine"
    assert any(edited in line and "edited here" in line for line in said)
    assert any("gone" in line and "no longer" in line for line in said)
    assert differences(workspace) == {}  # said once
    assert notice(workspace) == ""
    update_workspace(workspace, said.append)
    assert (workspace / edited).read_text() == "my own settings"


def test_a_record_cannot_lead_out_of_the_workspace(workspace: Path) -> None:
    outside = workspace.parent / "outside.txt"
    outside.write_text("not yours")
    record = read_json(workspace / RECORD)
    record["files"]["../outside.txt"] = "0" * 64
    write_json(workspace / RECORD, record)
    update_workspace(workspace, lambda line: None)
    assert outside.read_text() == "not yours"


def test_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a workspace: .* starclip new"):
        update_workspace(tmp_path, print)


def test_a_run_goes_by_its_name(workspace: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(workspace)
    assert cli.main(["evaluate", "quick"]) == 1
    assert "runs/quick" in capsys.readouterr().err
    assert cli.main(["evaluate", "quik"]) == 1
    assert "params/quik.yaml: no such parameter file" in capsys.readouterr().err


BLOCKED = """
import sys
sys.modules |= dict.fromkeys({blocked!r})
from starclip_lib.lab.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_extras(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command where only what a bare `pip install starclip` brings can be imported."""
    bare = {"numba", "traitlets", "tornado"}
    wanted = [line for line in requires("starclip") or () if re.search("extra == .(notebooks|browse)", line)]
    bare |= {line.partition("~=")[0].replace("-", "_") for line in wanted}
    blocked = sorted(bare | {"umap", "IPython"})
    command = [sys.executable, "-c", BLOCKED.format(blocked=blocked), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)


def test_measuring_needs_none_of_the_extras(workspace: Path, survey: PairedSpectra, rng: np.random.Generator) -> None:
    spec1d_bytes(workspace / "spec1d_a.fits", survey.nirspec.flux[3], rng)
    result = without_extras(workspace, "observe", "spec1d_a.fits")
    assert result.stderr == ""
    assert result.returncode == 0
    assert (workspace / "observed" / "observed.ecsv").is_file()


def test_what_needs_an_extra_names_it(workspace: Path) -> None:
    for command, extra in (("run", "notebooks"), ("browse", "browse")):
        result = without_extras(workspace, command, "small")
        assert result.returncode == 1
        assert f"pip install 'starclip[{extra}]'" in result.stderr
        assert result.stderr.count("\n") == 1
