"""The cost of coding a network is an upper bound of what is computed, and grows as it should."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hyperinit.autoencoder import Autoencoder, AutoencoderConfig, Cost
from hyperinit.layout import Layout

SMALL = {"width": 8, "heads": 2, "feedforward": 24, "depth": 2, "latent": 4}
CONFIGS = {
    "cls": SMALL,
    "flatten": SMALL | {"compression": "flatten"},
    "reference": SMALL | {"block": "reference", "compression": "flatten"},
    "chunks": SMALL | {"chunk": 7},
    "windows": SMALL | {"chunk": 3, "window": 9, "halo": 3},
    "padding": SMALL | {"chunk": 500},
    "long latents": SMALL | {"chunk": 7, "latent": 300},
}


class Largest(TorchDispatchMode):
    """Keep the number of values of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = found if isinstance(found, tuple | list) else [found]
        self.most = max([self.most, *(value.numel() for value in tensors if isinstance(value, torch.Tensor))])
        return found


@pytest.fixture
def layout():
    return Layout.of(nn.Sequential(nn.Linear(7, 25), nn.Linear(25, 9), nn.Linear(9, 5)))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_tensor_of_one_network_is_larger_than_the_bound_or_the_parameters(layout, name):
    config = AutoencoderConfig(**CONFIGS[name])
    model = Autoencoder(config, layout, torch.zeros(layout.size), torch.ones(layout.size)).eval().requires_grad_(False)
    parameters = max(value.numel() for value in model.parameters())
    with Largest() as largest:
        model.decode(model.encode(torch.ones(1, layout.size)))
    assert largest.most <= max(Cost.of(config, layout).numbers, parameters)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"depth": 4}, 1.9),
        ({"feedforward": 1000}, 5),
        ({"chunk": 1, "window": 64, "halo": 0}, 1.5),  # more tokens
    ],
)
def test_deeper_wider_and_longer_costs_more(layout, changes, factor):
    before = Cost.of(AutoencoderConfig(**SMALL), layout).products
    assert Cost.of(AutoencoderConfig(**SMALL | changes), layout).products > factor * before


def test_overlapping_windows_cost_what_they_code_again(layout):
    plain, halos = (
        Cost.of(AutoencoderConfig(**SMALL, chunk=1, window=8, halo=halo), layout).products for halo in (0, 3)
    )
    assert plain * 3 < halos < plain * 5  # windows of 8 start 2 chunks apart, in place of 8
