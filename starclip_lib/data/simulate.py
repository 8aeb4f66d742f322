"""The embedded data set: a population of red giants, seen by APOGEE and computed ab initio for NIRSpec.

What is real and what is not: the spectra are LTE syntheses through the emulator, the population is a model whose shape
was fitted to DR12 giants and whose spreads follow the published ones, and the APOGEE spectra are made to look observed.
As in the paper, a NIRSpec spectrum is computed at the *catalogue* labels of a star, while APOGEE sees its *true* ones.
In a realistic world (`data.worlds`) APOGEE is observed in that world, and so are NIRSpec spectra of the test stars,
which stand beside the computed ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from starclip_lib.data.apogee_mock import BLOCK, draw_snr, observe_apogee, standard_noise
from starclip_lib.data.selection import inside_cuts, split_by_star
from starclip_lib.data.spectra import SPLITS, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet, file_bytes
from starclip_lib.data.worlds import World
from starclip_lib.data.writing import written_data_set
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import ASPCAP_ERROR, FE, LABELS
from starclip_lib.physics.population import draw_population, draw_real_population
from starclip_lib.settings.data import DataParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import check_disk, check_memory

_LABEL_BYTES = 2_000  # a star, while labels are drawn: twice as many stars in float64, several times


def catalogue_errors(n_stars: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """ASPCAP uncertainties: the mean ones, better and worse by a log-normal factor of mean 1 for each star."""
    quality = rng.lognormal(-(spread**2) / 2, spread, n_stars)  # mean 1
    return ASPCAP_ERROR * quality[:, None]


def perturb(labels: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Catalogue labels: the truth plus errors drawn as ASPCAP makes them.

    The error of [X/H] is that of [X/Fe] and that of [Fe/H] in quadrature, so all [X/H] of a star share the latter.
    """
    draw = rng.standard_normal(labels.shape)
    noise = errors * draw
    iron = noise[:, FE]
    for column in range(2, len(LABELS)):
        if column != FE:
            own = np.sqrt(np.maximum(errors[:, column] ** 2 - errors[:, FE] ** 2, 0))
            noise[:, column] = own * draw[:, column] + iron
    return labels + noise


def simulate_survey(
    n_stars: int, seed: int, settings: DataParams | None = None, emulator: Emulator | None = None
) -> PairedSpectra:
    """The embedded data set: `n_stars` red giants with catalogue labels, APOGEE and ab initio NIRSpec spectra.

    Stars are drawn until enough have catalogue labels inside the cuts and both label sets inside the emulator's domain.
    In memory it takes 120 kB a star.

    Parameters
    ----------
    settings : DataParams, optional
        The defaults if not given.
    emulator : Emulator, optional
        The default one if not given.

    Raises
    ------
    DataError
        If the cuts leave almost nothing.
    """
    survey = _Survey(n_stars, seed, settings or DataParams(), emulator or default_emulator())
    apogee, ivar = (np.empty((n_stars, APOGEE.n_pix), np.float32) for _ in range(2))
    nirspec = np.empty((n_stars, NIRSPEC.n_pix), np.float32)
    for rows, *block in survey.blocks():
        apogee[rows], ivar[rows], nirspec[rows] = block
    return PairedSpectra(
        **(catalogue := survey.catalogue()),
        **survey.observed(catalogue["split"]),
        apogee=SpectrumSet(APOGEE, apogee, mask=ivar == 0, ivar=ivar),
        nirspec=SpectrumSet(NIRSPEC, nirspec, mask=np.zeros(nirspec.shape, bool)),
        source="simulate",
        seed=seed,
        provenance=survey.provenance,
    )


def write_survey(path: Path, n_stars: int, seed: int, settings: DataParams) -> None:
    """The data set of `simulate_survey` as a file, in memory that does not grow with the number of stars."""
    check_disk(file_bytes(n_stars), path, f"data.n_stars {n_stars:,}")
    check_memory(_LABEL_BYTES * n_stars, f"data.n_stars {n_stars:,}")
    survey = _Survey(n_stars, seed, settings, default_emulator())
    with written_data_set(path, "simulate", seed, survey.provenance) as file:
        for rows, apogee, ivar, nirspec in survey.blocks():
            file.put_rows(APOGEE, rows, n_stars, flux=apogee, mask=ivar == 0, ivar=ivar)
            file.put_rows(NIRSPEC, rows, n_stars, flux=nirspec, mask=np.zeros(nirspec.shape, bool))
        file.put_stars(catalogue := survey.catalogue())
        file.put_observed(survey.observed(catalogue["split"]))


class _Survey:
    """A simulated survey: its stars, and then their spectra, block by block; the same in memory and on disk.

    All noise is drawn before the first bad pixel is, as if all spectra were observed at once.
    """

    def __init__(self, n_stars: int, seed: int, settings: DataParams, emulator: Emulator):
        self._settings, self._emulator, self._rng = settings, emulator, np.random.default_rng(seed)
        self._truth, self._labels, self._errors = _draw_stars(n_stars, settings, emulator, self._rng)
        self._snr = draw_snr(n_stars, settings.apogee, self._rng)
        self.provenance = {"emulator": emulator.version, "settings": settings.model_dump(mode="json")}
        self._world: World | None = None
        if settings.world.kind == "realistic":
            self._world = World(emulator, settings.world, seed)
            self._physics = self._world.physics_of(n_stars)

    def blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, their APOGEE flux and inverse variance, and their NIRSpec flux."""
        n, noise = len(self._truth), copy.deepcopy(self._rng)
        for _ in standard_noise(n, self._rng):
            pass
        for start in range(0, n, 2 * BLOCK):
            rows, observed = slice(start, min(start + 2 * BLOCK, n)), self._settings.apogee
            if self._world is None:
                ideal = self._emulator(self._truth[rows], APOGEE)
            else:
                ideal = self._world(self._truth[rows], APOGEE, self._physics[rows])
                ideal += self._world.correlated_noise(len(ideal), APOGEE, start)
            yield (
                rows,
                *observe_apogee(ideal, self._snr[rows], observed, noise, self._rng),
                self._emulator(self._labels[rows], NIRSPEC),
            )

    def observed(self, split: np.ndarray) -> dict[str, Any]:
        """Observed NIRSpec spectra of the test stars, and the labels they were made at; nothing of theory."""
        if self._world is None:
            return {}
        rows = np.flatnonzero(split == SPLITS.index("test"))
        flux = self._world(self._truth[rows], NIRSPEC, self._physics[rows])
        flux += self._world.correlated_noise(len(rows), NIRSPEC, 0)
        spectra = SpectrumSet(NIRSPEC, flux, mask=np.zeros(flux.shape, bool))
        return {"observed": spectra, "observed_labels": self._truth[rows].astype(np.float32)}

    def catalogue(self) -> dict[str, Any]:
        """Identifiers, labels, errors, split; to be called once, after all blocks."""
        star_id = np.array([f"SIM{number:06d}" for number in range(len(self._labels))])
        labels, errors = self._labels.astype(np.float32), self._errors.astype(np.float32)
        split = split_by_star(star_id, self._settings.split, self._rng)
        return {"star_id": star_id, "labels": labels, "label_errors": errors, "split": split}


def _draw_stars(
    n_stars: int, settings: DataParams, emulator: Emulator, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kept: list[tuple[np.ndarray, ...]] = []
    draw = draw_real_population if settings.population == "apogee" else draw_population
    while sum(len(part[0]) for part in kept) < n_stars:
        truth = draw(2 * n_stars + 100, settings.logg_range, rng)
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
