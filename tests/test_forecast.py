"""How long a run will take: steps counted by hand, hours from a given time a step."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from starclip_lib.data.instruments import NIRSPEC
from starclip_lib.pipeline import forecast as module
from starclip_lib.pipeline.forecast import forecast, training_steps
from starclip_lib.settings.params import changed_params, load_params
from starclip_lib.settings.training import EncoderParams, TrainParams

CPU = torch.device("cpu")


def test_steps_are_those_of_the_paper() -> None:
    """59,375 pairs in batches of 16 for 30 epochs."""
    steps = {name: plan[3] for name, plan in training_steps(load_params(ROOT / "params" / "paper.yaml")).items()}
    assert steps["StarCLIP, NIRSpec side"] == 30 * 3711  # ceil(5 * 11,875 / 16)
    assert steps["APOGEE encoder"] == 15 * 186


def test_steps_of_a_small_run_counted_by_hand() -> None:
    """400 stars, 250 of them to train on; fresh corruptions make no further copies."""
    params = load_params(ROOT / "params" / "small.yaml")
    expected = {
        "APOGEE encoder": 4 * 8,  # ceil(250 / 32)
        "NIRSpec encoder": 4 * 8,
        "supervised CNN": 1 * 4,  # ceil(250 / 64)
        "StarCLIP, NIRSpec side": 2 * 8,
        "StarCLIP, APOGEE side": 2 * 8,
    }
    assert {name: plan[3] for name, plan in training_steps(params).items()} == expected
    copies = changed_params(params, {"corruption": {"fresh": False}})  # two of each NIRSpec spectrum
    twice = {"NIRSpec encoder": 4 * 16, "supervised CNN": 8, "StarCLIP, NIRSpec side": 2 * 16}
    assert {name: plan[3] for name, plan in training_steps(copies).items()} == {
        **expected,
        **twice,
        "StarCLIP, APOGEE side": 2 * 16,
    }


def test_long_runs_are_announced_and_short_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_per_step", lambda *_: 0.1)
    paper = load_params(ROOT / "params" / "paper.yaml")
    hours = sum(plan[3] for plan in training_steps(paper).values()) * 0.1 / 3600
    sentence = forecast(paper, CPU)
    assert float(re.search(r"up to ([\d.]+) hours", sentence)[1]) == pytest.approx(hours, abs=0.06)
    assert forecast(paper, torch.device("cuda")) is None
    assert forecast(load_params(ROOT / "params" / "small.yaml"), CPU) is None


def test_each_training_counts_with_its_own_time_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = load_params(ROOT / "params" / "paper.yaml")
    monkeypatch.setattr(module, "seconds_per_step", lambda instrument, *_: 0.5 if instrument is NIRSPEC else 0.0)
    steps = {name: plan[3] for name, plan in training_steps(paper).items()}
    nirspec = sum(steps[name] for name in ("NIRSpec encoder", "supervised CNN", "StarCLIP, NIRSpec side"))
    assert f"up to {nirspec * 0.5 / 3600:.1f} hours" in forecast(paper, CPU)


def test_the_better_of_two_steps_after_one_to_warm_up_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a real network, on a clock that says 100, 7 and 3 seconds."""
    ticks = itertools.accumulate([0, 100, 1, 7, 1, 3])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    taken = module.seconds_per_step(NIRSPEC, EncoderParams(width=8, depth=1), TrainParams(batch_size=4))
    assert taken == 3
    assert next(ticks, None) is None  # three steps, no more
