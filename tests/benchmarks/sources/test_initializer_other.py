"""Initialisations of other architectures."""

import pytest
import torch

import hyperinit
from benchmarks.sources import initializer_other


def test_a_checkpoint_is_laid_over_a_network_as_generated_weights_are():
    hr = hyperinit.load("digits")
    start = initializer_other.starts(hr, [])["a checkpoint of the zoo"]
    model = hyperinit.nets.cnn(1)
    start(model, torch.Generator().manual_seed(0))
    written = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert (written - hr.anchors.weights).norm(dim=1).min() < 1e-4


@pytest.mark.filterwarnings("ignore::hyperinit.MismatchWarning")  # the images are noise
@pytest.mark.parametrize(("shape", "count"), [((1, 28, 28), 3), ((3, 28, 28), 2)])
def test_networks_outside_the_zoo_take_the_images_and_every_start(shape, count):
    hr = hyperinit.load("digits" if shape[0] == 1 else "cifar10")
    networks, batches = initializer_other.networks(torch.Size(shape)), [torch.randn(8, *shape)]
    assert len(networks) == count
    for make in networks.values():
        for start in initializer_other.starts(hr, batches).values():
            model = make()
            start(model, torch.Generator().manual_seed(0))
            assert model(torch.zeros(2, *shape)).shape == (2, 10)
