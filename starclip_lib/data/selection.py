"""Which stars: cuts, draws, even spreads, and the one split into training, validation and test stars."""

from __future__ import annotations

import numpy as np

from starclip_lib.data.spectra import SPLITS, PairedSpectra
from starclip_lib.physics.labels import FE, LABELS
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import DataError


def split_by_star(star_id: np.ndarray, parts: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Random split in the given proportions in which all rows of a star stay together.

    19,001 stars in parts 5:1:2 give 11,875 + 2,375 + 4,751.
    """
    stars, row = np.unique(star_id, return_inverse=True)  # sorted, so the order of the rows does not matter
    edges = np.cumsum(parts) * len(stars) // np.sum(parts)
    place = rng.permutation(len(stars))
    return np.searchsorted(edges, place, side="right")[row].astype(np.uint8)


def select_evenly(values: np.ndarray, n: int, n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Choose n entries whose values are spread as evenly over equal bins as the data allow.

    The number taken from each bin differs by at most one between bins that are not used up. Raises DataError if n > m.
    """
    if n > len(values):
        raise DataError(f"{n} stars were asked for, but there are only {len(values)} to choose from")
    edges = np.histogram_bin_edges(values, n_bins)
    bins = np.digitize(values, edges[1:-1])
    mixed = rng.permutation(len(values))
    mixed = mixed[np.argsort(bins[mixed], kind="stable")]  # by bin, in random order within each
    starts = np.searchsorted(bins[mixed], np.arange(n_bins))
    turn = np.arange(len(values)) - starts[bins[mixed]]  # 0 for the first star of every bin, 1 for the second, ...
    order = np.lexsort((rng.random(len(values)), turn))
    return np.sort(mixed[order[:n]])


def inside_cuts(labels: np.ndarray, settings: DataParams) -> dict[str, np.ndarray]:
    """Which stars pass each of the cuts on Teff, log g and [Fe/H]."""
    cuts = {"Teff": settings.teff_range, "logg": settings.logg_range, "Fe": settings.feh_range}
    values = {name: labels[:, LABELS.index(name)] for name in cuts}
    return {name: (values[name] > low) & (values[name] < high) for name, (low, high) in cuts.items()}


def draw_rows(n_available: int, n_stars: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted row numbers of `n_stars` of `n_available` stars, all if it is 0. Raises DataError if there are fewer."""
    if n_stars == 0:
        return np.arange(n_available)
    if n_stars > n_available:
        raise DataError(f"data.n_stars is {n_stars}, but only {n_available} stars pass the cuts; 0 takes all of them")
    return np.sort(rng.permutation(n_available)[:n_stars])


def in_parts(rows: np.ndarray, size: int = 4096) -> list[np.ndarray]:
    """Row numbers, some at a time: what is computed on spectra of many stars holds those of one part."""
    return [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]


def mock_stars(data: PairedSpectra, params: Params) -> dict[str, np.ndarray]:
    """Rows of the stars of MockStarCLIP, by split: the few to align with, and the enriched test part.

    The stars are spread evenly over [Fe/H] within each split of the data set, so that a test star of this model is a
    test star of every other one too; the paper splits its 250 stars again.
    """
    settings, parts = params.mockstarclip, np.array(params.data.split)
    rng = np.random.default_rng([params.seed, 2])
    edges = np.concatenate([[0], np.cumsum(parts) * settings.n_stars // parts.sum()])
    counts = dict(zip(SPLITS, np.diff(edges), strict=True))
    counts["test"] = min(counts["test"] + settings.n_test_extra, len(data.rows("test")))
    chosen = {}
    for name in SPLITS:
        rows = data.rows(name)
        if counts[name] > len(rows):
            raise DataError(
                f"mockstarclip.n_stars {settings.n_stars} takes {counts[name]} {name} stars, but there are "
                f"{len(rows)}; lower it or raise data.n_stars"
            )
        chosen[name] = rows[select_evenly(data.labels[rows, FE], counts[name], settings.feh_bins, rng)]
    return chosen
