"""What is committed of the notebooks: small pictures, tables and text, and apart from them what nbval checks."""

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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from starclip_lib.lab import refresh
from starclip_lib.run import Run

TABLE = {"text/html": "<div><table><tr><td>1</td></tr></table></div>", "text/plain": "   a\n0  1"}

DAY = "2026-11-25"


def png(width: int, height: int) -> str:
    """A picture of random colours."""
    colours = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(colours).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def size(text: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(text))).size


def shown(count: int, **data: object) -> NotebookNode:
    """What the last line of a cell shows; `image_png` is 'image/png'."""
    kinds = {key.replace("_", "/", 1): value for key, value in data.items()}
    metadata = {"isolated": True, "image/png": {"alt": "a curve"}}
    return new_output("execute_result", kinds, execution_count=count, metadata=metadata)


def said(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def cell(*outputs: NotebookNode, count: int = 9, tags: tuple[str, ...] = ()) -> NotebookNode:
    metadata = {"tags": list(tags)}
    return new_code_cell("1 + 1", outputs=list(outputs), execution_count=count, metadata=metadata)


def executed(*cells: NotebookNode) -> NotebookNode:
    """A notebook as papermill leaves it."""
    parameters = new_code_cell("params_file = ''", metadata={"tags": ["parameters"]}, execution_count=1)
    injected = new_code_cell("params_file = 'x'", metadata={"tags": ["injected-parameters"]}, execution_count=2)
    names = ("jupytext", "kernelspec", "language_info", "papermill")
    metadata = {name: {"name": name, "display_name": name} for name in names}
    return new_notebook(
        cells=[
            new_markdown_cell("# T\n\n| needs | last run |\n|---|---|\n| nothing | 2020-01-31 |"),
            parameters,
            injected,
            *cells,
        ],
        metadata=metadata,
    )


def only_output(*outputs: NotebookNode) -> list[NotebookNode]:
    """What is left of the outputs of a cell."""
    reduced = refresh._reduced(executed(cell(*outputs)), "01_data", DAY)
    nbformat.validate(reduced)
    return reduced.cells[-1].outputs


def test_cells_are_numbered_as_if_nothing_had_been_injected() -> None:
    reduced = refresh._reduced(executed(cell(count=3), new_markdown_cell("text"), cell(count=4)), "00b_toy", DAY)
    assert [c.cell_type for c in reduced.cells] == ["markdown", "code", "code", "markdown", "code"]
    assert [c.id for c in reduced.cells] == [f"00b-{number:02d}" for number in range(5)]
    assert [c.execution_count for c in reduced.cells if c.cell_type == "code"] == [1, 2, 3]
    assert [c.metadata.get("tags") for c in reduced.cells] == [None, ["parameters"], None, None, None]
    assert set(reduced.metadata) == {"jupytext", "kernelspec", "language_info"}
    assert reduced.cells[0].source.endswith(f"| nothing | {DAY} |")


def test_pictures_become_small_and_stand_alone() -> None:
    picture = png(1600, 400)
    (out,) = only_output(shown(9, image_png=picture, text_plain="<Figure>", text_html="<div>plotly</div>"))
    assert list(out.data) == ["image/png"]
    assert out.metadata == {"image/png": {"alt": "a curve"}}
    assert out.execution_count == 2
    assert size(out.data["image/png"]) == (1000, 250)
    assert len(out.data["image/png"]) < len(picture) / 10
    (out,) = only_output(new_output("display_data", {"image/png": png(300, 200)}))
    assert size(out.data["image/png"]) == (300, 200)  # small enough
    assert "execution_count" not in out


def test_tables_and_lines_of_text_stay() -> None:
    outputs = only_output(
        said("a line\n"),
        shown(9, **{key.replace("/", "_"): value for key, value in TABLE.items()}, application_json="{}"),
        shown(9, text_plain="160 stars"),
    )
    assert outputs[0].text == "a line\n"
    assert outputs[1].data == TABLE
    assert outputs[2].data == {"text/plain": "160 stars"}
    assert [out.get("execution_count") for out in outputs] == [None, 2, 2]


def test_everything_else_goes() -> None:
    plotly = {"application/vnd.plotly.v1+json": {"data": []}, "text/html": "<div></div>"}
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Box()"}
    assert (
        only_output(said("warning", "stderr"), *(new_output("display_data", data) for data in (plotly, widget))) == []
    )


def test_checked_outputs_are_those_of_the_tagged_cells_in_their_order() -> None:
    tags = (refresh.CHECKED,)
    notebook = executed(
        cell(said("one\n"), tags=tags), cell(said("never\n")), cell(shown(9, text_plain="2"), tags=tags)
    )
    first, second = refresh._checked(notebook)
    assert [out.text for out in first] == ["one\n"]
    assert second[0].data == {"text/plain": "2"}


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

# %% tags=["nbval-check-output"]
print(params)
"""


def test_refreshing_writes_notebooks_checks_and_parameters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks show the run of quick.yaml, nbval checks that of small.yaml; today's date is put in, once."""
    (run.root / "params" / "quick.yaml").write_text("name: quick\n")
    source = run.root / "notebooks" / "01_data.py"
    source.write_text(SOURCE)
    ran: list[tuple[str, str, Path]] = []

    def pipeline(run: Run, say: object) -> None:
        ran.append(("pipeline", run.params.name, run.root))
        notebook = jupytext.read(run.root / "notebooks" / "01_data.py")
        notebook.cells[-1].outputs = [said(f"{run.params.name}\n")]
        notebook.metadata["language_info"] = {"name": "python"}
        run.report.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, run.report / "01_data.ipynb")

    def evaluation(run: Run, say: object) -> None:
        ran.append(("evaluation", run.params.name, run.root))

    monkeypatch.setattr(refresh, "every_notebook", lambda: {"01_data": None})
    monkeypatch.setattr(refresh, "run_pipeline", pipeline)
    monkeypatch.setattr(refresh, "run_evaluation", evaluation)
    (run.root / "tests").mkdir()
    (run.root / "docs").mkdir()
    refresh.refresh(run.root, lambda line: None)
    assert [call[:2] for call in ran] == [
        (part, name) for name in ("small", "quick") for part in ("pipeline", "evaluation")
    ]
    assert ran[0][2] != run.root  # in a scratch folder
    assert ran[2][2] == run.root
    today = datetime.now(UTC).date().isoformat()
    assert source.read_text() == SOURCE.replace("all | 2001-01-01", f"all | {today}")
    committed = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert committed.cells[-1].outputs[0].text == "quick\n"
    assert f"| nothing | all | {today} |" in committed.cells[0].source
    checked = json.loads((run.root / refresh.CHECKED_FILE).read_text())
    assert [[out["text"] for out in outputs] for outputs in checked["01_data"]] == [["small\n"]]
    assert (run.root / "docs" / "parameters.md").read_text() == refresh.parameters_page()
    assert (run.root / "docs" / "data-formats.md").read_text() == refresh.formats_page()
    assert not (run.root / "runs" / "small").exists()
