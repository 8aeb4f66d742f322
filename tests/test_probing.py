from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.metrics.probing import average_views, linear_probe, score_labels, score_table
from starclip_lib.models.embedding_index import fit_probe
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS
from starclip_lib.support.errors import DataError


def embeddings(z: np.ndarray, star: np.ndarray) -> Embeddings:
    return Embeddings(z, star, np.zeros(len(z), int), np.zeros(len(z), np.uint8))


def test_probe_recovers_a_linear_relation_exactly(rng: np.random.Generator) -> None:
    slope, offset = rng.normal(size=(6, 20)), rng.normal(size=20)
    z, star = rng.normal(size=(90, 6)), np.array([f"s{i:02d}" for i in range(90)])
    probe = linear_probe(embeddings(z[:60], star[:60]), z[:60] @ slope + offset, embeddings(z[60:], star[60:]))
    assert (probe.star_id == star[60:]).all()
    np.testing.assert_allclose(probe.labels, z[60:] @ slope + offset, atol=1e-10)


def test_probe_is_least_squares_with_noise(rng: np.random.Generator) -> None:
    z, labels = rng.normal(size=(80, 3)), rng.normal(size=(80, 20))
    star = np.arange(80).astype(str)
    test = rng.normal(size=(10, 3))
    probe = linear_probe(embeddings(z, star), labels, embeddings(test, np.array([f"t{i}" for i in range(10)])))
    design = np.column_stack([np.ones(80), z])
    expected = np.column_stack([np.ones(10), test]) @ np.linalg.lstsq(design, labels, rcond=None)[0]
    np.testing.assert_allclose(probe.labels, expected, atol=1e-10)
    single = fit_probe(embeddings(z, star), labels).predict(test)  # one view a star: their mean is the view's
    np.testing.assert_allclose(single, expected, atol=1e-10)


def test_a_star_in_both_parts_is_refused(rng: np.random.Generator) -> None:
    z = rng.normal(size=(30, 3))
    train, test = embeddings(z, np.arange(30).astype(str)), embeddings(z[:2], np.array(["29", "x"]))
    with pytest.raises(DataError, match="1 stars are in the probe's training and test part, 29 among them"):
        linear_probe(train, np.zeros((30, 20)), test)


def test_too_few_views_are_refused(rng: np.random.Generator) -> None:
    z = rng.normal(size=(4, 3))
    with pytest.raises(DataError, match="3 dimensions needs more than the 4 views"):
        linear_probe(embeddings(z, np.arange(4).astype(str)), np.zeros((4, 20)), embeddings(z, np.array(list("abcd"))))


def test_views_are_averaged_star_by_star(rng: np.random.Generator) -> None:
    star = np.array(list("baab" + "c" + "baab"))
    labels = rng.normal(size=(9, 20))
    mean = average_views(labels, star)
    assert mean.star_id.tolist() == ["a", "b", "c"]
    for row, name in enumerate("abc"):
        views = labels[star == name]
        np.testing.assert_allclose(mean.labels[row], views.mean(axis=0))
        np.testing.assert_allclose(mean.spread[row], views.std(axis=0, ddof=1) if len(views) > 1 else 0)
    np.testing.assert_allclose(mean.sigma**2, mean.spread**2 + ASPCAP_ERROR**2)  # equation 5.1


def test_scores_follow_equations_4_2_to_4_4(rng: np.random.Generator) -> None:
    true = rng.normal(size=(50, 20))
    predicted = true + 0.3 * rng.normal(size=(50, 20)) + 0.1
    scores = score_labels(true, predicted)
    for i, label in enumerate(LABELS):
        y, p = true[:, i], predicted[:, i]
        assert scores["r2"][label] == pytest.approx(1 - np.sum((y - p) ** 2) / (50 * y.var()))
        assert scores["bias"][label] == pytest.approx(np.sum(p - y) / 50)
        assert scores["rmse"][label] == pytest.approx(np.sqrt(np.sum((y - p) ** 2) / 50))
    assert scores["n"] == 50
    assert score_labels(true, true)["r2"]["Fe"] == 1.0
    mean = np.broadcast_to(true.mean(axis=0), true.shape)
    assert score_labels(true, mean)["r2"]["Fe"] == pytest.approx(0)
    with pytest.raises(ValueError, match="at least two stars"):
        score_labels(true[:1], true[:1])


def test_the_table_has_a_row_for_each_label(rng: np.random.Generator) -> None:
    scores = score_labels(rng.normal(size=(9, 20)), rng.normal(size=(9, 20)))
    table = score_table({"one": scores, "two": scores}, {"limit": dict.fromkeys(LABELS, 0.5)})
    assert table.index[[0, 1, -1]].tolist() == ["Teff [K]", "log g [dex]", "[Ce/H] [dex]"]
    assert table.columns.tolist() == [(m, s) for m in ("one", "two") for s in ("r²", "Δ", "RMSE")] + [("limit", "σ")]
