"""Ab initio spectra of red giants from their labels, and the gradients of these spectra.

A small network maps the twenty labels and the physics of the synthesis to coefficients of principal components of LTE
spectra, on APOGEE's grid and on a fine one, from which those of less sharp instruments follow.  docs/emulator.md
describes the formula and the physics.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from starclip_lib.physics.emulated import EmulatedSpectra
from starclip_lib.physics.instruments import APOGEE, Instrument, check_grid
from starclip_lib.physics.labels import ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.physics.lsf import broadening
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import damage_refused, regular_file

FORMAT = "starclip emulator 3"
GRIDS = ("apogee", "fine")  # in the order of their components
_FILE_BYTES = 256 * 2**20  # of an emulator
_SAMPLED = 1.5  # steps of the fine grid, FWHM of the narrowest kernel that it samples
_BLOCK = 512  # spectra evaluated at once: 512 x 8,575 float32 are 18 MB


class Emulator:
    """Labels and physics in, continuum-normalised flux out, for APOGEE and for any less sharp instrument.

    Parameters
    ----------
    path : str or Path
        The .npz that `starclip emulator build` writes; docs/emulator.md describes its layout.

    Attributes
    ----------
    version, card : str
        Its name, and what `starclip emulator build` wrote about it (JSON).
    fine : Instrument
        Its fine grid.
    narrowest : float
        FWHM in Angstrom of the sharpest line-spread function that follows from it.
    physics_names, physics_units : tuple of str
        The physics among its inputs, as differences from nominal.
    physics_width : ndarray, shape (n_physics,)
        Standard deviations of the priors on it; `physics_reach` of them belong to the domain.

    Raises
    ------
    DataError
        If the file is missing, is not such a file, or was made for other labels or by another version.
    """

    def __init__(self, path: str | Path):
        path = regular_file(path, "reinstall starclip or give its path", _FILE_BYTES)
        with damage_refused(path, "is not an emulator file"), np.load(path, allow_pickle=False) as file:
            self._read(file, str(path))

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Emulator:
        """From the arrays of a file, which need not have a card."""
        emulator = cls.__new__(cls)
        emulator._read(arrays, "these arrays")
        return emulator

    def _read(self, file: Mapping[str, np.ndarray], where: str) -> None:
        def real(key: str) -> np.ndarray:
            array = file[key]
            if array.dtype.kind not in "fiu":
                raise DataError(f"{where} is not an emulator file ({key} holds no real numbers)")
            return array

        if "label_names" in file and str(file.get("format")) != FORMAT:
            raise DataError(f"{where} is an emulator of another version; make one with starclip emulator build")
        names = tuple(str(name) for name in file["label_names"])
        if names != LABELS:
            raise DataError(f"{where}: made for the labels {names}, this project uses {LABELS}")
        self.version, self.card = str(file["version"]), str(file["card"]) if "card" in file else ""
        self.label_min, self.label_max = real("label_min"), real("label_max")
        self.xfe_min, self.xfe_max = real("xfe_min"), real("xfe_max")
        self.max_c_over_o = float(real("max_c_over_o"))
        self.logg_knots, self.teff_low, self.teff_high = (real(k) for k in ("logg_knots", "teff_low", "teff_high"))
        self._center, self._scale = real("label_center"), real("label_scale")
        self.physics_names = tuple(str(name) for name in file["physics_names"])
        self.physics_units = tuple(str(name) for name in file["physics_units"])
        self.physics_width, self.physics_reach = real("physics_width").astype(np.float64), float(real("physics_reach"))
        wave, fwhm = real("fine_wavelength").astype(np.float64), float(real("fine_fwhm"))
        self.fine = Instrument("fine", "fine grid", wave, 13500 / fwhm, 1.0, ((0, len(wave)),), fwhm)
        check_grid(real("apogee_wavelength"), APOGEE, f"{where}: apogee_wavelength")
        self._net = [(real(f"w{k}").astype(np.float32), real(f"b{k}").astype(np.float32)) for k in (1, 2, 3)]
        self._mean = {name: real(f"{name}_mean").astype(np.float32) for name in GRIDS}
        self._basis = {name: real(f"{name}_basis").astype(np.float32) for name in GRIDS}
        self._check_numbers(where)

    def _check_numbers(self, where: str) -> None:
        """Raise DataError unless the arrays fit together and are finite."""
        n_physics = len(self.physics_names)
        sizes = [len(LABELS) + n_physics, *(len(bias) for _, bias in self._net)]
        shapes = [(weight.shape, bias.shape) for weight, bias in self._net]
        wanted = [((a, b), (b,)) for a, b in pairwise(sizes)]
        per_label = (self.label_min, self.label_max, self.xfe_min, self.xfe_max, self._center, self._scale)
        limits = (self.logg_knots, self.teff_low, self.teff_high)
        arrays = [*per_label, *limits, *(array for layer in self._net for array in layer)]
        arrays += [*self._mean.values(), *self._basis.values(), self.physics_width, self.fine.wavelength]
        fits = shapes == wanted and sizes[-1] == sum(map(len, self._basis.values()))
        fits &= all(a.shape == (len(LABELS),) for a in per_label)
        fits &= self.logg_knots.ndim == 1 and len({a.shape for a in limits}) == 1 and self.logg_knots.size > 1
        for name, grid in zip(GRIDS, (APOGEE, self.fine), strict=True):
            fits &= self._basis[name].shape[1:] == self._mean[name].shape == grid.wavelength.shape
        fits &= self.physics_width.shape == (n_physics,) and len(self.physics_units) == n_physics
        if not fits:
            raise DataError(f"{where} is not an emulator file (its arrays do not fit together)")
        # [Fe/Fe] and what is not an abundance have no bounds, and may be NaN
        if not all(
            np.isfinite(array).all() for array in arrays if array is not self.xfe_min and array is not self.xfe_max
        ):
            raise DataError(f"{where} is not an emulator file (it holds NaN or infinity)")
        if not ((np.diff(self.logg_knots) > 0).all() and (self.teff_low < self.teff_high).all()):
            raise DataError(f"{where} is not an emulator file (its limits of Teff are not in order)")
        steps = np.diff(self.fine.wavelength)
        if not (steps > 0).all() or not np.allclose(steps, steps[0], rtol=1e-3) or not self.fine.constant_fwhm > 0:
            raise DataError(f"{where} is not an emulator file (its fine grid has no equal steps)")

    @property
    def narrowest(self) -> float:
        """FWHM in Angstrom of the sharpest line-spread function that follows from the fine grid."""
        wave = self.fine.wavelength
        return float(np.hypot(self.fine.constant_fwhm, _SAMPLED * (wave[1] - wave[0])))

    @lru_cache(maxsize=4)  # noqa: B019 - emulators are few and live as long as the process
    def _on(self, instrument: Instrument) -> tuple[np.ndarray, np.ndarray, slice]:
        """Mean, basis and the columns of their coefficients."""
        first = len(self._basis["apogee"])
        if instrument is APOGEE:
            return self._mean["apogee"], self._basis["apogee"], slice(0, first)
        columns = slice(first, None)
        if instrument is self.fine:
            return self._mean["fine"], self._basis["fine"], columns
        fine, fwhm = self.fine, instrument.fwhm
        if fwhm.min() < self.narrowest or not fine.wavelength[0] < instrument.wavelength[0]:
            raise DataError(
                f"the emulator {self.version} has no spectra for {instrument.title}: too sharp, or too blue"
            )
        matrix = broadening(fine.wavelength, fine.constant_fwhm, instrument.wavelength, fwhm)
        mean, basis = matrix @ self._mean["fine"], (matrix @ self._basis["fine"].T).T
        return mean.astype(np.float32), basis.astype(np.float32), columns

    def on(self, instrument: Instrument) -> EmulatedSpectra:
        """The emulator on an instrument's grid, for tensors; each call makes one, which may move to a device.

        Raises
        ------
        DataError
            If it has no spectra for this instrument.
        """
        mean, basis, columns = self._on(instrument)
        (w1, b1), (w2, b2), (w3, b3) = self._net
        low, high = self.xfe_min.astype(np.float64), self.xfe_max.astype(np.float64)
        for i in (LOGG, FE):
            low[i], high[i] = self.label_min[i], self.label_max[i]
        arrays: dict[str, np.ndarray] = {
            "center": np.concatenate([self._center, np.zeros(len(self.physics_names))]).astype(np.float64),
            "scale": np.concatenate([self._scale, self.physics_width]).astype(np.float64),
            "w1": w1,
            "b1": b1,
            "w2": w2,
            "b2": b2,
            "w3": w3[:, columns],
            "b3": b3[columns],
            "basis": basis,
            "mean": mean,
            "knots": np.stack([self.logg_knots, self.teff_low, self.teff_high]).astype(np.float64),
            "lowest": low,
            "highest": high,
            "physics_limit": self.physics_reach * self.physics_width,
        }
        return EmulatedSpectra(arrays, self.version, self.max_c_over_o)

    def mean_spectrum(self, instrument: Instrument) -> np.ndarray:
        """Mean of the spectra it was fitted to."""
        return self._on(instrument)[0]

    @property
    def center(self) -> np.ndarray:
        """Labels (20,) in the middle of its domain."""
        return self._center.astype(np.float64)

    @torch.no_grad()
    def __call__(self, labels: np.ndarray, instrument: Instrument, physics: np.ndarray | None = None) -> np.ndarray:
        """Spectra (n, n_pix) of labels (n, 20) in K and dex, relative to the true continuum.

        `physics` (n, n_physics) are differences from nominal in the order and units of `physics_names`; 0 if not given.

        Raises
        ------
        DataError
            For labels or physics outside the domain the emulator was trained on.
        """
        labels = self._inputs(labels, physics)
        emulated = self._kept(instrument)
        blocks = torch.from_numpy(labels).split(_BLOCK)
        return (
            np.concatenate([emulated(block).numpy() for block in blocks])
            if len(labels)
            else np.empty((0, instrument.n_pix), np.float32)
        )

    @torch.no_grad()
    def gradient(self, labels: np.ndarray, instrument: Instrument) -> np.ndarray:
        """Derivatives d flux / d label (20, n_pix) of one star."""
        inputs, emulated = self._inputs(np.asarray(labels)[None], None), self._kept(instrument)
        _, slope = emulated.linearised(torch.from_numpy(inputs), torch.from_numpy(np.eye(len(LABELS))))
        return (slope[0] @ emulated.basis).numpy()

    @lru_cache(maxsize=3)  # noqa: B019 - emulators are few and live as long as the process
    def _kept(self, instrument: Instrument) -> EmulatedSpectra:
        return self.on(instrument)

    def _inputs(self, labels: np.ndarray, physics: np.ndarray | None) -> np.ndarray:
        labels = np.asarray(labels, np.float64)
        self.check_domain(labels)
        if physics is None:
            return labels
        shape = (len(labels), len(self.physics_names))
        if np.shape(physics) != shape:
            raise DataError(f"physics must have shape {shape}, not {np.shape(physics)}")
        limit = self.physics_reach * self.physics_width * (1 + 1e-4)
        for name, values, most in zip(self.physics_names, np.transpose(physics), limit, strict=True):
            if (outside := ~(np.abs(values) <= most)).any():
                first = int(np.argmax(outside))
                raise DataError(
                    f"{outside.sum()} of {len(labels)} stars lie outside the emulator's domain: {name} is "
                    f"{values[first]:g} in star number {first}; up to {most:.3g} from nominal is covered"
                )
        return np.concatenate([labels, physics], axis=1)

    def teff_limits(self, logg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest Teff of the domain, which depend on log g: no stars live outside them."""
        low, high = (np.interp(logg, self.logg_knots, limit) for limit in (self.teff_low, self.teff_high))
        return low, high

    def inside_domain(self, labels: np.ndarray) -> np.ndarray:
        """Which labels lie inside the box the emulator was trained on."""
        return ~np.any([outside for _, outside in self._violations(np.asarray(labels, np.float64))], axis=0)

    def check_domain(self, labels: np.ndarray) -> None:
        """Raise DataError, naming the first label that lies outside the training box (or is not finite)."""
        for what, outside in self._violations(labels):
            if outside.any():
                raise DataError(
                    f"{outside.sum()} of {len(labels)} stars lie outside the emulator's domain: {what} "
                    f"(the first is star number {int(np.argmax(outside))})"
                )

    def _violations(self, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        if labels.ndim != 2 or labels.shape[1] != len(LABELS):
            raise DataError(f"labels must have shape (n, {len(LABELS)}), not {labels.shape}")
        slack = 1e-4  # relative: labels are stored in float32
        iron = labels[:, FE]
        for i, name in ((LOGG, "logg"), (FE, "[Fe/H]")):
            yield _outside(labels[:, i], self.label_min[i], self.label_max[i], name, slack)
        (low, high), teff = self.teff_limits(labels[:, LOGG]), labels[:, TEFF]
        outside = ~((teff >= low * (1 - slack)) & (teff <= high * (1 + slack)))
        first = int(np.argmax(outside)) if len(labels) else 0
        where = f"{low[first]:.0f} and {high[first]:.0f} K at logg {labels[first, LOGG]:.2f}" if len(labels) else ""
        yield f"Teff must be between {where}", outside
        for i, element in enumerate(
            ELEMENTS, start=2
        ):  # the box is one of [X/Fe]; [X/H] alone would bound a larger one
            if i != FE:
                yield _outside(labels[:, i] - iron, self.xfe_min[i], self.xfe_max[i], f"[{element}/Fe]", slack)
        c_over_o = labels[:, LABELS.index("C")] - labels[:, LABELS.index("O")]
        yield f"[C/O] must be below {self.max_c_over_o:g} (no carbon stars)", ~(c_over_o <= self.max_c_over_o + slack)


def _outside(x: np.ndarray, low: float, high: float, name: str, slack: float) -> tuple[str, np.ndarray]:
    room = slack * max(1.0, abs(high))
    return f"{name} must be between {low:g} and {high:g}", ~((x >= low - room) & (x <= high + room))


@cache
def default_emulator() -> Emulator:
    """The emulator that comes with the package, or that of the file STARCLIP_EMULATOR names; read once.

    Models know which emulator they were made with and refuse another, so this is for comparing emulators on real stars.

    Returns
    -------
    Emulator

    Raises
    ------
    DataError
        If the file is missing or none.
    """
    if given := os.environ.get("STARCLIP_EMULATOR"):
        return Emulator(regular_file(given))
    with as_file(files(__package__) / "emulator.npz") as path:
        return Emulator(path)
