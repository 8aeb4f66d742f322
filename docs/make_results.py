"""Write docs/results.md from the metrics.json files of finished runs: no number in it is typed by hand.

    python docs/make_results.py reports/best-small reports/best-small-8 reports/best-small-9 [--out docs/results.md]

The runs are the same recipe with different seeds; the tables give the mean over them and, from two runs on, the half
width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from starclip_lib.files import atomic_path
from starclip_lib.labels import LABELS, PLAIN, UNITS
from starclip_lib.report import PUBLISHED_RETRIEVAL, read_metrics

DIRECTIONS = ("nirspec_to_apogee", "apogee_to_nirspec")
MOCK = ("mock_to_extended", "extended_to_mock")
SHOWN = {
    "nirspec_to_apogee": "NIRSpec → APOGEE",
    "apogee_to_nirspec": "APOGEE → NIRSpec",
    "mock_to_extended": "mock → extended",
    "extended_to_mock": "extended → mock",
}


def cell(values: list[float], digits: int = 3) -> str:
    """Mean and half width of its interval."""
    x = np.array(values, float)
    text = f"{x.mean():.{digits}f}"
    if len(x) > 1:
        text += f" ± {stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)):.{digits}f}"
    return text


def pick(runs: list[dict[str, Any]], *keys: str) -> list[float]:
    """One number of each run."""
    out = []
    for run in runs:
        value: Any = run
        for key in keys:
            value = value[key]
        out.append(value)
    return out


def retrieval(runs: list[dict[str, Any]]) -> list[str]:
    """The counterpart of the paper's Table 3."""
    lines = ["| method | query → found | R@1 | R@10 | MRR | candidates |", "|---|---|---|---|---|---|"]
    rows = [
        ("raw spectra", ("retrieval", "raw"), DIRECTIONS),
        ("linear alignment (CCA)", ("baselines", "retrieval", "cca"), DIRECTIONS),
        ("**StarCLIP**", ("retrieval", "starclip"), DIRECTIONS),
        ("limit: ideal matcher", ("baselines", "retrieval", "ideal"), DIRECTIONS),
        ("raw spectra", ("retrieval", "raw"), MOCK),
        ("**MockStarCLIP**", ("retrieval", "mockstarclip"), MOCK),
    ]
    for name, path, directions in rows:
        for direction in directions:
            scores = [cell(pick(runs, *path, direction, key)) for key in ("success@1", "success@10", "mrr")]
            candidates = int(pick(runs, *path, direction, "candidates")[0])
            lines.append(f"| {name} | {SHOWN[direction]} | {' | '.join(scores)} | {candidates:,} |")
    for direction in (*DIRECTIONS, *MOCK):
        first, _, ten, _, mrr = PUBLISHED_RETRIEVAL[direction]
        lines.append(f"| published, on its own data, with its leak | {SHOWN[direction]} | {first} | {ten} | {mrr} | |")
    return lines


def labels(runs: list[dict[str, Any]]) -> list[str]:
    """The counterpart of the paper's Table 5, with the limit."""
    methods = {
        "nearest spectra": "nearest spectra",
        "PCA + ridge": "PCA + ridge",
        "ridge": "ridge",
        "CNN": "CNN (StarNet)",
    }
    heads = [*methods.values(), "**StarCLIP probe**", "limit"]
    lines = ["| label | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for label, name, unit in zip(LABELS, PLAIN, UNITS, strict=True):
        digits = 1 if label == "Teff" else 4
        cells = [cell(pick(runs, "baselines", "probing", method, "rmse", label), digits) for method in methods]
        cells.append(cell(pick(runs, "probing", "starclip", "rmse", label), digits))
        cells.append(cell(pick(runs, "baselines", "limit", label), digits))
        lines.append(f"| {name} [{unit}] | {' | '.join(cells)} |")
    return lines


def views(runs: list[dict[str, Any]]) -> list[str]:
    """How close single views come to their limit, by their noise."""
    lines = ["| SNR per pixel | median RMSE / limit | labels within 1.5 × the limit |", "|---|---|---|"]
    for number in range(len(runs[0]["baselines"]["by_snr"]["snr"])):
        ratios = [np.array(run["baselines"]["by_snr"]["over_limit"][number]) for run in runs]
        snr = np.mean([run["baselines"]["by_snr"]["snr"][number] for run in runs])
        within = cell([float((ratio <= 1.5).sum()) for ratio in ratios], 0 if len(runs) == 1 else 1)
        lines.append(
            f"| {snr:.0f} | {cell([float(np.median(ratio)) for ratio in ratios], 2)} | {within} of {len(LABELS)} |"
        )
    return lines


def duration(minutes: list[float]) -> str:
    """What the runs took."""
    if len(minutes) == 1:
        return f"The run takes {minutes[0]:.0f} minutes, all notebooks included."
    return f"Each run takes {min(minutes):.0f} to {max(minutes):.0f} minutes, all notebooks included."


def main() -> None:
    """Read the runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    arguments = parser.parse_args()
    runs = [read_metrics(path) for path in arguments.reports]
    first = runs[0]
    data, limits = first["data"], first["params"]["limits"]
    seeds = ("seed " if len(runs) == 1 else "seeds ") + ", ".join(str(run["seed"]) for run in runs)
    spread = (
        "One run: no interval over seeds."
        if len(runs) == 1
        else "Mean over the seeds ± half width of its 95 % interval."
    )
    minutes = [sum(run["seconds"].values()) / 60 for run in runs]
    file = f"params/{first['run']}.yaml"
    commands = [f"    starclip run {file}"]
    commands += [f"    starclip run {file} --set name={run['run']} --set seed={run['seed']}" for run in runs[1:]]
    page = [
        "# Results",
        "",
        f"`{file}`: {data['n_stars']:,} simulated stars, {data['n_test']:,} of them for the test and seen by no stage",
        f"of the training; {first['device']}; {seeds}. Hits by star id, candidates all views of all test stars,",
        f"labels from the mean of five mock views. {spread}",
        "Made by `python docs/make_results.py` from the `metrics.json` of",
        "",
        *commands,
        "",
        duration(minutes),
        "",
        "## Finding the same star (the paper's Table 3)",
        "",
        *retrieval(runs),
        "",
        "The ideal matcher knows the noise, gaps and covariances of each spectrum; it is asked for the first",
        f"{limits['n_matched']} test stars. The published numbers come from other data and another protocol.",
        "",
        "## Labels of NIRSpec spectra (the paper's Table 5): RMSE",
        "",
        *labels(runs),
        "",
        "The limit is the Cramér-Rao bound of the very views that were judged, with the population's spread as prior,",
        f"on the first {limits['n_stars']} test stars. The CNN is the paper's StarNet with our inputs and training.",
        "",
        "## One view at a time",
        "",
        *views(runs),
    ]
    with atomic_path(arguments.out) as part:
        part.write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
