"""What each part of the recipe is worth: variants of the default, over several seeds.

    python benchmarks/recipe_study.py [--seeds 7 8 9] [--output runs/recipe_study.json] [--variants ...]

Every variant trains both encoders and aligns them on the same simulated stars, and is judged on test stars as notebooks
06 and 08 do.  A seed draws other stars, another split, other weights.  Finished ones are kept in the output file and
not computed again.  Prints a Markdown table: mean over the seeds and the half width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from starclip_lib.data.simulate import simulate_survey
from starclip_lib.lab.report import with_interval
from starclip_lib.metrics.probing import linear_probe
from starclip_lib.metrics.retrieval import mrr, ranks_between, success_rate
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoding import embed_views
from starclip_lib.physics.labels import FE, LOGG, TEFF
from starclip_lib.settings.params import Params, load_params
from starclip_lib.storage.json_files import write_json
from starclip_lib.training import recipes
from starclip_lib.transforms.views import mock_telescope

ROOT = Path(__file__).resolve().parent.parent
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "default: networks (quick.yaml)": ("quick", {}),
    "networks, not calibrated": ("quick", {"starclip": {"calibrate": False}}),
    "networks, fluxes as they are, as the paper": (
        "quick",
        {"pretrain": {"encoder": {"input_scaling": "none"}}},
    ),
    "networks, five frozen copies, as the paper": ("quick", {"corruption": {"fresh": False}}),
    "networks, contrastive loss alone, as the paper": ("quick", {"starclip": {"label_weight": 0.0}}),
}
COLUMNS = {
    "n2a": "R@1 NIRSpec → APOGEE",
    "n2a_mrr": "MRR",
    "a2n": "R@1 APOGEE → NIRSpec",
    "a2n_mrr": "MRR ",
    "teff": "Teff [K]",
    "logg": "log g",
    "feh": "[Fe/H]",
    "minutes": "minutes",
}


def measure(params: Params) -> dict[str, float]:
    """Train a variant and judge it."""
    began = time.perf_counter()
    data = simulate_survey(params.data.n_stars, params.seed, params.data)
    with tempfile.TemporaryDirectory() as scratch:
        path = {name: Path(scratch) / f"{name}.ckpt" for name in ("apogee", "nirspec", "starclip")}
        for name in ("apogee", "nirspec"):
            recipes.train_encoder(path[name], data, params, name)
        recipes.train_starclip(path["starclip"], data, params, path["nirspec"], path["apogee"])
        encoders = Model.load(path["starclip"]).encoders
    minutes = (time.perf_counter() - began) / 60
    every = np.arange(data.n_stars)
    sides = {
        "nirspec": embed_views(encoders["nirspec"], data, every, mock_telescope(params)),
        "apogee": embed_views(encoders["apogee"], data, every),
    }
    known, test = sides["nirspec"].take("train", "val"), {name: e.take("test") for name, e in sides.items()}
    probe = linear_probe(known, data.labels_of(known.star_id), test["nirspec"])
    error = np.sqrt(((probe.labels - data.labels_of(probe.star_id)) ** 2).mean(axis=0))
    there, back = ranks_between(test["nirspec"], test["apogee"]), ranks_between(test["apogee"], test["nirspec"])
    return {
        "n2a": success_rate(there, 1),
        "n2a_mrr": mrr(there),
        "a2n": success_rate(back, 1),
        "a2n_mrr": mrr(back),
        "teff": float(error[TEFF]),
        "logg": float(error[LOGG]),
        "feh": float(error[FE]),
        "minutes": minutes,
    }


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """The results as Markdown."""
    lines = ["| recipe | seeds | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for variant, seeds in found.items():
        cells = []
        for key in COLUMNS:
            values = [result[key] for result in seeds.values()]
            digits = {"teff": 1, "feh": 4}.get(key, 3)
            cells.append(f"{np.mean(values):.1f}" if key == "minutes" else with_interval(values, digits))
        lines.append(f"| {variant} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "recipe_study.json")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    arguments = parser.parse_args()
    found = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    for seed in arguments.seeds:
        for variant in arguments.variants:
            if str(seed) in found.get(variant, {}):
                continue
            file, changes = VARIANTS[variant]
            params = load_params(ROOT / "params" / f"{file}.yaml", {**changes, "seed": seed})
            found.setdefault(variant, {})[str(seed)] = measure(params)
            write_json(arguments.output, found)
            print(f"seed {seed}, {variant.strip()}: {found[variant][str(seed)]}", flush=True)
    print(table({variant: found[variant] for variant in VARIANTS if variant in found}))


if __name__ == "__main__":
    main()
