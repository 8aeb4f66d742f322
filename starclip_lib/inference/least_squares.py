"""Weighted least squares of spectra against the emulator: normal equations of labels and nuisances, batched.

The normal matrix of the labels is summed over blocks of pixels, in which weights are replaced by their mean: ten times
fewer operations.  The right side is exact, and the nuisances that a step has fitted are taken out of the spectrum
before the next one, so that repeated steps end where those of exact least squares do.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.physics.emulation import EmulatedSpectra
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, SIGMA_PER_FWHM, SPEED_OF_LIGHT, Instrument
from starclip_lib.physics.labels import N_LABELS

_BLOCK = 16  # pixels whose weights count as one in the normal matrix
_OUTLIER = 5.0  # standard deviations at which a pixel stands off
_DEGREE = 8  # of the polynomial continuum, as in `inference.fisher`
_CONTINUUM = (0.2, 5.0)  # bounds of a fitted continuum, where few pixels leave a polynomial free
LAGS = 5  # pixels over which noise may be correlated
_FAR = (6, 8, 10)  # pixels over which it is not
_TRIPLES = 200  # of pixels that an autocovariance needs


class NormalEquations(nn.Module):
    """What a small change of labels and nuisances does to the spectra of an instrument, and the equations that follow.

    Nuisances are a polynomial continuum, a velocity and, for APOGEE, the width of the line-spread function.
    """

    table: Tensor
    unpacked: Tensor
    polynomials: Tensor
    products: Tensor
    shifts: Tensor
    response: Tensor

    def __init__(self, instrument: Instrument):
        super().__init__()
        self.emulated = EmulatedSpectra(default_emulator(), instrument)
        for name, value in _fixed_parts(instrument).items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    @property
    def n_nuisances(self) -> int:
        """Number of nuisances: coefficients of the continuum, then shifts."""
        return len(self.polynomials) + len(self.shifts)

    def continuum(self, nuisances: Tensor) -> Tensor:
        """Continua (n, n_pix) of nuisances (n, m)."""
        degree = len(self.polynomials)
        return (1 + nuisances[:, :degree] @ self.polynomials).clamp(*_CONTINUUM)

    def shifted(self, model: Tensor, nuisances: Tensor) -> Tensor:
        """Model spectra (n, n_pix) at the velocity and line width of nuisances (n, m)."""
        shifts = nuisances[:, len(self.polynomials) :]
        return model + (shifts[:, None] @ self._shift_rows(model))[:, 0]

    def forward(
        self, labels: Tensor, directions: Tensor, model: Tensor, continuum: Tensor, weight: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Normal matrix and right side of the fit to a residual.

        Parameters
        ----------
        labels : Tensor, shape (n, 20)
            In K and dex, where the emulator is linearised.
        directions : Tensor, shape (20, 20)
            The changes of labels that are looked for, in K and dex.
        model : Tensor, shape (n, n_pix)
            The emulator's flux there.
        continuum : Tensor, shape (n, n_pix)
            By which the observed flux has been divided.
        weight : Tensor, shape (n, n_pix)
            Inverse variance of the divided flux, 0 where there is no data.
        residual : Tensor, shape (n, n_pix)
            Divided flux minus model.

        Returns
        -------
        matrix : Tensor, shape (n, 20 + m, 20 + m)
            float64.
        right : Tensor, shape (n, 20 + m)
            float64.
        """
        _, slope = self.emulated.linearised(labels, directions)
        n, n_blocks = len(model), len(self.table)
        padded = F.pad(weight, (0, n_blocks * _BLOCK - weight.shape[1]))
        mean = padded.view(n, n_blocks, _BLOCK).mean(2)
        level = mean.repeat_interleave(_BLOCK, 1)[:, : weight.shape[1]]
        k = len(self.emulated.basis)
        gram = (mean @ self.table)[:, self.unpacked].view(n, k, k)
        shifts = self._shift_rows(model)
        base = model / continuum
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
        return matrix, torch.cat(right, 1)

    def _shift_rows(self, model: Tensor) -> Tensor:
        """Change of the flux (n, m, n_pix) with velocity and with the width of the line-spread function."""
        first = F.pad(model[:, 2:] - model[:, :-2], (1, 1)) / 2
        rows = [first]
        if len(self.shifts) > 1:
            rows.append(F.pad(model[:, 2:] - 2 * model[:, 1:-1] + model[:, :-2], (1, 1)))
        return torch.stack(rows, 1) * self.shifts


def marginalised(matrix: Tensor) -> Tensor:
    """Information on the labels that normal matrices hold, less what nuisances could explain."""
    cross, outer = matrix[:, :N_LABELS, N_LABELS:], matrix[:, N_LABELS:, N_LABELS:]
    return matrix[:, :N_LABELS, :N_LABELS] - cross @ torch.linalg.solve(outer, cross.mT)


def noise_of(residual: Tensor, good: Tensor, variance: Tensor, response: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Variance (n,) of the noise of spectra, and pixels (n, n_pix) that do not stand off from their neighbours.

    Both come from second differences of residuals (observed minus model), where `good` is 1 and the `variance` (n_pix,)
    of the model is small: what is smooth over twenty pixels does not enter. With the autocorrelation (LAGS,) of the
    `response` of spectra to labels, the variance is that of white noise with the same effect on labels.
    """
    quiet = good * (variance <= variance.median())
    used = quiet[:, 2:] * quiet[:, 1:-1] * quiet[:, :-2]
    square = (residual[:, 2:] - 2 * residual[:, 1:-1] + residual[:, :-2]) ** 2 / 6
    noise = (square * used).sum(1) / used.sum(1).clamp_min(1)
    sound = torch.ones_like(square)
    for _ in range(2):
        sound = (square < _OUTLIER**2 * (noise[:, None] + variance[1:-1])).float()
        noise = (square * used * sound).sum(1) / (used * sound).sum(1).clamp_min(1)
    sound = F.pad(sound, (1, 1), value=1.0)
    covariance, known = autocovariance(residual, quiet * sound)
    noise = torch.where(known, covariance[:, 0], noise)
    if response is not None:
        noise = noise + 2 * (covariance[:, 1:] @ response * known).clamp_min(0)
    return noise.clamp_min(1e-10), sound


def autocovariance(residual: Tensor, use: Tensor) -> tuple[Tensor, Tensor]:
    """Autocovariance (n, 1 + LAGS) of noise, which ends after LAGS pixels, and for which spectra (n,) it is known.

    The mean square of second differences over k pixels is 6 c(0) - 8 c(k) + 2 c(2 k): only c(0) is left beyond LAGS
    pixels. Pixels enter where `use` is 1.
    """
    squares, counts = [], []
    for k in (*range(1, LAGS + 1), *_FAR):
        three = use[:, 2 * k :] * use[:, k:-k] * use[:, : -2 * k]
        square = (residual[:, 2 * k :] - 2 * residual[:, k:-k] + residual[:, : -2 * k]) ** 2
        squares.append(torch.einsum("np,np->n", square, three) / 6)
        counts.append(three.sum(1))
    square, count = torch.stack(squares, 1), torch.stack(counts, 1)
    total = square[:, LAGS:].sum(1) / count[:, LAGS:].sum(1).clamp_min(1)
    covariance = torch.zeros_like(square[:, : 1 + LAGS])
    covariance[:, 0] = total
    for k in range(LAGS, 0, -1):
        twice = covariance[:, 2 * k] if 2 * k <= LAGS else 0.0
        covariance[:, k] = (3 * (total - square[:, k - 1] / count[:, k - 1].clamp_min(1)) + twice) / 4
    return covariance, count.min(1).values >= _TRIPLES


@cache
def _fixed_parts(instrument: Instrument) -> dict[str, np.ndarray]:
    """What every step on an instrument needs, computed once.

    table (n_blocks, k (k + 1) / 2), products of the emulator's components summed over blocks of pixels, and unpacked
    (k^2,), where the entries of a (k, k) matrix stand in it; polynomials (9, n_pix), and products (81, n_pix) of each
    two; shifts (1 or 2, n_pix), 10 km/s and a relative change of the line-spread function's width, in units of pixels;
    response (LAGS,), see `noise_of`
    """
    basis = default_emulator().parts(instrument)["basis"]
    k, n_pix = basis.shape
    blocks = np.pad(basis, ((0, 0), (0, -n_pix % _BLOCK))).reshape(k, -1, _BLOCK).transpose(1, 0, 2)
    row, column = np.triu_indices(k)
    unpacked = np.empty((k, k), np.int64)
    unpacked[row, column] = unpacked[column, row] = np.arange(len(row))
    polynomials = np.polynomial.legendre.legvander(np.linspace(-1, 1, n_pix), _DEGREE).T
    step = np.gradient(instrument.wavelength)
    shifts = [10 * instrument.wavelength / SPEED_OF_LIGHT / step]
    if instrument is APOGEE:  # its line-spread function varies from fibre to fibre
        shifts.append((instrument.wavelength / instrument.resolution * SIGMA_PER_FWHM / step) ** 2)
    return {
        "table": (blocks @ blocks.transpose(0, 2, 1))[:, row, column],
        "unpacked": unpacked.ravel(),
        "polynomials": polynomials.astype(np.float32),
        "products": (polynomials[:, None] * polynomials).reshape(-1, n_pix),
        "shifts": np.stack(shifts).astype(np.float32),
        "response": _response(instrument),
    }


def _response(instrument: Instrument) -> np.ndarray:
    """Autocorrelation (LAGS,) of how a spectrum changes with labels, in directions that are known equally well."""
    emulator = default_emulator()
    gradient = emulator.gradient(emulator.parts(instrument)["center"], instrument).astype(float) * instrument.covered
    rows = np.linalg.solve(np.linalg.cholesky(gradient @ gradient.T), gradient)
    return np.array([(rows[:, lag:] * rows[:, :-lag]).sum() / N_LABELS for lag in range(1, LAGS + 1)], np.float32)
