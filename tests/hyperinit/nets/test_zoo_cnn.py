"""The CNN of the paper's zoos: its size, its activations, and the names that are refused."""

import pytest
import torch

from hyperinit.errors import ArgumentError
from hyperinit.nets import MODULES, cnn


@pytest.mark.parametrize(("channels", "size"), [(1, 2464), (3, 2864)])
def test_the_cnn_has_the_papers_size_and_ten_classes(channels, size):
    net = cnn(channels)
    assert sum(value.numel() for value in net.parameters()) == size
    assert net(torch.zeros(2, channels, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "sigmoid"])
def test_the_cnn_takes_other_activations(name):
    kind = MODULES[name][0]
    assert sum(type(step) is kind for step in cnn(activation=name)) == 4


def test_unknown_activations_are_refused():
    with pytest.raises(ArgumentError, match=r"^activation must be tanh, gelu, relu or sigmoid, got 'selu'$"):
        cnn(activation="selu")


@pytest.mark.parametrize("channels", [0, -1, None, "1", 1.0, True, 10**30])
def test_channels_are_a_positive_integer(channels):
    with pytest.raises(ArgumentError, match=r"^channels must be an integer of at least 1, got "):
        cnn(channels)
