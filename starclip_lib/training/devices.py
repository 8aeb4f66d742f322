"""Where a training runs: device, precision, and several processes that share it (`torchrun`).

DistributedDataParallel averages the gradients; each process takes its share of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from starclip_lib.errors import ConfigError


def rank() -> int:
    """Number of this process, 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_device(device: torch.device) -> torch.device:
    """The device of this process: of several GPUs, one for each process on the machine.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    torch.device

    Raises
    ------
    ConfigError
        If there are fewer GPUs than processes.
    """
    if processes() == 1 or device.type != "cuda":
        return device
    local = int(os.environ["LOCAL_RANK"])
    if local >= torch.cuda.device_count():
        raise ConfigError(f"process {local} has no GPU: there are {torch.cuda.device_count()}; start fewer of them")
    return torch.device("cuda", local)


@contextmanager
def session(device: torch.device) -> Iterator[None]:
    """Join the other processes, if `torchrun` started this one, for as long as the context lasts.

    Parameters
    ----------
    device : torch.device
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        if device.type == "cuda":
            torch.cuda.set_device(local_device(device))
        yield
    finally:
        dist.destroy_process_group()


def agreed(flag: bool) -> bool:
    """What the first process says, in all of them; nobody goes on before it has said so.

    Parameters
    ----------
    flag : bool

    Returns
    -------
    bool
        The first process's flag.
    """
    if processes() == 1:
        return flag
    flags = [flag]
    dist.broadcast_object_list(flags)
    return flags[0]


def wait_for_all() -> None:
    """Nobody goes on before everybody is here."""
    agreed(True)


def average(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes.

    Parameters
    ----------
    value : Tensor

    Returns
    -------
    Tensor
    """
    if processes() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / processes()


def mean_number(value: float, device: torch.device) -> float:
    """The mean of a number over the processes, the same in all of them to the last bit.

    Parameters
    ----------
    value : float
    device : torch.device

    Returns
    -------
    float
    """
    return value if processes() == 1 else float(average(torch.tensor(value, dtype=torch.float64, device=device)))


def wrapped(model: nn.Module) -> nn.Module:
    """The model as it must be called in training: its gradients become the mean over all processes.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module
    """
    if processes() == 1 or not any(p.requires_grad for p in model.parameters()):
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def share(batch: Tensor) -> Tensor:
    """The part of a batch that is this process's: every n-th item, the same number for each process.

    What is left over of the last batch of an epoch is left out, so that the mean over processes is that over items.

    Parameters
    ----------
    batch : Tensor

    Returns
    -------
    Tensor
    """
    n = processes()
    return batch if n == 1 else batch[: len(batch) // n * n][rank() :: n]


def pick_device(name: str) -> torch.device:
    """The device of a setting.

    Parameters
    ----------
    name : str
        Such as 'auto', 'cpu', 'mps' or 'cuda:1'.

    Returns
    -------
    torch.device

    Raises
    ------
    ConfigError
        If it is not there, instead of taking another one.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device: {name} was asked for, but PyTorch {torch.__version__} sees no CUDA GPU; use cpu or auto"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: {name} was asked for, but there are only {torch.cuda.device_count()} GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps was asked for, but this is no Mac with Metal; use cpu or auto")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The floating-point type encoders compute in.

    Parameters
    ----------
    name : {'auto', 'float32', 'bfloat16'}
    device : torch.device

    Returns
    -------
    torch.dtype
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
