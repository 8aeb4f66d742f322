"""What is committed of the notebooks: small pictures, tables and text, and apart from them what tests compare."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from PIL import Image

from starclip_lib.lab import refresh
from starclip_lib.run import Run

SOURCE = """# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---
# %% [markdown]
# # Title
#
# | needs | makes | last run |
# |---|---|---|
# | nothing | all | 2001-01-01 |
#
# | other | 2001-01-01 |

# %% tags=["parameters"]
params = ""

# %%
figure

# %% tags=["nbval-check-output"]
print(params)
"""
TABLE = {"text/html": "<div><table><tr><td>1</td></tr></table></div>", "text/plain": "   a\n0  1"}


def png(width: int, height: int) -> str:
    """A picture of random colours."""
    colours = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


WIDE = png(1600, 400)


def shown(**data: object) -> NotebookNode:
    """What the last line of a cell shows; `image_png` is 'image/png'."""
    kinds = {key.replace("_", "/", 1): value for key, value in data.items()}
    metadata = {"isolated": True, "image/png": {"alt": "a curve"}}
    return new_output("execute_result", kinds, execution_count=9, metadata=metadata)


def outputs() -> list[NotebookNode]:
    """Of one cell: what stays, and what needs a kernel, a browser or this machine."""
    return [
        new_output("stream", name="stdout", text="a line\n"),
        shown(image_png=WIDE, text_plain="<Figure>", text_html="<div>plotly</div>"),
        new_output("display_data", {"image/png": png(300, 200)}),
        shown(**{key.replace("/", "_"): value for key, value in TABLE.items()}, application_json="{}"),
        shown(text_plain="160 stars"),
        new_output("stream", name="stderr", text="warning"),
        new_output("display_data", {"application/vnd.plotly.v1+json": {"data": []}, "text/html": "<div></div>"}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Box()"}),
    ]


@pytest.fixture
def refreshed(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[tuple[str, str, Path]]]:
    """A project of one notebook after `make notebooks`, and which runs were made for it, where."""
    (run.root / "params" / "quick.yaml").write_text("name: quick\n")
    (run.root / "notebooks" / "01_data.py").write_text(SOURCE)
    for folder in ("tests", "docs"):
        (run.root / folder).mkdir()
    ran: list[tuple[str, str, Path]] = []

    def pipeline(run: Run, callback: object) -> None:
        ran.append(("pipeline", run.params.name, run.root))
        notebook = jupytext.read(run.root / "notebooks" / "01_data.py")
        notebook.metadata |= {"language_info": {"name": "python"}, "papermill": {}}
        injected = new_code_cell("params = 'x'", metadata={"tags": ["injected-parameters"]}, execution_count=2)
        notebook.cells.insert(2, injected)
        notebook.cells[3].outputs = outputs()
        notebook.cells[4].outputs = [new_output("stream", name="stdout", text=f"{run.params.name}\n")]
        run.report.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, run.report / "01_data.ipynb")

    monkeypatch.setattr(refresh, "every_notebook", lambda: {"01_data": None})
    monkeypatch.setattr(refresh, "run_pipeline", pipeline)
    monkeypatch.setattr(
        refresh, "run_evaluation", lambda run, callback: ran.append(("evaluation", run.params.name, run.root))
    )
    refresh.refresh(run.root, lambda line: None)
    return run, ran


def test_notebooks_show_the_default_run_and_tests_compare_the_small_one(refreshed: tuple) -> None:
    run, ran = refreshed
    assert [call[:2] for call in ran] == [
        (part, name) for name in ("small", "quick") for part in ("pipeline", "evaluation")
    ]
    assert ran[0][2] != run.root  # in a scratch folder
    assert ran[2][2] == run.root
    assert not (run.root / "runs" / "small").exists()
    checked = json.loads((run.root / refresh.CHECKED_FILE).read_text())
    assert [[out["text"] for out in outputs] for outputs in checked["01_data"]] == [["small\n"]]
    assert (run.root / "docs" / "parameters.md").read_text() == refresh.parameters_page()
    assert (run.root / "docs" / "data-formats.md").read_text() == refresh.formats_page()


def test_the_day_is_put_in_once_and_nothing_injected_stays(refreshed: tuple) -> None:
    source = refreshed[0].root / "notebooks" / "01_data.py"
    today = datetime.now(UTC).date().isoformat()
    assert source.read_text() == SOURCE.replace("all | 2001-01-01", f"all | {today}")
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(committed)
    assert f"| nothing | all | {today} |" in committed.cells[0].source
    assert [c.id for c in committed.cells] == [f"01-{number:02d}" for number in range(4)]
    assert [c.get("execution_count") for c in committed.cells] == [None, 1, 2, 3]
    assert [c.metadata.get("tags") for c in committed.cells] == [None, ["parameters"], None, [refresh.CHECKED]]
    assert set(committed.metadata) == {"jupytext", "kernelspec", "language_info"}
    assert committed.cells[-1].outputs[0].text == "quick\n"


def test_pictures_become_small_tables_and_text_stay_and_everything_else_goes(refreshed: tuple) -> None:
    committed = nbformat.read(refreshed[0].root / "notebooks" / "01_data.ipynb", as_version=4)
    line, wide, small, table, text = committed.cells[2].outputs
    assert line.text == "a line\n"
    assert list(wide.data) == ["image/png"]
    assert wide.metadata == {"image/png": {"alt": "a curve"}}
    assert len(wide.data["image/png"]) < len(WIDE) / 10
    for picture, size in ((wide, (1000, 250)), (small, (300, 200))):
        assert Image.open(io.BytesIO(base64.b64decode(picture.data["image/png"]))).size == size
    assert table.data == TABLE
    assert text.data == {"text/plain": "160 stars"}
    assert [out.get("execution_count") for out in committed.cells[2].outputs] == [None, 2, None, 2, 2]
