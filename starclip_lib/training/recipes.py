"""The trainings of the paper: which spectra each one sees, where it starts from, and the file it leaves."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.instruments import NIRSPEC
from starclip_lib.data.labels import LabelScaler
from starclip_lib.data.selection import mock_stars, split_by_star
from starclip_lib.data.spectra import SPLITS, PairedSpectra, SpectrumSet
from starclip_lib.errors import DataError
from starclip_lib.models.calibration import calibrated, check_enough
from starclip_lib.models.checkpoint import Model, resume_file
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.embeddings import run_encoder
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.seeds import seeded
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import CorruptionParams, EncoderParams, TrainParams
from starclip_lib.training.batches import NewStars, SpectrumSource
from starclip_lib.training.devices import local_device, pick_device, pick_precision, rank
from starclip_lib.training.loop import Watch, align, pretrain
from starclip_lib.transforms.corruptions import (
    Compose,
    Corruption,
    extended_corruption,
    mock,
    normalisation,
    pretraining_corruption,
)

# Keys that make the random streams of the trainings independent of each other.
_APOGEE, _NIRSPEC, _SUPERVISED, _EXTENDED, _STARCLIP, _MOCKSTARCLIP = range(1, 7)


@dataclass(frozen=True)
class _Setup:
    """What all trainings of a run share."""

    params: Params
    device: torch.device
    precision: torch.dtype

    @classmethod
    def of(cls, params: Params) -> _Setup:
        device = local_device(pick_device(params.device))
        return cls(params, device, pick_precision(params.precision, device))

    def sources(
        self, spectra: SpectrumSet, rows: list[np.ndarray], corruption: Corruption | None = None, copies: int = 1
    ) -> list[SpectrumSource]:
        """Training and validation spectra.

        Corruptions are fresh in training, if so set, one fixed copy in validation; else `copies` fixed ones in both.
        """
        numbers = [0, 1] if self.params.corruption.fresh else [copies] * 2
        return [
            SpectrumSource(spectra.flux, part, self.device, corruption, n, self.params.seed)
            for part, n in zip(rows, numbers, strict=True)
        ]

    def supervised(
        self,
        path: Path,
        encoder: Encoder,
        spectra: SpectrumSet,
        labels: np.ndarray,
        rows: list[np.ndarray],
        *,
        scaler: LabelScaler,
        corruption: Corruption | None,
        copies: int,
        train: TrainParams,
        key: int,
        title: str,
        watch: Watch | None,
        smoothing: float | None = None,
    ) -> None:
        """Pretrain an encoder on labels and save it as the only encoder of a model.

        smoothing : if given, train on new stars around the training stars, as `NewStars` makes them
        """
        train_source, val_source = self.sources(spectra, rows, corruption, copies)
        seed = self.params.seed * 10 + key
        if smoothing is not None:
            train_source = NewStars(
                labels[rows[0]],
                spectra.instrument,
                scaler,
                self.device,
                smoothing=smoothing,
                corruption=corruption,
                seed=seed,
            )
        history = pretrain(
            encoder,
            train_source,
            val_source,
            *(scaler.transform(labels[part]) for part in rows),
            train,
            seed=seed,
            precision=self.precision,
            resume=resume_file(path),
            title=title,
            watch=watch,
        )
        _finish(Model({spectra.instrument.name: encoder}, scaler, history), path)


def _finish(model: Model, path: Path) -> None:
    """Save a trained model, once, and drop the checkpoint of its training."""
    if rank() == 0:
        model.save(path)
        resume_file(path).unlink(missing_ok=True)


def _fresh_encoder(
    spectra: SpectrumSet, rows: np.ndarray, settings: EncoderParams, corruption: CorruptionParams, seed: int
) -> Encoder:
    encoder = make_encoder(spectra.instrument, settings, seed)
    flux = torch.from_numpy(spectra.flux[rows])
    if spectra.instrument is NIRSPEC:  # the scale is that of the spectra which the encoder will see
        flux = Compose(normalisation(corruption))(flux, seeded("cpu", seed))
    encoder.fit_scaling(flux)
    return encoder


def train_encoder(path: Path, data: PairedSpectra, params: Params, instrument: str, watch: Watch | None = None) -> None:
    """Pretrain the 'apogee' or 'nirspec' encoder on catalogue labels (section 4.1 of the paper)."""
    spectra, settings = getattr(data, instrument), params.pretrain
    split = data.split
    if settings.leak:  # another split than the one that judges, as in the published evaluation
        split = split_by_star(data.star_id, params.data.split, np.random.default_rng([params.seed, 1]))
    rows = [np.flatnonzero(split == SPLITS.index(name)) for name in ("train", "val")]
    scaler = LabelScaler.fit(data.labels if settings.leak else data.labels[rows[0]])
    key = {"apogee": _APOGEE, "nirspec": _NIRSPEC}[instrument]
    emulated = instrument == "nirspec" and settings.nirspec_stars == "emulated"
    if emulated and data.provenance.get("emulator") != default_emulator().version:
        raise DataError(
            "pretrain.nirspec_stars: 'emulated' would mix spectra of two kinds: those of this data set "
            f"({data.source}) are not from this version's emulator; use 'catalogue'"
        )
    _Setup.of(params).supervised(
        path,
        _fresh_encoder(spectra, rows[0], settings.encoder, params.corruption, params.seed * 10 + key),
        spectra,
        data.labels,
        rows,
        scaler=scaler,
        corruption=pretraining_corruption(params, instrument),
        copies=params.corruption.n_views,
        train=getattr(settings, instrument),
        key=key,
        title=f"{spectra.instrument.title} encoder",
        watch=watch,
        smoothing=settings.smoothing if emulated else None,
    )


def train_supervised(path: Path, data: PairedSpectra, params: Params, watch: Watch | None = None) -> None:
    """The supervised baseline: the CNN trained from scratch on mock NIRSpec (section 5.2.3)."""
    settings, rows = params.supervised, [data.rows("train"), data.rows("val")]
    _Setup.of(params).supervised(
        path,
        _fresh_encoder(data.nirspec, rows[0], settings.encoder, params.corruption, params.seed * 10 + _SUPERVISED),
        data.nirspec,
        data.labels,
        rows,
        scaler=LabelScaler.fit(data.labels[rows[0]]),
        corruption=mock(params.corruption),
        copies=params.corruption.n_views,
        train=settings.mock,
        key=_SUPERVISED,
        title="supervised CNN",
        watch=watch,
    )


def train_supervised_extended(
    path: Path, data: PairedSpectra, params: Params, start: Path, watch: Watch | None = None
) -> None:
    """The supervised baseline on extended mock: that CNN, its fully connected layers tuned on the few stars."""
    model = Model.load(start)
    encoder = model.encoders["nirspec"]
    encoder.features.requires_grad_(False)
    _Setup.of(params).supervised(
        path,
        encoder,
        data.nirspec,
        data.labels,
        [mock_stars(data, params)[name] for name in ("train", "val")],
        scaler=model.scaler,
        corruption=extended_corruption(data, params),
        copies=params.mockstarclip.copies,
        train=params.supervised.extended,
        key=_EXTENDED,
        title="supervised CNN, extended mock",
        watch=watch,
    )


def train_starclip(
    path: Path, data: PairedSpectra, params: Params, nirspec: Path, apogee: Path, watch: Watch | None = None
) -> None:
    """StarCLIP: align the pretrained encoders on mock NIRSpec and APOGEE (section 4.2)."""
    if params.starclip.calibrate:  # said before the alignment, not after it
        check_enough(len(data.rows("val")))
    models = {"nirspec": Model.load(nirspec), "apogee": Model.load(apogee)}
    setup, rows = _Setup.of(params), [data.rows("train"), data.rows("val")]
    nirspec_sources = setup.sources(data.nirspec, rows, mock(params.corruption), params.corruption.n_views)
    apogee_sources = setup.sources(data.apogee, rows)
    scaler = models["nirspec"].scaler
    model = StarCLIP(*(models[name].encoders[name] for name in ("nirspec", "apogee")), params.starclip)
    history = align(
        model,
        *zip(nirspec_sources, apogee_sources, strict=True),
        *(scaler.transform(data.labels[part]) for part in rows),
        seed=params.seed * 10 + _STARCLIP,
        precision=setup.precision,
        resume=resume_file(path),
        title="StarCLIP",
        watch=watch,
    )
    scale = float(model.logit_scale.detach())
    if params.starclip.calibrate:
        scale = _calibrate(model, data, params)
    encoders = {"nirspec": model.encoder_a, "apogee": model.encoder_b}
    _finish(Model(encoders, scaler, history, scale), path)


def _calibrate(model: StarCLIP, data: PairedSpectra, params: Params) -> float:
    """Give both encoders the coordinates that suit their errors on validation stars; returns the cosines' new scale."""
    rows, n_views, seed = data.rows("val"), params.corruption.n_views, params.seed
    corruption = mock(params.corruption)
    nirspec = run_encoder(
        model.encoder_a, data.nirspec.flux, rows, corruption=corruption, n_views=n_views, seed=seed, output="labels"
    )
    apogee = run_encoder(model.encoder_b, data.apogee.flux, rows, output="labels")
    *coordinates, scale = calibrated(nirspec, np.repeat(apogee, n_views, axis=1), params.pretrain.encoder.lift)
    for encoder, own in zip((model.encoder_a, model.encoder_b), coordinates, strict=True):
        encoder.coordinates = own.to(next(encoder.parameters()).device)
    return scale


def train_mockstarclip(
    path: Path, data: PairedSpectra, params: Params, starclip: Path, watch: Watch | None = None
) -> None:
    """MockStarCLIP: both encoders start from StarCLIP's NIRSpec encoder; the extended-mock one tunes its head."""
    start = Model.load(starclip)
    setup, stars = _Setup.of(params), mock_stars(data, params)
    rows = [stars["train"], stars["val"]]
    frozen, tuned = start.encoders["nirspec"], copy.deepcopy(start.encoders["nirspec"])
    frozen.requires_grad_(False)
    tuned.features.requires_grad_(False)
    sources = [
        setup.sources(data.nirspec, rows, corruption, params.mockstarclip.copies)
        for corruption in (mock(params.corruption), extended_corruption(data, params))
    ]
    model = StarCLIP(frozen, tuned, params.mockstarclip.align)
    history = align(
        model,
        *zip(*sources, strict=True),
        *(start.scaler.transform(data.labels[part]) for part in rows),
        seed=params.seed * 10 + _MOCKSTARCLIP,
        precision=setup.precision,
        resume=resume_file(path),
        title="MockStarCLIP",
        watch=watch,
    )
    encoders = {"mock": model.encoder_a, "extended": model.encoder_b}
    _finish(Model(encoders, start.scaler, history, float(model.logit_scale.detach())), path)
