"""What networks and fits take from training and validation stars, and the physical reference of a run."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.inference.posterior import Population, fit_pair_covariance
from starclip_lib.models.calibration import calibrated
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.embeddings import join, write_embeddings
from starclip_lib.models.encoders import Encoder, Estimator
from starclip_lib.models.encoding import embed_views, pick_device, run_encoder
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.labels import N_LABELS, LabelScaler
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import DataError
from starclip_lib.training.loop import Watch
from starclip_lib.transforms.views import ViewSampler, extended_telescope, mock_telescope

_FROM_MEAN = 6  # Gauss-Newton steps that a fit takes from the population's mean
_ENOUGH = 1000  # stars from which the emulator's errors are taken, pixel by pixel


def some_views(spectra: SpectrumSet, rows: np.ndarray, telescope: ViewSampler | None) -> Tensor:
    """Views of at most a thousand stars, one row each."""
    views = (telescope or ViewSampler()).views(spectra, rows[:_ENOUGH])
    return torch.from_numpy(views.reshape(-1, spectra.instrument.n_pix))


def fit_emulator(
    guess: Encoder,
    params: Params,
    data: PairedSpectra,
    rows: np.ndarray,
    telescope: ViewSampler | None,
    scaler: LabelScaler,
    device: torch.device,
) -> EmulatorFit:
    """A fit that starts from a network's guess; population and model error come from the training stars."""
    network = guess if params.fit.guess == "network" else None
    fit = EmulatorFit(guess.instrument, params.fit, guess.settings, default_emulator(), network)
    fit.set_population(Population.of(data.labels[rows]))
    fit.set_scaler(scaler)
    fit.to(device)
    fit.fit_model_error(some_views(getattr(data, guess.instrument.name), rows, telescope))
    return fit


def learn_pairs(
    fits: tuple[EmulatorFit, EmulatorFit],
    data: PairedSpectra,
    rows: np.ndarray,
    telescopes: tuple[ViewSampler | None, ViewSampler | None],
) -> None:
    """Give the second fit the covariance by which partners differ besides the errors of their fits.

    Between surveys these are the catalogue's errors.
    """
    sides = []
    for fit, telescope in zip(fits, telescopes, strict=True):
        views = some_views(getattr(data, fit.instrument.name), rows, telescope)
        sides.append(fit.posterior(views.to(fit.device)).without_prior())
    (a, error_a), (b, error_b) = sides
    fits[1].pair_covariance = torch.from_numpy(fit_pair_covariance(a, b, error_a + error_b)).to(fits[1].device)


def learn_errors(
    encoder: Encoder, data: PairedSpectra, rows: np.ndarray, scaler: LabelScaler, telescope: ViewSampler | None = None
) -> None:
    """Give a network its posterior: how its predictions for stars that it was not trained on follow their labels."""
    encoder.set_population(Population.of(data.labels[data.rows("train")]))
    rows = rows[:_ENOUGH]
    predicted = run_encoder(encoder, getattr(data, encoder.instrument.name), rows, telescope, output="labels")
    true = np.repeat(data.labels[rows], predicted.shape[1], axis=0)
    encoder.learn_errors(predicted.reshape(-1, N_LABELS), true, scaler)


def calibrate(encoders: tuple[Estimator, Estimator], data: PairedSpectra, params: Params) -> float:
    """Give a NIRSpec and an APOGEE encoder the coordinates that suit their errors on validation stars.

    Returns the scale by which cosines are then log Bayes factors.  Nothing is trained.
    """
    rows, telescope = data.rows("val"), mock_telescope(params)
    nirspec = run_encoder(encoders[0], data.nirspec, rows, telescope, output="labels")
    apogee = np.repeat(run_encoder(encoders[1], data.apogee, rows, output="labels"), telescope.n_views, axis=1)
    *coordinates, scale = calibrated(nirspec, apogee, params.pretrain.encoder.lift)
    for encoder, own in zip(encoders, coordinates, strict=True):
        encoder.coordinates = own.to(encoder.device)
    return scale


def network_of(path: Path, role: str) -> Encoder:
    """The network of a model file."""
    encoder = Model.load(path).encoders[role]
    if not isinstance(encoder, Encoder):
        raise DataError(f"{path}: '{role}' is a fit, not a network; train it again")
    return encoder


def train_fit(
    path: Path, data: PairedSpectra, params: Params, nirspec: Path, apogee: Path, watch: Watch | None = None
) -> None:
    """The physical reference of a run: the emulator fitted to spectra of either side, with no contrastive training.

    The pretrained networks give the first guess.  Training stars give the emulator's error in each pixel, validation
    stars give by how much partners differ besides the errors of their fits.  There are no epochs to watch.
    """
    networks = {"nirspec": network_of(nirspec, "nirspec"), "apogee": network_of(apogee, "apogee")}
    scaler, rows, stars = Model.load(nirspec).scaler, data.rows("train"), mock_stars(data, params)
    device = pick_device(params.device)
    if params.corruption.continuum_spacing:  # the networks' guess is for other spectra than those that are fitted
        params = _undivided(params).model_copy(update={"fit": params.fit.changed(guess="mean", steps=_FROM_MEAN)})
    once, extended = {"nirspec": mock_telescope(params, 1), "apogee": None}, extended_telescope(data, params)
    fits = {
        name: fit_emulator(guess, params, data, rows, once[name], scaler, device) for name, guess in networks.items()
    }
    if params.starclip.calibrate:  # so that the nearest candidates, which Bayes factors rank, are good ones
        calibrate((fits["nirspec"], fits["apogee"]), data, params)
    fits["mock"] = fits["nirspec"]
    fits["extended"] = copy.deepcopy(fits["nirspec"])
    fits["extended"].fit_model_error(some_views(data.nirspec, stars["train"], extended))
    learn_pairs((fits["nirspec"], fits["apogee"]), data, data.rows("val"), (once["nirspec"], None))
    known = np.concatenate([stars["train"], stars["val"]])
    learn_pairs((fits["mock"], fits["extended"]), data, known, (mock_telescope(params), extended))
    Model(dict(fits), scaler, History()).save(path)


def embed_fit(path: Path, data: PairedSpectra, params: Params, fit: Path, watch: Watch | None = None) -> None:
    """Fit all stars and write the posteriors of their labels, as embeddings, to a file of their own.

    All views of test stars are fitted, and one of the others, mock and extended mock spectra; mock spectra are the same
    NIRSpec views.
    """
    params, chosen = _undivided(params), np.concatenate(list(mock_stars(data, params).values()))
    fits, every = Model.load(fit, pick_device(params.device)).encoders, np.arange(data.n_stars)
    parts = (data.rows("test"), None), (np.setdiff1d(every, data.rows("test")), 1)
    seen = [embed_views(fits["nirspec"], data, rows, mock_telescope(params, n_views)) for rows, n_views in parts]
    nirspec = join(*seen)
    nirspec = nirspec.of_rows(np.argsort(data.rows_of(nirspec.star_id), kind="stable"))
    groups = {
        "nirspec": nirspec,
        "apogee": embed_views(fits["apogee"], data, every),
        "mock": nirspec.of_view(0).of_rows(chosen),
        "extended": embed_views(fits["extended"], data, chosen, extended_telescope(data, params, 1)),
    }
    write_embeddings(path, {f"fit/{role}": embeddings for role, embeddings in groups.items()})


def _undivided(params: Params) -> Params:
    """The settings without a pseudo-continuum: a fit finds the continuum itself."""
    return params.model_copy(update={"corruption": params.corruption.changed(continuum_spacing=0.0)})
