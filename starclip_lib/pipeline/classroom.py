"""For lecturers: notebooks without their solutions, and which exercises are right in those that come back.

What students send is never trusted: of a returned notebook only the cells of the exercises are run, in a process of
their own that may take so much time and memory, writes no file, and starts in an empty folder.  It says what the
answers are; whether they are right is decided here.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from starclip_lib.errors import DataError, one_line
from starclip_lib.files import atomic_path, damage_refused, read_bytes
from starclip_lib.teaching.exercises import EXERCISES, is_right

_NOTEBOOK_BYTES = 64 * 2**20
_SECONDS = 20
_MEMORY = 2 * 2**30  # bytes of address space
_SAID = 100_000  # characters of what a process prints that are looked at
_SOLUTION = re.compile(r"\n*<details>.*?</details>\n*", re.DOTALL)
_CHECK = re.compile(r"""starclip\.check\(\s*["']([\w.]+)["']""")
_CHILD = """
import json, math, sys
import numpy as np
answers = {}
class starclip:
    @staticmethod
    def check(name, answer):
        answer = answer.item() if hasattr(answer, "item") else answer
        answers[str(name)] = answer if isinstance(answer, (bool, int, float, str, type(None))) else repr(answer)[:200]
failed = {}
for name, source in json.loads(sys.stdin.read()):
    try:
        exec(source, {"np": np, "numpy": np, "math": math, "starclip": starclip})
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"[:200]
sys.__stdout__.write("\\n" + json.dumps({"answers": answers, "failed": failed}))
"""


@dataclass(frozen=True)
class Mark:
    """One exercise of one returned notebook.

    Parameters
    ----------
    file, exercise : str
    verdict : str
        'right', 'wrong', 'no answer', or why it could not be judged.
    answer : str
    """

    file: str
    exercise: str
    verdict: str
    answer: str = ""


def write_handout(notebook: Path, output: Path) -> Path:
    """Write a notebook without its solutions, with blanks for the answers; pictures stay.

    Parameters
    ----------
    notebook : Path
    output : Path
        Folder for the handout, which keeps the name.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If it is no notebook, or the handout would replace it.
    """
    path = output / notebook.name
    if path.resolve() == notebook.resolve():
        raise DataError(f"the handout would replace {notebook}: give another folder with --output")
    book = _read(notebook)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("\n\n", cell.source).strip()
        elif _CHECK.search(cell.source):
            cell.source = re.sub(r"^answer = .*$", "answer = None", cell.source, flags=re.MULTILINE)
            cell.outputs, cell.execution_count = [], None
    book.cells = [cell for cell in book.cells if cell.source]
    with atomic_path(path) as part:
        part.write_text(nbformat.writes(book), encoding="utf-8")
    return path


def mark_folder(folder: Path) -> list[Mark]:
    """Which exercises are right in the notebooks of a folder and of the folders in it.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Mark
        Of each notebook every exercise in it; of one that cannot be read or run, why.

    Raises
    ------
    DataError
        If there is no such folder, or no notebook in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    if not paths:
        raise DataError(f"{folder} holds no notebook (*.ipynb)")
    return [mark for path in paths for mark in _marked(path, str(path.relative_to(folder)))]


def _marked(path: Path, name: str) -> list[Mark]:
    try:
        book = _read(path)
    except DataError as error:
        return [Mark(name, "", one_line(str(error)))]
    cells = [(match[1], cell.source) for cell in book.cells if cell.cell_type == "code"
             for match in [_CHECK.search(cell.source)] if match]  # fmt: skip
    known = [(exercise, source) for exercise, source in cells if exercise in EXERCISES]
    if not known:
        return [Mark(name, "", "has no exercises of ours")]
    said = _answers(known)
    if isinstance(said, str):
        return [Mark(name, exercise, said) for exercise, _ in known]
    marks = []
    for exercise, _ in known:
        answer = said["answers"].get(exercise)
        if exercise in said["failed"]:
            marks.append(Mark(name, exercise, f"does not run by itself: {one_line(str(said['failed'][exercise]))}"))
        elif answer is None:
            marks.append(Mark(name, exercise, "no answer"))
        else:
            marks.append(Mark(name, exercise, _verdict(exercise, answer), str(answer)[:100]))
    return marks


def _verdict(exercise: str, answer: object) -> str:
    return "right" if isinstance(answer, bool | int | float | str) and is_right(exercise, answer) else "wrong"


def _answers(cells: Sequence[tuple[str, str]]) -> dict[str, dict[str, object]] | str:
    """What the cells answer, from a process of their own; or what became of it."""
    environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if "SYSTEMROOT" in os.environ:  # Windows starts nothing without it
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _CHILD],
                input=json.dumps(cells),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                cwd=empty,
                env=environment,
                check=False,
                preexec_fn=_limited if os.name == "posix" else None,
            )
        except subprocess.TimeoutExpired:
            return f"not judged: does not end within {_SECONDS} s"
    try:
        said = json.loads(done.stdout[-_SAID:].rsplit("\n", 1)[-1])
        return {key: dict(said[key]) for key in ("answers", "failed")}
    except (ValueError, KeyError, TypeError):
        return f"not judged: needs more than {_MEMORY / 2**30:.0f} GiB of memory, or crashed"


def _limited() -> None:
    import resource

    for what, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def write_marks(marks: Sequence[Mark], path: Path) -> None:
    """Write the marks as CSV.

    Parameters
    ----------
    marks : sequence of Mark
    path : Path
    """
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "exercise", "verdict", "answer"])
        writer.writerows([[_harmless(text) for text in (m.file, m.exercise, m.verdict, m.answer)] for m in marks])


def _harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text) else text


def overview(marks: Sequence[Mark]) -> list[str]:
    """How many exercises are right in each notebook, and which are not, as lines of text.

    Parameters
    ----------
    marks : sequence of Mark

    Returns
    -------
    list of str
    """
    lines = []
    for name in dict.fromkeys(mark.file for mark in marks):
        own = [mark for mark in marks if mark.file == name]
        right = sum(mark.verdict == "right" for mark in own)
        rest = "; ".join(f"{m.exercise} {m.verdict}".strip() for m in own if m.verdict != "right")
        lines.append(f"{name}: {right} of {sum(bool(m.exercise) for m in own)} right{f' ({rest})' if rest else ''}")
    return lines


def _read(path: Path) -> nbformat.NotebookNode:
    with damage_refused(path, "is no Jupyter notebook"):
        content = read_bytes(path, _NOTEBOOK_BYTES).decode("utf-8")
        book = nbformat.reads(content, as_version=4)
        nbformat.validate(book)
        return book
