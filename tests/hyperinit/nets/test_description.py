"""Networks as data: describing, rebuilding, and refusing what is not one."""

import json

import pytest
import torch
from torch import nn

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import MODULES, ResNet, build, cnn, describe, resnet20


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


def every_kind():
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 5), stride=2, padding=(1, 0), bias=False), nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.Sigmoid(),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(48, 3), nn.Tanh(), nn.GELU(), nn.Linear(3, 2, bias=False),
    )  # fmt: skip


@pytest.mark.parametrize("make", [cnn, lambda: cnn(3, "gelu"), every_kind])
def test_build_inverts_describe_also_through_json(make):
    net = make()
    twin = build(json.loads(json.dumps(describe(net))))
    assert repr(twin) == repr(net)
    twin.load_state_dict(net.state_dict())
    channels = net[0].in_channels
    images = torch.randn(2, channels, 28, 28) if channels != 2 else torch.randn(2, 2, 14, 15)
    assert torch.equal(twin.eval()(images), net.eval()(images))


def test_every_module_that_can_be_built_is_tested_above():
    assert {type(step) for step in every_kind()} == {kind for kind, _ in MODULES.values()}


def test_no_random_number_is_drawn():
    description = describe(cnn())
    before = torch.get_rng_state()
    net = build(description)
    assert torch.equal(torch.get_rng_state(), before)
    assert {value.device.type for value in net.parameters()} == {"cpu"}


def test_on_the_meta_device_nothing_is_allocated():
    net = build([["linear", {"in_features": 10**6, "out_features": 10**6}]], device="meta")
    assert net[0].weight.is_meta


def test_only_listed_modules_are_described():
    with pytest.raises(LayoutError, match=r"^a described network may hold conv2d, .*sigmoid, got BatchNorm2d$"):
        describe(nn.Sequential(nn.BatchNorm2d(2)))

    class MyLinear(nn.Linear):
        pass

    with pytest.raises(LayoutError, match="got MyLinear"):
        describe(nn.Sequential(MyLinear(2, 1)))


LINEAR = {"in_features": 2, "out_features": 1}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([["lstm", {}]], r"a step must be one of conv2d, .*, got \['lstm', {}\]"),
        ([["linear", {**LINEAR, "device": "cuda"}]], "linear takes no 'device'"),
        ([["linear", {**LINEAR, "a": 1, "b": 1}]], "linear takes no 'a'"),
        ([["linear", {"in_features": 2}]], "TypeError: "),
        ([["linear", {**LINEAR, "in_features": -2}]], "in_features of linear must be a positive integer, got -2"),
        ([["linear", {**LINEAR, "in_features": 10**30}]], "in_features of linear must be a positive integer, got 10"),
        ([["tanh", {"bias": True}]], "tanh takes no 'bias'"),
        ([["tanh", None]], "a step must be one of"),
        ([["tanh", []]], "a step must be one of"),
        ([["dropout", {"p": 2}]], r"p of dropout must be a number in \[0, 1\], got 2"),
        ([["linear", {**LINEAR, "bias": 1}]], "bias of linear must be true or false, got 1"),
        (
            [["maxpool2d", {"kernel_size": []}]],
            r"kernel_size of maxpool2d must be one or two positive integers, got \[\]",
        ),
        ([["maxpool2d", {"kernel_size": 0}]], "kernel_size of maxpool2d must be one or two positive integers"),
        ([["maxpool2d", {"kernel_size": 2, "padding": -1}]], "padding of maxpool2d must be one or two integers"),
        ([["maxpool2d", {"kernel_size": 2, "padding": "same"}]], "padding of maxpool2d must be"),
        ([["tanh", {}]] * 1025, "must be a list of at most 1024"),
        ([["tanh"]], "a step must be one of"),
        ([[["tanh"], {}]], "a step must be one of"),
        ("tanh", "must be a list of at most 1024, got 'tanh'"),
        (5, "must be a list of at most 1024, got 5"),
    ],
)
def test_damaged_descriptions_are_refused(description, message):
    with pytest.raises(LayoutError, match=f"^not a network description: {message}"):
        build(description)


@pytest.mark.parametrize(
    "step",
    [
        nn.Conv2d(1, 1, 3, dilation=2),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
        nn.Flatten(2),
        nn.GELU("tanh"),
    ],
    ids=["dilation", "groups", "padding mode", "ceil mode", "pool dilation", "flatten", "gelu"],
)
def test_what_cannot_be_written_down_is_refused(step):
    """Otherwise the rebuilt network would compute something else, in silence."""
    with pytest.raises(LayoutError, match=type(step).__name__):
        describe(nn.Sequential(step))


def test_described_networks_have_the_layout_of_the_original():
    assert Layout.of(build(describe(cnn()), device="meta")) == Layout.of(cnn())


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
