"""Embeddings of a data set, and their file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from starclip_lib.data.spectra import SPLITS
from starclip_lib.inference.posterior import is_posterior
from starclip_lib.storage.formats import EMBEDDINGS
from starclip_lib.storage.hdf5 import opened_hdf5, read_members, write_member, written_hdf5
from starclip_lib.support.errors import DataError


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
        What each spectrum says about the labels, if the encoder knows how well it knows them (`inference.posterior`).
    """

    z: np.ndarray
    star_id: np.ndarray
    view: np.ndarray
    split: np.ndarray
    posterior: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.z)

    def take(self, *splits: str) -> Embeddings:
        """The embeddings of the stars of the given splits."""
        keep = np.isin(self.split, [SPLITS.index(split) for split in splits])
        return self.of_rows(keep)

    def of_view(self, view: int) -> Embeddings:
        """The embeddings of one view of each star."""
        return self.of_rows(self.view == view)

    def of_rows(self, keep: np.ndarray) -> Embeddings:
        """Some of the embeddings, by a mask or by row numbers."""
        posterior = None if self.posterior is None else self.posterior[keep]
        return Embeddings(self.z[keep], self.star_id[keep], self.view[keep], self.split[keep], posterior)


def join(*parts: Embeddings) -> Embeddings:
    """Embeddings one after another, such as those of both instruments."""
    columns = [np.concatenate([getattr(part, key) for part in parts]) for key in ("z", "star_id", "view", "split")]
    posterior = [part.posterior for part in parts if part.posterior is not None]
    found = Embeddings(*columns)
    found.posterior = np.concatenate(posterior) if len(posterior) == len(parts) else None
    return found


def as_embeddings(
    z: np.ndarray, star_id: np.ndarray, split: np.ndarray, posterior: np.ndarray | None = None
) -> Embeddings:
    """Flatten (m, n_views, dim) with the identifiers and splits (m,) of the stars.

    Parameters
    ----------
    z : ndarray, shape (m, n_views, dim)
    star_id : ndarray of str, shape (m,)
    split : ndarray of uint8, shape (m,)
    posterior : ndarray, shape (m, n_views, 230), optional
    """
    m, n_views, dim = z.shape
    view, packed = np.tile(np.arange(n_views), m), None if posterior is None else posterior.reshape(m * n_views, -1)
    return Embeddings(z.reshape(-1, dim), np.repeat(star_id, n_views), view, np.repeat(split, n_views), packed)


def write_embeddings(path: str | Path, groups: dict[str, Embeddings]) -> None:
    """Write groups such as 'starclip/nirspec' to one HDF5 file, atomically."""
    with written_hdf5(path) as file:
        for name, embeddings in groups.items():
            group = file.create_group(name)
            for key, member in EMBEDDINGS.items():
                if (array := getattr(embeddings, key)) is not None:
                    write_member(group, key, array, member)


def read_embeddings(path: str | Path, name: str) -> Embeddings:
    """Read one group.

    Parameters
    ----------
    name : str
        Of the group.

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
    if out.posterior is not None and not is_posterior(out.posterior).all():
        raise DataError(f"{path}: 'posterior' of '{name}' does not hold posteriors of labels; {again}")
    return out
