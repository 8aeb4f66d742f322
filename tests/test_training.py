from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.models.checkpoint import History
from starclip_lib.models.contrastive import StarCLIP
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.models.encoding import pick_device, pick_precision
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LabelScaler
from starclip_lib.settings.training import AlignParams, CorruptionParams, EncoderParams, TrainParams
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.seeds import seeded
from starclip_lib.training import loop as training
from starclip_lib.training.batches import NewStars, Shuffled, SpectrumSource, batches
from starclip_lib.training.loop import Trainer
from starclip_lib.training.state import TrainingState
from starclip_lib.transforms.corruptions import mock
from starclip_lib.transforms.views import ViewSampler

CPU = torch.device("cpu")
SIX = TrainParams(epochs=6, batch_size=16)


class Killed(Exception):
    """Stands for a lost connection or a closed laptop."""


@pytest.fixture
def killed_after_three_epochs(monkeypatch) -> None:
    """Let the process die in the middle of the fourth epoch."""
    real = training.batches

    def dying(*args, **kwargs):
        calls["epoch"] += args[0] > 30  # training, not validation
        for number, batch in enumerate(real(*args, **kwargs)):
            if calls["epoch"] == 4 and args[0] > 30 and number == 2:
                raise Killed
            yield batch

    calls = {"epoch": 0}
    monkeypatch.setattr(training, "batches", dying)


def encoder(instrument=NIRSPEC) -> Encoder:
    return make_encoder(instrument, EncoderParams(width=16, depth=1), seed=5)


def telescope(n_views: int = 1) -> ViewSampler:
    return ViewSampler(mock(CorruptionParams()), n_views, seed=3)


def scaled(survey: PairedSpectra, rows: np.ndarray) -> np.ndarray:
    """Z-scored labels of some stars."""
    return LabelScaler.fit(survey.labels[survey.rows("train")]).transform(survey.labels[rows])


def source(survey: PairedSpectra, split: str, seen: ViewSampler | None = None, fresh: bool = False) -> SpectrumSource:
    """The NIRSpec spectra of a part of the stars."""
    rows = survey.rows(split)
    return SpectrumSource(survey.nirspec, rows, scaled(survey, rows), CPU, seen, fresh)


def supervised(survey: PairedSpectra, settings: TrainParams, resume: Path | None = None, seed: int = 1):
    net = encoder()
    net.fit_scaling(torch.from_numpy(survey.nirspec.flux[survey.rows("train")]))
    train, val = source(survey, "train", telescope(), fresh=True), source(survey, "val", telescope())
    return net, Trainer(settings, seed, resume=resume).pretrain(net, train, val)


def contrastive(survey: PairedSpectra, settings: TrainParams, resume: Path | None = None, copies: int = 0):
    """`copies` 0: fresh corruptions."""
    model = StarCLIP(encoder(NIRSPEC), encoder(APOGEE), AlignParams(train=settings))
    pairs = []
    for split, nirspec in (
        ("train", source(survey, "train", telescope(copies or 1), fresh=not copies)),
        ("val", source(survey, "val", telescope())),
    ):
        rows = survey.rows(split)
        pairs.append((nirspec, SpectrumSource(survey.apogee, rows, scaled(survey, rows), CPU)))
    return model, Trainer(settings, 1, resume=resume).align(model, *pairs)


def assert_same(one: torch.nn.Module, two: torch.nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("schedule", ["one_cycle", "step", "cosine", "constant"])
def test_pretraining_killed_and_resumed_equals_uninterrupted(
    survey, tmp_path: Path, schedule: str, killed_after_three_epochs, monkeypatch
) -> None:
    settings = SIX.changed(schedule=schedule, step_size=2, learning_rate=3e-3)
    with pytest.raises(Killed):
        supervised(survey, settings, tmp_path / "a.resume")
    monkeypatch.undo()
    resumed, history = supervised(survey, settings, tmp_path / "a.resume")
    whole, expected = supervised(survey, settings)
    assert_same(resumed, whole)
    assert history.val_loss == expected.val_loss
    assert history.learning_rate == expected.learning_rate
    assert history.epochs == 6


@pytest.mark.parametrize("copies", [0, 2], ids=["fresh", "fixed"])
def test_alignment_killed_and_resumed_equals_uninterrupted(
    survey, tmp_path: Path, copies: int, killed_after_three_epochs, monkeypatch
) -> None:
    with pytest.raises(Killed):
        contrastive(survey, SIX, tmp_path / "a.resume", copies)
    monkeypatch.undo()
    resumed, history = contrastive(survey, SIX, tmp_path / "a.resume", copies)
    whole, expected = contrastive(survey, SIX, copies=copies)
    assert_same(resumed, whole)
    assert history.train_loss == expected.train_loss


def test_training_learns_and_keeps_its_best_epoch(survey) -> None:
    net, history = supervised(survey, TrainParams(epochs=12, batch_size=16, learning_rate=2e-3))
    assert history.val_loss[-1] < 0.9 * history.val_loss[0]
    rows = survey.rows("val")
    flux = torch.from_numpy(telescope().views(survey.nirspec, rows)[:, 0])
    with torch.no_grad():
        error = ((net(flux) - torch.from_numpy(scaled(survey, rows))) ** 2).mean().item()
    assert error == pytest.approx(min(history.val_loss), rel=1e-3)


def test_the_seed_decides_the_result(survey) -> None:
    two = TrainParams(epochs=2, batch_size=16)
    one, again, other = (supervised(survey, two, seed=seed)[0] for seed in (1, 1, 2))
    assert_same(one, again)
    assert not torch.equal(one.features.weight, other.features.weight)


def test_early_stop_waits_for_the_epochs_it_was_given(survey) -> None:
    settings = TrainParams(
        epochs=50, batch_size=16, learning_rate=1e-9, schedule="constant", patience=3, tolerance=1e-3
    )
    _, history = supervised(survey, settings)
    assert history.epochs == 4  # the first one, and three that did not improve on it


def test_the_paper_schedule_steps_every_five_epochs(survey) -> None:
    _, history = supervised(survey, TrainParams(epochs=11, batch_size=64, schedule="step"))
    np.testing.assert_allclose(history.learning_rate, [1e-3] * 5 + [1e-4] * 5 + [1e-5], rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2, 5, 10])
def test_one_cycle_of_few_steps_ends_low(survey, epochs: int) -> None:
    """PyTorch's own schedule divides by zero at ten steps with a tenth of them as warm-up."""
    _, history = supervised(survey, TrainParams(epochs=epochs, batch_size=512, schedule="one_cycle"))
    assert history.epochs == epochs
    assert max(history.learning_rate) <= 1e-3
    assert history.learning_rate[-1] < 1e-4 or epochs == 1


def test_cosine_follows_its_formula(survey) -> None:
    settings = TrainParams(epochs=5, batch_size=64, schedule="cosine", learning_rate=1e-4, cosine_epochs=80)
    _, history = supervised(survey, settings)
    expected = 5e-6 + (1e-4 - 5e-6) * (1 + np.cos(np.pi * np.arange(5) / 80)) / 2
    np.testing.assert_allclose(history.learning_rate, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_weight_decay_follows_the_optimiser(kind: str) -> None:
    """The first step from a gradient of 0: AdamW shrinks by rate x decay, Adam moves by the rate whatever the decay."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    settings = TrainParams(optimizer=kind, learning_rate=0.1, weight_decay=0.2, schedule="constant")
    state = TrainingState.begin(layer, settings, 1)
    layer.weight.grad = torch.zeros_like(layer.weight)
    state.optimizer.step()
    assert float(layer.weight.detach()) == pytest.approx({"adamw": 2 - 0.1 * 0.2 * 2, "adam": 2 - 0.1}[kind], rel=1e-3)


def test_frozen_parts_stay_as_they_are(survey) -> None:
    model = StarCLIP(encoder(), encoder(), AlignParams(train=TrainParams(epochs=1, batch_size=16), label_weight=0.0))
    model.encoder_a.requires_grad_(False)
    model.encoder_b.features.requires_grad_(False)
    before = copy.deepcopy(model)
    clean, corrupted = source(survey, "train"), source(survey, "train", telescope(), fresh=True)
    Trainer(model.settings.train, 0).align(model, (clean, corrupted), (clean, clean))
    assert_same(model.encoder_a, before.encoder_a)
    assert_same(model.encoder_b.features, before.encoder_b.features)
    assert not torch.equal(model.encoder_b.head[-1].weight, before.encoder_b.head[-1].weight)


def test_a_checkpoint_of_other_settings_is_refused(survey, tmp_path: Path) -> None:
    supervised(survey, TrainParams(epochs=1, batch_size=16), tmp_path / "a.resume")
    with pytest.raises(DataError, match="made with other settings or another seed; delete it"):
        supervised(survey, TrainParams(epochs=1, batch_size=32), tmp_path / "a.resume")
    with pytest.raises(DataError, match="made with other settings or another seed"):
        supervised(survey, TrainParams(epochs=1, batch_size=16), tmp_path / "a.resume", seed=2)


def test_a_loss_that_explodes_is_an_error(survey) -> None:
    settings = TrainParams(epochs=2, batch_size=16, schedule="constant")
    beyond = settings.model_copy(update={"learning_rate": 1e30})  # which no parameter file can ask for
    with pytest.raises(DataError, match="loss is not finite in epoch 1; lower the learning rate"):
        supervised(survey, beyond)


def test_sources_give_what_the_telescope_sees(survey: PairedSpectra) -> None:
    """Clean spectra, the telescope's views, or fresh corruptions, each with the labels of its star."""
    rows, star, view = survey.rows("val"), torch.tensor([3, 0, 3]), torch.tensor([1, 0, 0])
    views = torch.from_numpy(telescope(2).views(survey.nirspec, rows))
    clean = torch.from_numpy(survey.nirspec.flux[rows])
    plain, fixed, fresh = (
        source(survey, "val"),
        source(survey, "val", telescope(2)),
        source(survey, "val", telescope(2), fresh=True),
    )
    assert [s.copies for s in (plain, fixed, fresh)] == [0, 2, 0]
    assert {len(s) for s in (plain, fixed, fresh)} == {len(rows)}
    for one, expected in (
        (plain, clean[star]),
        (fixed, views[star, view]),
        (fresh, telescope().corruption(clean[star], seeded("cpu", 4))),
    ):
        flux, labels = one.draw(star, view, seeded("cpu", 4))
        assert torch.equal(flux, expected)
        assert torch.equal(labels, torch.from_numpy(scaled(survey, rows[star])))


def test_shuffled_stars_have_the_spectrum_and_labels_of_another(survey: PairedSpectra) -> None:
    fixed = source(survey, "val", telescope(2))
    order = np.random.default_rng(0).permutation(len(fixed))
    shuffled = Shuffled(fixed, order)
    star, view = torch.arange(len(fixed)), torch.ones(len(fixed), dtype=torch.long)
    found, expected = shuffled.draw(star, view, seeded("cpu", 0)), fixed.draw(star, view, seeded("cpu", 0))
    assert (len(shuffled), shuffled.copies) == (len(fixed), 2)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other[torch.from_numpy(order)])


def test_every_item_comes_once_in_an_order_of_its_own() -> None:
    def items(seed: int | None) -> list[tuple[int, int]]:
        order = None if seed is None else np.random.default_rng(seed)
        return [
            (int(s), int(v)) for star, view in batches(7, 3, 4, CPU, order) for s, v in zip(star, view, strict=True)
        ]

    plain = [(s, v) for s in range(7) for v in range(3)]
    assert items(None) == plain
    assert items(1) != items(2)
    assert sorted(items(1)) == plain


def draw(stars: NewStars, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra and labels of so many new stars."""
    number = torch.zeros(n, dtype=torch.long)
    return stars.draw(number, number, seeded("cpu", seed))


def test_new_stars_have_the_spectra_of_their_labels_and_the_spread_of_the_known(survey: PairedSpectra) -> None:
    known, emulator = survey.labels[survey.rows("train")], default_emulator()
    scaler = LabelScaler.fit(known)
    stars = NewStars(known, NIRSPEC, scaler, CPU, smoothing=0.7, pool=20_000)
    assert len(stars) == len(known)
    flux, wanted = draw(stars, 500, seed=1)
    labels = scaler.inverse(wanted.numpy())
    np.testing.assert_allclose(flux.numpy(), emulator(labels, NIRSPEC), atol=2e-4)
    assert not (np.abs(labels[:, None] - known[None]).max(axis=2) < 1e-3).any()  # none is an old one
    _, many = draw(stars, 10_000, seed=2)
    np.testing.assert_allclose(many.numpy().std(axis=0), 1, atol=0.15)
    np.testing.assert_allclose(many.numpy().mean(axis=0), 0, atol=0.2)  # the domain's edges cut a little
    again, _ = draw(NewStars(known, NIRSPEC, scaler, CPU, smoothing=0.7, pool=20_000), 500, seed=1)
    assert torch.equal(again, flux)
    only_known = draw(NewStars(known, NIRSPEC, scaler, CPU, smoothing=0.0, pool=300), 50, seed=1)[1]
    distance = np.abs(only_known.numpy()[:, None] - scaler.transform(known)[None]).max(axis=2).min(axis=1)
    assert distance.max() < 1e-4


def test_new_stars_far_from_the_emulators_domain_are_refused(survey: PairedSpectra) -> None:
    labels = survey.labels[:50] + np.float32(5)
    with pytest.raises(DataError, match="holds almost no stars with labels like these"):
        NewStars(labels, NIRSPEC, LabelScaler.fit(labels), CPU, smoothing=0.5, pool=100)


def test_pretraining_on_new_stars_learns_labels_of_old_ones(survey: PairedSpectra) -> None:
    known = survey.labels[survey.rows("train")]
    net = encoder()
    net.fit_scaling(torch.from_numpy(survey.nirspec.flux[survey.rows("train")]))
    new = NewStars(known, NIRSPEC, LabelScaler.fit(known), CPU, smoothing=0.7, pool=2000)
    settings = TrainParams(epochs=100, batch_size=20, learning_rate=3e-3)
    history = Trainer(settings, 1).pretrain(net, new, source(survey, "val"))
    assert min(history.val_loss) < 0.6 * history.val_loss[0]


def test_bfloat16_learns_too(survey) -> None:
    net, stars = encoder(), source(survey, "train")
    net.fit_scaling(torch.from_numpy(survey.nirspec.flux[survey.rows("train")]))
    settings = TrainParams(epochs=8, batch_size=16, learning_rate=2e-3)
    history = Trainer(settings, 0, precision=torch.bfloat16).pretrain(net, stars, stars)
    assert history.val_loss[-1] < 0.8 * history.val_loss[0]
    assert all(p.dtype == torch.float32 for p in net.parameters())


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16
    if not torch.cuda.is_available():
        assert pick_device("auto") == CPU
        with pytest.raises(ConfigError, match=r"device: cuda was asked for, but .* sees no CUDA GPU; use cpu or auto"):
            pick_device("cuda")


def test_history_counts_from_one() -> None:
    assert History(val_loss=[3.0, 1.0, 2.0]).best_epoch == 2


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimiser_is_the_one_that_is_asked_for(name: str) -> None:
    """One step by hand: Adam adds the decay to the gradient, AdamW takes it off the weights."""
    settings = TrainParams(optimizer=name, learning_rate=0.1, weight_decay=0.2, schedule="constant")
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(3.0)
    state = TrainingState.begin(model, settings, 10)
    (model.weight * -0.1).sum().backward()
    state.optimizer.step()
    # a first step has the length of the rate and the sign of the gradient, which for Adam is -0.1 + 0.2 * 3
    expected = 3.0 - 0.1 if name == "adam" else 3.0 * (1 - 0.1 * 0.2) + 0.1
    assert model.weight.item() == pytest.approx(expected, rel=1e-4)
