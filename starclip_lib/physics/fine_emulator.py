"""An emulator with physics: labels and physics in, spectra on APOGEE's grid and on a fine one out (docs/emulator.md).

From the fine grid follow the spectra of any spectrograph that is less sharp.  Everything here is NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import sparse

from starclip_lib.physics.instruments import SIGMA_PER_FWHM
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused, regular_file

FORMAT = "starclip emulator 3"
GRIDS = ("apogee", "fine")
_FILE_BYTES = 64 * 2**20
_REACH = 4.5  # standard deviations at which a kernel ends
_PER_LABEL = ("label_center", "label_scale", "label_min", "label_max", "xfe_min", "xfe_max")
_KNOTS = ("logg_knots", "teff_low", "teff_high")
_LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")


class FineEmulator:
    """Labels and physics in, continuum-normalised flux out.

    Parameters
    ----------
    path : str or Path
        The .npz that `starclip emulator build` writes.

    Raises
    ------
    DataError
        If the file is missing, damaged, or of another version.
    """

    def __init__(self, path: str | Path):
        path = regular_file(path, "make it with starclip emulator build", _FILE_BYTES)
        with damage_refused(path, "is not an emulator with physics"), np.load(path, allow_pickle=False) as file:
            self._fill(file, str(path))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> FineEmulator:
        """From the arrays of a file, which need not have a card."""
        emulator = cls.__new__(cls)
        emulator._fill(arrays, "these arrays")
        return emulator

    def _fill(self, file: Mapping[str, np.ndarray], where: str) -> None:
        if "format" not in file or str(file["format"]) != FORMAT:
            raise DataError(f"{where}: an emulator of another version; this one reads '{FORMAT}'")
        if tuple(str(name) for name in file["label_names"]) != LABELS:
            raise DataError(f"{where}: made for other labels than those of this project")
        self.version, self.card = str(file["version"]), str(file.get("card", ""))
        self.physics_names = tuple(str(name) for name in file["physics_names"])
        self.physics_units = tuple(str(name) for name in file["physics_units"])
        self.physics_reach = float(file["physics_reach"])
        self.max_c_over_o, self.fine_fwhm = float(file["max_c_over_o"]), float(file["fine_fwhm"])
        self._box = {key: np.asarray(file[key], np.float64) for key in (*_PER_LABEL, *_KNOTS)}
        self.physics_width, self.physics_nominal = file["physics_width"], file["physics_nominal"]
        self._net = [file[key].astype(np.float32) for key in _LAYERS]
        self.wavelength = {grid: file[f"{grid}_wavelength"] for grid in GRIDS}
        self.mean = {grid: file[f"{grid}_mean"].astype(np.float32) for grid in GRIDS}
        self.basis = {grid: file[f"{grid}_basis"].astype(np.float32) for grid in GRIDS}
        self._check(where)
        first = len(self.basis["apogee"])
        self._columns = {"apogee": slice(0, first), "fine": slice(first, None)}

    def _check(self, where: str) -> None:
        n_physics, biases = len(self.physics_names), self._net[1::2]
        sizes = [len(LABELS) + n_physics, *(len(bias) for bias in biases)]
        shapes = [(weight.shape, bias.shape) for weight, bias in zip(self._net[::2], biases, strict=True)]
        fits = shapes == [((a, b), (b,)) for a, b in pairwise(sizes)]
        fits &= sizes[-1] == sum(map(len, self.basis.values()))
        fits &= all(self._box[key].shape == (len(LABELS),) for key in _PER_LABEL)
        fits &= len({self._box[key].shape for key in _KNOTS}) == 1 and len(self.physics_units) == n_physics
        fits &= self.physics_width.shape == self.physics_nominal.shape == (n_physics,)
        fits &= all(self.basis[g].shape[1:] == self.mean[g].shape == self.wavelength[g].shape for g in GRIDS)
        if not fits:
            raise DataError(f"{where} is not an emulator with physics (its arrays do not fit together)")
        arrays = [*self._net, *self.mean.values(), *self.basis.values(), self.physics_width]
        arrays += [self._box[key] for key in (*_KNOTS, "label_center", "label_scale")]
        if not all(np.isfinite(array).all() for array in arrays):
            raise DataError(f"{where} is not an emulator with physics (it holds NaN or infinity)")

    def coefficients(self, labels: np.ndarray, physics: np.ndarray | None = None) -> np.ndarray:
        """What the bases are multiplied with, (n, n_apogee + n_fine); see `__call__`."""
        labels = np.asarray(labels, np.float64)
        physics = np.zeros((len(labels), len(self.physics_names))) if physics is None else np.asarray(physics)
        scaled = (labels - self._box["label_center"]) / self._box["label_scale"]
        x = np.concatenate([scaled, physics / self.physics_width], axis=1).astype(np.float32)
        w1, b1, w2, b2, w3, b3 = self._net
        for weight, bias in ((w1, b1), (w2, b2)):
            x = x @ weight + bias
            x = x / (1 + np.exp(-x))  # SiLU
        return x @ w3 + b3

    def __call__(self, labels: np.ndarray, grid: str, physics: np.ndarray | None = None) -> np.ndarray:
        """Flux (n, n_pix) on 'apogee' or 'fine'.

        Parameters
        ----------
        labels : ndarray, shape (n, 20)
            K and dex.
        physics : ndarray, shape (n, n_physics), optional
            Differences from nominal in the order and units of `physics_names` and `physics_units`; 0 if not given.

        Raises
        ------
        DataError
            For labels or physics outside the domain.
        """
        self.check_domain(labels, physics)
        coefficients = self.coefficients(labels, physics)[:, self._columns[grid]]
        return np.maximum(self.mean[grid] + coefficients @ self.basis[grid], 0)

    def gradient(self, labels: np.ndarray, grid: str, physics: np.ndarray | None = None) -> np.ndarray:
        """Derivatives of one star's flux, (20 + n_physics, n_pix): for its labels (20,), then for physics (n_physics,).

        `physics` is nominal if not given.  Raises DataError outside the domain.
        """
        deviations = np.zeros(len(self.physics_names)) if physics is None else np.asarray(physics, np.float64)
        self.check_domain(np.asarray(labels)[None], deviations[None])
        scale = np.concatenate([self._box["label_scale"], self.physics_width])
        x: np.ndarray = np.concatenate([(labels - self._box["label_center"]) / self._box["label_scale"],
                            deviations / self.physics_width]).astype(np.float32)  # fmt: skip
        w1, b1, w2, b2, w3, _ = self._net
        jacobian: np.ndarray = np.diag(1 / scale).astype(np.float32)
        for weight, bias in ((w1, b1), (w2, b2)):
            x, jacobian = x @ weight + bias, jacobian @ weight
            gate = 1 / (1 + np.exp(-x))
            jacobian *= gate * (1 + x * (1 - gate))  # d SiLU / d x
            x = x * gate
        columns = self._columns[grid]
        return jacobian @ w3[:, columns] @ self.basis[grid]

    def check_domain(self, labels: np.ndarray, physics: np.ndarray | None = None) -> None:
        """Raise DataError that names what lies outside the domain (or is not finite)."""
        labels = np.asarray(labels, np.float64)
        if labels.ndim != 2 or labels.shape[1] != len(LABELS):
            raise DataError(f"labels must have shape (n, {len(LABELS)}), not {labels.shape}")
        slack, box = 1e-3, self._box
        low, high = (np.interp(labels[:, LOGG], box["logg_knots"], box[key]) for key in ("teff_low", "teff_high"))
        bounds = [("Teff", labels[:, TEFF], low - 1, high + 1)]
        for i, name in ((LOGG, "log g"), (FE, "[Fe/H]")):
            bounds.append((name, labels[:, i], box["label_min"][i] - slack, box["label_max"][i] + slack))
        for i in (i for i in range(2, len(LABELS)) if i != FE):
            over = labels[:, i] - labels[:, FE]
            bounds.append((f"[{LABELS[i]}/Fe]", over, box["xfe_min"][i] - slack, box["xfe_max"][i] + slack))
        carbon, oxygen = LABELS.index("C"), LABELS.index("O")
        bounds.append(("[C/O]", labels[:, carbon] - labels[:, oxygen], -np.inf, self.max_c_over_o + slack))
        if physics is not None:
            if np.shape(physics) != (len(labels), len(self.physics_names)):
                raise DataError(f"physics must have shape (n, {len(self.physics_names)}), not {np.shape(physics)}")
            reach = self.physics_reach * self.physics_width * (1 + slack)
            bounds += [(n, np.asarray(physics)[:, i], -reach[i], reach[i]) for i, n in enumerate(self.physics_names)]
        for name, values, lowest, highest in bounds:
            outside = ~((values >= lowest) & (values <= highest))
            if outside.any():
                first = int(np.argmax(outside))
                raise DataError(
                    f"{outside.sum()} of {len(labels)} stars lie outside the emulator's domain: {name} is "
                    f"{values[first]:g} in star number {first}, "
                    f"{np.broadcast_to(lowest, values.shape)[first]:.4g} to "
                    f"{np.broadcast_to(highest, values.shape)[first]:.4g} is covered"
                )


def broadening(fine: np.ndarray, fine_fwhm: float, wavelength: np.ndarray, fwhm: np.ndarray) -> sparse.csr_array:
    """The matrix (n_pix, n_fine) that brings flux, mean and basis from the fine grid to a line-spread function.

    `fine` is the grid, in equal steps; `fwhm` (n_pix,) the full width at half maximum at `wavelength` (n_pix,), all in
    Angstrom.  Raises DataError if the function is too sharp.
    """
    step = fine[1] - fine[0]
    if not (fwhm**2 - fine_fwhm**2 >= (1.5 * step) ** 2).all():
        raise DataError(
            f"a line-spread function of {fwhm.min():.2f} Angstrom is too sharp for the emulator's fine grid, "
            f"{np.hypot(fine_fwhm, 1.5 * step):.2f} Angstrom; broaden the spectrum and give its new width"
        )
    sigma = np.sqrt(fwhm**2 - fine_fwhm**2) * SIGMA_PER_FWHM / step
    place = (wavelength - fine[0]) / step
    reach = int(np.ceil(_REACH * sigma.max()))
    column = np.rint(place).astype(int)[:, None] + np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * ((column - place[:, None]) / sigma[:, None]) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    row = np.repeat(np.arange(len(wavelength)), column.shape[1])
    column = column.clip(0, len(fine) - 1)
    return sparse.csr_array((weight.ravel(), (row, column.ravel())), shape=(len(wavelength), len(fine)))
