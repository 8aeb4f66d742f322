"""The command `starclip`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from contextlib import suppress
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING

from starclip_lib.lab.arguments import parser
from starclip_lib.support.errors import NotebookError, StarclipError, SystemFault, one_line, system_message

if TYPE_CHECKING:
    from starclip_lib.run import Run


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns 0, 1 (an error to correct), 130 (interrupted) or 141 (the output was closed)."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed by the parent process: files opened next must not take its number
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    arguments = parser().parse_args(argv)
    try:
        _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except NotebookError as error:
        print(f"starclip: error: {error}", file=sys.stderr)
        return 1
    except StarclipError as error:
        return _complain(str(error))
    except BrokenPipeError:
        _forget_output()
        return 141
    except (OSError, MemoryError) as error:
        return _complain(system_message(error))
    except ModuleNotFoundError as error:
        if not (extra := _extra(error.name or "", arguments.command)):
            raise
        return _complain(f"{error.name} is not installed: pip install 'starclip[{extra}]'")
    except KeyboardInterrupt:
        print("\nstarclip: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _complain(message: str) -> int:
    """One line of an error; returns the exit status."""
    with suppress(OSError):
        print(f"starclip: error: {one_line(message)}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()
    return 1


def _extra(module: str, command: str) -> str:
    """The extra that brings a module which is not there: the command's own, or the smallest; empty if none does."""
    name = {"umap": "umap-learn", "IPython": "ipykernel"}.get(module, module.partition(".")[0]).replace("_", "-")
    brought = [re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line) for line in requires("starclip") or ()]
    pairs = [(found[1], found[2]) for found in brought if found]
    sizes = Counter(extra for _, extra in pairs)
    bringing = [extra for package, extra in pairs if package == name]
    return min(bringing, key=lambda extra: (extra != command, sizes[extra]), default="")


def _forget_output() -> None:
    """The reader of the output has gone: without this, Python would report it again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SystemFault(f"standard output cannot be written: {system_message(error)}") from error


def _run(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.report import headlines, read_metrics
    from starclip_lib.lab.runner import effort, run_pipeline  # torch, which `--help` need not wait for

    run = _open(arguments, arguments.params)
    _say(f"starclip run {arguments.params}: notebooks into {os.path.relpath(run.report)}, then its index.html")
    _say(effort(run))
    if arguments.fresh:
        from starclip_lib.lab.cleaning import forget

        forget(run, _say)
    index = os.path.relpath(run_pipeline(run, _say))
    _say("\n".join([*headlines(read_metrics(run.report)), f"\nOpen {index}"]))


def _open(arguments: argparse.Namespace, params: Path) -> Run:
    """The run of a parameter file, a name or a run's folder, with the settings that the command line changes."""
    from starclip_lib.lab.workspace import notice
    from starclip_lib.run import Run, open_run
    from starclip_lib.settings.params import merge_assignments
    from starclip_lib.support.files import project_root

    if not params.exists() and not params.suffix and len(params.parts) == 1:
        params = project_root(Path.cwd()) / "params" / f"{params}.yaml"
    overrides, folder = merge_assignments(arguments.set), getattr(arguments, "observed", None)
    run = (open_run if params.is_dir() else Run.open)(params, overrides)
    if changed := notice(run.root):
        _say(changed)
    if folder is None:
        return run
    if not folder.is_dir():
        raise StarclipError(f"--observed {folder}: no such folder")
    observed = {**overrides.get("observed", {}), "folder": os.path.relpath(folder, run.root)}
    return Run.open(params, {**overrides, "observed": observed})


def _observe(arguments: argparse.Namespace) -> None:
    if arguments.params is not None:
        _observe_with_networks(arguments)
        return
    from starclip_lib.lab.observing import observe

    if arguments.set:
        raise StarclipError("--set changes a run's settings: give --params, or leave it out")
    _say(f"starclip observe: tables and pages into {(output := arguments.output or Path('observed'))}")
    options = (arguments.lsf, arguments.prior, arguments.combine, arguments.population, arguments.reading)
    observe(arguments.observed, output, _say, *options, arguments.store)


def _observe_with_networks(arguments: argparse.Namespace) -> None:
    given = {"--lsf": arguments.lsf, "--prior": arguments.prior, "--combine": arguments.combine}
    given |= {"--store": arguments.store, "--output": arguments.output, "--air, --vacuum or a unit": arguments.reading}
    given["--population"] = arguments.population != "wide"
    if wrong := [name for name, value in given.items() if value]:
        raise StarclipError(f"{wrong[0]} is not for networks: leave it out, or leave out --params")
    if len(arguments.observed) != 1:
        raise StarclipError("with --params give one folder of spectra")
    (arguments.observed,), arguments.fresh = arguments.observed, False
    _run(arguments)


def _benchmark_real(arguments: argparse.Namespace) -> None:
    if arguments.emulator is not None:
        os.environ["STARCLIP_EMULATOR"] = str(arguments.emulator)  # before anything has read the package's own
    from starclip_lib.lab.benchmark import benchmark_real, check_choice, frozen_benchmark, score_table

    check_choice(arguments)
    arguments.set, output = [], arguments.output or Path("benchmark")
    run = _open(arguments, arguments.params) if arguments.params is not None else None
    options = (arguments.lsf, run, arguments.population, arguments.reading)
    if arguments.score:
        score_table(arguments.fetch or "nirspec-giants-v1", arguments.table, _say)
    elif arguments.fetch:
        frozen_benchmark(arguments.fetch, output, _say, arguments.found, *options)
    else:
        benchmark_real(arguments.folder, output, _say, arguments.labels, *options)


def _train(arguments: argparse.Namespace) -> None:
    _open(arguments, arguments.params).train(_say)


def _evaluate(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.runner import run_evaluation

    page = os.path.relpath(run_evaluation(_open(arguments, arguments.params), _say))
    _say(f"\nOpen {page}; the numbers are in metrics.json beside it")


def _contest(arguments: argparse.Namespace) -> None:
    from starclip_lib.suite.contest import check_names, hold

    check_names(arguments.methods)  # before anything is trained
    hold(_open(arguments, arguments.params), arguments.methods, _say, arguments.views)


def _browse(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.widgets.browser_page import browse, browse_store
    from starclip_lib.support.files import project_root

    if arguments.store is not None:
        from starclip_lib.survey.store import Store

        if arguments.params or arguments.set or arguments.observed:
            raise StarclipError("--store opens a store alone: leave out PARAMS, --set and --observed")
        browse_store(Store(arguments.store), arguments.port, not arguments.no_browser, _say)
        return
    run = _open(arguments, arguments.params or project_root(Path.cwd()) / "params" / "quick.yaml")
    browse(run, arguments.port, not arguments.no_browser, _say)


def _embed(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.surveying import embed_files

    if arguments.workers < 0:
        raise StarclipError(f"--workers {arguments.workers}: give 1 or more, or leave it out")
    sides = ("nirspec", "apogee") if arguments.instrument == "both" else (arguments.instrument,)
    run = _open(arguments, arguments.params)
    embed_files(arguments.spectra, run, arguments.output, sides, arguments.workers, arguments.scheduler, _say)


def _emulator_build(arguments: argparse.Namespace) -> None:
    from starclip_lib.building.building import build

    build(arguments.params, arguments.output, arguments.workers, arguments.scheduler, _say, arguments.finished)


def _search(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.surveying import search_store

    if bool(arguments.queries) == bool(arguments.star):
        raise StarclipError("give either files of spectra or --star ID")
    wanted = (arguments.queries, arguments.star, arguments.k, arguments.where)
    search_store(arguments.store, *wanted, arguments.output, _say)


def _fetch_apogee(arguments: argparse.Namespace) -> None:
    from starclip_lib.settings.params import load_params, merge_assignments
    from starclip_lib.support.files import locked, project_root
    from starclip_lib.survey.apogee_dr17 import fetch_apogee

    file = arguments.params or project_root(Path.cwd()) / "params" / "apogee.yaml"
    params = load_params(file, merge_assignments(arguments.set))
    root = project_root(Path.cwd(), file.parent)
    with locked(root / params.data.archive.folder):
        path = fetch_apogee(params.data, params.seed, root, _say, arguments.skip_failed)
    _say(f"{os.path.relpath(path)} is ready: starclip run {os.path.relpath(file)}")


def _import_original(arguments: argparse.Namespace) -> None:
    from starclip_lib.support.files import project_root
    from starclip_lib.survey.original import import_original

    output = arguments.output or project_root(Path.cwd()) / "archive" / "original" / "original.h5"
    for given in (arguments.jwst, arguments.allstar, arguments.spectra):
        if output.exists() and given.exists() and output.samefile(given):
            raise StarclipError(f"--output {output} is one of the files to read; give it another name")
    data = import_original(arguments.jwst, arguments.allstar, arguments.spectra, callback=_say)
    data.write(output)
    _say(f"{os.path.relpath(output)} is ready, {data.n_stars:,} stars: starclip run params/original.yaml")


def _new(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.workspace import new_workspace, update_workspace

    if arguments.update:
        update_workspace(arguments.folder, _say)
    else:
        new_workspace(arguments.folder)
        _say(f"{arguments.folder} is ready: cd {arguments.folder}, then starclip run quick; its README.md has more")


def _handout(arguments: argparse.Namespace) -> None:
    from starclip_lib.support.files import project_root
    from starclip_lib.teaching.classroom import write_handouts

    chosen = arguments.notebooks or sorted((project_root(Path.cwd()) / "notebooks").glob("*.ipynb"))
    _say("\n".join(map(os.path.relpath, write_handouts(chosen, arguments.output))))


def _mark(arguments: argparse.Namespace) -> None:
    from starclip_lib.teaching.classroom import mark_returned, write_marks

    _say((table := mark_returned(arguments.folder)).to_string(index=False))
    right, asked = (table["mark"] == "right").sum(), (table["exercise"] != "").sum()
    by_hand = "'by hand' is what is not a plain value or arithmetic: nothing was run"
    _say(f"\n{right} of {asked} exercises are right; {by_hand}")
    if arguments.output:
        write_marks(table, arguments.output)


def _doctor(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.doctor import report

    if not report(Path.cwd(), _say):
        raise StarclipError("this machine is not ready: see above")


def _compare(arguments: argparse.Namespace) -> None:
    from starclip_lib.lab.report import compare, read_metrics
    from starclip_lib.support.files import project_root

    both = map(Path, (arguments.a, arguments.b))
    found = (path if path.exists() else project_root(Path.cwd()) / "reports" / path for path in both)
    _say(compare(*map(read_metrics, found)))


_COMMANDS = {
    "run": _run,
    "observe": _observe,
    "benchmark_real": _benchmark_real,
    "train": _train,
    "evaluate": _evaluate,
    "contest": _contest,
    "browse": _browse,
    "embed": _embed,
    "emulator_build": _emulator_build,
    "search": _search,
    "fetch_apogee": _fetch_apogee,
    "import_original": _import_original,
    "new": _new,
    "handout": _handout,
    "mark": _mark,
    "doctor": _doctor,
    "compare": _compare,
}


if __name__ == "__main__":
    sys.exit(main())
