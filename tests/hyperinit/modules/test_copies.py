"""A reset on a copy reaches the copy's tensors, whatever way it takes, and never the module's own."""

import collections
import functools
import types
import weakref

import pytest
import torch
from torch import nn

import hyperinit
from hyperinit.errors import PlanError
from hyperinit.modules.copies import detached_copy
from hyperinit.nets import cnn


class Holder:
    def __init__(self, head):
        self.head = head

    def run(self):
        self.head._zeros()


class Slotted:
    __slots__ = ("__head", "rest")

    def __init__(self, head):
        self.__head = head

    def run(self):
        self.__head._zeros()


class Named(dict):
    """A dictionary with an attribute."""


class Head(nn.Module):
    """A reset through `make`, which makes a callable from the module when it is built."""

    def __init__(self, make):
        super().__init__()
        self.w, self.keep = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        self._init = make(self)

    def _zeros(self):
        nn.init.zeros_(self.w)
        nn.init.zeros_(self.keep)

    def reset_parameters(self):
        self._init()


class Net(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 5), Head(make)


def of_dictionary(kind):
    def make(head):
        held = kind()
        held["zeros"] = head._zeros
        return lambda: held["zeros"]()

    return make


def of_named(head):
    held = Named()
    held.head = head
    return lambda: held.head._zeros()


def of_deque(head):
    held = collections.deque([head._zeros], maxlen=3)
    return lambda: held[0]()


def of_tuple(head):
    held = collections.namedtuple("Held", "zeros")(head._zeros)
    return lambda: held.zeros()


class Pair(tuple):
    """A tuple that is made of two arguments."""

    def __new__(cls, first, second):
        return super().__new__(cls, (first, second))


def of_pair(head):
    held = Pair(head._zeros, torch.max(head.keep.detach(), 0))
    return lambda: held[0]()


def of_reference(head):
    held = weakref.ref(head)
    return lambda: held()._zeros()


def of_method_reference(head):
    held = weakref.WeakMethod(head._zeros)
    return lambda: held()()


def of_views(head):
    held = [head.w.data, head.keep.data]
    return lambda: [value.zero_() for value in held]


def of_namespace(head):
    held = types.SimpleNamespace(zeros=head._zeros)
    return lambda: held.zeros()


def of_recursion(head):
    def zeros(depth=2):
        return zeros(depth - 1) if depth else head._zeros()

    return zeros


def of_new_parameter(head):
    def zeros():
        head.w = nn.Parameter(torch.zeros(4))

    return zeros


def of_data(head):
    def zeros():
        head.w.data = torch.zeros(4)

    return zeros


FOLLOWED = {
    "method in a dictionary": lambda head: {"zeros": head._zeros}["zeros"],
    "partial": lambda head: functools.partial(Head._zeros, head),
    "partial of a method": lambda head: functools.partial(head._zeros),
    "holder": lambda head: Holder(head).run,
    "holder with slots": lambda head: Slotted(head).run,
    "closure": lambda head: lambda: head._zeros(),
    "default argument": lambda head: lambda head=head: head._zeros(),
    "method of a tensor": lambda head: head.w.zero_,
    "recursive function": of_recursion,
    "dictionary": of_dictionary(dict),
    "ordered dictionary": of_dictionary(collections.OrderedDict),
    "default dictionary": of_dictionary(lambda: collections.defaultdict(list)),
    "user dictionary": of_dictionary(collections.UserDict),
    "own dictionary": of_named,
    "deque": of_deque,
    "named tuple": of_tuple,
    "own tuple": of_pair,
    "weak reference": of_reference,
    "weak reference to a method": of_method_reference,
    "namespace": of_namespace,
    "data of parameters": of_views,
    "new parameter": of_new_parameter,
    "data of a parameter": of_data,
}


@pytest.mark.parametrize("way", FOLLOWED)
def test_what_is_left_out_stays_whatever_way_a_reset_takes(way):
    net = Net(FOLLOWED[way])
    parameter = net.head.w
    hyperinit.init_(net, "digits", exclude="head.keep")
    assert net.head.keep.eq(1).all()
    assert net.head.w.eq(0).all()
    assert net.head.w is parameter


REAL: list = []


def of_global(head):
    REAL[:] = [head]
    return lambda: REAL[0]._zeros()


def of_global_parameter(head):
    REAL[:] = [head]
    return lambda: setattr(REAL[0], "w", nn.Parameter(torch.zeros(4)))


def of_memory(head):
    memory = head.w.detach().numpy()
    return lambda: memory.fill(0)


def of_failure(head):
    REAL[:] = [head]

    def zeros():
        REAL[0]._zeros()
        raise ZeroDivisionError

    return zeros


@pytest.mark.parametrize("make", [of_global, of_global_parameter, of_memory])
def test_a_way_that_cannot_be_followed_is_undone_and_refused(make):
    net = Net(make)
    before = {name: (value, value.detach().clone()) for name, value in net.named_parameters()}
    with pytest.raises(PlanError, match=r"^reset_parameters must write through self"):
        hyperinit.init_(net, "digits", exclude="head.keep")
    for name, value in net.named_parameters():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
    hyperinit.init_(net, "digits", fill="keep")  # as the message says


def test_a_reset_that_fails_half_way_leaves_the_module_as_it_was():
    net = Net(of_failure)
    with pytest.raises(ZeroDivisionError):
        hyperinit.init_(net, "digits", exclude="head.keep")
    assert net.head.w.eq(1).all()
    assert net.head.keep.eq(1).all()


class Recording(nn.Linear):
    """Writes down each of its resets."""

    def __init__(self):
        self.log = {"calls": []}
        super().__init__(36, 20)
        self.log["calls"].clear()

    def reset_parameters(self):
        super().reset_parameters()
        self.log["calls"].append(1)


def test_a_reset_changes_no_list_or_dictionary_of_the_module():
    net = cnn()
    net[9] = Recording()
    hyperinit.init_(net, "digits", strength=0.5)
    assert net[9].log == {"calls": []}


def test_ties_and_circles_are_kept():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net[0].owner, net[0].named = [net], {net[1]: "last"}
    copy = detached_copy(net)
    assert copy[1].weight is copy[0].weight is not net[0].weight
    assert copy[0].owner[0] is copy
    assert copy[0].named == {copy[1]: "last"}


def test_objects_that_lead_nowhere_or_clean_up_are_shared():
    class Closing:
        def __init__(self, net):
            self.net = net

        def __del__(self):
            closed.append(self)

    closed: list = []
    net = nn.Linear(2, 2)
    net.settings, net.closing = types.MappingProxyType({"size": [1, 2]}), Closing(net)
    copy = detached_copy(net)
    assert copy.settings is net.settings
    assert copy.closing is net.closing
    del copy
    assert not closed


@pytest.mark.filterwarnings("ignore::UserWarning")  # of sparse tensors, about themselves
def test_tensors_without_values_or_strides_can_be_copied():
    net = nn.Linear(2, 2)
    net.meta = nn.Parameter(torch.ones(3, device="meta"))
    net.sparse = nn.Parameter(torch.eye(3).to_sparse_csr(), requires_grad=False)
    net.lazy = nn.UninitializedParameter()
    copy = detached_copy(net)
    assert copy.meta.shape == (3,)
    assert copy.meta.device.type == "cpu"
    assert torch.equal(copy.sparse.to_dense(), torch.eye(3))
