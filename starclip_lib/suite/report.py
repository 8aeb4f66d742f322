"""What the notebooks of the evaluation found, as `metrics.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from starclip_lib.physics.labels import LABELS, by_name
from starclip_lib.suite.benchmark import Probed, by_label
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.scaling import PowerLaw, Trained
from starclip_lib.suite.strata import Stratum, as_dict

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # value at each of `pairs.PERCENTS`, and the ends of its interval


def benchmark_metrics(
    probed: Mapping[tuple[str, str], Probed],
    gains: Mapping[str, Mapping[str, list[Interval]]],
    agreement: Mapping[str, np.ndarray],
    clusters: Mapping[str, np.ndarray],
    strata: Mapping[str, Mapping[str, list[Stratum]]],
    outliers: Mapping[str, np.ndarray],
    wins: np.ndarray,
    curves: Mapping[str, Curve],
    separation: Mapping[str, float],
    aligned: Mapping[str, Mapping[str, Interval]],
    **options: float,
) -> dict[str, Any]:
    """The section 'evaluation.benchmark', from what notebook 13 has computed."""
    return {
        "r2": {f"{spectra} / {kind}": by_label(p.scores(**options)) for (spectra, kind), p in probed.items()},
        "alignment_gain": {n: {kind: by_label(found) for kind, found in kinds.items()} for n, kinds in gains.items()},
        "ami": {name: by_name(values) for name, values in agreement.items()},
        "clusters": {name: np.bincount(cluster[cluster >= 0]).tolist() for name, cluster in clusters.items()},
        "strata": as_dict(strata),
        "outliers": {state: count.tolist() for state, count in outliers.items()},
        "net_wins": dict(zip(LABELS, wins.tolist(), strict=True)),
        "top_percent": {name: _by_percent(curve) for name, curve in curves.items()},
        "separation": dict(separation),
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
