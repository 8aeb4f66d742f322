"""Running encoders over spectra in bounded memory: embeddings, labels, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import Embeddings, as_embeddings, write_embeddings
from starclip_lib.models.encoders import Estimator
from starclip_lib.settings.params import Params
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.threads import ahead
from starclip_lib.transforms.views import ViewSampler, extended_telescope, mock_telescope

_BLOCK = 512  # spectra encoded at once


def pick_device(name: str) -> torch.device:
    """The device of a setting. Raises ConfigError if it is not there, instead of taking another one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device: {name} was asked for, but PyTorch {torch.__version__} sees no CUDA GPU; use cpu or auto"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: {name} was asked for, but there are only {torch.cuda.device_count()} GPUs")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps was asked for, but this machine has no Metal GPU; use cpu or auto")
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The floating-point type encoders compute in."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


@torch.no_grad()
def encode(encoder: Estimator, flux: np.ndarray, output: str = "embedding") -> np.ndarray:
    """Embeddings or predicted labels of spectra as they are; otherwise as `run_encoder`."""
    function, device = _output(encoder, output)
    encoder.eval()
    parts = [function(block.to(device)).cpu().numpy() for block in torch.from_numpy(flux).split(_BLOCK)]
    return np.concatenate(parts)


@torch.no_grad()
def run_encoder(
    encoder: Estimator,
    spectra: SpectrumSet,
    rows: np.ndarray,
    telescope: ViewSampler | None = None,
    output: str = "embedding",
) -> np.ndarray:
    """Embeddings or predicted labels of the views of some stars, on the encoder's device.

    Memory beyond the result: two blocks of 512 spectra.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        Row numbers wanted.
    telescope : ViewSampler, optional
        What they are seen through, None for the spectra as they are.
    output : {'embedding', 'labels', 'search'}
        'embedding' for unit vectors, 'labels' for Z-scored labels, 'search' for vectors and, of fits, packed
        posteriors after them.

    Returns
    -------
    ndarray, shape (m, n_views, dim)
        Computed in float32.
    """
    telescope = telescope or ViewSampler()
    function, device = _output(encoder, output)
    out: np.ndarray | None = None
    encoder.eval()
    for place, view, batch in ahead(telescope.blocks(spectra, rows)):
        result = function(batch.to(device)).cpu().numpy()
        if out is None:
            out = np.empty((len(rows), telescope.n_views, result.shape[1]), np.float32)
        out[place, view] = result
    if out is None:
        raise DataError("there is no star to run the encoder on")
    return out


def _output(encoder: Estimator, output: str) -> tuple[Callable[[Tensor], Tensor], torch.device]:
    functions = {"embedding": encoder.embed, "labels": encoder.forward, "search": encoder.for_search}
    return functions[output], encoder.device


def predict_labels(
    model: Model, spectra: SpectrumSet, rows: np.ndarray, telescope: ViewSampler | None = None
) -> np.ndarray:
    """Labels that a model predicts from its instrument's spectra of some stars.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)

    Returns
    -------
    ndarray, shape (m, n_views, 20)
        In K and dex.
    """
    encoder = model.encoders[spectra.instrument.name]
    return model.scaler.inverse(run_encoder(encoder, spectra, rows, telescope, output="labels"))


def separated(rows: np.ndarray, encoder: Estimator) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings and packed posteriors from the output 'search' of an encoder."""
    z, packed = np.split(rows, [encoder.dim], axis=-1)
    return np.ascontiguousarray(z), np.ascontiguousarray(packed) if packed.shape[-1] else None


def encode_for_search(encoder: Estimator, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings of spectra as they are and, of fits, packed posteriors."""
    return separated(encode(encoder, flux, "search"), encoder)


def embed_views(
    encoder: Estimator, data: PairedSpectra, rows: np.ndarray, telescope: ViewSampler | None = None
) -> Embeddings:
    """Embeddings of the views of some stars, of fits with packed posteriors."""
    spectra: SpectrumSet = getattr(data, encoder.instrument.name)
    z, posterior = separated(run_encoder(encoder, spectra, rows, telescope, output="search"), encoder)
    return as_embeddings(z, data.star_id[rows], data.split[rows], posterior)


def embed_all(path: Path, data: PairedSpectra, params: Params, models: dict[str, Path], device: torch.device) -> None:
    """Embed stars with the encoders of some models; each encoder gets the group MODEL/ROLE of one file.

    Roles `nirspec` (five mock views) and `apogee` see all stars; `mock` and `extended` see MockStarCLIP's.
    """
    every, chosen = np.arange(data.n_stars), np.concatenate(list(mock_stars(data, params).values()))
    mock, extended = mock_telescope(params), extended_telescope(data, params)
    seen = {"nirspec": (every, mock), "apogee": (every, None), "mock": (chosen, mock), "extended": (chosen, extended)}
    groups = {
        f"{name}/{role}": embed_views(encoder, data, *seen[role])
        for name, file in models.items()
        for role, encoder in Model.load(file, device).encoders.items()
    }
    write_embeddings(path, groups)
