"""The frozen benchmark of real spectra: its table, its download, and scores by an independent computation."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archive_server import serve
from conftest import ROOT

from starclip_lib.lab import benchmark, cli
from starclip_lib.support.errors import DataError
from starclip_lib.survey.benchmark import (
    NAMES,
    cache_folder,
    fetch,
    files_in,
    frozen_table,
    read_measured,
    score_lines,
    scores,
)
from starclip_lib.survey.download import Downloader, Unreachable

SHARED = ROOT.parent / "shared"


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Three small files as a benchmark, whose addresses are not set."""
    (tmp_path / "archive").mkdir()
    rows = []
    for k in range(3):
        content = f"star {k}".encode()
        (tmp_path / "archive" / f"{k}.fits").write_bytes(content)
        rows.append({"file": f"{k}.fits", "sha256": hashlib.sha256(content).hexdigest(), "address": f"{k}.fits"})
    return pd.DataFrame(rows)


def quick() -> Downloader:
    return Downloader(timeout=2, attempts=2, pause=0.01)


def test_the_table_is_whole() -> None:
    for name in NAMES:
        table = frozen_table(name)
        assert table["file"].is_unique
        assert table["sha256"].str.fullmatch(r"[0-9a-f]{64}").all()
        assert table["address"].str.match(r"https?://\S+\.fits$").all()
        assert table["usable"].dtype == bool
        assert table.loc[table["teff"].notna(), "label_source"].notna().all()
        assert table["teff"].dropna().between(3500, 5500).all()
        assert table["logg"].dropna().between(0, 4).all()
        assert table["fe_h"].dropna().between(-2.5, 0.5).all()
    with pytest.raises(DataError, match="unknown benchmark 'v9'; choose one of nirspec-giants-v1"):
        frozen_table("v9")


def test_files_are_fetched_once_and_checked(table: pd.DataFrame, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serve(tmp_path / "archive") as archive:
        table["address"] = archive.url + table["file"]
        assert fetch(table, cache, quick()) == []
        assert fetch(table, cache, quick()) == []
        assert set(archive.requests.values()) == {1}  # the second call found them
        (cache / "1.fits").write_bytes(b"altered")
        assert fetch(table, cache, quick()) == []
        assert archive.requests["1.fits"] == 2
        (tmp_path / "archive" / "2.fits").write_bytes(b"another version")
        (cache / "2.fits").unlink()
        (line,) = fetch(table, cache, quick())
        assert "SHA-256 differs" in line
        (tmp_path / "archive" / "2.fits").unlink()
        (line,) = fetch(table, cache, quick())
        assert "HTTP 404" in line
    paths, lines = files_in(table, cache)
    assert [path.name for path in paths] == ["0.fits", "1.fits"]
    assert lines == [f"1 of 3 files are not in {cache}: 2.fits"]
    with pytest.raises(Unreachable, match="is there a network"):
        fetch(table, cache, quick())


def test_files_that_are_there_are_found_by_name_and_hash(table: pd.DataFrame, tmp_path: Path) -> None:
    deep = tmp_path / "mine" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "archive" / "0.fits").rename(deep / "0.fits")
    (deep / "1.fits").write_bytes(b"something else of this name")
    paths, lines = files_in(table, tmp_path / "mine")
    assert paths == [deep / "0.fits"]
    assert "SHA-256 differs" in lines[0]
    assert lines[1].startswith("2 of 3 files are not in")
    with pytest.raises(DataError, match="holds none of the 3 files of the benchmark; --fetch downloads them"):
        files_in(table, ROOT / "params")


def test_scores_by_hand() -> None:
    """Five stars, one of them with two files; differences, pulls and the interval computed another way."""
    rng = np.random.default_rng(1)
    files = [f"{k}.fits" for k in range(6)]
    table = pd.DataFrame({"file": files, "star": list("abcdee"), "cluster": ["", "", "", "", "X", "X"]})
    table = table.assign(usable=True, label_source="", spectrum_source="", address="", sha256="")
    table = table.assign(teff=4500.0, teff_error=30.0, logg=2.0, logg_error=np.nan, fe_h=np.nan, fe_h_error=np.nan)
    off = rng.normal(0, 60, 6)
    measured = pd.DataFrame({"file": files, "teff": 4500 + off, "teff_error": 40.0, "logg": 2.1})
    found = scores(table, measured)
    stars = np.array([*off[:4], off[4:].mean()])
    assert set(found) == {"teff", "logg"}
    assert found["teff"]["n"].value == 5
    assert found["teff"]["mean"].value == pytest.approx(stars.mean())
    assert found["teff"]["rms"].value == pytest.approx(np.sqrt((stars**2).mean()))
    assert found["teff"]["pull"].value == pytest.approx(np.sqrt((stars**2).mean()) / 50)
    assert "pull" not in found["logg"]
    resampled = [stars[np.random.default_rng(k).integers(5, size=5)].mean() for k in range(3000)]
    expected = np.percentile(resampled, (2.5, 97.5))
    np.testing.assert_allclose((found["teff"]["mean"].low, found["teff"]["mean"].high), expected, atol=6)
    lines = score_lines(table, measured)
    assert re.match(r"Teff \[K\] +5 ", lines[1])
    assert "no errors given" in lines[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,teff\na,4500\n", "needs a column file and one of teff, logg, fe_h"),
        ("file,mass\na,1\n", "needs a column file and one of teff, logg, fe_h"),
        ("file,teff\na,4500\na,4600\n", "has two rows for a; give one answer for each file"),
        ("file,teff\na,hot\n", "column teff holds text, expected numbers"),
        ("file,teff,teff_error\na,4500,0\n", "column teff_error has errors of 0 or below"),
    ],
)
def test_slips_in_a_table_of_answers_get_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_measured(tmp_path / "my.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a folder of spectra, or --fetch"),
        (["sky", "--fetch", "nirspec-giants-v1"], "give a folder of spectra, or --fetch"),
        (["sky", "--folder", "sky"], "give --fetch nirspec-giants-v1, too"),
        (["--score"], "a score needs --table FILE --score"),
        (["--table", "my.csv"], "a score needs --table FILE --score"),
        (["--fetch", "nirspec-giants-v7"], "unknown benchmark 'nirspec-giants-v7'"),
        (["--table", "nowhere.csv", "--score"], "nowhere.csv is missing"),
    ],
)
def test_slips_of_the_command_get_one_line(arguments: list[str], message: str, capsys) -> None:
    assert cli.main(["benchmark-real", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_any_method_is_scored_from_its_table(tmp_path: Path, capsys) -> None:
    table = frozen_table("nirspec-giants-v1")
    some = table[table["usable"] & table["teff"].notna()]
    some.assign(teff=some["teff"] + 10, teff_error=20)[["file", "teff", "teff_error"]].to_csv(tmp_path / "my.csv")
    assert cli.main(["benchmark-real", "--table", str(tmp_path / "my.csv"), "--score"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"Teff \[K\] +{len(some)} +\+10 \[\+10, \+10\] +10 \[10, 10\]", printed)
    assert "1 of 12 spectra have no answer: spec1d_jw02609006001_03101_00002_source_2609_3.fits" in printed


def test_without_a_network_there_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / "starclip" / "x"
    table = frozen_table("nirspec-giants-v1").assign(address="http://127.0.0.1:9/x.fits")
    monkeypatch.setattr(benchmark, "frozen_table", lambda name: table)
    monkeypatch.setattr(benchmark, "fetch", lambda table, folder: fetch(table, folder, quick()))
    assert cli.main(["benchmark-real", "--fetch", "nirspec-giants-v1", "--output", str(tmp_path / "out")]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1
    assert "no answer from 127.0.0.1:9" in error[0]
    assert "--folder FOLDER takes files that are there" in error[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not (SHARED / "m71").is_dir(), reason="the spectra of the benchmark are not in ../shared")
def test_the_benchmark_runs_on_files_that_are_there(tmp_path: Path) -> None:
    lines: list[str] = []
    out = benchmark.frozen_benchmark("nirspec-giants-v1", tmp_path / "out", lines.append, SHARED / "m71")
    assert len(out) == 3
    assert "3 of 3 spectra with a ruined extraction were set aside" in lines
    assert any(line.startswith("M71: [Fe/H] -0.") for line in lines)
    scored = scores(frozen_table("nirspec-giants-v1"), read_measured(tmp_path / "out" / "answers.csv"))
    assert scored["teff"]["n"].value == 2
    assert scored["teff"]["rms"].value < 150
