"""The number of steps that fit in a time. `sources/test_from_checkpoints.py` tests `hyperinit train --minutes`."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hyperinit_training.train_autoencoder import train
from hyperinit_training.train_autoencoder.state import Training
from hyperinit_training.train_autoencoder.train import timed

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock: the first step of a run takes 100 seconds, every later one `clock.step` seconds."""
    clock, advance = SimpleNamespace(now=0.0, step=0.5), Training.advance

    def slow(training):
        clock.now += clock.step if training.step else 100.0
        return advance(training)

    monkeypatch.setattr(Training, "advance", slow)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_without_minutes_the_recipe_is_returned(recipe, prepared, tmp_path):
    assert timed(recipe.autoencoder, prepared, None, tmp_path, CPU) is recipe.autoencoder
    assert not list(tmp_path.iterdir())


def test_minutes_choose_the_steps_and_a_warm_up_within_them(recipe, prepared, tmp_path, clock):
    own, state = replace(recipe.autoencoder, warmup=50), torch.get_rng_state()
    found = timed(own, prepared, 1.0, tmp_path / "run", CPU)
    assert found == replace(own, steps=120, warmup=24)  # the slow first step does not count
    assert torch.equal(torch.get_rng_state(), state)
    expected = {"steps": 120, "seconds per step": 0.5, "minutes": 1.0}
    assert json.loads((tmp_path / "run" / "steps.json").read_text()) == expected


def test_a_resumed_run_keeps_its_number_of_steps(recipe, prepared, tmp_path, clock):
    first = timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU)
    clock.step = 5.0
    assert timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU) == first


def test_at_least_one_step_is_done(recipe, prepared, tmp_path, clock):
    clock.step = 1000.0
    assert timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU).steps == 1
