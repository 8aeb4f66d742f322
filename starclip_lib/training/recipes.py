"""The trainings of the paper: which spectra each one sees, where it starts from, and the file it leaves.

Each recipe is called with the path to write, the data set, the settings of the run, and the models it starts from.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from starclip_lib.data.selection import mock_stars, split_by_star
from starclip_lib.data.spectra import SPLITS, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.models.calibration import check_enough
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.models.encoding import embed_all, pick_device, pick_precision
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import AlignParams, EncoderParams, TrainParams
from starclip_lib.storage.tensor_files import resume_file
from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded
from starclip_lib.training.batches import NewStars, Source, SpectrumSource
from starclip_lib.training.loop import Trainer, Watch
from starclip_lib.training.refining import calibrate, learn_errors, network_of
from starclip_lib.transforms.corruptions import Compose, normalisation
from starclip_lib.transforms.views import ViewSampler, extended_telescope, mock_telescope, pretraining_telescope

# Keys that make the random streams of the trainings independent of each other.
_APOGEE, _NIRSPEC, _SUPERVISED, _EXTENDED, _STARCLIP, _MOCKSTARCLIP = range(1, 7)
_ENOUGH = 16_384  # stars: of training that tell the scale of the input, of validation that tell when to stop
_Sources = tuple[SpectrumSource, SpectrumSource]  # of training and of validation stars


@dataclass(frozen=True)
class _Recipe:
    """One training of a run: the file it leaves, the key of its random streams, its title and who watches it."""

    path: Path
    params: Params
    key: int
    title: str
    watch: Watch | None

    @property
    def seed(self) -> int:
        return self.params.seed * 10 + self.key

    @property
    def device(self) -> torch.device:
        return pick_device(self.params.device)

    def trainer(self, settings: TrainParams) -> Trainer:
        precision = pick_precision(self.params.precision, self.device)
        resume = resume_file(self.path)
        return Trainer(settings, self.seed, self.device, precision, resume, self.title, self.watch)

    def sources(
        self,
        spectra: SpectrumSet,
        rows: list[np.ndarray],
        labels: list[np.ndarray],
        telescope: ViewSampler | None = None,
    ) -> _Sources:
        """Training and validation spectra, with their Z-scored labels.

        Corruptions are fresh in training, if so set, one fixed copy in validation; else the telescope's views in both.
        At most 16,384 validation stars are looked at: their views are kept in memory.
        """
        fresh = self.params.corruption.fresh
        if telescope is not None and fresh:
            telescope = ViewSampler(telescope.corruption, 1, telescope.seed)
        return (
            SpectrumSource(spectra, rows[0], labels[0], self.device, telescope, fresh),
            SpectrumSource(spectra, rows[1][:_ENOUGH], labels[1][:_ENOUGH], self.device, telescope),
        )

    def pretrain(
        self,
        encoder: Encoder,
        sources: tuple[Source, Source],
        settings: TrainParams,
        scaler: LabelScaler,
        data: PairedSpectra,
        telescope: ViewSampler | None,
    ) -> None:
        """Pretrain an encoder on labels and save it as the only encoder of a model."""
        history = self.trainer(settings).pretrain(encoder, *sources)
        learn_errors(encoder, data, data.rows("val"), scaler, telescope)
        self.save(Model({encoder.instrument.name: encoder}, scaler, history))

    def align(
        self,
        encoders: tuple[Encoder, Encoder],
        data: PairedSpectra,
        rows: list[np.ndarray],
        scaler: LabelScaler,
        telescopes: tuple[ViewSampler | None, ViewSampler | None],
        settings: AlignParams,
    ) -> tuple[StarCLIP, History]:
        """Align two encoders on training stars, each on its instrument's spectra through its telescope."""
        labels = [scaler.transform(data.labels[part]) for part in rows]
        spectra = [getattr(data, encoder.instrument.name) for encoder in encoders]
        sides = [self.sources(*side) for side in zip(spectra, (rows, rows), (labels, labels), telescopes, strict=True)]
        model = StarCLIP(*encoders, settings)
        return model, self.trainer(settings.train).align(model, *zip(*sides, strict=True))

    def save(self, model: Model) -> None:
        """Save a trained model, once, and drop the checkpoint of its training."""
        model.save(self.path)
        resume_file(self.path).unlink(missing_ok=True)


def _fresh_encoder(spectra: SpectrumSet, rows: np.ndarray, settings: EncoderParams, recipe: _Recipe) -> Encoder:
    encoder = make_encoder(spectra.instrument, settings, recipe.seed)
    flux = torch.from_numpy(spectra.flux[rows[:_ENOUGH]])
    if spectra.instrument is NIRSPEC:  # the scale is that of the spectra which the encoder will see
        flux = Compose(normalisation(recipe.params.corruption))(flux, seeded("cpu", recipe.seed))
    encoder.fit_scaling(flux)
    return encoder


def train_encoder(path: Path, data: PairedSpectra, params: Params, instrument: str, watch: Watch | None = None) -> None:
    """Pretrain the 'apogee' or 'nirspec' encoder on catalogue labels (section 4.1 of the paper)."""
    spectra: SpectrumSet = getattr(data, instrument)
    settings, split = params.pretrain, data.split
    if settings.leak:  # another split than the one that judges, as in the published evaluation
        split = split_by_star(data.star_id, params.data.split, np.random.default_rng([params.seed, 1]))
    rows = [np.flatnonzero(split == SPLITS.index(name)) for name in ("train", "val")]
    scaler = LabelScaler.fit(data.labels if settings.leak else data.labels[rows[0]])
    emulated = instrument == "nirspec" and settings.nirspec_stars == "emulated"
    if emulated and data.provenance.get("emulator") != default_emulator().version:
        raise DataError(
            "pretrain.nirspec_stars: 'emulated' would mix spectra of two kinds: those of this data set "
            f"({data.source}) are not from this version's emulator; use 'catalogue'"
        )
    key = {"apogee": _APOGEE, "nirspec": _NIRSPEC}[instrument]
    recipe = _Recipe(path, params, key, f"{spectra.instrument.title} encoder", watch)
    telescope = pretraining_telescope(params) if instrument == "nirspec" else None
    train: Source
    train, val = recipe.sources(spectra, rows, [scaler.transform(data.labels[part]) for part in rows], telescope)
    if emulated:
        train = NewStars(
            data.labels[rows[0]],
            spectra.instrument,
            scaler,
            recipe.device,
            smoothing=settings.smoothing,
            corruption=None if telescope is None else telescope.corruption,
            seed=recipe.seed,
        )
    encoder = _fresh_encoder(spectra, rows[0], settings.encoder, recipe)
    seen = mock_telescope(params) if instrument == "nirspec" else None
    recipe.pretrain(encoder, (train, val), getattr(settings, instrument), scaler, data, seen)


def train_supervised(path: Path, data: PairedSpectra, params: Params, watch: Watch | None = None) -> None:
    """The supervised baseline: the CNN trained from scratch on mock NIRSpec (section 5.2.3)."""
    settings, rows = params.supervised, [data.rows("train"), data.rows("val")]
    scaler = LabelScaler.fit(data.labels[rows[0]])
    recipe = _Recipe(path, params, _SUPERVISED, "supervised CNN", watch)
    labels = [scaler.transform(data.labels[part]) for part in rows]
    sources = recipe.sources(data.nirspec, rows, labels, mock_telescope(params))
    encoder = _fresh_encoder(data.nirspec, rows[0], settings.encoder, recipe)
    recipe.pretrain(encoder, sources, settings.mock, scaler, data, mock_telescope(params))


def train_supervised_extended(
    path: Path, data: PairedSpectra, params: Params, start: Path, watch: Watch | None = None
) -> None:
    """The supervised baseline on extended mock: that CNN, its fully connected layers tuned on the few stars."""
    model, stars = Model.load(start), mock_stars(data, params)
    encoder, rows = network_of(start, "nirspec"), [stars["train"], stars["val"]]
    encoder.freeze_features()
    recipe = _Recipe(path, params, _EXTENDED, "supervised CNN, extended mock", watch)
    labels = [model.scaler.transform(data.labels[part]) for part in rows]
    telescope = extended_telescope(data, params, params.mockstarclip.copies)
    sources = recipe.sources(data.nirspec, rows, labels, telescope)
    recipe.pretrain(encoder, sources, params.supervised.extended, model.scaler, data, telescope)


def train_starclip(
    path: Path, data: PairedSpectra, params: Params, nirspec: Path, apogee: Path, watch: Watch | None = None
) -> None:
    """StarCLIP: align the pretrained encoders on mock NIRSpec and APOGEE (section 4.2)."""
    if params.starclip.calibrate:  # said before the alignment, not after it
        check_enough(len(data.rows("val")))
    scaler, rows = Model.load(nirspec).scaler, [data.rows("train"), data.rows("val")]
    recipe = _Recipe(path, params, _STARCLIP, "StarCLIP", watch)
    encoders = network_of(nirspec, "nirspec"), network_of(apogee, "apogee")
    model, history = recipe.align(encoders, data, rows, scaler, (mock_telescope(params), None), params.starclip)
    scale = float(model.logit_scale.detach())
    if params.starclip.calibrate:
        scale = calibrate((model.encoder_a, model.encoder_b), data, params)
    learn_errors(model.encoder_a, data, rows[1], scaler, mock_telescope(params))
    learn_errors(model.encoder_b, data, rows[1], scaler)
    recipe.save(Model({"nirspec": model.encoder_a, "apogee": model.encoder_b}, scaler, history, scale))


def train_mockstarclip(
    path: Path, data: PairedSpectra, params: Params, starclip: Path, watch: Watch | None = None
) -> None:
    """MockStarCLIP: both encoders start from StarCLIP's NIRSpec encoder; the extended-mock one tunes its head."""
    start, stars, settings = Model.load(starclip), mock_stars(data, params), params.mockstarclip
    rows = [stars["train"], stars["val"]]
    frozen = network_of(starclip, "nirspec")
    tuned = copy.deepcopy(frozen)
    frozen.requires_grad_(False)
    tuned.freeze_features()
    recipe = _Recipe(path, params, _MOCKSTARCLIP, "MockStarCLIP", watch)
    telescopes = mock_telescope(params, settings.copies), extended_telescope(data, params, settings.copies)
    model, history = recipe.align((frozen, tuned), data, rows, start.scaler, telescopes, settings.align)
    scale = float(model.logit_scale.detach())
    learn_errors(model.encoder_b, data, data.rows("val"), start.scaler, extended_telescope(data, params))
    recipe.save(Model({"mock": model.encoder_a, "extended": model.encoder_b}, start.scaler, history, scale))


def embed_stars(
    path: Path, data: PairedSpectra, params: Params, starclip: Path, mockstarclip: Path, watch: Watch | None = None
) -> None:
    """Embed every star with both models, on the device of the trainings."""
    models = {"starclip": starclip, "mockstarclip": mockstarclip}
    embed_all(path, data, params, models, pick_device(params.device))
