"""Modules, state dicts and files become one source. The modules do not change."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from hyperinit.checkpoints.gather import gather
from hyperinit.errors import ArgumentError, LayoutError, ZooError
from hyperinit.nets import cnn


def net(width=4, activation=nn.ReLU):
    return nn.Sequential(nn.Conv2d(1, width, 3), activation(), nn.Flatten(), nn.Linear(width, 2))


def padded():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *net()[1:])


def compiled(module):
    """As torch.compile leaves a module, without the import of the compiler."""
    wrapper = nn.Module()
    wrapper._orig_mod = module
    return wrapper


def place(count):
    return [f"source[{index}]" for index in range(count)]


def test_every_form_of_a_network_gives_the_same_weights(tmp_path):
    one = net()
    torch.save({"epoch": 1, "model": one.state_dict(prefix="module.")}, tmp_path / "a.pt")
    items = [
        one, one.state_dict(), dict(one.named_parameters()), {"state_dict": one.state_dict(prefix="model.")},
        tmp_path / "a.pt", nn.DataParallel(one), one.double(), compiled(one),
    ]  # fmt: skip
    for found in (gather(items, place(8)), gather(items[::-1], place(8)), gather(items[1:5], place(4))):
        assert (found.weights == found.weights[0]).all()
    assert gather(items[1:5], place(4)).network is None


def test_a_prefix_is_found_if_a_module_tells_the_names():
    one, other = net(), net()
    state = {"loss.weight": torch.ones(3), **other.state_dict(prefix="net.")}
    found = gather([one, state], place(2))
    assert torch.equal(found.weights[1], gather([other], ["source"]).weights[0])


def test_modules_are_only_read():
    one = net().double().train()
    one[0].weight.requires_grad_(False)
    before, state = dict(one.named_parameters()), copy.deepcopy(one.state_dict())
    found = gather([one], ["source"])
    with torch.no_grad():
        found.network[0].weight.add_(1)
        found.weights.add_(1)
    assert all(before[name] is value for name, value in one.named_parameters())
    assert all(torch.equal(state[name], value) for name, value in one.state_dict().items())
    assert one.training
    assert one[0].weight.dtype == torch.float64
    assert [value.requires_grad for value in found.network.parameters()] == [False, True, True, True]


def test_parametrised_networks_give_the_weights_that_they_compute_with():
    one = parametrizations.weight_norm(nn.Linear(3, 2))
    assert torch.equal(gather([one], ["source"]).weights[0], torch.cat([one.weight.flatten(), one.bias]).detach())
    assert torch.nn.utils.parametrize.is_parametrized(one)


def test_tied_tensors_are_no_differences():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    assert len(gather([tied, tied.state_dict()], place(2))) == len(gather([tied.state_dict(), tied], place(2))) == 2


class Named(nn.Module):
    """A part has the name of a wrapper's."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 1)


def test_a_part_may_have_the_name_of_a_wrappers():
    assert gather([Named()], ["source"]).layout.tensors[0].name == "module.weight"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([net(5)], r"got source\[1\] with 0.weight has shape \(5, 1, 3, 3\), expected \(4, 1, 3, 3\)"),
        ([net(), net(5).state_dict()], r"got source\[2\] with 0.weight has shape"),
        ([cnn()], r"got source\[1\] with unexpected 6.weight"),
        ([net().append(nn.Linear(2, 2))], r"got source\[1\] with unexpected 4.weight \(2, 2\)"),
        ([{**net().state_dict(), "9.weight": torch.ones(3, 3)}], r"got source\[1\] with unexpected 9.weight"),
        ([net(activation=nn.Tanh)], r"got source\[1\] with Tanh in place of ReLU at 1$"),
        (
            [padded()],
            r"got source\[1\] with Conv2d\(.*padding=\(1, 1\)\) in place of Conv2d\(.*\) at 0$",
        ),
        ([net(activation=lambda: nn.LeakyReLU(0.2))], r"got source\[1\] with LeakyReLU in place of ReLU at 1$"),
        ([net().append(nn.ReLU())], r"got source\[1\] with a ReLU at 4, where others have nothing$"),
        ([net(), net().append(nn.ReLU())], r"got source\[2\] with a ReLU at 4, where others have nothing$"),
    ],
)
def test_different_networks_are_refused(others, message):
    with pytest.raises(LayoutError, match=rf"^all networks of source must be of one kind, {message}"):
        gather([net(), *others], place(1 + len(others)))


def test_settings_that_change_outputs_must_agree():
    def make(slope, eps=1e-5, momentum=0.1, dropout=0.5):
        parts = (nn.BatchNorm2d(4, eps, momentum), nn.LeakyReLU(slope), nn.Dropout(dropout))
        return nn.Sequential(nn.Conv2d(1, 4, 3), *parts)

    assert len(gather([make(0.1), make(0.1, momentum=0.2, dropout=0.1)], place(2))) == 2
    with pytest.raises(LayoutError, match=r"LeakyReLU\(negative_slope=0.2\) in place of LeakyReLU"):
        gather([make(0.1), make(0.2)], place(2))
    with pytest.raises(LayoutError, match=r"BatchNorm2d\(eps=0.1\) in place of BatchNorm2d\(eps=1e-05\) at 1$"):
        gather([make(0.1), make(0.1, eps=0.1)], place(2))


def test_states_alone_must_agree_too():
    with pytest.raises(LayoutError, match=r"got source\[1\] with missing 3.bias \(2,\)"):
        gather([net().state_dict(), {k: v for k, v in net().state_dict().items() if k != "3.bias"}], place(2))


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], ArgumentError, "source must hold at least one network, got an empty list$"),
        ([{}], ZooError, "must hold a state dict, at the top or .* got an empty one$"),
        ([{"model": net()}], ZooError, "got a Sequential under 'model'$"),
        ([{"w": torch.eye(2).to_sparse()}], ZooError, "must hold dense tensors, got a torch.sparse_coo tensor in w"),
        ([net().to("meta")], ArgumentError, "must hold values, got 0.weight on the meta device; load its weights$"),
        ([nn.Sequential(nn.Linear(1, 1), nn.LazyLinear(2))], ArgumentError, "must hold dense tensors, got a lazy"),
        ([torch.nn.utils.spectral_norm(nn.Linear(2, 2))], ArgumentError, "whose weights can be read: the module comp"),
    ],
)
def test_networks_without_values_that_can_be_read_are_refused(items, error, message):
    with pytest.raises(error, match=message):
        gather(items, place(len(items)))
