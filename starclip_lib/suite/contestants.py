"""The methods that `suite.contest` compares: what they find again, and how well they read labels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import UNDIVIDED, PairedSpectra
from starclip_lib.inference.posterior import Population, Posterior
from starclip_lib.metrics.baselines import overlap_scores
from starclip_lib.metrics.ideal import ideal_among_observed, ideal_retrieval
from starclip_lib.metrics.linear_alignment import align_linearly
from starclip_lib.metrics.retrieval import ranks_between, retrieval_scores
from starclip_lib.metrics.view_information import seen_by, seen_by_apogee
from starclip_lib.models.checkpoint import Model
from starclip_lib.models.embeddings import Embeddings, as_embeddings
from starclip_lib.models.encoders import Encoder, Estimator
from starclip_lib.models.encoding import embed_views
from starclip_lib.models.fitted import EmulatorFit
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.run import Run
from starclip_lib.suite.ablation import pairs_of, train_variant
from starclip_lib.suite.corrected import agreed, anchored_fit, learn_correction, learn_variance, new_fit
from starclip_lib.support.errors import DataError
from starclip_lib.training.refining import calibrate, learn_errors, learn_pairs, network_of
from starclip_lib.transforms.views import extended_telescope, mock_telescope

_STEPS = 4  # Gauss-Newton steps of the fits
_LEARN = 500  # stars whose spectra teach the synthesis' errors: 33 kB a view
_MAGNESIUM = LABELS.index("Mg")
_FLAT = 300.0  # lift at which cosines fall with the distance of posteriors
Fits = tuple[EmulatorFit, EmulatorFit]  # of NIRSpec and of APOGEE
DIRECTIONS = ("nirspec_to_apogee", "apogee_to_nirspec", "observed_to_apogee", "mock_to_extended", "extended_to_mock")


@dataclass
class Entry:
    """What one method reached: R@1 by direction, errors of labels by kind of spectra, and seconds."""

    hits: dict[str, float] = field(default_factory=dict)
    labels: dict[str, dict[str, float]] = field(default_factory=dict)
    train_seconds: float = 0.0
    seconds_per_spectrum: float = 0.0


class Contest:
    """The data, models and views that methods share."""

    def __init__(self, run: Run, n_views: int | None = None):
        self.run, self.params, self.data = run, run.params, run.data
        check_data(self.data)
        self.telescope, self.test = mock_telescope(self.params, n_views), self.data.rows("test")
        self.emulator, self.population = default_emulator(), Population.of(self.data.labels[self.data.rows("train")])

    @cached_property
    def observed(self) -> PairedSpectra | None:
        """The data set with observed NIRSpec spectra of test stars, if it has any."""
        return None if self.data.observed is None else self.data.with_observed()

    @property
    def sides(self) -> dict[str, PairedSpectra]:
        """The data sets whose NIRSpec spectra are searched with: 'nirspec' and, if there is one, 'observed'."""
        return {"nirspec": self.data} | ({} if self.observed is None else {"observed": self.observed})

    def networks(self) -> tuple[Encoder, Encoder]:
        """The pretrained label networks of NIRSpec and APOGEE, fresh from their files."""
        return tuple(network_of(self.run.build(f"{name}.ckpt"), name) for name in ("nirspec", "apogee"))  # type: ignore[return-value]

    def views(self, data: PairedSpectra, rows: np.ndarray, n_views: int | None = None) -> Tensor:
        """NIRSpec views of stars (m * n_views, 8192)."""
        telescope = self.telescope if n_views is None else mock_telescope(self.params, n_views)
        views = telescope.views(data.nirspec, rows)
        return torch.from_numpy(views.reshape(-1, views.shape[-1]))

    def truth(self, side: str) -> np.ndarray:
        """Labels (m, 20) at which the test stars' NIRSpec spectra of a side were made."""
        return self.data.labels_of_observed() if side == "observed" else self.data.labels[self.test].astype(np.float64)

    def judge(self, entry: Entry, side: str, posterior: Posterior, population: Population) -> None:
        """Errors and coverage of the labels of all views of test stars."""
        mean, covariance = population.physical(posterior)
        error = mean - np.repeat(self.truth(side), len(mean) // len(self.test), axis=0)
        sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        ratio = error[:, _MAGNESIUM] - error[:, FE]
        columns = {"Teff": error[:, TEFF], "logg": error[:, LOGG], "Fe": error[:, FE], "Mg/Fe": ratio}
        entry.labels[side] = {name: float(np.sqrt((values**2).mean())) for name, values in columns.items()}
        entry.labels[side]["coverage"] = float((np.abs(error) < 1.96 * sigma).mean())

    def search(self, entry: Entry, found: Mapping[str, Embeddings], apogee: str = "apogee") -> None:
        """R@1 in all directions between what was embedded."""
        pairs = [("nirspec", "apogee"), ("apogee", "nirspec"), ("observed", apogee), ("mock", "extended")]
        for a, b in (*pairs, ("extended", "mock")):
            if a in found and b in found:
                scores = retrieval_scores(ranks_between(found[a], found[b]), len(found[b]))
                entry.hits[f"{a}_to_{b.partition('|')[0]}"] = scores["success@1"]


def check_data(data: PairedSpectra) -> None:
    """Raise DataError unless a data set has pairs that are divided into training and test stars."""
    if (data.split == UNDIVIDED).all():
        raise DataError("the contest needs training and test stars; this is an archive: name it as data.file of a run")
    for spectra in (data.nirspec, data.apogee):
        if spectra.mask[data.rows("test")[:1]].all():
            raise DataError(f"the contest needs pairs; this data set has no {spectra.instrument.title} spectra")


def by_overlap(contest: Contest) -> Entry:
    """Chi-squared over the pixels that both instruments have."""
    entry = Entry()
    for side, data in contest.sides.items():
        for direction, scores in overlap_scores(data, contest.telescope).items():
            name = direction.replace("nirspec", side)
            if name in DIRECTIONS:
                entry.hits[name] = float(scores["success@1"])
    return entry


def by_linear_alignment(contest: Contest) -> Entry:
    """Regularised canonical correlations."""
    entry = Entry()
    for side, data in contest.sides.items():
        found = align_linearly(data, contest.telescope)
        contest.search(entry, {side: found["nirspec"], "apogee": found["apogee"]})
    return entry


def by_networks(
    contest: Contest, encoders: tuple[Encoder, Encoder], posterior: bool = True, known: PairedSpectra | None = None
) -> Entry:
    """Networks, compared by calibrated cosine where there are enough validation stars (of `known`, or of the run)."""
    known = contest.data if known is None else known
    entry, rows = Entry(), known.rows("val")
    if contest.params.starclip.calibrate:
        calibrate(encoders, known, contest.params)
    found = {"apogee": embed_views(encoders[1], contest.data, contest.test)}
    if posterior:
        scaler = Model.load(contest.run.path("nirspec.ckpt")).scaler
        learn_errors(encoders[0], known, rows, scaler, contest.telescope)
    for side, data in contest.sides.items():
        begin = time.perf_counter()
        found[side] = embed_views(encoders[0], data, contest.test, contest.telescope)
        entry.seconds_per_spectrum = (time.perf_counter() - begin) / len(found[side])
        if posterior:
            views = contest.views(data, contest.test)
            packed = np.concatenate([encoders[0].posterior(part).packed for part in views.split(512)])
            contest.judge(entry, side, Posterior(packed, independent=False), encoders[0].population)
    contest.search(entry, found)
    return entry


def by_label_networks(contest: Contest) -> Entry:
    """The pretrained label networks."""
    return by_networks(contest, contest.networks())


def by_scratch(contest: Contest) -> Entry:
    """Contrastive training of networks with random weights."""
    pairs = pairs_of(contest.data, contest.params)
    model, _ = train_variant("scratch", contest.networks(), *pairs, contest.params.starclip, seed=contest.params.seed)
    return by_networks(contest, (model.encoder_a, model.encoder_b), posterior=False)


def by_contrast(contest: Contest) -> Entry:
    """StarCLIP and MockStarCLIP: contrastive training of the pretrained networks."""
    encoders = Model.load(contest.run.build("starclip.ckpt")).encoders
    entry = by_networks(contest, (encoders["nirspec"], encoders["apogee"]))  # type: ignore[arg-type]
    mock = Model.load(contest.run.build("mockstarclip.ckpt")).encoders
    contest.search(entry, _mock_sides(contest, mock))
    return entry


def _mock_sides(contest: Contest, encoders: Mapping[str, Estimator]) -> dict[str, Embeddings]:
    stars, data = mock_stars(contest.data, contest.params)["test"], contest.data
    extended = extended_telescope(data, contest.params, contest.telescope.n_views)
    telescopes = {"mock": contest.telescope, "extended": extended}
    return {name: embed_views(encoders[name], data, stars, seen) for name, seen in telescopes.items()}


def _by_fits(
    contest: Contest,
    nirspec: EmulatorFit,
    apogee: EmulatorFit,
    observed: Fits | None = None,
    matched: bool = False,
) -> Entry:
    """Fits, compared by Bayes factors; `observed` are those of observed NIRSpec spectra and of APOGEE beside them.

    With `matched` the latter take off what their nearest APOGEE spectra show to be wrong with all of them.
    """
    entry, data, test = Entry(), contest.data, contest.test
    flux, extra = torch.from_numpy(data.apogee.flux[test]), apogee.pair_covariance.numpy()
    sharp = apogee.posterior(flux)
    posteriors = {"apogee": sharp.blurred(extra) if extra.any() else sharp}
    for side, known in contest.sides.items():
        begin, views = time.perf_counter(), contest.views(known, test)
        used = observed[0] if side == "observed" and observed is not None else nirspec
        posteriors[side] = used.posterior(views)
        if side == "observed" and matched:
            posteriors[side] = agreed(posteriors[side], contest.telescope.n_views, sharp)
        entry.seconds_per_spectrum = (time.perf_counter() - begin) / len(views)
        contest.judge(entry, side, posteriors[side], contest.population)
    if observed is not None:
        posteriors["apogee|"] = sharp if observed[1] is apogee else observed[1].posterior(flux)
    contest.search(entry, _placed(contest, posteriors), "apogee" if observed is None else "apogee|")
    return entry


def _placed(contest: Contest, posteriors: Mapping[str, Posterior]) -> dict[str, Embeddings]:
    """Embeddings whose cosines choose the candidates that Bayes factors rank."""
    total = sum(one.covariance.mean(axis=0) for name, one in posteriors.items() if name in ("nirspec", "apogee"))
    root, found = np.linalg.cholesky(np.linalg.inv(total)), {}
    for name, one in posteriors.items():
        z = one.mean @ root
        z = np.concatenate([z, np.full((len(z), 1), _FLAT)], axis=1)
        z = (z / np.linalg.norm(z, axis=1, keepdims=True)).reshape(len(contest.test), -1, z.shape[1])
        packed = one.packed.reshape(*z.shape[:2], -1)
        ids, split = contest.data.star_id[contest.test], contest.data.split[contest.test]
        found[name] = as_embeddings(z.astype(np.float32), ids, split, packed)
    return found


def new_fits(contest: Contest, physics: bool = False, line_width: bool | None = None) -> Fits:
    """Fits of both instruments that have learned nothing from data but the population."""
    scaler, width = Model.load(contest.run.build("nirspec.ckpt")).scaler, contest.emulator.physics_width
    prior = (0 * width, np.diag(width**-2)) if physics else None
    common = (contest.population, scaler, _STEPS, prior)
    nirspec, apogee = (new_fit(contest.emulator, one, *common, line_width=line_width) for one in contest.networks())
    return nirspec, apogee


def by_theory(contest: Contest) -> Entry:
    """Fits of the emulator with its physics at nominal."""
    return _by_fits(contest, *new_fits(contest))


def by_physics(contest: Contest) -> Entry:
    """Fits in which the emulator's physics are nuisances of each spectrum."""
    return _by_fits(contest, *new_fits(contest, physics=True))


def by_learned_errors(contest: Contest) -> Entry:
    """The run's fits: errors of the synthesis in each pixel and those of pairs are learned."""
    fits = Model.load(contest.run.build("fit.ckpt")).encoders
    entry = _by_fits(contest, fits["nirspec"], fits["apogee"])  # type: ignore[arg-type]
    contest.search(entry, _mock_sides(contest, fits))
    return entry


def _corrected_fits(contest: Contest) -> Fits:
    """Fits whose syntheses are corrected by training stars, with the errors that are left and those of pairs."""
    fits, rows = new_fits(contest), contest.data.rows("train")
    flux = torch.from_numpy(contest.data.apogee.flux[rows])
    learn_correction(fits[1], flux, torch.from_numpy(contest.data.labels[rows].astype(np.float64)))
    learn_variance(fits[1], flux[:_LEARN])
    fits[0].fit_model_error(contest.views(contest.data, rows[:_LEARN], 1))
    learn_pairs((fits[0], fits[1]), contest.data, contest.data.rows("val"), (mock_telescope(contest.params, 1), None))
    return fits


def by_correction(contest: Contest) -> Entry:
    """Fits of a synthesis that is corrected by training stars."""
    return _by_fits(contest, *_corrected_fits(contest))


def by_anchor(contest: Contest) -> Entry:
    """The same; observed spectra correct their synthesis themselves, anchored on APOGEE's chips and their matches."""
    nirspec, apogee = _corrected_fits(contest)
    if contest.observed is None:
        return _by_fits(contest, nirspec, apogee)
    observed, _ = new_fits(contest, line_width=True)
    labels = torch.from_numpy(contest.data.labels[contest.data.rows("train")[:_LEARN]].astype(np.float64))
    anchored_fit(observed, contest.views(contest.observed, contest.test[:_LEARN], 1), apogee, labels)
    return _by_fits(contest, nirspec, apogee, (observed, apogee), matched=True)


def by_shared_errors(contest: Contest) -> Entry:
    """Fits of plain theory to both sides, whose common errors cancel; errors per pixel from spectra without labels."""
    nirspec, apogee = new_fits(contest)
    rows = contest.data.rows("train")[:_LEARN]
    learn_variance(apogee, torch.from_numpy(contest.data.apogee.flux[rows]))
    nirspec.fit_model_error(contest.views(contest.data, rows, 1))
    if contest.observed is None:
        return _by_fits(contest, nirspec, apogee)
    observed, _ = new_fits(contest, line_width=True)
    learn_variance(observed, contest.views(contest.observed, contest.test[:_LEARN], 1))
    return _by_fits(contest, nirspec, apogee, (observed, apogee))


def by_ideal(contest: Contest) -> Entry:
    """The Gaussian ideal matcher."""
    params, data, n_asked = contest.params, contest.data, contest.params.limits.n_matched
    seen = seen_by(contest.telescope, data, contest.test, contest.emulator)
    apogee = seen_by_apogee(data, contest.test, params.limits.apogee_snr, contest.emulator)
    stars = mock_stars(data, params)["test"]
    extended = seen_by(extended_telescope(data, params, 1), data, stars, contest.emulator)
    scores = ideal_retrieval(data, seen, extended, apogee, n_asked, params.seed)
    entry = Entry({name: float(found["success@1"]) for name, found in scores.items()})
    if contest.observed is not None:
        entry.hits["observed_to_apogee"] = ideal_among_observed(data, seen, apogee, n_asked, params.seed)["success@1"]
    return entry
