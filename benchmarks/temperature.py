"""The paper's two temperatures on spectra: a scale of the cosines fixed at 15.5, or learned from 1 / 0.07 on.

    python benchmarks/temperature.py [params/quick.yaml] [--epochs 30]

Takes the stars and settings of a run that has its data set.  Networks with the paper's plain twenty-dimensional
embedding (no lift, no calibration) are pretrained once and then aligned with each temperature.  Prints a Markdown
table: the scale at the end of the training, and how often the right test star is found first, before and after.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from starclip_lib.metrics.retrieval import ranks_between
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.encoding import embed_views
from starclip_lib.run import Run, open_run
from starclip_lib.training import recipes
from starclip_lib.transforms.views import mock_telescope

CASES = {
    "fixed at 15.5": {"logit_scale": 15.5, "learn_scale": False},
    "learned from 1 / 0.07, at most 100": {"logit_scale": 1 / 0.07, "learn_scale": True, "max_scale": 100.0},
    "fixed at 100": {"logit_scale": 100.0, "learn_scale": False, "max_scale": 100.0},
}


def first(run: Run, encoders: dict[str, Encoder]) -> str:
    """R@1 of single views among the test stars, in both directions."""
    rows = run.data.rows("test")
    nirspec, apogee = (
        embed_views(encoders[name], run.data, rows, telescope)
        for name, telescope in (("nirspec", mock_telescope(run.params, 1)), ("apogee", None))
    )
    both: list[tuple[Embeddings, Embeddings]] = [(nirspec, apogee), (apogee, nirspec)]
    return " | ".join(f"{(ranks_between(*pair) == 1).mean():.3f}" for pair in both)


def main() -> None:
    """Train, and print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="?", default="params/quick.yaml")
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()
    plain = {"pretrain": {"encoder": {"kind": "residual_mlp", "lift": 0.0}}, "starclip": {"calibrate": False}}
    run = open_run(args.params, plain)
    params, data = run.params, run.data
    print("| temperature | scale at the end | NIRSpec finds APOGEE | APOGEE finds NIRSpec |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch) / f"{name}.ckpt" for name in ("nirspec", "apogee")}
        for name, file in files.items():
            recipes.train_encoder(file, data, params, name)
        before = {name: Model.load(file).encoders[name] for name, file in files.items()}
        print(f"| before alignment | | {first(run, before)} |", flush=True)
        for title, case in CASES.items():
            train = params.starclip.train.changed(epochs=args.epochs)
            aligned = params.changed(starclip=params.starclip.changed(**case, train=train))
            recipes.train_starclip(Path(scratch) / "starclip.ckpt", data, aligned, files["nirspec"], files["apogee"])
            model = Model.load(Path(scratch) / "starclip.ckpt")
            print(f"| {title} | {model.logit_scale:.1f} | {first(run, model.encoders)} |", flush=True)


if __name__ == "__main__":
    main()
