"""Surface gravity from luminosity and effective temperature from colour: published relations for giants.

Magnitudes are in the Vega system. BC_V as a function of Teff and [Fe/H]: Alonso et al. (1999, A&AS 140, 261, equations
17 and 18), whose Sun has BC_V = -0.12 and M_V = 4.82. Colours as a function of Teff and [Fe/H]: González Hernández and
Bonifacio (2009, A&A 497, 497) for V-J, V-H, V-Ks and J-Ks, Mucciarelli et al. (2021, A&A 653, A90) for BP-RP.
Extinction: Cardelli et al. (1989, ApJ 345, 245) with R_V = 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOGG_SUN, TEFF_SUN = 4.438, 5772.0
M_BOL_SUN = 4.70  # 4.82 - 0.12, the zero point of the bolometric corrections
MASS, MASS_ERROR = 1.0, 0.3  # of the Sun: 0.8 to 2.2 on the giant branch at ages from 13 to 1 Gyr


@dataclass(frozen=True)
class Band:
    """A band whose bolometric correction is known: wavelength in micron, error of the correction in magnitudes."""

    wavelength: float
    error: float


@dataclass(frozen=True)
class Colour:
    """5040 K / Teff = b0 + b1 C + b2 C^2 + b3 C [Fe/H] + b4 [Fe/H] + b5 [Fe/H]^2.

    `wavelengths` are those of both bands in micron, `valid` the range of the colour, `error` that of Teff in K.
    """

    wavelengths: tuple[float, float]
    valid: tuple[float, float]
    error: float
    b: tuple[float, float, float, float, float, float]

    def teff(self, colour: float, feh: float) -> float:
        """Effective temperature at an intrinsic colour."""
        b = self.b
        theta = b[0] + b[1] * colour + b[2] * colour**2 + b[3] * colour * feh + b[4] * feh + b[5] * feh**2
        return float(5040 / theta)

    def colour(self, teff: float, feh: float) -> float:
        """The intrinsic colour of an effective temperature."""
        b = self.b
        square, linear = b[2], b[1] + b[3] * feh
        constant = b[0] + b[4] * feh + b[5] * feh**2 - 5040 / teff
        return float((-linear + np.sqrt(linear**2 - 4 * square * constant)) / (2 * square))


_V, _J, _H, _KS, _BP, _RP = 0.545, 1.235, 1.662, 2.159, 0.511, 0.777
# Errors of the relations of González Hernández and Bonifacio are adopted here; that of BP-RP is the published scatter.
COLOURS = {
    "J-Ks": Colour((_J, _KS), (0.1, 0.9), 100.0, (0.6517, 0.6312, 0.0168, -0.0381, 0.0256, 0.0013)),
    "V-J": Colour((_V, _J), (1.0, 2.4), 60.0, (0.4629, 0.4124, -0.0417, -0.0012, 0.0094, 0.0013)),
    "V-H": Colour((_V, _H), (0.8, 3.1), 60.0, (0.5321, 0.2649, -0.0146, -0.0069, 0.0211, 0.0009)),
    "V-Ks": Colour((_V, _KS), (1.1, 3.4), 60.0, (0.5293, 0.2489, -0.0119, -0.0042, 0.0135, 0.0010)),
    "BP-RP": Colour((_BP, _RP), (0.33, 1.81), 83.0, (0.5323, 0.4775, -0.0344, -0.0009, -0.0110, -0.0020)),
}
# Bands between those of 2MASS: the correction is interpolated linearly in wavelength.
BANDS = {
    "J": Band(_J, 0.05),
    "H": Band(_H, 0.05),
    "Ks": Band(_KS, 0.05),
    **{
        name: Band(wavelength, 0.10)
        for name, wavelength in {
            "F110W": 1.153, "F115W": 1.154, "F125W": 1.249, "F140M": 1.405, "F140W": 1.392, "F150W": 1.501,
            "F160W": 1.537, "F162M": 1.627, "F182M": 1.845, "F200W": 1.990, "F210M": 2.096,
        }.items()
    },
}  # fmt: skip


def bolometric_correction(band: Band, teff: float, feh: float) -> float:
    """What is added to a magnitude of a giant to give the bolometric magnitude."""
    x = np.log10(teff) - 3.52
    if x < 0.14:
        visual = -0.05531 / x - 0.6177 + 4.420 * x - 2.669 * x**2
        visual += 0.6943 * x * feh - 0.1071 * feh - 8.612e-3 * feh**2
    else:
        visual = -0.0993 / x + 0.02887 + 2.275 * x - 4.425 * x**2
        visual += 0.3505 * x * feh - 5.558e-2 * feh - 5.375e-3 * feh**2
    known = [0.0, *(COLOURS[name].colour(teff, feh) for name in ("V-J", "V-H", "V-Ks"))]
    return float(visual + np.interp(band.wavelength, (_V, _J, _H, _KS), known))


def extinction_ratio(wavelength: float) -> float:
    """Extinction at a wavelength in micron over that in V; Cardelli et al. (1989), R_V = 3.1."""
    x = 1 / wavelength
    if x < 1.1:
        return float((0.574 - 0.527 / 3.1) * x**1.61)
    y = x - 1.82
    a = np.polyval((0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1.0), y)
    b = np.polyval((-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0.0), y)
    return float(a + b / 3.1)


def reddening(colour: str) -> float:
    """Colour excess over extinction in V."""
    blue, red = map(extinction_ratio, COLOURS[colour].wavelengths)
    return blue - red


def surface_gravity(teff: float, mass: float, bolometric: float) -> float:
    """Surface gravity log g of a star with an effective temperature in K, a mass in that of the Sun, and M_bol."""
    return float(LOGG_SUN + np.log10(mass) + 4 * np.log10(teff / TEFF_SUN) + 0.4 * (bolometric - M_BOL_SUN))
