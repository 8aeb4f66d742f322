"""From a task to a part of a store: read, embed, write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from starclip_lib import __version__
from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.labels import N_LABELS, LabelScaler
from starclip_lib.errors import DataError
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.newton import NewtonEncoder
from starclip_lib.settings.params import Params
from starclip_lib.stores.sources import Task, read_batches
from starclip_lib.stores.store import About, write_part

_BLOCK = 256  # spectra encoded at once


@dataclass(frozen=True)
class Setup:
    """What every worker has to know.

    Parameters
    ----------
    store, model : str
        Folder of the store and file of the model, absolute.
    about : About
    params : str
        JSON, of the run that trained the model.
    """

    store: str
    model: str
    about: About
    params: str


@dataclass(frozen=True)
class Done:
    """What came of a task.

    Parameters
    ----------
    spectra : int
        Embedded.
    size : int
        Bytes written.
    """

    spectra: int
    size: int


def describe_model(path: Path) -> About:
    """What a store says about the model that fills it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    About
    """
    dim = {encoder.dim for encoder in Model.load(path).encoders.values()}
    if len(dim) != 1:
        raise DataError(f"{path}: its encoders embed into spaces of {sorted(dim)} dimensions, not into one")
    return About(
        model=str(path),
        model_sha256=_sha256(path),
        emulator=default_emulator().version,
        package=__version__,
        dim=dim.pop(),
    )


def embed_task(task: Task, setup: Setup) -> Done:
    """Embed the spectra of a task and write its part; the same task makes the same bytes, wherever it runs.

    Parameters
    ----------
    task : Task
    setup : Setup

    Returns
    -------
    Done

    Raises
    ------
    DataError
        If this process has another package, emulator or model than the store.
    SystemFault
        If the part cannot be written.
    """
    about = setup.about
    here = {"package": __version__, "emulator": default_emulator().version}
    for name, wanted in (("package", about.package), ("emulator", about.emulator)):
        if here[name] != wanted:
            raise DataError(f"a worker has {name} {here[name]}, the command has {wanted}; install the same on both")
    model, params = _model(setup.model, about.model_sha256), _params(setup.params)
    batch = read_batches(task, params)
    z, labels, sigma, verdict = embed(model.encoders[task.instrument], model.scaler, batch.flux)
    rows = {"star_id": batch.star_id, "file": batch.file, "row": batch.row, "verdict": verdict}
    inputs = [vars(one) for one in task.inputs]
    made_from = {"inputs": inputs, "instrument": task.instrument, "failed": batch.failed}
    rows["instrument"] = [task.instrument] * len(batch.star_id)
    path = write_part(Path(setup.store), task.key, rows, z, labels, sigma, made_from)
    return Done(len(batch.star_id), path.stat().st_size)


@torch.no_grad()
def embed(
    encoder: Encoder, scaler: LabelScaler, flux: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Embeddings, labels with their errors, and verdicts.

    Parameters
    ----------
    encoder : Encoder
    scaler : LabelScaler
    flux : ndarray, shape (n, n_pix)

    Returns
    -------
    z : ndarray, shape (n, dim)
    labels, sigma : ndarray, shape (n, 20)
        K and dex; sigma is NaN if the encoder does not know it.
    verdict : list of str
        'good', or what is to be said against it.
    """
    z = [np.empty((0, encoder.dim), np.float32)]
    labels, sigma, verdict = [np.empty((0, N_LABELS))], [np.empty((0, N_LABELS))], []
    for block in torch.from_numpy(flux).split(_BLOCK) if len(flux) else ():
        if isinstance(encoder, NewtonEncoder):
            found = encoder.estimate(block)
            z.append(encoder.to_sphere(found.labels).numpy())
            labels.append(scaler.inverse(found.labels.numpy()))
            sigma.append(found.covariance.diagonal(dim1=1, dim2=2).sqrt().numpy() * scaler.std)
            verdict += [remark or "good" for remark in found.remarks]
        else:
            z.append(encoder.embed(block).numpy())
            labels.append(scaler.inverse(encoder(block).numpy()))
            sigma.append(np.full((len(block), N_LABELS), np.nan))
            verdict += ["good"] * len(block)
    return np.concatenate(z), np.concatenate(labels), np.concatenate(sigma), verdict


@lru_cache(maxsize=1)
def _model(path: str, sha256: str) -> Model:
    if _sha256(Path(path)) != sha256:
        raise DataError(f"{path} is not the model that this store was made with; embed into a new folder")
    return Model.load(path)


@lru_cache(maxsize=1)
def _params(text: str) -> Params:
    return Params.model_validate_json(text)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
