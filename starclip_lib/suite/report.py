"""What the notebooks of the evaluation found: as `metrics.json` holds it, and in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from starclip_lib.suite.benchmark import Probed, by_label
from starclip_lib.suite.densities import verdict
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.scaling import PowerLaw, Trained
from starclip_lib.suite.strata import Stratum, as_dict
from starclip_lib.suite.transfer import RATES, STRATEGIES

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # value at each of `pairs.PERCENTS`, and the ends of its interval


def benchmark_metrics(
    probed: Mapping[tuple[str, str], Probed],
    gains: Mapping[str, Mapping[str, list[Interval]]],
    strata: Mapping[str, Mapping[str, list[Stratum]]],
    curves: Mapping[str, Curve],
    aligned: Mapping[str, Mapping[str, Interval]],
    **options: float,
) -> dict[str, Any]:
    """The section 'evaluation.benchmark', from what notebook 13 has computed."""
    return {
        "r2": {f"{spectra} / {kind}": by_label(p.scores(**options)) for (spectra, kind), p in probed.items()},
        "alignment_gain": {n: {kind: by_label(found) for kind, found in kinds.items()} for n, kinds in gains.items()},
        "strata": as_dict(strata),
        "top_percent": {name: _by_percent(curve) for name, curve in curves.items()},
        "alignment": {state: {name: i.as_dict() for name, i in row.items()} for state, row in aligned.items()},
    }


def transfer_metrics(
    curves: Mapping[str, Curve],
    transfer: Mapping[str, Mapping[Any, Mapping[int, Interval]]],
    stars: Sequence[int],
    trained: Mapping[str, Sequence[Trained]],
    laws: Mapping[str, PowerLaw],
    bound: float,
) -> dict[str, Any]:
    """The section 'evaluation.transfer', from what notebook 16 has computed."""
    return {
        "ablation": {variant: _by_percent(curve) for variant, curve in curves.items()},
        "transfer": {
            domain: {
                strategy: {str(n): found.as_dict() for n, found in sizes.items()}
                for strategy, sizes in strategies.items()
            }
            for domain, strategies in transfer.items()
        },
        "scaling": {
            "noise_bound": bound,
            **{
                name: {"stars": list(stars), "trained": [vars(one) for one in trained[name]], "law": vars(law)}
                for name, law in laws.items()
            },
        },
    }


def _by_percent(curve: Curve) -> dict[str, float]:
    return dict(zip(map(str, PERCENTS), curve[0].tolist(), strict=True))


def bullets(lines: Sequence[str]) -> str:
    """A list in Markdown."""
    return "".join(f"\n- {line}" for line in lines) + "\n"


def gains_told(gains: Mapping[str, Mapping[str, list[Interval]]]) -> str:
    """For each instrument and probe, by how much r2 changes, and for how many labels that is settled."""
    rows = []
    for title, kinds in gains.items():
        for kind, found in kinds.items():
            better, worse = sum(i.low > 0 for i in found), sum(i.high < 0 for i in found)
            change = np.mean([i.value for i in found])
            rows.append(
                f"{title}, {kind}: {change:+.3f}; better for {better}, worse for {worse} of {len(found)} labels"
            )
    return bullets(rows)


def strata_told(strata: Mapping[str, Mapping[str, list[Stratum]]], overall: float) -> str:
    """The error of Teff in the first and the last bin of each condition, and which condition matters most."""
    rows, ratio = [], {}
    for condition, bins in strata.items():
        low, high = (bins["Teff"][place].rmse for place in (0, -1))
        ratio[condition] = max(low.value, high.value) / min(low.value, high.value)
        apart = "do not overlap" if low.low > high.high or high.low > low.high else "overlap: not settled"
        rows.append(
            f"{condition}: {low.value:.0f} K in the lowest bin, {high.value:.0f} K in the highest; they {apart}"
        )
    widest = max(ratio, key=ratio.__getitem__)
    return (
        f"Error of Teff, with 95 % intervals (all views: {overall:.0f} K):\n{bullets(rows)}\n"
        f"The widest range, a factor of {ratio[widest]:.2f}, is that of: {widest}."
    )


def percent_at(curves: Mapping[str, Curve], percent: float) -> dict[str, tuple[float, float, float]]:
    """Value and interval of each curve at k per cent."""
    place = PERCENTS.index(percent)
    return {name: (float(v[place]), float(low[place]), float(high[place])) for name, (v, low, high) in curves.items()}


def searches_told(curves: Mapping[str, Curve], calibrated: bool) -> str:
    """What the searches find among the best 1 %, what each step of the training changes, and the control."""
    at = percent_at(curves, 1.0)
    before, aligned, after = (at[f"NIRSpec → APOGEE, {state}"][0] for state in ("before", "aligned", "after"))
    control, low, high = percent_at(curves, 10.0)["NIRSpec → APOGEE, shuffled"]
    rows = [f"{name}: {value:.3f} [{a:.3f}, {b:.3f}]" for name, (value, a, b) in at.items()]
    return (
        f"The right star is among the best 1 %:\n{bullets(rows)}\nFrom NIRSpec the contrastive training changes this "
        f"by {100 * (aligned - before):+.1f} points and the calibration ({'on' if calibrated else 'off'} here) by "
        f"{100 * (after - aligned):+.1f}. Among the best 10 % the control finds {control:.3f} [{low:.3f}, {high:.3f}]; "
        f"chance, 0.100, lies {'inside' if low <= 0.1 <= high else '**outside**'} the interval."
    )


def sides_told(measured: Mapping[str, Mapping[str, Interval]], stars: int) -> str:
    """Whether the instrument can be told, and how many neighbours both instruments share."""
    told = {state: row["instrument told by trees"].value for state, row in measured.items()}
    shared = {state: row["mutual neighbours of ten"].value for state, row in measured.items()}
    return (
        f"Trees tell the instrument in {told['before']:.1%} of the cases before alignment, {told['after']:.1%} after, "
        f"and {told['after, first 20 coordinates']:.1%} from the first twenty coordinates (chance: 50 %). "
        f"Mutual neighbours go from {shared['before']:.3f} to {shared['after']:.3f} (chance: {10 / (stars - 1):.3f})."
    )


def decoders_table(scores: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> pd.DataFrame:
    """The share of the scatter that each method leaves unexplained, and the ratio of embedding to spectrum."""
    left = {panel: {kind: 1 - np.mean(s["r2"]) for kind, s in kinds.items()} for panel, kinds in scores.items()}
    table = pd.DataFrame(left).T
    table["ratio"] = table["network, from the embedding"] / table["linear, from the spectrum"]
    return table


def anomalies_told(rates: Mapping[str, Mapping[str, float]]) -> str:
    """For each kind of anomaly the best score, and whose residuals find more of it."""
    rows = []
    for name, found in rates.items():
        best = max(found, key=found.__getitem__)
        own, partner = (max(v for k, v in found.items() if side in k) for side in ("its own", "APOGEE"))
        more = "APOGEE's" if partner > own else "its own" if own > partner else "neither"
        rows.append(
            f"{name}: best score *{best}*, {found[best]:.1%}; residuals from its own embedding {own:.1%}, "
            f"from APOGEE's {partner:.1%} (better: {more})"
        )
    return f"Found at 1 % false alarms:\n{bullets(rows)}"


def densities_told(table: pd.DataFrame, stars: int) -> str:
    """Whether densities are as wide as stated, and what recalibration changes."""
    rows = [
        f"{method}: 68 % intervals hold the truth in {row['coverage68']:.1%}, so they are "
        f"**{verdict(row['coverage68'], stars)}**; CRPS {row['CRPS, relative']:.2f}"
        for method, row in table.iterrows()
    ]
    plain, repaired = table.loc["adaptive k"], table.loc["adaptive k, recalibrated"]
    return (
        f"{bullets(rows)}\nThe smallest CRPS has: {table['CRPS, relative'].idxmin()}. Recalibration moves the coverage "
        f"of *adaptive k* from {plain['coverage68']:.3f} to {repaired['coverage68']:.3f} and its CRPS from "
        f"{plain['CRPS, relative']:.2f} to {repaired['CRPS, relative']:.2f}."
    )


def slopes_told(snr: float, slopes: Mapping[str, Mapping[str, list[float]]], ceiling: Mapping[str, float]) -> str:
    """Slopes at the lowest signal-to-noise ratio, plain and corrected, beside those without noise."""
    rows = []
    for name, (plain, corrected) in ((name, methods.values()) for name, methods in slopes.items()):
        over = " (**overshoots**)" if corrected[0] > ceiling[name] + 0.1 else ""
        rows.append(
            f"{name}: slope {plain[0]:.2f}, corrected {corrected[0]:.2f}, without noise {ceiling[name]:.2f}{over}"
        )
    return f"At SNR {snr:g}:\n{bullets(rows)}"


def ablation_told(curves: Mapping[str, Curve], epochs: int) -> str:
    """What each variant of the training finds, and which differences are settled."""
    at = percent_at(curves, 1.0)
    rows = [f"{variant}: {value:.3f} [{low:.3f}, {high:.3f}]" for variant, (value, low, high) in at.items()]

    def worth(other: str) -> str:
        settled = at["full"][1] > at[other][2] or at[other][1] > at["full"][2]
        points = 100 * (at["full"][0] - at[other][0])
        return f"{points:+.1f} points ({'settled' if settled else 'not settled: the intervals overlap'})"

    return (
        f"The right star is among the best 1 % after {epochs} epochs (chance: 0.010):\n{bullets(rows)}\nPretraining is "
        f"worth {worth('scratch')}, and moving the encoders' own weights {worth('head')}."
    )


def transfer_told(
    results: Mapping[str, Mapping[Any, Mapping[int, Interval]]], rates: Mapping[str, Mapping[Any, Mapping[int, float]]]
) -> str:
    """The best strategy for each number of stars, whether it is clearly so, and which do harm."""
    rows, tuned = [], STRATEGIES[1:]
    for domain, found in results.items():
        zero = found["zero_shot"][0].value
        for n in found[tuned[0]]:
            best, second = sorted(tuned, key={strategy: -found[strategy][n].value for strategy in tuned}.__getitem__)[
                :2
            ]
            clear = "clearly" if found[best][n].low > found[second][n].high else f"not separated from {second}"
            worse = [strategy for strategy in tuned if found[strategy][n].value < zero]
            harm = f"; tuning does **harm** with {', '.join(worse)}" if worse else ""
            rows.append(f"{domain}, {n} stars: {best} {found[best][n].value:.3f} ({clear}), zero-shot {zero:.3f}{harm}")
    tried = [(s, rate) for chosen in rates.values() for s, sizes in chosen.items() for rate in sizes.values()]
    edge = sum(rate in (RATES[s][0], RATES[s][-1]) for s, rate in tried)
    return (
        f"Highest mean r² of the labels:\n{bullets(rows)}\nIn {edge} of {len(tried)} cases the chosen rate is the "
        "lowest or highest tried, so that a wider search might do better."
    )


def scaling_told(
    stars: Sequence[int], trained: Mapping[str, Sequence[Trained]], laws: Mapping[str, PowerLaw], bound: float
) -> str:
    """Errors with the fewest and the most stars beside the bound, and whether a law is determined."""
    rows = []
    for name, law in laws.items():
        first, last = trained[name][0].error, trained[name][-1].error
        late = sum(one.gain >= 0.02 for one in trained[name])
        floor = f", floor {law.floor:.3f} ± {law.floor_error:.3f}" if law.determined else ": the fit **failed**"
        rows.append(
            f"{name}: error {first:.3f} with {stars[0]} stars, {last:.3f} with {stars[-1]}, {last / bound:.2f} times "
            f"the bound; exponent {law.index:.2f} ± {law.index_error:.2f}{floor}; "
            f"{late} of {len(stars)} trainings had not converged"
        )
    return f"The noise bound is {bound:.3f} of the labels' spread.\n{bullets(rows)}"
