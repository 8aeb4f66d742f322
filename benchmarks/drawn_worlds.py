"""Are networks that learn from many worlds right in another one?

    python benchmarks/drawn_worlds.py [params/quick.yaml]

The NIRSpec network of a finished run is trained again, on spectra of the same training stars in worlds drawn at random
(50 stars each; docs/worlds.md), then aligned with APOGEE's.  Both are calibrated on validation stars in further worlds
and judged as in the contest, one view of each test star.  Two minutes on one core after the run.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.data.spectrum_set import SpectrumSet
from starclip_lib.data.worlds import World
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.run import Run
from starclip_lib.settings.data import WorldParams
from starclip_lib.suite import contestants
from starclip_lib.suite.contestants import Contest, Entry
from starclip_lib.training import recipes
from starclip_lib.training.refining import network_of

_COPIES, _GROUP, _FIRST_SEED = 4, 50, 1000


def in_drawn_worlds(contest: Contest) -> PairedSpectra:
    """The data set with each training star four times, and NIRSpec spectra of all but test stars in drawn worlds."""
    data = contest.data
    train, val, test = (data.rows(name) for name in ("train", "val", "test"))
    order = np.concatenate([np.tile(train, _COPIES), val, test])
    flux = data.nirspec.flux[order]
    drawn = np.random.default_rng(_FIRST_SEED).permutation(len(order) - len(test))
    for number, start in enumerate(range(0, len(drawn), _GROUP)):
        rows = drawn[start : start + _GROUP]
        world = World(contest.emulator, WorldParams(kind="realistic", seed=_FIRST_SEED + number), 0)
        flux[rows] = world(data.labels[order[rows]].astype(float), NIRSPEC, world.physics_of(len(rows)))
        flux[rows] += world.correlated_noise(len(rows), NIRSPEC, 0)
    apogee = SpectrumSet(data.apogee.instrument, data.apogee.flux[order], data.apogee.mask[order])
    return replace(
        data,
        star_id=np.array([f"D{number:06d}" for number in range(len(order))]),
        labels=data.labels[order],
        label_errors=data.label_errors[order],
        split=data.split[order],
        apogee=apogee,
        nirspec=SpectrumSet(NIRSPEC, flux, np.zeros(flux.shape, bool)),
        observed=None,
        observed_labels=None,
    )


def told(title: str, entry: Entry) -> str:
    """First hits and errors of labels in a line for each kind of NIRSpec spectra."""
    lines = [title]
    for side, found in entry.labels.items():
        errors = f"{found['Teff']:.0f} K, {found['logg']:.3f}, {found['Fe']:.3f}, covered {found['coverage']:.3f}"
        lines.append(f"  {side:<9} R@1 {entry.hits[f'{side}_to_apogee']:.3f}  {errors}")
    return "\n".join(lines)


def main() -> None:
    """Train and judge."""
    run = Run.open(sys.argv[1] if len(sys.argv) > 1 else "params/quick.yaml")
    contest = Contest(run, 1)
    drawn, settings = in_drawn_worlds(contest), run.params.pretrain.nirspec
    pretraining = {"nirspec": {"epochs": 2 * settings.epochs // _COPIES}}
    alignment = {"train": {"epochs": run.params.starclip.train.epochs // 3}}
    print(told("label networks, theory", contestants.by_label_networks(contest)))
    print(told("contrastive, theory", contestants.by_contrast(contest)))
    with tempfile.TemporaryDirectory() as folder:
        nirspec, starclip = Path(folder) / "nirspec.ckpt", Path(folder) / "starclip.ckpt"
        recipes.train_encoder(nirspec, drawn, run.params.changed(pretrain=pretraining), "nirspec")
        encoders = network_of(nirspec, "nirspec"), contest.networks()[1]
        print(told("label networks, drawn worlds", contestants.by_networks(contest, encoders, known=drawn)))
        params = run.params.changed(starclip=alignment)
        recipes.train_starclip(starclip, drawn, params, nirspec, run.path("apogee.ckpt"))
        encoders = network_of(starclip, "nirspec"), network_of(starclip, "apogee")
        print(told("contrastive, drawn worlds", contestants.by_networks(contest, encoders, known=drawn)))


if __name__ == "__main__":
    main()
