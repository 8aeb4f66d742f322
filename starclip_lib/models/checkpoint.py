"""Model files: encoders with the label scaler, the settings and the history of their training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from starclip_lib.models.calibration import Coordinates
from starclip_lib.models.encoders import Estimator, make_encoder
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import INSTRUMENTS
from starclip_lib.physics.labels import LABELS, N_LABELS, LabelScaler
from starclip_lib.settings.training import EncoderParams, FitParams
from starclip_lib.storage.json_files import problem_of
from starclip_lib.storage.tensor_files import check_tensors, load_tensors, save_tensors
from starclip_lib.support.errors import DataError

_FORMAT = "starclip model 1"


@dataclass(repr=False)
class Model:
    """Trained networks or fits, one to four, and what is needed to use them.

    Parameters
    ----------
    encoders : dict of str to Estimator
        By role, such as 'nirspec' and 'apogee', or 'mock' and 'extended'.
    scaler : LabelScaler
        Of the labels the encoders predict, fitted on training stars.
    """

    encoders: dict[str, Estimator]
    scaler: LabelScaler
    history: History
    logit_scale: float | None = None

    def __repr__(self) -> str:
        parts = []
        for role, encoder in self.encoders.items():
            count = sum(p.numel() for p in encoder.parameters())
            kind = "fit" if encoder.fit_settings else encoder.settings.kind
            parts.append(f"{role}: {kind} for {encoder.instrument.title}, {count:,} parameters")
        best = f"epoch {self.history.best_epoch} of {self.history.epochs} kept" if self.history.epochs else "untrained"
        return f"{'; '.join(parts)}; {best}, validation loss {min(self.history.val_loss, default=float('nan')):.4g}"

    def save(self, path: str | Path) -> None:
        """Write the model; loadable with `weights_only=True`."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "labels": list(LABELS),
            "encoders": {role: _state(encoder) for role, encoder in self.encoders.items()},
            "scaler": self.scaler.state(),
            "history": vars(self.history),
            "logit_scale": self.logit_scale,
        }
        save_tensors(path, content)

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Model:
        """Read a model, ready for evaluation.

        Raises
        ------
        DataError
            If the file is not one, or is for other labels.
        """
        content = load_tensors(path)
        if content.get("format") != _FORMAT:
            raise DataError(f"{path} is not a StarCLIP model of this version; train it again")
        if content.get("labels") != list(LABELS):
            names = content.get("labels")
            given = ", ".join(map(str, names)) if isinstance(names, list) else "(none)"
            raise DataError(f"{path} predicts the labels {given}, not this version's")
        try:
            file = ModelFile.model_validate(content)
        except ValidationError as error:
            raise DataError(f"{path} is damaged: {problem_of(error)}; delete it and train again") from None
        return cls(
            encoders={role: _from_state(state, path).to(device).eval() for role, state in file.encoders.items()},
            scaler=LabelScaler.from_state({"mean": list(file.scaler.mean), "std": list(file.scaler.std)}),
            history=History(**content["history"]),
            logit_scale=file.logit_scale,
        )


_Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]
_Twenty = Annotated[list[_Number], Field(min_length=N_LABELS, max_length=N_LABELS)]
_Spread = Annotated[list[Annotated[_Number, Field(gt=0)]], Field(min_length=N_LABELS, max_length=N_LABELS)]


class _Part(BaseModel):
    """A part of a model file that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)


class _EncoderState(_Part):
    instrument: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]
    fit: dict[str, Any] | None = None
    emulator: str = ""


class _ScalerState(_Part):
    mean: _Twenty
    std: _Spread


class HistoryState(_Part):
    """The history of a training as it is stored: as many numbers of each kind as there were epochs."""

    train_loss: list[_Number]
    val_loss: list[_Number]
    val_retrieval: list[Annotated[float, Field(ge=0, le=1)]]
    learning_rate: list[Annotated[_Number, Field(ge=0)]]
    seconds: list[Annotated[_Number, Field(ge=0)]]

    @model_validator(mode="after")
    def _of_one_length(self) -> HistoryState:
        lengths = {len(values) for name, values in self if name != "val_retrieval"}
        if len(lengths) > 1 or len(self.val_retrieval) not in {0, *lengths}:
            raise ValueError("its lists have different lengths")
        return self


class ModelFile(_Part):
    """What a model file holds."""

    format: str
    """Name and version of this format."""
    labels: list[str]
    """The twenty labels, in their order."""
    encoders: Annotated[dict[str, _EncoderState], Field(min_length=1, max_length=4)]
    """One to four, by role (such as `nirspec` and `apogee`): `instrument`, `settings` and `weights` of each; of fits
    also their settings (`fit`) and the version of the `emulator` that is fitted."""
    scaler: _ScalerState
    """`mean` and `std` of the labels over the training stars, 20 numbers each, in K and dex."""
    history: HistoryState
    """`train_loss`, `val_loss`, `val_retrieval`, `learning_rate` and `seconds` of each epoch."""
    logit_scale: Annotated[_Number, Field(gt=0)] | None
    """Factor on the cosines (1 / temperature), for aligned encoders."""


def _state(encoder: Estimator) -> dict[str, Any]:
    return {
        "instrument": encoder.instrument.name,
        "settings": encoder.settings.model_dump(mode="json"),
        "weights": {key: value.detach().cpu().clone() for key, value in encoder.state_dict().items()},
        "fit": None if encoder.fit_settings is None else encoder.fit_settings.model_dump(mode="json"),
        "emulator": encoder.emulator_version,
    }


def _from_state(state: _EncoderState, path: str | Path) -> Estimator:
    if state.instrument not in INSTRUMENTS:
        raise DataError(f"{path} is for the instrument '{state.instrument}', not for {' or '.join(INSTRUMENTS)}")
    try:
        settings = EncoderParams.model_validate(state.settings)
        fit = None if state.fit is None else FitParams.model_validate(state.fit)
    except ValidationError as error:
        raise DataError(f"{path}: settings of an encoder: {problem_of(error)}; train it again") from None
    instrument = INSTRUMENTS[state.instrument]
    present = default_emulator().version if fit else ""
    if state.emulator != present:
        raise DataError(
            f"{path} fits the emulator '{state.emulator[:40]}', this version has '{present or 'none for a network'}'; "
            "train it again"
        )

    def make() -> Estimator:
        encoder: Estimator = make_encoder(instrument, settings, seed=0)
        if fit:
            guess = make_encoder(instrument, settings, seed=0) if fit.guess == "network" else None
            encoder = EmulatorFit(instrument, fit, settings, default_emulator(), guess)
        if any(key.startswith("coordinates.") for key in state.weights):
            encoder.coordinates = Coordinates()
        return encoder

    with torch.device("meta"):  # costs no memory, however wide the settings say that it is
        wanted = make().state_dict()
    grid = f"{instrument.title}'s grid of {instrument.n_pix:,} pixels"
    check_tensors(state.weights, wanted, f"{path}: the weights do not fit {grid}; it was trained on another one", path)
    encoder = make()
    encoder.load_state_dict(state.weights)
    return encoder


@dataclass
class History:
    """What happened in each epoch, plain lists."""

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    # of alignments, the share of validation stars whose partner is the nearest of all
    val_retrieval: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.val_loss)

    @property
    def best_epoch(self) -> int:
        """The epoch (from 1) whose weights were kept."""
        return int(np.argmin(self.val_loss)) + 1
