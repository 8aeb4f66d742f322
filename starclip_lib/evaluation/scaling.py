"""How errors fall with the number of stars and the size of the network: power laws and their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit

from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.errors import DataError
from starclip_lib.evaluation.domains import Domain, train_on
from starclip_lib.evaluation.transfer import predict
from starclip_lib.settings.training import EncoderParams, TrainParams
from starclip_lib.transforms.corruptions import Corruption


@dataclass(frozen=True)
class PowerLaw:
    """error = floor + amplitude * (n / scale)**-index, with standard errors of index and floor.

    Parameters
    ----------
    amplitude, index, floor, scale : float
    index_error, floor_error : float
        Standard errors.
    """

    amplitude: float
    index: float
    floor: float
    scale: float
    index_error: float
    floor_error: float

    def __call__(self, n: np.ndarray) -> np.ndarray:
        """Errors (m,) at sizes n (m,)."""
        return self.floor + self.amplitude * (np.asarray(n, float) / self.scale) ** -self.index


def fit_power_law(n: np.ndarray, error: np.ndarray, sigma: np.ndarray | None = None) -> PowerLaw:
    """Fit a falling power law with a floor to errors (m,) at sizes n (m,).

    Parameters
    ----------
    n, error : ndarray, shape (m,)
        Sizes and errors.
    sigma : ndarray, shape (m,), optional
        Uncertainties of the errors.  Without them, residuals are weighed relative to the error itself, and the scatter
        sets the uncertainty.

    Returns
    -------
    PowerLaw

    Raises
    ------
    DataError
        For fewer than four sizes, or where the errors do not allow a fit.
    """
    n, error = np.asarray(n, float), np.asarray(error, float)
    if len(np.unique(n)) < 4:
        raise DataError(f"a power law with a floor needs at least four sizes, not {len(np.unique(n))}")
    scale = float(np.exp(np.log(n).mean()))
    start = (max(error.min(), 1e-12) * 0.5, 0.5, error.min() * 0.5)
    try:
        values, covariance = curve_fit(
            lambda x, amplitude, index, floor: floor + amplitude * (x / scale) ** -index,
            n,
            error,
            start,
            error if sigma is None else sigma,
            absolute_sigma=sigma is not None,
            bounds=([0, 0.01, 0], [np.inf, 3, error.max()]),
        )
    except RuntimeError as problem:
        raise DataError(f"no power law fits these errors: {problem}") from problem
    deviation = np.sqrt(np.diag(covariance))
    amplitude, index, floor = map(float, values)
    return PowerLaw(amplitude, index, floor, scale, float(deviation[1]), float(deviation[2]))


def error_at(
    n_stars: int,
    width: int,
    spectra: SpectrumSet,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    labels: np.ndarray,
    corruption: Corruption,
    *,
    steps: int,
    seed: int,
) -> float:
    """Error of an encoder of some width trained on so many stars for so many steps, the same number whatever the stars.

    Parameters
    ----------
    n_stars : int
        Number of training stars.
    width : int
        Of the encoder.
    spectra : SpectrumSet
    rows : tuple of ndarray
        Of the training (a random part is taken), validation and test stars.
    labels : ndarray, shape (n, 20)
        Of all stars of `spectra`, Z-scored.
    corruption : Corruption
        What happens to the spectra.
    steps : int
        Of the training.
    seed : int
        Of everything random.

    Returns
    -------
    float
        The RMSE on test stars, one view each, relative to the labels' spread, mean over the labels.
    """
    train, val, test = rows
    if n_stars > len(train):
        raise ValueError(f"{n_stars} training stars were asked for, but there are {len(train)}")
    chosen = np.sort(np.random.default_rng([seed, n_stars]).permutation(train)[:n_stars])
    batch = min(64, n_stars)
    settings = TrainParams(epochs=max(1, round(steps * batch / n_stars)), batch_size=batch)
    domain = Domain(f"{n_stars} stars", corruption)
    encoder = train_on(domain, spectra, (chosen, val[:200]), labels, EncoderParams(width=width), settings, seed=seed)
    predicted = predict(encoder, domain.observe(spectra, test, seed))
    return float(np.sqrt(((predicted - labels[test]) ** 2).mean(axis=0)).mean())
