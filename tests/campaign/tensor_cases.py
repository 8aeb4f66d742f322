"""Damaged models and checkpoints of trainings: every leaf of their content replaced by something else."""

from __future__ import annotations

import copy
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, fingerprint
from damage import NASTY, whole_file
from torch import Tensor

from starclip_lib.models.calibration import Coordinates
from starclip_lib.models.checkpoint import History, Model
from starclip_lib.models.encoders import make_encoder
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.training import EncoderParams, TrainParams
from starclip_lib.training.loop import Trainer
from starclip_lib.training.state import TrainingState

SMALL = EncoderParams(width=4, depth=1)
SETTINGS = TrainParams(epochs=3, batch_size=4)


@cache
def good_files(folder: Path) -> dict[str, Path]:
    encoders = {"nirspec": make_encoder(NIRSPEC, SMALL, 1), "apogee": make_encoder(APOGEE, SMALL, 2)}
    encoders["nirspec"].coordinates = Coordinates()
    encoders["nirspec"].coordinates.reach += 1
    scaler = LabelScaler(np.arange(20.0), np.arange(1.0, 21.0))
    history = History([2.0, 1.0], [2.5, 1.5], [0.2, 0.5], [1e-3, 1e-4], [3.0, 4.0])
    Model(encoders, scaler, history, 15.5).save(folder / "model.ckpt")

    class Random:
        copies, device = 0, torch.device("cpu")

        def __len__(self) -> int:
            return 8

        def draw(self, star: Tensor, view: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return torch.rand((len(star), NIRSPEC.n_pix)), torch.rand((len(star), 20))

    def stop(history: History, planned: int) -> None:
        if history.epochs == 2:
            raise KeyboardInterrupt

    trainer = Trainer(SETTINGS, 5, resume=folder / "training.resume", watch=stop)
    with suppress(KeyboardInterrupt):
        trainer.pretrain(make_encoder(NIRSPEC, SMALL, 1), Random(), Random())
    return {"model": folder / "model.ckpt", "checkpoint": folder / "training.resume"}


def open_model(path: Path) -> str:
    model = Model.load(path)
    weights = [encoder.state_dict()[key].numpy() for encoder in model.encoders.values() for key in encoder.state_dict()]
    return fingerprint(*weights, model.scaler.mean, model.scaler.std, str(vars(model.history)), model.logit_scale)


def open_checkpoint(path: Path) -> str:
    encoder = make_encoder(NIRSPEC, SMALL, 1)
    state = TrainingState.begin(encoder, SETTINGS, 2)
    state.load(path, SETTINGS, 5)
    encoder(torch.ones(2, NIRSPEC.n_pix)).sum().backward()
    state.optimizer.step()  # which a wrong shape would crash
    state.schedule.step()
    return fingerprint(*(value.numpy() for value in state.best.values()), str(vars(state.history)))


def leaves(content: Any, at: tuple = ()) -> Iterator[tuple]:
    """Every place in nested content."""
    yield at
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        if not (isinstance(content, list) and key > 1):  # the first two of a list stand for all
            yield from leaves(value, (*at, key))


def changed(content: Any, at: tuple, change: Callable[[Any, Any], None]) -> Any:
    """A copy of the content in which the parent and key of a place were given to `change`."""
    out = copy.deepcopy(content)
    parent = out
    for key in at[:-1]:
        parent = parent[key]
    change(parent, at[-1])
    return out


def put_value(value: Any) -> Callable[[Any, Any], None]:
    return lambda parent, key: parent.__setitem__(key, value)


def remove(parent: Any, key: Any) -> None:
    del parent[key]


PLAIN = {
    "None": None, "a text": "hello", "a number": -7, "NaN": float("nan"), "infinity": float("inf"), "1e300": 1e300, "a billion": 10**9,
    "true": True, "an empty list": [], "an empty mapping": {}, "a list of texts": ["a"], "a tensor": torch.ones(3), **{what: NASTY[what] for what in ("markup", "a megabyte", "new line")},
}  # fmt: skip


def tensors(good: Tensor) -> dict[str, Any]:
    some = good.clone().float() if good.numel() else torch.ones(1)
    nan, infinite = some.clone(), some.clone()
    nan.view(-1)[0], infinite.view(-1)[-1] = float("nan"), float("inf")
    return {
        "NaN in it": nan, "infinity in it": infinite, "complex": some.to(torch.complex64), "another precision": good.float() if good.dtype == torch.float64 else some.double(),
        "integers": some.long(), "half": some.half(), "one more": torch.cat([some.reshape(-1), torch.ones(1)]),
        "transposed": some.reshape(*some.shape[::-1]) if len(set(some.shape)) > 1 else some[None], "a billion, stored as one": torch.ones(1).expand(10**9),
        "sparse": some.reshape(-1).to_sparse(), "empty": torch.empty(0), "minus": -some.abs() - 1,
    }  # fmt: skip


def harmless(kind: str, at: tuple, what: str) -> bool:
    """What is of the declared kind and range after all: other weights, times, names of no consequence."""
    last, path = str(at[-1]), ".".join(map(str, at))
    if what == "minus":
        return not last.endswith(("std", "reach", "exp_avg_sq", "step"))
    if kind == "model" and path == "encoders" and what == "an empty list":
        return False
    if (what, path) in {("None", "logit_scale"), ("None", "best"), ("an empty list", "history.val_retrieval")}:
        return True
    numbers = {"a number", "1e300", "a billion", "true"}
    return what in numbers and not path.startswith(("settings", "format", "labels", "model", "encoders", "seed"))


def content_cases(kind: str, good: Path, door: Callable[[Path], Any]) -> Iterator[Case]:
    content = torch.load(good, weights_only=True)
    for at in leaves(content):
        if not at:
            for what, value in PLAIN.items():
                yield Case(f"{kind}: it is {what}", saved(value, good.name), door)
            continue
        value = content
        for key in at:
            value = value[key]
        place = ".".join(map(str, at))
        listed = (
            at[:-1] == ("encoders",)
            or (isinstance(at[-1], int) and "state" not in at)
            or at[-2:-1] == ("settings",)  # which has defaults
            or at[-1] == "emulator"  # which networks do not need
        )
        yield Case(
            f"{kind}: {place} missing",
            saved(partial(changed, content, at, remove), good.name),
            door,
            "any" if listed else "never",
        )
        others = tensors(value) if isinstance(value, Tensor) else PLAIN
        for what, other in others.items():
            if not isinstance(value, Tensor) and type(other) is type(value) and other == value:
                continue  # it is that already
            if isinstance(value, list | dict) and not value and type(other) is type(value):
                continue  # empty already
            accepted = "any" if harmless(kind, at, what) else "never"
            yield Case(
                f"{kind}: {place} is {what}",
                saved(partial(changed, content, at, put_value(other)), good.name),
                door,
                accepted,
            )
    if kind == "model":
        for key, value in (("width", 10**9), ("depth", 10**9), ("width", 5), ("kind", "starnet"), ("lift", -1.0)):
            settings = ("encoders", "nirspec", "settings", key)
            other = partial(changed, content, settings, put_value(value))
            yield Case(f"{kind}: {key} {value}", saved(other, good.name), door)
        three = {**content, "encoders": {**content["encoders"], "third": content["encoders"]["apogee"]}}
        yield Case(f"{kind}: three encoders", saved(three, good.name), door)


def saved(content: Any, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(content() if isinstance(content, partial) else content, folder / name)
        return folder / name

    return make


class Hostile:
    """What unpickling must never run."""

    def __reduce__(self) -> tuple:
        return (os.mkdir, ("owned",))


def archives(kind: str, good: Path, door: Callable[[Path], Any]) -> Iterator[Case]:
    def repacked(folder: Path, method: int, change: Callable[[str, bytes], bytes]) -> Path:
        path = folder / good.name
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", method) as new:
            for record in old.infolist():
                new.writestr(record.filename, change(record.filename, old.read(record)))
        return path

    yield Case(f"{kind}: packed", lambda folder: repacked(folder, zipfile.ZIP_DEFLATED, lambda name, data: data), door)
    yield Case(
        f"{kind}: a bomb",
        lambda folder: repacked(
            folder, zipfile.ZIP_DEFLATED, lambda name, data: bytes(2**28) if name.endswith("data/0") else data
        ),
        door,
    )
    yield Case(f"{kind}: no records", lambda folder: repacked(folder, zipfile.ZIP_STORED, lambda name, data: b""), door)
    yield Case(f"{kind}: hostile", saved({"format": Hostile()}, good.name), door)


def cases(folder: Path, seed: int) -> Iterator[Case]:
    files = good_files(folder)
    for kind, door in (("model", open_model), ("checkpoint", open_checkpoint)):
        good = files[kind]
        yield from content_cases(kind, good, door)
        yield from archives(kind, good, door)
        yield from whole_file(
            kind, good.read_bytes(), good.stem, good.suffix, door, 250, 25, seed, checked=True, reference=door(good)
        )
