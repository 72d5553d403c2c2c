"""The layout of any network: other parameters are left out, and a state dict tells the layers by names and shapes."""

import pytest
import torch
from torch import nn

from hyperinit.checkpoints.lenient import layout_of_module, layout_of_state, vector
from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import cnn, resnet


class Text(nn.Module):
    """A table, attention, a bare parameter, a recurrent layer and tied layers beside a plain one."""

    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(7, 4), nn.Parameter(torch.zeros(3, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm, self.linear, self.again = nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.linear.weight
        self.recurrent, self.slope = nn.GRU(4, 4), nn.PReLU()
        self.up, self.depthwise = nn.ConvTranspose2d(4, 3, 2), nn.Conv2d(4, 4, 3, groups=4)


KEPT = ["norm.weight", "norm.bias", "linear.weight", "linear.bias"]


def names(layout):
    return [tensor.name for tensor in layout.tensors]


@pytest.mark.parametrize("make", [cnn, lambda: resnet(8, 4), lambda: nn.Linear(2, 1)])
def test_networks_of_known_layers_have_the_layout_of_a_zoo(make):
    net = make()
    for layout in (layout_of_module(net), layout_of_state(net.state_dict(), "net")):
        assert names(layout) == names(Layout.of(net))
        assert [layer.kind for layer in layout.layers] == [layer.kind for layer in Layout.of(net).layers]


def test_other_parameters_are_left_out():
    assert names(layout_of_module(Text())) == [*KEPT, "depthwise.weight", "depthwise.bias"]
    assert layout_of_module(Text()).layers[-1].kind == "grouped conv2d"


def test_a_state_dict_tells_layers_by_names_and_shapes():
    state = Text().state_dict()
    first = nn.Conv2d(3, 4, 1).state_dict(prefix="conv.")
    found = layout_of_state({**first, **state}, "net")
    # which of two tied layers has the weight, shapes do not tell
    assert [name for name in names(found) if not name.startswith(("conv", "again"))] == [
        *KEPT, "depthwise.weight", "depthwise.bias"
    ]  # fmt: skip
    assert found.layers[-1].kind == "grouped conv2d", "one input behind four outputs"


def test_a_chain_with_batch_norms_has_groups_of_neurons():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    assert layout_of_module(net).group_sizes == {"0": 4}
    net.append(nn.LayerNorm(2))
    assert layout_of_module(net).group_sizes == {}, "a layer norm mixes its channels"


def test_small_variances_of_trained_networks_are_not_raised():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    net[1].running_var.fill_(1e-9)
    layout = layout_of_module(net)
    assert layout.state(vector(layout, net.state_dict(), "net"))["1.running_var"].item() == pytest.approx(1e-9)


@pytest.mark.parametrize("read", [layout_of_module, lambda net: layout_of_state(net.state_dict(), "ReLU")])
def test_a_network_without_layers_is_refused(read):
    with pytest.raises(LayoutError, match=r"must hold a conv or linear layer to be a source, got .*: none$"):
        read(nn.ReLU())
    with pytest.raises(LayoutError, match=r"got layers of these kinds: norm$"):
        read(nn.BatchNorm1d(2))


def test_values_must_be_finite_in_single_precision():
    layout = layout_of_module(nn.Linear(1, 1))
    for value in (float("nan"), 1e300):
        state = {"weight": torch.full((1, 1), value, dtype=torch.float64), "bias": torch.zeros(1)}
        with pytest.raises(LayoutError, match=r"net must hold finite numbers that fit float32, got others in weight$"):
            vector(layout, state, "net")
