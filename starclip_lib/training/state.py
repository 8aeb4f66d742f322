"""What changes while a training goes on, and its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor, nn

from starclip_lib.models.checkpoint import History, HistoryState
from starclip_lib.settings.training import TrainParams
from starclip_lib.storage.json_files import problem_of
from starclip_lib.storage.tensor_files import check_like, check_tensors, load_tensors, save_tensors
from starclip_lib.support.errors import DataError


@dataclass
class TrainingState:
    """What changes while a training goes on, and what its checkpoint holds."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    every_step: bool  # whether the schedule moves every step, else every epoch
    history: History
    best: dict[str, Tensor]  # weights of the best epoch so far

    @classmethod
    def begin(cls, model: nn.Module, settings: TrainParams, steps: int) -> TrainingState:
        """The state before the first epoch, of so many steps each."""
        optimizer = _optimizer(model, settings)
        return cls(model, optimizer, *_schedule(optimizer, settings, steps), History(), weights_of(model))

    def save(self, path: Path, settings: TrainParams, seed: int) -> None:
        """Write a checkpoint, with the settings and the seed that it belongs to."""
        newest = self.history.best_epoch == self.history.epochs
        state = {
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "history": vars(self.history),
            "best": None if newest else self.best,  # the model itself: saves a quarter of the file
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        save_tensors(path, state)

    def load(self, path: Path, settings: TrainParams, seed: int) -> None:
        """Go on from a checkpoint; DataError if it is damaged, or of other settings or another seed."""
        state = load_tensors(path)
        damaged = f"{path} is damaged or of another training; delete it to train again"
        try:
            _CheckpointFile.model_validate(state)
        except ValidationError as error:
            raise DataError(f"{damaged} ({problem_of(error)})") from None
        if (state["settings"], state["seed"]) != (settings.model_dump(mode="json"), seed):
            raise DataError(f"{path} was made with other settings or another seed; delete it to train again")
        self._check(state, path, damaged)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = History(**state["history"])
        self.best = state["best"] or weights_of(self.model)

    def _check(self, state: dict[str, Any], path: Path, damaged: str) -> None:
        """Raise DataError unless everything in a checkpoint is of the shape that this training has.

        Moments of another shape would crash the fused optimiser, not raise an error.
        """
        try:
            wanted = self.model.state_dict()
            check_tensors(state["model"], wanted, damaged, path)
            if state["best"] is not None:
                check_tensors(state["best"], wanted, damaged, path)
            schedule = self.schedule.state_dict()
            check_like(state["schedule"], schedule, damaged)
            steps = schedule.get("total_steps", len(state["history"]["val_loss"]))
            if not 0 < state["schedule"]["last_epoch"] <= steps or schedule.get("total_steps") != state["schedule"].get(
                "total_steps"
            ):
                raise DataError(damaged)
            check_like(state["optimizer"]["param_groups"], self.optimizer.state_dict()["param_groups"], damaged)
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            for number, moments in state["optimizer"]["state"].items():
                like = {"step": torch.zeros(()), "exp_avg": trained[number], "exp_avg_sq": trained[number]}
                check_tensors(moments, like, damaged, path)
                if (moments["exp_avg_sq"] < 0).any() or moments["step"] < 0:
                    raise DataError(damaged)
            if state["optimizer"]["state"].keys() != set(range(len(trained))):
                raise DataError(damaged)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise DataError(f"{damaged} ({type(error).__name__}: {error})") from None


class _CheckpointFile(BaseModel):
    """What a checkpoint holds, its tensors apart."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    settings: dict[str, int | float | str | bool | None]
    seed: int
    history: HistoryState
    best: dict[str, Tensor] | None
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]

    @model_validator(mode="after")
    def _has_begun(self) -> _CheckpointFile:
        if not 0 < len(self.history.val_loss) <= self._epochs:
            raise ValueError(f"{len(self.history.val_loss)} epochs of {self._epochs}")
        return self

    @property
    def _epochs(self) -> int:
        epochs = self.settings.get("epochs")
        return epochs if isinstance(epochs, int) else 0


def _optimizer(model: nn.Module, settings: TrainParams) -> torch.optim.Optimizer:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    scale = [p for name, p in trained.items() if name == "log_scale"]  # a temperature has no business shrinking
    groups: list[dict[str, Any]] = [{"params": [p for name, p in trained.items() if name != "log_scale"]}]
    if scale:
        groups.append({"params": scale, "weight_decay": 0.0})
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer]
    return kind(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def _schedule(
    optimizer: torch.optim.Optimizer, settings: TrainParams, steps: int
) -> tuple[torch.optim.lr_scheduler.LRScheduler, bool]:
    """The schedule, and whether it moves every step (else every epoch)."""
    schedulers = torch.optim.lr_scheduler
    if settings.schedule == "one_cycle":
        total = steps * settings.epochs
        warm_up = 0.1 if total != 10 else 0.2  # PyTorch divides by zero where the warm-up is one step long
        return schedulers.OneCycleLR(optimizer, settings.learning_rate, total_steps=total, pct_start=warm_up), True
    if settings.schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, settings.cosine_epochs, settings.cosine_floor), False
    factor = settings.step_factor if settings.schedule == "step" else 1.0
    return schedulers.StepLR(optimizer, settings.step_size, factor), False


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's weights by name."""
    return {key: value.detach().clone() for key, value in model.state_dict().items()}
