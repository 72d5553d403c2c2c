"""Residual networks: published sizes, shortcuts, and their layout."""

import pytest
import torch
from torch import nn

from hyperinit.layout import Layout
from hyperinit.nets import ResNet, resnet20


@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 272474), (1, 10, 272186), (3, 100, 278324)])
def test_resnet20_has_twenty_layers_and_its_published_size(channels, classes, size):
    """0.27 M parameters; the two projections are not counted among the layers."""
    net = resnet20(channels, classes)
    assert sum(value.numel() for value in net.parameters()) == size
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in net.modules()) == 20 + 2
    assert net.eval()(torch.zeros(1, channels, 32, 32)).shape == (1, classes)


def test_a_residual_network_adds_its_shortcuts_and_halves_the_pixels_twice():
    net = ResNet(width=4, blocks=1).eval()
    shapes = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
        nn.init.zeros_(block.norm2.weight)  # leaves the shortcut alone
    images = torch.rand(2, 3, 8, 8)
    logits = net(images)
    assert shapes == [(2, 4, 8, 8), (2, 8, 4, 4), (2, 16, 2, 2)]
    stem = net.norm(net.conv(images)).relu()
    assert torch.equal(net.blocks[0](stem), stem)
    assert (logits[0] != logits[1]).all()


def test_the_layout_of_a_residual_network_holds_every_weight_and_statistic():
    layout = Layout.of(resnet20())
    channels = 7 * 16 + 6 * 32 + 6 * 64 + (32 + 64)  # of batch norm: main path, projections
    assert sum(tensor.size for tensor in layout.tensors if tensor.buffer) == 2 * channels
    assert layout.size == 272474 + 2 * channels
