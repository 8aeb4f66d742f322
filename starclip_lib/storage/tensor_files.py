"""Files of tensors and plain values: whole, of the declared shapes, and never executed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from starclip_lib.support.errors import DataError
from starclip_lib.support.files import atomic_path, check_memory, checksums_wanted, damage_refused, regular_file

_SMALLEST = {"scaling.std": 0.0, "label_std": 0.0, "floor": 0.0, "coordinates.reach": -1e-6}  # of an encoder's buffers


def check_tensors(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], misfit: str, path: str | Path) -> None:
    """Raise DataError unless tensors have the names, shapes and types of others, and are finite."""
    if given.keys() != wanted.keys():
        raise DataError(misfit)
    for key, tensor in given.items():
        plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.shape != wanted[key].shape:
            raise DataError(misfit)
        if tensor.dtype != wanted[key].dtype:
            raise DataError(f"{path} is damaged: {key} is of type {tensor.dtype}; delete it and train again")
        if not torch.isfinite(tensor).all():
            raise DataError(f"{path} is damaged: {key} holds NaN or infinity; delete it and train again")
        smallest = next((least for name, least in _SMALLEST.items() if key.endswith(name)), None)
        if smallest is not None and not (tensor > smallest).all():
            raise DataError(f"{path} is damaged: {key} is not positive; delete it and train again")


def check_like(given: Any, wanted: Any, misfit: str) -> None:
    """Raise DataError unless plain values are built like others: same keys, lengths, texts, and numbers for numbers."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(wanted, dict) and isinstance(given, dict) and given.keys() == wanted.keys():
        pairs = [(given[key], wanted[key]) for key in wanted]
    elif isinstance(wanted, list | tuple) and isinstance(given, list | tuple) and len(given) == len(wanted):
        pairs = list(zip(given, wanted, strict=True))
    else:
        same = isinstance(wanted, bool | str | None) and type(given) is type(wanted) and given == wanted
        whole = type(wanted) is int and type(given) is int and abs(given) < 2**53
        real = isinstance(wanted, float) and isinstance(given, int | float) and math.isfinite(given)
        if not (same or whole or real):
            raise DataError(misfit)
    for pair in pairs:
        check_like(*pair, misfit)


def save_tensors(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain Python values atomically (a NumPy scalar would make the file unreadable)."""
    with atomic_path(path) as part:
        torch.save(content, part)


def load_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values to the CPU; nothing in it is executed.

    Raises DataError if it is missing, truncated or holds anything else, SystemFault if it cannot be read.
    """
    cure = "delete it and train again"
    regular_file(path)
    with damage_refused(path, "is damaged or no checkpoint of this project", cure), Path(path).open("rb") as file:
        _check_archive(file, path)
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a checkpoint of this project (it holds a {type(content).__name__}); {cure}")
    return content


def _check_archive(file: BinaryIO, path: str | Path) -> None:
    """Raise ValueError unless a checkpoint is whole: PyTorch writes CRC-32 of each record, but does not verify them."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise ValueError("truncated, or of another kind") from None
    with archive:
        records = archive.infolist()
        stored = sum(record.file_size for record in records)
        if any(record.compress_type != zipfile.ZIP_STORED for record in records) or stored > Path(path).stat().st_size:
            raise ValueError("its records are packed")
        check_memory(stored, str(path))
        if checksums_wanted() and (name := archive.testzip()):
            raise ValueError(f"checksum of {name}")
    file.seek(0)


def resume_file(path: Path) -> Path:
    """Where a training that makes `path` keeps its checkpoint until it is done."""
    return path.with_suffix(".resume")
