"""Tables and notebooks that users give: one reader with limits, and outputs that harm nothing."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import QTable
from conftest import ROOT

from starclip_lib.data.simulate import write_survey
from starclip_lib.data.tables import printable
from starclip_lib.lab import cli
from starclip_lib.observed.lsf import parse_lsf
from starclip_lib.observed.priors import read_priors
from starclip_lib.storage.csv_files import csv_header, read_csv, write_csv
from starclip_lib.support.errors import DataError, StarclipError, SystemFault
from starclip_lib.support.files import atomic_path, check_disk, safe_name, whole_folder
from starclip_lib.teaching.classroom import mark_returned, write_handouts

READERS = {
    "--lsf": lambda path: parse_lsf(str(path)),
    "--prior": lambda path: read_priors(path, {"a"}),
    "handout": lambda path: write_handouts([path], path.parent / "out"),
}


def odd(folder: Path, kind: str, ending: str) -> Path:
    path = folder / f"x{ending}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "huge", "folder", "missing"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_of_a_sensible_size_is_one_line(reader: str, kind: str, tmp_path: Path) -> None:
    path = odd(tmp_path, kind, ".ipynb" if reader == "handout" else ".csv")
    with pytest.raises(StarclipError, match=rf"{path.name}\b"):
        READERS[reader](path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a" + b"," * 3000, r"3,001 columns, more than 200"),
        (b'a,"\n",' + b"b," * 300, "columns, more than 200"),
        (b"a,b\n1,2\n1,2,3", "row 3 has 3 cells, the first row 2"),
        (b"a,a\n1,2", "two columns are named 'a'"),
        (b'a,b\n"1,2', "unexpected end of data"),
        (b"\xff\xfe\x00", "utf-8"),
        (b"", "No columns"),
    ],
    ids=["columns", "columns in two lines", "ragged", "twice", "quote", "bytes", "empty"],
)  # fmt: skip
def test_tables_that_are_none(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.csv cannot be read as a table of comma-separated values \(.*{message}"):
        read_csv(path)
    assert csv_header(path) == []


def test_tables_are_read_as_pandas_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffstar , teff ,logg\n007, 4500,\n  b,,1.5\n")
    table = read_csv(path, text=("star",))
    assert list(table.columns) == ["star", "teff", "logg"]
    assert table["star"].tolist() == ["007", "b"]
    np.testing.assert_array_equal(table["teff"], [4500, np.nan])


def test_a_table_as_large_as_may_be_takes_little_memory(tmp_path: Path) -> None:
    """8 MB of the smallest cells, read by a process that may take 3 GB of addresses in all."""
    path = tmp_path / "a.csv"
    path.write_text(",".join("abcdefgh") + "\n" + "1,2,3,4,5,6,7,8\n" * 520_000)
    code = f"from starclip_lib.storage.csv_files import read_csv; print(len(read_csv({str(path)!r})))"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, preexec_fn=limit, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.returncode) == ("520000", 0), done.stderr[-500:]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r="])
def test_no_cell_becomes_a_formula(start: str, tmp_path: Path) -> None:
    cell = f"{start}cmd|' /C calc'!A0"
    write_csv(pd.DataFrame({"name": [cell, "fine", "x"], "number": [-1.5, 2, 3]}), tmp_path / "a.csv")
    rows = list(csv.reader((tmp_path / "a.csv").open(newline="")))
    assert rows[1][0].startswith("'")
    assert rows[1][1] == "-1.5"
    assert rows[2][0] == "fine"
    assert safe_name(cell)[0] not in "=+-@"


def notebook(path: Path, *cells: tuple[str, str]) -> Path:
    content = {
        "cells": [{"cell_type": kind, "metadata": {}, "source": source} for kind, source in cells],
        "metadata": {}, "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "hidden",
    [
        "<details open>\nSECRET\n</details>",
        "<DETAILS><Summary>Solution</Summary>SECRET</DETAILS>",
        "<details><details>a</details>SECRET</details>",
        "   <details\n  class='a > b'>\n    SECRET\n   </details >",
        "<details>SECRET",
        "> <details>\n> SECRET\n> </details>",
        '<details data-x=">">SECRET</details>',
    ],
)
@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_no_solution_stays_in_a_handout(hidden: str, kind: str, tmp_path: Path) -> None:
    book = notebook(tmp_path / "x.ipynb", (kind, f"Before.\n\n{hidden}\n\nAfter."))
    text = write_handouts([book], tmp_path / "out")[0].read_text()
    assert "SECRET" not in text
    assert "Before." in text
    assert ("After." in text) == ("</" in hidden)


@pytest.mark.parametrize(
    "answer",
    ["answer = (\n    SECRET +\n    1\n)", "answer: float = SECRET", "answer=SECRET", "answer += SECRET",
     "é = 1; answer = SECRET", "if True:\n    answer = SECRET", "answer = b = SECRET",
     "%matplotlib inline\nanswer = SECRET", "print(answer := SECRET)"],
)  # fmt: skip
def test_no_answer_stays_in_a_handout(answer: str, tmp_path: Path) -> None:
    book = notebook(tmp_path / "x.ipynb", ("code", f'{answer}\nstarclip.check("00.1", answer)'))
    found = json.loads(write_handouts([book], tmp_path / "out")[0].read_text())["cells"][0]
    assert "SECRET" not in found["source"]
    assert 'starclip.check("00.1", answer)' in found["source"]
    assert found["outputs"] == []


def test_handouts_are_written_all_or_none(tmp_path: Path, capsys) -> None:
    good, bad = notebook(tmp_path / "a.ipynb", ("markdown", "x")), tmp_path / "b.ipynb"
    bad.write_text("{}")
    assert cli.main(["handout", str(good), str(bad), "--output", str(tmp_path / "out")]) == 1
    assert "b.ipynb is not a Jupyter notebook of format 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_marks_replace_nothing_but_marks(tmp_path: Path, capsys) -> None:
    book = notebook(tmp_path / "class" / "a.ipynb", ("code", "1"))
    (tmp_path / "class" / "data.csv").write_text("mine,too\n")
    before = book.read_text()
    for name, message in (("a.ipynb", "a name that ends in .csv"), ("data.csv", "is there and no table of marks")):
        assert cli.main(["mark", str(tmp_path / "class"), "--output", str(tmp_path / "class" / name)]) == 1
        assert message in capsys.readouterr().err
    assert (book.read_text(), (tmp_path / "class" / "data.csv").read_text()) == (before, "mine,too\n")
    for _ in range(2):
        assert cli.main(["mark", str(tmp_path / "class"), "--output", str(tmp_path / "marks.csv")]) == 0


def test_a_class_with_odd_files_is_marked(tmp_path: Path) -> None:
    notebook(tmp_path / "=1+1.ipynb", ("code", "1"))
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "loop.ipynb").symlink_to("loop.ipynb")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "deep.ipynb").write_text("[" * 100_000)
    marks = mark_returned(tmp_path).set_index("notebook")["mark"]
    assert marks["=1+1.ipynb"] == "no exercise in it"
    assert all(marks[name].startswith("cannot be read") for name in ("pipe.ipynb", "loop.ipynb", "deep.ipynb"))
    assert len(marks) == 4


def test_new_workspaces_at_odd_places(tmp_path: Path, capsys, monkeypatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert cli.main(["new", str(tmp_path / "loop")]) == 1
    assert "loop is a link that leads nowhere" in capsys.readouterr().err
    strange = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    assert cli.main(["new", strange]) == 0
    assert (Path(strange) / "README.md").read_text(encoding="utf-8")
    pipe = Path(strange) / "params" / "quick.yaml"
    pipe.unlink()
    os.mkfifo(pipe)
    assert cli.main(["new", strange, "--update"]) == 1
    assert "quick.yaml is a pipe, socket or device" in capsys.readouterr().err


def test_a_folder_of_results_is_written_all_or_none(tmp_path: Path) -> None:
    source = tmp_path / "out" / "input.ecsv"
    source.parent.mkdir()
    source.write_text("precious")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "out") as part:
        (part / "a.html").write_text(str(1 / len(list(part.iterdir()))))
    with (
        pytest.raises(DataError, match=r"input\.ecsv is one of the files to read"),
        whole_folder(tmp_path / "out", [source]) as part,
    ):
        [(part / name).write_text("new") for name in ("a.html", "input.ecsv")]
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"input.ecsv": "precious"}
    with whole_folder(tmp_path / "new" / "out") as part:
        (part / "a.html").write_text("a")
    assert [path.name for path in (tmp_path / "new" / "out").iterdir()] == ["a.html"]
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "other"):
        _ = 1 / 0
    assert not (tmp_path / "other").exists()


def test_texts_that_are_no_utf_8_can_be_written(tmp_path: Path) -> None:
    table = QTable({"file": [os.fsdecode(b"/data/caf\xe9/x.fits")], "n": [1]})
    printable(table).write(tmp_path / "a.ecsv", format="ascii.ecsv")
    assert QTable.read(tmp_path / "a.ecsv")["file"][0] == "/data/caf\\xdce9/x.fits"
    assert table["file"][0] != printable(table)["file"][0]  # a copy


def test_nothing_is_written_through_a_link_of_an_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".a.part.txt").symlink_to("precious")
    with atomic_path(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert ((tmp_path / "precious").read_text(), (tmp_path / "a.txt").read_text()) == ("mine", "new")


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path: Path, params, monkeypatch) -> None:
    path = tmp_path / "runs" / "x" / "data.h5"
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": 5 * 10**9})())
    with pytest.raises(DataError, match=r"^data\.n_stars 10,000,000 needs 1\.0 TB of disk, .* has 5\.0 GB left$"):
        write_survey(path, 10_000_000, 1, params.data)
    assert list(tmp_path.iterdir()) == []
    check_disk(10**9, path, "a")

    def refuse(place: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.disk_usage", refuse)
    with pytest.raises(SystemFault, match="permission denied"):
        check_disk(1, path, "a")
