"""Embeddings of a data set: making them in bounded memory, and their file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.formats import EMBEDDINGS
from starclip_lib.data.hdf5 import opened_hdf5, read_members, write_member, written_hdf5
from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import SPLITS, PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.errors import DataError
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.encoders import Encoder
from starclip_lib.settings.params import Params
from starclip_lib.transforms.views import MockTelescope, extended_telescope, mock_telescope

_BLOCK = 512  # spectra encoded at once


@dataclass(eq=False)
class Embeddings:
    """Points on the unit sphere, one for each view of each star.

    Parameters
    ----------
    z : ndarray, shape (m, dim)
        float32, of unit length.
    star_id : ndarray of str, shape (m,)
    view : ndarray of int, shape (m,)
        Number of the copy.
    split : ndarray of uint8, shape (m,)
        0 train, 1 val, 2 test.
    """

    z: np.ndarray
    star_id: np.ndarray
    view: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.z)

    def take(self, *splits: str) -> Embeddings:
        """The embeddings of the stars of the given splits.

        Parameters
        ----------
        *splits : str
            'train', 'val' or 'test'.

        Returns
        -------
        Embeddings
        """
        keep = np.isin(self.split, [SPLITS.index(split) for split in splits])
        return self._where(keep)

    def of_view(self, view: int) -> Embeddings:
        """The embeddings of one view of each star.

        Parameters
        ----------
        view : int

        Returns
        -------
        Embeddings
        """
        return self._where(self.view == view)

    def _where(self, keep: np.ndarray) -> Embeddings:
        return Embeddings(self.z[keep], self.star_id[keep], self.view[keep], self.split[keep])


def join(*parts: Embeddings) -> Embeddings:
    """Embeddings one after another, such as those of both instruments.

    Parameters
    ----------
    *parts : Embeddings

    Returns
    -------
    Embeddings
    """
    return Embeddings(
        *(np.concatenate([getattr(part, key) for part in parts]) for key in ("z", "star_id", "view", "split"))
    )


@torch.no_grad()
def encode(encoder: Encoder, flux: np.ndarray, output: str = "embedding") -> np.ndarray:
    """Embeddings or predicted labels of spectra as they are; otherwise as `run_encoder`.

    Parameters
    ----------
    encoder : Encoder
    flux : ndarray, shape (n, n_pix)
    output : {'embedding', 'labels'}

    Returns
    -------
    ndarray, shape (n, dim)
    """
    function, device = _output(encoder, output)
    encoder.eval()
    parts = [function(block.to(device)).cpu().numpy() for block in torch.from_numpy(flux).split(_BLOCK)]
    return np.concatenate(parts)


@torch.no_grad()
def run_encoder(
    encoder: Encoder,
    spectra: SpectrumSet,
    rows: np.ndarray,
    telescope: MockTelescope | None = None,
    output: str = "embedding",
) -> np.ndarray:
    """Embeddings or predicted labels of the views of some stars, on the encoder's device.

    Memory beyond the result: a block of 512 spectra.

    Parameters
    ----------
    encoder : Encoder
    spectra : SpectrumSet
    rows : ndarray of int, shape (m,)
        Row numbers wanted.
    telescope : MockTelescope, optional
        What they are seen through, None for the spectra as they are.
    output : {'embedding', 'labels'}
        'embedding' for unit vectors, 'labels' for Z-scored labels.

    Returns
    -------
    ndarray, shape (m, n_views, dim)
        Computed in float32.
    """
    telescope = telescope or MockTelescope()
    function, device = _output(encoder, output)
    out: np.ndarray | None = None
    encoder.eval()
    for place, view, batch in telescope.blocks(spectra, rows):
        result = function(batch.to(device)).cpu().numpy()
        if out is None:
            out = np.empty((len(rows), telescope.n_views, result.shape[1]), np.float32)
        out[place, view] = result
    if out is None:
        raise DataError("there is no star to run the encoder on")
    return out


def _output(encoder: Encoder, output: str) -> tuple[Callable[[Tensor], Tensor], torch.device]:
    return {"embedding": encoder.embed, "labels": encoder.forward}[output], next(encoder.parameters()).device


def predict_labels(
    model: Model, spectra: SpectrumSet, rows: np.ndarray, telescope: MockTelescope | None = None
) -> np.ndarray:
    """Labels that a model predicts from its instrument's spectra of some stars.

    Parameters
    ----------
    model : Model
    spectra : SpectrumSet
    rows : ndarray of int, shape (m,)
    telescope : MockTelescope, optional

    Returns
    -------
    ndarray, shape (m, n_views, 20)
        In K and dex.
    """
    encoder = model.encoders[spectra.instrument.name]
    return model.scaler.inverse(run_encoder(encoder, spectra, rows, telescope, output="labels"))


def as_embeddings(z: np.ndarray, star_id: np.ndarray, split: np.ndarray) -> Embeddings:
    """Flatten (m, n_views, dim) with the identifiers and splits (m,) of the stars.

    Parameters
    ----------
    z : ndarray, shape (m, n_views, dim)
    star_id : ndarray of str, shape (m,)
    split : ndarray of uint8, shape (m,)

    Returns
    -------
    Embeddings
    """
    m, n_views, dim = z.shape
    view = np.tile(np.arange(n_views), m)
    return Embeddings(z.reshape(-1, dim), np.repeat(star_id, n_views), view, np.repeat(split, n_views))


def write_embeddings(path: str | Path, groups: dict[str, Embeddings]) -> None:
    """Write groups such as 'starclip/nirspec' to one HDF5 file, atomically.

    Parameters
    ----------
    path : str or Path
    groups : dict of str to Embeddings
    """
    with written_hdf5(path) as file:
        for name, embeddings in groups.items():
            group = file.create_group(name)
            for key, member in EMBEDDINGS.items():
                write_member(group, key, getattr(embeddings, key), member)


def read_embeddings(path: str | Path, name: str) -> Embeddings:
    """Read one group.

    Parameters
    ----------
    path : str or Path
    name : str
        Of the group.

    Returns
    -------
    Embeddings

    Raises
    ------
    DataError
        Names the file and what is missing or wrong in it.
    """
    again = "delete it and run notebook 06_retrieval"
    with opened_hdf5(path, "notebook 06_retrieval makes it (or: starclip run PARAMS)", again) as file:
        if not isinstance(file.get(name), h5py.Group):
            raise DataError(f"{path}: no embeddings '{name}' in it; run notebook 06_retrieval again")
        out = Embeddings(**read_members(file[name], EMBEDDINGS, str(path), prefix=f"{name}/"))
    length = np.linalg.norm(out.z, axis=1)
    if not len(out) or out.z.shape[1] < 2 or not (np.abs(length - 1) < 1e-3).all():
        what = (
            f"{out.z.shape[1]} coordinates, of length {length.min():.3g} to {length.max():.3g}"
            if len(out)
            else "no rows"
        )
        raise DataError(f"{path}: '{name}' holds no unit vectors ({what}); {again}")
    return out


def embed_all(
    path: Path, data: PairedSpectra, params: Params, starclip: Path, mockstarclip: Path, device: torch.device
) -> None:
    """Embed every star with both models and write the groups 'starclip/...' and 'mockstarclip/...' to one file.

    StarCLIP: all stars, five mock views and the APOGEE spectrum; MockStarCLIP: its stars, five views of either kind.

    Parameters
    ----------
    path : Path
    data : PairedSpectra
    params : Params
    starclip, mockstarclip : Path
        Files of the models.
    device : torch.device
    """
    groups, every = {}, np.arange(data.n_stars)
    chosen = np.concatenate(list(mock_stars(data, params).values()))
    mock, extended = mock_telescope(params), extended_telescope(data, params)
    plan = [
        (starclip, "starclip", "nirspec", data.nirspec, every, mock),
        (starclip, "starclip", "apogee", data.apogee, every, None),
        (mockstarclip, "mockstarclip", "mock", data.nirspec, chosen, mock),
        (mockstarclip, "mockstarclip", "extended", data.nirspec, chosen, extended),
    ]
    for file, model, role, spectra, rows, telescope in plan:
        z = run_encoder(Model.load(file, device).encoders[role], spectra, rows, telescope)
        groups[f"{model}/{role}"] = as_embeddings(z, data.star_id[rows], data.split[rows])
    write_embeddings(path, groups)
