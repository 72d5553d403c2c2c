"""All or nothing, through parametrisations and into shards."""

import pytest
import torch
from module_states import same, state
from torch import nn
from torch.nn.utils import parametrizations

import hyperinit
from hyperinit.errors import PlanError
from hyperinit.modules.write import check_writable, write
from hyperinit.nets import cnn


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


def breaking(monkeypatch, at, error, places=None):
    """Let one copy, the `at`-th, fail halfway. With `places`, only copies into these addresses count."""
    copy, count = torch.Tensor.copy_, iter(range(1000))

    def failing(tensor, value):
        copy(tensor, value)
        if (places is None or tensor.data_ptr() in places) and next(count) == at:
            tensor.view(-1)[:1].fill_(torch.nan)
            raise error
        return tensor

    monkeypatch.setattr(torch.Tensor, "copy_", failing)
    return count


ERRORS = [MemoryError, KeyboardInterrupt, torch.OutOfMemoryError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", range(5))  # three parameters, and the two that weight norm computes with
def test_an_exception_in_any_copy_leaves_all_as_they_were(net, monkeypatch, error, at):
    before, places = state(net), [value.data_ptr() for value in net.parameters()]
    with monkeypatch.context() as patch:
        breaking(patch, at, error)
        with pytest.raises(error):
            write(net, VALUES)
    assert same(net, before)
    assert [value.data_ptr() for value in net.parameters()] == places
    with monkeypatch.context() as patch:
        count = breaking(patch, -1, error)
        write(net, VALUES)
    assert next(count) == 5
    assert torch.equal(net[0].weight, torch.ones(3, 2))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", range(8))
def test_init_is_all_or_nothing_at_each_parameter(artifact, monkeypatch, error, at):
    model = cnn()
    before = state(model)
    places = {value.data_ptr() for value in model.parameters()}
    with monkeypatch.context() as patch:
        breaking(patch, at, error, places)
        with pytest.raises(error):
            hyperinit.init_(model, artifact)
    assert same(model, before)
    assert not same(hyperinit.init_(model, artifact), before)


def test_memory_that_others_share_is_written_in_place(net):
    net.share_memory()
    places = {name: value.data_ptr() for name, value in net.named_parameters()}
    write(net, VALUES)
    assert {name: value.data_ptr() for name, value in net.named_parameters()} == places
    assert all(value.is_shared() for value in net.parameters())
    torch.testing.assert_close(net[1].weight, torch.eye(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weight_norm_holds_what_its_dtype_can(dtype):
    net = parametrizations.weight_norm(nn.Linear(7, 5)).to(dtype)
    value = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    write(net, {"weight": value})
    torch.testing.assert_close(net.weight, value, rtol=0.03, atol=0.01 if dtype.itemsize < 4 else 1e-6)
    assert {parameter.dtype for parameter in net.parameters()} == {dtype}


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
    assert same(net, before)


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
    assert same(net, before)


def test_a_parameter_that_is_reused_is_written_once():
    part = nn.Linear(2, 2)
    net = nn.Sequential(part, nn.Tanh(), part)
    write(net, {"0.weight": torch.eye(2)})
    assert net[2].weight is net[0].weight
    assert torch.equal(net[2].weight, torch.eye(2))


FLAT = torch.zeros(12)
VIEWS = {"a": nn.Parameter(FLAT[:6].view(2, 3)), "b": nn.Parameter(FLAT[:6].view(2, 3).T)}


def test_neighbours_in_one_buffer_are_fine():
    check_writable({"a": VIEWS["a"], "b": nn.Parameter(FLAT[6:])})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"w": nn.Parameter(torch.empty(2, device="meta"))}, r"must be materialised, .*: w\..*to_empty"),
        ({"w": nn.UninitializedParameter()}, r"must be materialised, .*: w\. Run one batch"),
        ({"w": nn.Parameter(torch.zeros(1).expand(3))}, r"memory of its own, got expanded ones: w; clone them"),
        (VIEWS, r"must not lie in each other's memory, got b in a. Tie them by using one nn.Parameter in both places"),
        ({"w": nn.Parameter(torch.zeros(1, dtype=torch.long), requires_grad=False)}, r"got 1 parameters and none$"),
    ],
)
def test_what_cannot_be_written_is_refused(parameters, message):
    with pytest.raises(PlanError, match=message):
        check_writable(parameters)
