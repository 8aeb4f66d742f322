"""For lecturers: notebooks without their solutions, and marks for those that come back."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from starclip_lib.storage.csv_files import write_csv
from starclip_lib.storage.json_files import parse_json
from starclip_lib.support.errors import DataError, StarclipError, one_line
from starclip_lib.support.files import atomic_path, damage_refused, read_bytes, whole_folder
from starclip_lib.teaching.marking import mark

_NOTEBOOK_BYTES = 16 * 2**20  # of JSON, which takes up to thirty times as much memory
_TAG = re.compile(r"""<(/?)details\b(?:"[^"]*"|'[^']*'|[^'">])*>""", re.IGNORECASE)
_CHECK = re.compile(r"""\bcheck\(\s*["']([\w.]+)["']""")
_MARK = "starclip_handout"  # in the metadata: what may be written again
_Binding = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr
_COLUMNS = ["notebook", "exercise", "mark"]


class _Cell(BaseModel):
    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Any]
    cell_type: Literal["code", "markdown", "raw"]
    source: str | list[str]

    @property
    def text(self) -> str:
        return self.source if isinstance(self.source, str) else "".join(self.source)


class _Notebook(BaseModel):
    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, Any]
    nbformat: Literal[4]
    metadata: dict[str, Any] = Field(default_factory=dict)
    cells: list[_Cell]


def write_handouts(notebooks: Sequence[Path], output: Path) -> list[Path]:
    """Write notebooks without their solutions, with blanks for the answers; pictures stay.

    The handouts keep the notebooks' names; either all are written or none.  Raises DataError if one is not a notebook,
    two have one name, or a handout would replace something else.
    """
    names = [notebook.name for notebook in notebooks]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"two of the notebooks are named {twice}: make their handouts in two folders")
    for path in (output / name for name in names):
        if (path.exists() or path.is_symlink()) and not _read(path).metadata.get(_MARK):
            raise DataError(f"{path} is there and no handout: give another folder with --output")
    with whole_folder(output, notebooks) as part:
        for notebook in notebooks:
            with damage_refused(notebook, "cannot be written as a handout"):
                content = json.dumps(_handout(_read(notebook)).model_dump(), indent=1, ensure_ascii=False) + "\n"
            (part / notebook.name).write_text(content, encoding="utf-8", errors="backslashreplace")
    return [output / name for name in names]


def _handout(book: _Notebook) -> _Notebook:
    for cell in book.cells:
        if cell.cell_type == "code" and _CHECK.search(cell.text):
            cell.source = _blanked(cell.text)
            cell.__pydantic_extra__ = {**(cell.__pydantic_extra__ or {}), "outputs": [], "execution_count": None}
        elif cell.cell_type != "code":
            cell.source = _without_details(cell.text)
    book.cells = [cell for cell in book.cells if cell.text]
    book.metadata[_MARK] = True
    return book


def _without_details(text: str) -> str:
    """Text without its <details>, however they are written and nested; one that is not closed ends with the text."""
    kept, depth, end = [], 0, 0
    for tag in _TAG.finditer(text):
        if tag[1]:
            depth = max(0, depth - 1)
            end = tag.end()
            continue
        if depth == 0:
            kept.append(text[end : tag.start()].strip())
        depth += 1
    if depth == 0:
        kept.append(text[end:].strip())
    return "\n\n".join(filter(None, kept))


def _blanked(source: str) -> str:
    """A cell with `answer = None` in place of each answer, of one line or several."""
    try:
        found = [node for node in ast.walk(ast.parse(source)) if _is_answer(node)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # magics of IPython, or what is not Python
        return re.sub(r"^(\s*)answer\b(?!\s*==).*=.*$", r"\1answer = None", source, flags=re.MULTILINE)
    lines = source.encode().split(b"\n")
    starts = [0, *itertools.accumulate(len(line) + 1 for line in lines)]
    spans = [
        (
            starts[node.lineno - 1] + node.col_offset,
            starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0),
            node,
        )
        for node in found
    ]
    content = source.encode()
    for begin, end, node in sorted(spans, key=lambda span: span[0], reverse=True):
        if not any(other is not node and first <= begin and end <= last for first, last, other in spans):
            blank = b"answer := None" if isinstance(node, ast.NamedExpr) else b"answer = None"
            content = content[:begin] + blank + content[end:]
    return content.decode()


def _is_answer(node: ast.AST) -> TypeGuard[_Binding]:
    if not isinstance(node, _Binding):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(name, ast.Name) and name.id == "answer" for target in targets for name in ast.walk(target))


def mark_returned(folder: Path) -> pd.DataFrame:
    """Marks for the exercises in a folder of returned notebooks and the folders in it; nothing in them is run.

    Columns are notebook (path in the folder), exercise and mark: 'right', 'not yet', 'blank', 'by hand' or, of a
    notebook that cannot be read, why.  Raises DataError if there is no notebook.
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
            key: value for cell in book.cells if cell.cell_type == "code" for key, value in mark(cell.text).items()
        }
        rows += [(name, exercise, found) for exercise, found in sorted(marks.items())] or [
            (name, "", "no exercise in it")
        ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def write_marks(table: pd.DataFrame, path: Path) -> None:
    """Write marks as CSV; DataError if the file would replace anything but a table of marks."""
    if path.suffix.lower() != ".csv":
        raise DataError(f"--output {path}: marks are written as a table; give a name that ends in .csv")
    if path.exists() or path.is_symlink():
        first = read_bytes(path, _NOTEBOOK_BYTES).partition(b"\n")[0].strip()
        if first != ",".join(_COLUMNS).encode():
            raise DataError(f"--output {path} is there and no table of marks; give another name")
    with atomic_path(path) as part:
        write_csv(table, part)


def _read(path: Path) -> _Notebook:
    content = read_bytes(path, _NOTEBOOK_BYTES)
    try:
        return parse_json(content, str(path), _Notebook)
    except DataError as error:
        raise DataError(
            f"{path} is not a Jupyter notebook of format 4 ({error}); open it in Jupyter and save it"
        ) from None
