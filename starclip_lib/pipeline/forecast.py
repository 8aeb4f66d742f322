"""How long the trainings of a run will take on this machine, measured on a few of their steps."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from starclip_lib.data.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.data.labels import N_LABELS
from starclip_lib.models.factory import make_encoder
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import EncoderParams, TrainParams

_WORTH_SAYING = 1.0  # hours: shorter trainings speak for themselves


def training_steps(params: Params) -> dict[str, tuple[Instrument, EncoderParams, TrainParams, int]]:
    """Encoder, settings and number of optimiser steps of each training that sees all stars.

    Parameters
    ----------
    params : Params

    Returns
    -------
    dict of str to tuple of (Instrument, EncoderParams, TrainParams, int)
        Title of the training to instrument and settings of its encoder, its own settings, and its number of steps.
    """
    stars = params.data.n_stars * params.data.split[0] // sum(params.data.split)
    copies = 1 if params.corruption.fresh else params.corruption.n_views
    pretrain, pair = params.pretrain, params.starclip.train
    network = pretrain.encoder.network
    plan = {
        "APOGEE encoder": (APOGEE, network, pretrain.apogee, stars),
        "NIRSpec encoder": (NIRSPEC, network, pretrain.nirspec, stars * copies),
        "supervised CNN": (NIRSPEC, params.supervised.encoder, params.supervised.mock, stars * copies),
        "StarCLIP, NIRSpec side": (NIRSPEC, pretrain.encoder, pair, stars * copies),
        "StarCLIP, APOGEE side": (APOGEE, pretrain.encoder, pair, stars * copies),
    }
    return {
        name: (instrument, encoder, train, train.epochs * -(-items // train.batch_size))
        for name, (instrument, encoder, train, items) in plan.items()
    }


def seconds_per_step(instrument: Instrument, settings: EncoderParams, train: TrainParams) -> float:
    """Forward, backward and update of one batch on the CPU, the better of two after one to warm up.

    Parameters
    ----------
    instrument : Instrument
    settings : EncoderParams
    train : TrainParams

    Returns
    -------
    float
    """
    encoder = make_encoder(instrument, settings, seed=0)
    optimizer = torch.optim.AdamW(encoder.parameters(), fused=True)
    flux, labels = torch.rand(train.batch_size, instrument.n_pix), torch.zeros(train.batch_size, N_LABELS)
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(encoder(flux), labels).backward()
        optimizer.step()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def forecast(params: Params, device: torch.device) -> str | None:
    """A sentence on what a run will take on a CPU, if that is more than an hour.

    Every training counts with all its epochs; one that stops early takes less.

    Parameters
    ----------
    params : Params
    device : torch.device

    Returns
    -------
    str or None
        None if it is less, or on a GPU.
    """
    if device.type != "cpu" or not params.data.n_stars:
        return None
    hours = sum(
        steps * seconds_per_step(instrument, encoder, train) / 3600
        for instrument, encoder, train, steps in training_steps(params).values()
    )
    if hours < _WORTH_SAYING:
        return None
    return (
        f"no GPU is used: the trainings alone will take up to {hours:.1f} hours on this machine. Stopped, they go on "
        "where they were. (params/best-small.yaml is made for two cores.)"
    )
