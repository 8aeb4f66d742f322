"""Write docs/results.md from the metrics.json files of evaluated runs: no number in it is typed by hand.

    python docs/make_results.py reports/best-small reports/best-small-8 reports/best-small-9 \\
        --unseen reports/best-small-101 ... --paper reports/paper-4000 --leak reports/paper-4000-leak \\
        --scale reports/best ... [--out docs/results.md]

The first runs are the same recipe with different seeds; the tables give the mean over them and, from two runs on, the
half width of its 95 % interval (Student's t); shares of queries have Wilson intervals over all stars of all runs.  The
others are the recipe with seeds that were never looked at while it was chosen, the paper's recipe on as many stars,
without and with the leak of its evaluation (`pretrain.leak`), and the
recipe on as many stars as the paper has.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from starclip_lib.lab.report import PUBLISHED_RETRIEVAL, read_metrics, with_interval
from starclip_lib.metrics.retrieval import wilson_interval
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.labels import LABELS, PLAIN, UNITS
from starclip_lib.support.errors import DataError, StarclipError
from starclip_lib.support.files import atomic_path

PAPER = "the paper's recipe"
IDEAL = "Gaussian ideal matcher"
RAW = {"starclip": "raw pixels on different wavelengths", "mockstarclip": "raw pixels"}
DIRECTIONS = ("nirspec_to_apogee", "apogee_to_nirspec")
MOCK = ("mock_to_extended", "extended_to_mock")
# r2 of the probe as published: Table 5 (StarCLIP) and Table 6 (MockStarCLIP), in the order of `LABELS`
PUBLISHED_R2 = {
    "starclip": "0.983 0.918 0.973 0.955 0.975 0.901 0.976 0.960 0.981 0.914 "
    "0.904 0.981 0.983 0.916 0.961 0.987 0.990 0.962 0.985 0.910",
    "mockstarclip": "0.935 0.837 0.964 0.956 0.962 0.903 0.965 0.940 0.970 0.925 "
    "0.924 0.974 0.975 0.892 0.952 0.984 0.985 0.960 0.981 0.928",
}
CHOSEN = """\
The recipe and its settings were chosen by results on the test stars of seed 7, so seed 7 flatters it by an unknown
amount. Seeds that were never looked at while it was chosen have [their own section](#seeds-never-looked-at)."""
NO_UNSEEN = """\
No run with such a seed has been made yet. These commands make three; `python docs/make_results.py ... --unseen` then
makes the table."""
NOT_RUN_AGAIN = """\
The paper's own recipe (`params/paper.yaml`), with the emulator `abinitio-2`, on 4,000 stars and seed 21, which was
never looked at: with Adam and a weight decay of 0.2, as in the paper's Table 2, it finds 0.051 of first hits from
NIRSpec to APOGEE and 0.034 back (R@10 0.344 and 0.215; chance 0.001). MockStarCLIP was not measured. The paper's
notebooks use AdamW there, and so did this project before: commit `a93ae4a`, with `abinitio-1` and seed 7, found 0.247
and 0.306. Optimiser, emulator and seed differ between the two; which of them matters was not tested."""
COVERAGE = """\
| stars | Teff | log g | [Fe/H] | all twenty |
|---|---|---|---|---|
| in the population | 1.000 | 1.000 | 1.000 | 0.989 |
| correlated noise, 0.4 between neighbouring pixels | 1.000 | 1.000 | 1.000 | 0.988 |
| metal-poor, [Fe/H] = -1.5 | 1.000 | 1.000 | 1.000 | 0.995 |
| 0.5 dex below the giant branch | 1.000 | 1.000 | 1.000 | 0.994 |"""
SHOWN = {
    "nirspec_to_apogee": "NIRSpec → APOGEE",
    "apogee_to_nirspec": "APOGEE → NIRSpec",
    "mock_to_extended": "mock → extended",
    "extended_to_mock": "extended → mock",
}


def read_evaluated(path: Path) -> dict[str, Any]:
    """The metrics of a run that `starclip evaluate` has judged.

    Raises
    ------
    DataError
        If the numbers of notebook 12 are missing.
    """
    metrics = read_metrics(path)
    if "baselines" not in metrics:
        raise DataError(
            f"{path}: no baselines in its metrics.json; run: starclip evaluate params/{metrics['run']}.yaml"
        )
    return metrics


def pick(runs: list[dict[str, Any]], *keys: str) -> list[float]:
    """One number of each run."""
    out = []
    for run in runs:
        value: Any = run
        for key in keys:
            value = value[key]
        out.append(value)
    return out


def published() -> list[str]:
    """What the paper reports, for its own data and protocol."""
    lines = ["| query → found | R@1 | R@10 | MRR |", "|---|---|---|---|"]
    for direction in (*DIRECTIONS, *MOCK):
        first, _, ten, _, mrr = PUBLISHED_RETRIEVAL[direction]
        lines.append(f"| {SHOWN[direction]} | {first} | {ten} | {mrr} |")
    lines += ["", "| r² of a linear probe | StarCLIP (Table 5) | MockStarCLIP (Table 6) |", "|---|---|---|"]
    both = zip(PLAIN, *(PUBLISHED_R2[model].split() for model in ("starclip", "mockstarclip")), strict=True)
    return [*lines, *(f"| {name} | {star} | {mock} |" for name, star, mock in both)]


def is_fit(run: dict[str, Any]) -> bool:
    """Whether the run's encoders fit the emulator to each spectrum."""
    return run["params"]["pretrain"]["encoder"]["kind"] == "newton"


def regression(run: dict[str, Any], model: str) -> str:
    """What reads the labels of a run, in words."""
    if is_fit(run):
        return f"a linear regression on the posterior means of the fits ({model}'s encoder)"
    return f"a linear probe on {model}'s embedding"


def retrieval(runs: list[dict[str, Any]], others: dict[str, dict[str, Any]]) -> list[str]:
    """The counterpart of the paper's Table 3."""
    lines = []
    for model, title, directions in (("starclip", "StarCLIP", DIRECTIONS), ("mockstarclip", "MockStarCLIP", MOCK)):
        lines += ["", f"| {title} | query → found | R@1 | R@10 | MRR | candidates |", "|---|---|---|---|---|---|"]
        rows = [(RAW[model], ("retrieval", "raw"), runs)]
        if model == "starclip":
            rows.append(("overlap: chi-squared over common pixels", ("baselines", "retrieval", "overlap"), runs))
            rows.append(("a linear alignment (regularised CCA)", ("baselines", "retrieval", "cca"), runs))
        rows += [(name, ("retrieval", model), [run]) for name, run in others.items()]
        rows.append(("**this recipe**", ("retrieval", model), runs))
        rows.append((IDEAL, ("baselines", "retrieval", "ideal"), runs))
        for direction in directions:
            for name, path, judged in rows:
                found = [shares(judged, name, path, direction, k) for k in ("success@1", "success@10", "mrr")]
                candidates = int(pick(judged, *path, direction, "candidates")[0])
                lines.append(f"| {name} | {SHOWN[direction]} | {' | '.join(found)} | {candidates:,} |")
    return lines[1:]


def observed(runs: list[dict[str, Any]]) -> list[str]:
    """Observed NIRSpec spectra beside computed ones: first hits of the ladder of notebook 06, one view of each star."""
    if not all(run["retrieval"].get("observed") for run in runs):
        return []
    lines = ["| method | observed NIRSpec → APOGEE, R@1 | R@10 |", "|---|---|---|"]
    for name in runs[0]["retrieval"]["observed"]:
        found = [shares(runs, name, ("retrieval", "observed"), name, key) for key in ("success@1", "success@10")]
        lines.append(f"| {name} | {' | '.join(found)} |")
    return [
        "",
        "## Observed NIRSpec spectra",
        "",
        "The world of these runs differs from theory ([worlds](worlds.md)). NIRSpec spectra of the test stars,",
        "observed in it, search among the APOGEE spectra, one view of each star; no method has learned from them.",
        "[The contest](contest.md) has methods that do.",
        "",
        *lines,
    ]


def shares(runs: list[dict[str, Any]], name: str, path: tuple[str, ...], direction: str, score: str) -> str:
    """A proportion over all runs with its 95 % Wilson interval; each star of each run is one trial."""
    asked = [run["params"]["limits"]["n_matched"] if name == IDEAL else run["data"]["n_test"] for run in runs]
    stars = [min(n, run["data"]["n_test"]) for n, run in zip(asked, runs, strict=True)]
    value = float(np.average(pick(runs, *path, direction, score), weights=stars))
    low, high = wilson_interval(value, sum(stars))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def beside(runs: list[dict[str, Any]], others: dict[str, dict[str, Any]]) -> list[str]:
    """What the paper's recipe is, and how many times as often as with it the right star comes first."""
    lines = []
    if others:
        lines = [
            "The paper's recipe is `params/paper.yaml`, its settings to the letter, on as many stars, one run each;",
            "the leak is that of the published evaluation, whose encoders were pretrained on most of the test stars.",
        ]
    if PAPER not in others:
        return lines
    paper = others[PAPER]
    times = {
        direction: np.mean(pick(runs, "retrieval", model, direction, "success@1"))
        / paper["retrieval"][model][direction]["success@1"]
        for model, directions in (("starclip", DIRECTIONS), ("mockstarclip", MOCK))
        for direction in directions
    }
    found = ", ".join(f"{ratio:.3g} ({SHOWN[direction]})" for direction, ratio in times.items())
    return [
        *lines,
        f"The right star comes first so many times as often as with the paper's recipe: {found}.",
    ]


def determination(runs: list[dict[str, Any]], others: dict[str, dict[str, Any]], model: str) -> list[str]:
    """The counterpart of the paper's Table 5 or 6: share of the labels' variance that the probe explains."""
    limit_key = {"starclip": "limit", "mockstarclip": "limit_extended"}[model]
    heads = [*others, "**this recipe**", "limit", "**this recipe**, RMSE", "limit, RMSE"]
    lines = ["| label | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for label, name, unit in zip(LABELS, PLAIN, UNITS, strict=True):
        r2, rmse = (np.array(pick(runs, "probing", model, score, label)) for score in ("r2", "rmse"))
        limit = np.array(pick(runs, "baselines", limit_key, label))
        best = 1 - limit**2 * (1 - r2) / rmse**2  # the variance of the judged stars' labels is rmse^2 / (1 - r2)
        digits = 1 if label == "Teff" else 4
        cells = [f"{run['probing'][model]['r2'][label]:.3f}" for run in others.values()]
        cells += [with_interval(r2), with_interval(best), with_interval(rmse, digits), with_interval(limit, digits)]
        lines.append(f"| {name} [{unit}] | {' | '.join(cells)} |")
    return lines


def labels(runs: list[dict[str, Any]]) -> list[str]:
    """Errors of the labels by method, with the limit."""
    methods = {
        "nearest spectra": "nearest spectra",
        "PCA + ridge": "PCA + ridge",
        "ridge": "ridge",
        "CNN": "CNN (StarNet)",
    }
    heads = [*methods.values(), "**this recipe**", "limit"]
    lines = ["| label | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for label, name, unit in zip(LABELS, PLAIN, UNITS, strict=True):
        digits = 1 if label == "Teff" else 4
        cells = [with_interval(pick(runs, "baselines", "probing", method, "rmse", label), digits) for method in methods]
        cells.append(with_interval(pick(runs, "probing", "starclip", "rmse", label), digits))
        cells.append(with_interval(pick(runs, "baselines", "limit", label), digits))
        lines.append(f"| {name} [{unit}] | {' | '.join(cells)} |")
    return lines


def views(runs: list[dict[str, Any]]) -> list[str]:
    """How close single views come to their limit, by their noise."""
    lines = [
        "| SNR per pixel | median RMSE / limit | labels within 1.15 × the limit | within 1.5 × |",
        "|---|---|---|---|",
    ]
    for number in range(len(runs[0]["baselines"]["by_snr"]["snr"])):
        ratios = [np.array(run["baselines"]["by_snr"]["over_limit"][number]) for run in runs]
        snr = np.mean([run["baselines"]["by_snr"]["snr"][number] for run in runs])
        within = [_within(ratios, factor) for factor in (1.15, 1.5)]
        median = with_interval([float(np.median(ratio)) for ratio in ratios], 2)
        lines.append(f"| {snr:.0f} | {median} | {within[0]} of {len(LABELS)} | {within[1]} |")
    over = [
        np.array([run["probing"]["starclip"]["rmse"][label] / run["baselines"]["limit"][label] for label in LABELS])
        for run in runs
    ]
    median = with_interval([float(np.median(ratio)) for ratio in over], 2)
    together = f"{_within(over, 1.15)} of {len(LABELS)} | {_within(over, 1.5)}"
    return [*lines, f"| five views combined, all SNR | {median} | {together} |"]


def _within(ratios: list[np.ndarray], factor: float) -> str:
    return with_interval([float((ratio <= factor).sum()) for ratio in ratios], 0 if len(ratios) == 1 else 1)


def least_squares(runs: list[dict[str, Any]]) -> list[str]:
    """How close fits of the emulator to a few single views come."""
    fits = [run["baselines"]["least_squares"] for run in runs]
    median = with_interval([fit["rmse_over_bound"] for fit in fits], 2)
    return [
        "Least-squares fits of the emulator, what a user of The Payne would do, to a few single views of each run",
        f"({fits[0]['n']}): median RMSE / limit {median}, that limit being without prior.",
    ]


def at_scale(runs: list[dict[str, Any]]) -> list[str]:
    """The recipe on as many stars as the paper has."""
    data, seeds = runs[0]["data"], ", ".join(str(run["seed"]) for run in runs)
    judged = runs[0]["params"]["limits"]
    return [
        "",
        "## As many stars as in the paper",
        "",
        f"`starclip run params/{runs[0]['run']}.yaml`: {data['n_stars']:,} stars, {data['n_test']:,} of them for the",
        f"test; {'seed' if len(runs) == 1 else 'seeds'} {seeds}; {runs[0]['device']}. The rest as above;",
        f"the Gaussian ideal matcher is asked for the first {judged['n_matched']} test stars.",
        "",
        *retrieval(runs, {}),
        "",
        *determination(runs, {}, "starclip"),
        "",
        *views(runs),
    ]


def never_looked_at(runs: list[dict[str, Any]], file: str) -> list[str]:
    """The recipe with seeds whose results had no part in choosing it; without runs, how to make them."""
    name = Path(file).stem
    if not runs:
        seeds = range(101, 104)
        made = [f"    starclip run {file} --set name={name}-{seed} --set seed={seed}" for seed in seeds]
        return [NO_UNSEEN, "", *made]
    made = [f"    starclip run {file} --set name={run['run']} --set seed={run['seed']}" for run in runs]
    return [
        "As above, but for the seed:",
        "",
        *made,
        "",
        *retrieval(runs, {}),
        *(line.replace("## Observed", "### Observed") for line in observed(runs)),
        "",
        *determination(runs, {}, "starclip"),
    ]


def main() -> None:
    """Read the runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    parser.add_argument("--paper", type=Path, help="without it, the tables have no row for the paper's recipe")
    parser.add_argument("--leak", type=Path, help="without it, they have none for its leak")
    parser.add_argument("--unseen", type=Path, nargs="+", default=[], help="runs with seeds that were never looked at")
    parser.add_argument("--scale", type=Path, nargs="+", help="without it, the page has none at the paper's scale")
    arguments = parser.parse_args()
    runs = [read_evaluated(path) for path in arguments.reports]
    given = {"the paper's recipe, with its leak": arguments.leak, PAPER: arguments.paper}
    others = {name: read_metrics(path) for name, path in given.items() if path}
    first = runs[0]
    data, limits = first["data"], first["params"]["limits"]
    seeds = ("seed " if len(runs) == 1 else "seeds ") + ", ".join(str(run["seed"]) for run in runs)
    spread = (
        "One run: no interval over seeds."
        if len(runs) == 1
        else "Mean over the seeds ± half width of its 95 % interval."
    )
    file = f"params/{first['run']}.yaml"
    commands = [f"    starclip run {file}"]
    commands += [f"    starclip run {file} --set name={run['run']} --set seed={run['seed']}" for run in runs[1:]]
    for run in others.values():
        leak = " --set pretrain.leak=true" if run["params"]["pretrain"]["leak"] else ""
        stars = run["data"]["n_stars"]
        commands.append(f"    starclip run params/paper.yaml --set name={run['run']} --set data.n_stars={stars}{leak}")
    page = [
        "# Results",
        "",
        f"`{file}`: {data['n_stars']:,} simulated stars, {data['n_test']:,} of them for the test and seen by no stage",
        f"of the training; {first['device']}; {seeds}. Hits by star id, candidates all views of all test stars,",
        f"labels from five mock views combined; emulator {default_emulator().version}. {spread}",
        "Made by `python docs/make_results.py` from the `metrics.json` of these runs, each after `starclip evaluate`:",
        "",
        *commands,
        "",
        CHOSEN,
        "",
        *(() if others else (NOT_RUN_AGAIN, "")),
        "**This recipe** means a fit of the emulator to each spectrum, candidates ranked by Bayes factors."
        if is_fit(first)
        else "**This recipe** means networks aligned by the contrastive loss, candidates ranked by cosine similarity.",
        "",
        "## Finding the same star (the paper's Table 3)",
        "",
        *retrieval(runs, others),
        "",
        *beside(runs, others),
        "In parentheses are 95 % Wilson intervals, with each star of each run as one trial. The Gaussian ideal matcher",
        "knows the noise, gaps and covariances of each spectrum; it is not an upper bound, since the population is a",
        f"mixture. It is asked for the first {limits['n_matched']} test stars.",
        "",
        *observed(runs)[1:],
        "",
        "## Seeds never looked at",
        "",
        *never_looked_at([read_evaluated(path) for path in arguments.unseen], file),
        "",
        "## Published numbers",
        "",
        "From the paper: other data, another protocol, and test stars whose labels the encoders had mostly been",
        "trained on. They cannot be compared with the tables above.",
        "",
        *published(),
        "",
        "## Labels of NIRSpec spectra (the paper's Table 5)",
        "",
        f"r² of {regression(first, 'StarCLIP')}, and its RMSE:",
        "",
        *determination(runs, others, "starclip"),
        "",
        "The limit is the van Trees bound of the very views that were judged: the posterior sigma of a linear Gaussian",
        "model with the population's covariance as prior, over the same stars.",
        "",
        "## Labels of badly corrupted spectra (the paper's Table 6)",
        "",
        f"r² of {regression(first, 'MockStarCLIP')} for extended mock spectra, and its RMSE:",
        "",
        *determination(runs, others, "mockstarclip"),
        "",
        "The limit leaves out the Paschen lines, which are another star's, and counts the dead pixels, one in a",
        "thousand, as good ones.",
        "",
        "## Simple methods beside it: RMSE",
        "",
        *labels(runs),
        "",
        "The CNN is the paper's StarNet with our inputs and training.",
        "",
        "## Errors over the limit",
        "",
        "One view at a time, in quarters of the views by SNR, and all five together:",
        "",
        *views(runs),
        "",
        *least_squares(runs),
        "",
        "## Do the intervals hold?",
        "",
        *(
            f"Fit by hand of notebook 08b, seed {run['seed']}: the 95 % intervals of all labels hold "
            f"{run['fit']['coverage95']:.1%} of the catalogue's labels, one view of each of forty stars."
            for run in runs
            if "fit" in run
        ),
        "",
        "The fit of `starclip observe` with its default prior on simulated spectra of S/N 50",
        "(`python benchmarks/interval_coverage.py`, 40 stars a row: standard error 0.035); with other priors and with",
        "noise alone:",
        "[real-data.md](real-data.md#do-the-intervals-hold).",
        "",
        COVERAGE,
        *(at_scale([read_evaluated(path) for path in arguments.scale]) if arguments.scale else []),
    ]
    with atomic_path(arguments.out) as part:
        part.write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    try:
        main()
    except StarclipError as error:
        sys.exit(f"error: {error}")
