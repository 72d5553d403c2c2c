"""Guessed example inputs: the shape fits the first layer, and the module stays as it was."""

import pytest
import torch
from torch import nn

from hyperinit_training.symmetry.example import guess_input


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Linear(7, 2)), (2, 7)),
        (nn.Sequential(nn.Conv1d(3, 2, 3), nn.Flatten(), nn.Linear(52, 2)), (2, 3, 28)),
        (nn.Sequential(nn.Conv2d(3, 2, 5), nn.Flatten(), nn.Linear(2 * 60 * 60, 2)), (2, 3, 64, 64)),
        (nn.Sequential(nn.Conv2d(3, 2, 5), nn.Flatten(), nn.Linear(11, 2)), None),
        (nn.Sequential(nn.ReLU()), None),
    ],
)
def test_the_input_is_guessed_from_the_first_layer(module, shape):
    found = guess_input(module)
    assert (None if found is None else tuple(found.shape)) == shape


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_running_statistics_stay(training):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train(training)
    assert guess_input(module).shape == (2, 1, 28, 28)
    assert module.training is training
    assert module[1].num_batches_tracked == 0


def test_an_error_that_is_not_about_the_shape_passes_through():
    class Broken(nn.Linear):
        def forward(self, x):
            raise FileNotFoundError("table.npz")

    with pytest.raises(FileNotFoundError, match=r"^table\.npz$"):
        guess_input(Broken(3, 2))


def test_the_guess_holds_zeros():
    assert torch.equal(guess_input(nn.Linear(3, 2)), torch.zeros(2, 3))
