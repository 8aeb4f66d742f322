"""The fit of the emulator in batches, the posteriors that follow, and searches by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import multivariate_normal

from starclip_lib.inference.fisher import flux_responses, information
from starclip_lib.inference.grid import _fixed_parts
from starclip_lib.inference.noise import autocovariance, noise_of
from starclip_lib.inference.posterior import WIDTH, Population, Posterior, fit_pair_covariance, log_bayes_factor
from starclip_lib.metrics.retrieval import ranks_between
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.embedding_index import EmbeddingIndex
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import make_encoder
from starclip_lib.models.encoding import embed_views
from starclip_lib.models.fitted import AT_EDGE, TOO_FEW, EmulatorFit
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import FE, LABELS, N_LABELS, PUBLISHED_SPREAD, TEFF, LabelScaler
from starclip_lib.physics.population import draw_population
from starclip_lib.run import Run
from starclip_lib.settings.training import EncoderParams, FitParams
from starclip_lib.support.errors import DataError
from starclip_lib.transforms.views import mock_telescope

FROM_MEAN = FitParams(guess="mean", steps=6)
NETWORK = EncoderParams(width=8, lift=30.0)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Of stars inside the domain."""
    drawn = draw_population(3000, (0.8, 2.0), np.random.default_rng(5))
    return drawn[default_emulator().inside_domain(drawn)][:1000]


@pytest.fixture(scope="module")
def encoder(labels: np.ndarray) -> EmulatorFit:
    return knowing(NIRSPEC, labels, FROM_MEAN)


def knowing(instrument, labels: np.ndarray, settings: FitParams) -> EmulatorFit:
    guess = make_encoder(instrument, NETWORK, seed=1) if settings.guess == "network" else None
    fit = EmulatorFit(instrument, settings, NETWORK, default_emulator(), guess)
    fit.set_population(Population.of(labels))
    fit.set_scaler(LabelScaler.fit(labels))
    return fit.eval()


def physical(fit: EmulatorFit, flux: torch.Tensor) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, their standard deviations, and warnings."""
    found = fit.posterior(flux)
    labels, covariance = fit.population.physical(found)
    return labels, np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), list(found.warnings)


def observed(labels: np.ndarray, instrument, snr: float, seed: int = 0) -> torch.Tensor:
    flux = default_emulator()(labels, instrument)
    noisy = flux + np.random.default_rng(seed).normal(0, 1 / snr, flux.shape)
    return torch.from_numpy(np.where(instrument.on_detector, noisy, instrument.fill_value).astype(np.float32))


def scaled_errors(fit: EmulatorFit, flux: torch.Tensor, truth: np.ndarray) -> np.ndarray:
    """Errors of the labels in units of what the fit claims."""
    labels, sigma, warnings = physical(fit, flux)
    assert TOO_FEW not in warnings
    return (labels - truth) / sigma


def test_labels_outside_the_domain_are_moved_to_its_edge(labels: np.ndarray) -> None:
    emulator, rng = default_emulator(), np.random.default_rng(1)
    spectra = emulator.on(NIRSPEC)
    np.testing.assert_allclose(spectra.inside(torch.from_numpy(labels)), labels, rtol=1e-6, atol=1e-6)
    far = labels[:200] + rng.normal(0, 3, (200, N_LABELS)) * np.where(np.arange(N_LABELS) == TEFF, 500, 1)
    assert not emulator.inside_domain(far).any()
    assert emulator.inside_domain(spectra.inside(torch.from_numpy(far)).numpy()).all()


def test_a_step_is_weighted_least_squares_with_the_population_as_prior(labels: np.ndarray) -> None:
    """In float64, all pixels at once, from the definition."""
    encoder, star = knowing(NIRSPEC, labels, FROM_MEAN.changed(steps=1)), labels.mean(axis=0)
    truth = star + 0.2 * (labels[7] - star)
    flux = observed(truth[None], NIRSPEC, 100.0)
    flux[:, 3000:3333] = NIRSPEC.fill_value
    found, spread, _ = physical(encoder, flux)
    std, prior = labels.std(axis=0), np.cov(labels.T)
    rows = flux_responses(default_emulator(), star, NIRSPEC)
    rows[:N_LABELS] *= (std / PUBLISHED_SPREAD)[:, None]
    residual = flux[0].numpy() - default_emulator()(star[None], NIRSPEC)[0]
    second, good = np.diff(residual, 2), flux[0].numpy() != NIRSPEC.fill_value
    whole = good[2:] & good[1:-1] & good[:-2]
    weight = good / (np.mean(second[whole] ** 2) / 6 + 1e-8)
    precision = np.zeros((len(rows), len(rows)))
    precision[:N_LABELS, :N_LABELS] = np.linalg.inv(prior / np.outer(std, std))
    covariance = np.linalg.inv((rows * weight) @ rows.T + precision)
    change = covariance @ ((rows * weight) @ residual)
    sigma = np.sqrt(np.diag(covariance)[:N_LABELS])
    np.testing.assert_allclose((found[0] - star) / std / sigma, change[:N_LABELS] / sigma, atol=0.1)
    np.testing.assert_allclose(spread[0] / std / sigma, 1, atol=0.02)


def test_what_it_says_about_its_errors_is_the_limit(encoder: EmulatorFit, labels: np.ndarray) -> None:
    """Its information is the Fisher information of the very spectrum, and its errors are as large as it says."""
    _, spread, _ = physical(encoder, observed(labels[:3], NIRSPEC, 150.0))
    prior = np.cov(labels.T)
    for star, sigma in zip(labels[:3], spread, strict=True):
        expected = information(default_emulator(), star, NIRSPEC, 150.0) / np.outer(PUBLISHED_SPREAD, PUBLISHED_SPREAD)
        limit = np.sqrt(np.diag(np.linalg.inv(expected + np.linalg.inv(prior))))
        np.testing.assert_allclose(sigma / limit, 1, atol=0.1)  # at its own labels
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
    flux = np.where(instrument.on_detector, flux, instrument.fill_value).astype(np.float32)
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


def test_a_bad_continuum_and_dead_pixels_do_not_move_a_star(encoder: EmulatorFit, labels: np.ndarray) -> None:
    flux = observed(labels[:40], NIRSPEC, 100.0)
    x = torch.linspace(-1, 1, NIRSPEC.n_pix)
    worse = flux * (1 + 0.01 * torch.sin(3 * x)) * (1 + 0.005 * x**2)
    place = torch.from_numpy(np.random.default_rng(2).integers(NIRSPEC.n_pix, size=(40, 8)))
    worse.scatter_(1, place, 0.3)
    before, sigma, _ = physical(encoder, flux)
    moved = np.abs(physical(encoder, worse)[0] - before) / sigma
    assert np.median(moved) < 0.25
    assert moved.max() < 3


def dense_fit(
    flux: np.ndarray, labels: np.ndarray, start: np.ndarray, encoder: EmulatorFit, rounds: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their errors by Gauss-Newton in float64 over all pixels: continuum of degree 8, shift, prior."""
    emulator, mean, precision = default_emulator(), labels.mean(axis=0), np.linalg.inv(np.cov(labels.T))
    polynomials = np.polynomial.legendre.legvander(np.linspace(-1, 1, NIRSPEC.n_pix), 8).T
    good, found, nuisance = flux != NIRSPEC.fill_value, start.copy(), np.zeros(10)
    velocity, response = encoder.forward_model.shifts[0].numpy(), encoder.forward_model.response.double()
    floor = encoder.model_error.double() ** 2
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
    flux[:, 3000:3333] = NIRSPEC.fill_value
    found, _, warnings = physical(encoder, flux)
    assert set(warnings) == {""}
    for star, spectrum in zip(found, flux.numpy(), strict=True):
        expected, sigma = dense_fit(spectrum.astype(float), labels, star, encoder)
        assert np.abs((star - expected) / sigma).max() < 0.01


def test_too_few_pixels_leave_the_guess_and_never_nan(labels: np.ndarray) -> None:
    fit, flux = knowing(NIRSPEC, labels, FitParams(guess="network", steps=2)), observed(labels[:3], NIRSPEC, 100.0)
    flux[0] = NIRSPEC.fill_value
    flux[1, 40:] = NIRSPEC.fill_value
    found, sigma, warnings = physical(fit, flux)
    assert warnings[:2] == [TOO_FEW, TOO_FEW]
    assert warnings[2] != TOO_FEW
    assert np.isfinite(found).all()
    np.testing.assert_allclose(sigma[0], labels.std(axis=0, ddof=1), rtol=1e-3)
    with torch.no_grad():
        guess = fit.guess(flux[:2]).double() * fit.label_std + fit.label_mean
    np.testing.assert_allclose(found[:2], fit.forward_model.inside(guess), rtol=1e-3, atol=1e-3)


def test_a_star_beyond_the_domain_is_held_at_its_edge_and_said_so(encoder: EmulatorFit, labels: np.ndarray) -> None:
    emulator, star = default_emulator(), labels.mean(axis=0)
    edge = star.copy()
    edge[LABELS.index("Mg")] = edge[FE] + emulator.xfe_max[LABELS.index("Mg")]
    inner = edge.copy()
    inner[LABELS.index("Mg")] -= 0.3
    ahead, behind = (emulator(x[None], NIRSPEC) for x in (edge, inner))
    beyond = torch.from_numpy(ahead + 2 * (ahead - behind)).float()  # as with 0.6 dex more magnesium than allowed
    noise = 0.002 * torch.randn(beyond.shape, generator=torch.Generator().manual_seed(1))
    found, _, warnings = physical(encoder, beyond + noise)
    assert warnings == [AT_EDGE]
    assert emulator.inside_domain(found).all()


def test_pixels_of_another_star_are_found_and_not_trusted(labels: np.ndarray) -> None:
    encoder, flux = knowing(NIRSPEC, labels, FROM_MEAN), observed(labels[:150], NIRSPEC, 100.0)
    foreign = slice(4000, 4020)
    flux[:, foreign] += 0.05 * torch.randn((150, 1), generator=torch.Generator().manual_seed(3))
    encoder.fit_model_error(flux)
    error = encoder.model_error.numpy()
    assert error[foreign].min() > 0.02
    assert np.median(np.delete(error, np.arange(3990, 4030))) < 0.003


def test_labels_that_hang_together_rigidly_are_named(labels: np.ndarray) -> None:
    rigid = labels.copy()
    rigid[:, LABELS.index("Ni")] = rigid[:, LABELS.index("Co")]
    with pytest.raises(DataError, match=r"the labels Co, Ni of the \d+ training stars are linearly dependent"):
        knowing(NIRSPEC, rigid, FROM_MEAN)


def test_a_model_comes_back_and_refuses_another_emulator(encoder: EmulatorFit, labels, tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    Model({"nirspec": encoder}, LabelScaler.fit(labels), History()).save(path)
    _fixed_parts.cache_clear()  # as in a process that has not fitted yet
    again = Model.load(path).encoders["nirspec"]
    flux = observed(labels[:3], NIRSPEC, 100.0)
    with torch.no_grad():
        assert torch.equal(again(flux), encoder(flux))
    content = torch.load(path, weights_only=True)
    content["encoders"]["nirspec"]["emulator"] = "abinitio-1"
    torch.save(content, path)
    with pytest.raises(
        DataError, match=r"fits the emulator 'abinitio-1', this version has 'abinitio-3'; train it again"
    ):
        Model.load(path)


def measurements(rng: np.random.Generator, n: int) -> tuple[Population, np.ndarray, np.ndarray, np.ndarray]:
    """A population, true labels, covariances of errors, and measurements."""
    root = np.linalg.cholesky(np.cov(rng.standard_normal((20, 200))))
    truth = rng.standard_normal((n, 20)) @ root.T
    errors = np.array([np.diag(rng.uniform(0.05, 0.8, 20) ** 2) for _ in range(n)])
    measured = truth + np.stack([np.linalg.cholesky(e) @ rng.standard_normal(20) for e in errors])
    return Population(np.zeros(20), root), truth, errors, measured


def packed(population: Population, errors: np.ndarray, measured: np.ndarray, extra=None) -> np.ndarray:
    found = Posterior.of_estimates(population, measured, errors)
    return (found if extra is None else found.blurred(population.whitened_covariance(extra))).packed


def test_bayes_factors_are_those_of_gaussians(rng: np.random.Generator) -> None:
    population, _, errors, measured = measurements(rng, 8)
    prior, extra = population.root @ population.root.T, 0.04 * np.eye(20)
    a, b = packed(population, errors[:3], measured[:3]), packed(population, errors[3:], measured[3:], extra)
    assert a.shape == (3, WIDTH)
    found = log_bayes_factor(a, np.repeat(b[None], 3, axis=0))
    for i in range(3):
        for j in range(3, 8):
            one, two = prior + errors[i], prior + errors[j] + extra
            together = np.block([[one, prior], [prior, two]])
            expected = multivariate_normal(np.zeros(40), together).logpdf(np.concatenate([measured[i], measured[j]]))
            expected -= multivariate_normal(np.zeros(20), one).logpdf(measured[i])
            expected -= multivariate_normal(np.zeros(20), two).logpdf(measured[j])
            assert found[i, j - 3] == pytest.approx(expected, abs=2e-3)


def test_views_add_their_information(rng: np.random.Generator) -> None:
    population, _, errors, measured = measurements(rng, 6)
    star = np.array(["b", "a", "b", "a", "a", "b"])
    stars, found = Posterior(packed(population, errors, measured)).combine(star)
    assert stars.tolist() == ["a", "b"]
    for name, m, c in zip(stars, *population.physical(found), strict=True):
        own = star == name
        precision = np.linalg.inv(errors[own])
        expected = np.linalg.inv(precision.sum(axis=0) + population.precision)
        labels = expected @ np.einsum("nij,nj->i", precision, measured[own])
        np.testing.assert_allclose(m, labels, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(c, expected, rtol=1e-3, atol=1e-5)


def test_views_whose_errors_are_shared_are_averaged() -> None:
    mean, covariance = np.linspace(-1, 1, 40).reshape(2, 20), np.tile(0.25 * np.eye(20), (2, 1, 1))
    shared = Posterior.of(mean, covariance, independent=False)
    _, both = shared.combine(np.array(["a", "a"]))
    np.testing.assert_allclose(both.mean[0], mean.mean(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(both.covariance[0], covariance[0], rtol=1e-3, atol=1e-5)


def test_what_else_differs_between_partners_is_found(rng: np.random.Generator) -> None:
    _, truth, errors, measured = measurements(rng, 4000)
    extra = np.diag(np.linspace(0.1, 0.6, 20))
    other = truth + rng.multivariate_normal(np.zeros(20), extra, 4000)
    found = fit_pair_covariance(measured, other, errors)
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
    found = fit_pair_covariance(difference, np.zeros_like(difference), errors)
    ratio = np.sqrt(np.diag(found) / np.diag(extra))
    assert ratio.min() > 0.7
    assert ratio.max() < 1.3
    assert abs(ratio.mean() - 1) < 0.05


def test_the_extra_covariance_is_where_expectation_maximisation_ends(rng: np.random.Generator) -> None:
    extra, errors = np.diag([0.2, 0.5, 1.0]), np.array([np.diag(rng.uniform(0.5, 1.5, 3) ** 2) for _ in range(150)])
    difference = (np.linalg.cholesky(errors + extra) @ rng.standard_normal((150, 3, 1)))[..., 0]
    found = fit_pair_covariance(difference, np.zeros_like(difference), errors)
    expected = 0.3 * np.eye(3)
    for _ in range(4000):
        gain = expected @ np.linalg.inv(expected + errors)
        guess = (gain @ difference[..., None])[..., 0]
        expected = (guess[:, :, None] * guess[:, None] + expected - gain @ expected).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_estimates_can_be_freed_from_the_prior(rng: np.random.Generator) -> None:
    population, _, errors, measured = measurements(rng, 5)
    labels, covariance = Posterior(packed(population, errors, measured)).without_prior()
    precision = np.linalg.inv(population.whitened_covariance(errors))
    wide = np.linalg.inv(precision + np.eye(20) / 100)
    np.testing.assert_allclose(covariance, wide, rtol=1e-3, atol=1e-4)
    expected = np.einsum("nij,njk,nk->ni", wide, precision, population.whitened(measured))
    np.testing.assert_allclose(labels, expected, rtol=1e-3, atol=1e-3)


def test_one_covariance_for_all_is_what_each_would_have(rng: np.random.Generator) -> None:
    mean, covariance = rng.standard_normal((5, 20)), np.diag(rng.uniform(0.1, 0.9, 20))
    one, each = Posterior.with_one_covariance(mean, covariance), Posterior.of(mean, np.tile(covariance, (5, 1, 1)))
    np.testing.assert_allclose(one.packed, each.packed, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.covariance, np.tile(covariance, (5, 1, 1)), rtol=1e-3, atol=1e-4)


def test_a_network_learns_how_well_it_predicts(rng: np.random.Generator, labels: np.ndarray) -> None:
    """Predictions that are shrunk and shifted, with errors of known size."""
    network = make_encoder(NIRSPEC, NETWORK, seed=1).eval()
    network.set_population(Population.of(labels))
    flux = observed(labels[:400], NIRSPEC, 100.0)
    with torch.no_grad():
        predicted = network(flux).numpy()
    noise = 0.3 * rng.standard_normal((400, 20))
    true = network.population.mean + (2 * predicted + 0.5 + noise) @ network.population.root.T
    network.learn_errors(predicted, true, LabelScaler.fit(labels))
    found = network.posterior(flux)
    assert not found.independent
    with torch.no_grad():
        again, z = network.look(flux)
        np.testing.assert_allclose(z, network.for_search(flux), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(again.packed, found.packed, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.std(network.population.whitened(true) - found.mean, axis=0), 0.3, rtol=0.2)
    np.testing.assert_allclose(np.sqrt(np.diagonal(found.covariance[0])), 0.3, rtol=0.2)


def test_the_nearest_are_ranked_again_by_bayes_factors(rng: np.random.Generator) -> None:
    population, _, errors, measured = measurements(rng, 40)
    star = np.array([f"s{i}" for i in range(40)])
    known = packed(population, errors, measured)
    z = rng.standard_normal((40, 6))
    index, queries, asked = SimilarityIndex(z, star, posterior=known), z[:7], known[:7]
    place, cosine = index.search(queries, 4, posterior=asked, rerank=12)
    for i in range(7):
        nearest = np.argsort(-(index.z @ index.z[i]))[:12]
        factor = log_bayes_factor(asked[i : i + 1], known[nearest][None])[0]
        assert place[i].tolist() == nearest[np.argsort(-factor)][:4].tolist()
        np.testing.assert_allclose(cosine[i], index.z[place[i]] @ index.z[i])
    with pytest.raises(ValueError, match="needs the posterior of the queries and of the candidates"):
        index.search(queries, 4, rerank=5)


@pytest.fixture(scope="module")
def searchable(survey, params, tmp_path_factory) -> Run:
    """A run whose space is made of fits that begin at the mean star, nothing trained."""
    run, settings = Run(params, tmp_path_factory.mktemp("searchable")), FitParams(guess="mean", steps=4)
    nirspec, apogee = (knowing(instrument, survey.labels.astype(float), settings) for instrument in (NIRSPEC, APOGEE))
    every, telescope = np.arange(survey.n_stars), mock_telescope(params, 1)
    sides = embed_views(nirspec, survey, every, telescope), embed_views(apogee, survey, every)
    run.__dict__ |= {"data": survey, "space": EmbeddingIndex(survey, params, nirspec, *sides)}
    return run


def test_neighbours_are_sorted_by_the_bayes_factor_that_is_shown(searchable: Run) -> None:
    table = searchable.neighbours(searchable.data.star("SIM000042"), k=60)
    assert table.colnames[:5] == ["star_id", "ln_B", "match", "cosine", "part"]
    assert (np.diff(table["ln_B"]) <= 0).all()
    others = table["star_id"] != "SIM000042"
    assert (table["match"][others] == np.where(table["ln_B"][others] < 0, "no match", "possible")).all()
    assert set(table["match"][~others]) == {"itself"}
    own, apogee = searchable.space.views("SIM000042")[1][:1], searchable.space.apogee
    rows = [apogee.star_id.tolist().index(name) for name in table["star_id"]]
    expected = log_bayes_factor(own, apogee.posterior[rows][None])[0]
    np.testing.assert_allclose(table["ln_B"], expected, atol=0.006)


def test_a_best_neighbour_that_the_evidence_excludes_is_no_match(searchable: Run) -> None:
    """A star with lines twice as deep as those of any in the data set, without noise."""
    own = searchable.data.star("SIM000042").nirspec
    table = searchable.neighbours(np.where(own == 1, 1, 1 - 2.0 * (1 - own)), k=3)
    assert table["ln_B"][0] < 0
    assert set(table["match"]) == {"no match"}


def test_bayes_factors_of_many_candidates_come_in_blocks(rng: np.random.Generator, monkeypatch) -> None:
    population, _, errors, measured = measurements(rng, 20)
    known, star = packed(population, errors, measured), np.array([f"s{i}" for i in range(20)])
    index, place = SimilarityIndex(rng.standard_normal((20, 6)), star, posterior=known), np.tile(np.arange(20), (3, 1))
    whole = index.log_bayes_factors(known[:3], place)
    monkeypatch.setattr("starclip_lib.models.similarity._BLOCK_VALUES", 14_000)
    np.testing.assert_allclose(index.log_bayes_factors(known[:3], place), whole)


def test_ranks_use_the_evidence_where_there_is_some(rng: np.random.Generator) -> None:
    population, truth, errors, measured = measurements(rng, 30)
    star = np.array([f"s{i:02}" for i in range(30)])
    again = truth + np.stack([np.linalg.cholesky(e) @ rng.standard_normal(20) for e in errors])
    a, b = packed(population, errors, measured), packed(population, errors, again)
    z, one = rng.standard_normal((30, 5)), np.zeros(30, int)
    queries, candidates = (Embeddings(z, star, one, one, said) for said in (a, b))
    factors = log_bayes_factor(a, np.repeat(b[None], 30, axis=0))
    expected = 1 + (factors > np.diag(factors)[:, None]).sum(axis=1)
    assert ranks_between(queries, candidates).tolist() == expected.tolist()  # 30 are fewer than what is ranked again
    assert (expected == 1).mean() > 0.8
    plain = ranks_between(Embeddings(z, star, one, one), candidates)
    assert plain.tolist() == [1.0] * 30  # by cosine: the vectors are the same


def test_a_run_searches_and_measures_with_its_fit(finished: Run) -> None:
    data, star, space = finished.data, finished.data.star("SIM000042"), finished.fit_space
    labels, sigma, warnings = space.measure(np.stack([star.nirspec, data.nirspec.flux[7]]))
    # spectra without noise, two steps from the guess of a network that was hardly trained
    assert np.abs(labels[:, TEFF] - data.labels[[42, 7], TEFF]).max() < 15
    assert (sigma > 0).all()
    assert warnings == ["", ""]
    empty = np.ones(8192)
    empty[:30] = 0.9
    assert space.measure(np.stack([star.nirspec, empty]).astype(np.float32))[2] == ["", TOO_FEW]
    labels, sigma = space.measure_star("SIM000042")
    assert np.sqrt(np.mean(((labels[0] - star.labels) / sigma[0]) ** 2)) < 2
    assert finished.neighbours(star, k=3, by="fit")["star_id"][0] == "SIM000042"
    groups = [finished.embeddings(f"fit/{name}") for name in ("nirspec", "apogee")]
    assert [group.posterior.shape[1] for group in groups] == [WIDTH, WIDTH]
    assert (ranks_between(*(group.take("test") for group in groups)) == 1).mean() > 0.9
    mock, extended = (finished.embeddings(f"fit/{name}").take("test") for name in ("mock", "extended"))
    assert (ranks_between(mock.of_view(0), extended.of_view(0)) == 1).mean() > 0.9
