"""The best possible matcher: what no embedding can beat in retrieval."""

from __future__ import annotations

import numpy as np

from starclip_lib.data.labels import ASPCAP_ERROR, FE, N_LABELS, PUBLISHED_SPREAD
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics.retrieval import retrieval_scores
from starclip_lib.metrics.seen import SeenInformation
from starclip_lib.threads import side_by_side


def catalogue_covariance(errors: np.ndarray = ASPCAP_ERROR) -> np.ndarray:
    """Covariance of the catalogue's label errors: all [X/H] share the error of [Fe/H].

    Parameters
    ----------
    errors : ndarray, shape (20,)
        Standard deviations.

    Returns
    -------
    ndarray, shape (20, 20)
        In K and dex.
    """
    covariance = np.diag(errors**2)
    for i in range(2, N_LABELS):
        for j in range(2, N_LABELS):
            if i != j:
                covariance[i, j] = errors[FE] ** 2
    return covariance


class IdealMatcher:
    """Matches label estimates of two instruments as well as can be: what no embedding can beat.

    Each spectrum gives an unbiased estimate of its star's labels with the smallest covariance that is possible.  Two
    spectra are compared by the Bayes factor of "one star" against "two stars of the population".

    Parameters
    ----------
    a, b : tuple of ndarray
        Labels (n, 20) in K and dex of the stars behind each spectrum of an instrument, and their information
        (n, 20, 20) as `limits.information` gives it.
    extra : ndarray, shape (20, 20)
        Covariance in K and dex of what else differs between two spectra of one star (catalogue errors).
    population : tuple of ndarray
        Mean (20,) and covariance (20, 20) of the labels, in K and dex, taken as Gaussian.
    rng : np.random.Generator
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
        self.mean, self.prior, self.extra = population[0] / PUBLISHED_SPREAD, population[1] / scale, extra / scale
        # a hundred times the population's covariance stands for "unknown" where a spectrum holds no information
        weak = np.linalg.inv(100 * self.prior)
        self._sides = []
        for labels, info in (a, b):
            covariance = np.linalg.inv(info + weak)
            noise = np.linalg.cholesky(covariance) @ rng.standard_normal((len(labels), N_LABELS, 1))
            self._sides.append((labels / PUBLISHED_SPREAD + noise[..., 0], covariance))

        self._alone = [_log_normal(x, self.mean, self.prior + self.extra + c) for x, c in self._sides]

    def log_factor(self, query: int, backwards: bool = False) -> np.ndarray:
        """Log Bayes factor (n,) of each spectrum of b with spectrum `query` of a (or of each of a with one of b).

        Parameters
        ----------
        query : int
        backwards : bool

        Returns
        -------
        ndarray, shape (n,)
        """
        (x, c_x), (y, c_y) = self._sides[::-1] if backwards else self._sides
        gain = np.linalg.solve(self.prior + c_x[query], self.prior).T  # of a Kalman filter
        posterior = self.mean + gain @ (x[query] - self.mean), self.prior - gain @ self.prior
        return _log_normal(y, posterior[0], posterior[1] + self.extra + c_y) - self._alone[0 if backwards else 1]

    def ranks(
        self, star_a: np.ndarray, star_b: np.ndarray, queries: np.ndarray | None = None, backwards: bool = False
    ) -> np.ndarray:
        """Rank of the first hit of some queries (all if None) among all spectra of the other instrument.

        Parameters
        ----------
        star_a, star_b : ndarray of str
            Identifiers of the spectra.
        queries : ndarray of int, shape (m,), optional
            Numbers of spectra of a (of b if `backwards`).
        backwards : bool

        Returns
        -------
        ndarray, shape (m,)
        """
        asked, candidates = (star_b, star_a) if backwards else (star_a, star_b)
        queries = np.arange(len(asked)) if queries is None else queries

        def rank(query: int) -> int:
            found = self.log_factor(query, backwards)
            return 1 + (found > found[candidates == asked[query]].max()).sum()

        return np.array(side_by_side(rank, queries.tolist()), float)


def ideal_scores(
    matcher: IdealMatcher, star_a: np.ndarray, star_b: np.ndarray, n_asked: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Retrieval scores from a to b and from b to a, of the spectra of the first `n_asked` stars of b among all.

    Parameters
    ----------
    matcher : IdealMatcher
    star_a, star_b : ndarray of str
        Identifiers of the spectra.
    n_asked : int
        Only some are asked for since pairs are compared one by one.

    Returns
    -------
    a_to_b, b_to_a : dict of str to float
    """
    asked = star_b[np.sort(np.unique(star_b, return_index=True)[1])[:n_asked]]
    found = []
    for queries, candidates, backwards in ((star_a, star_b, False), (star_b, star_a, True)):
        ranks = matcher.ranks(star_a, star_b, np.flatnonzero(np.isin(queries, asked)), backwards)
        found.append(retrieval_scores(ranks, len(candidates)))
    return found[0], found[1]


def _log_normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log density of Gaussians (n,), up to a constant: x (n, k), mean (k,), covariance (n, k, k)."""
    factor = np.linalg.cholesky(covariance)
    z = np.linalg.solve(factor, (x - mean)[..., None])[..., 0]
    return -0.5 * (z**2).sum(axis=1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)


def ideal_retrieval(
    data: PairedSpectra,
    mock: SeenInformation,
    extended: SeenInformation,
    apogee: SeenInformation,
    n_asked: int,
    seed: int,
) -> dict[str, dict[str, float | int]]:
    """Retrieval scores of the ideal matcher, in all four directions.

    Between the instruments the catalogue's errors stand in the way; between mock and extended mock, computed at the
    very same labels, nothing does.

    Parameters
    ----------
    data : PairedSpectra
    mock, extended, apogee : SeenInformation
        What the spectra of test stars tell; `mock` and `apogee` of the same stars, `extended` of some of them.
    n_asked : int
        Of how many stars the spectra search.
    seed : int

    Returns
    -------
    dict of str to dict
    """
    known = data.labels[data.rows("train")].astype(np.float64)
    population, rng = (known.mean(axis=0), np.cov(known.T)), np.random.default_rng([seed, 12])
    n_views, star = mock.snr.shape[1], data.star_id[mock.rows]
    flat = mock.information.reshape(-1, N_LABELS, N_LABELS)
    sides = (np.repeat(mock.labels, n_views, axis=0), flat), (apogee.labels, apogee.information[:, 0])
    matcher = IdealMatcher(*sides, catalogue_covariance(), population, rng)
    across = ideal_scores(matcher, np.repeat(star, n_views), star, n_asked)
    same = np.searchsorted(mock.rows, extended.rows)
    firsts = mock.information[same, 0], extended.information[:, 0]
    sides = (extended.labels, firsts[0]), (extended.labels, firsts[1])
    matcher = IdealMatcher(*sides, np.zeros((N_LABELS, N_LABELS)), population, rng)
    star = data.star_id[extended.rows]
    within = ideal_scores(matcher, star, star, n_asked)
    names = ("nirspec_to_apogee", "apogee_to_nirspec", "mock_to_extended", "extended_to_mock")
    return dict(zip(names, (*across, *within), strict=True))
