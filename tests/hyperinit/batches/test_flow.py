"""Which norms read only what decoded layers computed is decided by the data, not by the order of execution."""

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.batches.flow import Flow, Passing

pytestmark = pytest.mark.filterwarnings("ignore:the module must compute")  # the norms under test

X = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution that is followed, another layer, and a norm whose input `read` makes of both."""

    def __init__(self, read, norm=nn.BatchNorm2d):
        super().__init__()
        self.layer, self.other, self.norm, self.read = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), norm(4), read
        self.scale, self.raw = nn.Parameter(torch.ones(1)), torch.ones(1)

    def forward(self, x):
        return self.norm(self.read(self, x))


def filled(net, x):
    out = x.new_empty(len(x), 4, *x.shape[2:])
    out[:, :2] = net.layer(x)[:, :2]
    out[:, 2:] = x
    return out


def copied(net, x):
    out = net.layer(x).clone()
    out[:, 2:].copy_(x)
    return out


def detached(net, x):
    out = net.layer(x).clone()
    out.detach()[:, 2:] = x
    return out


def through_data(net, x):
    out = net.layer(x).clone()
    out.data[:, 2:].copy_(x)
    return out


def late(net, x):
    out = net.other(x)
    net.layer(x)  # runs last
    return out


class Scaled(nn.BatchNorm2d):
    def forward(self, x):
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight * 2, self.bias, self.training, self.momentum or 1.0
        )


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


GOOD = {
    "the layer alone": lambda net, x: net.layer(x),
    "the layer, detached and changed in place": lambda net, x: net.layer(x).detach().relu_().view(-1).view(64, 4, 4, 4),
    "operations without parameters": lambda net, x: torch.tanh(net.layer(x)).mul(2)[:, [1, 0, 3, 2]],
    "two outputs of layers": lambda net, x: net.layer(x) + net.layer(-x),
    "constants": lambda net, x: net.layer(x) + torch.ones(1),
}
BAD = {
    "the data": lambda net, x: torch.cat([x, x], 1),
    "another layer": lambda net, x: net.other(x),
    "another layer, though the layer ran last": late,
    "the layer and the data": lambda net, x: torch.cat([net.layer(x)[:, :2], x], 1),
    "the layer plus the data": lambda net, x: net.layer(x) + torch.cat([x, x], 1),
    "the layer times a parameter": lambda net, x: net.layer(x) * net.scale,
    "the layer times a tensor that is no buffer": lambda net, x: net.layer(x) * net.raw,
    "the layer's weight alone": lambda net, x: net.layer.weight.mean() * torch.cat([x, x], 1),
    "the layer with another weight": lambda net, x: nn.functional.conv2d(x, net.layer.weight * 2),
    "a tensor that is filled in parts": filled,
    "a copy into a view": copied,
    "a copy into a detached view": detached,
    "a copy into the data of the layer's outputs": through_data,
    "data through numpy": lambda net, x: torch.from_numpy(net.layer(x).numpy()),
}


def behind(net):
    flow = Flow(net, {"layer"}, [net.norm])
    with torch.no_grad(), flow:
        net(X[:, :, :4, :4].expand(-1, 2, -1, -1))
    return flow.behind == [net.norm]


@pytest.mark.parametrize("kind", [*GOOD, *BAD])
def test_a_norm_is_behind_a_layer_if_it_reads_nothing_else(kind):
    assert behind(Net((GOOD | BAD)[kind])) is (kind in GOOD)


def test_a_norm_that_is_called_on_the_data_too_is_not_behind():
    net = Net(lambda net, x: net.layer(x) + 0 * net.norm(torch.cat([x, x], 1)))
    assert not behind(net)


def test_a_subclass_counts_if_it_normalises_as_its_base_class_does():
    read = GOOD["the layer alone"]
    assert behind(Net(read, Doubled))
    assert not behind(Net(read, Scaled))
    assert not behind(Net(read, lambda size: nn.BatchNorm2d(size).eval()))


def test_parametrised_layers_are_followed():
    net = Net(GOOD["the layer alone"])
    nn.utils.parametrizations.weight_norm(net.layer)
    assert behind(net)


def test_a_norm_passes_on_its_input_and_still_estimates():
    norm = Doubled(1)
    net = nn.Sequential(nn.Identity(), norm, nn.ReLU(inplace=True))
    before = X.clone()
    with torch.no_grad(), Passing([norm]):
        outputs = net(X)
    assert torch.equal(outputs, (2 * X).relu())
    assert torch.equal(X, before)  # what follows may write in place
    assert norm.num_batches_tracked == 1


# From init_


class TwoStream(nn.Module):
    """Features of an image beside columns of a table, which a norm of their own brings to one scale."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), nn.Tanh(),
            nn.Conv2d(6, 4, 2), nn.Tanh(), nn.Flatten(),
        )  # fmt: skip
        self.bn, self.head = nn.BatchNorm1d(5), nn.Linear(41, 10)

    def forward(self, x):
        return self.head(torch.cat([self.image(x[:, :784].view(-1, 1, 28, 28)), self.bn(x[:, 784:])], 1))


def test_a_norm_of_other_data_goes_on_normalising():
    columns = torch.tensor([3e4, 40, 1.8, 3e5, 12]) * (1 + 0.3 * torch.randn(64, 5))
    net = hyperinit.init_(TwoStream(), "digits", min_share=0, calibrate=[torch.cat([X.flatten(1), columns], 1)]).eval()
    torch.testing.assert_close(net.bn(columns).std(0), torch.ones(5), atol=1e-3, rtol=0)


class NormAct(nn.BatchNorm2d):
    """As in segmentation and detection code: a norm and its activation in one."""

    def forward(self, x):
        return torch.relu(super().forward(x))


def stacked(*norms):
    one, two, three = norms
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.MaxPool2d(2), one, nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), two, nn.Conv2d(6, 4, 2), three,
        nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 10),
    )  # fmt: skip


def test_all_that_a_subclass_of_a_norm_does_is_done_during_calibration():
    own = stacked(*map(NormAct, (8, 6, 4)))
    plain = stacked(*(nn.Sequential(nn.BatchNorm2d(size), nn.ReLU()) for size in (8, 6, 4)))
    for net in (own, plain):
        hyperinit.init_(net, "mnist", calibrate=[X], generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.eval()(X), plain.eval()(X))
    torch.testing.assert_close(own.eval()(X), own.train()(X), atol=1e-2, rtol=1e-2)
