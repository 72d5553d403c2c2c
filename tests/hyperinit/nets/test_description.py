"""Networks as data: describing and rebuilding them, and refusing other data."""

import json

import pytest
import torch
from torch import nn

from hyperinit.errors import LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import MODULES, build, cnn, describe, resnet


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


def test_every_kind_has_all_modules_of_the_table():
    assert {type(step) for step in every_kind()} == {kind for kind, _ in MODULES.values()}


def test_build_draws_no_random_numbers():
    description = describe(cnn())
    before = torch.get_rng_state()
    net = build(description)
    assert torch.equal(torch.get_rng_state(), before)
    assert {value.device.type for value in net.parameters()} == {"cpu"}


def test_build_on_the_meta_device_allocates_no_memory():
    net = build([["linear", {"in_features": 10**6, "out_features": 10**6}]], device="meta")
    assert net[0].weight.is_meta


def test_only_listed_modules_are_described():
    with pytest.raises(LayoutError, match=r"^modules must be of conv2d, .*sigmoid to be described, got BatchNorm2d$"):
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
def test_options_outside_the_description_are_refused(step):
    """Otherwise the rebuilt network would silently compute another function."""
    with pytest.raises(LayoutError, match=type(step).__name__):
        describe(nn.Sequential(step))


def test_described_networks_have_the_layout_of_the_original():
    assert Layout.of(build(describe(cnn()), device="meta")) == Layout.of(cnn())


def test_a_residual_network_is_one_step():
    net = resnet(14, 4, classes=5, channels=1)
    architecture = describe(net)
    assert architecture == [["resnet", {"channels": 1, "classes": 5, "blocks": 2, "width": 4}]]
    twin = build(json.loads(json.dumps(architecture)))
    twin.load_state_dict(net.state_dict())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(twin.eval()(images), net.eval()(images))
    assert Layout.of(build(architecture, device="meta")) == Layout.of(net)


def test_a_residual_network_with_another_layer_cannot_be_described():
    net = resnet(8, 4)
    net.layer1[0].relu = nn.Tanh()
    with pytest.raises(LayoutError, match="a ResNet must have the modules that it was made with to be described"):
        describe(net)


def test_a_module_of_another_class_cannot_be_described():
    with pytest.raises(LayoutError, match=r"must be an nn\.Sequential or ResNet to be described, got Linear"):
        describe(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (None, "resnet must have channels, classes, blocks, width, got None"),
        ({"channels": 3, "classes": 10, "blocks": 1}, "resnet must have channels, classes, blocks, width"),
        ({"channels": 3, "classes": 10, "blocks": 1, "width": 4, "depth": 8}, "resnet must have channels"),
        ({"channels": 3, "classes": 10, "blocks": 65, "width": 4}, "blocks of resnet must be an integer from 1 to 64"),
        ({"channels": 3, "classes": 10, "blocks": 1, "width": 0}, "width of resnet must be an integer from 1 to"),
        ({"channels": 3, "classes": 10, "blocks": 1, "width": True}, "width of resnet .* got True"),
        ({"channels": 3, "classes": 1 << 40, "blocks": 1, "width": 4}, "classes of resnet must be an integer from 1"),
    ],
)
def test_sizes_of_a_residual_network_are_checked(sizes, message):
    with pytest.raises(LayoutError, match=f"not a network description: {message}"):
        build([["resnet", sizes]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [cnn, lambda: resnet(8, width=2)], ids=["cnn", "resnet"])
def test_a_network_is_built_in_float32_with_counters_of_0_whatever_the_default_dtype(make, dtype):
    architecture = describe(make())
    junk = [torch.full((1000,), 7) for _ in range(100)]
    del junk  # memory that an uninitialised counter could get
    try:
        torch.set_default_dtype(dtype)
        state = build(architecture).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    counters = {name: value for name, value in state.items() if name.endswith("num_batches_tracked")}
    assert {value.dtype for name, value in state.items() if name not in counters} == {torch.float32}
    assert not any(counters.values())
