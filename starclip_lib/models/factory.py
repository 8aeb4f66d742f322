"""Encoders from their settings."""

from __future__ import annotations

from starclip_lib.models.encoders import Encoder, ResidualMLP, StarNet
from starclip_lib.physics.instruments import Instrument
from starclip_lib.settings.training import EncoderParams
from starclip_lib.support.seeds import seeded_weights


def make_encoder(instrument: Instrument, settings: EncoderParams, seed: int) -> Encoder:
    """A fresh encoder whose random weights depend on `seed` alone."""
    kinds = {"starnet": StarNet, "residual_mlp": ResidualMLP}
    with seeded_weights(seed):
        return kinds[settings.kind](instrument, settings)
