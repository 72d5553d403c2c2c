"""The rules of the tracer, one operation at a time, without the check that runs the network."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hyperinit.errors import LayoutError
from hyperinit_training.symmetry.trace import trace


class Between(nn.Module):
    """Convolution, operation, convolution: does the first one's output order reach the second one's input?"""

    def __init__(self, operation, before=4, after=4):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, before, 1), nn.Conv2d(after, 2, 1)
        self.operation = operation
        self.gain = nn.Parameter(torch.ones(before, 1, 1))

    def forward(self, x):
        return self.second(self.operation(self.first(x)))


def free(network, *, signs=False):
    """Size of the joined set of the two convolutions; 0 if they are not joined or fixed."""
    found = trace(network.eval(), [torch.ones(2, 3, 4, 4)], signs=signs)
    out, into = found.of(network.first.weight)[0].root(), found.of(network.second.weight)[1].root()
    assert found.of(network.first.bias)[0].root() is out, "a bias moves with its weights"
    return out.size if out is into and not out.fixed else 0


ODD = {
    "identity": nn.Identity(),
    "tanh": torch.tanh,
    "method": lambda x: x.tanh(),
    "softsign": nn.Softsign(),
    "hardtanh": nn.Hardtanh(),
    "dropout": nn.Dropout(0.5),
    "average": nn.AvgPool2d(2),
    "global average": nn.AdaptiveAvgPool2d(1),
    "mean of pixels": lambda x: x.mean(dim=(2, 3), keepdim=True),
    "sum": lambda x: x + torch.tanh(x),
    "difference": lambda x: x - x.neg(),
    "half": lambda x: x * 0.5,
    "round trip": lambda x: x.flatten(2).transpose(1, 2).permute(0, 2, 1).view(2, 4, 4, 4),
    "every other pixel": lambda x: x[:, :, ::2, ::2],
    "padding": lambda x: functional.pad(x, (1, 1, 1, 1)),
}
ALIKE = {
    "relu": nn.ReLU(inplace=True),
    "gelu": functional.gelu,
    "max": nn.MaxPool2d(2),
    "max function": lambda x: functional.max_pool2d(x, 2),
    "batch norm": nn.BatchNorm2d(4),
    "plain batch norm": nn.BatchNorm2d(4, affine=False),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "layer norm": nn.LayerNorm([4, 4, 4]),
    "one group": nn.GroupNorm(1, 4),
    "group per channel": nn.GroupNorm(4, 4),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "shift": lambda x: x + 1,
    "softmax": lambda x: x.softmax(dim=1),
    "asymmetric": nn.Hardtanh(-1, 2),
}  # fmt: skip
MIXED = {
    "groups of two": nn.GroupNorm(2, 4),
    "grouped convolution": nn.Conv2d(4, 4, 1, groups=2),
    "norm over rows of channels": nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 4)), nn.PixelShuffle(1)),
    "channel padding": lambda x: functional.pad(x, (0, 0, 0, 0, 0, 0)).roll(1, dims=1),
    "channel order": lambda x: x.flip(1),
    "one channel": lambda x: x[:, 0:1].expand(-1, 4, -1, -1),
    "constant": lambda x: x * torch.arange(4.0).view(4, 1, 1),
    "cumulative": lambda x: x.cumsum(dim=1),
    "channels as pixels": lambda x: x.transpose(1, 2),
    "concatenation": lambda x: torch.cat([x, x], dim=1)[:, :4],
}


@pytest.mark.parametrize("name", [*ODD, *ALIKE])
def test_operations_that_treat_channels_alike_keep_the_group(name):
    assert free(Between((ODD | ALIKE)[name])) == 4


@pytest.mark.parametrize("name", MIXED)
def test_operations_that_mix_channels_fix_them(name):
    assert free(Between(MIXED[name])) == 0


@pytest.mark.parametrize("name", ODD)
def test_odd_operations_keep_signs(name):
    assert free(Between(ODD[name]), signs=True) == 4


@pytest.mark.parametrize("name", [*ALIKE, *MIXED])
def test_other_operations_do_not_keep_signs(name):
    assert free(Between((ALIKE | MIXED)[name]), signs=True) == 0


def test_a_depthwise_convolution_that_widens_moves_in_blocks():
    assert free(Between(nn.Conv2d(4, 12, 1, groups=4), after=12)) == 4


def test_concatenating_pixels_keeps_channels():
    assert free(Between(lambda x: torch.cat([x, x.relu()], dim=2))) == 4


def test_the_sign_of_a_neuron_that_is_added_to_others_is_fixed():
    network = Between(lambda x: x + torch.ones(4, 1, 1), before=1).eval()
    found = trace(network, [torch.ones(2, 3, 4, 4)], signs=True)
    assert found.of(network.first.weight)[0].root().fixed


class Gained(Between):
    def forward(self, x):
        return self.second(self.gain * self.first(x))


def test_a_parameter_that_scales_channels_moves_along():
    network = Gained(None)
    found = trace(network.eval(), [torch.ones(2, 3, 4, 4)], signs=False)
    assert found.of(network.gain)[0].root() is found.of(network.first.weight)[0].root()
    assert free(network) == 4
    assert free(network, signs=True) == 0


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.cell, self.out = nn.Linear(3, 4), nn.GRU(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.cell(self.into(x))[0])


def test_inputs_of_an_unknown_module_are_fixed_and_noted():
    network = Recurrent().eval()
    found = trace(network, [torch.ones(5, 2, 3)], signs=False)
    assert found.of(network.into.weight)[0].root().fixed
    assert found.of(network.out.weight)[1].root().fixed
    assert found.notes == ["cell (GRU) fixes the order of its input neurons"]


class Attention(nn.Module):
    """Queries have their own width; the attention weights are read, too."""

    def __init__(self, *, width=6, **settings):
        super().__init__()
        self.query, self.rest = nn.Linear(3, 4), nn.Linear(3, width)
        self.attention = nn.MultiheadAttention(4, 2, kdim=width, vdim=width, batch_first=True, **settings)
        self.out, self.read = nn.Linear(4, 2), nn.Linear(5, 1)

    def forward(self, x):
        rest = self.rest(x)
        found, weights = self.attention(self.query(x), rest, value=rest)
        return self.out(found) + self.read(weights)


@pytest.mark.parametrize("width", [4, 6])
def test_attention_joins_its_inputs_and_outputs_and_fixes_its_heads(width):
    network = Attention(width=width).eval()
    found = trace(network, [torch.ones(2, 5, 3)], signs=False)
    layer = network.attention
    weights = [layer.in_proj_weight] * 2 if width == 4 else [layer.q_proj_weight, layer.v_proj_weight]
    for linear, weight in zip((network.query, network.rest), weights, strict=True):
        assert found.of(weight)[1].root() is found.of(linear.weight)[0].root()
        assert found.of(weight)[0].root().fixed
        assert not found.of(weight)[1].root().fixed
    assert found.of(layer.out_proj.weight)[0].root() is found.of(network.out.weight)[1].root()
    assert not found.of(network.out.weight)[1].root().fixed
    assert found.of(layer.out_proj.weight)[1].root().fixed
    assert found.of(network.read.weight)[1].root().fixed
    assert found.notes == ["attention (MultiheadAttention) fixes the order of its heads"]


@pytest.mark.parametrize("settings", [{"signs": True}, {"signs": False, "add_bias_kv": True}])
def test_attention_without_a_rule_fixes_its_neurons(settings):
    network = Attention(add_bias_kv=settings.pop("add_bias_kv", False)).eval()
    network.read = nn.Linear(6 if network.attention.bias_k is not None else 5, 1)
    found = trace(network, [torch.ones(2, 5, 3)], **settings)
    assert found.of(network.query.weight)[0].root().fixed
    assert found.of(network.out.weight)[1].root().fixed


def test_inputs_and_outputs_are_fixed_without_a_note():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    found = trace(network, [torch.ones(2, 3)], signs=False)
    assert found.of(network[0].weight)[1].root().fixed
    assert found.of(network[2].weight)[0].root().fixed
    assert not found.of(network[2].weight)[1].root().fixed
    assert found.notes == []


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_data_dependent_control_flow_is_refused_with_a_hint():
    message = r"^torch\.fx must be able to trace Branching, got TraceError: .* by hand instead: groups=\{'fc1\.weight'"
    with pytest.raises(LayoutError, match=message):
        trace(Branching(), [torch.ones(2)], signs=False)
