"""The command `starclip`."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starclip_lib import __version__
from starclip_lib.errors import NotebookError, StarclipError, SystemFault, one_line, system_message

if TYPE_CHECKING:
    from starclip_lib.run import Run


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Those of the process if not given.

    Returns
    -------
    int
        The exit status: 0 fine, 1 an error the user can mend, 130 stopped by the user, 141 nobody reads the output any
        more (`| head`).
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # closed by whoever started us: what we open next must not take its number
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
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


def _forget_output() -> None:
    """Nobody can read the output: without this, Python complains once more on its way out."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="starclip", description="APOGEE and JWST/NIRSpec spectra of giant stars in one space."
    )
    parser.add_argument("--version", action="version", version=f"starclip {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the pipeline on a parameter file and write its report")
    run.add_argument("params", type=Path, metavar="PARAMS", help="parameter file, such as params/quick.yaml")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, such as data.n_stars=1000"
    )
    run.add_argument("--observed", type=Path, metavar="FOLDER", help="folder of observed NIRSpec spectra (spec1d, x1d)")
    run.add_argument("--fresh", action="store_true", help="delete what this run made before and begin anew")
    run.set_defaults(command=_run)

    observe = commands.add_parser("observe", help="put observed NIRSpec spectra through models trained for them")
    observe.add_argument("observed", type=Path, metavar="FOLDER", help="PypeIt spec1d_*.fits or STScI *_x1d.fits files")
    observe.add_argument(
        "--params", type=Path, help="parameter file of the models (the project's params/m71.yaml)", metavar="PARAMS"
    )
    observe.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    observe.set_defaults(command=_observe)

    train = commands.add_parser("train", help="make the models of a run without its notebooks; also under torchrun")
    train.add_argument("params", type=Path, metavar="PARAMS", help="parameter file, such as params/best.yaml")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="judge a finished run: probes, decoders, densities, transfer")
    evaluate.add_argument("params", type=Path, metavar="PARAMS", help="parameter file of the run (params/quick.yaml)")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    evaluate.set_defaults(command=_evaluate)

    browse = commands.add_parser("browse", help="look for similar stars in a web page, on this machine")
    browse.add_argument(
        "params", type=Path, nargs="?", metavar="PARAMS", help="parameter file of a finished run (params/quick.yaml)"
    )
    browse.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    browse.add_argument("--observed", type=Path, metavar="FOLDER", help="mark observed NIRSpec spectra on the map")
    browse.add_argument("--port", type=int, default=8866, help="port on 127.0.0.1 (8866)")
    browse.add_argument("--no-browser", action="store_true", help="only serve the page; open no web browser")
    browse.set_defaults(command=_browse)

    fetch = commands.add_parser("fetch", help="download public spectra and make a data set of them")
    sources = fetch.add_subparsers(required=True, metavar="SOURCE")
    apogee = sources.add_parser("apogee", help="red giants of APOGEE DR17, with ab initio NIRSpec partners")
    apogee.add_argument(
        "params", type=Path, nargs="?", metavar="PARAMS", help="parameter file (the project's params/apogee.yaml)"
    )
    apogee.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, such as data.n_stars=400"
    )
    apogee.add_argument("--skip-failed", action="store_true", help="go on without spectra that cannot be downloaded")
    apogee.set_defaults(command=_fetch_apogee)

    original = commands.add_parser("import-original", help="make a data set of the paper's own files")
    original.add_argument("--jwst", type=Path, required=True, metavar="FILE", help="JWST_APOGEE.h5")
    original.add_argument("--allstar", type=Path, required=True, metavar="FILE", help="apogee_dr17.h5")
    original.add_argument(
        "--spectra", type=Path, required=True, metavar="FILE", help="APOGEE spectra: apogee_spectra.pkl(.gz), or HDF5"
    )
    original.add_argument(
        "--output", type=Path, metavar="FILE", help="data set to write (the project's archive/original/original.h5)"
    )
    original.set_defaults(command=_import_original)

    compare = commands.add_parser("compare", help="print the metrics of two runs side by side")
    compare.add_argument("a", metavar="A", help="name of a run, its report folder or its metrics.json")
    compare.add_argument("b", metavar="B", help="the run to compare with")
    compare.set_defaults(command=_compare)
    return parser


def _say(line: str) -> None:
    try:
        print(line, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SystemFault(f"standard output cannot be written: {system_message(error)}") from error


def _run(arguments: argparse.Namespace) -> None:
    from starclip_lib.pipeline.report import headlines, read_metrics
    from starclip_lib.pipeline.runner import forget, run_pipeline  # imports torch, which `--help` need not wait for

    run = _open(arguments, arguments.params)
    _say(f"starclip run {arguments.params}: notebooks into {os.path.relpath(run.report)}, then its index.html")
    if arguments.fresh:
        forget(run)
    index = run_pipeline(run, _say)
    _say("\n".join(headlines(read_metrics(run.report))))
    _say(f"\nOpen {os.path.relpath(index)}")


def _open(arguments: argparse.Namespace, params: Path) -> Run:
    """The run of a parameter file with the settings that the command line changes."""
    from starclip_lib.run import Run
    from starclip_lib.settings.params import merge_assignments

    overrides, folder = merge_assignments(arguments.set), getattr(arguments, "observed", None)
    run = Run.open(params, overrides)
    if folder is None:
        return run
    if not folder.is_dir():
        raise StarclipError(f"--observed {folder}: no such folder")
    observed = {**overrides.get("observed", {}), "folder": os.path.relpath(folder, run.root)}
    return Run.open(params, {**overrides, "observed": observed})


def _observe(arguments: argparse.Namespace) -> None:
    from starclip_lib.files import project_root

    arguments.params = arguments.params or Path(os.path.relpath(project_root(Path.cwd()) / "params" / "m71.yaml"))
    arguments.fresh = False
    _run(arguments)


def _train(arguments: argparse.Namespace) -> None:
    _open(arguments, arguments.params).train(_say)


def _evaluate(arguments: argparse.Namespace) -> None:
    from starclip_lib.pipeline.runner import run_evaluation

    index = run_evaluation(_open(arguments, arguments.params), _say)
    _say(f"\nOpen {os.path.relpath(index)}; the numbers are in metrics.json beside it, under 'evaluation'")


def _browse(arguments: argparse.Namespace) -> None:
    from starclip_lib.files import project_root
    from starclip_lib.widgets.browser_page import browse

    run = _open(arguments, arguments.params or project_root(Path.cwd()) / "params" / "quick.yaml")
    browse(run, arguments.port, not arguments.no_browser, _say)


def _fetch_apogee(arguments: argparse.Namespace) -> None:
    from starclip_lib.files import locked, project_root
    from starclip_lib.settings.params import load_params, merge_assignments
    from starclip_lib.surveys.apogee_dr17 import fetch_apogee

    file = arguments.params or project_root(Path.cwd()) / "params" / "apogee.yaml"
    params = load_params(file, merge_assignments(arguments.set))
    root = project_root(Path.cwd(), file.parent)
    with locked(root / params.data.archive.folder):
        path = fetch_apogee(params.data, params.seed, root, _say, arguments.skip_failed)
    _say(f"{os.path.relpath(path)} is ready: starclip run {os.path.relpath(file)}")


def _import_original(arguments: argparse.Namespace) -> None:
    from starclip_lib.files import project_root
    from starclip_lib.surveys.original import import_original

    output = arguments.output or project_root(Path.cwd()) / "archive" / "original" / "original.h5"
    for given in (arguments.jwst, arguments.allstar, arguments.spectra):
        if output.exists() and given.exists() and output.samefile(given):
            raise StarclipError(f"--output {output} is one of the files to read; give it another name")
    data = import_original(arguments.jwst, arguments.allstar, arguments.spectra, say=_say)
    data.write(output)
    _say(f"{os.path.relpath(output)} is ready, {data.n_stars:,} stars: starclip run params/original.yaml")


def _compare(arguments: argparse.Namespace) -> None:
    from starclip_lib.files import project_root
    from starclip_lib.pipeline.report import compare, read_metrics

    def find(name: str) -> Path:
        path = Path(name)
        return path if path.exists() else project_root(Path.cwd()) / "reports" / name

    _say(compare(*(read_metrics(find(name)) for name in (arguments.a, arguments.b))))


if __name__ == "__main__":
    sys.exit(main())
