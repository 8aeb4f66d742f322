"""The embedded data set: a population of red giants, seen by APOGEE and computed ab initio for NIRSpec.

What is real and what is not: the spectra are LTE syntheses through the emulator, the population is a model whose shape
was fitted to DR12 giants and whose spreads follow the published ones, and the APOGEE spectra are made to look observed.
As in the paper, a NIRSpec spectrum is computed at the *catalogue* labels of a star, while APOGEE sees its *true* ones.
"""

from __future__ import annotations

import numpy as np

from starclip_lib.data.emulator import Emulator, default_emulator
from starclip_lib.data.instruments import APOGEE, NIRSPEC, SIGMA_PER_FWHM, SPEED_OF_LIGHT
from starclip_lib.data.labels import ASPCAP_ERROR, ELEMENTS, FE, LABELS, LOGG, TEFF
from starclip_lib.data.selection import inside_cuts, split_by_star
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.errors import DataError
from starclip_lib.settings.data import DataParams, ObservationParams

# [Fe/H] as a mixture: weight, mean and standard deviation of the alpha-poor disc, the alpha-rich disc and the halo, and
# the alpha enhancement of each as value at that mean and slope with [Fe/H].
_WEIGHT = np.array([0.62, 0.31, 0.07])
_FEH_MEAN = np.array([-0.17, -0.47, -1.10])
_FEH_SIGMA = np.array([0.19, 0.22, 0.32])
_ALPHA = np.array([0.055, 0.23, 0.22])
_ALPHA_SLOPE = np.array([-0.10, -0.16, -0.05])
_ALPHA_SCATTER = 0.025

# log g = low + (high - low) * Beta(a, b): few stars near the tip of the branch, most near the red clump's side.
_LOGG_BETA = (4.3, 1.9)

# Giant branch, fitted to 1,103 DR12 giants of the paper's domain (scatter 61 K): coefficients of 1, log g, [Fe/H],
# log g squared and log g times [Fe/H].
_GIANT_BRANCH = np.array([3510.3, 381.7, -266.2, 33.19, 36.16])
_TEFF_SCATTER = 70.0  # K

# [X/Fe] = offset + slope [Fe/H] + loading * alpha enhancement + scatter (dex); the slopes make the spread of [X/H] the
# published one.
_ABUNDANCES = {
    "C": (-0.09, 0.18, 0.55, 0.08),
    "N": (0.18, 0.09, 0.00, 0.09),
    "O": (0.00, -0.01, 1.00, 0.05),
    "Na": (0.00, 0.11, 0.10, 0.12),
    "Mg": (0.00, 0.03, 1.00, 0.03),
    "Al": (0.03, 0.10, 0.90, 0.09),
    "Si": (0.00, -0.05, 0.75, 0.04),
    "S": (0.05, -0.15, 0.80, 0.06),
    "K": (0.00, -0.01, 0.70, 0.09),
    "Ca": (0.00, -0.08, 0.55, 0.035),
    "Ti": (0.00, 0.23, 0.80, 0.10),
    "V": (0.00, 0.04, 0.50, 0.10),
    "Cr": (-0.02, 0.11, 0.00, 0.06),
    "Mn": (0.02, 0.23, -0.35, 0.04),
    "Fe": (0.00, 0.00, 0.00, 0.00),
    "Co": (0.00, 0.22, 0.45, 0.06),
    "Ni": (0.01, 0.03, 0.15, 0.03),
    "Ce": (0.00, -0.09, -0.35, 0.17),
}
# Mixing on the giant branch turns carbon into nitrogen, more so higher up and in metal-poor stars.
_MIXING_SCATTER = 0.04
_MIXED = {"C": -1.0, "N": 1.3}


def draw_population(n_stars: int, logg_range: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """True labels of a red-giant population, before any selection.

    Parameters
    ----------
    n_stars : int
    logg_range : tuple of float
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (n_stars, 20)
        In K and dex.
    """
    component = rng.choice(len(_WEIGHT), n_stars, p=_WEIGHT / _WEIGHT.sum())
    feh = rng.normal(_FEH_MEAN[component], _FEH_SIGMA[component])
    alpha = _ALPHA[component] + _ALPHA_SLOPE[component] * (feh - _FEH_MEAN[component])
    alpha += rng.normal(0, _ALPHA_SCATTER, n_stars)
    low, high = logg_range
    logg = low + (high - low) * rng.beta(*_LOGG_BETA, n_stars)
    teff = np.stack([np.ones(n_stars), logg, feh, logg**2, logg * feh], axis=1) @ _GIANT_BRANCH
    teff += rng.normal(0, _TEFF_SCATTER, n_stars)
    mixing = np.maximum(2 - logg, 0) * np.clip(0.04 - 0.22 * feh, 0.02, 0.4) + rng.normal(0, _MIXING_SCATTER, n_stars)

    labels = np.empty((n_stars, len(LABELS)))
    labels[:, TEFF], labels[:, LOGG] = teff, logg
    for column, element in enumerate(ELEMENTS, start=2):
        offset, slope, loading, scatter = _ABUNDANCES[element]
        over_iron = offset + slope * feh + loading * alpha + _MIXED.get(element, 0.0) * mixing
        labels[:, column] = feh + over_iron + scatter * rng.standard_normal(n_stars)
    return labels


def catalogue_errors(n_stars: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """ASPCAP uncertainties: the mean ones, better and worse by a log-normal factor of mean 1 for each star.

    Parameters
    ----------
    n_stars : int
    spread : float
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_stars, 20)
    """
    quality = rng.lognormal(-(spread**2) / 2, spread, n_stars)  # mean 1
    return ASPCAP_ERROR * quality[:, None]


def perturb(labels: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Catalogue labels: the truth plus errors drawn as ASPCAP makes them.

    The error of [X/H] is that of [X/Fe] and that of [Fe/H] in quadrature, so all [X/H] of a star share the latter.

    Parameters
    ----------
    labels, errors : ndarray, shape (n, 20)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, 20)
    """
    draw = rng.standard_normal(labels.shape)
    noise = errors * draw
    iron = noise[:, FE]
    for column in range(2, len(LABELS)):
        if column != FE:
            own = np.sqrt(np.maximum(errors[:, column] ** 2 - errors[:, FE] ** 2, 0))
            noise[:, column] = own * draw[:, column] + iron
    return labels + noise


# Airglow OH lines that leave residuals in the H band (vacuum Angstrom, to 1 Angstrom), and rotational bands of the
# molecules that absorb there: band origin and rotational constant [1/cm], step in J between lines.
_OH_LINES = np.array(
    [15187, 15241, 15288, 15332, 15395, 15432, 15510, 15540, 15546, 15598, 15631, 15655, 15703, 15833, 15848]
    + [15869, 15973, 16031, 16080, 16129, 16195, 16235, 16317, 16351, 16389, 16442, 16476, 16502, 16554, 16689]
    + [16709, 16733, 16841, 16904, 16955]
)  # fmt: skip
_TELLURIC_BANDS = {"CO2": ((6227.9, 6347.9), 0.390, 2), "CH4": ((6005.0,), 5.24, 1)}
_AIR_TEMPERATURE = 180.0  # K / (h c / k) in 1/cm: 260 K


def sky_pattern() -> tuple[np.ndarray, np.ndarray]:
    """Shapes of the residuals that sky subtraction and telluric correction leave, the same for every star.

    Returns
    -------
    emission : ndarray, shape (n_lines, 8575)
        One OH line each, with maxima of 1.
    absorption : ndarray, shape (n_molecules, 8575)
        With maxima of 1.
    """
    sigma = APOGEE.wavelength / APOGEE.resolution * SIGMA_PER_FWHM

    def profiles(centres: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((APOGEE.wavelength - centres[:, None]) / sigma) ** 2)

    bands = []
    for origins, constant, step in _TELLURIC_BANDS.values():
        lower = np.arange(0, 40, step)  # rotational quantum number of the lower state
        strength = (2 * lower + 1) * np.exp(-constant * lower * (lower + 1) / _AIR_TEMPERATURE)
        branches = np.concatenate([2 * constant * (lower + 1), -2 * constant * lower])  # R and P of a rigid rotor
        lines = [(np.tile(strength, 2) / strength.max()) @ profiles(1e8 / (origin + branches)) for origin in origins]
        bands.append(np.sum(lines, axis=0))
    absorption = np.array(bands)
    return profiles(_OH_LINES), absorption / absorption.max(axis=1, keepdims=True)


def shift_and_broaden(flux: np.ndarray, velocity: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Spectra on APOGEE's grid with another radial velocity and another line-spread function.

    A Doppler shift is a translation on a grid of log wavelength and a Gaussian's width is a factor in Fourier space, so
    both are exact up to the ends of the grid, which lie off the chips.

    Parameters
    ----------
    flux : ndarray, shape (n, 8575)
        With the line-spread function of `APOGEE.resolution`.
    velocity : ndarray, shape (n,)
        km/s, positive to the red.
    width : ndarray, shape (n,)
        Factor on the width of the line-spread function, close to 1 (it may be narrower).

    Returns
    -------
    ndarray, shape (n, 8575)
    """
    step = np.log(APOGEE.wavelength[1] / APOGEE.wavelength[0]) * SPEED_OF_LIGHT  # km/s per pixel
    sigma = SPEED_OF_LIGHT / APOGEE.resolution * SIGMA_PER_FWHM / step  # pixels
    k = 2 * np.pi * np.fft.rfftfreq(APOGEE.n_pix)
    change = 0.5 * sigma**2 * (width[:, None] ** 2 - 1) * k**2 + 1j * (velocity[:, None] / step) * k
    return np.fft.irfft(np.fft.rfft(flux - 1.0, axis=1) * np.exp(-change), n=APOGEE.n_pix, axis=1) + 1.0


def draw_snr(n_stars: int, settings: ObservationParams, rng: np.random.Generator) -> np.ndarray:
    """Signal-to-noise ratios per pixel: a power law between the survey's cut and its brightest stars.

    Parameters
    ----------
    n_stars : int
    settings : ObservationParams
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n_stars,)
    """
    low, high, index = settings.snr_min, settings.snr_max, settings.snr_index
    bottom = (high / low) ** -index
    return low * (1 - rng.random(n_stars) * (1 - bottom)) ** (-1 / index)


def observe_apogee(
    flux: np.ndarray, snr: np.ndarray, settings: ObservationParams, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Make ideal APOGEE spectra look like reduced ones.

    Parameters
    ----------
    flux : ndarray, shape (n, 8575)
        Relative to the continuum.
    snr : ndarray, shape (n,)
        Per pixel.
    settings : ObservationParams
    rng : numpy.random.Generator

    Returns
    -------
    flux, ivar : ndarray, shape (n, 8575)
        float32, 0 where there is no data.
    """
    n, n_pix = flux.shape
    out = np.empty((n, n_pix), np.float32)
    emission, absorption = sky_pattern()
    for start in range(0, n, 256):  # keeps the complex intermediates below 20 MB each
        rows = slice(start, min(start + 256, n))
        m = rows.stop - start
        velocity = rng.normal(0, settings.rv_residual, m)
        width = 1 + rng.normal(0, settings.lsf_residual, m)
        block = shift_and_broaden(flux[rows], velocity, width)
        block += settings.sky_residual * rng.standard_normal((m, len(emission))) @ emission
        block -= settings.telluric_residual * rng.standard_normal((m, len(absorption))) @ absorption
        block += rng.standard_normal((m, n_pix)) / snr[rows, None]
        out[rows] = block
    ivar = np.repeat((snr**2).astype(np.float32)[:, None], n_pix, axis=1)
    empty = ~APOGEE.covered | (rng.random((n, n_pix), dtype=np.float32) < settings.bad_pixels)
    out[empty], ivar[empty] = APOGEE.no_data, 0
    return out, ivar


def simulate_survey(
    n_stars: int, seed: int, settings: DataParams | None = None, emulator: Emulator | None = None
) -> PairedSpectra:
    """The embedded data set: `n_stars` red giants with catalogue labels, APOGEE and ab initio NIRSpec spectra.

    Stars are drawn until enough have catalogue labels inside the cuts and both label sets inside the emulator's domain.
    Peak memory is about 160 kB a star.

    Parameters
    ----------
    n_stars, seed : int
    settings : DataParams, optional
        The defaults if not given.
    emulator : Emulator, optional
        The default one if not given.

    Returns
    -------
    PairedSpectra

    Raises
    ------
    DataError
        If the cuts leave almost nothing.
    """
    settings, emulator = settings or DataParams(), emulator or default_emulator()
    rng = np.random.default_rng(seed)
    truth, catalogue, errors = _draw_stars(n_stars, settings, emulator, rng)
    snr = draw_snr(n_stars, settings.apogee, rng)
    apogee, ivar = observe_apogee(emulator(truth, APOGEE), snr, settings.apogee, rng)
    nirspec = emulator(catalogue, NIRSPEC)
    star_id = np.array([f"SIM{number:06d}" for number in range(n_stars)])
    return PairedSpectra(
        star_id=star_id,
        labels=catalogue.astype(np.float32),
        label_errors=errors.astype(np.float32),
        split=split_by_star(star_id, settings.split, rng),
        apogee=SpectrumSet(APOGEE, apogee, mask=ivar == 0, ivar=ivar),
        nirspec=SpectrumSet(NIRSPEC, nirspec, mask=np.zeros(nirspec.shape, bool)),
        source="simulate",
        seed=seed,
        provenance={"emulator": emulator.version, "settings": settings.model_dump(mode="json")},
    )


def _draw_stars(
    n_stars: int, settings: DataParams, emulator: Emulator, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kept: list[tuple[np.ndarray, ...]] = []
    while sum(len(part[0]) for part in kept) < n_stars:
        truth = draw_population(2 * n_stars + 100, settings.logg_range, rng)
        errors = catalogue_errors(len(truth), settings.error_spread, rng)
        catalogue = perturb(truth, errors, rng)
        keep = emulator.inside_domain(truth) & emulator.inside_domain(catalogue)
        keep &= np.all(list(inside_cuts(catalogue, settings).values()), axis=0)
        if keep.mean() < 0.01:
            raise DataError(
                f"the cuts data.teff_range {settings.teff_range}, data.logg_range {settings.logg_range} and "
                f"data.feh_range {settings.feh_range} keep only {keep.mean():.2%} of the population; widen them"
            )
        kept.append((truth[keep], catalogue[keep], errors[keep]))
    truth, catalogue, errors = (np.concatenate(parts)[:n_stars] for parts in zip(*kept, strict=True))
    return truth, catalogue, errors
