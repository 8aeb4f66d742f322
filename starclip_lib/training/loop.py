"""The training loop: device, precision, early stop, a checkpoint every epoch, resume to the same result.

Whatever is random in epoch e is a function of (seed, e), so a run that was killed and resumed ends with the same
weights as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from starclip_lib.models.checkpoint import History
from starclip_lib.models.contrastive import StarCLIP, partner_first
from starclip_lib.models.encoders import Encoder
from starclip_lib.settings.training import TrainParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded
from starclip_lib.training.batches import Source, batches
from starclip_lib.training.state import TrainingState, weights_of

Watch = Callable[[History, int], None]  # called after every epoch with what happened and the number of epochs planned
Pair = tuple[Source, Source]
_CPU = torch.device("cpu")
_Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]  # star, view, generator -> loss of that batch


@dataclass(frozen=True)
class Trainer:
    """How to train.

    Parameters
    ----------
    settings : TrainParams
        Epochs, batches, learning rate and its schedule.
    seed : int
        Of everything random.
    device : torch.device
        Where.
    precision : torch.dtype
        The floating-point type that encoders compute in.
    resume : Path, optional
        Where the checkpoint of every epoch is kept; None for trainings that are over in a moment.
    title : str
        What the progress bar says.
    watch : Watch, optional
        Called after every epoch.
    """

    settings: TrainParams
    seed: int
    device: torch.device = _CPU
    precision: torch.dtype = torch.float32
    resume: Path | None = None
    title: str = "training"
    watch: Watch | None = None

    def pretrain(self, encoder: Encoder, train: Source, val: Source) -> History:
        """Train an encoder to predict Z-scored labels by mean squared error (equation 4.1).

        Parameters
        ----------
        encoder : Encoder
            Is changed in place and ends with the weights of its best epoch on the validation stars.
        """
        net = encoder.to(self.device)

        def loss_on(source: Source) -> _Loss:
            def loss(star: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
                flux, wanted = source.draw(star, view, generator)
                with self._autocast():
                    predicted = net(flux)
                return F.mse_loss(predicted.float(), wanted)

            return loss

        items = [(len(source), source.copies) for source in (train, val)]
        return self._fit(encoder, (loss_on(train), loss_on(val)), items)

    def align(self, model: StarCLIP, train: Pair, val: Pair) -> History:
        """Align the two encoders of `model` on pairs of spectra by the contrastive loss.

        Parameters
        ----------
        train, val : tuple of two Source
            Both sides, row i of one belonging to row i of the other; the labels are those of the first, and are used
            only if the model's `label_weight` is not 0.
        """
        net = model.to(self.device)

        def loss_on(pair: Pair) -> _Loss:
            def loss(star: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
                (flux_a, labels), (flux_b, _) = (source.draw(star, view, generator) for source in pair)
                with self._autocast():
                    return net(flux_a, flux_b, star, labels)

            return loss

        items = [(len(pair[0]), max(source.copies for source in pair)) for pair in (train, val)]
        return self._fit(
            model,
            (loss_on(train), loss_on(val)),
            items,
            retrieval=lambda: _retrieval(model, val, self.settings.batch_size),
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def _fit(
        self,
        model: nn.Module,
        losses: tuple[_Loss, _Loss],
        items: list[tuple[int, int]],
        retrieval: Callable[[], float] | None = None,
    ) -> History:
        """The loop: `losses` and `items` (stars, copies) of training and validation."""
        settings, (n_stars, copies) = self.settings, items[0]
        steps = -(-n_stars * max(1, copies) // settings.batch_size)
        state = TrainingState.begin(model, settings, steps)
        if self.resume is not None and self.resume.exists():
            state.load(self.resume, settings, self.seed)
        history = state.history
        with _bar(self.title, steps * settings.epochs, steps * history.epochs) as bar:
            while history.epochs < settings.epochs and not _stalled(history.val_loss, settings):
                began = time.perf_counter()
                history.learning_rate.append(state.optimizer.param_groups[0]["lr"])
                total = self._epoch(state, losses[0], items[0], bar)
                history.train_loss.append(float(total) / steps)
                judged = _evaluate(model, losses[1], items[1], settings.batch_size, self.device)
                history.val_loss.append(judged)
                if retrieval is not None:
                    history.val_retrieval.append(retrieval())
                history.seconds.append(time.perf_counter() - began)
                if not np.isfinite(history.train_loss[-1]):
                    raise DataError(
                        f"{self.title}: the loss is not finite in epoch {history.epochs}; lower the learning rate"
                    )
                if history.best_epoch == history.epochs:
                    state.best = weights_of(model)
                bar.set_postfix_str(f"train {history.train_loss[-1]:.4f}, val {history.val_loss[-1]:.4f}")
                if self.resume is not None:
                    state.save(self.resume, settings, self.seed)
                if self.watch is not None:
                    self.watch(history, settings.epochs)
        model.load_state_dict(state.best)
        model.eval()
        return history

    def _epoch(self, state: TrainingState, loss_of: _Loss, items: tuple[int, int], bar: tqdm) -> Tensor:
        """One pass over the training stars; returns the sum of the batches' losses."""
        settings, epoch = self.settings, state.history.epochs
        generator = seeded(self.device, self.seed, epoch)
        total = torch.zeros((), device=self.device)
        state.model.train()
        order = np.random.default_rng([self.seed, epoch])
        for count, (star, view) in enumerate(batches(*items, settings.batch_size, self.device, order), start=1):
            state.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(star, view, generator)
            loss.backward()
            state.optimizer.step()
            if state.every_step:
                state.schedule.step()
            total += loss.detach()
            bar.update()
            if count % 20 == 0:
                bar.set_postfix_str(f"epoch {epoch + 1}, loss {float(total) / count:.4f}", refresh=False)
        if not state.every_step:
            state.schedule.step()
        return total


@torch.no_grad()
def _retrieval(model: StarCLIP, val: Pair, batch_size: int) -> float:
    """Share of the validation stars whose first view on one side is nearest to its partner on the other."""
    model.eval()
    device, n = val[0].device, len(val[0])
    sides = []
    for source, encoder in zip(val, (model.encoder_a, model.encoder_b), strict=True):
        generator = seeded(device, 0)
        parts = [
            encoder.embed(source.draw(star, torch.zeros_like(star), generator)[0])
            for star, _ in batches(n, 0, batch_size, device)
        ]
        sides.append(torch.cat(parts))
    return partner_first(*sides)


@torch.no_grad()
def _evaluate(
    model: nn.Module, val_loss: _Loss, items: tuple[int, int], batch_size: int, device: torch.device
) -> float:
    """Mean validation loss over batches of the training's size, mixed once and for all, weighted by their length."""
    model.eval()
    generator, total, count = seeded(device, 0), 0.0, 0
    for star, view in batches(*items, batch_size, device, order=np.random.default_rng(0)):
        total += float(val_loss(star, view, generator)) * len(star)
        count += len(star)
    return total / count


def _stalled(val_loss: list[float], settings: TrainParams) -> bool:
    """True if the last `patience` epochs did not improve on the best one before them by `tolerance`."""
    if settings.patience == 0 or len(val_loss) <= settings.patience:
        return False
    return min(val_loss[-settings.patience :]) > min(val_loss[: -settings.patience]) - settings.tolerance


def _bar(title: str, total: int, done: int) -> tqdm:
    """A progress bar for terminals and notebooks."""
    ipython = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    shown = hasattr(ipython, "kernel") or sys.stderr.isatty()
    return tqdm(desc=title, total=total, initial=done, unit="step", leave=False, disable=not shown, mininterval=0.5)
