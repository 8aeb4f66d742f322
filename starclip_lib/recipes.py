"""The trainings of the paper: which spectra each one sees, where it starts from, and the file it leaves."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from starclip_lib.batches import NewStars, SpectrumSource, pick_device, pick_precision
from starclip_lib.calibration import calibrated, check_enough
from starclip_lib.config import DataError
from starclip_lib.contrastive import StarCLIP
from starclip_lib.corruptions import Compose, Corruption, extended_mock, mock, normalisation, seeded
from starclip_lib.distributed import local_device, rank
from starclip_lib.embeddings import run_encoder
from starclip_lib.emulator import default_emulator
from starclip_lib.encoders import Encoder, make_encoder
from starclip_lib.history import Watch
from starclip_lib.instruments import NIRSPEC
from starclip_lib.labels import FE, LabelScaler
from starclip_lib.models import Model
from starclip_lib.settings import CorruptionParams, EncoderParams, Params, TrainParams
from starclip_lib.spectra import SPLITS, PairedSpectra, SpectrumSet, select_evenly, split_by_star
from starclip_lib.training import align, pretrain

# Keys that make the random streams of the trainings independent of each other.
_APOGEE, _NIRSPEC, _SUPERVISED, _EXTENDED, _STARCLIP, _MOCKSTARCLIP = range(1, 7)


def view_seed(params: Params) -> int:
    """Seed of the fixed corrupted copies on which every model is judged."""
    return params.seed


def reference_flux(data: PairedSpectra) -> torch.Tensor:
    """The star whose Paschen lines every extended-mock spectrum gets: the first training star, (8192,)."""
    return torch.from_numpy(data.nirspec.flux[data.rows("train")[0]])


def extended_corruption(data: PairedSpectra, params: Params) -> Corruption:
    """The extended mock of a run."""
    return extended_mock(params.corruption, reference_flux(data))


def pretraining_corruption(params: Params, instrument: str) -> Corruption | None:
    """What the spectra go through on which the 'apogee' or 'nirspec' encoder is pretrained, and judged."""
    if instrument == "apogee":
        return None
    if params.pretrain.nirspec_input == "mock":
        return mock(params.corruption)
    return Compose(normalisation(params.corruption)) if params.corruption.continuum_spacing else None


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
            SpectrumSource(spectra.flux, part, self.device, corruption, n, view_seed(self.params))
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


def resume_file(path: Path) -> Path:
    """Where a training that makes `path` keeps its checkpoint until it is done."""
    return path.with_suffix(".resume")


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
    rows, n_views, seed = data.rows("val"), params.corruption.n_views, view_seed(params)
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


def mock_stars(data: PairedSpectra, params: Params) -> dict[str, np.ndarray]:
    """Rows of the stars of MockStarCLIP, by split: the few to align with, and the enriched test part.

    The stars are spread evenly over [Fe/H] within each split of the data set, so that a test star of this model is a
    test star of every other one too; the paper splits its 250 stars anew.
    """
    settings, parts = params.mockstarclip, np.array(params.data.split)
    rng = np.random.default_rng([params.seed, 2])
    edges = np.concatenate([[0], np.cumsum(parts) * settings.n_stars // parts.sum()])
    counts = dict(zip(SPLITS, np.diff(edges), strict=True))
    counts["test"] = min(counts["test"] + settings.n_test_extra, len(data.rows("test")))
    chosen = {}
    for name in SPLITS:
        rows = data.rows(name)
        if counts[name] > len(rows):
            raise DataError(
                f"mockstarclip.n_stars {settings.n_stars} takes {counts[name]} {name} stars, but there are "
                f"{len(rows)}; lower it or raise data.n_stars"
            )
        chosen[name] = rows[select_evenly(data.labels[rows, FE], counts[name], settings.feh_bins, rng)]
    return chosen
