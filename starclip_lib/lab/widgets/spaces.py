"""The spaces that the similarity browser shows: stars as vectors, before and after alignment, and as raw spectra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from starclip_lib.metrics.baselines import cropped_apogee
from starclip_lib.models.encoders import Estimator
from starclip_lib.models.encoding import encode_for_search
from starclip_lib.models.similarity import SimilarityIndex
from starclip_lib.physics.instruments import APOGEE, NIRSPEC, Instrument
from starclip_lib.run import Run
from starclip_lib.storage.hdf5 import Rows
from starclip_lib.transforms.views import FirstView, ViewSampler, extended_telescope, mock_telescope

FIT = "fits of the emulator"
SPACES = ("StarCLIP", "MockStarCLIP", "encoders before alignment", FIT, "raw spectra")
EXTENDED = "extended mock"  # the other side of MockStarCLIP: NIRSpec with all five corruptions
MODELS = tuple(f"{name}.ckpt" for name in ("apogee", "nirspec", "starclip", "mockstarclip", "fit"))
NEEDED = ("data.h5", *MODELS, "embeddings.h5", "fit.h5")

Spectra = Rows | FirstView


@dataclass(frozen=True, eq=False)
class Side:
    """One kind of spectrum in a space; row i of everything is star i of the data set."""

    title: str
    instrument: Instrument
    flux: Spectra  # (n, n_pix), the spectra
    index: SimilarityIndex  # their unit vectors, float32, to search among, of fits with packed posteriors
    encoder: Estimator | None  # what makes vectors of new spectra; None if the spectra are the vectors


class Spaces:
    """The spaces of a run, opened when first asked for.

    One mock observation of every star is held in memory: some 400 MB per 1,000 stars with all spaces opened.  Of
    spectra that stay on disk only StarCLIP's space is there, whose vectors are in the file of embeddings; spectra are
    read, or observed, when they are drawn.
    """

    def __init__(self, run: Run):
        for file in NEEDED:
            run.need(file)
        self._run, self._data = run, run.data
        self._open: dict[str, dict[str, Side]] = {}

    def __getitem__(self, name: str) -> dict[str, Side]:
        """The two sides of a space, by title."""
        if name not in self._open:
            make: dict[str, Callable[[], list[Side]]] = {
                "StarCLIP": partial(self._from_file, "starclip"),
                "MockStarCLIP": self._mockstarclip,
                "encoders before alignment": self._before_alignment,
                FIT: partial(self._from_file, "fit"),
                "raw spectra": self._raw,
            }
            self._open[name] = {side.title: side for side in make[name]()}
        return self._open[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The spaces that there are."""
        return SPACES[:1] if self._data.nirspec.on_disk else SPACES

    @cached_property
    def _mock_flux(self) -> Spectra:
        return self._first_view(mock_telescope(self._run.params, 1))

    @cached_property
    def _extended_flux(self) -> Spectra:
        return self._first_view(extended_telescope(self._data, self._run.params, 1))

    def _first_view(self, telescope: ViewSampler) -> Spectra:
        """View 0 of every star, the one that the file of embeddings has as well."""
        spectra = self._data.nirspec
        if spectra.on_disk:
            return FirstView(telescope, spectra)
        return telescope.views(spectra, np.arange(self._data.n_stars))[:, 0]

    def _side(
        self,
        title: str,
        instrument: Instrument,
        flux: Spectra,
        z: np.ndarray,
        posterior: np.ndarray | None,
        encoder: Estimator | None,
    ) -> Side:
        index = SimilarityIndex(z, self._data.star_id, np.float32, posterior)
        return Side(title, instrument, flux, index, encoder)

    def _from_file(self, model: str) -> list[Side]:
        """Vectors and posteriors of all stars, in their order, from the files of embeddings."""
        encoders, sides = self._run.model(model).encoders, []
        for title, instrument, flux in self._both:
            known = self._run.embeddings(f"{model}/{instrument.name}").of_view(0)
            sides.append(self._side(title, instrument, flux, known.z, known.posterior, encoders[instrument.name]))
        return sides

    def _before_alignment(self) -> list[Side]:
        sides = []
        for title, instrument, flux in self._both:
            encoder = self._run.model(instrument.name).encoders[instrument.name]
            sides.append(self._side(title, instrument, flux, *encode_for_search(encoder, np.asarray(flux)), encoder))
        return sides

    def _mockstarclip(self) -> list[Side]:
        encoders = self._run.model("mockstarclip").encoders
        parts = (
            (NIRSPEC.title, self._mock_flux, encoders["mock"]),
            (EXTENDED, self._extended_flux, encoders["extended"]),
        )
        return [
            self._side(title, NIRSPEC, flux, *encode_for_search(encoder, np.asarray(flux)), encoder)
            for title, flux, encoder in parts
        ]

    def _raw(self) -> list[Side]:
        """APOGEE cropped to NIRSpec's length, as in the paper's baseline."""
        apogee = np.asarray(self._data.apogee.flux)
        return [
            self._side(NIRSPEC.title, NIRSPEC, self._mock_flux, np.asarray(self._mock_flux), None, None),
            self._side(APOGEE.title, APOGEE, apogee, cropped_apogee(apogee), None, None),
        ]

    @property
    def _both(self) -> tuple[tuple[str, Instrument, Spectra], ...]:
        """Title, instrument and spectra of each: first views of NIRSpec, and APOGEE's."""
        return (NIRSPEC.title, NIRSPEC, self._mock_flux), (APOGEE.title, APOGEE, self._data.apogee.flux)
