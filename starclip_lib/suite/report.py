"""What the notebooks of the evaluation found, as `metrics.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from starclip_lib.suite.benchmark import Probed, by_label
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.scaling import PowerLaw, Trained
from starclip_lib.suite.strata import Stratum, as_dict

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
