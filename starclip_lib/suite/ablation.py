"""What alignment owes to pretraining, and the control with shuffled pairs (PAPERCLIP, sections 4 and 5)."""

from __future__ import annotations

import copy
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import History
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.models.encoding import embed_views
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import AlignParams
from starclip_lib.support.seeds import seeded_weights
from starclip_lib.training.batches import Shuffled, SpectrumSource
from starclip_lib.training.loop import Pair, Trainer
from starclip_lib.transforms.views import mock_telescope

Variant = Literal["full", "head", "scratch", "shuffled"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


class FrozenWithHead(Encoder):
    """A frozen encoder with a small trainable network of two layers behind it."""

    def __init__(self, encoder: Encoder, seed: int, width: int = 128):
        super().__init__(encoder.instrument, encoder.settings)
        self.scaling = nn.Identity()  # the frozen encoder has its own
        self.features = encoder.requires_grad_(False)
        with seeded_weights(seed):
            self.head = nn.Sequential(nn.Linear(N_LABELS, width), nn.GELU(), nn.Linear(width, N_LABELS))

    def train(self, mode: bool = True) -> FrozenWithHead:
        """Training mode for the head alone."""
        super().train(mode)
        self.features.eval()
        return self


def pairs_of(data: PairedSpectra, params: Params) -> tuple[Pair, Pair]:
    """Pairs of mock NIRSpec and APOGEE spectra on the CPU: training stars, freshly corrupted, and validation stars.

    Their labels are zeros: these trainings know nothing but pairs.
    """
    once, cpu = mock_telescope(params, n_views=1), torch.device("cpu")

    def pair(split: str, fresh: bool) -> Pair:
        rows = data.rows(split)
        nothing = np.zeros((len(rows), N_LABELS), np.float32)
        return (
            SpectrumSource(data.nirspec, rows, nothing, cpu, once, fresh),
            SpectrumSource(data.apogee, rows, nothing, cpu),
        )

    return pair("train", True), pair("val", False)


def embed_pairs(model: StarCLIP, data: PairedSpectra, params: Params) -> tuple[Embeddings, Embeddings]:
    """Embeddings of the test stars by both encoders of a model: first mock views of NIRSpec, and APOGEE's spectra."""
    test, once = data.rows("test"), mock_telescope(params, n_views=1)
    return embed_views(model.encoder_a, data, test, once), embed_views(model.encoder_b, data, test)


def train_variant(
    variant: Variant,
    encoders: tuple[Encoder, Encoder],
    train: Pair,
    val: Pair,
    settings: AlignParams,
    *,
    seed: int,
) -> tuple[StarCLIP, History]:
    """Align a pair of pretrained encoders in one of four ways; the encoders given are left as they were.

    The contrastive loss alone is used (`label_weight` 0), so that nothing but pairs can teach.
    """
    settings = settings.changed(label_weight=0.0)
    a, b = (copy.deepcopy(encoder).requires_grad_(True) for encoder in encoders)
    if variant == "head":
        a, b = FrozenWithHead(a, seed), FrozenWithHead(b, seed + 1)
    elif variant != "full":
        a, b = (_fresh(encoder, seed + i) for i, encoder in enumerate((a, b)))
    if variant == "shuffled":
        rng = np.random.default_rng(seed)
        train = (train[0], Shuffled(train[1], rng.permutation(len(train[1]))))
        val = (val[0], Shuffled(val[1], rng.permutation(len(val[1]))))
    model = StarCLIP(a, b, settings)
    return model, Trainer(settings.train, seed, title=f"alignment, {variant}").align(model, train, val)


def _fresh(encoder: Encoder, seed: int) -> Encoder:
    """An encoder of the same architecture and input scaling with random weights."""
    fresh = make_encoder(encoder.instrument, encoder.settings, seed)
    fresh.scaling.load_state_dict(encoder.scaling.state_dict())
    return fresh
