"""The code in the documents runs, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nirspec_files import spec1d_bytes
from ruamel.yaml import YAML

from starclip_lib import __version__
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.lab.arguments import parser
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.run import Run
from starclip_lib.settings.emulator import load_emulator_params
from starclip_lib.settings.params import load_params, merge_assignments
from starclip_lib.survey.formats import MODEL, About, Input, Part, write_part
from starclip_lib.survey.store import Store

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
GUIDES = [ROOT / "README.md", ROOT / "docs" / "data-formats.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The lines of indented and fenced blocks that call `starclip`."""
    text = re.sub(r"```python\n.*?```", "", page.read_text(), flags=re.DOTALL)
    lines = re.findall(r"^(?:    |(?=\w|\.venv)).*$", text, re.MULTILINE)
    found = [re.search(r"(?:^|&& |    )(?:\.venv/bin/)?(starclip [a-z][^#&]*)", line) for line in lines]
    return [match[1].strip() for match in found if match and not line_of_prose(match.string)]


def line_of_prose(line: str) -> bool:
    return not line.startswith("    ") and not re.match(r"(\.venv/bin/)?starclip |cd ", line)


def code(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.fixture
def quick(trained: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The finished run under the name that the documents use, with its project around us."""
    params = trained.params.changed(name="quick")
    file = trained.root / "params" / "quick.yaml"
    YAML().dump(params.model_dump(mode="json"), file)
    trained.folder.rename(trained.root / "runs" / "quick")
    monkeypatch.chdir(trained.root)
    return Run(params, trained.root, file)


def test_own_instrument(quick: Run, survey: PairedSpectra, tmp_path: Path) -> None:
    given = {
        "NIRSPEC": NIRSPEC,
        "APOGEE": APOGEE,
        "example": survey.nirspec.flux[3],
        "params_file": quick.params_file,
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
    (row,) = given["table"]
    assert (row["name"], row["verdict"]) == ("my star", "good")
    assert abs(float(row["velocity"].value)) < 5  # it was at rest
    assert given["run"].params.observed.fwhm == 4.4
    assert (tmp_path / "mine.h5").is_file()


def store_of(run: Run, n: int) -> None:
    """The folder `survey`: a store of the run's first NIRSpec spectra, with their own labels."""
    (z, posterior), labels = run.space.point(run.data.nirspec.flux[:n]), run.data.labels[:n].astype(float)
    what = {"model": "starclip.ckpt", "model_sha256": "0" * 64, "emulator": "none", "package": "none"}
    about = About(**what, dim=z.shape[1], posterior=posterior is not None)
    store = Store.create(run.root / "survey", about)
    rows = {"star_id": run.data.star_id[:n], "file": ["data.h5"] * n, "row": range(n), "instrument": ["nirspec"] * n}
    rows |= {"verdict": ["good"] * n, "labels_from": [MODEL] * n, "from_prior": [""] * n}
    part = Part(model_sha256="0" * 64, instrument="nirspec", rows=n, inputs=(Input("data.h5", 1, 1, 0, n),))
    write_part(store.folder, about, part, rows, z, labels, np.zeros((n, 20)), posterior)


@pytest.mark.parametrize("page", [page for page in GUIDES if code(page)], ids=lambda page: page.name)
def test_code_of_the_guides(page: Path, quick: Run, rng: np.random.Generator, capsys: pytest.CaptureFixture) -> None:
    sky = quick.root / "folder" / "with" / "fits" / "files"
    sky.mkdir(parents=True)
    spec1d_bytes(sky / "spec1d_star.fits", quick.data.nirspec.flux[3], rng)
    shutil.copy(sky / "spec1d_star.fits", quick.root)
    given = {"example": quick.data.nirspec.flux[3]}
    store_of(quick, 20)
    for block in code(page):
        exec(block, given)
    assert capsys.readouterr().out


def test_evaluation_of_any_embedding(capsys: pytest.CaptureFixture) -> None:
    """The example's labels know nothing of its vectors: r2 is about 0, and not above."""
    (block,) = code(ROOT / "docs" / "evaluation.md")
    exec(block, {})
    value, low, high = map(float, re.findall(r"-?\d+\.\d+", capsys.readouterr().out))
    assert low < value < high
    assert -0.5 < value < 0.1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_settings_exist(page: Path) -> None:
    for command in commands(page):
        try:
            arguments = parser().parse_args(shlex.split(command)[1:])
        except SystemExit:
            pytest.fail(f"{page.name}: {command}")
        if isinstance(file := getattr(arguments, "params", None), Path):
            file = ROOT / "params" / f"{file.stem}.yaml"
            assert file.is_file(), command
            if arguments.command == "emulator_build":
                load_emulator_params(file)
            else:
                load_params(file, merge_assignments(getattr(arguments, "set", [])))


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "guides" / "first-hour.md"], ids=lambda p: p.name)
def test_the_wheel_that_is_to_be_installed_is_the_one_that_is_built(page: Path) -> None:
    assert set(re.findall(r"starclip-([\d.]+)-py3-none-any\.whl", page.read_text())) == {__version__}


def test_commands_of_a_page_are_found() -> None:
    assert "starclip doctor" in commands(ROOT / "docs" / "guides" / "first-hour.md")
    assert any("--set data.n_stars=400" in line or "fetch apogee" in line for page in PAGES for line in commands(page))
    assert sum(len(commands(page)) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target
