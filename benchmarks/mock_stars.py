"""How many stars MockStarCLIP needs: retrieval and labels of badly corrupted spectra against the number of stars.

    python benchmarks/mock_stars.py params/quick.yaml [--seeds 7 8 9] [--stars 0 50 100 250 ...] [--output FILE]

Starts from the StarCLIP model and the data of a finished `starclip run` (a seed other than the file's is the run made
with `--set name=NAME-SEED --set seed=SEED`), and trains MockStarCLIP anew for each number of stars; 0 stands for no
training at all.  A number of stars includes those for validation, as `mockstarclip.n_stars` does.  Every model is
judged on all test stars, as notebooks 06 and 08 do.  Finished ones are kept in the output file.  Prints a Markdown
table: mean over the seeds and the half width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from starclip_lib.data.selection import mock_stars
from starclip_lib.lab.report import with_interval
from starclip_lib.metrics.probing import linear_probe
from starclip_lib.metrics.retrieval import ranks_between, success_rate
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoding import embed_views
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.run import Run
from starclip_lib.settings.params import load_params
from starclip_lib.storage.json_files import write_json
from starclip_lib.training import recipes
from starclip_lib.transforms.views import ViewSampler, extended_telescope, mock_telescope

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "m2e": ("R@1 mock → extended", 3),
    "e2m": ("R@1 extended → mock", 3),
    "teff": ("Teff [K]", 1),
    "logg": ("log g", 3),
    "feh": ("[Fe/H]", 4),
}


def measure(run: Run, n_stars: int) -> dict[str, float]:
    """Train MockStarCLIP on so many stars and judge it; without any there is nothing to fit a probe on."""
    data, start = run.data, run.need("starclip.ckpt")
    params = run.params
    if n_stars:
        params = params.changed(mockstarclip=params.mockstarclip.changed(n_stars=n_stars))
    rows = {"known": np.array([], int), "test": data.rows("test")}
    if n_stars:
        stars = mock_stars(data, params)
        rows["known"] = np.concatenate([stars["train"], stars["val"]])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "mockstarclip.ckpt"
            recipes.train_mockstarclip(path, data, params, start)
            encoders = Model.load(path).encoders
    else:
        encoders = dict.fromkeys(("mock", "extended"), Model.load(start).encoders["nirspec"])

    def embed(side: str, part: str, telescope: ViewSampler) -> Embeddings:
        return embed_views(encoders[side], data, rows[part], telescope)

    worse = extended_telescope(data, params)
    test = {"mock": embed("mock", "test", mock_telescope(params)), "extended": embed("extended", "test", worse)}
    first = {name: side.of_view(0) for name, side in test.items()}
    found = {
        "m2e": success_rate(ranks_between(first["mock"], first["extended"]), 1),
        "e2m": success_rate(ranks_between(first["extended"], first["mock"]), 1),
    }
    if n_stars:
        known = embed("extended", "known", worse)
        probe = linear_probe(known, data.labels_of(known.star_id), test["extended"])
        error = np.sqrt(((probe.labels - data.labels_of(probe.star_id)) ** 2).mean(axis=0))
        found |= {"teff": float(error[TEFF]), "logg": float(error[LOGG]), "feh": float(error[FE])}
    return found


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown."""
    lines = ["| stars | seeds | " + " | ".join(name for name, _ in COLUMNS.values()) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for stars in sorted(found, key=int):
        seeds = list(found[stars].values())
        cells = [
            with_interval([seed[key] for seed in seeds], digits) if key in seeds[0] else "–"
            for key, (_, digits) in COLUMNS.items()
        ]
        lines.append(f"| {int(stars):,} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--stars", type=int, nargs="+", default=[0, 50, 100, 250, 500, 1000])
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "mock_stars.json")
    arguments = parser.parse_args()
    found = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    file = load_params(arguments.params)
    for seed in arguments.seeds:
        name = file.name if seed == file.seed else f"{file.name}-{seed}"
        run = Run.open(arguments.params, {"name": name, "seed": seed})
        for n_stars in arguments.stars:
            if str(seed) in found.get(str(n_stars), {}):
                continue
            found.setdefault(str(n_stars), {})[str(seed)] = measure(run, n_stars)
            write_json(arguments.output, found)
            print(f"seed {seed}, {n_stars} stars: {found[str(n_stars)][str(seed)]}", flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
