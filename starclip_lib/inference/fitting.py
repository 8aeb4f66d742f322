"""Least-squares fits of the emulator to a spectrum: what a user of The Payne would do (Ting et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.support.errors import DataError

_MODEL_ERROR = 0.01  # of the flux: LTE, one-dimensional atmospheres and line lists are no better


@dataclass(frozen=True, eq=False)
class Fit:
    """The emulated spectrum that comes closest to an observed one.

    Parameters
    ----------
    labels : ndarray, shape (20,)
        In K and dex, inside the emulator's domain.
    at_edge : tuple of str
        Names of the labels that sit on its boundary.
    model : ndarray, shape (n_pix,)
        Emulated flux times continuum.
    continuum : ndarray, shape (n_pix,)
    rms : float
        Root mean square of observed minus model over the pixels used.
    """

    labels: np.ndarray
    at_edge: tuple[str, ...]
    model: np.ndarray
    continuum: np.ndarray
    rms: float


def fit_spectrum(
    flux: np.ndarray,
    ivar: np.ndarray,
    instrument: Instrument,
    *,
    continuum_degree: int = 4,
    model_error: float = _MODEL_ERROR,
    emulator: Emulator | None = None,
) -> Fit:
    """Fit the twenty labels and a polynomial continuum for each chip to one spectrum at rest.

    Parameters
    ----------
    flux : ndarray, shape (n_pix,)
        Relative to some continuum.
    ivar : ndarray, shape (n_pix,)
        Inverse variance, 0 where there is no data.
    model_error : float
        Is added to the noise, as a fraction of the continuum; outliers beyond both count linearly (soft L1).
    emulator : Emulator, optional
        None: the one that comes with the package.

    Raises
    ------
    DataError
        If fewer pixels hold data than there are parameters, or if they are not finite.
    """
    emulator = emulator or default_emulator()
    used = ivar > 0
    if not (np.isfinite(flux[used]).all() and np.isfinite(ivar).all()):
        raise DataError("the spectrum holds NaN or infinite values; mark such pixels with ivar 0")
    basis = _chip_polynomials(instrument, continuum_degree)
    if used.sum() <= len(LABELS) + len(basis):
        raise DataError(f"{used.sum()} pixels hold data, too few for {len(LABELS)} labels and a continuum")
    low, high = _box(emulator)
    weight = 1 / np.sqrt(1 / ivar[used] + model_error**2)
    start = np.concatenate([0.5 * np.ones(len(LABELS)), np.linalg.lstsq(basis[:, used].T, flux[used])[0]])

    def labels_of(x: np.ndarray) -> np.ndarray:
        box = low + (high - low) * x[: len(LABELS)]
        box[TEFF] = _teff(emulator, box[LOGG], x[TEFF])
        return _to_labels(box, emulator)

    def residuals(x: np.ndarray) -> np.ndarray:
        model = emulator(labels_of(x)[None], instrument)[0] * (x[len(LABELS) :] @ basis)
        return (model - flux)[used] * weight

    def jacobian(x: np.ndarray) -> np.ndarray:
        labels = labels_of(x)
        gradient = emulator.gradient(labels, instrument).astype(np.float64)
        gradient[FE] += sum(gradient[LABELS.index(element)] for element in ELEMENTS if element != "Fe")
        # the limits of Teff, between which x[TEFF] lies, move with log g
        logg, step = labels[LOGG], 1e-3
        tilt = (_teff(emulator, logg + step, x[TEFF]) - _teff(emulator, logg - step, x[TEFF])) / (2 * step)
        gradient[LOGG] += tilt * gradient[TEFF]
        span = high - low
        span[TEFF] = _teff(emulator, logg, 1.0) - _teff(emulator, logg, 0.0)
        gradient *= span[:, None] * (x[len(LABELS) :] @ basis)
        rows = np.concatenate([gradient, emulator(labels[None], instrument)[0] * basis])
        return (rows[:, used] * weight).T

    free = np.full(len(basis), np.inf)
    bounds = np.concatenate([np.zeros(len(LABELS)), -free]), np.concatenate([np.ones(len(LABELS)), free])
    result = least_squares(residuals, start, jacobian, bounds=bounds, loss="soft_l1", x_scale="jac")
    labels, continuum = labels_of(result.x), result.x[len(LABELS) :] @ basis
    model = emulator(labels[None], instrument)[0] * continuum
    inner = result.x[: len(LABELS)]
    at_edge = tuple(name for name, x in zip(LABELS, inner, strict=True) if not 0.01 < x < 0.99)
    return Fit(labels, at_edge, model, continuum, float(np.sqrt(np.mean((flux - model)[used] ** 2))))


def _chip_polynomials(instrument: Instrument, degree: int) -> np.ndarray:
    """Legendre polynomials on each chip, 0 elsewhere: (chips * (degree + 1), n_pix)."""
    rows = []
    for start, stop in instrument.chips:
        chip = np.zeros((degree + 1, instrument.n_pix))
        chip[:, start:stop] = np.polynomial.legendre.legvander(np.linspace(-1, 1, stop - start), degree).T
        rows.append(chip)
    return np.concatenate(rows)


def _box(emulator: Emulator) -> tuple[np.ndarray, np.ndarray]:
    """The domain as a box in log g, [Fe/H] and [X/Fe]; that of Teff depends on log g and is left at 0 to 1."""
    low, high = emulator.xfe_min.astype(float), emulator.xfe_max.astype(float)
    low[TEFF], high[TEFF] = 0, 1
    for column in (LOGG, FE):
        low[column], high[column] = emulator.label_min[column], emulator.label_max[column]
    return low, high


def _teff(emulator: Emulator, logg: float, share: float) -> float:
    """Teff at a share of the way from the lowest to the highest one for a log g."""
    low, high = emulator.teff_limits(np.array(logg))
    return float(low + share * (high - low))


def _to_labels(box: np.ndarray, emulator: Emulator) -> np.ndarray:
    labels = box.copy()
    labels[2:] += np.where(np.arange(2, len(LABELS)) == FE, 0, box[FE])
    carbon, oxygen = LABELS.index("C"), LABELS.index("O")
    labels[carbon] = min(labels[carbon], labels[oxygen] + emulator.max_c_over_o)
    return labels
