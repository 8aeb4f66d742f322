"""Where a training runs: device and precision."""

from __future__ import annotations

import torch

from starclip_lib.support.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """The device of a setting. Raises ConfigError if it is not there, instead of taking another one."""
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
        raise ConfigError("device: mps was asked for, but this machine has no Metal GPU; use cpu or auto")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The floating-point type encoders compute in."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
