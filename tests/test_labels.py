from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS, PUBLISHED_SPREAD, LabelScaler, label_index
from starclip_lib.support.errors import DataError


def test_the_twenty_labels_in_the_order_of_the_paper() -> None:
    assert " ".join(LABELS) == "Teff logg C N O Na Mg Al Si S K Ca Ti V Cr Mn Fe Co Ni Ce"
    assert ASPCAP_ERROR.shape == PUBLISHED_SPREAD.shape == (20,)
    assert (PUBLISHED_SPREAD[label_index("Mn")], ASPCAP_ERROR[label_index("Fe")]) == (0.421, 0.009)
    with pytest.raises(DataError, match="unknown label 'He'"):
        label_index("He")


def test_scaler_gives_zero_mean_and_unit_variance_and_undoes_itself(rng: np.random.Generator) -> None:
    labels = rng.normal(5, 3, (400, 20)) * np.arange(1, 21)
    scaler = LabelScaler.fit(labels)
    scaled = scaler.transform(labels)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-3)
    again = LabelScaler.from_state(scaler.state())
    np.testing.assert_allclose(again.inverse(scaled), labels, rtol=1e-3, atol=1e-3)
    assert all(type(x) is float for values in scaler.state().values() for x in values)


def test_a_label_that_does_not_vary_is_named() -> None:
    labels = np.random.default_rng(0).normal(size=(5, 20))
    labels[:, 2] = 1.0
    with pytest.raises(DataError, match="C does not vary over the 5 stars"):
        LabelScaler.fit(labels)
