"""The twenty stellar labels: their order, units and names, and the scaling a network sees.

Every array of labels in this project has shape (n, 20) in the order of `LABELS`, with Teff in kelvin and everything
else in dex.  Abundances are [X/H] on the solar scale of Asplund et al. (2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from starclip_lib.support.errors import DataError

ELEMENTS = ("C", "N", "O", "Na", "Mg", "Al", "Si", "S", "K", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Ce")
LABELS = ("Teff", "logg", *ELEMENTS)
UNITS = ("K", *("dex",) * 19)
LATEX = (r"$T_{\rm eff}$", r"$\log g$", *(f"[{element}/H]" for element in ELEMENTS))
PLAIN = ("Teff", "log g", *(f"[{element}/H]" for element in ELEMENTS))
AXIS_TITLES = tuple(f"{name} [{unit}]" for name, unit in zip(LATEX, UNITS, strict=True))
N_LABELS = len(LABELS)
TEFF, LOGG, FE = LABELS.index("Teff"), LABELS.index("logg"), LABELS.index("Fe")

# Standard deviation of each label over the paper's test stars, from the published r2 and RMSE (Tables 4 to 6).
PUBLISHED_SPREAD = np.array(
    [150, 0.243, 0.389, 0.330, 0.267, 0.376, 0.275, 0.314, 0.266, 0.239]
    + [0.294, 0.264, 0.362, 0.324, 0.364, 0.421, 0.323, 0.372, 0.323, 0.362]
)  # fmt: skip

# Mean ASPCAP uncertainty over the paper's stars: [X/Fe] and [Fe/H] errors added in quadrature.  It serves as the
# intrinsic scatter of equation 5.1 as well.
ASPCAP_ERROR = np.array(
    [6.2, 0.025, 0.015, 0.017, 0.015, 0.058, 0.015, 0.022, 0.016, 0.044]
    + [0.039, 0.017, 0.020, 0.058, 0.037, 0.018, 0.009, 0.040, 0.015, 0.042]
)  # fmt: skip


def label_index(name: str) -> int:
    """Position of a label in `LABELS`.

    Raises
    ------
    DataError
        With the list of names, if there is none.
    """
    if name not in LABELS:
        raise DataError(f"unknown label '{name}'; the labels are {', '.join(LABELS)}")
    return LABELS.index(name)


def by_name(values: np.ndarray) -> dict[str, float]:
    """Values of the labels as `metrics.json` holds them."""
    return dict(zip(LABELS, map(float, values), strict=True))


@dataclass(frozen=True)
class LabelScaler:
    """Z-score of the labels, fitted once (on training stars) and stored with every model that uses it."""

    mean: np.ndarray  # (20,), float64, in K and dex
    std: np.ndarray

    @classmethod
    def fit(cls, labels: np.ndarray) -> LabelScaler:
        """Mean and standard deviation of labels. Raises DataError if a label does not vary."""
        mean, std = labels.mean(axis=0, dtype=np.float64), labels.std(axis=0, dtype=np.float64)
        flat = [name for name, s in zip(LABELS, std, strict=True) if not s > 0]
        if flat:
            raise DataError(f"cannot scale labels: {', '.join(flat)} does not vary over the {len(labels)} stars given")
        return cls(mean, std)

    def transform(self, labels: np.ndarray) -> np.ndarray:
        """Labels in K and dex to zero mean and unit variance over the fitted stars."""
        return ((labels - self.mean) / self.std).astype(np.float32)

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Undo `transform`."""
        return np.asarray(scaled, np.float64) * self.std + self.mean

    def state(self) -> dict[str, list[float]]:
        """Plain lists for a checkpoint (`torch.load(weights_only=True)` admits no NumPy scalar)."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_state(cls, state: dict[str, list[float]]) -> LabelScaler:
        """The scaler that `state` describes."""
        return cls(np.array(state["mean"], np.float64), np.array(state["std"], np.float64))
