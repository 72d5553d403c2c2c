"""A deeper network begins with the outputs of the network that it contains."""

import pytest
import torch
from seeds import gen
from torch import fx, nn

from hyperinit.fitting.depth import Passing, passed_on
from hyperinit.nets import ResNet, resnet
from hyperinit.nets.residual import BasicBlock

IMAGES = torch.randn(3, 3, 16, 16, generator=gen())


def drawn(module):
    """The module in evaluation mode, with drawn weights and statistics."""
    for name, value in module.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2, generator=gen(1))
        elif value.is_floating_point():
            value.uniform_(-0.5, 0.5, generator=gen(value.numel()))
    return module.eval()


def deepened(module, small):
    """Load the weights of a smaller network into a deeper one, and let its other layers pass their input on."""
    state, own = small.state_dict(), module.state_dict()
    for name, value in state.items():
        own[name][tuple(slice(size) for size in value.shape)] = value
    names = {name for name, _ in small.named_modules()}
    for name, fixed in passed_on(module, fx.symbolic_trace(module).graph, names).items():
        values, mask = fixed.decode(torch.zeros(0), tuple(own[name].shape))
        own[name].copy_(values if mask is None else torch.where(mask, values, own[name]))
    return module


def difference(one, other, images=IMAGES):
    with torch.no_grad():
        return (one(images) - other(images)).abs().max().item()


class FourStages(ResNet):
    """A residual network with one stage more."""

    def __init__(self, *blocks):
        super().__init__(width=4, blocks=1)
        self.layer4 = nn.Sequential(*blocks)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(self.layer4(x)).flatten(1))


def four_stages(*blocks):
    net = drawn(FourStages(*blocks))
    net.fc.weight.detach()[:, 16:] = 0  # as `init_` writes inputs that the source lacks
    return net


def test_blocks_that_the_source_lacks_add_nothing():
    small = drawn(resnet(8, 4))
    net = deepened(drawn(resnet(20, 4)), small)
    assert difference(small, net) == 0
    assert not net.layer2[2].bn2.weight.any()
    assert net.layer2[2].conv2.weight.all()  # its other layers can learn at once


def test_a_stage_that_the_source_lacks_passes_on_means_of_pixels():
    small = drawn(resnet(8, 4))
    net = deepened(four_stages(BasicBlock(16, 32), BasicBlock(32, 32)), small)
    assert difference(small, net) < 1e-5
    assert net.layer4[0].conv1.weight[16:].all()  # filters of the new channels are left alone


class Bottleneck(nn.Module):
    """A block whose first layer has fewer channels, so that only its shortcut can pass anything on."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 32, 3, 2, padding=1), nn.BatchNorm2d(32))
        self.shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))

    def forward(self, x):
        return (self.body(x) + self.shortcut(x)).relu()


def test_a_stage_whose_layers_cannot_pass_on_takes_every_second_pixel():
    small = drawn(resnet(8, 4))
    net = deepened(four_stages(Bottleneck()), small)
    features = torch.rand(2, 16, 4, 4, generator=gen(2))
    torch.testing.assert_close(net.layer4(features)[:, :16], features[:, :, ::2, ::2], rtol=0, atol=1e-5)


class Normless(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = x[:, :1].expand(-1, 4, -1, -1)
        x = x + self.second(self.first(x).relu())
        return self.last(x.mean((2, 3)))


def test_a_block_without_norms_has_a_last_layer_of_zeros():
    net = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), Normless()))
    found = passed_on(net, fx.symbolic_trace(net).graph, {"0", "1.last"})
    assert {name: fixed.value for name, fixed in found.items()} == {"1.second.weight": 0, "1.second.bias": 0}


def plain(*more, channels=8):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *more, nn.Conv2d(channels, 4, 3, padding=1))


@pytest.mark.parametrize(
    "more",
    [
        [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()],
        [nn.Conv2d(8, 12, 5, padding=2, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.Dropout(0.5)],
        [nn.Dropout(0.5), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()],
    ],
    ids=["one", "wider with a norm", "two"],
)
def test_plain_layers_between_relus_are_the_identity(more):
    channels = max(part.out_channels for part in more if isinstance(part, nn.Conv2d))
    net, small = drawn(plain(*more, channels=channels)), drawn(plain())
    net[-1].weight.data.zero_()[:, :8] = small[-1].weight
    net[-1].bias.data.copy_(small[-1].bias)
    net[0].load_state_dict(small[0].state_dict())
    graph = fx.symbolic_trace(net).graph
    for name, fixed in passed_on(net, graph, {"0", str(len(net) - 1)}).items():
        value = net.state_dict()[name]
        values, mask = fixed.decode(torch.zeros(0), tuple(value.shape))
        value.copy_(values if mask is None else torch.where(mask, values, value))
    assert difference(small, net) < 1e-5


@pytest.mark.parametrize(
    "more",
    [
        [nn.Conv2d(8, 8, 3, padding=1), nn.Tanh()],  # a tanh of a tanh is another function
        [nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()],  # negative values would be cut
        [nn.Conv2d(8, 8, 3), nn.ReLU()],  # the size changes
        [nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU()],
        [nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.ReLU()],
        [nn.Conv2d(8, 8, 2, padding="same"), nn.ReLU()],
    ],
)
def test_layers_that_cannot_pass_on_are_left_out(more):
    net = plain(*more)
    assert passed_on(net, fx.symbolic_trace(net).graph, {"0", str(len(net) - 1)}) == {}


def test_layers_outside_of_the_source_are_left_out():
    """The stem before the first layer of the source and a head behind its last one."""
    net = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    assert passed_on(net, fx.symbolic_trace(net).graph, {"2", "4"}) == {}


def test_blocks_of_the_source_are_left_alone():
    net = resnet(14, 4)
    names = {name for name, _ in net.named_modules()}
    assert passed_on(net, fx.symbolic_trace(net).graph, names) == {}


def test_a_network_without_partners_gets_nothing():
    net = resnet(8, 4)
    assert passed_on(net, fx.symbolic_trace(net).graph, set()) == {}


def test_a_passing_weight_has_means_on_its_diagonal():
    values, mask = Passing((1, 1), (2, 2)).decode(torch.zeros(0), (3, 2, 3, 3))
    assert torch.equal(values[0, 0], torch.tensor([[0, 0, 0], [0, 0.25, 0.25], [0, 0.25, 0.25]]))
    assert not values[0, 1].any()
    assert mask[:2].all()
    assert not mask[2].any()
