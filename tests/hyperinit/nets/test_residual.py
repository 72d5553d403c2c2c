"""Residual networks: published sizes, torchvision's names, shortcuts, and their layout."""

import re

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import ResNet, resnet, resnet20
from hyperinit.nets.residual import named


@pytest.mark.parametrize(("channels", "classes", "size"), [(3, 10, 272474), (1, 10, 272186), (3, 100, 278324)])
def test_resnet20_has_twenty_layers_and_its_published_size(channels, classes, size):
    """0.27 M parameters; the two projections are not counted among the layers."""
    net = resnet20(channels, classes)
    assert sum(value.numel() for value in net.parameters()) == size
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in net.modules()) == 20 + 2
    assert net.eval()(torch.zeros(1, channels, 32, 32)).shape == (1, classes)


@pytest.mark.parametrize("depth", [8, 14, 56])
def test_depth_counts_the_layers_of_the_main_path(depth):
    net = resnet(depth, width=2, classes=5, channels=1)
    assert sum(isinstance(part, nn.Conv2d | nn.Linear) for part in net.modules()) == depth + 2
    assert net.fc.weight.shape == (5, 8)
    assert net.conv1.weight.shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((18,), "depth must be 6 n + 2, such as 8, 14, 20, 32, 44 or 56, got 18"),
        ((2,), "depth must be 6 n + 2"),
        ((-4,), "depth must be 6 n + 2"),
        ((8, 0), "width, classes and channels must be at least 1, got 0, 10 and 3"),
        ((8, 4, 10, -1), "width, classes and channels must be at least 1, got 4, 10 and -1"),
    ],
)
def test_sizes_that_no_network_has_are_refused(sizes, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        resnet(*sizes)


def test_a_name_gives_depth_and_width():
    net = named("resnet8x4", channels=1, classes=3)
    assert net.sizes == {"channels": 1, "classes": 3, "blocks": 1, "width": 4}


@pytest.mark.parametrize("name", ["resnet", "resnet14", "resnet14x16x2", "vgg14x16", "resnet99999x1", ""])
def test_another_name_is_refused(name):
    with pytest.raises(ArgumentError, match=f"network must be resnet, a depth, x and a width, .* got '{name}'"):
        named(name, channels=3, classes=10)


def test_parameters_have_the_names_of_torchvision():
    """They are those of `torchvision.models.resnet18` in the stages that both have."""
    block = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]
    short = ["downsample.0.weight", "downsample.1.weight", "downsample.1.bias"]
    expected = ["conv1.weight", "bn1.weight", "bn1.bias", *(f"layer1.0.{name}" for name in block)]
    expected += [f"layer{stage}.0.{name}" for stage in (2, 3) for name in (*block, *short)]
    assert [name for name, _ in resnet(8, 4).named_parameters()] == [*expected, "fc.weight", "fc.bias"]


def test_a_residual_network_adds_its_shortcuts_and_halves_the_pixels_twice():
    net = ResNet(width=4, blocks=1).eval()
    shapes = []
    for block in (net.layer1[0], net.layer2[0], net.layer3[0]):
        block.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
        nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    images = torch.rand(2, 3, 8, 8)
    logits = net(images)
    assert shapes == [(2, 4, 8, 8), (2, 8, 4, 4), (2, 16, 2, 2)]
    stem = net.bn1(net.conv1(images)).relu()
    assert torch.equal(net.layer1(stem.clone()), stem)
    assert (logits[0] != logits[1]).all()


def test_the_layout_of_a_residual_network_holds_every_weight_and_statistic():
    layout = Layout.of(resnet20())
    channels = 7 * 16 + 6 * 32 + 6 * 64 + (32 + 64)  # of batch norm: main path, projections
    assert sum(tensor.size for tensor in layout.tensors if tensor.buffer) == 2 * channels
    assert layout.size == 272474 + 2 * channels


@pytest.mark.parametrize("size", [None, "8", 8.0, True, [8], torch.ones(2)])
def test_sizes_that_are_no_integers_are_refused(size):
    for sizes in ({"depth": size}, {"depth": 8, "width": size}, {"depth": 8, "channels": size}):
        with pytest.raises(ArgumentError, match=r"^depth, width, classes and channels must be integers, got "):
            resnet(**sizes)
    with pytest.raises(ArgumentError, match=r"^depth, width, classes and channels must be integers, got "):
        resnet20(size)
    with pytest.raises(ArgumentError, match=r"must be at most 16,777,216, got "):
        resnet(8, 10**30)
