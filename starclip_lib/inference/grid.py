"""Spectra on an instrument's own grid as functions of labels and nuisances, and their normal equations, batched.

The normal matrix of the labels is summed over blocks of pixels, in which weights are replaced by their mean: ten times
fewer operations.  The right side is exact, and the nuisances that a step has fitted are taken out of the spectrum
before the next one, so that repeated steps end where those of exact least squares do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import block_diag
from torch import Tensor, nn

from starclip_lib.inference.noise import LAGS
from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import APOGEE, SIGMA_PER_FWHM, SPEED_OF_LIGHT, Instrument
from starclip_lib.physics.labels import FE, N_LABELS, TEFF

DEGREE = 8  # of the polynomial continuum
_BLOCK = 16  # pixels whose weights count as one in the normal matrix
_CONTINUUM = (0.2, 5.0)  # bounds of a fitted continuum, where few pixels leave a polynomial free


@dataclass(frozen=True, eq=False)
class GridSpectra:
    """Emulated spectra (n, n_pix): `model` with the velocity and line width of the nuisances, `still` without them.

    `labels` (n, 20 + n_physics) hold the physics, where it is among the nuisances.
    """

    labels: Tensor
    still: Tensor
    model: Tensor
    continuum: Tensor


class GridModel(nn.Module):
    """Spectra on an instrument's grid; nuisances are a polynomial continuum and a velocity, and APOGEE's line width.

    The width of APOGEE's line-spread function varies from fibre to fibre. `chips`: a continuum of its own on each chip.
    `physics`: mean and precision of the emulator's further inputs, which are then nuisances after the shifts.
    `correction` (3, n_pix), if set, are relative errors of the depth of lines: constant, with Teff and with [Fe/H].
    """

    table: Tensor
    unpacked: Tensor
    polynomials: Tensor
    products: Tensor
    shifts: Tensor
    response: Tensor
    expected: Tensor
    penalty: Tensor
    correction: Tensor | None

    def __init__(
        self,
        emulator: Emulator,
        instrument: Instrument,
        degree: int = DEGREE,
        *,
        chips: bool = False,
        line_width: bool | None = None,
        physics: tuple[np.ndarray, np.ndarray] | None = None,
    ):
        super().__init__()
        self.emulated = emulator.on(instrument)
        width = instrument is APOGEE if line_width is None else line_width
        for name, value in _fixed_parts(emulator, instrument, degree, chips, width).items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)
        m = len(self.polynomials) + len(self.shifts)
        mean, precision = (np.empty(0), np.empty((0, 0))) if physics is None else physics
        self.n_physics, self.correction = len(mean), None
        expected, penalty = np.concatenate([np.zeros(m), mean]), block_diag(np.zeros((m, m)), precision)
        self.register_buffer("expected", torch.from_numpy(expected), persistent=False)
        self.register_buffer("penalty", torch.from_numpy(penalty), persistent=False)

    def forward(self, labels: Tensor, nuisances: Tensor) -> GridSpectra:
        """Spectra of labels (n, 20) in K and dex with nuisances (n, m): continuum, then shifts, then physics."""
        nuisances, physics = nuisances.tensor_split([nuisances.shape[1] - self.n_physics], 1)
        labels = torch.cat([labels, physics], 1)
        still, degree = self.corrected(self.emulated(labels), labels), len(self.polynomials)
        nuisances = nuisances.to(still.dtype)
        continuum = (1 + nuisances[:, :degree] @ self.polynomials).clamp(*_CONTINUUM)
        model = still + (nuisances[:, None, degree:] @ self._shift_rows(still))[:, 0]
        return GridSpectra(labels, still, model, continuum)

    def equations(
        self, spectra: GridSpectra, weight: Tensor, residual: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normal matrix and right side of the fit to a residual of flux over the continuum, float64."""
        _, slope = self.emulated.linearised(spectra.labels, self._all_directions(directions))
        n, n_blocks, n_pix = len(weight), len(self.table), weight.shape[1]
        mean = F.pad(weight, (0, n_blocks * _BLOCK - n_pix)).view(n, n_blocks, _BLOCK).mean(2)
        level = mean.repeat_interleave(_BLOCK, 1)[:, :n_pix]
        k = len(self.emulated.basis)
        gram = (mean @ self.table)[:, self.unpacked].view(n, k, k)
        shifts = self._shift_rows(spectra.still)
        base = spectra.still / spectra.continuum
        rows = torch.cat([base[:, None] * self.polynomials, shifts], 1)
        across = slope @ ((rows * level[:, None]) @ self.emulated.basis.T).transpose(1, 2)
        # polynomials over the stretch of a spectrum are almost the same: their products are summed in float64
        degree = len(self.polynomials)
        outer = rows.new_zeros(n, rows.shape[1], rows.shape[1], dtype=torch.float64)
        outer[:, :degree, :degree] = ((level * base**2).double() @ self.products.T).view(n, degree, degree)
        mixed = ((level * base)[:, None] * shifts).double() @ self.polynomials.double().T
        outer[:, degree:, :degree], outer[:, :degree, degree:] = mixed, mixed.transpose(1, 2)
        outer[:, degree:, degree:] = ((shifts * level[:, None]) @ shifts.transpose(1, 2)).double()
        inner = (slope @ gram @ slope.transpose(1, 2)).double()
        inner = (inner + inner.transpose(1, 2)) / 2
        matrix = torch.cat([torch.cat([inner, across.double()], 2), torch.cat([across.double().mT, outer], 2)], 1)
        misfit = residual * weight
        right = [
            (slope @ (misfit @ self.emulated.basis.T)[..., None])[..., 0].double(),
            (misfit * base).double() @ self.polynomials.double().T,
            (shifts @ misfit[..., None])[..., 0].double(),
        ]
        order = self._order(matrix.shape[1])
        return matrix[:, order][:, :, order], torch.cat(right, 1)[:, order]

    def corrected(self, flux: Tensor, labels: Tensor) -> Tensor:
        """Emulated flux (n, n_pix) with the correction of the depth of lines, if there is one."""
        if self.correction is None:
            return flux
        return 1 - (1 - flux) * (1 + correction_terms(labels).to(flux.dtype) @ self.correction)

    def _all_directions(self, directions: Tensor) -> Tensor:
        return torch.block_diag(directions, torch.eye(self.n_physics).to(directions))

    def _order(self, size: int) -> Tensor:
        """Labels, continuum, shifts, physics, of what is computed as labels, physics, continuum, shifts."""
        place = torch.arange(size)
        return torch.cat([place[:N_LABELS], place[N_LABELS + self.n_physics :], place[N_LABELS:][: self.n_physics]])

    def design(self, labels: Tensor, directions: Tensor) -> Tensor:
        """Derivatives (n, 20 + m, n_pix) of the flux along directions of labels and by nuisances, at their zero."""
        _, slope = self.emulated.linearised(labels, self._all_directions(directions))
        still = self.emulated(labels)
        rows = [slope @ self.emulated.basis, still[:, None] * self.polynomials, self._shift_rows(still)]
        design = torch.cat(rows, 1)
        return design[:, self._order(design.shape[1])]

    def inside(self, labels: Tensor) -> Tensor:
        """Labels moved to the edge of the emulator's domain where they lie outside."""
        return self.emulated.inside(labels)

    def bounded(self, nuisances: Tensor) -> Tensor:
        """Physics that the emulator has; of the continuum, what the coefficients give is bounded."""
        if not self.n_physics:
            return nuisances
        rest, physics = nuisances.tensor_split([nuisances.shape[1] - self.n_physics], 1)
        limit = self.emulated.physics_limit
        return torch.cat([rest, physics.clamp(-limit, limit)], 1)

    def _shift_rows(self, model: Tensor) -> Tensor:
        """Change of the flux (n, m, n_pix) with velocity and with the width of the line-spread function."""
        rows = [F.pad(model[:, 2:] - model[:, :-2], (1, 1)) / 2]
        if len(self.shifts) > 1:
            rows.append(F.pad(model[:, 2:] - 2 * model[:, 1:-1] + model[:, :-2], (1, 1)))
        return torch.stack(rows, 1) * self.shifts


def correction_terms(labels: Tensor) -> Tensor:
    """What the correction of the depth of lines depends on (n, 3): a constant, Teff and [Fe/H], of typical size 1."""
    terms = [(labels[:, TEFF] - 4500) / 200, (labels[:, FE] + 0.4) / 0.4]
    return torch.stack([torch.ones_like(labels[:, 0]), *(term.clamp(-2.5, 2.5) for term in terms)], 1)


def polynomials(instrument: Instrument, degree: int, chips: bool) -> np.ndarray:
    """Legendre polynomials (rows, n_pix) over the whole grid, or over each chip and 0 elsewhere."""
    rows = []
    for start, stop in instrument.chips if chips else ((0, instrument.n_pix),):
        part = np.zeros((degree + 1, instrument.n_pix))
        part[:, start:stop] = np.polynomial.legendre.legvander(np.linspace(-1, 1, stop - start), degree).T
        rows.append(part)
    return np.concatenate(rows)


@lru_cache(maxsize=4)
def _fixed_parts(
    emulator: Emulator, instrument: Instrument, degree: int, chips: bool, line_width: bool
) -> dict[str, np.ndarray]:
    """What every step on a grid needs, computed once.

    table (n_blocks, k (k + 1) / 2), products of the emulator's components summed over blocks of pixels, and unpacked
    (k^2,), where the entries of a (k, k) matrix stand in it; polynomials (rows, n_pix), and products (rows^2, n_pix) of
    each two; shifts (1 or 2, n_pix), 10 km/s and a relative change of the line-spread function's width, in units of
    pixels; response (LAGS,), see `noise.noise_of`
    """
    basis = emulator.on(instrument).basis.numpy()
    k, n_pix = basis.shape
    blocks = np.pad(basis, ((0, 0), (0, -n_pix % _BLOCK))).reshape(k, -1, _BLOCK).transpose(1, 0, 2)
    row, column = np.triu_indices(k)
    unpacked = np.empty((k, k), np.int64)
    unpacked[row, column] = unpacked[column, row] = np.arange(len(row))
    curves = polynomials(instrument, degree, chips)
    step = np.gradient(instrument.wavelength)
    shifts = [10 * instrument.wavelength / SPEED_OF_LIGHT / step]
    if line_width:
        shifts.append((instrument.wavelength / instrument.resolution * SIGMA_PER_FWHM / step) ** 2)
    return {
        "table": (blocks @ blocks.transpose(0, 2, 1))[:, row, column],
        "unpacked": unpacked.ravel(),
        "polynomials": curves.astype(np.float32),
        "products": (curves[:, None] * curves).reshape(-1, n_pix),
        "shifts": np.stack(shifts).astype(np.float32),
        "response": _response(emulator, instrument),
    }


def _response(emulator: Emulator, instrument: Instrument) -> np.ndarray:
    """Autocorrelation (LAGS,) of how a spectrum changes with labels, in directions that are known equally well."""
    gradient = emulator.gradient(emulator.center, instrument).astype(float) * instrument.on_detector
    rows = np.linalg.solve(np.linalg.cholesky(gradient @ gradient.T), gradient)
    return np.array([(rows[:, lag:] * rows[:, :-lag]).sum() / N_LABELS for lag in range(1, LAGS + 1)], np.float32)
