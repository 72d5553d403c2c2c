"""Modules, functions and methods that compute the same have one name."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hyperinit.fitting.steps import Step, ordered, step_of_call, step_of_module

RELU, POOL = Step("activation", "ReLU"), Step("pooling", "MaxPool2d(kernel_size=2)")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (nn.ReLU(), "ReLU"),
        (nn.ReLU(inplace=True), "ReLU"),
        (nn.LeakyReLU(), "LeakyReLU"),
        (nn.LeakyReLU(0.2, inplace=True), "LeakyReLU(negative_slope=0.2)"),
        (nn.GELU("tanh"), "GELU(approximate='tanh')"),
        (nn.PReLU(8), "PReLU"),
        (nn.MaxPool2d((2, 2)), "MaxPool2d(kernel_size=2)"),
        (nn.MaxPool2d(3, 2, padding=1), "MaxPool2d(kernel_size=3, stride=2, padding=1)"),
        (nn.AvgPool2d(2, 2), "AvgPool2d(kernel_size=2)"),
        (nn.AdaptiveAvgPool2d((1, 1)), "AdaptiveAvgPool2d(output_size=1)"),
        (nn.BatchNorm2d(3), "BatchNorm2d"),
        (nn.GroupNorm(1, 3), "GroupNorm"),
        (nn.PixelShuffle(2), "PixelShuffle"),
    ],
)
def test_a_module_has_a_name_and_arguments_other_than_the_defaults(part, text):
    assert step_of_module(part).text == text


@pytest.mark.parametrize(
    "part", [nn.Dropout(), nn.Dropout2d(0.3), nn.Flatten(), nn.Identity(), nn.Unflatten(1, (2, 2))]
)
def test_a_module_without_effect_on_values_is_no_step(part):
    assert step_of_module(part) is None


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "step"),
    [
        ("relu", [None], {}, RELU),
        ("relu_", [None], {}, RELU),
        ("relu", [None], {"inplace": True}, RELU),
        ("max_pool2d", [None, 2], {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}, POOL),
        ("max_pool2d", [None, (2, 2), 2], {}, POOL),
        ("leaky_relu", [None, 0.2], {}, Step("activation", "LeakyReLU(negative_slope=0.2)")),
        ("log_softmax", [None], {"dim": 1}, Step("activation", "LogSoftmax(dim=1)")),
        ("mean", [None, (2, 3)], {}, Step("pooling", "AdaptiveAvgPool2d(output_size=1)")),
        ("mean", [None, [-2, -1]], {}, Step("pooling", "AdaptiveAvgPool2d(output_size=1)")),
        ("mean", [None], {"dim": 1}, Step("pooling", "mean")),
        ("batch_norm", [None], {}, Step("norm", "batch_norm")),
        ("pad", [None, (1, 1)], {}, Step("operation", "pad")),
    ],
)
def test_a_call_is_the_step_of_the_module_that_computes_the_same(name, args, kwargs, step):
    assert step_of_call(name, args, kwargs, 1) == step


def test_sums_of_two_branches_are_joins_and_sums_with_a_constant_are_not():
    assert step_of_call("add", [None, None], {}, 2) == step_of_call("iadd", [None, None], {}, 2) == Step("join", "add")
    assert step_of_call("add", [None, 1], {}, 1) == Step("operation", "add")
    assert step_of_call("cat", [[None]], {}, 1).kind == "join"
    assert step_of_call("view", [None, -1], {}, 1) is None


@pytest.mark.parametrize("act", [nn.Tanh(), nn.ReLU(), nn.Sigmoid(), nn.ELU(), nn.Softplus()])
def test_max_pooling_and_a_rising_activation_may_be_in_either_order(act):
    """Oracle: the outputs. GELU is the negative control, since it falls for some values."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(act(functional.max_pool2d(x, 2)), functional.max_pool2d(act(x), 2))
    one, other = [step_of_module(act), POOL], [POOL, step_of_module(act)]
    assert ordered(one) == ordered(other)
    assert ordered([Step("activation", "GELU"), POOL]) != ordered([POOL, Step("activation", "GELU")])
    assert ordered([Step("pooling", "AvgPool2d(kernel_size=2)"), RELU])[0].kind == "pooling"
