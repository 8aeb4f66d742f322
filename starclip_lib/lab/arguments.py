"""The arguments of the command `starclip`."""

from __future__ import annotations

import argparse
from pathlib import Path

from starclip_lib import __version__

_POPULATION = "prior on labels: wide (giants of any galaxy; the default) or milky-way"


def parser() -> argparse.ArgumentParser:
    """The arguments of the command; `command` is the name of what is to be done."""
    top = argparse.ArgumentParser(
        prog="starclip", description="APOGEE and JWST/NIRSpec spectra of giant stars in one space."
    )
    top.add_argument("--version", action="version", version=f"starclip {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the pipeline on a parameter file and write its report")
    run.add_argument("params", type=Path, metavar="PARAMS", help="parameter file or its name, such as quick")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, such as data.n_stars=1000"
    )
    run.add_argument("--observed", type=Path, metavar="FOLDER", help="folder of observed NIRSpec spectra (spec1d, x1d)")
    run.add_argument("--fresh", action="store_true", help="delete what this run has made and start again")
    run.set_defaults(command="run")

    observe = commands.add_parser("observe", help="measure observed spectra of giants; nothing has to be trained")
    observe.add_argument(
        "observed",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="files of spectra (PypeIt, STScI, SpeX, tables), or folders",
    )
    observe.add_argument("--lsf", default="", help="line-spread function: 3.9 (FWHM in Angstrom), R=2000, a CSV file")
    observe.add_argument(
        "--prior", type=Path, metavar="FILE", help="CSV of magnitudes, colours or labels: docs/guides/priors.md"
    )
    observe.add_argument("--population", default="wide", metavar="NAME", help=_POPULATION)
    observe.add_argument("--combine", action="store_true", help="spectra of one target are one star")
    observe.add_argument(
        "--store", type=Path, metavar="FOLDER", help="store of starclip embed whose APOGEE stars are the neighbours"
    )
    _add_reading(observe)
    observe.add_argument("--output", type=Path, metavar="FOLDER", help="where tables and pages go (./observed)")
    observe.add_argument(
        "--params",
        type=Path,
        help="use trained networks instead, such as params/m71.yaml",
        metavar="PARAMS",
    )
    observe.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="with --params: a setting")
    observe.set_defaults(command="observe")

    real = commands.add_parser(
        "benchmark-real", help="measure real stars whose labels or cluster are known: how right is it?"
    )
    real.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="spectra, and a CSV with file and teff, logg, fe_h or cluster",
    )
    real.add_argument(
        "--fetch", metavar="NAME", help="download and measure a frozen benchmark instead: nirspec-giants-v1"
    )
    real.add_argument("--folder", dest="found", type=Path, metavar="FOLDER", help="with --fetch: files that are there")
    real.add_argument(
        "--table", type=Path, metavar="FILE", help="with --score: CSV of file, teff, logg, fe_h, ..._error"
    )
    real.add_argument("--score", action="store_true", help="score --table, from any method, on the frozen benchmark")
    real.add_argument("--labels", type=Path, metavar="FILE", help="the CSV, if it lies elsewhere")
    real.add_argument("--lsf", default="", help="line-spread function, as for observe")
    real.add_argument("--population", default="wide", metavar="NAME", help=_POPULATION)
    _add_reading(real)
    real.add_argument("--params", type=Path, metavar="PARAMS", help="judge the networks of this finished run instead")
    real.add_argument("--emulator", type=Path, metavar="FILE", help="another emulator, to compare versions")
    real.add_argument("--output", type=Path, metavar="FOLDER", help="where table and figure go (./benchmark)")
    real.set_defaults(command="benchmark_real")

    train = commands.add_parser("train", help="make the models of a run without its notebooks")
    train.add_argument("params", type=Path, metavar="PARAMS", help="parameter file, such as params/best.yaml")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    train.set_defaults(command="train")

    evaluate = commands.add_parser(
        "evaluate", help="judge a finished run: limits, baselines, probes, decoders, densities, transfer"
    )
    evaluate.add_argument("params", type=Path, metavar="PARAMS", help="parameter file of the run (params/quick.yaml)")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    evaluate.set_defaults(command="evaluate")

    contest = commands.add_parser(
        "contest", help="compare methods on the test stars of a run, which it trains if need be"
    )
    contest.add_argument("params", type=Path, metavar="PARAMS", help="parameter file, such as params/quick.yaml")
    contest.add_argument("methods", nargs="*", metavar="METHOD", help="only these methods (docs/contest.md); else all")
    contest.add_argument("--views", type=int, metavar="N", help="judge N views of each NIRSpec star (all of the run's)")
    contest.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    contest.set_defaults(command="contest")

    browse = commands.add_parser("browse", help="look for similar stars in a web page, on this machine")
    browse.add_argument(
        "params", type=Path, nargs="?", metavar="PARAMS", help="parameter file of a finished run (params/quick.yaml)"
    )
    browse.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    browse.add_argument("--observed", type=Path, metavar="FOLDER", help="mark observed NIRSpec spectra on the map")
    browse.add_argument("--store", type=Path, metavar="FOLDER", help="look at this store of starclip embed instead")
    browse.add_argument("--port", type=int, default=8866, help="port on 127.0.0.1 (8866)")
    browse.add_argument("--no-browser", action="store_true", help="only serve the page; open no web browser")
    browse.set_defaults(command="browse")

    embed = commands.add_parser("embed", help="embed any number of spectra, from files to a store on disk")
    embed.add_argument(
        "spectra",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="data sets (.h5), aspcapStar, apStar, spec1d, x1d; or folders of these",
    )
    embed.add_argument(
        "--params", type=Path, default=Path("quick"), metavar="PARAMS", help="the run whose model (quick)"
    )
    embed.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    embed.add_argument("--output", type=Path, default=Path("store"), metavar="FOLDER", help="the store (./store)")
    embed.add_argument("--instrument", choices=("nirspec", "apogee", "both"), default="both", help="side of data sets")
    embed.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes here (as many as there are cores)"
    )
    embed.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler instead: tcp://host:8786")
    embed.set_defaults(command="embed")

    emulator = commands.add_parser("emulator", help="make an emulator of your own")
    kinds = emulator.add_subparsers(required=True, metavar="ACTION")
    build = kinds.add_parser("build", help="synthesise spectra, fit an emulator to them, and judge it")
    build.add_argument("params", type=Path, metavar="PARAMS", help="parameter file, such as params/emulator.yaml")
    build.add_argument("--output", type=Path, metavar="FOLDER", help="where it works; a killed build goes on there")
    build.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes here (as many as there are cores)"
    )
    build.add_argument("--scheduler", default="", metavar="ADDRESS", help="a Dask scheduler instead: tcp://host:8786")
    build.add_argument("--finished", action="store_true", help="fit the syntheses that are finished; make no more")
    build.set_defaults(command="emulator_build")

    search = commands.add_parser("search", help="the nearest spectra of a store")
    search.add_argument("store", type=Path, metavar="STORE", help="folder that starclip embed has filled")
    search.add_argument("queries", type=Path, nargs="*", metavar="FILE", help="spectra whose twins are wanted")
    search.add_argument("--star", action="append", default=[], metavar="ID", help="a star of the store instead")
    search.add_argument("-k", type=int, default=10, metavar="K", help="how many (10)")
    search.add_argument("--where", default="", metavar="CONDITION", help="such as 'Fe < -1 and Mg - Fe > 0.2'")
    search.add_argument("--output", type=Path, metavar="FILE", help="table to write: .ecsv, .parquet, .csv, .vot")
    search.set_defaults(command="search")

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
    apogee.set_defaults(command="fetch_apogee")

    original = commands.add_parser("import-original", help="make a data set of the paper's own files")
    original.add_argument("--jwst", type=Path, required=True, metavar="FILE", help="JWST_APOGEE.h5")
    original.add_argument("--allstar", type=Path, required=True, metavar="FILE", help="apogee_dr17.h5")
    original.add_argument(
        "--spectra", type=Path, required=True, metavar="FILE", help="APOGEE spectra: apogee_spectra.pkl(.gz), or HDF5"
    )
    original.add_argument(
        "--output", type=Path, metavar="FILE", help="data set to write (the project's archive/original/original.h5)"
    )
    original.set_defaults(command="import_original")

    new = commands.add_parser("new", help="make a workspace: notebooks, parameter files and documents in a new folder")
    new.add_argument("folder", type=Path, metavar="FOLDER", help="a name that is free")
    new.add_argument("--update", action="store_true", help="renew what has not been edited in a workspace")
    new.set_defaults(command="new")

    handout = commands.add_parser("handout", help="write notebooks without their solutions, for a class")
    handout.add_argument(
        "notebooks", type=Path, nargs="*", metavar="NOTEBOOK", help="those of the project if not given"
    )
    handout.add_argument("--output", type=Path, default=Path("handouts"), metavar="FOLDER", help="(./handouts)")
    handout.set_defaults(command="handout")

    mark = commands.add_parser("mark", help="mark the exercises in returned notebooks; nothing in them is run")
    mark.add_argument("folder", type=Path, metavar="FOLDER", help="of returned notebooks")
    mark.add_argument("--output", type=Path, metavar="FILE", help="table to write (.csv)")
    mark.set_defaults(command="mark")

    doctor = commands.add_parser("doctor", help="is this machine ready?  a few seconds, and a cure for each doubt")
    doctor.set_defaults(command="doctor")

    compare = commands.add_parser("compare", help="print the metrics of two runs side by side")
    compare.add_argument("a", metavar="A", help="name of a run, its report folder or its metrics.json")
    compare.add_argument("b", metavar="B", help="the run to compare with")
    compare.set_defaults(command="compare")
    return top


class _Reading(argparse.Action):
    """Collects what a user says about files into one dict, as `read_spectra` takes it."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: object, option: str | None = None
    ) -> None:
        key, value = {"--air": ("air", True), "--vacuum": ("air", False)}.get(option or "", ("", values))
        key = key or str(option).removeprefix("--").replace("-", "_")
        namespace.reading = {**namespace.reading, key: value}


def _add_reading(command: argparse.ArgumentParser) -> None:
    """What a user says about files that do not say it themselves."""
    command.set_defaults(reading={})
    medium = command.add_mutually_exclusive_group()
    medium.add_argument("--air", dest="reading", nargs=0, action=_Reading, help="wavelengths are those in air")
    medium.add_argument("--vacuum", dest="reading", nargs=0, action=_Reading, help="wavelengths are those in vacuum")
    for option, examples in (("--wavelength-unit", "Angstrom, um"), ("--flux-unit", "Jy, or 1 if it is relative")):
        said = f"of columns without a unit: {examples}"
        command.add_argument(option, dest="reading", action=_Reading, metavar="UNIT", help=said)
