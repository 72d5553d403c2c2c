"""A plan names what the module computes in another way than the source's network."""

import pytest
from fitting_cases import wide
from torch import nn
from torch.nn import functional

from hyperinit import nets
from hyperinit.fitting import make_plan
from hyperinit.fitting.computation import compare
from hyperinit.layout import Layout
from hyperinit.nets import cnn
from hyperinit.nets.table4 import ResCNN


def found(module, network=None, **choice):
    source = cnn() if network is None else network
    return compare(module, make_plan(module, Layout.of(source), **choice), source)


def changed(**places):
    """Make the zoo's CNN with other modules at some places, such as `at1=nn.AvgPool2d(2)`."""
    return nn.Sequential(*(places.get(f"at{place}", part) for place, part in enumerate(cnn())))


class Functional(nn.Module):
    """The zoo's CNN with functions, one of them to choose."""

    def __init__(self, act=functional.tanh, pool=functional.max_pool2d, branch=False):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 6, 5), nn.Conv2d(6, 4, 2)
        self.dense, self.head = nn.Linear(36, 20), nn.Linear(20, 10)
        self.act, self.pool, self.branch = act, pool, branch

    def forward(self, x):
        if self.branch and x.mean() > 0:
            x = -x
        for conv in (self.conv1, self.conv2):
            x = self.act(self.pool(conv(x), 2))
        return self.head(self.act(self.dense(self.act(self.conv3(x)).flatten(1))))


class Swapped(nn.Module):
    """Layers that run in another order than they are registered in."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.three(self.one(self.two(x).tanh()).tanh())


class Scaling(nn.Module):
    """Images of 0 to 255 in, logits of a temperature out, by a keyword."""

    def __init__(self):
        super().__init__()
        self.net = cnn()

    def forward(self, *, images, temperature=2.0):
        return self.net((images / 255 - 0.5) / 0.25) / temperature


@pytest.mark.parametrize(
    "module",
    [
        cnn(),
        Scaling(),
        wide(),
        wide(3, kernel=7, padding=1),
        Functional(),
        changed(at1=nn.Tanh(), at2=nn.MaxPool2d(2)),  # the same function, since tanh rises
        nn.Sequential(*cnn(), nn.LogSoftmax(1)),
        nn.Sequential(nn.Dropout(), *cnn()),
        nn.DataParallel(cnn()),
    ],
)
def test_the_same_computation_has_no_differences(module):
    assert found(module).differences == ()
    assert not found(module).unknown
    assert str(found(module)) == "computation: activations, pooling, norms and order of layers as in the source"
    assert found(module).warning("tiny") == ""


@pytest.mark.parametrize(
    ("module", "differences"),
    [
        (cnn(activation="relu"), ["ReLU in place of Tanh after 0, 3, 6 and 9"]),
        (changed(at7=nn.GELU()), ["GELU in place of Tanh after 6"]),
        (changed(at7=nn.Identity()), ["no Tanh after 6"]),
        (changed(at1=nn.AvgPool2d(2)), ["AvgPool2d(kernel_size=2) in place of MaxPool2d(kernel_size=2) after 0"]),
        (
            changed(at2=nn.Sequential(nn.BatchNorm2d(8), nn.Tanh())),
            ["BatchNorm2d, which the source does not have, after 0"],
        ),
        (
            nn.Sequential(*cnn()[:-1], nn.ReLU(), cnn()[-1]),
            ["Tanh, ReLU in place of Tanh after 9"],
        ),
        (nn.Sequential(*cnn(), nn.ReLU()), ["ReLU, which the source does not have, after 11"]),
        (nn.Sequential(nn.BatchNorm2d(1), *cnn()), ["BatchNorm2d, which the source does not have, after the input"]),
        (changed(at0=nn.Conv2d(1, 8, 5, stride=2)), ["stride 2 in place of 1 in 0"]),
        (changed(at0=nn.Conv2d(1, 8, 5, padding=2)), ["padding 2 in place of 0 in 0"]),
        (changed(at0=nn.Conv2d(1, 8, 5, padding=2, padding_mode="circular")), None),
        (Functional(functional.relu), ["ReLU in place of Tanh after conv1, conv2, conv3 and dense"]),
        (Functional(pool=functional.avg_pool2d), None),
        (wide()[:3] + nn.Sequential(nn.LeakyReLU(0.1), *wide()[3:]), ["Tanh, LeakyReLU(negative_slope=0.1) in place"]),
    ],
)  # fmt: skip
def test_each_difference_is_named_with_the_layers_that_it_follows(module, differences):
    got = found(module, fit="layerwise").differences
    assert got
    if differences:
        assert len(got) == len(differences)
        assert all(one.startswith(other) for one, other in zip(got, differences, strict=True))


def test_another_order_of_layers_or_of_steps_is_named():
    chain = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    differences = found(Swapped(), chain).differences
    assert "layer two in place of layer one after the input" in differences
    one, other = changed(at1=nn.AvgPool2d(2)), changed(at1=nn.Tanh(), at2=nn.AvgPool2d(2))
    assert found(other, one).differences == (
        "Tanh, AvgPool2d(kernel_size=2) in place of AvgPool2d(kernel_size=2), Tanh after 0",
    )


def test_branches_that_the_source_does_not_have_are_named():
    assert any("add, which the source does not have," in each for each in found(ResCNN()).differences)


def test_residual_networks_are_compared_with_residual_networks():
    source, other = nets.ResNet(1, 10, 1, 4), nets.ResNet(1, 10, 1, 4)
    assert found(other, source).differences == ()
    other.layer2[0].relu = nn.GELU()
    assert any(each.startswith("GELU") or "GELU" in each for each in found(other, source).differences)
    other = nets.ResNet(1, 10, 1, 4)
    other.bn1 = nn.GroupNorm(2, 4)
    assert any("GroupNorm" in each for each in found(other, source).differences)


def test_only_layers_with_decoded_weights_count():
    module = changed(at7=nn.ReLU(), at10=nn.ReLU())
    assert found(module, exclude=["6.*"]).differences == ("ReLU in place of Tanh after 9",)
    assert found(module, include="0.*").differences == ()


def test_norms_that_will_be_calibrated_can_be_left_out():
    module = changed(at1=nn.Sequential(nn.BatchNorm2d(8), nn.MaxPool2d(2)), at7=nn.ReLU())
    both = found(module)
    assert len(both.differences) == 2
    assert both.without_norms().differences == ("ReLU in place of Tanh after 6",)


def test_what_cannot_be_compared_is_said():
    plan = make_plan(cnn(), Layout.of(cnn()))
    assert str(compare(cnn(), plan, None)).endswith("because the source does not describe its network")
    assert found(Functional(branch=True)).unknown == "its forward cannot be traced"
    assert found(Functional(branch=True)).warning("tiny") == ""
    assert found(nn.Linear(5, 5), fit="flat").unknown == "no layer gets a tensor of the source"


def test_types_of_modules_are_compared_where_forward_cannot_be_traced():
    relu, tanh = Functional(nn.ReLU(), branch=True), Functional(nn.Tanh(), branch=True)
    assert found(relu).differences == ("ReLU in place of Tanh, by the types of its modules",)
    assert found(tanh).differences == ()


def test_the_warning_names_the_source_the_differences_and_the_cost():
    text = found(cnn(activation="relu")).warning("tiny")
    assert text.startswith("the module must compute what the network of 'tiny' computes, got ReLU in place of Tanh")
    assert "27 %" in text
    assert "Change the module" in text
