"""What encoders that refine their guesses take from training stars before anything is learned by gradients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.labels import LabelScaler
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.evidence import fitted_extra, unshrunk
from starclip_lib.models.newton import NewtonEncoder
from starclip_lib.settings.training import EncoderParams
from starclip_lib.transforms.views import MockTelescope

_ENOUGH = 1000  # stars from which the emulator's errors are taken, pixel by pixel


def some_views(spectra: SpectrumSet, rows: np.ndarray, telescope: MockTelescope | None) -> Tensor:
    """Views of at most a thousand stars, one row each.

    Parameters
    ----------
    spectra : SpectrumSet
    rows : ndarray of int, shape (m,)
    telescope : MockTelescope, optional
        What they are seen through; None for the spectra as they are.

    Returns
    -------
    Tensor, shape (m * n_views, n_pix)
    """
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
    """An encoder that refines a network's guess; its population and its trust in the emulator are the training stars'.

    Parameters
    ----------
    guess : Encoder
        The pretrained network.
    settings : EncoderParams
        Of kind 'newton'.
    data : PairedSpectra
    rows : ndarray of int, shape (n,)
        Of the training stars.
    telescope : MockTelescope, optional
        What they are seen through.
    scaler : LabelScaler
    device : torch.device

    Returns
    -------
    NewtonEncoder
        Of which only the steps' own parameters can be trained.
    """
    encoder = NewtonEncoder(guess.instrument, settings, None if settings.guess == "mean" else guess)
    encoder.know(data.labels[rows], scaler)
    encoder.freeze_features()
    encoder.to(device)
    encoder.fit_floor(some_views(getattr(data, guess.instrument.name), rows, telescope))
    return encoder


def learn_pairs(
    model: StarCLIP,
    data: PairedSpectra,
    rows: np.ndarray,
    telescopes: tuple[MockTelescope | None, MockTelescope | None],
) -> None:
    """Tell the second of two refining encoders how much partners differ besides the errors of their estimates.

    Between surveys these are the catalogue's errors.  Encoders that know no errors are left as they are.

    Parameters
    ----------
    model : StarCLIP
    data : PairedSpectra
    rows : ndarray of int, shape (n,)
        Of stars whose partners are known.
    telescopes : tuple of MockTelescope or None
        What either side is seen through.
    """
    sides = []
    for encoder, telescope in zip((model.encoder_a, model.encoder_b), telescopes, strict=True):
        if not isinstance(encoder, NewtonEncoder):
            return
        second, spectra = encoder, getattr(data, encoder.instrument.name)
        with torch.no_grad():
            found = encoder.estimate(some_views(spectra, rows, telescope).to(encoder.trust.device))
        sides.append(unshrunk(found.labels, found.covariance, encoder.population, encoder.prior_scale))
    (a, error_a), (b, error_b) = sides
    second.extra = torch.from_numpy(fitted_extra(a, b, error_a + error_b)).to(second.population)
