"""`starclip run --fresh`: deletes what a run has made, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from starclip_lib.lab.notebooks import every_notebook
from starclip_lib.run import Run
from starclip_lib.stages import SETTINGS, STAGES
from starclip_lib.storage.tensor_files import resume_file
from starclip_lib.support.errors import DataError, SystemFault, system_message
from starclip_lib.support.files import LOCK, locked

_OF_RUN = (
    SETTINGS,
    "stages.json",
    "notebooks.json",
    "stages.lock",
    "metrics/*.json",
    *(f"{file}.lock" for file in STAGES),
)
_OF_REPORT = (
    "index.html",
    "metrics.json",
    "observed.csv",
    "observed.ecsv",
    "observed_*.html",
    "atlas.html",
    "figures/*.png",
)
_UNFINISHED = ".*.part*"  # what a killed process leaves


def forget(run: Run, callback: Callable[[str], None] = print) -> None:
    """Delete what a run has made before; other files in its two folders stay, and are counted in a line.

    Raises DataError, before anything is deleted, if another process works on the run or a link is in the way: what it
    leads to may be the only copy of something else.
    """
    _refuse_links(run)
    with locked(run.folder):
        made = list(_made(run))
        for path in made:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise SystemFault(system_message(error, path)) from error
        for folder in (run.folder / "metrics", run.report / "figures", run.report):
            with suppress(OSError):  # it is not empty: something else is in it
                folder.rmdir()
        left = [path for path in _files(run) if not path.name.startswith(LOCK)]
    if left:
        shown = ", ".join(str(path.relative_to(run.root)) for path in left[:3]) + (", ..." if len(left) > 3 else "")
        callback(f"{len(left)} files that this run did not make are left as they are: {shown}")


def _made(run: Run) -> Iterator[Path]:
    patterns = [
        *STAGES,
        *(resume_file(Path(file)).name for file in STAGES),
        *_OF_RUN,
        _UNFINISHED,
        f"metrics/{_UNFINISHED}",
    ]
    pages = [f"{name}{end}" for name in every_notebook() for end in (".ipynb", ".html", ".failed.ipynb")]
    for folder, names in (
        (run.folder, patterns),
        (run.report, [*pages, *_OF_REPORT, _UNFINISHED, f"figures/{_UNFINISHED}"]),
    ):
        if folder == run.folder and not (folder / SETTINGS).is_file():
            continue  # no run has been here
        for name in names:
            yield from (path for path in folder.glob(name) if path.is_file())


def _files(run: Run) -> list[Path]:
    folders = (run.folder, run.report)
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _refuse_links(run: Run) -> None:
    for folder in (run.folder, run.report):
        links = [folder] if folder.is_symlink() else [path for path in folder.rglob("*") if path.is_symlink()]
        if links:
            raise DataError(
                f"{links[0].relative_to(run.root)} is a link, and --fresh deletes nothing through one: "
                "remove the link, or give this run another name"
            )
