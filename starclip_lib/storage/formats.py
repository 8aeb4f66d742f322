"""The formats that this project writes and reads, declared: HDF5 files of its own, FITS files of others."""

from __future__ import annotations

from typing import Annotated

import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from starclip_lib.physics.instruments import INSTRUMENTS, Instrument, check_grid
from starclip_lib.physics.labels import ELEMENTS, LABELS, N_LABELS
from starclip_lib.storage.hdf5 import dataset_of
from starclip_lib.storage.schema import Member
from starclip_lib.support.errors import DataError

# Wider than any star that could be meant, narrow enough for kilokelvin, -9999 and fluxes in W to be seen.
_LOWEST = (1500.0, -2.0, *(-8.0 for _ in ELEMENTS))
_HIGHEST = (60000.0, 7.0, *(5.0 for _ in ELEMENTS))
_LARGEST_ERROR = (30000.0, *(30.0 for _ in LABELS[1:]))
_STAR = ("star", "label")
MAX_FLUX = 1e4  # relative to the continuum; noise and emission lines stay far below


def spectrum_members(instrument: Instrument) -> dict[str, Member]:
    """The arrays of the spectra of one instrument."""
    fill, shape, axes = f"{instrument.fill_value:g}", ("N", instrument.n_pix), ("star", "pixel")
    return {
        "wavelength": Member(
            "the grid, in vacuum", shape=(instrument.n_pix,), stored="float64", unit="Angstrom", low=100, high=1e6
        ),
        "flux": Member(
            f"relative to the continuum, {fill} where data are missing",
            shape=shape,
            low=-MAX_FLUX,
            high=MAX_FLUX,
            hint=f"mark pixels without data in {instrument.name}/mask and fill them with {fill}",
            axes=axes,
        ),
        "mask": Member("true where data are missing", "boolean", shape, "bool", axes=axes),
        "ivar": Member(
            "inverse variance of the flux, 0 where data are missing",
            shape=shape,
            low=0,
            high=float(np.finfo(np.float32).max),
            optional=True,
            hint="0 stands for no data",
            axes=axes,
        ),
    }


OBSERVED = "observed_nirspec"  # observed NIRSpec spectra of the test stars, beside the computed ones
_OBSERVED_PIXELS = ("T", INSTRUMENTS["nirspec"].n_pix)
DATA_SET: dict[str, Member] = {
    "star_id": Member("identifier of the star", "text", stored="text", unique=True),
    "labels": Member(
        "catalogue labels",
        shape=("N", N_LABELS),
        unit="K and dex",
        low=_LOWEST,
        high=_HIGHEST,
        hint="Teff is in K, everything else in dex; drop stars without labels",
        axes=_STAR,
    ),
    "label_errors": Member(
        "their standard deviations",
        shape=("N", N_LABELS),
        unit="K and dex",
        low=0,
        high=_LARGEST_ERROR,
        hint="drop stars without errors",
        axes=_STAR,
    ),
    "split": Member(
        "0 train, 1 validation, 2 test; or 255 throughout in archives, which a run divides",
        "integer",
        stored="uint8",
        low=0,
        high=255,
    ),
    **{
        f"{name}/{key}": member
        for name, instrument in INSTRUMENTS.items()
        for key, member in spectrum_members(instrument).items()
    },
    f"{OBSERVED}/flux": Member(
        "observed NIRSpec spectra of the T test stars, in their order, on the same grid",
        shape=_OBSERVED_PIXELS,
        low=-MAX_FLUX,
        high=MAX_FLUX,
        optional=True,
        axes=("test star", "pixel"),
    ),
    f"{OBSERVED}/mask": Member(
        "true where data are missing",
        "boolean",
        _OBSERVED_PIXELS,
        "bool",
        optional=True,
        axes=("test star", "pixel"),
    ),
    f"{OBSERVED}/labels": Member(
        "labels that they were made at, where these are known",
        shape=("T", N_LABELS),
        unit="K and dex",
        low=_LOWEST,
        high=_HIGHEST,
        optional=True,
        axes=("test star", "label"),
    ),
}


# Files of others mark pixels without data by NaN, too.
SPEC1D: dict[str, Member] = {  # PypeIt: the table of an object
    "OPT_WAVE": Member("wavelength in vacuum, 0 where there is none", unit="Angstrom", low=0, high=1e6, finite=False),
    "OPT_COUNTS": Member("optimally extracted flux", finite=False),
    "OPT_COUNTS_IVAR": Member("its inverse variance, 0 where there is none", finite=False),
    "OPT_MASK": Member("true where a pixel is good", "boolean"),
}
ONE_SPEC: dict[str, Member] = {  # PypeIt: the table of exposures that are added up
    "wave": Member("wavelength in vacuum, 0 where there is none", unit="Angstrom", low=0, high=1e6, finite=False),
    "flux": Member("flux density or counts", finite=False),
    "ivar": Member("its inverse variance, 0 where there is none", finite=False),
    "mask": Member("true where a pixel is good", "boolean"),
}
X1D: dict[str, Member] = {  # STScI: an EXTRACT1D table
    "WAVELENGTH": Member("wavelength in vacuum", unit="um, or what TUNIT says", low=0, high=1e6, finite=False),
    "FLUX": Member("flux density per frequency", unit="Jy, or a multiple", finite=False),
    "FLUX_ERROR": Member("its standard deviation", optional=True, finite=False),
    "ERROR": Member("the same in files of older pipelines", optional=True, finite=False),
    "DQ": Member("data quality; bit 0: do not use", "integer"),
}


_PIXELS = (INSTRUMENTS["apogee"].n_pix,)
ASPCAP_STAR: dict[str, Member] = {  # first row of HDU 1 and 2
    "flux": Member("relative to the continuum, 0 where data are missing", shape=_PIXELS, finite=False),
    "error": Member("its standard deviation", shape=_PIXELS, finite=False),
}
AP_STAR: dict[str, Member] = {  # first row of HDU 1 to 3
    "flux": Member("flux density", "float", _PIXELS, "", "1e-17 erg/s/cm2/Angstrom", -1e12, 1e12, finite=False),
    "error": Member("its standard deviation", shape=_PIXELS, unit="1e-17 erg/s/cm2/Angstrom", finite=False),
    "mask": Member("APOGEE_PIXMASK", "integer", _PIXELS),
}


SCHEMA_VERSION = 1  # of data sets


class DataSetAttributes(BaseModel):
    """The attributes of the file of a data set."""

    model_config = ConfigDict(extra="ignore", strict=True, use_attribute_docstrings=True)

    schema_version: int
    """Of the format."""
    source: Annotated[str, Field(max_length=200)]
    """Where the data come from: `simulate`, `apogee-dr17`, `original`, ..."""
    seed: int
    """What was random is a function of it."""
    created: str = ""
    """When, UTC."""
    provenance: str
    """JSON: what the data were made from and with."""


EMBEDDINGS: dict[str, Member] = {  # of one group, such as starclip/nirspec
    "z": Member("embedding, of unit length", shape=("M", "dim"), low=-1.001, high=1.001, axes=("row", "coordinate")),
    "star_id": Member("identifier of the star", "text", ("M",), "text"),
    "view": Member("number of the mock observation", "integer", ("M",), "int32", low=0, high=2**31 - 1),
    "split": Member("0 train, 1 validation, 2 test", "integer", ("M",), "uint8", low=0, high=2),
    "posterior": Member(
        "posterior of the labels, of fits: mean, and lower Cholesky factor of the precision, row by "
        "row, in coordinates in which the population is a standard Gaussian",
        shape=("M", N_LABELS + N_LABELS * (N_LABELS + 1) // 2),
        low=-1e9,
        high=1e9,
        optional=True,
        axes=("row", "number"),
    ),
}


def check_wavelengths(file: h5py.File, name: str, instrument: Instrument, where: str) -> None:
    """Raise DataError, first of all, if spectra in a file are on another grid than the instrument's."""
    sizes: dict[str, int] = {}
    any_length = Member("the grid", shape=("n_pix",))
    grid = dataset_of(file, f"{name}/wavelength", any_length, sizes, f"{where}: {name}/wavelength")
    spectra = Member("relative to the continuum", shape=("N", "pixels"))
    flux = dataset_of(file, f"{name}/flux", spectra, sizes, f"{where}: {name}/flux")
    assert grid is not None and flux is not None  # noqa: PT018  # neither is optional
    if sizes["pixels"] != sizes["n_pix"]:
        raise DataError(
            f"{where}: {name}/flux has {sizes['pixels']} pixels but {name}/wavelength has {sizes['n_pix']}. "
            "Rebuild it with notebook 01_data, or give the matching grid."
        )
    if sizes["n_pix"] == instrument.n_pix:
        check_grid(grid[()], instrument, f"{where}: {name}/wavelength")
