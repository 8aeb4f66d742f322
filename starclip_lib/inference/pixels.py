"""One observed spectrum on its own pixels as a function of labels and nuisances: continuum, velocity, line width.

The emulator's sharpest spectra are brought to the instrument's line-spread function, whose width may differ a little
from what is stated, and read at the observed wavelengths; the observed spectrum itself is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from scipy.linalg import block_diag
from torch import Tensor

from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import NIRSPEC_SHARP, SPEED_OF_LIGHT
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.physics.lsf import SHARPEST, LineSpread, broadening
from starclip_lib.support.errors import DataError

_SPACING = 300.0  # Angstrom between knots of the continuum
_GAP = 200.0  # Angstrom; a wider stretch without pixels separates two continua
_BEND = 0.3  # of the median flux: how far the continuum leaves a straight line from knot to knot, where nothing says
_VELOCITY_ERROR = 30.0  # km/s about the first guess
_WIDTH_ERROR = 0.15  # relative, of the line-spread function
_WIDTH_STEP = 0.03  # of the relative width, for its derivative
_VELOCITY_STEP = 5.0  # km/s


@dataclass(frozen=True, eq=False)
class PixelSpectra:
    """An emulated spectrum (1, m) on observed pixels, and its slopes by labels (20, m), velocity and width (m,)."""

    model: Tensor
    continuum: Tensor
    by_labels: np.ndarray
    by_velocity: np.ndarray
    by_width: np.ndarray


class PixelModel:
    """Nuisances are the coefficients of a B-spline continuum, the velocity [km/s] and the line width's relative change.

    `wavelength` (m,) in vacuum Angstrom as observed; `strengths` (8192,) multiplies line depths on the sharp grid.
    """

    def __init__(
        self,
        emulator: Emulator,
        wavelength: np.ndarray,
        spread: LineSpread,
        velocity: float,
        strengths: np.ndarray | None = None,
    ):
        self.emulated = emulator.on(NIRSPEC_SHARP)
        self.wavelength, self.wanted = wavelength, spread(NIRSPEC_SHARP.wavelength)
        self.strengths = np.ones(NIRSPEC_SHARP.n_pix) if strengths is None else strengths
        self.parts = np.concatenate([self.emulated.mean[None].numpy(), self.emulated.basis.numpy()]).T.astype(float)
        self.segments = np.split(np.arange(len(wavelength)), np.flatnonzero(np.diff(wavelength) > _GAP) + 1)
        self.splines, bend = _splines(wavelength, self.segments)
        self.narrowest = SHARPEST / float(spread(wavelength).min()) - 1  # the emulator has no sharper lines
        self.expected = torch.from_numpy(np.array([0.0] * self.splines.shape[1] + [velocity, 0.0]))
        self.penalty = torch.from_numpy(block_diag(bend, _VELOCITY_ERROR**-2, _WIDTH_ERROR**-2))
        self._width = np.nan

    def start(self, labels: np.ndarray, flux: np.ndarray, ivar: np.ndarray) -> Tensor:
        """Nuisances (1, m) to begin with: the continuum that suits the flux (m,) at these labels (20,)."""
        velocity = float(self.expected[-2])
        self._widen(0.0)
        lit = self.splines * self._at(labels, velocity)[0][:, None]
        k = self.splines.shape[1]
        curve = np.linalg.solve((lit * ivar[:, None]).T @ lit + self.penalty[:k, :k].numpy(), lit.T @ (ivar * flux))
        return torch.from_numpy(np.concatenate([curve, [velocity, 0.0]])[None])

    def __call__(self, labels: Tensor, nuisances: Tensor) -> PixelSpectra:
        """The spectrum of labels (1, 20) and nuisances (1, m). Raises DataError if its continuum is not positive."""
        *curve, velocity, width = nuisances[0].tolist()
        continuum = self.splines @ np.array(curve)
        if not (continuum > 0).all():
            raise DataError("no continuum fits it; is it the spectrum of a star, in flux per wavelength or pixel?")
        self._widen(width)
        model, *slopes = self._at(labels[0].numpy(), velocity)
        return PixelSpectra(torch.from_numpy(model)[None], torch.from_numpy(continuum)[None], *slopes)

    def equations(
        self, spectra: PixelSpectra, weight: Tensor, residual: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normal matrix and right side of the fit to a residual of flux over the continuum."""
        lit = self.splines.T * (spectra.model / spectra.continuum).numpy()
        rows = [directions.numpy() @ spectra.by_labels, lit, spectra.by_velocity[None], spectra.by_width[None]]
        design = torch.from_numpy(np.concatenate(rows))
        return ((design * weight) @ design.T)[None], (design @ (weight * residual)[0])[None]

    def inside(self, labels: Tensor) -> Tensor:
        """Labels moved to the edge of the emulator's domain where they lie outside."""
        return self.emulated.inside(labels)

    def bounded(self, nuisances: Tensor) -> Tensor:
        """Line widths that the emulator has."""
        return torch.cat([nuisances[:, :-1], nuisances[:, -1:].clamp_min(self.narrowest)], 1)

    def _widen(self, change: float) -> None:
        """Bring the components to the line-spread function times 1 + change."""
        if abs(change - self._width) > 1e-3 or np.isnan(self._width):
            self._width = change
            self.broad = broadening(self.wanted * (1 + change)) @ self.parts
            self.by_width = (
                broadening(self.wanted * (1 + change + _WIDTH_STEP)) @ self.parts - self.broad
            ) / _WIDTH_STEP

    def _at(self, labels: np.ndarray, velocity: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Flux (m,) and its derivatives: by labels (20, m), by velocity (m,) and by the relative width (m,)."""
        eye = torch.eye(N_LABELS, dtype=torch.float64)
        linear = self.emulated.linearised(torch.from_numpy(labels[None]), eye)
        coefficients, slopes = (x[0].double().numpy() for x in linear)
        one = np.concatenate([[1.0], coefficients])
        curves = np.column_stack([self.broad @ one, self.by_width @ one, self.broad[:, 1:] @ slopes.T])
        curves[:, 0] = 1 - (1 - curves[:, 0]) * self.strengths
        curves[:, 1:] *= self.strengths[:, None]
        here, there = self._read(curves, velocity), self._read(curves[:, :1], velocity + _VELOCITY_STEP)
        return here[:, 0], here[:, 2:].T, (there[:, 0] - here[:, 0]) / _VELOCITY_STEP, here[:, 1]

    def _read(self, curves: np.ndarray, velocity: float) -> np.ndarray:
        grid = NIRSPEC_SHARP.wavelength
        place = (self.wavelength / (1 + velocity / SPEED_OF_LIGHT) - grid[0]) / (grid[1] - grid[0])
        left = np.clip(place.astype(int), 0, len(grid) - 2)
        part = np.clip(place - left, 0, 1)[:, None]
        return (1 - part) * curves[left] + part * curves[left + 1]


def _splines(wavelength: np.ndarray, segments: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Cubic B-splines over each stretch of pixels (m, k), and a penalty (k, k) that keeps them from bending wildly."""
    columns, bends = [], []
    for part in segments:
        low, high = wavelength[part[0]], wavelength[part[-1]]
        inner = np.linspace(low, high + 1e-6, max(round((high - low) / _SPACING), 1) + 1)
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        block = np.zeros((len(wavelength), len(knots) - 4))
        block[part] = BSpline.design_matrix(wavelength[part], knots, 3).toarray()
        columns.append(block)
        bends.append(np.diff(np.eye(block.shape[1]), 2, axis=0) / _BEND)
    bend = block_diag(*bends)
    return np.concatenate(columns, axis=1), bend.T @ bend + 1e-6 * np.eye(bend.shape[1])
