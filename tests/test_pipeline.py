"""The pipeline on two toy notebooks: order, failure, resume, skipping."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import OVERRIDES, ROOT

from starclip_lib.lab import notebooks
from starclip_lib.lab import runner as pipeline
from starclip_lib.lab.notebooks import Notebook
from starclip_lib.run import Run
from starclip_lib.settings.params import Params, changed_params, merged
from starclip_lib.stages import STAGES
from starclip_lib.support.errors import DataError, StarclipError

HEAD = """# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% tags=["parameters"]
params_file: str = ""
overrides: dict = {}
"""
FIRST = (
    HEAD
    + """
# %% [markdown]
# See [the next one](02_second.ipynb), where $x^2$ is
#
# $$ \\frac{1}{2}. $$

# %%
import sys
from pathlib import Path
Path("../log").open("a").write("first ")
sys.stderr.write("50%|#####\\r100%|##########\\r")
print(params_file, overrides)
"""
)
SECOND = (
    HEAD
    + """
# %%
from pathlib import Path
Path("../log").open("a").write("second ")

# %%
if Path("../broken").exists():
    raise ValueError("a star is missing")
"""
)


@pytest.fixture
def toy(run: Run, monkeypatch) -> Run:
    for name, text in (("01_first", FIRST), ("02_second", SECOND)):
        (run.root / "notebooks" / f"{name}.py").write_text(text)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # one after the other
    table = {"01_first": Notebook("01_first"), "02_second": Notebook("02_second", ("atlas",))}
    monkeypatch.setattr(notebooks, "NOTEBOOKS", table)
    monkeypatch.setattr(notebooks, "EVALUATION", {})
    monkeypatch.setattr(
        pipeline, "assemble_metrics", lambda provenance, sections, seconds: {"seconds": seconds, **provenance}
    )
    monkeypatch.setattr(pipeline, "write_index", lambda report, metrics: report / "index.html")
    return run


@pytest.fixture
def without_kernels(toy: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The toy project for what is decided before a notebook runs: each leaves its files and a word in the log."""

    def leave(run: Run, name: str, bars: bool) -> None:
        run.report.mkdir(parents=True, exist_ok=True)
        for ending in ("ipynb", "html"):
            (run.report / f"{name}.{ending}").touch()
        with (run.root / "log").open("a") as file:
            file.write(f"{name.partition('_')[2]} ")

    monkeypatch.setattr(pipeline, "execute", leave)
    return toy


def go(run: Run) -> list[str]:
    said: list[str] = []
    pipeline.run_pipeline(run, said.append)
    return said


def changed(run: Run, changes: dict) -> Run:
    """The run of the same project with other settings."""
    return Run(changed_params(run.params, changes), run.root, run.params_file, merged(run.overrides, changes))


def log(run: Run) -> str:
    return (run.root / "log").read_text().strip()


def test_notebooks_run_in_order_with_their_parameters_and_leave_clean_pages(toy: Run) -> None:
    said = go(toy)
    assert log(toy) == "first second"
    assert [line.split(":")[0] for line in said if line.endswith(" s")] == ["[ 1/2] 01_first", "[ 2/2] 02_second"]
    executed = nbformat.read(toy.report / "01_first.ipynb", as_version=4)
    outputs = executed.cells[-1].outputs
    assert [out.name for out in outputs] == ["stdout"]  # the remains of the progress bar are gone
    assert outputs[0].text == f"../params/small.yaml {OVERRIDES}\n"
    page = (toy.report / "01_first.html").read_text()
    assert 'href="02_second.html"' in page
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in page  # a browser draws it without fetching anything
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in page
    assert (toy.report / "metrics.json").is_file()


def test_what_is_up_to_date_is_skipped_and_what_changed_is_not(without_kernels: Run) -> None:
    toy = without_kernels
    go(toy)
    assert [line.split(": ")[1] for line in go(toy)] == ["up to date", "up to date"]
    (toy.root / "notebooks" / "02_second.py").write_text(SECOND + "\n# %%\n1 + 1\n")
    go(toy)
    assert log(toy) == "first second second"
    (toy.report / "01_first.html").unlink()
    go(toy)
    assert log(toy) == "first second second first"
    go(changed(toy, {"atlas": {"n_neighbours": 99}}))
    assert log(toy) == "first second second first second"


def test_records_of_another_version_are_read_and_everything_is_run_again(without_kernels: Run) -> None:
    """Version 0.1.0 kept them in the same place, under other names and digests."""
    toy = without_kernels
    old = {"contrastive_from_scratch": {"key": "x", "seconds": 9.0}, "01_first": {"key": "x", "seconds": 9.0}}
    toy.folder.mkdir(parents=True)
    (toy.folder / "notebooks.json").write_text(json.dumps(old))
    go(toy)
    assert log(toy) == "first second"
    seconds = json.loads((toy.report / "metrics.json").read_text())["seconds"]
    assert list(seconds) == ["01_first", "02_second"]
    assert seconds["01_first"] != 9.0


def test_a_failing_cell_is_named_and_the_next_call_goes_on_there(toy: Run) -> None:
    (toy.root / "broken").touch()
    with pytest.raises(StarclipError) as caught:
        go(toy)
    message = str(caught.value)
    assert message.startswith("notebook 02_second stopped in cell 4 (In [4]):\n    if Path")
    assert "ValueError: a star is missing" in message
    assert "reports/small/02_second.failed.ipynb" in message
    assert (toy.report / "02_second.failed.ipynb").is_file()
    assert not (toy.report / "02_second.ipynb").exists()
    assert not list(toy.report.glob(".*"))
    (toy.root / "broken").unlink()
    go(toy)
    assert log(toy) == "first second second"
    assert not (toy.report / "02_second.failed.ipynb").exists()


def test_two_notebooks_run_at_a_time_where_there_are_threads(toy: Run, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    here = Path.cwd()
    for name in notebooks.NOTEBOOKS:  # each of them waits for the other one
        (toy.root / "notebooks" / f"{name}.py").write_text(
            f"""{HEAD}
# %%
import time
from pathlib import Path
Path("../{name}.here").touch()
for _ in range(6000):
    if len(list(Path("..").glob("*.here"))) == 2:
        break
    time.sleep(0.1)
else:
    raise TimeoutError("nobody came")
"""
        )
    said = go(toy)
    assert said[:2] == ["[ 1/2] 01_first ...", "[ 2/2] 02_second ..."]
    assert len(said) == 4
    assert Path.cwd() == here


def test_a_failure_ends_the_notebook_beside_it(toy: Run, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (toy.root / "notebooks" / "01_first.py").write_text(HEAD + "\n# %%\nimport time\ntime.sleep(600)\n")
    (toy.root / "broken").touch()
    with pytest.raises(StarclipError, match="02_second stopped in cell 4"):
        go(toy)
    assert not (toy.report / "01_first.ipynb").exists()
    assert not [kernel for kernel in psutil.Process().children() if "ipykernel_launcher" in " ".join(kernel.cmdline())]


def test_a_notebook_waits_for_what_it_reads(trained: Run, tmp_path_factory, monkeypatch) -> None:
    data, last = ("data.h5",), ("embeddings.h5",)
    table = {
        "00_tour": Notebook("00_tour"),
        "02_corruptions": Notebook("02_corruptions", needs=data),
        "01_data": Notebook("01_data"),
        "07_atlas": Notebook("07_atlas", needs=last),
        "12_baselines": Notebook("12_baselines", needs=data, long=True),
        "06_retrieval": Notebook("06_retrieval"),
    }

    def order(run: Run, waiting: list[str], running: list[str]) -> list[str | None]:
        begun = []
        while (name := pipeline._next(run, table, waiting, running)) is not None:
            waiting, running = [other for other in waiting if other != name], [*running, name]
            begun.append(name)
        return begun

    empty = Run(trained.params, tmp_path_factory.mktemp("empty"))
    assert order(empty, list(table), []) == ["01_data", "00_tour"]
    # what is there is there, though the notebook that has made it still runs
    assert order(trained, ["02_corruptions", "12_baselines"], ["01_data"]) == ["12_baselines", "02_corruptions"]
    trained.path("embeddings.h5").unlink()
    assert order(trained, ["07_atlas"], ["06_retrieval"]) == []
    assert order(trained, ["07_atlas", "06_retrieval"], []) == ["06_retrieval"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert pipeline.notebooks_at_once(trained) == 2
    many = changed(trained, {"data": {"n_stars": 10_000_000}})  # no room for two kernels
    assert pipeline.notebooks_at_once(many) == 1


def test_evaluation_runs_on_its_own_and_counts_only_while_it_is_current(trained: Run, monkeypatch) -> None:
    """Numbers that were measured on other models do not stay in metrics.json."""
    (trained.root / "notebooks" / "11_judge.py").write_text(
        HEAD
        + """
# %%
from starclip_lib.run import Run
Run.open(params_file, overrides).save_metrics("evaluation.judge", {"grade": 1.0})
"""
    )
    monkeypatch.setattr(pipeline, "_check_enough_stars", lambda run: None)  # 160 stars are too few for the real ones
    monkeypatch.setattr(notebooks, "NOTEBOOKS", {})
    judge = Notebook("11_judge", ("evaluation",), ("embeddings.h5",), metrics=("evaluation.judge",))
    monkeypatch.setattr(notebooks, "EVALUATION", {"11_judge": judge})
    written: list[dict] = []
    monkeypatch.setattr(pipeline, "assemble_metrics", lambda provenance, sections, seconds: sections)
    monkeypatch.setattr(pipeline, "write_index", lambda report, metrics: written.append(metrics))
    said: list[str] = []
    pipeline.run_evaluation(trained, said.append)
    assert written[-1]["evaluation"] == {"judge": {"grade": 1.0}}
    assert [line.split(":")[0] for line in said if line.endswith(" s")] == ["[ 1/1] 11_judge"]
    pipeline.run_pipeline(trained, said.append)
    assert written[-1]["evaluation"] == {"judge": {"grade": 1.0}}
    pipeline.run_pipeline(changed(trained, {"evaluation": {"line_height": 0.3}}), said.append)
    assert "evaluation" not in written[-1]


def test_an_evaluation_that_asks_for_too_many_stars_is_refused_at_once(trained: Run) -> None:
    for key, message in (
        ("transfer_stars", r"evaluation.transfer_stars asks for 900 val stars, but the run has 16 for it; lower it"),
        ("scaling_stars", r"evaluation.scaling_stars asks for 900 train stars, but the run has 100 for it; lower it"),
    ):
        few = {"transfer_stars": [5], "scaling_stars": [5, 6, 7, 8], key: [6, 7, 8, 900]}
        with pytest.raises(DataError, match=message):
            pipeline.run_evaluation(changed(trained, {"evaluation": few}))


def test_an_unfinished_run_cannot_be_judged(run: Run) -> None:
    with pytest.raises(DataError, match=r"data.h5 is missing: run notebook 01_data first \(or: starclip run PARAMS\)"):
        pipeline.run_evaluation(run)


def test_a_run_without_a_parameter_file_runs_no_notebook(toy: Run) -> None:
    with pytest.raises(StarclipError, match="not opened by a parameter file; notebooks need one to read"):
        pipeline.run_pipeline(Run(toy.params, toy.root), lambda line: None)
    assert not (toy.root / "log").exists()


def test_an_unknown_notebook_is_an_error(toy: Run) -> None:
    (toy.root / "notebooks" / "03_mine.py").write_text(HEAD)
    with pytest.raises(StarclipError, match=r"notebooks.py disagree about 03_mine"):
        go(toy)


def test_the_real_table_fits_the_stages_and_the_folder() -> None:
    every = notebooks.every_notebook()
    assert {stage.notebook for stage in STAGES.values()} <= set(every)
    sections = set(Params.model_fields)
    for name, notebook in every.items():
        assert notebook.name == name
        assert set(notebook.needs) <= set(STAGES)
        assert notebook.settings <= sections
    assert {path.stem for path in ROOT.glob("notebooks/*.py")} == set(every)


def test_a_notebook_needs_what_its_stages_are_made_of() -> None:
    every = notebooks.every_notebook()
    assert every["03_encoders"].makes == ("apogee.ckpt", "nirspec.ckpt", "supervised.ckpt")
    assert every["03_encoders"].inputs == ("data.h5",)
    assert every["03_encoders"].settings == {"seed", "corruption", "precision", "pretrain", "supervised", "device"}
    assert every["05_mockstarclip"].inputs == ("data.h5", "starclip.ckpt", "supervised.ckpt")
    both = Notebook("04_starclip", needs=("apogee.ckpt", "embeddings.h5", "starclip.ckpt"))
    assert both.inputs == ("data.h5", "nirspec.ckpt", "apogee.ckpt", "embeddings.h5")  # once each, and not its own
    made_before: set[str] = set()
    for notebook in notebooks.NOTEBOOKS.values():  # nobody reads what only a later notebook makes
        assert set(notebook.inputs) <= made_before | set(notebook.makes), notebook.name
        made_before |= set(notebook.makes)


def test_a_long_tmpdir_and_another_kernel_in_jupyter_path_are_no_obstacle(
    toy: Run, tmp_path_factory, monkeypatch
) -> None:
    """Job folders of clusters are longer than a socket's name may be; modules of clusters set JUPYTER_PATH."""
    place = tmp_path_factory.mktemp("x" * 90)
    kernel = place / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "another", "language": "python"}')
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("JUPYTER_PATH", str(place))
    go(toy)
    assert (toy.report / "02_second.html").is_file()
