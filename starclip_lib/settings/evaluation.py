"""The settings of what is done with trained models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from starclip_lib.settings.base import Count, Few, Fraction, Place, Positive, Section, Wavelengths, Width


class RetrievalParams(Section):
    """Similarity search (notebook 06)."""

    n_neighbours: Few = 5
    """Neighbours shown with an example query."""


class AtlasParams(Section):
    """Maps of the embedding (notebook 07)."""

    n_neighbours: Annotated[int, Field(ge=2, le=1000)] = 15
    """Neighbourhood size of UMAP."""
    min_distance: Fraction = 0.1
    """UMAP's min_dist."""
    max_points: Annotated[int, Field(ge=100, le=1_000_000)] = 5000
    """Points drawn (all are used for the PCA)."""


class LimitParams(Section):
    """Bounds of the labels' errors and the Gaussian ideal matcher (notebooks 08, 11 and 12)."""

    nirspec_snr: Positive = 100.0
    """Signal-to-noise ratio per pixel for the NIRSpec bound."""
    apogee_snr: Positive = 300.0
    """Signal-to-noise ratio per pixel for the APOGEE bound."""
    n_stars: Count = 50
    """Test stars over which median bounds are taken (notebooks 08 and 11)."""
    n_matched: Annotated[int, Field(ge=2, le=100_000)] = 100
    """Test stars that the Gaussian ideal matcher is asked for (notebook 12)."""


class ObservedParams(Section):
    """Observed NIRSpec spectra (notebook 10)."""

    folder: Place = ""
    """Folder of PypeIt spec1d or STScI x1d files; relative to the project's root.  Empty: none."""
    wavelength_range: Wavelengths = (10700.0, 18000.0)
    """Stretch that is used, Angstrom; outside, the pixels count as missing (extractions are poor at the blue end)."""
    max_velocity: Annotated[float, Field(ge=10, le=10_000)] = 400.0
    """Radial velocities are sought between minus and plus this, km/s."""
    fwhm: Annotated[float, Field(gt=0, le=1000)] = 4.06
    """Width of the line-spread function, Angstrom: 1.7 pixels of G140H, as a point source in a slitlet has it."""
    continuum_spacing: Annotated[float, Field(ge=10, le=9000)] = 150.0
    """Distance of the pseudo-continuum's knots, Angstrom, for models whose `corruption.continuum_spacing` is 0."""
    min_pixels: Count = 500
    """Fewer good pixels are too few."""
    min_snr: Positive = 20.0
    """Least signal-to-noise ratio per pixel."""
    max_roughness: Positive = 0.025
    """Largest difference of neighbouring pixels; more is not a star (clean M71 spectra have 0.012 to 0.017)."""
    max_second_source: Fraction = 0.3
    """Largest S/N of another object in the slit, relative to the target."""
    min_correlation: Fraction = 0.25
    """Least correlation with the best template."""
    n_neighbours: Few = 5
    """APOGEE stars listed for each spectrum."""
    n_draws: Annotated[int, Field(ge=2, le=10_000)] = 20
    """Resamplings of the noise behind the uncertainties."""
    study: bool = False
    """Train label networks on other corruptions as well, and show how they fare on the observed stars (minutes)."""


class EvaluationParams(Section):
    """The evaluation suite (notebooks 13 to 16; `starclip evaluate`)."""

    n_resamples: Annotated[int, Field(ge=50, le=1_000_000)] = 1000
    """Bootstrap resamples behind every interval."""
    n_components: Annotated[int, Field(ge=2, le=8192)] = 50
    """Principal components of the spectra that decoders predict."""
    line_height: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Height of planted emission lines, relative to the continuum."""
    stripped: Annotated[float, Field(gt=0, le=5)] = 0.5
    """By how much planted anomalies lack an element, dex."""
    attenuation_snr: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=100)] = (
        10.0,
        20.0,
        30.0,
        50.0,
        100.0,
        300.0,
    )
    """Signal-to-noise ratios at which the attenuation bias is shown."""
    attenuation_inputs: Few = 8
    """Principal components that go into its regressions."""
    ablation_epochs: Count = 10
    """Epochs of each variant of the alignment."""
    transfer_epochs: Count = 20
    """Epochs in which a network learns the domain that it is transferred from."""
    transfer_width: Width = 128
    """Width of that network."""
    transfer_steps: Annotated[int, Field(ge=20, le=1_000_000)] = 150
    """Optimiser steps of each fine-tuning, with each of three learning rates."""
    transfer_stars: Annotated[tuple[Count, ...], Field(min_length=1, max_length=100)] = (10, 50, 250)
    """Labelled stars of the new domain."""
    transfer_repeats: Few = 3
    """Draws of these stars."""
    scaling_stars: Annotated[tuple[Count, ...], Field(min_length=4, max_length=100)] = (150, 300, 600, 1200, 2400)
    """Training stars of the scaling study."""
    scaling_widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=100)] = (32, 256)
    """Widths of its networks."""
    scaling_steps: Annotated[int, Field(ge=20, le=1_000_000)] = 1000
    """Optimiser steps of the first training of each of its networks; doubled, up to five times, until that gains less
    than 2 %."""
    scaling_inputs: Annotated[int, Field(ge=2, le=8192)] = 128
    """Principal components of the spectra that its networks read."""
