from __future__ import annotations

import re

import pytest
import torch
from conftest import ROOT

from starclip_lib.pipeline import forecast as module
from starclip_lib.pipeline.forecast import forecast, training_steps
from starclip_lib.settings.params import load_params

CPU = torch.device("cpu")


def test_steps_are_those_of_the_paper() -> None:
    """59,375 pairs in batches of 16 for 30 epochs."""
    steps = {name: plan[3] for name, plan in training_steps(load_params(ROOT / "params" / "paper.yaml")).items()}
    assert steps["StarCLIP, NIRSpec side"] == 30 * 3711  # ceil(5 * 11,875 / 16)
    assert steps["APOGEE encoder"] == 15 * 186


def test_long_runs_are_announced_and_short_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_per_step", lambda *_: 0.1)
    paper = load_params(ROOT / "params" / "paper.yaml")
    hours = sum(plan[3] for plan in training_steps(paper).values()) * 0.1 / 3600
    sentence = forecast(paper, CPU)
    assert float(re.search(r"up to ([\d.]+) hours", sentence)[1]) == pytest.approx(hours, abs=0.06)
    assert forecast(paper, torch.device("cuda")) is None
    assert forecast(load_params(ROOT / "params" / "small.yaml"), CPU) is None


def test_a_step_takes_some_time() -> None:
    instrument, encoder, train, _ = training_steps(load_params(ROOT / "params" / "small.yaml"))["NIRSpec encoder"]
    assert 0 < module.seconds_per_step(instrument, encoder, train) < 60
