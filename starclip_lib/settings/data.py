"""The settings of the data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from starclip_lib.settings.base import Few, NotNegative, Place, Positive, Range, Section, check_order

MOST_STARS = 10_000_000


def _none_or_enough(n_stars: int) -> int:
    if n_stars != 0 and n_stars < 40:
        raise ValueError(f"must be at least 40, or 0 for all stars of data.file, not {n_stars}")
    if n_stars > MOST_STARS:
        raise ValueError(f"must be at most {MOST_STARS:,}, not {n_stars:,}")
    return n_stars


class ObservationParams(Section):
    """What makes the simulated APOGEE spectra look observed."""

    snr_min: Positive = 200.0
    """Lowest signal-to-noise ratio per pixel (the paper's cut)."""
    snr_max: Positive = 2900.0
    """Highest signal-to-noise ratio per pixel."""
    snr_index: Annotated[float, Field(gt=1, le=100)] = 2.2
    """Power-law index: the number of stars above S falls as S**-index (median 273)."""
    rv_residual: Annotated[float, Field(ge=0, le=1000)] = 0.3
    """Standard deviation of the residual radial velocity, km/s."""
    lsf_residual: Annotated[float, Field(ge=0, le=0.3)] = 0.03
    """Relative standard deviation of the width of the line-spread function."""
    sky_residual: Annotated[float, Field(ge=0, le=10)] = 0.01
    """Standard deviation of the residual at the centre of each airglow line, relative to the continuum."""
    telluric_residual: Annotated[float, Field(ge=0, le=10)] = 0.005
    """Standard deviation of the residual in the cores of the telluric CO2 and CH4 lines."""
    bad_pixels: Annotated[float, Field(ge=0, le=0.9)] = 0.002
    """Fraction of pixels without data, at random places."""

    @model_validator(mode="after")
    def _in_order(self) -> ObservationParams:
        check_order(("snr_min", self.snr_min), ("snr_max", self.snr_max))
        return self


class ArchiveParams(Section):
    """APOGEE DR17 from the public archive (`starclip fetch apogee`)."""

    base_url: Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=1000)] = (
        "https://data.sdss.org/sas/dr17/apogee/spectro/aspcap/dr17/synspec_rev1/"
    )
    """Address of the folder that holds the catalogue and, by telescope and field, the spectra."""
    catalogue: Annotated[str, Field(pattern=r"^[\w+][\w.+-]*$", max_length=200)] = "allStar-dr17-synspec_rev1.fits"
    """Name of the catalogue in that folder."""
    folder: Place = "archive/apogee-dr17"
    """Where everything is put, relative to the project's root."""
    snr_min: NotNegative = 200.0
    """Cut on the signal-to-noise ratio (the paper's)."""
    max_vscatter: Positive = 1.0
    """Cut on the scatter of the visits' radial velocities, km/s (the paper's)."""
    connections: Annotated[int, Field(ge=1, le=8)] = 4
    """Files fetched at the same time; the archive serves everybody."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """An attempt has failed after so many seconds without a byte."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How often a file is tried."""
    pause: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """Seconds before the second attempt, doubled before each further one."""


class WorldParams(Section):
    """The physics of observed spectra; a name stands for all of it: `world: realistic`."""

    kind: Literal["theory", "realistic"] = "theory"
    """'theory': the emulator's; 'realistic': one that differs from it as that of real stars does, also where numbers
    are given without it."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    """Of the world: its physics, errors of lines and line-spread functions."""
    physics: Annotated[float, Field(ge=0, le=2.5)] = 1.0
    """Size of the differences of physics from nominal, which all stars share, in widths of the emulator's priors."""
    fixed: dict[str, float] = Field(default={})
    """Physics that is not drawn, such as {vmic: 0.3}, in the emulator's units."""
    vmic_scatter: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Scatter of the microturbulence from star to star, km/s."""
    line_error_chips: Annotated[float, Field(ge=0, le=1)] = 0.06
    """Relative error of the depth of a line on APOGEE's chips."""
    line_error_outside: Annotated[float, Field(ge=0, le=1)] = 0.12
    """The same elsewhere."""
    lsf_error: Annotated[float, Field(ge=0, le=0.2)] = 0.03
    """Relative error of the width of an instrument's line-spread function."""
    correlated_noise: Annotated[float, Field(ge=0, le=0.1)] = 0.002
    """Standard deviation of noise that neighbouring pixels share, relative to the continuum."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"kind": given}
        return {"kind": "realistic", **given} if isinstance(given, dict) and given else given


class DataParams(Section):
    """The data set (notebook 01)."""

    file: Place = ""
    """A data set made by `starclip fetch apogee` or `starclip import-original`, relative to the project's root; empty:
    simulate the stars."""
    n_stars: Annotated[int, AfterValidator(_none_or_enough)] = 4000
    """Stars in all, the paper has 19,001; 0: as many as `file` or the archive has."""
    split: tuple[Few, Few, Few] = (5, 1, 2)
    """Proportions of train, validation and test stars."""
    teff_range: Range = (4000.0, 5000.0)
    """Cuts on the catalogue's Teff, K."""
    logg_range: Range = (0.5, 2.0)
    """Cuts on the catalogue's log g; the population is stretched over this range."""
    feh_range: Range = (-1.8, 0.5)
    """Cuts on the catalogue's [Fe/H]."""
    population: Literal["relations", "apogee"] = "relations"
    """Simulated stars: 'relations', a model of the giant branch and of abundances; 'apogee', Teff, log g, [M/H] and
    [alpha/M] of giants drawn from APOGEE DR17, the other elements by the same relations."""
    world: WorldParams = WorldParams()
    """Simulated stars: 'theory', 'realistic', or numbers. In a realistic world APOGEE is observed, NIRSpec partners
    stay theory, and the test stars have observed NIRSpec spectra beside them (docs/worlds.md)."""
    error_spread: Annotated[float, Field(ge=0, le=3)] = 0.2
    """Star-to-star scatter (natural logarithm) of the ASPCAP uncertainties about their published means."""
    apogee: ObservationParams = ObservationParams()
    archive: ArchiveParams = ArchiveParams()
    real_spectra: Place = ""
    """Folder of aspcapStar and apStar files that notebook 01 lays over emulated spectra, relative to the project's
    root; empty: none, or three stars of `file`."""

    @model_validator(mode="after")
    def _all_of_what(self) -> DataParams:
        if self.n_stars == 0 and not self.file:
            raise ValueError("n_stars can be 0 only if data.file names a data set; simulated stars need a number")
        return self
