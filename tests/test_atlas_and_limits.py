from __future__ import annotations

import numpy as np
import pytest

from starclip_lib.atlas import principal_components, thin, umap_map
from starclip_lib.config import DataError
from starclip_lib.embeddings import Embeddings
from starclip_lib.emulator import default_emulator
from starclip_lib.instruments import APOGEE, NIRSPEC, SPEED_OF_LIGHT
from starclip_lib.labels import LABELS
from starclip_lib.limits import cramer_rao, median_bound


def test_principal_components_are_the_singular_vectors(rng: np.random.Generator) -> None:
    z = rng.normal(size=(100, 5)) * [5, 3, 2, 1, 0.5]
    xy, fractions = principal_components(z)
    u, s, _ = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(fractions, s**2 / (s**2).sum())
    np.testing.assert_allclose(np.abs(xy), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    with pytest.raises(DataError, match="needs more than 2 points, 2 given"):
        principal_components(z[:2])


def test_umap_says_when_there_are_too_few_points() -> None:
    with pytest.raises(DataError, match="UMAP with 15 neighbours needs more points than that, 10 given"):
        umap_map(np.ones((10, 3)), 15, 0.1, 0)


def test_thinning_is_seeded_and_bounded() -> None:
    points = Embeddings(np.ones((50, 2)), np.arange(50), np.arange(50), np.arange(50))
    assert (thin(points, 20, 1) == thin(points, 20, 1)).all()
    assert len(thin(points, 20, 1)) == len(set(thin(points, 20, 1))) == 20
    assert thin(points, 99, 1).tolist() == list(range(50))


@pytest.fixture
def star(survey) -> np.ndarray:
    return survey.labels[4].astype(float)


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_bound_of_each_label_is_what_is_left_of_its_gradient(instrument, star: np.ndarray) -> None:
    """An independent way to the same bound: project a gradient off all others; 1 / (SNR |rest|) is the error."""
    emulator, snr = default_emulator(), 80.0
    flux = emulator(star[None], instrument)[0].astype(float)
    wave = instrument.wavelength
    x = 2 * np.arange(len(wave)) / (len(wave) - 1) - 1
    nuisance = [flux * x**k for k in range(9)] + [np.gradient(flux, wave) * wave / SPEED_OF_LIGHT]
    rows = np.concatenate([emulator.gradient(star, instrument), nuisance])[:, instrument.covered].astype(float)
    bound = cramer_rao(emulator, star, instrument, snr)
    for i in range(20):
        others = np.delete(rows, i, axis=0)
        others = others / np.linalg.norm(others, axis=1, keepdims=True)
        rest = rows[i] - others.T @ np.linalg.lstsq(others.T, rows[i], rcond=1e-13)[0]
        assert bound[i] == pytest.approx(1 / (snr * np.linalg.norm(rest)), rel=1e-3), LABELS[i]


def test_bound_falls_with_snr_and_grows_with_every_nuisance(star: np.ndarray) -> None:
    emulator = default_emulator()
    low, high = (cramer_rao(emulator, star, NIRSPEC, snr) for snr in (50.0, 100.0))
    np.testing.assert_allclose(low, 2 * high, rtol=1e-9)
    assert (cramer_rao(emulator, star, NIRSPEC, 100.0, continuum_degree=2) <= high * (1 + 1e-9)).all()
    missing = (NIRSPEC.wavelength > 12000) & (NIRSPEC.wavelength < 12374)
    assert (cramer_rao(emulator, star, NIRSPEC, 100.0, missing=missing) >= high * (1 - 1e-9)).all()


def test_labels_that_cannot_be_told_apart_are_named(star: np.ndarray) -> None:
    few = np.ones(NIRSPEC.n_pix, bool)
    few[:12] = False
    with pytest.raises(DataError, match="NIRSpec: the pixels left cannot tell apart"):
        cramer_rao(default_emulator(), star, NIRSPEC, 100.0, missing=few)
    with pytest.raises(DataError, match="hold no information on Teff"):
        cramer_rao(default_emulator(), star, NIRSPEC, 100.0, missing=np.ones(NIRSPEC.n_pix, bool))


def test_median_bound_has_every_label(survey) -> None:
    bounds = median_bound(default_emulator(), survey.labels[:3].astype(float), NIRSPEC, 100.0)
    assert list(bounds) == list(LABELS)
    assert all(np.isfinite(value) and value > 0 for value in bounds.values())
