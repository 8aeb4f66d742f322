"""What the notebooks of the evaluation found, as `metrics.json` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from starclip_lib.data.labels import LABELS, by_name
from starclip_lib.evaluation.benchmark import Probed, by_label
from starclip_lib.evaluation.pairs import PERCENTS
from starclip_lib.evaluation.resampling import Interval
from starclip_lib.evaluation.scaling import PowerLaw
from starclip_lib.evaluation.strata import Stratum, as_dict

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
    """The section 'evaluation.benchmark', from what notebook 13 has computed.

    Parameters
    ----------
    probed : mapping of tuple of str to Probed
        By spectra and probe.
    gains : mapping of str to mapping of str to list of Interval
        r2 after alignment minus before, by spectra and probe.
    agreement : mapping of str to ndarray, shape (20,)
        By clustering.
    clusters : mapping of str to ndarray of int, shape (n,)
        Cluster numbers, by clustering.
    strata : mapping of str to mapping of str to list of Stratum
        What `strata.by_condition` found.
    outliers : mapping of str to ndarray of int, shape (21,)
        Stars by number of labels they fail in.
    wins : ndarray of int, shape (20, bins)
        Net wins of the aligned model.
    curves : mapping of str to Curve
        Of pairs.
    separation : mapping of str to float
        Of pairs.
    aligned : mapping of str to mapping of str to Interval
        What the judges of `alignment` say, by state and judge.
    **options
        Of the bootstrap.

    Returns
    -------
    dict of str to Any
    """
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
    errors: Mapping[str, list[float]],
    laws: Mapping[str, PowerLaw],
) -> dict[str, Any]:
    """The section 'evaluation.transfer', from what notebook 16 has computed.

    Parameters
    ----------
    curves : mapping of str to Curve
        Of each variant of the alignment.
    transfer : mapping of str to mapping
        Interval by domain, strategy and number of labelled stars.
    stars : sequence of int
        Of the scaling study.
    errors : mapping of str to list of float
        Of the scaling study, by network.
    laws : mapping of str to PowerLaw
        Of the scaling study, by network.

    Returns
    -------
    dict of str to Any
    """
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
            name: {"stars": list(stars), "error": errors[name], "law": vars(law)} for name, law in laws.items()
        },
    }


def _by_percent(curve: Curve) -> dict[str, float]:
    return dict(zip(map(str, PERCENTS), curve[0].tolist(), strict=True))
