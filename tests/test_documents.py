"""The code in the documents runs, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

from starclip_lib.data.instruments import APOGEE, NIRSPEC

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_own_instrument(trained, survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starclip_lib.run.Run.open", lambda params_file: trained)
    given = {
        "NIRSPEC": NIRSPEC,
        "APOGEE": APOGEE,
        "example": survey.nirspec.flux[3],
        "params_file": "",
        "folder": tmp_path,
        "names": survey.star_id,
        "labels": survey.labels,
        "label_errors": survey.label_errors,
        "apogee_flux": survey.apogee.flux,
        "apogee_mask": survey.apogee.mask,
        "nirspec_flux": survey.nirspec.flux,
        "nirspec_mask": survey.nirspec.mask,
    }
    for block in code(ROOT / "docs" / "own-instrument.md"):
        exec(block, given)
    assert given["prepared"].set_aside == {}
    assert abs(given["result"].labels["velocity"][0]) < 5  # it was at rest
    assert (tmp_path / "mine.h5").is_file()


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "data-formats.md"], ids=lambda page: page.name)
def test_reading_files(page: Path, trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    trained.folder.rename(trained.root / "runs" / "quick")
    monkeypatch.chdir(trained.root)
    (block,) = code(page)
    exec(block, {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
