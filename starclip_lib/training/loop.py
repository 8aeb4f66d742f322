"""The training loop: device, precision, early stop, a checkpoint every epoch, resume to the same result.

Whatever is random in epoch e is a function of (seed, e), so a run that was killed and resumed ends with the same
weights as one that was not, bit for bit on a CPU.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from starclip_lib.errors import DataError
from starclip_lib.models.checkpoint import History, load_tensors, save_tensors
from starclip_lib.models.contrastive import StarCLIP, partner_first
from starclip_lib.models.encoders import Encoder
from starclip_lib.seeds import seeded
from starclip_lib.settings.training import TrainParams
from starclip_lib.training.batches import NewStars, SpectrumSource, batches, on_device
from starclip_lib.training.devices import agreed, average, mean_number, processes, rank, share, wrapped

BARS = "STARCLIP_BARS"  # environment variable: progress bars even where a viewer watches (terminals show them)
BatchLoss = Callable[[Tensor, Tensor, torch.Generator], Tensor]  # star, view, generator -> loss of that batch


def pretrain(
    encoder: Encoder,
    train: SpectrumSource | NewStars,
    val: SpectrumSource,
    train_labels: np.ndarray,
    val_labels: np.ndarray,
    settings: TrainParams,
    *,
    seed: int,
    precision: torch.dtype = torch.float32,
    resume: Path | None = None,
    title: str = "pretraining",
    watch: Watch | None = None,
) -> History:
    """Train an encoder to predict Z-scored labels (n, 20) by mean squared error (equation 4.1).

    `encoder` is changed in place and ends with the weights of its best epoch on the validation stars.  New stars bring
    their own labels; the training stars' ones are not used then.
    """
    device = train.device
    net = wrapped(encoder.to(device))

    def loss_on(source: SpectrumSource | NewStars, labels: np.ndarray) -> BatchLoss:
        targets = on_device(labels, device)

        def loss(star: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
            if isinstance(source, NewStars):
                flux, wanted = source.draw(len(star), generator)
            else:
                flux, wanted = source.batch(star, view, generator), targets[star]
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                predicted = net(flux)
            return F.mse_loss(predicted.float(), wanted)

        return loss

    return _fit(
        encoder,
        loss_on(train, train_labels),
        loss_on(val, val_labels),
        (len(train), train.copies),
        (len(val), val.copies),
        settings,
        device=device,
        seed=seed,
        resume=resume,
        title=title,
        watch=watch,
    )


def align(
    model: StarCLIP,
    train: tuple[SpectrumSource, SpectrumSource],
    val: tuple[SpectrumSource, SpectrumSource],
    train_labels: np.ndarray,
    val_labels: np.ndarray,
    *,
    seed: int,
    precision: torch.dtype = torch.float32,
    resume: Path | None = None,
    title: str = "alignment",
    watch: Watch | None = None,
) -> History:
    """Align the two encoders of `model` on pairs of spectra by the contrastive loss.

    train, val : sources of both sides, row i of one belonging to row i of the other
    train_labels, val_labels : (n, 20) Z-scored, used only if the model's `label_weight` is not 0
    """
    device = train[0].device
    net = wrapped(model.to(device))

    def loss_on(pair: tuple[SpectrumSource, SpectrumSource], labels: np.ndarray) -> BatchLoss:
        targets = on_device(labels, device)

        def loss(star: Tensor, view: Tensor, generator: torch.Generator) -> Tensor:
            flux_a, flux_b = (source.batch(star, view, generator) for source in pair)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                return net(flux_a, flux_b, star, targets[star])

        return loss

    return _fit(
        model,
        loss_on(train, train_labels),
        loss_on(val, val_labels),
        (len(train[0]), max(source.copies for source in train)),
        (len(val[0]), max(source.copies for source in val)),
        model.settings.train,
        device=device,
        seed=seed,
        resume=resume,
        title=title,
        watch=watch,
        retrieval=lambda: _retrieval(model, val, model.settings.train.batch_size),
    )


def _fit(
    model: nn.Module,
    train_loss: BatchLoss,
    val_loss: BatchLoss,
    train_items: tuple[int, int],
    val_items: tuple[int, int],
    settings: TrainParams,
    *,
    device: torch.device,
    seed: int,
    resume: Path | None,
    title: str,
    watch: Watch | None,
    retrieval: Callable[[], float] | None = None,
) -> History:
    steps = -(-train_items[0] * max(1, train_items[1]) // settings.batch_size)
    optimizer = _optimizer(model, settings)
    schedule, every_step = _schedule(optimizer, settings, steps)
    history, best = History(), _weights(model)
    if resume is not None and agreed(resume.exists()):
        history, best = _load(resume, model, optimizer, schedule, settings, seed)
    with _bar(title, steps * settings.epochs, steps * history.epochs, watch is not None) as bar:
        while history.epochs < settings.epochs and not _stalled(history.val_loss, settings):
            began, epoch = time.perf_counter(), history.epochs
            history.learning_rate.append(optimizer.param_groups[0]["lr"])
            generator = seeded(device, seed, epoch, *([rank()] if processes() > 1 else []))
            total = torch.zeros((), device=device)
            model.train()
            order = np.random.default_rng([seed, epoch])
            for count, (star, view) in enumerate(batches(*train_items, settings.batch_size, device, order), start=1):
                star, view = share(star), share(view)
                if not len(star):  # the rest of an epoch may be too small to be shared
                    continue
                optimizer.zero_grad(set_to_none=True)
                loss = train_loss(star, view, generator)
                loss.backward()
                optimizer.step()
                if every_step:
                    schedule.step()
                total += loss.detach()
                bar.update()
                if count % 20 == 0:
                    bar.set_postfix_str(f"epoch {epoch + 1}, loss {float(total) / count:.4f}", refresh=False)
            if not every_step:
                schedule.step()
            history.train_loss.append(float(average(total)) / steps)
            judged = _evaluate(model, val_loss, val_items, settings.batch_size, device)
            history.val_loss.append(mean_number(judged, device))  # GPUs differ in the last digits, and all must agree
            if retrieval is not None:
                history.val_retrieval.append(retrieval())
            history.seconds.append(time.perf_counter() - began)
            if not np.isfinite(history.train_loss[-1]):
                raise DataError(f"{title}: the loss is not finite in epoch {epoch + 1}; lower the learning rate")
            if history.best_epoch == history.epochs:
                best = _weights(model)
            bar.set_postfix_str(f"train {history.train_loss[-1]:.4f}, val {history.val_loss[-1]:.4f}")
            if resume is not None and rank() == 0:
                _save(resume, model, optimizer, schedule, settings, seed, history, best)
            if watch is not None:
                watch(history, settings.epochs)
    model.load_state_dict(best)
    model.eval()
    return history


@torch.no_grad()
def _retrieval(model: StarCLIP, val: tuple[SpectrumSource, SpectrumSource], batch_size: int) -> float:
    """Share of the validation stars whose first view on one side is nearest to its partner on the other."""
    model.eval()
    device, n = val[0].device, len(val[0])
    sides = []
    for source, encoder in zip(val, (model.encoder_a, model.encoder_b), strict=True):
        generator = seeded(device, 0)
        parts = [
            encoder.embed(source.batch(star, torch.zeros_like(star), generator))
            for star, _ in batches(n, 0, batch_size, device)
        ]
        sides.append(torch.cat(parts))
    return partner_first(*sides)


@torch.no_grad()
def _evaluate(
    model: nn.Module, val_loss: BatchLoss, items: tuple[int, int], batch_size: int, device: torch.device
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


def _optimizer(model: nn.Module, settings: TrainParams) -> torch.optim.AdamW:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    scale = [p for name, p in trained.items() if name == "log_scale"]  # a temperature has no business shrinking
    groups = [{"params": [p for name, p in trained.items() if name != "log_scale"]}]
    if scale:
        groups.append({"params": scale, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


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


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def _bar(title: str, total: int, done: int, watched: bool) -> tqdm:
    """A progress bar for terminals; one also for notebooks that nobody watches otherwise, which keep a trace of it."""
    ipython = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    in_notebook = hasattr(ipython, "kernel") and (not watched or BARS in os.environ)
    shown = (in_notebook or sys.stderr.isatty()) and rank() == 0
    return tqdm(desc=title, total=total, initial=done, unit="step", leave=False, disable=not shown, mininterval=0.5)


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: TrainParams,
    seed: int,
    history: History,
    best: dict[str, Tensor],
) -> None:
    state = {
        "settings": settings.model_dump(mode="json"),
        "seed": seed,
        "history": vars(history),
        "best": None if history.best_epoch == history.epochs else best,  # the model itself: saves a quarter of the file
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    save_tensors(path, state)


def _load(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    settings: TrainParams,
    seed: int,
) -> tuple[History, dict[str, Tensor]]:
    state = load_tensors(path)
    if (state["settings"], state["seed"]) != (settings.model_dump(mode="json"), seed):
        raise DataError(f"{path} was made with other settings or another seed; delete it to train anew")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return History(**state["history"]), state["best"] or _weights(model)


Watch = Callable[[History, int], None]  # called after every epoch with what happened and the number of epochs planned
