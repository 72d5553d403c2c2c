"""The number of steps that fit in a time; `hyperinit train --minutes` is tested in test_own_zoo.py."""

import json
from dataclasses import replace

import torch

from hyperinit_training.train_autoencoder import train as module
from hyperinit_training.train_autoencoder.train import timed

CPU = torch.device("cpu")


def test_minutes_choose_the_steps_and_a_warm_up_within_them(recipe, prepared, tmp_path, monkeypatch):
    own = replace(recipe.autoencoder, warmup=50)
    assert timed(own, prepared, None, tmp_path, CPU) is own
    monkeypatch.setattr(module, "_seconds", lambda *_: 0.5)
    found = timed(own, prepared, 1.0, tmp_path / "run", CPU)
    assert (found.steps, found.warmup) == (120, 24)
    assert json.loads((tmp_path / "run" / "steps.json").read_text())["steps"] == 120
    monkeypatch.setattr(module, "_seconds", lambda *_: 5.0)
    assert timed(own, prepared, 1.0, tmp_path / "run", CPU).steps == 120  # as it began


def test_a_step_takes_time(recipe, prepared):
    before = torch.get_rng_state()
    assert 0 < module._seconds(recipe.autoencoder, prepared, CPU) < 60
    assert torch.equal(torch.get_rng_state(), before)
