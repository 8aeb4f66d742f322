"""The paper's data set, rebuilt from the public archive: APOGEE DR17 spectra with ab initio NIRSpec partners."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from starclip_lib.data.selection import draw_rows
from starclip_lib.data.spectra import UNDIVIDED
from starclip_lib.data.writing import written_data_set
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LABELS
from starclip_lib.settings.data import DataParams
from starclip_lib.storage.csv_files import write_csv
from starclip_lib.support.errors import DataError
from starclip_lib.support.files import atomic_path, safe_name
from starclip_lib.survey.allstar import read_all_star, select_giants
from starclip_lib.survey.apogee import read_aspcap_star
from starclip_lib.survey.download import Downloader

DATA_FILE = "apogee-dr17.h5"
_CATALOGUE_BYTES = 16 * 10**9  # that of DR17 has 4 GB
_BLOCK = 256  # spectra in memory at once
_FEWEST = 40  # stars, as for a simulated data set
_SAFE = re.compile(r"[\w+][\w.+\-\[\]]*")  # field and star names become parts of paths


def fetch_apogee(
    settings: DataParams, seed: int, root: Path, callback: Callable[[str], None] = print, skip_failed: bool = False
) -> Path:
    """Download the catalogue, choose the stars, download their spectra and write the data set; its path.

    Everything lands in the folder `settings.archive.folder` under `root`: the catalogue, `cuts.csv`, `stars.csv`,
    `files.txt` (the addresses), `spectra/`, and the data set. What is there already is not fetched again: after
    DataError or Unreachable the same call goes on from there. Spectra that could not be downloaded are an error unless
    `skip_failed`.
    """
    archive = settings.archive
    folder = root / archive.folder
    how = archive.timeout, archive.attempts, archive.pause, archive.connections
    downloader, of_catalogue = Downloader(*how), Downloader(*how, largest=_CATALOGUE_BYTES)
    catalogue = folder / archive.catalogue
    if not catalogue.is_file():
        callback(f"catalogue: {_address(settings, archive.catalogue)} (all of DR17: several gigabytes)")
    tables: list[pd.DataFrame] = []
    of_catalogue.fetch(
        _address(settings, archive.catalogue),
        catalogue,
        lambda path: tables.append(read_all_star(path)),
        progress=True,
    )
    stars, cuts = select_giants(tables.pop(), settings)
    stars = stars.iloc[draw_rows(len(stars), settings.n_stars, np.random.default_rng(seed))].reset_index(drop=True)
    jobs = {_address(settings, place): folder / "spectra" / place for place in map(_place, stars.itertuples())}
    stars["file"] = [str(path.relative_to(folder)) for path in jobs.values()]
    for name, table in (("cuts.csv", cuts), ("stars.csv", stars)):
        with atomic_path(folder / name) as part:
            write_csv(table, part)
    with atomic_path(folder / "files.txt") as part:
        part.write_text("\n".join(jobs) + "\n", encoding="utf-8")
    callback(f"{cuts.to_string(index=False)}\n{len(stars)} stars; cuts.csv, stars.csv and files.txt are in {folder}")

    if len(stars) < _FEWEST:
        raise DataError(f"only {len(stars)} stars pass the cuts, {_FEWEST} are needed; widen the cuts listed above")
    wanted = zip(jobs.items(), stars["APOGEE_ID"], strict=True)
    checked = [(url, path, partial(_check_spectrum, star_id)) for (url, path), star_id in wanted]
    missing, failed = downloader.fetch_all(checked, "spectra")
    lost = {**missing, **failed}
    with atomic_path(folder / "lost.txt") as part:
        part.write_text("".join(f"{reason}\n" for reason in lost.values()), encoding="utf-8")
    if failed and not skip_failed:
        raise DataError(
            f"{len(failed)} of {len(jobs)} spectra could not be downloaded, the first one: "
            f"{next(iter(failed.values()))}. The same command tries these again; --skip-failed does without them"
        )
    if len(jobs) - len(lost) < _FEWEST:
        raise DataError(
            f"{len(lost)} of {len(jobs)} spectra could not be had, {_FEWEST} are needed; the first: "
            f"{next(iter(lost.values()))}. Is data.archive.base_url right? {folder / 'lost.txt'} lists all"
        )
    if lost:
        callback(f"{len(lost)} of {len(jobs)} spectra are left out; {folder / 'lost.txt'} says why")
    stars = stars[[url not in lost for url in jobs]].reset_index(drop=True)
    write_archive(folder / DATA_FILE, stars, folder, settings, seed, cuts)
    return folder / DATA_FILE


def _check_spectrum(star_id: str, path: Path) -> None:
    """Raise DataError unless a file holds the spectrum of the star that it was fetched for."""
    spectrum = read_aspcap_star(path)
    if spectrum.named and spectrum.star_id != safe_name(star_id):
        raise DataError(f"{path} holds the spectrum of {spectrum.star_id}, not of {star_id}")


def write_archive(
    path: Path,
    stars: pd.DataFrame,
    folder: Path,
    settings: DataParams,
    seed: int,
    cuts: pd.DataFrame,
    emulator: Emulator | None = None,
) -> None:
    """Read the spectra of `stars`, compute their NIRSpec partners, and write the data set, block by block.

    `stars` has the columns of `select_giants` and `file`, relative to `folder`; `cuts` is the report of
    `select_giants`, kept in the data set's provenance. Memory does not grow with the number of stars; what was
    downloaded stays, whenever it is interrupted.
    """
    emulator = emulator or default_emulator()
    labels = stars[list(LABELS)].to_numpy()
    emulator.check_domain(labels)
    n, seen = len(stars), dict[bytes, str]()
    provenance = {
        "emulator": emulator.version,
        "archive": settings.archive.base_url,
        "catalogue": settings.archive.catalogue,
        "cuts": cuts.to_dict("records"),
    }
    with (
        written_data_set(path, "apogee-dr17", seed, provenance) as file,
        tqdm(total=n, desc="reading spectra", unit="file") as bar,
    ):
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            spectra = []
            for name in stars["file"][rows]:
                spectra.append(read_aspcap_star(folder / name))
                other = seen.setdefault(hashlib.sha256(spectra[-1].flux.tobytes()).digest(), name)
                if other != name:
                    raise DataError(
                        f"{folder / name} and {folder / other} hold the same spectrum; delete both and fetch again"
                    )
                bar.update()
            flux, ivar, mask = (np.stack([getattr(one, key) for one in spectra]) for key in ("flux", "ivar", "mask"))
            nirspec = emulator(labels[rows], NIRSPEC)
            file.put_rows(APOGEE, rows, n, flux=flux, mask=mask, ivar=ivar)
            file.put_rows(NIRSPEC, rows, n, flux=nirspec, mask=np.zeros(nirspec.shape, bool))
        file.put_stars(
            {
                "star_id": stars["APOGEE_ID"].to_numpy(str),
                "labels": labels.astype(np.float32),
                "label_errors": stars[[f"{name}_err" for name in LABELS]].to_numpy(np.float32),
                "split": np.full(n, UNDIVIDED, np.uint8),
            }
        )


def _address(settings: DataParams, place: str) -> str:
    return f"{settings.archive.base_url.rstrip('/')}/{quote(place, safe='/+')}"


def _place(star: Any) -> str:
    """Where the archive keeps a star's spectrum, relative to its base address."""
    parts = (star.TELESCOPE, star.FIELD, star.APOGEE_ID)
    unsafe = [part for part in parts if not _SAFE.fullmatch(part)]
    if unsafe:
        raise DataError(f"the catalogue names a star '{'/'.join(parts)}'; '{unsafe[0]}' cannot be part of a file name")
    return f"{parts[0]}/{parts[1]}/aspcapStar-dr17-{parts[2]}.fits"
