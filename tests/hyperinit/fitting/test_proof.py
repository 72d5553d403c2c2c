"""The proof of a plan compares outputs, and leaves the module as it was."""

import copy

import pytest
import torch
from fitting_cases import wide
from seeds import gen
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.fitting import make_plan
from hyperinit.fitting.proof import Proof, prove
from hyperinit.layout import Layout
from hyperinit.nets import build, cnn, describe, resnet

IMAGES = torch.randn(4, 1, 28, 28, generator=gen())


def rows(network, count):
    size = Layout.of(network).size
    return 0.2 * torch.randn(count, size, generator=gen(1))


def proof(module, network, count, inputs=IMAGES, **choice):
    plan = make_plan(module, Layout.of(network), **choice)
    weights = rows(network, count)
    return prove(module, plan, network, weights if count > 1 else weights[0], inputs)


def test_several_networks_side_by_side_are_proved_exact():
    found = proof(wide(), cnn(), 2)
    assert found.exact
    assert str(found).startswith("computes the mean of 2 networks (difference ")


def test_a_network_that_is_described_needs_no_values():
    found = proof(wide(), build(describe(cnn()), device="meta"), 2)
    assert found.exact


def test_a_deeper_and_wider_residual_network_is_proved_exact():
    found = proof(resnet(20, 9), resnet(8, 4), 2, torch.randn(2, 3, 16, 16, generator=gen()))
    assert found.exact


def test_colour_images_reach_a_grey_source_as_their_mean():
    assert proof(wide(3), cnn(), 2, torch.randn(4, 3, 28, 28, generator=gen())).exact


def test_another_activation_is_approximate():
    module = wide()
    module[2] = nn.ReLU()
    found = proof(module, cnn(), 2)
    assert not found.exact
    assert found.difference > 0.01
    assert str(found).startswith("approximates the mean of 2 networks (difference ")


def test_the_module_and_the_global_generator_are_left_alone():
    module, network = wide(), cnn()
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    proof(module, network, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training


class Uncopyable(nn.Sequential):
    def __deepcopy__(self, memo):
        raise TypeError("no copy of me")


@pytest.mark.parametrize(
    ("module", "network", "reason"),
    [
        (wide(), None, "the source does not describe its network"),
        (Uncopyable(*wide()), cnn(), "the module cannot be copied: no copy of me"),
        (nn.Sequential(*wide()[:-1], nn.Linear(40, 7)), cnn(), r"the module returns \(4, 7\) and the source's"),
        (nn.Sequential(*wide(), nn.Linear(10, 3)), cnn(), r"the module returns \(4, 3\) and the source's"),
    ],
)
def test_outputs_that_cannot_be_compared_are_said_to_be_unknown(module, network, reason):
    plan = make_plan(module, Layout.of(cnn()))
    found = prove(module, plan, network, rows(cnn(), 2), IMAGES)
    assert not found.exact
    assert pytest.approx(found.scale) == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(str(found))


def test_a_source_that_cannot_take_the_inputs_is_said():
    """Its linear layer needs images of 28 x 28 pixels, the module takes any size."""
    module = nn.Sequential(*wide()[:8], nn.AdaptiveAvgPool2d(3), nn.Flatten(), *wide()[9:])
    plan = make_plan(module, Layout.of(cnn()))
    found = prove(module, plan, cnn(), rows(cnn(), 2), torch.randn(2, 1, 40, 40, generator=gen()))
    assert "the source's network fails on such inputs: mat1 and mat2 shapes cannot be multiplied" in str(found)


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3, 5), torch.zeros(4, 2, 28, 28)])
def test_inputs_that_the_module_does_not_take_are_refused(inputs):
    with pytest.raises(ArgumentError, match="example_input must be a batch that the module takes, got"):
        proof(wide(), cnn(), 2, inputs)


def test_inputs_must_be_a_tensor():
    with pytest.raises(ArgumentError, match="example_input must be a tensor with a batch of inputs, got list"):
        proof(wide(), cnn(), 2, [1.0])


def test_a_difference_counts_in_units_of_the_outputs():
    assert Proof(1, 5e-3, 100.0).exact
    assert not Proof(1, 5e-3, 1.0).exact
    assert not Proof(1).exact


def test_a_fill_from_the_zoo_gets_its_statistics():
    plan = make_plan(wide(), Layout.of(cnn()), fill="zoo")
    stats = {layer.name: (0.0, 0.1) for layer in plan.layout.layers}
    found = prove(wide(), plan, cnn(), rows(cnn(), plan.members), IMAGES, layer_stats=stats)
    assert found.exact
