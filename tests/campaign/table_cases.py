"""Damaged tables, pictures and emulators, which the package brings along and users may replace."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case, fingerprint
from damage import put, whole_file

from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.transforms.gaps import GAPS, detect_gaps, read_gaps, read_trace_image

LABELS = np.array([[4500.0, 1.5, *[0.0] * 18]])


def open_emulator(path: Path) -> str:
    return fingerprint(Emulator(path)(LABELS, NIRSPEC))


def open_gaps(path: Path) -> str:
    gaps = read_gaps(path)
    return fingerprint(gaps.start, gaps.width, gaps.cutoff_width)


def open_image(path: Path) -> int:
    try:
        return len(detect_gaps(read_trace_image(path)))
    except Exception as error:
        if "image" in str(error) and path.name not in str(error):  # an image without traces has no name any more
            return 0
        raise


def black_image(folder: Path) -> Path:
    """A PNG file of 60,000 x 20,000 black pixels, written row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(60_001)) for _ in range(20_000)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 20_000, 8, 0, 0, 0, 0))
    return put(folder / "traces.png", b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def cases(folder: Path, seed: int) -> Iterator[Case]:
    emulator = files("starclip_lib.physics").joinpath("emulator.npz").read_bytes()
    whole = partial(whole_file, seed=seed)
    reference = open_emulator(put(folder / "emulator.npz", emulator))
    yield from whole("emulator", emulator, "emulator", ".npz", open_emulator, 40, 10, checked=True, reference=reference)
    with np.load(io.BytesIO(emulator)) as content:
        arrays: dict[str, Any] = dict(content)
    for name, array in arrays.items():
        others = {
            "missing": None,
            "text": np.array("a"),
            "one number": np.array(1.0),
            "flat": np.ravel(array)[:3],
            "objects": np.array([{}]),
        }
        if array.dtype.kind == "f" and not name.startswith("xfe"):
            others |= {"NaN": np.full_like(array, np.nan), "complex": array.astype(complex)}
        for what, other in others.items():
            if other is not None and other.shape == array.shape and other.dtype == array.dtype:
                continue
            changed = {key: value for key, value in {**arrays, name: other}.items() if value is not None}
            unread = name not in READ

            def make(folder: Path, changed: dict = changed) -> Path:
                np.savez(folder / "emulator.npz", **changed)
                return folder / "emulator.npz"

            yield Case(
                f"emulator: {name} is {what}",
                make,
                open_emulator,
                "any" if unread or (name == "version") else "never",
            )
    table = files("starclip_lib.transforms").joinpath("nirspec-gaps.csv").read_bytes()
    yield from whole("gaps", table, "gaps", ".csv", open_gaps, 60, 5, checked=False, reference=None)
    for name in GAPS:
        for value in ("nan", "inf", "-5", "1e30", "text", "", "1+2j"):
            line = ",".join(value if key == name else "12000" for key in GAPS)
            content = f"{','.join(GAPS)}\n{line}\n".encode()
            yield Case(f"gaps: {name} is {value!r}", lambda f, c=content: put(f / "gaps.csv", c), open_gaps)
    image = files("starclip_lib.transforms").joinpath("traces.png").read_bytes()
    yield from whole("image", image, "traces", ".png", open_image, 60, 0, checked=False, reference=None)

    yield Case("image: of a billion pixels", black_image, open_image)


READ = {"label_names", "version", "label_min", "label_max", "xfe_min", "xfe_max", "max_c_over_o", "label_center", "label_scale",
        "logg_knots", "teff_low", "teff_high",
        *(f"{kind}{n}" for kind in "wb" for n in (1, 2, 3)), *(f"{name}_{part}" for name in ("apogee", "nirspec") for part in ("wavelength", "mean", "basis"))}  # fmt: skip
