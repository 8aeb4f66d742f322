"""For lecturers: notebooks without their solutions, and marks for those that come back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pandas as pd

from starclip_lib.errors import DataError, StarclipError, one_line
from starclip_lib.files import atomic_path, damage_refused, read_bytes
from starclip_lib.teaching.marking import mark

_NOTEBOOK_BYTES = 64 * 2**20
_SOLUTION = re.compile(r"\n*<details>.*?</details>\n*", re.DOTALL)
_CHECK = re.compile(r"""starclip\.check\(\s*["']([\w.]+)["']""")
_MARK = "starclip_handout"  # in the metadata: what may be written anew


def write_handouts(notebooks: Sequence[Path], output: Path) -> list[Path]:
    """Write notebooks without their solutions, with blanks for the answers; pictures stay.

    Parameters
    ----------
    notebooks : sequence of Path
    output : Path
        Folder for the handouts, which keep their names.

    Returns
    -------
    list of Path

    Raises
    ------
    DataError
        If one is no notebook, two have one name, or a handout would replace what is none.
    """
    names = [notebook.name for notebook in notebooks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two of the notebooks are named {twice}: make their handouts in two folders")
    return [_write(notebook, output / notebook.name) for notebook in notebooks]


def _write(notebook: Path, path: Path) -> Path:
    book = _read(notebook)
    if path.exists() and not _read(path).metadata.get(_MARK):
        raise DataError(f"{path} is there and no handout: give another folder with --output")
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("\n\n", cell.source).strip()
        elif _CHECK.search(cell.source):
            cell.source = re.sub(r"^answer = .*$", "answer = None", cell.source, flags=re.MULTILINE)
            cell.outputs, cell.execution_count = [], None
    book.cells = [cell for cell in book.cells if cell.source]
    book.metadata[_MARK] = True
    with atomic_path(path) as part, damage_refused(notebook, "cannot be written as text"):
        part.write_text(nbformat.writes(book), encoding="utf-8")
    return path


def mark_returned(folder: Path) -> pd.DataFrame:
    """Marks for the exercises in a folder of returned notebooks, of which nothing is run.

    Parameters
    ----------
    folder : Path
        Looked through as deep as it goes.

    Returns
    -------
    DataFrame
        notebook (path in the folder), exercise and mark: 'right', 'not yet', 'blank', 'by hand' or, of a notebook that
        cannot be read, why.

    Raises
    ------
    DataError
        If there is no notebook.
    """
    paths = sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    if not paths:
        raise DataError(f"{folder}: no such folder, or no notebook (.ipynb) in it")
    rows = []
    for path in paths:
        name = one_line(str(path.relative_to(folder)))
        try:
            book = _read(path)
        except StarclipError as error:
            rows.append((name, "", f"cannot be read: {error}"))
            continue
        marks = {
            key: value for cell in book.cells if cell.cell_type == "code" for key, value in mark(cell.source).items()
        }
        rows += [(name, exercise, found) for exercise, found in sorted(marks.items())] or [
            (name, "", "no exercise in it")
        ]
    return pd.DataFrame(rows, columns=["notebook", "exercise", "mark"])


def _read(path: Path) -> nbformat.NotebookNode:
    with damage_refused(path, "is no Jupyter notebook"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older notebooks have cells without names
        book = nbformat.reads(read_bytes(path, _NOTEBOOK_BYTES).decode("utf-8"), as_version=4)
        nbformat.validate(book)
        return book
