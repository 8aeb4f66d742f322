"""Fits of the emulator: what they take from training stars, and the physical reference of a run."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.inference.posterior import fitted_extra, unshrunk
from starclip_lib.models.calibration import calibrated
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.encoding import embed_all, run_encoder
from starclip_lib.models.newton import NewtonEncoder
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import EncoderParams
from starclip_lib.training.devices import pick_device
from starclip_lib.training.loop import Watch
from starclip_lib.transforms.views import MockTelescope, extended_telescope, mock_telescope

_FROM_MEAN = 6  # Gauss-Newton steps that a fit takes from the population's mean
_ENOUGH = 1000  # stars from which the emulator's errors are taken, pixel by pixel


def some_views(spectra: SpectrumSet, rows: np.ndarray, telescope: MockTelescope | None) -> Tensor:
    """Views of at most a thousand stars, one row each."""
    views = (telescope or MockTelescope()).views(spectra, rows[:_ENOUGH])
    return torch.from_numpy(views.reshape(-1, spectra.instrument.n_pix))


def refined(
    guess: Encoder,
    settings: EncoderParams,
    data: PairedSpectra,
    rows: np.ndarray,
    telescope: MockTelescope | None,
    scaler: LabelScaler,
    device: torch.device,
) -> NewtonEncoder:
    """A fit that starts from a network's guess; population and model error come from the training stars."""
    encoder = NewtonEncoder(guess.instrument, settings, None if settings.guess == "mean" else guess)
    encoder.know(data.labels[rows], scaler)
    encoder.freeze_features()
    encoder.to(device)
    encoder.fit_floor(some_views(getattr(data, guess.instrument.name), rows, telescope))
    return encoder


def learn_pairs(
    encoders: tuple[Encoder, Encoder],
    data: PairedSpectra,
    rows: np.ndarray,
    telescopes: tuple[MockTelescope | None, MockTelescope | None],
) -> None:
    """Tell the second of two refining encoders how much partners differ besides the errors of their estimates.

    Between surveys these are the catalogue's errors.  Encoders that know no errors are left as they are.
    """
    sides = []
    for encoder, telescope in zip(encoders, telescopes, strict=True):
        if not isinstance(encoder, NewtonEncoder):
            return
        second, spectra = encoder, getattr(data, encoder.instrument.name)
        with torch.no_grad():
            found = encoder.estimate(some_views(spectra, rows, telescope).to(encoder.trust.device))
        sides.append(unshrunk(found.labels, found.covariance, encoder.population, encoder.prior_scale))
    (a, error_a), (b, error_b) = sides
    second.extra = torch.from_numpy(fitted_extra(a, b, error_a + error_b)).to(second.population)


def calibrate(encoders: tuple[Encoder, Encoder], data: PairedSpectra, params: Params) -> float:
    """Give a NIRSpec and an APOGEE encoder the coordinates that suit their errors on validation stars.

    Returns the scale by which cosines are then log Bayes factors.  Nothing is trained.
    """
    rows, telescope = data.rows("val"), mock_telescope(params)
    nirspec = run_encoder(encoders[0], data.nirspec, rows, telescope, output="labels")
    apogee = np.repeat(run_encoder(encoders[1], data.apogee, rows, output="labels"), telescope.n_views, axis=1)
    *coordinates, scale = calibrated(nirspec, apogee, params.pretrain.encoder.lift)
    for encoder, own in zip(encoders, coordinates, strict=True):
        encoder.coordinates = own.to(next(encoder.parameters()).device)
    return scale


def train_fit(
    path: Path, data: PairedSpectra, params: Params, nirspec: Path, apogee: Path, watch: Watch | None = None
) -> None:
    """The physical reference of a run: the emulator fitted to spectra of either side, with no contrastive training.

    The pretrained networks give the first guess.  Training stars give the emulator's error in each pixel, validation
    stars give by how much partners differ besides the errors of their fits.  There are no epochs to watch.
    """
    models = {"nirspec": Model.load(nirspec), "apogee": Model.load(apogee)}
    scaler, rows, stars = models["nirspec"].scaler, data.rows("train"), mock_stars(data, params)
    settings, device = params.pretrain.encoder.fit, pick_device(params.device)
    if params.corruption.continuum_spacing:  # the networks' guess is for other spectra than those that are fitted
        settings, params = settings.changed(guess="mean", steps=_FROM_MEAN), _undivided(params)
    once, extended = {"nirspec": mock_telescope(params, 1), "apogee": None}, extended_telescope(data, params)
    fits = {
        name: refined(model.encoders[name], settings, data, rows, once[name], scaler, device)
        for name, model in models.items()
    }
    if params.starclip.calibrate:  # so that the nearest candidates, which Bayes factors rank, are good ones
        calibrate((fits["nirspec"], fits["apogee"]), data, params)
    fits["mock"] = fits["nirspec"]
    fits["extended"] = copy.deepcopy(fits["nirspec"])
    fits["extended"].fit_floor(some_views(data.nirspec, stars["train"], extended))
    learn_pairs((fits["nirspec"], fits["apogee"]), data, data.rows("val"), (once["nirspec"], None))
    known = np.concatenate([stars["train"], stars["val"]])
    learn_pairs((fits["mock"], fits["extended"]), data, known, (mock_telescope(params), extended))
    Model(dict(fits), scaler, History()).save(path)


def embed_fit(path: Path, data: PairedSpectra, params: Params, fit: Path, watch: Watch | None = None) -> None:
    """Fit all stars and write the posteriors of their labels, as embeddings, to a file of their own."""
    embed_all(path, data, _undivided(params), {"fit": fit}, pick_device(params.device))


def _undivided(params: Params) -> Params:
    """The settings without a pseudo-continuum: a fit finds the continuum itself."""
    return params.model_copy(update={"corruption": params.corruption.changed(continuum_spacing=0.0)})
