"""All or nothing, through parametrisations and into shards."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from hyperinit import writing
from hyperinit.errors import PlanError
from hyperinit.writing import check_writable, write


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


@pytest.fixture
def net():
    weighted = parametrizations.weight_norm(nn.Linear(3, 3))
    return nn.Sequential(nn.Linear(2, 3), weighted, nn.Linear(3, 1).to(torch.bfloat16))


VALUES = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(3), "1.weight": torch.eye(3), "2.bias": torch.ones(1)}


def test_values_arrive_and_the_rest_stays(net):
    before, ids = state(net), [id(value) for value in net.parameters()]
    write(net, VALUES)
    after = state(net)
    torch.testing.assert_close(net[1].weight, torch.eye(3))
    assert torch.equal(after["0.weight"], torch.ones(3, 2))
    assert after["2.bias"].dtype == torch.bfloat16
    assert torch.equal(after["2.weight"], before["2.weight"])
    assert torch.equal(after["1.bias"], before["1.bias"])
    assert [id(value) for value in net.parameters()] == ids


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_exception_before_any_parameter_leaves_all_as_they_were(net, monkeypatch, error, at):
    before, count, piece = state(net), iter(range(10)), writing.piece

    def failing(value, parameter):
        if next(count) == at:
            raise error
        return piece(value, parameter)

    def failing_through(*arguments):
        failing(None, torch.empty(()))
        return through(*arguments)

    through = writing._write_through
    monkeypatch.setattr(writing, "piece", failing)
    monkeypatch.setattr(writing, "_write_through", failing_through)
    with pytest.raises(error):
        write(net, VALUES)
    assert same(state(net), before)
    monkeypatch.undo()
    write(net, VALUES)
    assert torch.equal(net[0].weight, torch.ones(3, 2))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("spectral_norm", r"^1.weight must hold the new weights, but its parametrisation SpectralNorm changes them by"),
        ("orthogonal", r"^1.weight must hold the new weights, but its parametrisation Orthogonal changes them by"),
    ],
)
def test_what_a_parametrisation_cannot_hold_is_refused_and_undone(kind, message):
    net = nn.Sequential(nn.Linear(2, 3), getattr(parametrizations, kind)(nn.Linear(3, 3)))
    before = state(net)
    with pytest.raises(PlanError, match=message):
        write(net, {"0.weight": torch.ones(3, 2), "1.weight": 2 * torch.ones(3, 3).triu()})
    assert same(state(net), before)


def test_what_a_parametrisation_can_hold_is_written():
    net = nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3)))
    write(net, {"0.weight": torch.eye(3).flip(0)})
    torch.testing.assert_close(net[0].weight, torch.eye(3).flip(0))


def test_a_parametrisation_without_a_right_inverse_is_refused_and_undone():
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    net = nn.Linear(2, 2)
    nn.utils.parametrize.register_parametrization(net, "weight", Doubled())
    before = state(net)
    with pytest.raises(PlanError, match=r"^weight cannot be set through its parametrisation Doubled: .*call init_ bef"):
        write(net, {"bias": torch.ones(2), "weight": torch.ones(2, 2)})
    assert same(state(net), before)


def test_a_parameter_that_is_reused_is_written_once():
    part = nn.Linear(2, 2)
    net = nn.Sequential(part, nn.Tanh(), part)
    write(net, {"0.weight": torch.eye(2)})
    assert net[2].weight is net[0].weight
    assert torch.equal(net[2].weight, torch.eye(2))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"w": nn.Parameter(torch.empty(2, device="meta"))}, r"must be materialised, .*: w\..*to_empty"),
        ({"w": nn.UninitializedParameter()}, r"must be materialised, .*: w\. Run one batch"),
        ({"w": nn.Parameter(torch.zeros(1).expand(3))}, r"memory of its own, got expanded ones: w; clone them"),
        ({"w": nn.Parameter(torch.zeros(1, dtype=torch.long), requires_grad=False)}, r"got 1 parameters and none$"),
    ],
)
def test_what_cannot_be_written_is_refused(parameters, message):
    with pytest.raises(PlanError, match=message):
        check_writable(parameters)
