"""Looking through wrappers and parametrisations, without changing anything."""

import pytest
import torch
from module_states import same, state
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune

from hyperinit.errors import PlanError
from hyperinit.modules.wrappers import effective, parametrised, parts, plain, unwrapped


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: torch.compile(net, backend="eager"),
        nn.DataParallel,
        lambda net: nn.DataParallel(torch.compile(net, backend="eager")),
    ],
)
def test_the_network_is_found_inside(wrap):
    net = nn.Sequential(nn.Linear(2, 2))
    assert unwrapped(wrap(net)) is net


def test_wrapped_parts_keep_their_plain_names_and_tensors():
    inner = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2))
    net = nn.Sequential(nn.DataParallel(checkpoint_wrapper(inner)), torch.compile(inner[1], backend="eager"))
    view = plain(net)
    assert [name for name, _ in view.named_parameters()] == ["0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"]
    assert view[0][1].weight is inner[1].weight
    assert view[1] is view[0][1]
    assert parametrised(net) == {"0.0.weight": (inner[0], "weight")}
    assert [name for name, part in parts(net) if isinstance(part, nn.Linear)] == ["0.0", "0.1"]
    assert isinstance(net[0], nn.DataParallel), "the module itself is as it was"


def test_pruned_weights_are_refused_with_the_way_out():
    net = nn.Sequential(nn.ReLU(), nn.Linear(2, 2))
    prune.l1_unstructured(net[1], "weight", 0.5)
    with pytest.raises(
        PlanError, match=r"^1 computes its weight anew .* before pruning, or make it permanent with pru"
    ):
        plain(net)
    prune.remove(net[1], "weight")
    assert plain(net) is net


def test_a_network_with_a_part_called_module_is_no_wrapper():
    net = nn.Module()
    net.module = nn.Linear(2, 2)
    assert unwrapped(net) is net


def test_nothing_is_copied_without_a_parametrisation():
    net = nn.Sequential(nn.Linear(2, 2))
    assert plain(net) is net
    assert not parametrised(net)


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_stand_in_computes_the_same_under_plain_names(kind):
    part = getattr(parametrizations, kind)(nn.Linear(4, 3))
    net = nn.Sequential(nn.Linear(2, 4), part, nn.Linear(3, 2, bias=False))
    before = state(net.train())
    view = plain(net)
    assert same(net, before), "reading must not move the estimates of a spectral norm"
    assert net.training
    assert [name for name, _ in view.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight"]
    assert view[0].weight is net[0].weight
    assert type(view[1]) is nn.Linear
    assert parametrize.is_parametrized(net[1], "weight"), "the module's own class is as it was"
    inputs = torch.randn(5, 2)
    torch.testing.assert_close(view(inputs), net.eval()(inputs))
    assert torch.equal(effective(net[1], "weight"), view[1].weight)


def test_a_reused_part_stays_one():
    part = parametrizations.weight_norm(nn.Linear(2, 2))
    view = plain(nn.Sequential(part, nn.Tanh(), part))
    assert view[0] is view[2]
    assert len(list(view.parameters())) == 2
    assert parametrised(nn.Sequential(part, part)) == {"0.weight": (part, "weight")}


def test_a_frozen_parametrised_weight_is_frozen_in_the_view():
    part = parametrizations.weight_norm(nn.Linear(2, 2))
    part.parametrizations.requires_grad_(False)
    assert not plain(part).weight.requires_grad
    assert plain(part).bias.requires_grad


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_old_hooks_are_refused_with_the_way_out(name):
    net = nn.Sequential(getattr(torch.nn.utils, name)(nn.Linear(2, 2)))
    with pytest.raises(PlanError, match=rf"^0 computes its weight anew .* use torch.nn.utils.parametrizations.{name}$"):
        plain(net)


def test_the_first_fsdp_is_refused_with_the_way_out():
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(PlanError, match=r"call init_ before wrapping, or use torch.distributed.fsdp.fully_shard$"):
        plain(nn.Sequential(FullyShardedDataParallel()))


class Counting(nn.Module):
    """A parametrisation that counts its calls, in evaluation mode too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, weight):
        self.calls = self.calls + 1
        return weight * 2

    def right_inverse(self, weight):
        return weight / 2


def test_reading_a_weight_leaves_the_buffers_of_its_parametrisation():
    net = nn.Linear(2, 1)
    nn.utils.parametrize.register_parametrization(net, "weight", Counting())
    step = net.parametrizations.weight[0]
    before, count = step.calls, step.calls.item()
    plain(net)
    assert step.calls is before
    assert step.calls == count
