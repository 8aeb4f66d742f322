"""Make what is committed from its sources: `python -m starclip_lib.lab.refresh` (or `make notebooks`).

That is docs/parameters.md and docs/data-formats.md, from the settings and formats as they are declared, and the
notebooks from their .py files.

What a reader sees in a committed notebook comes from the default run, params/quick.yaml: pictures, made small, tables
and lines of text.  What tests compare comes from params/small.yaml, which they can afford, and is kept apart in
CHECKED_FILE.  The day on which a notebook was refreshed goes into its first cell.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from PIL import Image
from pydantic import BaseModel

from starclip_lib.data.spectrum_set import MIN_PIXELS
from starclip_lib.lab.notebooks import dated, every_notebook
from starclip_lib.lab.runner import run_evaluation, run_pipeline
from starclip_lib.models.checkpoint import ModelFile
from starclip_lib.physics.labels import LABELS, UNITS
from starclip_lib.run import Run
from starclip_lib.settings.base import Section
from starclip_lib.settings.params import Params
from starclip_lib.storage.fits_files import SPECTRUM_BYTES
from starclip_lib.storage.formats import (
    AP_STAR,
    ASPCAP_STAR,
    DATA_SET,
    EMBEDDINGS,
    ONE_SPEC,
    SPEC1D,
    X1D,
    DataSetAttributes,
)
from starclip_lib.storage.json_files import write_json
from starclip_lib.storage.schema import Member
from starclip_lib.support.files import atomic_path, project_root, size_text
from starclip_lib.survey.allstar import CATALOGUE_COLUMNS

CHECKED = "nbval-check-output"
CHECKED_FILE = Path("tests") / "checked_outputs.json"
_INJECTED = "injected-parameters"
_PICTURE_WIDTH = 1000


def refresh(root: Path, callback: Callable[[str], None] = print) -> None:
    """Run all notebooks of the project at `root`, and write their .ipynb files, CHECKED_FILE, and the parameters.

    The run of params/quick.yaml is the project's own and is not repeated where it is up to date; that of
    params/small.yaml is made in a scratch folder.
    """
    write_pages(root)
    with tempfile.TemporaryDirectory() as scratch:
        for folder in ("notebooks", "params"):
            shutil.copytree(root / folder, Path(scratch) / folder)
        small = _finished(Path(scratch) / "params" / "small.yaml", Path(scratch), callback)
        checked = {name: checked_outputs(_executed(small, name)) for name in every_notebook()}
    shown = _finished(root / "params" / "quick.yaml", root, callback)
    write_json(root / CHECKED_FILE, checked)
    today = datetime.now(UTC).date().isoformat()
    for name in every_notebook():
        source = root / "notebooks" / f"{name}.py"
        with atomic_path(source) as part:
            part.write_text(dated(source.read_text(encoding="utf-8"), today), encoding="utf-8")
        with atomic_path(source.with_suffix(".ipynb")) as part:
            nbformat.write(_reduced(_executed(shown, name), name, today), part)


def write_pages(root: Path) -> None:
    """Write docs/parameters.md and docs/data-formats.md."""
    for name, text in (("parameters.md", parameters_page()), ("data-formats.md", formats_page())):
        with atomic_path(root / "docs" / name) as part:
            part.write_text(text, encoding="utf-8")


def _finished(params_file: Path, root: Path, callback: Callable[[str], None]) -> Run:
    """A run with its evaluation, all notebooks executed."""
    run = Run(Run.open(params_file).params, root, params_file)
    run_pipeline(run, callback)
    run_evaluation(run, callback)
    return run


def _executed(run: Run, name: str) -> nbformat.NotebookNode:
    return nbformat.read(run.report / f"{name}.ipynb", as_version=4)


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


def _without_injected(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if _INJECTED not in cell.metadata.get("tags", [])]


def checked_outputs(notebook: nbformat.NotebookNode) -> list[list[dict[str, Any]]]:
    """The outputs of the cells that tests compare, in their order."""
    return [cell.outputs for cell in _without_injected(notebook) if CHECKED in cell.metadata.get("tags", [])]


def _reduced(notebook: nbformat.NotebookNode, name: str, day: str) -> nbformat.NotebookNode:
    """An executed notebook as it is committed: small, and the same on every machine but for what was computed."""
    notebook.cells = _without_injected(notebook)
    notebook.cells[0].source = dated(notebook.cells[0].source, day)
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name.split('_')[0]}-{number:02d}"
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code":
            count += 1  # as if run without the injected cell; nbval takes a cell without a number for one never run
            cell.execution_count = count
            cell.outputs = [small for out in cell.outputs if (small := _small(out, count))]
    notebook.metadata = {key: notebook.metadata[key] for key in ("jupytext", "kernelspec", "language_info")}
    return notebook


def _small(output: nbformat.NotebookNode, count: int) -> nbformat.NotebookNode | None:
    """An output with a small picture, a table or a few lines of text; None for anything else."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    data = output.get("data", {})
    if "image/png" in data:
        output.data = {"image/png": _small_picture(data["image/png"])}
        output.metadata = {
            key: words for key, words in output.metadata.items() if key == "image/png"
        }  # its alternative
    elif "<table" in data.get("text/html", "") or "text/markdown" in data or list(data) == ["text/plain"]:
        output.data = {key: data[key] for key in ("text/html", "text/markdown", "text/plain") if key in data}
    else:
        return None
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def _small_picture(png: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if image.width > _PICTURE_WIDTH:
        size = _PICTURE_WIDTH, round(image.height * _PICTURE_WIDTH / image.width)
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.quantize(48, Image.Quantize.MAXCOVERAGE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def formats_page() -> str:
    """The page as Markdown."""
    loader = jinja2.PackageLoader("starclip_lib.lab", "templates")
    environment = jinja2.Environment(  # markdown, not HTML
        undefined=jinja2.StrictUndefined, loader=loader, keep_trailing_newline=True
    )
    return environment.get_template("data-formats.md.j2").render(
        members=_members,
        attributes=_attributes,
        data_set=DATA_SET,
        data_set_attributes=DataSetAttributes,
        embeddings=EMBEDDINGS,
        model_file=ModelFile,
        spec1d=SPEC1D,
        one_spec=ONE_SPEC,
        x1d=X1D,
        aspcap_star=ASPCAP_STAR,
        ap_star=AP_STAR,
        labels=", ".join(f"{name} [{unit}]" for name, unit in zip(LABELS, UNITS, strict=True)),
        catalogue=", ".join(f"`{name}`" for name in CATALOGUE_COLUMNS if not name.endswith(("_ERR", "_FLAG")))
        + " with `_ERR` and `_FLAG`",
        min_pixels=MIN_PIXELS,
        spectrum_bytes=size_text(SPECTRUM_BYTES),
    )


def _members(members: Mapping[str, Member]) -> str:
    lines = ["| member | what | kind | shape | unit | bounds |", "|---|---|---|---|---|---|"]
    for name, member in members.items():
        what = member.meaning + (", unique" if member.unique else "") + (" (optional)" if member.optional else "")
        bounds = member.range_text + ("" if member.finite else " (NaN: no data)")
        shape = f"({', '.join(map(str, member.shape))}{',' if len(member.shape) == 1 else ''})"
        lines.append(f"| `{name}` | {what} | {member.kind} | {shape} | {member.unit} | {bounds.strip()} |")
    return "\n".join(lines)


def _attributes(model: type[BaseModel]) -> str:
    lines = ["| key | what |", "|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {' '.join((field.description or '').split())} |")
    return "\n".join(lines)


if __name__ == "__main__":
    (write_pages if "--pages" in sys.argv[1:] else refresh)(project_root(Path.cwd()))
