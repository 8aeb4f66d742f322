"""Worlds: observed spectra by a physics that differs from theory as that of real stars does.

A world has one physics for all of its stars, a microturbulence for each star, errors of single lines that are smooth in
the labels, and line-spread functions that are off by some per cent. docs/worlds.md has the calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d

from starclip_lib.physics.emulator import Emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM, SPEED_OF_LIGHT, Instrument, on_chips
from starclip_lib.physics.labels import FE, TEFF
from starclip_lib.physics.lsf import broadening
from starclip_lib.settings.data import WorldParams
from starclip_lib.support.errors import DataError

_LINE_SPACING = 1.0  # Angstrom between places whose errors are independent: about one line
_WITH_LABELS = 0.3  # of the size of an error: by how much it changes with a label, from one standard deviation to two
_CENTRE = ((TEFF, 4500.0, 200.0), (FE, -0.4, 0.4))  # labels with which errors change: mean and standard deviation
_CORRELATED = 1.5  # pixels: standard deviation of the kernel that correlates noise
_BLOCK = 256  # spectra made at once: 256 x 18,161 float64 are 37 MB


@dataclass(frozen=True, eq=False)
class World:
    """What the observed spectra of a data set are made with.

    Raises DataError if the emulator has no physics, or the settings leave its domain.
    """

    emulator: Emulator
    settings: WorldParams
    seed: int

    def __post_init__(self) -> None:
        names = self.emulator.physics_names
        if not names:
            raise DataError(
                f"data.world: {self.emulator.version} has no physics among its inputs; set STARCLIP_EMULATOR to the "
                "file of an emulator that has, or data.world to theory"
            )
        limit = dict(zip(names, self.emulator.physics_reach * self.emulator.physics_width, strict=True))
        for name, value in self.settings.fixed.items():
            if name not in limit:
                raise DataError(f"data.world.fixed: unknown physics '{name:.40}'; choose from {', '.join(names)}")
            if abs(value) > limit[name]:
                raise DataError(
                    f"data.world.fixed: {name} {value:g} leaves the domain of {self.emulator.version}; "
                    f"differences up to {limit[name]:.3g} are covered"
                )

    @cached_property
    def physics(self) -> np.ndarray:
        """Differences (n_physics,) from nominal that all stars share, drawn from the emulator's priors."""
        width, reach = self.emulator.physics_width, self.emulator.physics_reach
        draw = self._rng(0).standard_normal(len(width)) * self.settings.physics
        physics = np.clip(draw, -reach, reach) * width
        for name, value in self.settings.fixed.items():
            physics[self.emulator.physics_names.index(name)] = value
        return physics

    def physics_of(self, n_stars: int) -> np.ndarray:
        """Physics (n_stars, n_physics) of each star: that of the world, and a microturbulence of its own."""
        limit = self.emulator.physics_reach * self.emulator.physics_width
        physics = np.tile(self.physics, (n_stars, 1))
        if "vmic" in self.emulator.physics_names:
            column = self.emulator.physics_names.index("vmic")
            physics[:, column] += self.settings.vmic_scatter * self._rng(1).standard_normal(n_stars)
        return np.clip(physics, -limit, limit)

    @cached_property
    def lsf(self) -> dict[str, float]:
        """Width of each instrument's line-spread function over the stated one."""
        draw = self._rng(2).standard_normal(2)
        return {
            name: float(1 + self.settings.lsf_error * x) for name, x in zip(("apogee", "nirspec"), draw, strict=True)
        }

    def line_errors(self, wavelength: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Relative errors (n, n_pix) of the depth of lines: independent from line to line, smooth in the labels."""
        size = np.where(on_chips(wavelength), self.settings.line_error_chips, self.settings.line_error_outside)
        rows = np.stack([np.interp(wavelength, self._places, row) for row in self._lines]) * size
        terms = [np.clip((labels[:, i] - mean) / std, -2.5, 2.5) for i, mean, std in _CENTRE]
        return rows[0] + _WITH_LABELS * (terms[0][:, None] * rows[1] + terms[1][:, None] * rows[2])

    def __call__(self, labels: np.ndarray, instrument: Instrument, physics: np.ndarray) -> np.ndarray:
        """Noiseless spectra (n, n_pix) of true labels (n, 20) and physics of stars, as an instrument sees them."""
        return np.concatenate(
            [
                self._block(labels[rows : rows + _BLOCK], instrument, physics[rows : rows + _BLOCK])
                for rows in range(0, len(labels), _BLOCK)
            ]
        )

    def _block(self, labels: np.ndarray, instrument: Instrument, physics: np.ndarray) -> np.ndarray:
        width = self.lsf[instrument.name]
        if instrument is APOGEE:  # its own grid is sharper than the fine one
            flux = self._wrong_lines(self.emulator(labels, APOGEE, physics), APOGEE.wavelength, labels)
            return broadened(flux, APOGEE, width)
        fine = self.emulator.fine
        flux = self._wrong_lines(self.emulator(labels, fine, physics), fine.wavelength, labels)
        matrix = broadening(fine.wavelength, fine.constant_fwhm, instrument.wavelength, instrument.fwhm * width)
        return (matrix @ flux.T).T.astype(np.float32)

    def _wrong_lines(self, flux: np.ndarray, wavelength: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.maximum(1 - (1 - flux) * (1 + self.line_errors(wavelength, labels)), 0)

    def correlated_noise(self, n_stars: int, instrument: Instrument, key: int) -> np.ndarray:
        """Noise (n_stars, n_pix) that neighbouring pixels share, such as flat fields and fringes leave."""
        white = np.random.default_rng([*self._key, 3, key]).standard_normal((n_stars, instrument.n_pix), np.float32)
        smooth = gaussian_filter1d(white, _CORRELATED, axis=1)
        return smooth * (self.settings.correlated_noise * np.sqrt(2 * np.sqrt(np.pi) * _CORRELATED))

    @cached_property
    def _places(self) -> np.ndarray:
        ends = [f(f(grid.wavelength[[0, -1]]) for grid in (APOGEE, NIRSPEC, self.emulator.fine)) for f in (min, max)]
        return np.arange(ends[0], ends[1] + _LINE_SPACING, _LINE_SPACING)

    @cached_property
    def _lines(self) -> np.ndarray:
        return self._rng(4).standard_normal((3, len(self._places)))

    @property
    def _key(self) -> tuple[int, int]:
        return (self.settings.seed, self.seed)

    def _rng(self, number: int) -> np.random.Generator:
        # what is common to all stars is the world's; what each star has for itself, also the survey's
        return np.random.default_rng([*self._key, number] if number == 1 else [self.settings.seed, number])


def broadened(flux: np.ndarray, instrument: Instrument, width: float) -> np.ndarray:
    """Spectra on a grid of log wavelength with a Gaussian line-spread function `width` times as wide."""
    step = np.log(instrument.wavelength[1] / instrument.wavelength[0]) * SPEED_OF_LIGHT
    sigma = SPEED_OF_LIGHT / instrument.resolution * SIGMA_PER_FWHM / step  # pixels
    k = 2 * np.pi * np.fft.rfftfreq(instrument.n_pix)
    factor = np.exp(-0.5 * sigma**2 * (width**2 - 1) * k**2)
    return (np.fft.irfft(np.fft.rfft(flux - 1.0, axis=1) * factor, n=instrument.n_pix, axis=1) + 1.0).astype(np.float32)
