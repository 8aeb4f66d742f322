"""Observed NIRSpec spectra through the models: verdict, preparation, labels and nearest APOGEE stars."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from starclip_lib.embeddings import Embeddings, read_embeddings
from starclip_lib.labels import FE, LABELS
from starclip_lib.nirspec import ObservedSpectrum, PreparedSpectrum, find_spec1d, prepare_observed, read_spec1d
from starclip_lib.probing import labels_of, linear_probe
from starclip_lib.recipes import select_evenly
from starclip_lib.retrieval import SimilarityIndex
from starclip_lib.run import Run
from starclip_lib.settings import ObservedParams
from starclip_lib.spectra import PairedSpectra

_N_TEMPLATES = 64


def read_folder(root: Path, settings: ObservedParams) -> list[ObservedSpectrum]:
    """The spectra of `observed.folder` (relative to `root`); an empty list if no folder is set.

    Each gets its target's name, or its file's where several files have the same target.
    """
    if not settings.folder:
        return []
    paths = find_spec1d(root / settings.folder)
    spectra = [read_spec1d(path, settings) for path in paths]
    count = Counter(spectrum.name for spectrum in spectra)
    for path, spectrum in zip(paths, spectra, strict=True):
        if count[spectrum.name] > 1:
            spectrum.name = path.name.split(".")[0]
    return spectra


def describe(spectrum: ObservedSpectrum) -> dict[str, str | int | float]:
    """Name, size, roughness and verdict of a spectrum, one row of a table."""
    return {
        "name": spectrum.name,
        "good pixels": int((~spectrum.bad).sum()),
        "neighbours differ by [%]": round(100 * spectrum.roughness, 1),
        "verdict": spectrum.verdict,
    }


def rejected(spectra: list[ObservedSpectrum]) -> dict[str, str]:
    """Name and reason of every spectrum that is set aside."""
    return {spectrum.name: spectrum.verdict for spectrum in spectra if spectrum.verdict != "good"}


def prepare_all(
    spectra: list[ObservedSpectrum], data: PairedSpectra, settings: ObservedParams
) -> list[PreparedSpectrum]:
    """Bring the good spectra to rest and onto the grid, with training stars spread over [Fe/H] as templates."""
    train = data.rows("train")
    few = min(_N_TEMPLATES, len(train))
    rows = train[select_evenly(data.labels[train, FE], few, few // 2, np.random.default_rng(0))]
    prepared = [prepare_observed(s, data.nirspec.flux[rows], settings) for s in spectra if s.verdict == "good"]
    for spectrum in prepared:
        spectrum.template = int(rows[spectrum.template])  # a row of the data set, for whoever wants to draw it
    return prepared


@dataclass(frozen=True)
class Twins:
    """labels : one row a star, what the probe reads; neighbours : one row a neighbour, its catalogue labels."""

    labels: pd.DataFrame
    neighbours: pd.DataFrame


def find_twins(prepared: list[PreparedSpectrum], data: PairedSpectra, run: Run, apogee: Embeddings) -> Twins:
    """Embed prepared spectra with MockStarCLIP, read their labels with its linear probe, find their APOGEE neighbours.

    apogee : embeddings of the APOGEE stars to search among
    """
    if not prepared:
        return Twins(pd.DataFrame(), pd.DataFrame())
    encoder = run.model("mockstarclip.ckpt").encoders["extended"]
    with torch.no_grad():
        z = encoder.embed(torch.from_numpy(np.stack([star.flux for star in prepared]))).numpy()
    names = np.array([star.name for star in prepared])
    known = read_embeddings(run.need("embeddings.h5"), "mockstarclip/extended").take("train", "val")
    here = Embeddings(z, names, np.zeros(len(z), int), np.full(len(z), 2))
    probe = linear_probe(known, labels_of(known.star_id, data.star_id, data.labels), here)
    table = pd.DataFrame(probe.labels, columns=LABELS).round(2)
    table.insert(0, "name", probe.star_id)

    place, cosine = SimilarityIndex(apogee.z, apogee.star_id).search(z, min(3, len(apogee)))
    stars = apogee.star_id[place.ravel()]
    near = pd.DataFrame(labels_of(stars, data.star_id, data.labels), columns=LABELS).round(2)
    near.insert(0, "cosine", cosine.ravel().round(3))
    near.insert(0, "APOGEE star", stars)
    near.insert(0, "observed", np.repeat(names, place.shape[1]))
    return Twins(table, near)
