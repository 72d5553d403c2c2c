"""The paper's other architectures: sizes, shapes, skips, and initialisation from a source."""

import pytest
import torch
from torch.nn import functional

import hyperinit
from hyperinit.nets import cnn
from hyperinit.nets.table4 import FourConv, FourConvSkip, ResCNN

NETS = {"3-conv + res-skip": (ResCNN, 2562), "4-conv": (FourConv, 2464), "4-conv + id.-skip": (FourConvSkip, 2464)}
each = pytest.mark.parametrize(("net", "size"), NETS.values(), ids=NETS)


def images(count=3):
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@each
def test_size_and_shape_are_the_papers(net, size):
    made = net()
    assert sum(value.numel() for value in made.parameters()) == size
    assert made(images()).shape == (3, 10)


def test_the_layers_of_the_four_convs_are_the_papers():
    shapes = [tuple(value.shape) for value in FourConv().parameters()]
    convs = [(8, 1, 5, 5), (8,), (4, 8, 5, 5), (6, 4, 4, 4), (4, 6, 3, 3)]
    assert shapes == [*convs, (18, 36), (18,), (10, 18), (10,)]


def test_the_rescnn_with_zero_skips_is_the_cnn():
    plain, net = cnn(), ResCNN()
    own = dict(zip(net.state_dict(), plain.state_dict().values(), strict=False))
    net.load_state_dict(own, strict=False)
    for value in net.skips.parameters():
        torch.nn.init.zeros_(value)
    torch.testing.assert_close(net(images()), plain(images()))


def test_a_skip_of_the_rescnn_pools_the_input_of_its_block_and_is_added_after_the_activation():
    net, x = ResCNN(), images()
    for block, skip, (size, step) in zip(net.blocks, net.skips, [(5, 2), (5, 2), (2, 1)], strict=True):
        weight, bias = skip.parameters()
        x = block(x) + functional.conv2d(functional.max_pool2d(x, size, step), weight, bias)
    torch.testing.assert_close(net(images()), net.head(x))


def test_the_identity_skip_adds_every_second_inner_pixel_of_the_second_activation():
    net, plain = FourConvSkip(), FourConv()
    plain.load_state_dict(net.state_dict())
    maps = plain.second(plain.stem(images()))
    pixels = maps[:, :, [1, 3, 5]][:, :, :, [1, 3, 5]]
    torch.testing.assert_close(net(images()), net.head(plain.rest(maps) + pixels))
    assert (net(images()) - plain(images())).abs().max() > 1e-3


@pytest.mark.parametrize("net", [FourConv, FourConvSkip])
def test_flat_fills_every_weight_of_the_four_convs_in_order(embedded, net):
    assert hyperinit.plan(net(), "tiny", fit="flat").decoded_share == 1.0
    made = hyperinit.init_(net(), "tiny", fit="flat", generator=torch.Generator().manual_seed(0))
    expected = hyperinit.load("tiny").sample(1, generator=torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(torch.cat([value.detach().reshape(-1) for value in made.parameters()]), expected)


@pytest.mark.parametrize("fit", ["layerwise", "flat", "auto"])
def test_the_rescnn_gets_the_five_layers_of_the_cnn_and_its_own_skips(embedded, fit):
    plan = hyperinit.plan(ResCNN(), "tiny", fit=fit)
    skips = [row for row in plan.rows if row.name.startswith("skips")]
    assert plan.decoded_share == pytest.approx(2464 / 2562)
    assert [(row.origin, row.overlap) for row in skips] == [("filled", 0)] * 6
    exact = {row.origin for row in plan.rows if row not in skips}
    assert exact == {"flat" if fit == "flat" else "exact"}
    made = hyperinit.init_(ResCNN(), "tiny", fit=fit, generator=torch.Generator().manual_seed(0))
    expected = hyperinit.load("tiny").sample(1, generator=torch.Generator().manual_seed(0))[0]
    first = torch.cat([value.detach().reshape(-1) for value in made.parameters()])[:2464]
    torch.testing.assert_close(first, expected)


@each
def test_each_network_can_be_initialised_from_the_shipped_digits(net, size):
    assert hyperinit.plan(net(), "digits").decoded_share > 0.5
    made = hyperinit.init_(net(), "digits", generator=torch.Generator().manual_seed(0))
    assert made(images()).isfinite().all()
