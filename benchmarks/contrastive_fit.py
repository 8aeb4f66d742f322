"""What contrastive training adds to the emulator fit: write starclip_lib/metrics/contrastive_fit.json.

    starclip train params/fit.yaml && python benchmarks/contrastive_fit.py [params/fit.yaml]

The run's fit before and after the contrastive loss has trained how far each pixel is trusted; notebook 12 and the page
of a run show the latter beside the methods of that run.
"""

from __future__ import annotations

import sys
from pathlib import Path

from starclip_lib.metrics.retrieval import methods_table
from starclip_lib.run import Run
from starclip_lib.storage.json_files import write_json

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    params = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "params" / "fit.yaml"
    run = Run.open(params)
    kinds = {"starclip": ("nirspec", "apogee"), "mockstarclip": ("mock", "extended")}
    trained = {kind: run.embeddings(f"{model}/{kind}").take("test") for model, pair in kinds.items() for kind in pair}
    fit = {kind: run.embeddings(f"fit/{kind}").take("test") for kind in trained}
    for sides in (trained, fit):
        sides |= {kind: sides[kind].of_view(0) for kind in kinds["mockstarclip"]}
    found = methods_table({"fit": fit, "fit + contrastive": trained})
    made = {"file": params.name, "seed": run.params.seed, "n_stars": run.data.n_stars}
    write_json(ROOT / "starclip_lib" / "metrics" / "contrastive_fit.json", {"made with": made, **found})
    for name, rows in found.items():
        for direction, row in rows.items():
            shown = "  ".join(f"{key} {row[key]:.4f}" for key in ("success@1", "success@10", "mrr"))
            print(f"{name:<18} {direction:<20} {shown}")


if __name__ == "__main__":
    main()
