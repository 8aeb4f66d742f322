"""Model files: encoders with the label scaler, the settings and the history of their training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starclip_lib.data.instruments import INSTRUMENTS
from starclip_lib.data.labels import LABELS, LabelScaler
from starclip_lib.errors import DataError
from starclip_lib.files import atomic_path
from starclip_lib.models.coordinates import Coordinates
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.settings.training import EncoderParams

_FORMAT = "starclip model 1"


@dataclass(repr=False)
class Model:
    """One or two trained encoders and what is needed to use them.

    Parameters
    ----------
    encoders : dict of str to Encoder
        By role, such as 'nirspec' and 'apogee', or 'mock' and 'extended'.
    scaler : LabelScaler
        Of the labels the encoders predict, fitted on training stars.
    history : History
    logit_scale : float, optional
    """

    encoders: dict[str, Encoder]
    scaler: LabelScaler
    history: History
    logit_scale: float | None = None

    def __repr__(self) -> str:
        parts = []
        for role, encoder in self.encoders.items():
            count = sum(p.numel() for p in encoder.parameters())
            parts.append(f"{role}: {encoder.settings.kind} for {encoder.instrument.title}, {count:,} parameters")
        best = f"epoch {self.history.best_epoch} of {self.history.epochs} kept" if self.history.epochs else "untrained"
        return f"{'; '.join(parts)}; {best}, validation loss {min(self.history.val_loss, default=float('nan')):.4g}"

    def save(self, path: str | Path) -> None:
        """Write the model; loadable with `weights_only=True`.

        Parameters
        ----------
        path : str or Path
        """
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

        Parameters
        ----------
        path : str or Path
        device : torch.device or str

        Returns
        -------
        Model

        Raises
        ------
        DataError
            If the file is not one, or is for other labels.
        """
        content = load_tensors(path)
        if content.get("format") != _FORMAT:
            raise DataError(f"{path} is no StarCLIP model (or one of another version); train it anew")
        if content["labels"] != list(LABELS):
            raise DataError(f"{path} predicts the labels {', '.join(content['labels'])}, not this version's")
        return cls(
            encoders={role: _from_state(state, path).to(device).eval() for role, state in content["encoders"].items()},
            scaler=LabelScaler.from_state(content["scaler"]),
            history=History(**content["history"]),
            logit_scale=content["logit_scale"],
        )


def _state(encoder: Encoder) -> dict[str, Any]:
    return {
        "instrument": encoder.instrument.name,
        "settings": encoder.settings.model_dump(mode="json"),
        "weights": {key: value.detach().cpu().clone() for key, value in encoder.state_dict().items()},
    }


def _from_state(state: dict[str, Any], path: str | Path) -> Encoder:
    settings = EncoderParams.model_validate(state["settings"], strict=False)
    if state["instrument"] not in INSTRUMENTS:
        raise DataError(f"{path} is for the instrument '{state['instrument']}', not for {' or '.join(INSTRUMENTS)}")
    instrument = INSTRUMENTS[state["instrument"]]
    encoder = make_encoder(instrument, settings, seed=0)
    if any(key.startswith("coordinates.") for key in state["weights"]):
        encoder.coordinates = Coordinates()
    try:
        encoder.load_state_dict(state["weights"])
    except RuntimeError as error:
        grid = f"{instrument.title}'s grid of {instrument.n_pix:,} pixels"
        raise DataError(f"{path}: the weights do not fit {grid}; it was trained on another one") from error
    return encoder


def save_tensors(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain Python values atomically (a NumPy scalar would make the file unreadable).

    Parameters
    ----------
    path : str or Path
    content : dict
    """
    with atomic_path(path) as part:
        torch.save(content, part)


def load_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values to the CPU; nothing in it is executed.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict

    Raises
    ------
    DataError
        If it is missing, truncated or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except Exception as error:  # torch raises several kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} is damaged or no checkpoint of this project ({reason}); delete it and train anew"
        ) from error


@dataclass
class History:
    """What happened in each epoch, plain lists.

    Parameters
    ----------
    train_loss, val_loss : list of float
    val_retrieval : list of float
        Of alignments, the share of validation stars whose partner is the nearest of all.
    learning_rate, seconds : list of float
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
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


def resume_file(path: Path) -> Path:
    """Where a training that makes `path` keeps its checkpoint until it is done.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path
    """
    return path.with_suffix(".resume")
