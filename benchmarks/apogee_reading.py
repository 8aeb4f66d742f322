"""How fast aspcapStar files are read: 1,000 copies, by our reader and by one that reads every HDU.

python benchmarks/apogee_reading.py [FILE]     FILE: an aspcapStar file to copy; without it, a made-up one of its layout
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from starclip_lib.survey.apogee import read_aspcap_star

COPIES = 1000


def make(path: Path) -> None:
    """Flux, error, best fit and a table of one row, as in DR13 to DR17."""
    grid = fits.Header({"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1})
    images = [fits.ImageHDU(np.full(8575, value, ">f4"), grid) for value in (0.9, 0.005, 0.9)]
    columns = [fits.Column(f"P{number}", "E", array=np.zeros(1)) for number in range(72)]
    fits.HDUList([fits.PrimaryHDU(), *images, fits.BinTableHDU.from_columns(columns)]).writeto(path)


def read_everything(path: Path) -> None:
    """What a first attempt looks like: every HDU of the file."""
    with fits.open(path) as hdus:
        _ = [np.array(hdu.data) for hdu in hdus[1:]]


def main() -> None:
    """Print files per second and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "aspcapStar-0.fits"
        if len(sys.argv) > 1:
            shutil.copyfile(sys.argv[1], first)
        else:
            make(first)
        paths = [first] + [Path(folder) / f"aspcapStar-{number}.fits" for number in range(1, COPIES)]
        for path in paths[1:]:
            shutil.copyfile(first, path)
        rate = {}
        for name, read in (("read_aspcap_star", read_aspcap_star), ("every HDU", read_everything)):
            began = time.perf_counter()
            for path in paths:
                read(path)
            rate[name] = COPIES / (time.perf_counter() - began)
            print(f"{name}: {rate[name]:,.0f} files/s")
    print(f"ratio: {rate['read_aspcap_star'] / rate['every HDU']:.1f}")


if __name__ == "__main__":
    main()
