"""However members and inputs change, an ensemble does what a plain loop over its members does.

Each situation runs once with an ensemble that has run before, so that it remembers its members, and once with a loop.
"""

import copy
import pickle

import pytest
import torch
from ensemble_loop import SIDE, Loop, changed, check_as_loop, each, ensemble, gradients, member, outcome, second
from torch import nn

from hyperinit.ensembles import ensemble as module_of_ensembles
from hyperinit.ensembles.side_by_side import stacked_forward


def written_by(layer):
    """A situation with a first layer that writes into the members' input."""

    def situation(module, x):
        for net in module.members:
            net.insert(0, copy.deepcopy(layer))
        with torch.no_grad():
            return module(x), x

    return situation


def repeated(layer, place):
    def situation(module, x):
        for net in module.members:
            same = copy.deepcopy(layer)
            net.insert(3, same)
            net.insert(place, same)
        return gradients(module, x)

    return situation


def set_on(place, **values):
    def change(module, x):
        for net in module.members[1:]:
            for name, value in values.items():
                setattr(net[place], name, value)

    return changed(change)


def renewed(module, x):
    module.members = nn.ModuleList(map(copy.deepcopy, module.members))
    module.train()


def halved(net):
    with torch.no_grad():
        net[0].weight.mul_(0.5)


def spoilt(net):
    with torch.no_grad():
        net[8].weight.fill_(torch.nan)


def with_input(**options):
    return lambda module, x: module(x.to(**options))


def widened(net):
    net[8], net[10] = nn.Linear(12, 9), nn.Linear(9, 5)


def within_default_device(module, x):
    with torch.device("cpu"):
        return gradients(module, x)


def stepped(index, place, name):
    """A situation in which an optimiser changes a parameter between forward and backward."""

    def situation(module, x):
        output = module(x)
        with torch.no_grad():
            getattr(module.members[index][place], name).mul_(0.5)
        try:
            output.sum().backward()
        except RuntimeError as error:
            return [str(error).partition(":")[0]]
        return [value.grad for value in module.parameters()]

    return situation


def stepped_frozen(module, x):
    """Only the last layer of the first member learns, so that no weight before it is needed."""
    for value in module.parameters():
        value.requires_grad_(False)
    module.members[0][10].weight.requires_grad_()
    return stepped(0, 0, "weight")(module, x), stepped(0, 10, "weight")(module, x), stepped(1, 8, "weight")(module, x)


SITUATIONS = {
    "default device": within_default_device,
    "modes mixed": second(nn.Module.train),
    "training": each(nn.Module.train),
    "some dropout": second(lambda net: net[7].train()),
    "frozen member": second(lambda net: net.requires_grad_(False)),
    "frozen layer": second(lambda net: net[0].requires_grad_(False)),
    "shared by members": changed(lambda net, x: setattr(net.members[1][10], "weight", net.members[0][10].weight)),
    "member twice": changed(lambda net, x: net.members.append(net.members[0])),
    "layer twice": repeated(nn.Tanh(), 5),
    "weights twice": repeated(nn.Conv2d(3, 3, 1), 5),
    "in-place first": written_by(nn.LeakyReLU(0.5, inplace=True)),
    "in-place after nothing": written_by(nn.Sequential(nn.Identity(), nn.Dropout(), nn.ELU(inplace=True))),
    "members renewed": changed(renewed),
    "member replaced": changed(lambda net, x: net.members.__setitem__(1, member().eval())),
    "member appended": changed(lambda net, x: net.members.append(member().eval())),
    "member removed": changed(lambda net, x: net.members.__delitem__(0)),
    "one member left": changed(lambda net, x: [net.members.__delitem__(0) for _ in range(2)]),
    "weight in place": second(halved),
    "weight replaced": second(lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight.detach() / 2))),
    "weight's data": second(lambda net: setattr(net[0].weight, "data", net[0].weight.data / 2)),
    "wider in one": second(widened),
    "not finite in one": second(spoilt),
    **{
        f"step of {name} of {place}": stepped(2, place, name)
        for place in (0, 3, 8, 10)
        for name in ("weight", "bias")
    },
    "step of frozen members": stepped_frozen,
    "PReLU": each(lambda net: net.__setitem__(4, nn.PReLU(3, init=torch.rand(())))),
    "norm": each(lambda net: net.__setitem__(1, nn.BatchNorm2d(3))),
    "slope": set_on(2, negative_slope=0.7),
    "slope of all": each(lambda net: setattr(net[2], "negative_slope", 0.7)),
    "slope as tensor": set_on(2, negative_slope=torch.tensor(0.7)),
    "inplace": set_on(2, inplace=True),
    "stride": set_on(1, stride=1),
    "padding": set_on(3, padding=(1, 0)),
    "dilation": set_on(0, dilation=(2, 2)),
    "padding mode": each(lambda net: (setattr(net[0], "padding_mode", "circular"), setattr(net[0], "padding", 1))),
    "ceil mode": set_on(1, ceil_mode=True),
    "bias gone": set_on(8, bias=None),
    "bias of one number": set_on(10, bias=nn.Parameter(torch.ones(1))),
    "bias without axes": each(lambda net: setattr(net[10], "bias", nn.Parameter(torch.rand(())))),
    "empty batch": lambda module, x: module(x[:0]),
    "other size": lambda module, x: module(torch.zeros(4, 1, 9, 30)),
    "channels last": with_input(memory_format=torch.channels_last),
    "two blocks": lambda module, x: gradients(module, x.repeat(30, 1, 1, 1)),
    "parameter as input": lambda module, x: module(nn.Parameter(x)),
    "deep copy": lambda module, x: renewed(clone := copy.deepcopy(module), x) or gradients(clone, x),
    "pickle": lambda module, x: gradients(pickle.loads(pickle.dumps(module)), x),
    "shallow copy": lambda module, x: halved((clone := copy.copy(module)).members[0]) or (clone(x), module(x)),
}  # fmt: skip
FAILURES = {
    "no batch": lambda module, x: module(x[0]),
    "double member": second(nn.Module.double),
    "double layer": second(lambda net: net[10].double()),
    "half members": each(nn.Module.half),
    "member on meta": second(lambda net: net.to("meta")),
    "indices": set_on(1, return_indices=True),
    "flatten": set_on(6, start_dim=2),
    "weight of one axis": each(lambda net: setattr(net[10], "weight", nn.Parameter(torch.rand(6)))),
    "step replaced by none": second(lambda net: net._modules.update({"9": None})),
    "other channels": lambda module, x: module(torch.zeros(4, 2, SIDE, SIDE)),
    "too small": lambda module, x: module(torch.zeros(4, 1, 2, 2)),
    "double inputs": with_input(dtype=torch.float64),
    "integer inputs": with_input(dtype=torch.int64),
    "sparse input": lambda module, x: module(x.to_sparse()),
    "no tensor": lambda module, x: module([x]),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_an_ensemble_does_what_a_loop_does(name):
    check_as_loop(SITUATIONS[name])


@pytest.mark.parametrize("name", FAILURES)
def test_an_ensemble_fails_as_a_loop_does(name):
    error = outcome(Loop, FAILURES[name])
    assert isinstance(error, str)
    assert outcome(ensemble, FAILURES[name]) == error


@pytest.mark.parametrize("name", ["weight in place", "slope of all", "channels last", "two blocks", "default device"])
def test_ordinary_situations_do_not_take_the_loop(name, monkeypatch):
    calls = []
    monkeypatch.setattr(module_of_ensembles, "stacked_forward", lambda *args: calls.append(1) or stacked_forward(*args))
    outcome(ensemble, SITUATIONS[name])
    assert len(calls) == 2
