"""Ranks against brute force over all orders of the ties, scores against their definitions, chance against draws."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.neighbors import NearestNeighbors

from starclip_lib.metrics.retrieval import (
    SimilarityIndex,
    chance_scores,
    information_bound,
    methods_table,
    mrr,
    ranks_between,
    retrieval_scores,
    success_rate,
    wilson_interval,
)
from starclip_lib.models import similarity
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.support.errors import DataError


def expected_rank(query: np.ndarray, star: int, z: np.ndarray, stars: np.ndarray) -> float:
    """Mean rank of the first hit over every order in which the tied candidates could be listed."""
    cosine = np.round((z / np.linalg.norm(z, axis=1, keepdims=True)) @ query / np.linalg.norm(query), 9)
    best = cosine[stars == star].max()
    ahead = int((cosine > best).sum())
    tied = stars[cosine == best] == star
    firsts = [next(i for i, hit in enumerate(order, start=1) if hit) for order in permutations(tied)]
    return ahead + float(np.mean(firsts))


@pytest.fixture
def tied(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates from few directions, so that many tie; queries from the same."""
    directions = rng.normal(size=(4, 3))
    pick = rng.integers(0, 4, 12)
    return directions[pick] * rng.uniform(0.5, 2, (12, 1)), rng.integers(0, 5, 12), directions


def test_ranks_equal_brute_force_with_ties(tied) -> None:
    z, stars, directions = tied
    queries = np.concatenate([directions, directions[:2] + 0.1])
    for star in np.unique(stars):
        ranks = SimilarityIndex(z, stars).first_hit_ranks(queries, np.full(len(queries), star))
        np.testing.assert_allclose(ranks, [expected_rank(q, star, z, stars) for q in queries])


def test_all_candidates_tied_gives_the_expected_rank_and_no_luck() -> None:
    z, stars = np.ones((9, 2)), np.array([3, 3, 3, 4, 4, 5, 5, 5, 5])
    ranks = SimilarityIndex(z, stars).first_hit_ranks(np.ones((3, 2)), np.array([3, 4, 5]))
    np.testing.assert_allclose(ranks, [10 / 4, 10 / 3, 10 / 5])


def test_identical_copies_of_the_right_star_are_found_first() -> None:
    """The published R@1 equals its R@5 because five copies tie; here copies change nothing."""
    star = np.repeat(["a", "b"], 5)
    z = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0)
    ranks = SimilarityIndex(z, star).first_hit_ranks(np.array([[1.0, 0.1]]), np.array(["a"]))
    assert ranks.tolist() == [1.0]


def test_ranks_without_ties_equal_a_plain_sort(rng: np.random.Generator) -> None:
    z, stars = rng.normal(size=(60, 8)), rng.permutation(np.repeat(np.arange(20), 3))
    queries, wanted = rng.normal(size=(30, 8)), rng.integers(0, 20, 30)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    ranks, by_star = [], []
    for query, star in zip(queries, wanted, strict=True):
        order = stars[np.argsort(-(unit @ query))]
        ranks.append(1 + int(np.argmax(order == star)))
        by_star.append(1 + list(dict.fromkeys(order)).index(star))
    index = SimilarityIndex(z, stars)
    np.testing.assert_allclose(index.first_hit_ranks(queries, wanted), ranks)
    np.testing.assert_allclose(index.first_hit_ranks(queries, wanted, by_star=True), by_star)


def test_blocks_do_not_change_the_result(rng: np.random.Generator, monkeypatch) -> None:
    z, stars, queries = rng.normal(size=(50, 4)), np.arange(50), rng.normal(size=(23, 4))
    whole = SimilarityIndex(z, stars).first_hit_ranks(queries, np.arange(23))
    monkeypatch.setattr(similarity, "_BLOCK_VALUES", 120)  # two queries at a time
    np.testing.assert_allclose(SimilarityIndex(z, stars).first_hit_ranks(queries, np.arange(23)), whole)


def test_a_search_within_a_modality_does_not_find_itself() -> None:
    star = np.array(["a", "a", "b", "b"])
    z = np.array([[1, 0.0], [0.9, 0.3], [0, 1], [0.2, 1]])
    embeddings = Embeddings(z, star, np.zeros(4), np.zeros(4))
    assert ranks_between(embeddings, embeddings).tolist() == [1, 1, 1, 1]
    others = ranks_between(embeddings, embeddings, exclude_self=True)
    assert others.tolist() == [1, 1, 1, 1]
    alone = Embeddings(z[:3], star[:3], np.zeros(3), np.zeros(3))
    assert ranks_between(alone, alone, exclude_self=True).tolist() == [1, 1, np.inf]  # b has no other view


def test_search_equals_scikit_learn(rng: np.random.Generator) -> None:
    z, queries = rng.normal(size=(80, 6)), rng.normal(size=(15, 6))
    place, cosine = SimilarityIndex(z, np.arange(80)).search(queries, 7)
    distance, expected = NearestNeighbors(n_neighbors=7, metric="cosine", algorithm="brute").fit(z).kneighbors(queries)
    assert (place == expected).all()
    np.testing.assert_allclose(cosine, 1 - distance, atol=1e-12)


def test_scores_follow_their_definitions() -> None:
    ranks = np.array([1.0, 2.0, 5.5, 40.0, np.inf])
    assert [success_rate(ranks, k) for k in (1, 5, 10, 50)] == [0.2, 0.4, 0.6, 0.8]
    assert mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 5.5 + 1 / 40) / 5)
    scores = retrieval_scores(ranks, 99)
    assert scores == {
        "success@1": 0.2, "success@5": 0.4, "success@10": 0.6, "success@50": 0.8,
        "mrr": mrr(ranks), "queries": 5, "candidates": 99,
    }  # fmt: skip


@pytest.mark.parametrize(("candidates", "views"), [(40, 1), (40, 5), (7, 3)])
def test_chance_is_what_random_rankings_reach(candidates: int, views: int, rng: np.random.Generator) -> None:
    n = 20000
    first = 1 + np.array([rng.permutation(candidates)[:views].min() for _ in range(n)])
    scores = chance_scores(n, candidates, views)
    for k in (1, 5, 10, 50):
        assert scores[f"success@{k}"] == pytest.approx((first <= k).mean(), abs=5 * 0.5 / np.sqrt(n))
    assert scores["mrr"] == pytest.approx((1 / first).mean(), abs=5 * 0.5 / np.sqrt(n))
    if views == 1:
        assert scores["mrr"] == pytest.approx(np.mean(1 / np.arange(1, candidates + 1)))
        assert scores["success@5"] == pytest.approx(min(5 / candidates, 1))


def test_bad_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="vector number 1 is zero or not finite"):
        SimilarityIndex(np.array([[1.0, 0], [0, 0]]), np.arange(2))
    with pytest.raises(ValueError, match="vector number 0 is zero or not finite"):
        SimilarityIndex(np.array([[np.nan, 0]]), np.arange(1))
    index = SimilarityIndex(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match=r"queries must have shape \(n, 3\)"):
        index.first_hit_ranks(np.ones((2, 4)), np.arange(2))
    with pytest.raises(ValueError, match="k must be between 1 and the 3 candidates, not 4"):
        index.search(np.ones((1, 3)), 4)
    with pytest.raises(ValueError, match="as many vectors as identifiers"):
        SimilarityIndex(np.eye(3), np.arange(2))
    with pytest.raises(ValueError, match="between 1 and 3 hits"):
        chance_scores(1, 3, 4)


def test_wilson_intervals_are_those_of_scipy() -> None:
    for hits, n in ((0, 20), (19, 20), (20, 20), (940, 1000)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson_interval(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    low, high = wilson_interval(1.0, 40)
    assert 0.9 < low < high == 1


def kinds(rng: np.random.Generator, noise: float, n: int = 30) -> dict[str, Embeddings]:
    """Views of n stars on both sides of either pair, the second of each side moved by noise."""
    z, star = rng.standard_normal((n, 6)), np.array([f"s{i:02}" for i in range(n)])
    split = np.zeros(n, np.uint8)
    near = z + noise * rng.standard_normal((n, 6))
    return {kind: as_embeddings(x[:, None], star, split) for kind, x in (("nirspec", z), ("apogee", near))}


def test_methods_are_compared_in_both_directions_with_intervals(rng: np.random.Generator) -> None:
    good, bad = kinds(rng, 0.01), kinds(rng, 3.0)
    both = {**good, "mock": bad["nirspec"], "extended": bad["apogee"]}
    table = methods_table({"network": good, "fit": both})
    assert list(table) == ["network", "fit"]
    assert list(table["network"]) == ["nirspec_to_apogee", "apogee_to_nirspec"]
    assert list(table["fit"]) == [*table["network"], "mock_to_extended", "extended_to_mock"]
    for name, sides in (("network", good), ("fit", both)):
        found = table[name]["nirspec_to_apogee"]
        expected = retrieval_scores(ranks_between(sides["nirspec"], sides["apogee"]), 30)
        assert {key: found[key] for key in expected} == expected
        assert found["interval"]["mrr"] == list(wilson_interval(found["mrr"], 30))
    assert table["network"]["nirspec_to_apogee"]["success@1"] == 1
    assert table["fit"]["mock_to_extended"]["success@1"] < 0.9
    with pytest.raises(DataError, match="method 'x' has only one of nirspec and apogee"):
        methods_table({"x": {"nirspec": good["nirspec"]}})
    with pytest.raises(DataError, match="method 'x': nirspec and apogee hold different stars"):
        methods_table({"x": {"nirspec": good["nirspec"], "apogee": kinds(rng, 0.1, 20)["apogee"]}})


def test_the_information_bound_is_log_n_minus_the_loss(rng: np.random.Generator) -> None:
    sides = kinds(rng, 0.5)
    unit = [x.z / np.linalg.norm(x.z, axis=1, keepdims=True) for x in sides.values()]
    pairs = [replace(x, z=z) for x, z in zip(sides.values(), unit, strict=True)]
    logits = 7.0 * unit[0] @ unit[1].T
    there, back = (np.diag(x) - np.log(np.exp(x).sum(axis=1)) for x in (logits, logits.T))
    found = information_bound(*pairs, 7.0)
    assert found["nats"] == pytest.approx(np.log(30) + (there.mean() + back.mean()) / 2)
    assert found["largest"] == pytest.approx(np.log(30))
    same = replace(pairs[0], z=np.tile(unit[0][:1], (30, 1)))
    assert information_bound(same, same, 7.0)["nats"] == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match="the same stars in the same order"):
        information_bound(pairs[0], kinds(rng, 0.1, 20)["apogee"], 7.0)
