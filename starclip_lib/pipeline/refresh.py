"""Make what is committed from its sources: `python -m starclip_lib.refresh` (or `make notebooks`).

That is docs/parameters.md, from the settings and what they say of themselves, and the notebooks from their .py files.

Every notebook is run on params/small.yaml in a scratch copy of the project.  What is kept are the outputs that nbval
checks and the pictures, made small; everything that changes from machine to machine goes.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

from starclip_lib.files import atomic_path
from starclip_lib.pipeline.notebooks import every_notebook
from starclip_lib.pipeline.runner import run_evaluation, run_pipeline
from starclip_lib.run import Run, project_root
from starclip_lib.settings.params import Params, Section

CHECKED = "nbval-check-output"
_INJECTED = "injected-parameters"
_PICTURE_WIDTH = 700


def refresh(root: Path) -> None:
    """Run all notebooks of the project at `root` and write their .ipynb files, and docs/parameters.md."""
    with atomic_path(root / "docs" / "parameters.md") as part:
        part.write_text(parameters_page(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("notebooks", "params"):
            shutil.copytree(root / folder, Path(scratch) / folder)
        params_file = Path(scratch) / "params" / "small.yaml"
        run = Run(Run.open(params_file).params, Path(scratch))
        run_pipeline(run, params_file, {})
        run_evaluation(run, params_file, {})
        for name in every_notebook():
            notebook = nbformat.read(run.report / f"{name}.ipynb", as_version=4)
            with atomic_path(root / "notebooks" / f"{name}.ipynb") as part:
                nbformat.write(_reduced(notebook, name), part)


def parameters_page() -> str:
    """Every setting with its default and meaning, as Markdown."""
    lines = [
        "# Parameters",
        "",
        "Every setting of a run. A parameter file (YAML) names only what it changes; `--set section.key=value` changes",
        "one more. This page is made from the settings themselves: `make notebooks` rewrites it.",
    ]
    groups: list[tuple[str, Section]] = [("", Params())]
    while groups:
        path, group = groups.pop(0)
        kind = type(group)
        rows, inner = [], []
        for name, field in kind.model_fields.items():
            value = getattr(group, name)
            if isinstance(value, Section):
                inner.append((f"{path}.{name}".lstrip("."), value))
            else:
                meaning = " ".join((field.description or "").split())
                rows.append(f"| `{name}` | `{json.dumps(value)}` | {meaning} |")
        if rows:
            about = " ".join((kind.__doc__ or "").split())
            lines += [
                "",
                f"## {path or 'Top level'}",
                "",
                about,
                "",
                "| key | default | meaning |",
                "|---|---|---|",
                *rows,
            ]
        groups = inner + groups
    return "\n".join(lines) + "\n"


def _reduced(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    notebook.cells = [cell for cell in notebook.cells if _INJECTED not in cell.metadata.get("tags", [])]
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name[:2]}-{number:02d}"
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            count += 1  # as if run without the injected cell; nbval takes a cell without a number for one never run
            cell.execution_count = count
            checked = CHECKED in cell.metadata.get("tags", [])
            cell.outputs = [out for out in cell.outputs if checked or "image/png" in out.get("data", {})]
            for out in cell.outputs:
                if out.output_type == "execute_result":
                    out.execution_count = count
                if "image/png" in out.get("data", {}):
                    out.data = {"image/png": _small_picture(out.data["image/png"])}
                    out.metadata = {}
    notebook.metadata = {key: notebook.metadata[key] for key in ("jupytext", "kernelspec", "language_info")}
    return notebook


def _small_picture(png: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if image.width > _PICTURE_WIDTH:
        image = image.resize((_PICTURE_WIDTH, round(image.height * _PICTURE_WIDTH / image.width)), Image.LANCZOS)
    out = io.BytesIO()
    image.quantize(48, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


if __name__ == "__main__":
    refresh(project_root(Path.cwd()))
