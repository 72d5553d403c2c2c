"""The number of steps that fit in a time. `sources/test_from_checkpoints.py` tests `hyperinit train --minutes`."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from flips import flipped

from hyperinit.errors import ZooError
from hyperinit_training.machine.run_files import read_record, write_record
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
    assert read_record(tmp_path / "run" / "steps.json") == expected
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["steps.json"]


def test_a_resumed_run_keeps_its_number_of_steps(recipe, prepared, tmp_path, clock):
    first = timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU)
    clock.step = 5.0
    assert timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU) == first


def test_at_least_one_step_is_done(recipe, prepared, tmp_path, clock):
    clock.step = 1000.0
    assert timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU).steps == 1


def test_a_flipped_bit_of_the_number_of_steps_is_refused(recipe, prepared, tmp_path, clock):
    """120 steps may become 121 or 20 without any other sign."""
    first, refused = timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU), 0
    for _ in flipped(tmp_path / "steps.json", 60):
        try:
            assert timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU) == first
        except ZooError as error:
            refused += "steps.json: " in str(error)
    assert refused > 40  # the others hit blanks


@pytest.mark.parametrize("steps", [None, "many", {}])
def test_a_record_without_a_number_of_steps_is_refused(recipe, prepared, tmp_path, steps):
    write_record(tmp_path / "steps.json", {} if steps is None else {"steps": steps})
    message = r"cannot resume from .*steps.json: .*; delete it to measure the time of a step again$"
    with pytest.raises(ZooError, match=message):
        timed(recipe.autoencoder, prepared, 1.0, tmp_path, CPU)
