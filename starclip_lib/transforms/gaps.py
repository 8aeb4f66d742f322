"""Where the detectors end: measuring gaps in an image of spectral traces, and drawing gaps for new spectra."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.settings.training import GapParams
from starclip_lib.storage.schema import Member, check_arrays
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import read_bytes

# Wavelengths of the left edge of the first and the right edge of the last column of a trace image.
IMAGE_RANGE = (float(NIRSPEC.wavelength[0]), float(NIRSPEC.wavelength[-1]))


_TABLE_BYTES, _IMAGE_BYTES, _IMAGE_PIXELS = 2**20, 64 * 2**20, 50_000_000
GAPS = {  # the columns of a table of gaps
    "gap_start_angstrom": Member("blue edge of the gap", unit="Angstrom", low=1000, high=1e6),
    "gap_width_angstrom": Member("its width", unit="Angstrom", low=0, high=1e5),
    "red_cutoff_width_angstrom": Member("what is missing at the red end", unit="Angstrom", low=0, high=1e5),
}


@dataclass(frozen=True, eq=False)
class Gaps:
    """Measured gaps, one entry a trace, all in Angstrom."""

    start: np.ndarray  # (n,), blue edge and width of the gap between the detectors
    width: np.ndarray
    cutoff_width: np.ndarray  # (n,), how much is missing at the red end, up to 18,000 Angstrom

    def __len__(self) -> int:
        return len(self.start)


def read_gaps(path: str | Path | None = None) -> Gaps:
    """Read a table of measured gaps. Raises DataError naming the file, if it is missing or no such table."""
    if path is None:
        with as_file(files(__package__) / "nirspec-gaps.csv") as packaged:
            return read_gaps(packaged)
    text = read_bytes(path, _TABLE_BYTES)
    try:
        table = np.genfromtxt(
            io.StringIO(text.decode("utf-8")), delimiter=",", names=True, dtype=float, encoding="utf-8"
        )
        arrays = {column: np.atleast_1d(table[column]).astype(float) for column in GAPS}
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: expected a CSV table with the columns {', '.join(GAPS)} ({error})") from error
    check_arrays(arrays, GAPS, str(path))
    if not len(arrays["gap_start_angstrom"]):
        raise DataError(f"{path}: the table of gaps has no rows")
    return Gaps(*arrays.values())


@cache
def _packaged_gaps() -> Gaps:
    return read_gaps()


def draw_traces(gaps: Gaps, angstrom_per_pixel: float = 10.0, seed: int = 0) -> np.ndarray:
    """Draw an image of spectral traces as in the paper's Figure 4(b): dark traces, broken where light is lost.

    The image in the package, traces.png, is `draw_traces(read_gaps())`.
    """
    low, high = IMAGE_RANGE
    n_columns = round((high - low) / angstrom_per_pixel)
    image = np.full((9 * len(gaps) + 9, n_columns), 235.0)
    edges = np.stack([gaps.start, gaps.start + gaps.width, high - gaps.cutoff_width], axis=1)
    for row, (start, stop, cutoff) in enumerate(np.rint((edges - low) / angstrom_per_pixel).astype(int)):
        trace = image[9 * row + 7 : 9 * row + 11]
        trace[:, :start] = 70
        trace[:, stop:cutoff] = 70
    image += np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def read_trace_image(path: str | Path | None = None) -> np.ndarray:
    """Read a grey-scale image. Raises DataError if there is no such image: no other one is taken in its place."""
    if path is None:
        with as_file(files(__package__) / "traces.png") as packaged:
            return read_trace_image(packaged)
    content = read_bytes(path, _IMAGE_BYTES, "give the path of a trace image")
    try:
        with Image.open(io.BytesIO(content)) as picture:  # reads the size alone
            if picture.width * picture.height > _IMAGE_PIXELS:
                raise DataError(f"{path}: {picture.width} x {picture.height} pixels are more than a trace image has")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: no image that can be read; give the path of a trace image") from error
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: no image that OpenCV can read; give the path of a trace image")
    return image


def detect_gaps(image: np.ndarray) -> Gaps:
    """Measure the gaps in an image of dark spectral traces on a light background; DataError if it shows none.

    Each run of rows with dark pixels is one trace: its longest break is the gap between the detectors, and what is
    missing at its red end the cut-off.  The image (height, width) is uint8, its columns spanning `IMAGE_RANGE` evenly.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise DataError(f"expected a grey-scale image, (height, width) uint8, not {image.shape} {image.dtype}")
    _, dark = cv2.threshold(cv2.medianBlur(image, 3), 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
    boxes = boxes[1:]  # the first one is the background
    boxes = boxes[(boxes[:, cv2.CC_STAT_HEIGHT] >= 3) & (boxes[:, cv2.CC_STAT_WIDTH] >= 5)]
    low, high = IMAGE_RANGE
    scale = (high - low) / image.shape[1]
    found = []
    for pieces in _by_row(boxes):
        left = pieces[:, cv2.CC_STAT_LEFT]
        right = left + pieces[:, cv2.CC_STAT_WIDTH]
        if len(pieces) < 2:
            continue
        breaks = left[1:] - right[:-1]
        widest = int(np.argmax(breaks))
        found.append((low + scale * right[widest], scale * breaks[widest], scale * (image.shape[1] - right[-1])))
    if not found:
        raise DataError("found no trace with a gap; expected dark horizontal traces on a light background")
    return Gaps(*np.array(found, float).T)


def _by_row(boxes: np.ndarray) -> list[np.ndarray]:
    """Group boxes whose vertical extents overlap, top to bottom, and order each group from left to right."""
    groups: list[list[np.ndarray]] = []
    bottom = -1
    for box in sorted(boxes, key=lambda b: b[cv2.CC_STAT_TOP]):
        if box[cv2.CC_STAT_TOP] >= bottom:
            groups.append([])
        groups[-1].append(box)
        bottom = max(bottom, box[cv2.CC_STAT_TOP] + box[cv2.CC_STAT_HEIGHT])
    return [np.array(sorted(group, key=lambda b: b[cv2.CC_STAT_LEFT])) for group in groups]


def longest_gap(missing: Tensor) -> tuple[Tensor, Tensor]:
    """The longest stretch without data inside each spectrum: what reaches either end is not a gap between detectors."""
    place, m = torch.arange(missing.shape[1], device=missing.device), missing.shape[1]
    before = torch.where(missing, -1, place).cummax(1).values
    after = torch.where(missing, m, place).flip(1).cummin(1).values.flip(1)
    length, where = torch.where(missing & (before >= 0) & (after < m), after - before - 1, 0).max(1)
    return torch.where(length > 0, after.gather(1, where[:, None])[:, 0], 0), length


class DrawnGaps(NamedTuple):
    """What is missing in each of n spectra: below `blue`, from `start` to `stop`, and from `cutoff` on (Angstrom)."""

    blue: Tensor  # (n,)
    start: Tensor  # (n,)
    stop: Tensor  # (n,)
    cutoff: Tensor  # (n,)


class GapModel:
    """Distribution of gaps, fitted to measured ones by Gaussian kernel density estimation.

    'independent' is the paper's: start, width and cut-off are drawn from three separate estimates and clipped at 0
    (equations 4.7 and 4.8).  'detector' is what NIRSpec does: only where the gap begins is drawn.  Its width is that
    of the space between the detectors; each detector covers a fixed stretch, so the red cut-off moves with the gap;
    and the filter lets nothing through below its blue edge.

    The kernel's width follows Scott's rule, the default of `scipy.stats.gaussian_kde`.
    """

    def __init__(self, gaps: Gaps, settings: GapParams):
        if len(gaps) < 3:
            raise DataError(f"a gap distribution needs at least 3 measured gaps, {len(gaps)} given")
        self.settings = settings
        names = ("start",) if settings.model == "detector" else ("start", "width", "cutoff_width")
        self.kde = {name: stats.gaussian_kde(getattr(gaps, name)) for name in names}

    @classmethod
    def measured(cls, settings: GapParams) -> GapModel:
        """The model of the measurements that come with the package."""
        return cls(_packaged_gaps(), settings)

    def _draw(self, name: str, n: int, generator: torch.Generator) -> Tensor:
        """Resample a measured value and add the kernel's Gaussian: exact draws from the KDE; clipped at 0."""
        kde, device = self.kde[name], generator.device
        values = torch.as_tensor(kde.dataset[0], dtype=torch.float32, device=device)
        picked = values[torch.randint(len(values), (n,), generator=generator, device=device)]
        kernel = float(np.sqrt(kde.covariance[0, 0]))
        return (picked + kernel * torch.randn(n, generator=generator, device=device)).clamp_min(0)

    def sample(self, n: int, generator: torch.Generator) -> DrawnGaps:
        """Draw the gaps of n spectra, on the generator's device."""
        settings, (blue_end, red_end) = self.settings, IMAGE_RANGE
        start = self._draw("start", n, generator)
        if settings.model == "detector":
            stop = start + settings.width
            blue = (start - settings.detector_length).clamp_min(settings.blue_edge)
            return DrawnGaps(blue, start, stop, (stop + settings.detector_length).clamp_max(red_end))
        stop = start + self._draw("width", n, generator)
        return DrawnGaps(
            torch.full_like(start, blue_end), start, stop, red_end - self._draw("cutoff_width", n, generator)
        )
