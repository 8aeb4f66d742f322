"""A matcher that knows the noise of every spectrum: Bayes factors of best possible label estimates, all Gaussian.

It is ideal where labels are a Gaussian population and errors are Gaussian.  For a population that is a mixture, as
ours, it is a good reference and not an upper bound: a matcher that knows the mixture can do better.
"""

from __future__ import annotations

import numpy as np

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.inference.posterior import Population, Posterior, log_bayes_factor
from starclip_lib.metrics.retrieval import retrieval_scores
from starclip_lib.metrics.view_information import ViewInformation
from starclip_lib.physics.labels import ASPCAP_ERROR, FE, N_LABELS, PUBLISHED_SPREAD
from starclip_lib.support.threads import side_by_side

_LEAST_SHARE = 0.01  # of a direction's variance in the catalogue that is taken for the stars' own


def catalogue_covariance(errors: np.ndarray = ASPCAP_ERROR) -> np.ndarray:
    """Covariance (..., 20, 20) of catalogue errors (..., 20), standard deviations: all [X/H] share that of [Fe/H]."""
    covariance = np.zeros((*errors.shape, N_LABELS))
    covariance[..., 2:, 2:] = errors[..., FE, None, None] ** 2
    own = np.arange(N_LABELS)
    covariance[..., own, own] = np.maximum(errors**2, covariance[..., own, own])
    return covariance


def without_errors(catalogue: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Covariance (20, 20) of true labels: the catalogue's less that of its errors, kept positive definite."""
    root = np.linalg.cholesky(catalogue)
    relative = np.linalg.solve(root, np.linalg.solve(root, errors).T)
    values, vectors = np.linalg.eigh((relative + relative.T) / 2)
    turned = root @ vectors
    return (turned * np.maximum(1 - values, _LEAST_SHARE)) @ turned.T


def draw_true_labels(
    catalogue: np.ndarray, errors: np.ndarray, population: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """True labels (n, 20) that stars may have, given their catalogue labels and the covariances of these.

    `errors` is (n, 20, 20); `population` holds the mean (20,) and covariance (20, 20) of true labels.
    """
    mean, covariance = population
    values, vectors = np.linalg.eigh(errors)
    unit = rng.standard_normal((2, len(catalogue), N_LABELS))
    error = (vectors @ (np.sqrt(np.maximum(values, 0)) * unit[0])[..., None])[..., 0]
    star = mean + unit[1] @ np.linalg.cholesky(covariance).T
    # a draw from the prior, moved by what it misses of the catalogue, is a draw from the posterior (Matheron's rule)
    missed = np.linalg.solve(covariance + errors, (catalogue - star - error)[..., None])[..., 0]
    return star + missed @ covariance


class IdealMatcher:
    """Compares label estimates of two instruments by the Bayes factor of "same star" against "different stars".

    Each spectrum gives an unbiased Gaussian estimate of the labels at which it was made, with the smallest covariance
    that is possible. Population and errors are taken as Gaussian. `a` and `b` are the labels (n, 20) at which the
    spectra of either instrument were made and their information (n, 20, 20); those of b are the stars' true labels,
    from which those of a differ by catalogue errors of covariance `extra` (20, 20). `population` is mean and covariance
    of the true labels. All in K and dex.
    """

    def __init__(
        self,
        a: tuple[np.ndarray, np.ndarray],
        b: tuple[np.ndarray, np.ndarray],
        extra: np.ndarray,
        population: tuple[np.ndarray, np.ndarray],
        rng: np.random.Generator,
    ):
        scale = np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
        known = Population(population[0] / PUBLISHED_SPREAD, np.linalg.cholesky(population[1] / scale))
        # a hundred times the population's covariance stands for "unknown" where a spectrum holds no information
        weak = known.precision / 100
        self.estimates, self.posteriors = [], []
        for (labels, info), other in ((a, extra / scale), (b, 0.0)):
            covariance = np.linalg.inv(info + weak)
            noise = np.linalg.cholesky(covariance) @ rng.standard_normal((len(labels), N_LABELS, 1))
            estimate = labels / PUBLISHED_SPREAD + noise[..., 0]
            self.estimates.append(estimate)
            self.posteriors.append(Posterior.of_estimates(known, estimate, covariance + other))

    def log_factor(self, query: int, backwards: bool = False) -> np.ndarray:
        """Log Bayes factor (n,) of each spectrum of b with spectrum `query` of a (or of each of a with one of b)."""
        one, others = self.posteriors[::-1] if backwards else self.posteriors
        return log_bayes_factor(one.packed[[query]], others.packed[None])[0]

    def ranks(
        self, star_a: np.ndarray, star_b: np.ndarray, queries: np.ndarray | None = None, backwards: bool = False
    ) -> np.ndarray:
        """Rank of the first hit of some queries (all if None) among all spectra of the other instrument."""
        asked, candidates = (star_b, star_a) if backwards else (star_a, star_b)
        queries = np.arange(len(asked)) if queries is None else queries

        def rank(query: int) -> int:
            found = self.log_factor(query, backwards)
            return 1 + (found > found[candidates == asked[query]].max()).sum()

        return np.array(side_by_side(rank, queries.tolist()), float)


def ideal_scores(
    matcher: IdealMatcher, star_a: np.ndarray, star_b: np.ndarray, n_asked: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Retrieval scores from a to b and from b to a, of the spectra of the first `n_asked` stars of b among all."""
    asked = star_b[np.sort(np.unique(star_b, return_index=True)[1])[:n_asked]]
    found = []
    for queries, candidates, backwards in ((star_a, star_b, False), (star_b, star_a, True)):
        ranks = matcher.ranks(star_a, star_b, np.flatnonzero(np.isin(queries, asked)), backwards)
        found.append(retrieval_scores(ranks, len(candidates)))
    return found[0], found[1]


def ideal_retrieval(
    data: PairedSpectra,
    mock: ViewInformation,
    extended: ViewInformation,
    apogee: ViewInformation,
    n_asked: int,
    seed: int,
) -> dict[str, dict[str, float | int]]:
    """Retrieval scores of the Gaussian ideal matcher, in all four directions; the spectra of `n_asked` stars search.

    NIRSpec spectra are computed at the catalogue's labels and APOGEE saw the true ones, which the data set does not
    keep: APOGEE's estimates are made at true labels drawn for each star, given its catalogue labels and their errors.
    Mock and extended mock are computed at the very same labels.  `mock` and `apogee` are of the same test stars,
    `extended` of some of them.
    """
    rng = np.random.default_rng([seed, 12])
    mean, covariance, extra, errors = _catalogue(data)
    true = mean, without_errors(covariance, extra)
    n_views, star = mock.snr.shape[1], data.star_id[mock.rows]
    flat = mock.information.reshape(-1, N_LABELS, N_LABELS)
    seen = draw_true_labels(apogee.labels, catalogue_covariance(errors[apogee.rows]), true, rng)
    sides = (np.repeat(mock.labels, n_views, axis=0), flat), (seen, apogee.information[:, 0])
    matcher = IdealMatcher(*sides, extra, true, rng)
    across = ideal_scores(matcher, np.repeat(star, n_views), star, n_asked)
    same = np.searchsorted(mock.rows, extended.rows)
    firsts = mock.information[same, 0], extended.information[:, 0]
    sides = (extended.labels, firsts[0]), (extended.labels, firsts[1])
    matcher = IdealMatcher(*sides, np.zeros((N_LABELS, N_LABELS)), (mean, covariance), rng)
    star = data.star_id[extended.rows]
    within = ideal_scores(matcher, star, star, n_asked)
    names = ("nirspec_to_apogee", "apogee_to_nirspec", "mock_to_extended", "extended_to_mock")
    return dict(zip(names, (*across, *within), strict=True))


def _catalogue(data: PairedSpectra) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and covariance of the training stars' labels, mean covariance of their errors, and all stars' errors."""
    train, errors = data.rows("train"), data.label_errors.astype(np.float64)
    known = data.labels[train].astype(np.float64)
    return known.mean(axis=0), np.cov(known.T), catalogue_covariance(errors[train]).mean(axis=0), errors


def ideal_among_observed(
    data: PairedSpectra, mock: ViewInformation, apogee: ViewInformation, n_asked: int, seed: int
) -> dict[str, float | int]:
    """Retrieval scores of observed NIRSpec spectra among APOGEE's, where both instruments saw the true labels.

    `mock` and `apogee` are of the same test stars, of which the data set has observed NIRSpec spectra.
    """
    mean, covariance, extra, _ = _catalogue(data)
    population = mean, without_errors(covariance, extra)
    truth = data.labels_of_observed()[np.searchsorted(data.rows("test"), mock.rows)]
    n_views, star = mock.snr.shape[1], data.star_id[mock.rows]
    flat = mock.information.reshape(-1, N_LABELS, N_LABELS)
    sides = (np.repeat(truth, n_views, axis=0), flat), (truth, apogee.information[:, 0])
    matcher = IdealMatcher(*sides, 0 * extra, population, np.random.default_rng([seed, 13]))
    return ideal_scores(matcher, np.repeat(star, n_views), star, n_asked)[0]
