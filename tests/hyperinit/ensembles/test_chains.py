"""Which networks run side by side, and that every change to them is seen at the next call."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from hyperinit.ensembles.chains import Watch, steps_of
from hyperinit.nets import cnn

X = torch.zeros(2, 1, 28, 28)


def hooked():
    net = cnn()
    net[0].register_forward_hook(lambda *_: None)
    return net


def thin(*first):
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(8, 3))


def dropout(mode):
    return thin(nn.Conv2d(1, 2, 3), nn.Dropout()).train(mode)


@pytest.mark.parametrize(
    "members",
    [
        [cnn()],
        [cnn(), cnn(activation="relu")],
        [cnn(), hooked()],
        [cnn(), nn.Sequential(*cnn(), nn.Tanh())],
        [nn.Linear(2, 2), nn.Linear(2, 2)],
        [dropout(True), dropout(True)],
        [dropout(False), dropout(True)],
        [thin(nn.MultiheadAttention(4, 2)) for _ in range(2)],
        [thin(nn.Conv2d(1, 2, 3), nn.PReLU()) for _ in range(2)],
        [thin(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)) for _ in range(2)],
        [thin(nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1)) for _ in range(2)],
        [thin(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, return_indices=True)) for _ in range(2)],
        [thin(nn.Linear(4, 2)) for _ in range(2)],
        [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(4, 3)) for _ in range(2)],
        [thin(nn.Conv2d(2, 2, 3, groups=2)) for _ in range(2)],
        [thin(nn.LeakyReLU(inplace=True), nn.Conv2d(1, 2, 3)) for _ in range(2)],
        [thin(nn.Identity(), nn.LeakyReLU(inplace=True), nn.Conv2d(1, 2, 3)) for _ in range(2)],
        [thin(nn.Conv2d(1, 2, 3), nn.LeakyReLU(0.1 * place)) for place in range(2)],
    ],
)
def test_what_cannot_stand_side_by_side_is_not_tried(members):
    assert steps_of(members) is None


def test_a_layer_that_occurs_twice_runs_twice():
    """`children()` would yield it once."""
    tanh = nn.Tanh()
    steps = steps_of([nn.Sequential(nn.Conv2d(1, 2, 3), tanh, nn.Flatten(), nn.Linear(8, 3), tanh) for _ in range(2)])
    assert [type(layers[0]) for layers in steps] == [nn.Conv2d, nn.Tanh, nn.Flatten, nn.Linear, nn.Tanh]


def test_modes_differ_where_no_layer_reads_them():
    assert steps_of([cnn().eval(), cnn()]) is not None


class Odd(torch.Tensor):
    pass


def subclassed(layer):
    layer.__class__ = type("Loud", (type(layer),), {"forward": lambda self, x: x})


CHANGES = {
    "another layer": lambda net: net.append(nn.PReLU()),
    "a layer replaced": lambda net: net.__setitem__(2, nn.ReLU()),
    "a layer removed": lambda net: net.__delitem__(2),
    "a layer replaced by none": lambda net: net._modules.update({"2": None}),
    "training": lambda net: net.append(nn.Dropout()).train(),
    "stride": lambda net: setattr(net[1], "stride", 1),
    "padding": lambda net: setattr(net[0], "padding", (1, 1)),
    "groups": lambda net: setattr(net[3], "groups", 2),
    "padding mode": lambda net: setattr(net[0], "padding_mode", "circular"),
    "a list in place of a tuple": lambda net: setattr(net[0], "stride", [1, 1]),
    "a tensor as attribute": lambda net: setattr(net[0], "stride", torch.ones(2)),
    "forward of a layer": lambda net: setattr(net[2], "forward", torch.relu),
    "forward of a member": lambda net: setattr(net, "forward", torch.relu),
    "a method of a layer": lambda net: setattr(net[0], "_conv_forward", lambda *_: X),
    "compile of a layer": lambda net: net[0].compile(backend="eager"),
    "a class": lambda net: subclassed(net[2]),
    "the class of a member": lambda net: subclassed(net),
    "parametrization": lambda net: parametrizations.weight_norm(net[0]),
    "pruning": lambda net: prune.l1_unstructured(net[0], "weight", 2),
    "forward hook": lambda net: net[0].register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda net: net[2].register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda net: net[3].register_full_backward_hook(lambda *_: None),
    "backward pre-hook": lambda net: net.register_full_backward_pre_hook(lambda *_: None),
    "dtype": lambda net: net.double(),
    "dtype of a layer": lambda net: net[9].half(),
    "device": lambda net: net.to("meta"),
    "shape of a weight": lambda net: setattr(net[9], "weight", nn.Parameter(torch.zeros(1, 36))),
    "weight of one dimension": lambda net: setattr(net[9], "weight", nn.Parameter(torch.zeros(36))),
    "bias that is a number": lambda net: setattr(net[9], "bias", nn.Parameter(torch.tensor(0.5))),
    "no bias": lambda net: setattr(net[9], "bias", None),
    "sparse weight": lambda net: setattr(net[9], "weight", nn.Parameter(torch.zeros(20, 36).to_sparse())),
    "weight of a subclass": lambda net: setattr(net[9], "weight", nn.Parameter(torch.zeros(20, 36).as_subclass(Odd))),
    "weight that is no parameter": lambda net: (delattr(net[9], "weight"), setattr(net[9], "weight", X)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("place", [0, 1])
def test_every_change_of_one_member_is_seen(name, place):
    members, watch = [cnn(), cnn()], Watch()
    assert watch.steps(members, X) is not None
    CHANGES[name](members[place])
    assert watch.steps(members, X) is None
    members[place] = cnn()
    assert watch.steps(members, X) is not None


def test_a_hook_that_is_gone_is_forgotten():
    members, watch = [cnn(), cnn()], Watch()
    hook = members[1][2].register_forward_hook(lambda *_: None)
    assert watch.steps(members, X) is None
    hook.remove()
    assert watch.steps(members, X) is not None


def test_members_that_are_replaced_are_the_new_ones():
    members, watch = [cnn(), cnn()], Watch()
    watch.steps(members, X)
    others = list(map(copy.deepcopy, members))
    assert watch.steps(others, X)[0] == (others[0][0], others[1][0])
    assert len(watch.steps([*members, cnn()], X)[0]) == 3


@pytest.mark.parametrize(
    "x",
    [X[0], X[:0], X.double(), X.to("meta"), X.to_sparse(), X.to_mkldnn(), X.int(), X.flatten(1), None, {"x": X}],
)
def test_inputs_that_need_the_members_themselves(x):
    members, watch = [cnn(), cnn()], Watch()
    assert watch.steps(members, X) is not None
    assert watch.steps(members, x) is None


def test_copies_and_pickles_hold_nothing_of_the_members():
    watch = Watch()
    watch.steps([cnn(), cnn()], X)
    assert copy.deepcopy(watch)._seen is None
    assert len(pickle.dumps(watch)) < 200


def test_an_unchanged_ensemble_is_examined_once(monkeypatch):
    members, watch = [cnn(), cnn()], Watch()
    first = watch.steps(members, X)
    with torch.no_grad():
        members[0][0].weight.add_(1)
    members[1][0].weight = nn.Parameter(torch.zeros(8, 1, 5, 5))
    assert watch.steps(members, X) is first
