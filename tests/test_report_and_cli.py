from __future__ import annotations

import json
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nirspec_files import spec1d_bytes
from scipy.stats import binomtest

import starclip_lib
from starclip_lib.lab import cli
from starclip_lib.lab.cli import main
from starclip_lib.lab.report import (
    EVALUATED,
    assemble_metrics,
    compare,
    contract,
    evaluated_contract,
    headlines,
    read_metrics,
    write_index,
)
from starclip_lib.lab.widgets.browser_page import browse
from starclip_lib.physics.labels import LABELS
from starclip_lib.run import Run
from starclip_lib.settings.params import changed_params
from starclip_lib.storage.json_files import write_json
from starclip_lib.support.errors import DataError, StarclipError


def put(tree: dict, key: tuple[str, ...], value: float) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
    tree[key[-1]] = value


@pytest.fixture
def sections() -> dict:
    """All sections of an evaluated run, every number of the contract 0.5 but for counts."""
    tree: dict = {}
    for key in (*contract(), *evaluated_contract()):
        if key[0] != "pca":
            put(tree, key, 40 if key[-1] in ("queries", "candidates", "n") or key[0] == "data" else 0.5)
    tree["pca"] = {"starclip": [0.3, 0.1], "mockstarclip": [0.4, 0.2]}
    tree["data"]["source"] = "simulate"
    for found in tree["methods"]["network"].values():
        found["interval"] = {key: [0.4, 0.6] for key in found if key == "mrr" or "@" in key}
    for bound in tree["information"].values():
        bound["largest"] = 3.0
    return tree


def make_results(*words: str | Path) -> None:
    """docs/make_results.py with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_results.py", *map(str, words)])
        runpy.run_path(str(ROOT / "docs" / "make_results.py"))["main"]()


@pytest.fixture
def provenance(params) -> dict:
    return {
        "run": "small", "seed": 7, "device": "cpu (2 cores)", "versions": {"python": "3.11"},
        "params": params.model_dump(mode="json"),
    }  # fmt: skip


def test_contract_is_the_one_of_the_design() -> None:
    keys = {".".join(key) for key in (*contract(), *evaluated_contract())}
    retrieval = 2 + 2 + 4 + 4 + 2 + 2 + 4 + 2  # directions of models, raw, chance, overlap, CCA, ideal, network
    assert len(keys) == 4 + 6 * (1 + 3 * 20) + retrieval * 7 + (2 + 6) * 20 + 4 + 2
    for key in (
        "data.n_test",
        "encoders.supervised_mock.rmse.Teff",
        "retrieval.starclip.nirspec_to_apogee.success@10",
        "retrieval.mockstarclip.extended_to_mock.mrr",
        "retrieval.raw.mock_to_extended.candidates",
        "retrieval.chance.apogee_to_nirspec.success@1",
        "probing.supervised_cnn.r2.Ce",
        "limits.apogee.Fe",
    ):
        assert key in keys


def test_a_run_needs_no_evaluation_and_the_page_names_the_command(
    sections: dict, provenance: dict, tmp_path: Path
) -> None:
    """The numbers of notebook 12 stand on the page when they are there, and must then be complete."""
    a = assemble_metrics(provenance, sections, {})
    b = assemble_metrics(provenance, {name: s for name, s in sections.items() if name not in EVALUATED}, {})
    page = write_index(tmp_path, b).read_text()
    assert "starclip evaluate params/small.yaml" in page
    assert not re.search("van Trees|Gaussian ideal matcher</td>|12_baselines", page)
    assert "figures/ladder.png" in page  # notebook 06 makes it
    assert compare(a, b).splitlines()[-1] == (
        "not compared, for small has no baselines, methods, information: starclip evaluate PARAMS makes them"
    )
    assert headlines(a) == headlines(b)
    del sections["baselines"]["limit"]["Fe"]
    with pytest.raises(DataError, match=r"lacks a finite value for 1 keys: baselines\.limit\.Fe"):
        assemble_metrics(provenance, sections, {})
    write_json(tmp_path / "b" / "metrics.json", b)
    with pytest.raises(
        DataError, match=r"no baselines in its metrics\.json; run: starclip evaluate params/small\.yaml"
    ):
        make_results(tmp_path / "b")


def test_a_gap_in_the_contract_is_named(sections: dict, provenance: dict) -> None:
    assemble_metrics(provenance, sections, {"01_data": 1.0})
    del sections["limits"]["nirspec"]["Ce"]
    sections["probing"]["starclip"]["r2"]["Fe"] = float("nan")
    with pytest.raises(DataError, match=r"lacks a finite value for 2 keys: probing.starclip.r2.Fe, limits.nirspec.Ce"):
        assemble_metrics(provenance, sections, {})


def test_the_page_shows_the_numbers_and_its_links_are_relative(
    sections: dict, provenance: dict, tmp_path: Path
) -> None:
    sections["retrieval"]["starclip"]["nirspec_to_apogee"]["success@1"] = 0.8471
    metrics = assemble_metrics(provenance, sections, {"01_data": 8.2, "10_observed_nirspec": 1.0})
    page = write_index(tmp_path, metrics).read_text()
    assert "85 %" in page
    assert "of simulated NIRSpec spectra find their own star first" in page
    for row in ("overlap: chi-squared over common pixels", "a linear alignment", "Gaussian ideal matcher", "network: "):
        assert row in page
    assert "0.400 to 0.600" in page
    assert "0.50 of at most 3.00 nats" in page
    assert "0.847" in page
    assert 'href="01_data.html"' in page
    assert all(f"[{element}/H]" in page for element in LABELS[2:])
    for link in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert not link.startswith(("/", "http", "file:")), link
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]+>", page))
    assert "Observed stars" not in page
    numbers = {f"{part}{name}": 1.0 for part in ("", "sigma_") for name in ("velocity", "Teff", "logg", "Fe")}
    star = {"name": "2609_3", "verdict": "outside", "reason": "log g", **numbers}
    metrics["observed"] = {"stars": [star], "set_aside": {"2609_7": "saw-tooth"}}
    page = write_index(tmp_path, metrics).read_text()
    assert "figures/observed_2609_3.png" in page
    assert "<strong>2609_7</strong>: saw-tooth" in page
    assert "evaluation suite" not in page
    metrics["evaluation"] = {"benchmark": {}}
    page = write_index(tmp_path, metrics).read_text()
    assert 'href="15_densities.html"' in page
    assert "figures/alignment_gains.png" in page


def test_results_page_gives_means_and_intervals_over_seeds(sections: dict, provenance: dict, tmp_path: Path) -> None:
    sections["baselines"]["by_snr"] = {"snr": [50.0, 200.0], "over_limit": [[1.0] * 20, [1.4] * 15 + [1.6] * 5]}
    sections["baselines"]["least_squares"] = {"n": 12, "rmse_over_bound": 0.9}
    reports = []
    for seed, value in ((7, 0.5), (8, 0.6)):
        sections["retrieval"]["starclip"]["nirspec_to_apogee"]["success@1"] = value
        metrics = assemble_metrics({**provenance, "seed": seed, "run": f"r{seed}"}, sections, {"01_data": 60.0 * seed})
        reports.append(tmp_path / f"r{seed}")
        write_json(reports[-1] / "metrics.json", metrics)
    for name, leak in (("paper", False), ("leak", True)):
        sections["retrieval"]["starclip"]["nirspec_to_apogee"]["success@1"] = 0.11
        metrics = assemble_metrics({**provenance, "run": name}, sections, {})
        metrics["params"]["pretrain"]["leak"] = leak
        write_json(tmp_path / name / "metrics.json", metrics)
    out = tmp_path / "results.md"
    words = [*reports, "--out", out]
    others = ["--paper", tmp_path / "paper", "--leak", tmp_path / "leak", "--scale", reports[1]]
    make_results(*words, *others)
    page = out.read_text()
    row = next(line for line in page.splitlines() if line.startswith("| **this recipe** | NIRSpec → APOGEE"))
    low, high = binomtest(44, 80).proportion_ci(method="wilson")  # two runs with forty stars each
    assert row.split(" | ")[2] == f"0.550 ({low:.3f} to {high:.3f})"
    assert "starclip run params/r7.yaml --set name=r8 --set seed=8" in page
    assert "| 200 | 1.40 ± 0.00 | 0.0 ± 0.0 of 20 | 15.0 ± 0.0 |" in page
    assert "| five views combined, all SNR | 1.00 ± 0.00 | 20.0 ± 0.0 of 20 | 20.0 ± 0.0 |" in page
    assert "(12): median RMSE / limit 0.90 ± 0.00" in page
    assert (
        "| **this recipe** | NIRSpec → APOGEE | 0.600 (0.446 to 0.737) |"
        in page.split("## As many stars as in the paper")[1]
    )
    assert page.count("| Teff [K] | 0.5 ± 0.0 |") == 1
    assert "times as often as with the paper's recipe: 5 (NIRSpec → APOGEE), 1 (APOGEE → NIRSpec)" in page
    n = sections["data"]["n_stars"]
    assert f"starclip run params/paper.yaml --set name=leak --set data.n_stars={n} --set pretrain.leak=true\n" in page
    assert f"starclip run params/paper.yaml --set name=paper --set data.n_stars={n}\n" in page
    # r2 and RMSE of 0.5 mean a variance of 0.5, of which a limit of 0.5 leaves half
    row = next(line for line in page.splitlines() if line.startswith("| Teff [K] |"))
    assert row.split(" | ")[1:6] == ["0.500", "0.500", "0.500 ± 0.000", "0.500 ± 0.000", "0.5 ± 0.0"]
    assert "| Teff | 0.983 | 0.935 |" in page
    assert "| NIRSpec → APOGEE | 0.14 | 0.24 | 0.17 |" in page.split("## Published numbers")[1]
    assert "| published" not in page
    assert "--set name=r7-101 --set seed=101" in page.split("## Seeds never looked at")[1]
    make_results(*words, *others, "--unseen", reports[1])
    unseen = out.read_text().split("## Seeds never looked at")[1].split("## Published")[0]
    assert "| **this recipe** | NIRSpec → APOGEE | 0.600 (0.446 to 0.737) |" in unseen
    make_results(*words)
    page = out.read_text()
    assert "paper's recipe, with its leak" not in page
    assert "recipe (`params/paper.yaml`), with the emulator `abinitio-2`" in page
    assert "## As many stars" not in page
    assert "| **this recipe** | NIRSpec → APOGEE" in page


def test_a_reader_who_leaves_early_is_no_error(sections: dict, provenance: dict, tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "metrics.json", assemble_metrics(provenance, sections, {}))
    command = f"{sys.executable} -m starclip_lib.lab.cli compare {tmp_path}/a {tmp_path}/a | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["small", "small", "change"]
    assert done.stderr == ""


def test_headlines_and_comparison(sections: dict, provenance: dict) -> None:
    a = assemble_metrics(provenance, sections, {})
    b = json.loads(json.dumps({**a, "run": "other"}))
    b["limits"]["nirspec"]["Fe"] = 0.75
    assert headlines(a)[0].startswith("nirspec -> apogee    R@1 0.500")
    lines = compare(a, b).splitlines()
    assert lines[0].split() == ["small", "other", "change"]
    assert next(line for line in lines if "limits.nirspec.Fe" in line).split() == [
        "limits.nirspec.Fe",
        "0.5",
        "0.75",
        "+0.25",
    ]
    assert len(lines) == 1 + len([*contract(), *evaluated_contract()])


@pytest.mark.parametrize("value", ["0.5", None, True, 10**400, [1.0], {}], ids=repr)
def test_what_is_no_number_is_named_and_not_compared(sections: dict, provenance: dict, value: object) -> None:
    a = assemble_metrics(provenance, sections, {})
    b = json.loads(json.dumps({**a, "run": "other"}))
    b["limits"]["nirspec"]["Fe"] = value
    lines = compare(a, b).splitlines()
    assert not any(line.startswith("limits.nirspec.Fe ") for line in lines)
    assert lines[-1] == "not compared, for other has no finite number there (1): limits.nirspec.Fe"
    with pytest.raises(DataError, match="lacks a finite value for 1 keys"):
        assemble_metrics(provenance, {**sections, "limits": b["limits"]}, {})


@pytest.mark.parametrize(
    ("observed", "key"),
    [({}, "stars"), ([], "input should be a valid dictionary"), ({"stars": [{}], "set_aside": {}}, r"stars\.0\.name"),
     ({"stars": [], "set_aside": ["a"]}, "set_aside")],
    ids=["nothing", "a list", "a star without a name", "no reasons"],
)  # fmt: skip
def test_a_section_of_observed_stars_is_what_the_page_shows(sections, provenance, observed: object, key: str) -> None:
    with pytest.raises(
        DataError, match=rf"^metrics/observed\.json of the run does not hold what it should: {key}.*delete it"
    ):
        assemble_metrics(provenance, {**sections, "observed": observed}, {})


def test_metrics_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics.json is missing; starclip run PARAMS makes it"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(DataError, match=r"metrics.json is not JSON"):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "nowhere.yaml: no such parameter file"),
        (["run", "params/quick.yaml", "--set", "data.nstars=9"], "unknown key 'data.nstars'; did you mean 'n_stars'?"),
        (["run", "params/quick.yaml", "--set", "seed"], "expected key=value"),
        (["run", "params/quick.yaml", "--observed", "nowhere"], "--observed nowhere: no such folder"),
        (["run", "params/quick.yaml", "--set", "device=cuda:9"], "device: cuda:9 was asked for"),
        (["compare", "quick", "nowhere"], "is missing; starclip run PARAMS makes it"),
    ],
)
def test_errors_are_one_line_without_traceback(arguments: list[str], message: str, monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 1
    seen = capsys.readouterr()
    assert message in seen.err
    assert seen.err.startswith("starclip: error: ")
    assert len(seen.err.strip().splitlines()) == 1


def loaded(code: str) -> set[str]:
    """Which of the heavy packages a fresh Python has loaded after some code."""
    names = ("torch", "numpy", "astropy", "matplotlib", "plotly", "pandas", "ipywidgets", "papermill")
    script = f"import sys\n{code}\nprint(*(name for name in {names} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.splitlines()[-1].split())


def test_the_front_door_and_the_command_load_nothing_heavy() -> None:
    """Neither `import starclip_lib` nor `starclip --help` waits for what it does not need."""
    assert loaded("import starclip_lib") == set()
    assert loaded("import starclip_lib.lab.cli") == set()
    help_page = ["from starclip_lib.lab.cli import main", "try:", "    main(['--help'])", "except SystemExit as end:"]
    help_page += ["    assert end.code == 0"]
    assert loaded("\n".join(help_page)) == set()
    assert loaded("import starclip_lib\nstarclip_lib.LABELS") == {"numpy"}  # a name brings what it needs
    assert "torch" in loaded("import starclip_lib\nstarclip_lib.Model")


def test_every_name_of_the_front_door_leads_somewhere() -> None:
    assert {"open_run", "Run", "read_spectra", "figures", "SimilarityBrowser"} <= set(dir(starclip_lib))
    assert set(starclip_lib.__all__) <= set(dir(starclip_lib))
    for name in dir(starclip_lib):
        assert getattr(starclip_lib, name) is not None, name
    with pytest.raises(AttributeError, match="attribute nonsense"):
        starclip_lib.nonsense  # noqa: B018


def test_the_command_is_installed() -> None:
    for command in ([str(Path(sys.executable).with_name("starclip"))], [sys.executable, "-m", "starclip_lib.lab.cli"]):
        done = subprocess.run([*command, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == f"starclip {starclip_lib.__version__}\n"


def files_of(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "run.lock"}


MADE = (
    *(
        f"runs/NAME/{file}"
        for file in ("settings.json", "stages.json", "data.h5", "starclip.ckpt", "metrics/data.json")
    ),
    "runs/NAME/.starclip.part.ckpt",
    *(f"reports/NAME/{file}" for file in ("index.html", "metrics.json", "01_data.ipynb", "01_data.html")),
    *(f"reports/NAME/{file}" for file in ("04_starclip.failed.ipynb", "observed_a.html", "figures/kiel.png")),
)
KEPT = ("runs/NAME/notes.txt", "runs/NAME/deep/data.h5", "reports/NAME/mine.ipynb", "reports/NAME/figures/mine.svg")


@pytest.fixture
def pipeline(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Files that are there when the pipeline starts, which then does nothing."""
    seen: list[set[str]] = []

    def start(opened: Run, callback: object) -> Path:
        seen.append(files_of(run.root))
        return opened.report / "index.html"

    monkeypatch.setattr("starclip_lib.lab.runner.run_pipeline", start)
    monkeypatch.setattr("starclip_lib.lab.report.read_metrics", lambda path: {})
    monkeypatch.setattr("starclip_lib.lab.report.headlines", lambda metrics: [])
    monkeypatch.chdir(run.root)
    return seen


def fill(root: Path, names: tuple[str, ...], run_name: str) -> set[str]:
    named = {name.replace("NAME", run_name) for name in names}
    for name in named:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("precious")
    return named


def test_fresh_deletes_what_the_run_made_and_nothing_else(run: Run, pipeline: list[set[str]], capsys) -> None:
    small, other = (fill(run.root, MADE, name) for name in ("small", "other"))
    kept = fill(run.root, KEPT, "small") | fill(run.root, ("runs/small.txt", "archive/small/data.h5"), "")
    assert main(["run", "params/small.yaml"]) == 0
    assert main(["run", "params/small.yaml", "--fresh"]) == 0
    assert (
        "4 files that this run did not make are left as they are: reports/small/figures/mine.svg"
        in capsys.readouterr().out
    )
    assert main(["run", "params/small.yaml", "--set", "name=other", "--fresh"]) == 0
    assert small | other | kept <= pipeline[0]
    assert pipeline[1] == pipeline[0] - small
    assert pipeline[2] == pipeline[1] - other


@pytest.mark.parametrize(
    "place", ["runs/lnk", "reports/lnk", "runs/lnk/metrics", "runs/lnk/data.h5", "reports/lnk/figures"]
)
def test_fresh_deletes_nothing_through_a_link(
    run: Run, pipeline: list[set[str]], place: str, tmp_path_factory, capsys
) -> None:
    fill(run.root, MADE, "lnk")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("settings.json", "data.h5", "index.html", "data.json", "kiel.png"):
        (elsewhere / name).write_text("precious")
    path = run.root / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(elsewhere / "data.h5" if place.endswith("h5") else elsewhere)
    before = files_of(run.root)
    assert main(["run", "params/small.yaml", "--set", "name=lnk", "--fresh"]) == 1
    assert f"{place} is a link, and --fresh deletes nothing through one" in capsys.readouterr().err
    assert files_of(run.root) == before
    assert len(list(elsewhere.iterdir())) == 5
    assert pipeline == []


def test_fresh_leaves_a_folder_in_which_no_run_has_been(run: Run, pipeline: list[set[str]]) -> None:
    mine = fill(run.root, ("runs/small/data.h5", "runs/small/starclip.ckpt"), "")
    assert main(["run", "params/small.yaml", "--fresh"]) == 0
    assert mine <= pipeline[0]


def test_ctrl_c_is_no_traceback(monkeypatch, capsys) -> None:
    monkeypatch.chdir(ROOT)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "compare", stopped)
    assert main(["compare", "a", "b"]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_browse_says_what_is_in_the_way(run: Run, finished: Run) -> None:
    with pytest.raises(StarclipError, match=r"data\.h5 is missing: run notebook 01_data first"):
        browse(run, 8866, False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StarclipError, match=f"port {port} cannot be used .*name another one: --port"):
            browse(finished, port, False)
    with pytest.raises(StarclipError, match="port 99999 cannot be used"):
        browse(finished, 99999, False)


def test_browse_tells_what_it_found_in_a_folder(finished: Run, tmp_path: Path, rng: np.random.Generator) -> None:
    spec1d_bytes(tmp_path / "spec1d_a.fits", finished.data.nirspec.flux[1], rng)
    (tmp_path / "spec1d_broken.fits").write_bytes((tmp_path / "spec1d_a.fits").read_bytes()[:5000])
    (tmp_path / "notes.txt").write_text("clouds\n")
    run, said = Run(changed_params(finished.params, {"observed": {"folder": str(tmp_path)}}), finished.root), []
    with pytest.raises(StarclipError, match="port 99999 cannot be used"):
        browse(run, 99999, False, said.append)
    assert said[0].startswith("3 files found, 1 used, 1 could not be read, 1 left out: ")
    assert said[1].startswith("spec1d_broken: ")
