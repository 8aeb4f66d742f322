"""From a task to a part of a store: read, embed, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from starclip_lib import __version__
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoders import Estimator
from starclip_lib.models.encoding import separated
from starclip_lib.observed.analysis import point_of_fit
from starclip_lib.observed.measuring import measure
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import file_digest
from starclip_lib.survey.formats import FIT, MODEL, SIMULATIONS, About, Part, is_posterior, write_part
from starclip_lib.survey.sources import NIRSPEC_FILES, Task, read_batches

_BLOCK = 256  # spectra encoded at once


@dataclass(frozen=True)
class Setup:
    """What every worker has to know."""

    store: str  # folder of the store and file of the model, absolute
    model: str
    about: About
    params: str  # JSON, of the run that trained the model


@dataclass(frozen=True)
class Done:
    """What came of a task."""

    spectra: int  # embedded
    size: int  # bytes written


def describe_model(path: Path) -> About:
    """What a store says about the model that fills it."""
    encoders = Model.load(path).encoders.values()
    dim = {encoder.dim for encoder in encoders}
    if len(dim) != 1:
        raise DataError(f"{path}: its encoders embed into spaces of {sorted(dim)} dimensions, not into one")
    return About(
        model=str(path),
        model_sha256=file_digest(path),
        emulator=default_emulator().version,
        package=__version__,
        dim=dim.pop(),
        posterior=all(encoder.fit_settings is not None for encoder in encoders),
    )


def embed_task(task: Task, setup: Setup) -> Done:
    """Embed the spectra of a task and write its part; the same task makes the same bytes, wherever it runs.

    Raises DataError if this process has another package, emulator or model than the store.
    """
    about = setup.about
    here = {"package": __version__, "emulator": default_emulator().version}
    for name, wanted in (("package", about.package), ("emulator", about.emulator)):
        if here[name] != wanted:
            raise DataError(f"a worker has {name} {here[name]}, the command has {wanted}; install the same on both")
    model, params = _model(setup.model, about.model_sha256), _params(setup.params)
    batch = read_batches(task, params)
    found = embed(model.encoders[task.instrument], batch.flux)
    failed = list(batch.failed)
    origin = [MODEL if batch.simulated or params.data.file else SIMULATIONS] * len(batch.star_id)
    if task.kind == NIRSPEC_FILES:
        origin = [FIT] * len(batch.star_id)
        fit_observed(found, batch.observed, model.encoders[task.instrument])
    elif SIMULATIONS in origin:
        found.sigma[:] = np.nan  # its errors are those of simulated spectra
    keep = np.isfinite(found.z).all(axis=1) & np.isfinite(found.labels).all(axis=1)
    if found.posterior is not None:
        keep &= is_posterior(found.posterior)
    for i in np.flatnonzero(~keep):
        reason = "its embedding is not finite" if np.isfinite(found.labels[i]).all() else found.verdict[i]
        failed.append((batch.file[i], batch.row[i], reason))
    columns: dict[str, list] = {
        "star_id": batch.star_id,
        "file": batch.file,
        "row": batch.row,
        "verdict": found.verdict,
    }
    columns |= {"instrument": [task.instrument] * len(keep), "labels_from": origin, "from_prior": found.from_prior}
    rows = {name: [value for value, good in zip(column, keep, strict=True) if good] for name, column in columns.items()}
    part = Part(
        model_sha256=about.model_sha256,
        instrument=task.instrument,
        rows=int(keep.sum()),
        inputs=task.inputs,
        failed=tuple(failed),
    )
    posterior = found.posterior[keep] if found.posterior is not None and about.posterior else None
    values = found.z[keep], found.labels[keep], found.sigma[keep], posterior
    path = write_part(Path(setup.store), about, part, rows, *values)
    return Done(part.rows, path.stat().st_size)


def fit_observed(found: Embedded, spectra: Sequence[ObservedSpectrum], encoder: Estimator) -> None:
    """Labels of observed spectra, with their errors, from the fit that `starclip observe` does.

    Of an encoder that fits, which knows no errors of the synthesis, embeddings and posteriors are the fit's as well.
    """
    for i, spectrum in enumerate(spectra):
        (one,) = measure([spectrum])
        found.labels[i] = one.labels
        found.sigma[i], found.from_prior[i] = one.sigma, one.from_prior
        found.verdict[i] = one_line("; ".join(one.warnings) or one.reason or one.verdict)
        if not one.set_aside and found.posterior is not None:
            found.z[i : i + 1], found.posterior[i : i + 1] = point_of_fit(encoder, one)


@dataclass(eq=False)
class Embedded:
    """Unit vectors (n, dim), labels and errors (n, 20) in K and dex (NaN: unknown), verdicts, posteriors (n, 230).

    `from_prior` lists the labels whose value is mostly the prior's; empty where no fit tells.
    """

    z: np.ndarray
    labels: np.ndarray
    sigma: np.ndarray
    verdict: list[str]
    from_prior: list[str]
    posterior: np.ndarray | None


@torch.no_grad()
def embed(encoder: Estimator, flux: np.ndarray) -> Embedded:
    """Embeddings, labels and errors of spectra (n, n_pix); of fits also the packed posteriors that rank searches."""
    blocks = torch.from_numpy(flux).split(_BLOCK) if len(flux) else ()
    rows, labels, sigma, verdict = [np.empty((0, encoder.dim), np.float32)] * (not blocks), [], [], []
    for block in blocks:
        found, place = encoder.look(block)
        mean, error = encoder.population.with_errors(found)
        rows.append(place.numpy())
        labels.append(mean)
        sigma.append(error)
        verdict += [warning or "good" for warning in found.warnings or [""] * len(block)]
    z, posterior = separated(np.concatenate(rows), encoder)
    none = [np.empty((0, N_LABELS))]
    return Embedded(
        z, np.concatenate(none + labels), np.concatenate(none + sigma), verdict, [""] * len(verdict), posterior
    )


@lru_cache(maxsize=1)
def _model(path: str, sha256: str) -> Model:
    if file_digest(Path(path)) != sha256:
        raise DataError(f"{path} is not the model that this store was made with; embed into a new folder")
    return Model.load(path)


@lru_cache(maxsize=1)
def _params(text: str) -> Params:
    return Params.model_validate_json(text)
