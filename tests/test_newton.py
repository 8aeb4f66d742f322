"""Encoders that refine a guess, what they say about their errors, and the search that uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import multivariate_normal

from starclip_lib.inference.fisher import flux_responses, information
from starclip_lib.inference.least_squares import autocovariance, noise_of
from starclip_lib.inference.posterior import WIDTH, combined_views, evidence, fitted_extra, log_bayes_factor, unshrunk
from starclip_lib.metrics.retrieval import ranks_between
from starclip_lib.metrics.similarity import SimilarityIndex
from starclip_lib.metrics.space import Space
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoding import embed_views
from starclip_lib.models.factory import make_encoder
from starclip_lib.models.newton import NewtonEncoder
from starclip_lib.physics.emulation import EmulatedSpectra
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import FE, LABELS, N_LABELS, PUBLISHED_SPREAD, TEFF, LabelScaler
from starclip_lib.physics.population import draw_population
from starclip_lib.run import Run
from starclip_lib.settings.training import EncoderParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import mock_telescope

FROM_MEAN = EncoderParams(kind="newton", guess="mean", steps=6, lift=30.0)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Of stars inside the domain."""
    drawn = draw_population(3000, (0.8, 2.0), np.random.default_rng(5))
    return drawn[default_emulator().inside_domain(drawn)][:1000]


@pytest.fixture(scope="module")
def encoder(labels: np.ndarray) -> NewtonEncoder:
    return knowing(NIRSPEC, labels, FROM_MEAN)


def knowing(instrument, labels: np.ndarray, settings: EncoderParams) -> NewtonEncoder:
    encoder = make_encoder(instrument, settings, seed=1)
    assert isinstance(encoder, NewtonEncoder)
    encoder.know(labels, LabelScaler.fit(labels))
    return encoder.eval()


def observed(labels: np.ndarray, instrument, snr: float, seed: int = 0) -> torch.Tensor:
    flux = default_emulator()(labels, instrument)
    noisy = flux + np.random.default_rng(seed).normal(0, 1 / snr, flux.shape)
    return torch.from_numpy(np.where(instrument.covered, noisy, instrument.no_data).astype(np.float32))


@torch.no_grad()
def scaled_errors(encoder: NewtonEncoder, flux: torch.Tensor, labels: np.ndarray) -> np.ndarray:
    """Errors of the labels in units of what the encoder says that they are."""
    found = encoder.estimate(flux)
    assert found.refined.all()
    truth = (labels - encoder.label_mean.numpy()) / encoder.label_std.numpy()
    return (found.labels.numpy() - truth) / np.sqrt(np.diagonal(found.covariance.numpy(), axis1=1, axis2=2))


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_the_emulator_in_torch_is_the_emulator(instrument, labels: np.ndarray) -> None:
    emulator, few = default_emulator(), labels[:5]
    spectra = EmulatedSpectra(emulator, instrument)
    given = torch.from_numpy(few).float()
    np.testing.assert_allclose(spectra(given), emulator(few, instrument), atol=3e-6)
    coefficients, slopes = spectra.linearised(given, torch.eye(N_LABELS))
    torch.testing.assert_close(coefficients, spectra.coefficients(given), rtol=1e-3, atol=1e-3)
    for star, slope in zip(few, slopes, strict=True):
        expected = emulator.gradient(star, instrument)
        assert np.abs(slope.numpy() @ spectra.basis.numpy() - expected).max() < 1e-3 * np.abs(expected).max()


def test_labels_outside_the_domain_are_moved_to_its_edge(labels: np.ndarray) -> None:
    emulator, rng = default_emulator(), np.random.default_rng(1)
    spectra = EmulatedSpectra(emulator, NIRSPEC)
    inside = spectra.clamped(torch.from_numpy(labels).float())
    torch.testing.assert_close(inside, torch.from_numpy(labels).float(), rtol=1e-3, atol=1e-3)
    far = labels[:200] + rng.normal(0, 3, (200, N_LABELS)) * np.where(np.arange(N_LABELS) == TEFF, 500, 1)
    assert not emulator.inside_domain(far).any()
    assert emulator.inside_domain(spectra.clamped(torch.from_numpy(far).float()).numpy().astype(float)).all()


def test_a_step_is_weighted_least_squares_with_the_population_as_prior(labels: np.ndarray) -> None:
    """In float64, all pixels at once, from the definition."""
    encoder, star = knowing(NIRSPEC, labels, FROM_MEAN.changed(steps=1)), labels.mean(axis=0)
    truth = star + 0.2 * (labels[7] - star)
    flux = observed(truth[None], NIRSPEC, 100.0)
    flux[:, 3000:3333] = NIRSPEC.no_data
    found = encoder.estimate(flux)
    std, prior = labels.std(axis=0), np.cov(labels.T)
    rows = flux_responses(default_emulator(), star, NIRSPEC)
    rows[:N_LABELS] *= (std / PUBLISHED_SPREAD)[:, None]
    residual = flux[0].numpy() - default_emulator()(star[None], NIRSPEC)[0]
    second, good = np.diff(residual, 2), flux[0].numpy() != NIRSPEC.no_data
    whole = good[2:] & good[1:-1] & good[:-2]
    weight = good / (np.mean(second[whole] ** 2) / 6 + 1e-8)
    precision = np.zeros((len(rows), len(rows)))
    precision[:N_LABELS, :N_LABELS] = np.linalg.inv(prior / np.outer(std, std))
    covariance = np.linalg.inv((rows * weight) @ rows.T + precision)
    change = covariance @ ((rows * weight) @ residual)
    sigma = np.sqrt(np.diag(covariance)[:N_LABELS])
    np.testing.assert_allclose(found.labels[0].detach().numpy() / sigma, change[:N_LABELS] / sigma, atol=0.1)
    np.testing.assert_allclose(np.sqrt(np.diagonal(found.covariance[0].detach())) / sigma, 1, atol=0.02)


def test_what_it_says_about_its_errors_is_the_limit(encoder: NewtonEncoder, labels: np.ndarray) -> None:
    """Its information is the Fisher information of the very spectrum, and its errors are as large as it says."""
    with torch.no_grad():
        found = encoder.estimate(observed(labels[:3], NIRSPEC, 150.0))
    prior, std = np.cov(labels.T), labels.std(axis=0)
    for star, covariance in zip(labels[:3], found.covariance.numpy(), strict=True):
        expected = information(default_emulator(), star, NIRSPEC, 150.0) / np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
        limit = np.sqrt(np.diag(np.linalg.inv(expected + np.linalg.inv(prior))))
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)) * std / limit, 1, atol=0.1)  # at its own labels
    errors = scaled_errors(encoder, observed(labels[:300], NIRSPEC, 150.0), labels[:300])
    assert 0.9 < np.sqrt((errors**2).mean()) < 1.1
    assert np.abs(errors).max() < 5.5


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.5])
@pytest.mark.parametrize("kind", ["autoregressive", "moving average"])
@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_intervals_hold_their_promise_whatever_the_correlation_of_the_noise(
    instrument, kind: str, rho: float, labels: np.ndarray
) -> None:
    """Noise taken for white would give 62 to 79 %."""
    stars, drawn = labels[:40], np.random.default_rng(3).standard_normal((40, instrument.n_pix + 100))
    if kind == "autoregressive":
        noise = lfilter([np.sqrt(1 - rho**2)], [1, -rho], drawn, axis=1)
    else:
        share = (1 - np.sqrt(1 - 4 * rho**2)) / (2 * rho) if rho else 0.0
        noise = lfilter(np.array([1, share]) / np.sqrt(1 + share**2), [1], drawn, axis=1)
    flux = default_emulator()(stars, instrument) + noise[:, 100:] / 50
    flux = np.where(instrument.covered, flux, instrument.no_data).astype(np.float32)
    z = scaled_errors(knowing(instrument, labels, FROM_MEAN), torch.from_numpy(flux), stars)
    assert 0.92 < (np.abs(z) < 1.96).mean() < 0.98


def test_the_autocovariance_of_noise_is_found_beside_smooth_misfits_and_gaps(rng: np.random.Generator) -> None:
    noise = lfilter([1.0, 0.7], [1.0], rng.standard_normal((64, 4100)), axis=1)[:, 100:]
    smooth = 4 * np.sin(2 * np.pi * np.arange(4000) / 250)
    use = (rng.random(4000) > 0.05) & (np.arange(4000) // 500 != 3)
    covariance, known = autocovariance(torch.from_numpy(noise + smooth), torch.from_numpy(use + 0.0).expand(64, -1))
    assert known.all()
    assert np.allclose(covariance.mean(0)[:3], [1.49, 0.7, 0], atol=0.04)
    assert not autocovariance(torch.zeros(1, 150), torch.ones(1, 150))[1].any()  # too few pixels to tell


def test_apogee_is_refined_too(labels: np.ndarray) -> None:
    errors = scaled_errors(knowing(APOGEE, labels, FROM_MEAN), observed(labels[:100], APOGEE, 300.0), labels[:100])
    assert 0.85 < np.sqrt((errors**2).mean()) < 1.15


def test_a_bad_continuum_and_dead_pixels_do_not_move_a_star(encoder: NewtonEncoder, labels: np.ndarray) -> None:
    flux = observed(labels[:40], NIRSPEC, 100.0)
    x = torch.linspace(-1, 1, NIRSPEC.n_pix)
    worse = flux * (1 + 0.01 * torch.sin(3 * x)) * (1 + 0.005 * x**2)
    place = torch.from_numpy(np.random.default_rng(2).integers(NIRSPEC.n_pix, size=(40, 8)))
    worse.scatter_(1, place, 0.3)
    with torch.no_grad():
        before, after = encoder.estimate(flux), encoder.estimate(worse)
    sigma = before.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((after.labels - before.labels).abs() / sigma).median() < 0.25
    assert ((after.labels - before.labels).abs() / sigma).max() < 3


def dense_fit(
    flux: np.ndarray, labels: np.ndarray, start: np.ndarray, encoder: NewtonEncoder, rounds: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their errors by Gauss-Newton in float64 over all pixels: continuum of degree 8, shift, prior."""
    emulator, mean, precision = default_emulator(), labels.mean(axis=0), np.linalg.inv(np.cov(labels.T))
    polynomials = np.polynomial.legendre.legvander(np.linspace(-1, 1, NIRSPEC.n_pix), 8).T
    good, found, nuisance = flux != NIRSPEC.no_data, start.copy(), np.zeros(10)
    velocity, response = encoder.equations.shifts[0].numpy(), encoder.equations.response.double()
    floor = torch.from_numpy(encoder.model_error).double() ** 2
    for _ in range(rounds):
        model = emulator(found[None], NIRSPEC)[0].astype(float)
        shift = np.pad((model[2:] - model[:-2]) / 2, 1) * velocity
        continuum, moved = 1 + nuisance[:9] @ polynomials, model + nuisance[9] * shift
        residual = flux - continuum * moved
        noise, _ = noise_of(*map(torch.from_numpy, (residual[None], good[None] * 1.0)), floor, response)
        weight = good / (float(noise) + 1e-8 * continuum**2)
        rows = np.concatenate(
            [emulator.gradient(found, NIRSPEC) * continuum, moved * polynomials, (continuum * shift)[None]]
        ).astype(float)
        normal, right = (rows * weight) @ rows.T, (rows * weight) @ residual
        normal[:N_LABELS, :N_LABELS] += precision
        right[:N_LABELS] -= precision @ (found - mean)
        size = np.sqrt(np.diag(normal))
        covariance = np.linalg.inv(normal / np.outer(size, size)) / np.outer(size, size)
        found, nuisance = found + (change := covariance @ right)[:N_LABELS], nuisance + change[N_LABELS:]
    return found, np.sqrt(np.diag(covariance)[:N_LABELS])


@pytest.mark.parametrize("amplitude", [0.01, 0.05])
def test_steps_end_where_exact_least_squares_does_with_a_wrong_continuum(labels: np.ndarray, amplitude: float) -> None:
    encoder = knowing(NIRSPEC, labels, FROM_MEAN.changed(steps=10))
    x = np.linspace(-1, 1, NIRSPEC.n_pix)
    wrong = 1 + amplitude * np.polynomial.legendre.legval(x, [0.3, 0.5, -0.4, 0.3, 0, -0.3, 0.2, 0, 0.3])
    flux = observed(labels[:4], NIRSPEC, 100.0) * torch.from_numpy(wrong).float()
    flux[:, 3000:3333] = NIRSPEC.no_data
    with torch.no_grad():
        found = encoder.estimate(flux)
    assert not found.at_edge.any()
    for star, spectrum in zip(found.labels.numpy() * labels.std(0) + labels.mean(0), flux.numpy(), strict=True):
        expected, sigma = dense_fit(spectrum.astype(float), labels, star, encoder)
        assert np.abs((star - expected) / sigma).max() < 0.01


def test_too_few_pixels_leave_the_guess_and_never_nan(labels: np.ndarray) -> None:
    settings = FROM_MEAN.changed(guess="residual_mlp", width=8, steps=2)
    encoder, flux = knowing(NIRSPEC, labels, settings), observed(labels[:3], NIRSPEC, 100.0)
    flux[0] = NIRSPEC.no_data
    flux[1, 40:] = NIRSPEC.no_data
    with torch.no_grad():
        found = encoder.estimate(flux)
        guess = encoder.guess(flux)
    assert found.refined.tolist() == [False, False, True]
    assert not found.labels.isnan().any()
    assert not found.covariance.isnan().any()
    population = torch.from_numpy(np.cov(LabelScaler.fit(labels).transform(labels).T))
    torch.testing.assert_close(found.covariance[0], population, atol=1e-5, rtol=1e-3)
    inside = ~found.at_edge
    torch.testing.assert_close(found.labels[:2][inside[:2]], guess[:2][inside[:2]], rtol=1e-3, atol=1e-3)


def test_a_star_beyond_the_domain_is_held_at_its_edge_and_said_so(encoder: NewtonEncoder, labels: np.ndarray) -> None:
    emulator, star = default_emulator(), labels.mean(axis=0)
    edge = star.copy()
    edge[LABELS.index("Mg")] = edge[FE] + emulator.xfe_max[LABELS.index("Mg")]
    inner = edge.copy()
    inner[LABELS.index("Mg")] -= 0.3
    ahead, behind = (emulator(x[None], NIRSPEC) for x in (edge, inner))
    beyond = torch.from_numpy(ahead + 2 * (ahead - behind)).float()  # as with 0.6 dex more magnesium than allowed
    with torch.no_grad():
        found = encoder.estimate(beyond + 0.002 * torch.randn(beyond.shape, generator=torch.Generator().manual_seed(1)))
    assert found.at_edge.tolist() == [True]
    assert emulator.inside_domain((found.labels.numpy() * labels.std(0) + labels.mean(0)).astype(float)).all()


def test_pixels_of_another_star_are_found_and_not_trusted(labels: np.ndarray) -> None:
    encoder, flux = knowing(NIRSPEC, labels, FROM_MEAN), observed(labels[:150], NIRSPEC, 100.0)
    foreign = slice(4000, 4020)
    flux[:, foreign] += 0.05 * torch.randn((150, 1), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        encoder.fit_floor(flux)
    error = encoder.model_error
    assert error[foreign].min() > 0.02
    assert np.median(np.delete(error, np.arange(3990, 4030))) < 0.003


def test_what_is_learned_is_the_trust_and_the_prior(labels: np.ndarray) -> None:
    encoder = knowing(NIRSPEC, labels, FROM_MEAN.changed(guess="residual_mlp", width=8, steps=2))
    encoder.freeze_features()
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {"trust", "prior_weight"}
    encoder(observed(labels[:4], NIRSPEC, 50.0)).square().sum().backward()
    assert encoder.trust.grad.abs().max() > 0
    assert encoder.prior_weight.grad.abs() > 0
    # by finite differences
    flux, step = observed(labels[:4], NIRSPEC, 50.0), 0.05
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            encoder.prior_weight.fill_(sign * step)
            values.append(float(encoder(flux).square().sum()))
    assert float(encoder.prior_weight.grad) == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.1)


def test_labels_that_hang_together_rigidly_are_named(labels: np.ndarray) -> None:
    rigid = labels.copy()
    rigid[:, LABELS.index("Ni")] = rigid[:, LABELS.index("Co")]
    with pytest.raises(DataError, match=r"the labels Co, Ni of the \d+ training stars are linearly dependent"):
        knowing(NIRSPEC, rigid, FROM_MEAN)


def test_a_model_comes_back_and_refuses_another_emulator(encoder: NewtonEncoder, labels, tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    Model({"nirspec": encoder}, LabelScaler.fit(labels), History()).save(path)
    again = Model.load(path).encoders["nirspec"]
    flux = observed(labels[:3], NIRSPEC, 100.0)
    with torch.no_grad():
        assert torch.equal(again(flux), encoder(flux))
    content = torch.load(path, weights_only=True)
    content["encoders"]["nirspec"]["emulator"] = "abinitio-1"
    torch.save(content, path)
    with pytest.raises(
        DataError, match=r"with the emulator 'abinitio-1', this version has 'abinitio-2'; train it again"
    ):
        Model.load(path)


def posteriors(rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
    """A population, true labels, and measurements of them with errors of their own."""
    root = np.linalg.cholesky(np.cov(rng.standard_normal((20, 200))))
    truth = rng.standard_normal((n, 20)) @ root.T
    errors = np.array([np.diag(rng.uniform(0.05, 0.8, 20) ** 2) for _ in range(n)])
    measured = truth + np.stack([np.linalg.cholesky(e) @ rng.standard_normal(20) for e in errors])
    return root, truth, errors, measured


def kept(root: np.ndarray, errors: np.ndarray, measured: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
    prior = np.linalg.inv(root @ root.T)
    covariance = np.linalg.inv(np.linalg.inv(errors) + prior)
    mean = np.einsum("nij,nj->ni", covariance, np.einsum("nij,nj->ni", np.linalg.inv(errors), measured))
    extra = np.zeros((20, 20)) if extra is None else extra
    given = (torch.from_numpy(x) for x in (mean, covariance, root))
    return evidence(*given, 1.0, torch.from_numpy(extra)).numpy()


def test_bayes_factors_are_those_of_gaussians(rng: np.random.Generator) -> None:
    root, _, errors, measured = posteriors(rng, 8)
    population, extra = root @ root.T, 0.04 * np.eye(20)
    a, b = kept(root, errors[:3], measured[:3]), kept(root, errors[3:], measured[3:], extra)
    assert a.shape == (3, WIDTH)
    found = log_bayes_factor(a, np.repeat(b[None], 3, axis=0))
    for i in range(3):
        for j in range(3, 8):
            one, two = population + errors[i], population + errors[j] + extra
            together = np.block([[one, population], [population, two]])
            expected = multivariate_normal(np.zeros(40), together).logpdf(np.concatenate([measured[i], measured[j]]))
            expected -= multivariate_normal(np.zeros(20), one).logpdf(measured[i])
            expected -= multivariate_normal(np.zeros(20), two).logpdf(measured[j])
            assert found[i, j - 3] == pytest.approx(expected, abs=2e-3)


def test_views_add_their_information(rng: np.random.Generator) -> None:
    root, _, errors, measured = posteriors(rng, 6)
    star = np.array(["b", "a", "b", "a", "a", "b"])
    stars, mean, covariance = combined_views(kept(root, errors, measured), star)
    assert stars.tolist() == ["a", "b"]
    for name, m, c in zip(stars, mean, covariance, strict=True):
        own = star == name
        precision = np.linalg.inv(errors[own])
        expected = np.linalg.inv(precision.sum(axis=0) + np.linalg.inv(root @ root.T))
        labels = expected @ np.einsum("nij,nj->i", precision, measured[own])
        np.testing.assert_allclose(root @ m, labels, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(root @ c @ root.T, expected, rtol=1e-3, atol=1e-5)


def test_what_else_differs_between_partners_is_found(rng: np.random.Generator) -> None:
    _, truth, errors, measured = posteriors(rng, 4000)
    extra = np.diag(np.linspace(0.1, 0.6, 20))
    other = truth + rng.multivariate_normal(np.zeros(20), extra, 4000)
    found = fitted_extra(measured, other, errors)
    np.testing.assert_allclose(np.diag(found), np.diag(extra), rtol=0.15)
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.05
    assert np.linalg.eigvalsh(found).min() > 0


def small_extras(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences of n pairs, what they differ by besides errors (half of the labels below these), and the errors."""
    size = np.where(np.arange(20) % 2, 1.0, 0.35)
    errors = np.array([np.diag(rng.uniform(0.5, 1.5, 20) ** 2) for _ in range(n)])
    turn = np.linalg.qr(np.eye(20) + 0.2 * rng.standard_normal((20, 20)))[0]
    errors, extra = turn @ errors @ turn.T, np.diag(size**2) + 0.05
    roots = np.linalg.cholesky(errors + extra)
    return (roots @ rng.standard_normal((n, 20, 1)))[..., 0], extra, errors


def test_what_differs_by_less_than_the_errors_is_found_in_full(rng: np.random.Generator) -> None:
    difference, extra, errors = small_extras(rng, 5000)
    found = fitted_extra(difference, np.zeros_like(difference), errors)
    ratio = np.sqrt(np.diag(found) / np.diag(extra))
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3
    assert abs(ratio.mean() - 1) < 0.05


def test_the_extra_covariance_is_where_expectation_maximisation_ends(rng: np.random.Generator) -> None:
    extra, errors = np.diag([0.2, 0.5, 1.0]), np.array([np.diag(rng.uniform(0.5, 1.5, 3) ** 2) for _ in range(150)])
    difference = (np.linalg.cholesky(errors + extra) @ rng.standard_normal((150, 3, 1)))[..., 0]
    found = fitted_extra(difference, np.zeros_like(difference), errors)
    expected = 0.3 * np.eye(3)
    for _ in range(4000):
        gain = expected @ np.linalg.inv(expected + errors)
        guess = (gain @ difference[..., None])[..., 0]
        expected = (guess[:, :, None] * guess[:, None] + expected - gain @ expected).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_estimates_can_be_freed_from_the_prior(rng: np.random.Generator) -> None:
    root, _, errors, measured = posteriors(rng, 5)
    prior = np.linalg.inv(root @ root.T)
    covariance = np.linalg.inv(np.linalg.inv(errors) + 0.8 * prior)
    mean = np.einsum("nij,njk,nk->ni", covariance, np.linalg.inv(errors), measured)
    labels, spread = unshrunk(*(torch.from_numpy(x) for x in (mean, covariance, root)), 0.8)
    wide = np.linalg.inv(np.linalg.inv(errors) + prior / 100)
    np.testing.assert_allclose(spread, wide, atol=1e-9)
    np.testing.assert_allclose(labels, np.einsum("nij,njk,nk->ni", wide, np.linalg.inv(errors), measured), atol=1e-9)


def test_the_nearest_are_ranked_anew_by_bayes_factors(rng: np.random.Generator) -> None:
    root, _, errors, measured = posteriors(rng, 40)
    star = np.array([f"s{i}" for i in range(40)])
    said = kept(root, errors, measured)
    z = rng.standard_normal((40, 6))
    index, queries, asked = SimilarityIndex(z, star, evidence=said), z[:7], said[:7]
    place, cosine = index.search(queries, 4, evidence=asked, rerank=12)
    for i in range(7):
        nearest = np.argsort(-(index.z @ index.z[i]))[:12]
        factor = log_bayes_factor(asked[i : i + 1], said[nearest][None])[0]
        assert place[i].tolist() == nearest[np.argsort(-factor)][:4].tolist()
        np.testing.assert_allclose(cosine[i], index.z[place[i]] @ index.z[i])
    with pytest.raises(ValueError, match="needs the evidence of the queries and of the candidates"):
        index.search(queries, 4, rerank=5)


@pytest.fixture(scope="module")
def searchable(survey, params, tmp_path_factory) -> Run:
    """A run whose space is made of fits that begin at the mean star, nothing trained."""
    run, settings = Run(params, tmp_path_factory.mktemp("searchable")), FROM_MEAN.changed(steps=4)
    nirspec, apogee = (knowing(instrument, survey.labels.astype(float), settings) for instrument in (NIRSPEC, APOGEE))
    every, telescope = np.arange(survey.n_stars), mock_telescope(params, 1)
    sides = embed_views(nirspec, survey, every, telescope), embed_views(apogee, survey, every)
    run.__dict__ |= {"data": survey, "space": Space(survey, nirspec, *sides)}
    return run


def test_neighbours_are_sorted_by_the_bayes_factor_that_is_shown(searchable: Run) -> None:
    table = searchable.neighbours(searchable.data.star("SIM000042"), k=60)
    assert table.colnames[:5] == ["star_id", "ln_B", "match", "cosine", "part"]
    assert (np.diff(table["ln_B"]) <= 0).all()
    assert (table["match"] == np.where(table["ln_B"] < 0, "no match", "possible")).all()
    assert table["match"][0] == "possible"
    evidence, apogee = searchable.space.views("SIM000042")[1][:1], searchable.space.apogee
    rows = [apogee.star_id.tolist().index(name) for name in table["star_id"]]
    expected = log_bayes_factor(evidence, apogee.evidence[rows][None])[0]
    np.testing.assert_allclose(table["ln_B"], expected, atol=0.006)


def test_a_best_neighbour_that_the_evidence_excludes_is_no_match(searchable: Run) -> None:
    """A star with lines twice as deep as those of any in the data set, without noise."""
    own = searchable.data.star("SIM000042").nirspec
    table = searchable.neighbours(np.where(own == 1, 1, 1 - 2.0 * (1 - own)), k=3)
    assert table["ln_B"][0] < 0
    assert set(table["match"]) == {"no match"}


def test_bayes_factors_of_many_candidates_come_in_blocks(rng: np.random.Generator, monkeypatch) -> None:
    root, _, errors, measured = posteriors(rng, 20)
    said, star = kept(root, errors, measured), np.array([f"s{i}" for i in range(20)])
    index, place = SimilarityIndex(rng.standard_normal((20, 6)), star, evidence=said), np.tile(np.arange(20), (3, 1))
    whole = index.log_bayes_factors(said[:3], place)
    monkeypatch.setattr("starclip_lib.metrics.similarity._BLOCK_VALUES", 14_000)
    np.testing.assert_allclose(index.log_bayes_factors(said[:3], place), whole)


def test_ranks_use_the_evidence_where_there_is_some(rng: np.random.Generator) -> None:
    root, truth, errors, measured = posteriors(rng, 30)
    star = np.array([f"s{i:02}" for i in range(30)])
    again = truth + np.stack([np.linalg.cholesky(e) @ rng.standard_normal(20) for e in errors])
    a, b = kept(root, errors, measured), kept(root, errors, again)
    z, one = rng.standard_normal((30, 5)), np.zeros(30, int)
    queries, candidates = (Embeddings(z, star, one, one, said) for said in (a, b))
    factors = log_bayes_factor(a, np.repeat(b[None], 30, axis=0))
    expected = 1 + (factors > np.diag(factors)[:, None]).sum(axis=1)
    assert ranks_between(queries, candidates).tolist() == expected.tolist()  # 30 are fewer than what is ranked anew
    assert (expected == 1).mean() > 0.8
    plain = ranks_between(Embeddings(z, star, one, one), candidates)
    assert plain.tolist() == [1.0] * 30  # by cosine: the vectors are the same


def test_a_run_that_refines_says_how_well_it_knows_labels(refined: Run) -> None:
    data, star = refined.data, refined.data.star("SIM000042")
    both = refined.labels(np.stack([star.nirspec, data.nirspec.flux[7]]))
    # spectra without noise, two steps from the guess of a network that was hardly trained
    assert np.abs(both["Teff"].value - data.labels[[42, 7], TEFF]).max() < 15
    assert (both["sigma_Fe"].value > 0).all()
    assert "remark" not in both.colnames
    empty = np.ones(8192)
    empty[:30] = 0.9
    assert refined.labels(np.stack([star.nirspec, empty]))["remark"].tolist() == [
        "",
        "too few pixels, or none that tell labels from continuum: a guess",
    ]
    views = refined.labels(star)
    error = np.array([(views[name].value[0] - star.labels[i]) for i, name in enumerate(LABELS)])
    sigma = np.array([views[f"sigma_{name}"].value[0] for name in LABELS])
    assert np.sqrt(np.mean((error / sigma) ** 2)) < 2
    table = refined.neighbours(star, k=3)
    assert table["star_id"][0] == "SIM000042"
    groups = [refined.embeddings(f"starclip/{name}") for name in ("nirspec", "apogee")]
    assert [g.evidence.shape[1] for g in groups] == [WIDTH, WIDTH]
    assert (ranks_between(*(g.take("test") for g in groups)) == 1).mean() > 0.9
    mock, extended = (refined.embeddings(f"mockstarclip/{name}").take("test") for name in ("mock", "extended"))
    assert (ranks_between(mock.of_view(0), extended.of_view(0)) == 1).mean() > 0.9
