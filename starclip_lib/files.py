"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from starclip_lib.config import DataError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well and removed when it does not.

    The name is always the same, so what a killed process leaves behind is overwritten by the next one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, and refuse NaN and infinity (no JSON reader has to accept them)."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_tensors(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain Python values atomically (a NumPy scalar would make the file unreadable)."""
    with atomic_path(path) as part:
        torch.save(content, part)


def load_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values to the CPU; nothing in it is executed.

    Raises DataError if it is missing, truncated or holds anything else.
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
