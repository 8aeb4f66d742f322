"""Work on pieces side by side, a piece a thread, where each is too small for threads of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from starclip_lib.support.machine import usable_cores

Callback = Callable[[str], None]  # called with one line of text
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def allowed_threads() -> int:
    """Threads that this process may keep busy: OMP_NUM_THREADS, or one for each core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else usable_cores()


def side_by_side(function: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
    """What a function makes of each piece, in their order, on `allowed_threads` threads.

    Linear algebra inside takes no threads of its own.
    """
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(allowed_threads()) as pool:
        return list(pool.map(function, pieces))


def ahead(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """The pieces of an iterator, each made by a thread while the one before is being used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece
