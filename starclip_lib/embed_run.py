"""What a run's models make of its stars: the file of embeddings, and the raw spectra they are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from starclip_lib.batches import pick_device
from starclip_lib.corruptions import mock, observed_views
from starclip_lib.embeddings import Embeddings, as_embeddings, run_encoder, write_embeddings
from starclip_lib.instruments import APOGEE, NIRSPEC
from starclip_lib.models import Model
from starclip_lib.recipes import extended_corruption, mock_stars, view_seed
from starclip_lib.settings import Params
from starclip_lib.spectra import PairedSpectra


def embed_all(path: Path, data: PairedSpectra, params: Params, starclip: Path, mockstarclip: Path) -> None:
    """Embed every star with both models and write the groups 'starclip/...' and 'mockstarclip/...' to one file.

    StarCLIP: all stars, five mock views and the APOGEE spectrum; MockStarCLIP: its stars, five views of either kind.
    """
    device = pick_device(params.device)
    groups, every = {}, np.arange(data.n_stars)
    chosen = np.concatenate(list(mock_stars(data, params).values()))
    views = {"mock": mock(params.corruption), "extended": extended_corruption(data, params)}
    plan = [
        (starclip, "starclip", "nirspec", data.nirspec, every, views["mock"]),
        (starclip, "starclip", "apogee", data.apogee, every, None),
        (mockstarclip, "mockstarclip", "mock", data.nirspec, chosen, views["mock"]),
        (mockstarclip, "mockstarclip", "extended", data.nirspec, chosen, views["extended"]),
    ]
    for file, model, role, spectra, rows, corruption in plan:
        encoder = Model.load(file, device).encoders[role]
        n_views = 1 if corruption is None else params.corruption.n_views
        z = run_encoder(encoder, spectra.flux, rows, corruption=corruption, n_views=n_views, seed=view_seed(params))
        groups[f"{model}/{role}"] = as_embeddings(z, data.star_id[rows], data.split[rows])
    write_embeddings(path, groups)


def raw_spectra(data: PairedSpectra, params: Params) -> dict[str, Embeddings]:
    """The test spectra themselves as vectors, the baseline of Table 3: the same views as `embed_all` judges.

    APOGEE is cropped to the 8,192 pixels from the first chip on, to have NIRSpec's length (footnote 11 of the paper).
    """
    test, extended = data.rows("test"), mock_stars(data, params)["test"]
    start = APOGEE.chips[0][0]
    wanted = {
        "nirspec": (test, mock(params.corruption), params.corruption.n_views),
        "mock": (extended, mock(params.corruption), 1),
        "extended": (extended, extended_corruption(data, params), 1),
    }
    out = {}
    for name, (rows, corruption, n_views) in wanted.items():
        flux = observed_views(data.nirspec.flux, rows, corruption, n_views, view_seed(params))
        out[name] = as_embeddings(flux, data.star_id[rows], data.split[rows])
    cropped = data.apogee.flux[test, start : start + NIRSPEC.n_pix]
    out["apogee"] = as_embeddings(cropped[:, None], data.star_id[test], data.split[test])
    return out
