"""One observed spectrum on its own pixels by labels and nuisances: continuum, velocity, line width, physics.

The emulator's sharpest spectra are brought to the instrument's line-spread function, whose width may differ a little
from what is stated, at the observed wavelengths; the observed spectrum itself is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.linalg import block_diag
from torch import Tensor

from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import SPEED_OF_LIGHT
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.physics.lsf import LineSpread, broadening
from starclip_lib.support.errors import DataError

_SPACING = 300.0  # Angstrom between knots of the continuum
_GAP = 200.0  # Angstrom; a wider stretch without pixels separates two continua
_BEND = 0.3  # of the median flux: how far the continuum leaves a straight line from knot to knot, where nothing says
_VELOCITY_ERROR = 30.0  # km/s about the first guess
_WIDTH_ERROR = 0.15  # relative, of the line-spread function
_WIDTH_STEP = 0.03  # of the relative width, for its derivative
_VELOCITY_STEP = 5.0  # km/s
# How much deeper than the synthesis the Paschen and the Brackett lines may be: mean and standard deviation. In giants
# of the IRTF library the Brackett lines are, by 0.10; the Paschen lines are as computed (benchmarks/hydrogen_lines.py).
_HYDROGEN, _HYDROGEN_ERROR = (0.0, 0.05), (0.04, 0.10)
_RYDBERG = 109677.58  # 1/cm, of hydrogen
_SERIES = ((3, range(5, 15)), (4, range(10, 24)))
_HALF_WIDTH = 12.0  # Angstrom, standard deviation of what counts as such a line


@dataclass(frozen=True, eq=False)
class PixelSpectra:
    """An emulated spectrum (1, m) on observed pixels, and how it changes.

    `by_labels` (20, m); `by_nuisances` (4 + n_physics, m): by velocity, width, hydrogen lines and physics.
    """

    model: Tensor
    continuum: Tensor
    by_labels: np.ndarray
    by_nuisances: np.ndarray


class PixelModel:
    """Nuisances: a B-spline continuum, velocity [km/s], the line width's relative change, hydrogen lines, physics.

    Hydrogen lines may be deeper than the synthesis by a part of their depth, one for each series. `wavelength` (m,) in
    vacuum Angstrom as observed. Physics are the emulator's further inputs, with the mean and the precision of
    `physics`, or about nominal with the emulator's widths.
    """

    def __init__(
        self,
        emulator: Emulator,
        wavelength: np.ndarray,
        spread: LineSpread,
        velocity: float,
        physics: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        self.grid = emulator.fine
        self.emulated = emulator.on(self.grid)
        self.parts = np.concatenate([self.emulated.mean[None].numpy(), self.emulated.basis.numpy()]).T.astype(float)
        self.wavelength, self.spread = wavelength, spread
        self.segments = np.split(np.arange(len(wavelength)), np.flatnonzero(np.diff(wavelength) > _GAP) + 1)
        self.splines, bend = _splines(wavelength, self.segments)
        self.n_curve = self.splines.shape[1]
        self.narrowest = emulator.narrowest / float(spread(wavelength).min()) - 1  # limit of the fine grid
        rest = wavelength / (1 + velocity / SPEED_OF_LIGHT)
        self.hydrogen = np.stack([_near_lines(rest, lower, upper) for lower, upper in _SERIES])
        mean, precision = physics or (0 * emulator.physics_width, np.diag(emulator.physics_width**-2))
        self.expected = torch.from_numpy(np.concatenate([np.zeros(self.n_curve), [velocity, 0.0, *_HYDROGEN], mean]))
        errors = np.array([_VELOCITY_ERROR, _WIDTH_ERROR, *_HYDROGEN_ERROR])
        self.penalty = torch.from_numpy(block_diag(bend, np.diag(errors**-2), precision))

    def start(self, labels: np.ndarray, flux: np.ndarray, ivar: np.ndarray) -> Tensor:
        """Nuisances (1, m) to begin with: the continuum that suits the flux (m,) at these labels (20,)."""
        rest, k = self.expected[self.n_curve :], self.n_curve
        labels = np.concatenate([labels, rest[4:].numpy()])
        lit = self.splines * self._at(labels, float(rest[0]), 0.0)[0][:, None]
        curve = np.linalg.solve((lit * ivar[:, None]).T @ lit + self.penalty[:k, :k].numpy(), lit.T @ (ivar * flux))
        return torch.cat([torch.from_numpy(curve), rest])[None]

    def __call__(self, labels: Tensor, nuisances: Tensor) -> PixelSpectra:
        """The spectrum of labels (1, 20) and nuisances (1, m). Raises DataError if its continuum is not positive."""
        k = self.n_curve
        curve, (velocity, width), hydrogen, physics = np.split(nuisances[0].numpy(), [k, k + 2, k + 4])
        continuum = self.splines @ curve
        if not (continuum > 0).all():
            raise DataError("no continuum fits it; is it the spectrum of a star, in flux per wavelength or pixel?")
        model, slopes, shifts = self._at(np.concatenate([labels[0].numpy(), physics]), velocity, width)
        deeper, by_hydrogen = 1 + hydrogen @ self.hydrogen, (model - 1) * self.hydrogen
        by_labels, by_physics = np.split(slopes * deeper, [N_LABELS])
        by_nuisances = np.concatenate([shifts * deeper, by_hydrogen, by_physics])
        model = 1 + (model - 1) * deeper
        return PixelSpectra(torch.from_numpy(model)[None], torch.from_numpy(continuum)[None], by_labels, by_nuisances)

    def equations(
        self, spectra: PixelSpectra, weight: Tensor, residual: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normal matrix and right side of the fit to a residual of flux over the continuum."""
        lit = self.splines.T * (spectra.model / spectra.continuum).numpy()
        design = torch.from_numpy(np.concatenate([directions.numpy() @ spectra.by_labels, lit, spectra.by_nuisances]))
        return ((design * weight) @ design.T)[None], (design @ (weight * residual)[0])[None]

    def inside(self, labels: Tensor) -> Tensor:
        """Labels moved to the edge of the emulator's domain where they lie outside."""
        return self.emulated.inside(labels)

    def bounded(self, nuisances: Tensor) -> Tensor:
        """Line widths and physics that the emulator has."""
        k, limit = self.n_curve, self.emulated.physics_limit
        curve, width, hydrogen, physics = nuisances.tensor_split([k + 1, k + 2, k + 4], 1)
        return torch.cat([curve, width.clamp_min(self.narrowest), hydrogen, physics.clamp(-limit, limit)], 1)

    def _at(self, labels: np.ndarray, velocity: float, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flux (m,) and its derivatives: by labels and physics (20 + n_physics, m), by velocity and width (2, m)."""
        eye = torch.eye(len(labels), dtype=torch.float64)
        linear = self.emulated.linearised(torch.from_numpy(labels[None]), eye)
        coefficients, slopes = (x[0].double().numpy() for x in linear)
        sharp = self.parts @ np.concatenate([[1.0], coefficients])
        curves = self._broadening(velocity, width) @ np.column_stack([sharp, self.parts[:, 1:] @ slopes.T])
        faster = self._broadening(velocity + _VELOCITY_STEP, width) @ sharp - curves[:, 0]
        wider = self._broadening(velocity, width + _WIDTH_STEP) @ sharp - curves[:, 0]
        return curves[:, 0], curves[:, 1:].T, np.stack([faster / _VELOCITY_STEP, wider / _WIDTH_STEP])

    def _broadening(self, velocity: float, width: float) -> sparse.csr_array:
        rest = self.wavelength / (1 + velocity / SPEED_OF_LIGHT)
        return broadening(self.grid.wavelength, self.grid.constant_fwhm, rest, self.spread(rest) * (1 + width))


def _near_lines(rest: np.ndarray, lower: int, upper: range) -> np.ndarray:
    """How near (m,) rest wavelengths are to the hydrogen lines of a series, between 0 and 1."""
    lines = 1e8 / (_RYDBERG * (lower**-2 - np.array(upper, float) ** -2))
    return np.asarray(np.exp(-0.5 * ((rest - lines[:, None]) / _HALF_WIDTH) ** 2).max(axis=0))


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
