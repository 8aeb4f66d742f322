"""Downloads from a server on loopback that fails in every way an archive can, and the data set made of them."""

from __future__ import annotations

import re
import socket
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from apogee_files import catalogue, write_aspcap
from archive_server import Archive, serve
from astropy.io import fits
from astropy.table import Table

from starclip_lib.data.curation import make_data_set
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.lab.cli import main
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings.data import ArchiveParams, DataParams
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import DataError
from starclip_lib.survey.apogee import real_examples
from starclip_lib.survey.apogee_dr17 import fetch_apogee
from starclip_lib.survey.download import Downloader, Missing, Unreachable
from starclip_lib.survey.http import wait_of

N = 48


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with serve(folder) as running:
        yield running


@pytest.fixture
def survey_archive(archive: Archive) -> Archive:
    """The archive's layout: a catalogue, and one spectrum for each of its stars."""
    table = catalogue(N)
    rng = np.random.default_rng(0)
    Table.from_pandas(table).write(archive.folder / "allStar-test.fits")
    for star in table.itertuples():
        path = archive.folder / star.TELESCOPE / star.FIELD / f"aspcapStar-dr17-{star.APOGEE_ID}.fits"
        write_aspcap(path, 0.9 + 0.005 * rng.standard_normal(8575), np.full(8575, 0.005))
    return archive


def accept(path: Path) -> None:
    """Any file will do."""


def starts_well(path: Path) -> None:
    if path.read_bytes()[:4] == b"XXXX":
        raise DataError(f"{path}: starts with XXXX")


def quick(**changes: float) -> Downloader:
    return Downloader(**{"timeout": 0.3, "attempts": 3, "pause": 0.01, **changes})


def test_truncated_file_is_completed_from_where_it_broke_off(archive: Archive, tmp_path: Path) -> None:
    content = np.random.default_rng(1).bytes(5_000_000)
    (archive.folder / "a.bin").write_bytes(content)
    archive.faults["a.bin"] = ["truncated", "truncated"]
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert (tmp_path / "a.bin").read_bytes() == content
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in archive.ranges]
    assert 2_000_000 < starts[0] < starts[1] < 5_000_000


@pytest.mark.parametrize("fault", ["slow", 500, 503, 429, "shut", "damaged"])
def test_passing_faults_are_survived(archive: Archive, tmp_path: Path, fault: str | int) -> None:
    (archive.folder / "a.bin").write_bytes(b"star" * 1000)
    archive.faults["a.bin"] = [fault, fault]
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", starts_well)
    assert (tmp_path / "a.bin").read_bytes() == b"star" * 1000
    assert archive.requests["a.bin"] == 3
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [("slow", "no byte for 0.3 s"), (500, "HTTP 500"), ("damaged", "damaged: a.bin: starts"), ("shut", "losed")],
)
def test_lasting_faults_are_named_and_leave_no_file(
    archive: Archive, tmp_path: Path, fault: str | int, message: str
) -> None:
    (archive.folder / "a.bin").write_bytes(b"star" * 1000)
    archive.faults["a.bin"] = [fault] * 9
    with pytest.raises(DataError, match=rf"a\.bin: .*{message}.*, in each of 3 attempts"):
        quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", starts_well)
    assert not (tmp_path / "a.bin").exists()
    assert archive.requests["a.bin"] == 3


def test_missing_and_forbidden_files_are_not_tried_again(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"a\.bin: the archive has no such file"):
        quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    archive.faults["b.bin"] = [403]
    with pytest.raises(DataError, match="HTTP 403"):
        quick().fetch(f"{archive.url}b.bin", tmp_path / "b.bin", accept)
    assert archive.requests == {"a.bin": 1, "b.bin": 1}


def test_a_part_that_is_too_long_is_thrown_away(archive: Archive, tmp_path: Path) -> None:
    (archive.folder / "a.bin").write_bytes(b"star")
    (tmp_path / ".a.bin.part").write_bytes(b"something longer")
    archive.faults["a.bin"] = [416]
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert (tmp_path / "a.bin").read_bytes() == b"star"


def test_no_network_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(Unreachable, match=r"no answer from 127\.0\.0\.1.*is there a network"):
        quick().fetch(f"{url}a.bin", tmp_path / "a.bin", accept)
    jobs = [(f"{url}{number}.bin", tmp_path / f"{number}.bin", accept) for number in range(100)]
    with pytest.raises(Unreachable):
        quick().fetch_all(jobs, "files")


def test_many_files_at_once_but_not_too_many(archive: Archive, tmp_path: Path) -> None:
    names = [f"{number}.bin" for number in range(30)]
    for name in names:
        (archive.folder / name).write_bytes(name.encode())
    archive.faults = {"3.bin": [500] * 3, "4.bin": [404], "5.bin": ["truncated"], "6.bin": ["slow"]}
    jobs = [(archive.url + name, tmp_path / name, accept) for name in names]
    missing, failed = quick(connections=3).fetch_all(jobs, "files")
    assert list(missing) == [f"{archive.url}4.bin"]
    assert list(failed) == [f"{archive.url}3.bin"]
    assert sum(path.suffix == ".bin" for path in tmp_path.iterdir()) == 28
    assert 1 < archive.most_at_once <= 3
    before = archive.requests.total()
    assert quick().fetch_all(jobs, "files") == ({}, {})  # only what was not there is asked for
    assert archive.requests.total() == before + 2


def test_a_server_that_fails_always_is_given_up(archive: Archive, tmp_path: Path) -> None:
    archive.faults = {f"{number}.bin": [500] * 9 for number in range(200)}
    jobs = [(f"{archive.url}{number}.bin", tmp_path / f"{number}.bin", accept) for number in range(200)]
    with pytest.raises(DataError, match="20 files failed in a row"):
        quick(attempts=1).fetch_all(jobs, "files")
    assert archive.requests.total() < 40


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("endless", r"a\.bin: it does not end \(1\.\d MB so far\)"),
        ("huge", r"a\.bin: 1,000 TB, more than such a file has"),
        (
            "trickle",
            r"a\.bin: only \d+ bytes in 0\.3? s, in each of 2 attempts|a\.bin: only \d+ bytes in \d s, in each",
        ),
    ],
)
def test_downloads_without_end_are_given_up(archive: Archive, tmp_path: Path, fault: str, message: str) -> None:
    (archive.folder / "a.bin").touch()
    archive.faults["a.bin"] = [fault] * 9
    with pytest.raises(DataError, match=message):
        quick(attempts=2, largest=10**6).fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert not (tmp_path / "a.bin").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("headers", r"a\.bin: .*, in each of 2 attempts"),
        ((200, {"Content-Length": "many"}, b"x"), r"its Content-Length is 'many', which is not a number of bytes"),
        ((200, {"Content-Length": "-5"}, b"x"), r"its Content-Length is '-5', which is not a number"),
        ((200, {"Content-Length": "\u00b2"}, b"x"), r"which is not a number of bytes, in each"),
        ((503, {"Retry-After": "\u00b2"}, b"x"), r"HTTP 503 .*, in each of 2 attempts"),
        ((503, {"Retry-After": "Fri, 99 Foo 2200 25:61:61 GMT"}, b"x"), r"HTTP 503 .*, in each of 2 attempts"),
        ((503, {"Retry-After": "-1"}, b""), r"HTTP 503 .*, in each of 2 attempts"),
        ((302, {"Location": "http://[::1"}, b"x"), r"it leads to 'http://\[::1', which is not an address"),
        ((302, {"Location": "file:///etc/passwd"}, b"x"), r"it leads to 'file:///etc/passwd', which is not an address"),
        ((302, {"Location": "http://" + "a" * 300 + "/"}, b"x"), r"which is not an address"),
        ((302, {"Location": "/a.bin"}, b""), r"a\.bin: more than 5 redirections"),
        ((404, {}, b""), r"the archive has no such file"),
    ],
)
def test_answers_that_make_no_sense_are_given_up(
    archive: Archive, tmp_path: Path, fault: str | tuple, message: str
) -> None:
    """Headers that do not end or cannot be read, and bodies without end where nobody asked for one."""
    (archive.folder / "a.bin").touch()
    archive.faults["a.bin"] = [fault] * 20
    with pytest.raises((DataError, Missing), match=message):
        quick(attempts=2, largest=10**6).fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert not (tmp_path / "a.bin").exists()


def test_a_server_may_ask_to_wait_until_a_date(archive: Archive, tmp_path: Path) -> None:
    (archive.folder / "a.bin").write_bytes(b"star")
    archive.faults["a.bin"] = [(429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"x")]
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert wait_of("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    assert 30 < wait_of(soon) <= 40
    assert wait_of("7") == 7


def test_redirections_are_followed(archive: Archive, tmp_path: Path) -> None:
    (archive.folder / "a.bin").touch()
    (archive.folder / "b.bin").write_bytes(b"star")
    archive.faults["a.bin"] = [(302, {"Location": "b.bin"}, b"")]  # with a body without end
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert (tmp_path / "a.bin").read_bytes() == b"star"


@pytest.mark.parametrize("fault", ["truncated", "untagged"])
def test_versions_of_a_file_are_never_joined(archive: Archive, tmp_path: Path, fault: str) -> None:
    """A catalogue that changes between two attempts; of a file without ETag and date nobody can tell."""
    old, new = (np.random.default_rng(seed).bytes(3_000_000) for seed in (1, 2))
    (archive.folder / "a.bin").write_bytes(old)
    archive.faults["a.bin"] = [fault]
    with pytest.raises(DataError, match="in each of 1 attempts"):
        quick(attempts=1).fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    (archive.folder / "a.bin").write_bytes(new)
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert (tmp_path / "a.bin").read_bytes() == new
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.bin"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_nothing_is_written_through_a_link(archive: Archive, tmp_path: Path, link: Callable) -> None:
    (archive.folder / "a.bin").write_bytes(b"star" * 100)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    link(tmp_path / ".a.bin.part", precious)
    (tmp_path / ".a.bin.tag").write_text(f'"{zlib.crc32(b"star" * 100)}"')
    quick().fetch(f"{archive.url}a.bin", tmp_path / "a.bin", accept)
    assert precious.read_bytes() == b"mine"
    assert (tmp_path / "a.bin").read_bytes() == b"star" * 100


def settings(archive: Archive, **changes: object) -> DataParams:
    access = ArchiveParams(
        base_url=archive.url, catalogue="allStar-test.fits", folder="dr17", timeout=0.3, attempts=2, pause=0.01
    )
    return DataParams(file="dr17/apogee-dr17.h5", n_stars=0, archive=access, **changes)


def test_the_data_set_is_rebuilt_from_the_archive(survey_archive: Archive, tmp_path: Path) -> None:
    said: list[str] = []
    table = catalogue(N)
    lost = f"{table['TELESCOPE'][7]}/{table['FIELD'][7]}/aspcapStar-dr17-{table['APOGEE_ID'][7]}.fits"
    (survey_archive.folder / lost).unlink()
    truncated = f"{table['TELESCOPE'][8]}/{table['FIELD'][8]}/aspcapStar-dr17-{table['APOGEE_ID'][8]}.fits"
    survey_archive.faults[truncated] = ["truncated"]
    path = fetch_apogee(settings(survey_archive), 7, tmp_path, said.append)
    data = PairedSpectra.read(path, with_ivar=True)
    assert data.star_id.tolist() == table["APOGEE_ID"].drop(7).tolist()
    assert any("1 of 48 spectra are left out" in line for line in said)
    assert lost in (tmp_path / "dr17" / "lost.txt").read_text()
    assert data.provenance["cuts"][0] == {"cut": "rows of the catalogue", "removed": 0, "left": N}
    assert len(pd.read_csv(tmp_path / "dr17" / "cuts.csv")) == 13
    np.testing.assert_allclose(data.labels[:, LABELS.index("Mg")], (table["MG_FE"] + table["FE_H"]).drop(7), atol=1e-5)
    np.testing.assert_allclose(data.nirspec.flux, default_emulator()(data.labels, NIRSPEC), atol=2e-6)
    assert data.apogee.mask.mean() == pytest.approx(1 - APOGEE.on_detector.mean())
    addresses = (tmp_path / "dr17" / "files.txt").read_text().split()
    assert len(addresses) == N
    assert addresses[1].endswith("lco25m/N6791-RV_MGA/aspcapStar-dr17-2M00000001+0000001.fits")

    before = survey_archive.requests.total()
    fetch_apogee(settings(survey_archive), 7, tmp_path, said.append)  # only the missing one is asked for again
    assert survey_archive.requests.total() == before + 1

    drawn = make_data_set(settings(survey_archive).changed(n_stars=40), 3, tmp_path)
    assert drawn.n_stars == 40
    assert drawn.split_counts() == {"train": 25, "val": 5, "test": 10}
    assert len(real_examples(settings(survey_archive), tmp_path, drawn)) == 3
    with pytest.raises(DataError, match="n_stars is 60, but only 47 stars pass the cuts"):
        make_data_set(settings(survey_archive).changed(n_stars=60), 3, tmp_path)


def test_failed_spectra_stop_the_data_set_unless_told_otherwise(survey_archive: Archive, tmp_path: Path) -> None:
    first = catalogue(N).iloc[0]
    place = f"{first['TELESCOPE']}/{first['FIELD']}/aspcapStar-dr17-{first['APOGEE_ID']}.fits"
    survey_archive.faults[place] = ["damaged"] * 9
    with pytest.raises(DataError, match=r"1 of 48 spectra could not be downloaded.*--skip-failed"):
        fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    assert not (tmp_path / "dr17" / "apogee-dr17.h5").exists()
    path = fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None, skip_failed=True)
    assert PairedSpectra.read(path).n_stars == N - 1


def test_an_archive_without_spectra_makes_no_data_set(survey_archive: Archive, tmp_path: Path) -> None:
    for path in survey_archive.folder.rglob("aspcapStar*"):
        path.unlink()
    with pytest.raises(DataError, match=r"48 of 48 spectra could not be had, 40 are needed; the first: .*HTTP 404"):
        fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    assert not (tmp_path / "dr17" / "apogee-dr17.h5").exists()


def test_the_spectrum_of_another_star_is_not_taken(survey_archive: Archive, tmp_path: Path) -> None:
    table = catalogue(N)
    places = [f"{s.TELESCOPE}/{s.FIELD}/aspcapStar-dr17-{s.APOGEE_ID}.fits" for s in table.itertuples()]
    for place, star in zip(places, table["APOGEE_ID"], strict=True):  # files that say whose they are
        with fits.open(survey_archive.folder / place, mode="update") as hdus:
            hdus[0].header["OBJ"] = star
    survey_archive.faults[places[5]] = [survey_archive.folder / places[6]] * 9
    message = f"holds the spectrum of {table['APOGEE_ID'][6]}, not of {table['APOGEE_ID'][5]}"
    with pytest.raises(DataError, match=re.escape(message)):
        fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    survey_archive.faults.clear()
    fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)


def test_nameless_copies_of_one_spectrum_are_seen(survey_archive: Archive, tmp_path: Path) -> None:
    table = catalogue(N)
    places = [f"{s.TELESCOPE}/{s.FIELD}/aspcapStar-dr17-{s.APOGEE_ID}.fits" for s in table.itertuples()]
    survey_archive.faults[places[5]] = [survey_archive.folder / places[6]]
    with pytest.raises(DataError, match="hold the same spectrum; delete both and fetch again"):
        fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    assert not (tmp_path / "dr17" / "apogee-dr17.h5").exists()


def test_a_file_that_was_damaged_on_disk_is_fetched_again(survey_archive: Archive, tmp_path: Path) -> None:
    fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    path = next((tmp_path / "dr17" / "spectra").rglob("*.fits"))
    good = path.read_bytes()
    path.write_bytes(good[:5000])
    before = survey_archive.requests.total()
    fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)
    assert path.read_bytes() == good
    assert survey_archive.requests.total() == before + 1


def test_cuts_that_leave_too_few_stars_stop_before_the_download(survey_archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 0 stars pass the cuts, 40 are needed"):
        fetch_apogee(settings(survey_archive, teff_range=(1.0, 2.0)), 7, tmp_path, lambda line: None)
    assert len(pd.read_csv(tmp_path / "dr17" / "cuts.csv")) == 13  # says which cut it was
    assert list(survey_archive.requests) == ["allStar-test.fits"]


def test_names_that_would_leave_the_folder_are_refused(survey_archive: Archive, tmp_path: Path) -> None:
    table = catalogue(N).assign(FIELD="../../etc")
    Table.from_pandas(table).write(survey_archive.folder / "allStar-test.fits", overwrite=True)
    with pytest.raises(DataError, match=r"'\.\./\.\./etc' cannot be part of a file name"):
        fetch_apogee(settings(survey_archive), 7, tmp_path, lambda line: None)


def test_a_run_on_a_file_of_real_stars_follows_that_file(survey_archive: Archive, run: Run) -> None:
    chosen = Params(data=settings(survey_archive))
    real = Run(chosen, run.root)
    with pytest.raises(DataError, match=r"data\.file dr17/apogee-dr17\.h5 is missing: make it with 'starclip fetch"):
        real.identity("data.h5")
    path = fetch_apogee(chosen.data, 7, run.root, lambda line: None)
    before = real.identity("data.h5")
    path.touch()
    assert real.identity("data.h5") != before


def test_the_command(
    survey_archive: Archive, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(run.root)
    (run.root / "params" / "apogee.yaml").write_text("data: {file: dr17/apogee-dr17.h5, n_stars: 0}\n")
    changes = [f"archive.base_url={survey_archive.url}", "archive.catalogue=allStar-test.fits", "archive.folder=dr17"]
    command = ["fetch", "apogee", *(word for change in changes for word in ("--set", f"data.{change}"))]
    assert main(command) == 0
    assert "dr17/apogee-dr17.h5 is ready: starclip run params/apogee.yaml" in capsys.readouterr().out
    assert main([*command, "--set", "data.n_stars=500"]) == 1
    assert "data.n_stars is 500, but only 48 stars pass the cuts" in capsys.readouterr().err
