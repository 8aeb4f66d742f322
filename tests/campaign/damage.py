"""Damage that any file can have: bits, lengths, and things that are no file at all."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cases import Case

NASTY = {
    "markup": "<img src=x onerror=alert(1)>",
    "script": "<script>alert(1)</script>",
    "NUL": "a\0b",
    "right to left": "abc\u202etxt.exe",
    "bell": "a\a\x1b[31mred",
    "3,000 letters": "x" * 3000,
    "a megabyte": "m" * 2**20,
    "empty": "",
    "new line": "a\nb",
    "path": "../../etc/passwd",
}


def flipped(good: bytes, seed: int, count: int, name: str, suffix: str) -> Iterator[tuple[str, Callable]]:
    """One bit in each of `count` equal stretches of a file."""
    rng = random.Random(seed)
    for number in range(count):
        low, high = number * len(good) // count, max((number + 1) * len(good) // count, number * len(good) // count + 1)
        place, bit = rng.randrange(low, min(high, len(good))), rng.randrange(8)

        def make(folder: Path, place: int = place, bit: int = bit) -> Path:
            content = bytearray(good)
            content[place] ^= 1 << bit
            return put(folder / f"{name}{suffix}", bytes(content))

        yield f"bit {bit} of byte {place} flipped", make


def cut(good: bytes, count: int, name: str, suffix: str) -> Iterator[tuple[str, Callable]]:
    """A file that breaks off at each of `count` places."""
    for number in range(count):
        length = number * len(good) // count
        yield f"cut at {length}", lambda folder, n=length: put(folder / f"{name}{suffix}", good[:n])


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def gzip_bomb(path: Path, start: bytes, zeros: int) -> Path:
    """A gzip file of some content and then zeros, written in pieces."""
    with gzip.open(path, "wb", 1) as file:
        file.write(start)
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))
    return path


def no_file_at_all(name: str, suffix: str) -> Iterator[tuple[str, Callable]]:
    """What may stand where a file is expected."""

    def folder_instead(folder: Path) -> Path:
        (folder / f"{name}{suffix}").mkdir()
        return folder / f"{name}{suffix}"

    def fifo(folder: Path) -> Path:
        os.mkfifo(folder / f"{name}{suffix}")
        return folder / f"{name}{suffix}"

    def link(to: str) -> Callable[[Path], Path]:
        def make(folder: Path) -> Path:
            (folder / f"{name}{suffix}").symlink_to(to)
            return folder / f"{name}{suffix}"

        return make

    yield "missing", lambda folder: folder / f"{name}{suffix}"
    yield "below a file", lambda folder: put(folder / name, b"x") / f"{name}{suffix}"
    yield "a folder", folder_instead
    yield "a pipe", fifo
    yield "the end of the world", link("/dev/zero")
    yield "nothing", link("/dev/null")
    yield "a circle", link(f"{name}{suffix}")
    yield "a link to nowhere", link("nowhere")
    for what, content in {
        "no bytes": b"",
        "one byte": b"\0",
        "text": b"hello\n" * 100,
        "noise": random.Random(1).randbytes(5000),
        "a web page": b"<!DOCTYPE html><html>404 not found</html>",
        "gzipped": gzip.compress(b"hello" * 1000),
        "zip": b"PK\x03\x04" + bytes(100),
        "zeros": bytes(100_000),
    }.items():
        yield what, lambda folder, content=content: put(folder / f"{name}{suffix}", content)


def whole_file(
    kind: str,
    good: bytes,
    name: str,
    suffix: str,
    door: Callable[[Path], Any],
    flips: int,
    cuts: int,
    seed: int,
    checked: bool,
    reference: Any,
) -> Iterator[Case]:
    """All of this for one kind of file; `checked`: it carries checksums, so a flip is seen or does not matter."""
    for what, make in flipped(good, seed, flips, name, suffix):
        yield Case(f"{kind}: {what}", make, door, "same" if checked else "any", reference)
    for what, make in cut(good, cuts, name, suffix):
        yield Case(f"{kind}: {what}", make, door)
    for what, make in no_file_at_all(name, suffix):
        yield Case(f"{kind}: {what}", make, door)
