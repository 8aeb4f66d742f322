"""Finding what does not belong: planted anomalies, and the share of them found at a given rate of false alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.embeddings import Embeddings
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.encoding import encode
from starclip_lib.physics.emulator import Emulator, default_emulator
from starclip_lib.physics.instruments import SIGMA_PER_FWHM, Instrument
from starclip_lib.physics.labels import label_index
from starclip_lib.run import Run
from starclip_lib.storage.hdf5 import Rows, RowsReplaced
from starclip_lib.suite.decoders import MOST_JUDGED, Decoder
from starclip_lib.transforms.views import ViewSampler, mock_telescope, pixel_noise

_MEDIAN_CHI2 = 0.4549364  # median of chi-squared with one degree of freedom
_SMOOTH = 9  # pixels over which the decoder's usual error is averaged, some widths of a line


def add_emission_line(
    flux: np.ndarray, instrument: Instrument, height: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Plant one unresolved emission line in each spectrum (n, n_pix), somewhere on a chip where there is data."""
    out = flux.copy()
    allowed = (flux != instrument.fill_value) & instrument.on_detector
    pixel = np.array([rng.choice(np.flatnonzero(row)) for row in allowed])
    centre = instrument.wavelength[pixel]
    sigma = centre / instrument.resolution * SIGMA_PER_FWHM
    line = height * np.exp(-0.5 * ((instrument.wavelength - centre[:, None]) / sigma[:, None]) ** 2)
    return np.where(flux == instrument.fill_value, flux, out + line).astype(flux.dtype), centre


class ResidualScore:
    """How strange a spectrum looks beside the one that its embedding, or its partner's, predicts.

    Fitted on spectra (n, n_pix) known to be normal: what the decoder gets wrong in each pixel is not strange.
    """

    def __init__(self, observed: np.ndarray, predicted: np.ndarray, instrument: Instrument):
        self.instrument = instrument
        residual = _residual(observed, predicted, instrument)
        known = np.isfinite(residual).sum(axis=0) >= 3  # other pixels are left out of every score
        self.offset = np.full(instrument.n_pix, np.nan)
        self.offset[known] = np.nanmedian(residual[:, known], axis=0)
        excess = (residual[:, known] - self.offset[known]) ** 2 / _MEDIAN_CHI2 - pixel_noise(residual)[:, None] ** 2
        # the median over spectra is noisy, but neighbouring pixels err alike: smoothed, it leaves little to cut at zero
        variance = uniform_filter1d(np.nanmedian(excess, axis=0), _SMOOTH)
        self.model_variance = np.full(instrument.n_pix, np.nan)
        self.model_variance[known] = np.maximum(variance, 0)

    def __call__(self, observed: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
        """Scores (n,) each, the larger the stranger, of observed spectra (n, n_pix) beside predicted ones."""
        residual = _residual(observed, predicted, self.instrument) - self.offset
        z = residual / np.sqrt(pixel_noise(residual)[:, None] ** 2 + self.model_variance)
        seen = np.isfinite(z)
        step = np.median(np.diff(self.instrument.wavelength))
        width = np.median(self.instrument.wavelength) / self.instrument.resolution * SIGMA_PER_FWHM / step
        # matched filter: the sum of z times a unit-length profile has unit variance if the noise is white
        profile = np.sqrt(2 * np.sqrt(np.pi) * width)
        peak = gaussian_filter1d(np.where(seen, z, 0), width, axis=1) * profile
        return {"chi2": np.nanmean(z**2, axis=1), "line": np.abs(peak).max(axis=1)}


def _residual(observed: np.ndarray, predicted: np.ndarray, instrument: Instrument) -> np.ndarray:
    return np.where(observed == instrument.fill_value, np.nan, observed - predicted)


@dataclass(eq=False)
class ObservedPairs:
    """Stars seen by both instruments: NIRSpec spectra (n, n_pix), and both embeddings (n, dim)."""

    flux: np.ndarray  # (n, n_pix), of NIRSpec
    z_nirspec: np.ndarray  # (n, dim)
    z_apogee: np.ndarray  # (n, dim)


class PairDetector:
    """Scores of pairs, each larger for stranger ones.

    `own` and `partner` decode NIRSpec spectra from the NIRSpec and from the APOGEE embedding; `normal` are pairs known
    to be normal, which no decoder was fitted on.
    """

    def __init__(self, own: Decoder, partner: Decoder, normal: ObservedPairs, instrument: Instrument):
        self.own, self.partner = own, partner
        self._own = ResidualScore(normal.flux, own.predict(normal.z_nirspec), instrument)
        self._partner = ResidualScore(normal.flux, partner.predict(normal.z_apogee), instrument)

    def __call__(self, pairs: ObservedPairs) -> dict[str, np.ndarray]:
        """Scores (n,) by name: angle between the embeddings, and residuals from what each embedding predicts."""
        lengths = np.linalg.norm(pairs.z_nirspec, axis=1) * np.linalg.norm(pairs.z_apogee, axis=1)
        cosine = (pairs.z_nirspec * pairs.z_apogee).sum(axis=1) / lengths
        own = self._own(pairs.flux, self.own.predict(pairs.z_nirspec))
        partner = self._partner(pairs.flux, self.partner.predict(pairs.z_apogee))
        return {
            "angle of the pair": 1 - cosine,
            "spectrum, from its own embedding": own["chi2"],
            "line, from its own embedding": own["line"],
            "spectrum, from APOGEE's": partner["chi2"],
            "line, from APOGEE's": partner["line"],
        }


class Observatory:
    """Observes stars with the telescope (first view) and pairs them with APOGEE's embeddings of all stars of `data`."""

    def __init__(self, data: PairedSpectra, encoder: Encoder, apogee: Embeddings, telescope: ViewSampler):
        if not np.array_equal(apogee.star_id, data.star_id):
            raise ValueError("the APOGEE embeddings must be those of all stars of the data set, in their order")
        self.encoder, self.apogee, self.telescope, self._nirspec = (
            encoder,
            apogee.z,
            replace(telescope, n_views=1),
            data.nirspec,
        )

    def pairs(self, flux: Rows, rows: np.ndarray, partners: np.ndarray | None = None) -> ObservedPairs:
        """First mock views of some of the clean spectra (n_stars, n_pix), with the partners in other rows if given."""
        return self.observed(self.look(flux, rows), rows if partners is None else partners)

    def look(self, flux: Rows, rows: np.ndarray) -> np.ndarray:
        """First mock views (len(rows), n_pix) of some of the clean spectra (n_stars, n_pix).

        The same rows get the same noise and gaps whatever their flux, so that an anomaly is the only difference.
        """
        return self.telescope.views(replace(self._nirspec, flux=flux), rows)[:, 0]

    def observed(self, flux: np.ndarray, partners: np.ndarray) -> ObservedPairs:
        """Spectra (m, n_pix) that have been observed already, with the APOGEE stars in rows `partners` (m,)."""
        return ObservedPairs(flux, encode(self.encoder, flux), self.apogee[partners])


def stripped(
    data: PairedSpectra, rows: np.ndarray, element: str, missing: float, emulator: Emulator
) -> tuple[np.ndarray, RowsReplaced]:
    """NIRSpec spectra of stars whose abundance of one element is lower by `missing` dex."""
    labels = data.labels[rows].astype(np.float64)
    labels[:, label_index(element)] -= missing
    possible = emulator.inside_domain(labels)
    changed = emulator(labels[possible], data.nirspec.instrument)
    return rows[possible], RowsReplaced(data.nirspec.flux, rows[possible], changed)


def plant(run: Run, decoders: Mapping[tuple[str, str], Decoder]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Scores of normal pairs of test stars, and of those with each kind of planted anomaly.

    What the decoders usually get wrong is learned on validation stars.
    """
    data, params, settings = run.data, run.params, run.params.evaluation
    val, test = (data.rows(split, MOST_JUDGED) for split in ("val", "test"))
    telescope, flux = mock_telescope(params), data.nirspec.flux
    encoder = cast("Encoder", run.model("starclip").encoders["nirspec"])
    watch = Observatory(data, encoder, run.embeddings("starclip/apogee"), telescope)
    own, partner = (decoders[source, "nirspec"] for source in ("nirspec", "apogee"))
    detector = PairDetector(own, partner, watch.pairs(flux, val), data.nirspec.instrument)
    rng = np.random.default_rng([params.seed, 13])
    bright, _ = add_emission_line(watch.look(flux, test), data.nirspec.instrument, settings.line_height, rng)
    planted = {
        "wrong pair": watch.pairs(flux, test, partners=np.roll(test, 1)),
        "emission line": watch.observed(bright, test),
    }
    for element in ("Mg", "Si", "C"):
        rows, changed = stripped(data, test, element, settings.stripped, default_emulator())
        planted[f"[{element}/H] − {settings.stripped:g}"] = watch.pairs(changed, rows)
    return detector(watch.pairs(flux, test)), {name: detector(pairs) for name, pairs in planted.items()}


def detection_rate(normal: np.ndarray, planted: np.ndarray, false_alarms: float = 0.01) -> float:
    """Share of planted anomalies whose score exceeds the one that `false_alarms` of the normal spectra exceed."""
    if not 0 < false_alarms < 1:
        raise ValueError(f"the rate of false alarms must be between 0 and 1, not {false_alarms}")
    return float(np.mean(planted > np.quantile(normal, 1 - false_alarms, method="higher")))
