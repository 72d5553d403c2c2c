"""Groups that are found leave the network's function unchanged, and notes explain groups that are not found."""

import copy

import pytest
import torch
from reordered import permutation_index
from seeds import gen
from torch import nn
from torch.func import functional_call

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout, TensorSpec
from hyperinit.nets import ResNet, cnn, resnet20
from hyperinit_training.symmetry import flip, permutation_groups, sign_groups, trace

IMAGES = torch.ones(2, 1, 28, 28)


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Skip(nn.Module):
    """A residual connection around one layer: its group moves both axes of the layer's weight."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Reused(nn.Module):
    """One layer used twice, the second time behind itself; the first time on the inputs, if `early`."""

    def __init__(self, early):
        super().__init__()
        self.into, self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.early = early

    def forward(self, x):
        x = self.shared(x) if self.early else self.shared(self.into(x).relu())
        return self.out(self.shared(x.relu()))


def tied():
    net = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    net[4].weight = net[2].weight
    return net


NETWORKS = {
    "cnn": (cnn, IMAGES, {"0": 8, "3": 6, "6": 4, "9": 20}),
    "norms": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 1), nn.GroupNorm(1, 6),
            nn.Flatten(), nn.Linear(216, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 2, bias=False),
        ), torch.ones(2, 3, 8, 8), {"0": 8, "3": 6, "6": 5},
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 1), nn.Conv1d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv1d(8, 6, 1, groups=2), nn.ReLU(),
            nn.Conv1d(6, 5, 1), nn.GroupNorm(5, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 2),
        ), torch.ones(2, 3, 6), {"5": 5},
    ),
    "depthwise and pointwise": (
        lambda: nn.Sequential(nn.Conv3d(3, 4, 1), nn.Conv3d(4, 8, 3, groups=4), nn.ReLU(), nn.Conv3d(8, 2, 1)),
        torch.ones(2, 3, 4, 4, 4), {"0": 4},
    ),
    "residual": (lambda: ResNet(width=4, blocks=1), torch.ones(2, 3, 8, 8), {
        "conv1": 4, "layer1.0.conv1": 4, "layer2.0.conv1": 8, "layer2.0.conv2": 8, "layer3.0.conv1": 16,
        "layer3.0.conv2": 16,
    }),
    "one-layer skip": (
        lambda: nn.Sequential(nn.Linear(3, 5), Skip(nn.Linear(5, 5)), nn.ReLU(), nn.Linear(5, 2)),
        torch.ones(2, 3), {"0": 5},
    ),
    "reused": (lambda: Reused(early=False), torch.ones(2, 4), {"into": 4}),
    "reused on the inputs": (lambda: Reused(early=True), torch.ones(2, 4), {}),
    "tied": (tied, torch.ones(2, 4), {"0": 6}),
    "groups of two": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1)),
        torch.ones(2, 3, 4, 4), {},
    ),
}  # fmt: skip


def randomised(make):
    """A network in evaluation mode whose weights and statistics all differ, and its layout's vector."""
    net = make().eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=gen(value.numel())) - (-0.1 if "var" in name else 0.5))
    layout = Layout.of(net)
    return net, layout, layout.flatten(net.state_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_reordered_groups_compute_the_same_function(name):
    make, example, sizes = NETWORKS[name]
    net, layout, weights = randomised(make)
    found = permutation_groups(net, example)
    layout = layout.with_groups(found.groups)
    assert layout.group_sizes == sizes
    inputs = torch.randn(example.shape, generator=gen(1))
    for group, size in sizes.items():
        index = permutation_index(layout, {group: torch.randperm(size, generator=gen(5))})
        assert not torch.equal(index, torch.arange(layout.size))
        moved = functional_call(net, layout.raw_tensors(weights[index]), inputs, tie_weights=False)
        torch.testing.assert_close(moved, net(inputs), rtol=1e-3, atol=1e-4)


def test_a_chain_has_the_groups_that_its_layout_finds():
    layout = Layout.of(cnn())
    assert permutation_groups(cnn(), IMAGES).groups == {tensor.name: tensor.groups for tensor in layout.tensors}


def test_shortcuts_share_the_group_of_their_stage():
    found = permutation_groups(resnet20(), torch.ones(2, 3, 16, 16))
    assert found.notes == ()
    layout = Layout.of(resnet20()).with_groups(found.groups)
    assert [*layout.group_sizes.values()] == [16] * 4 + [32] * 4 + [64] * 4
    shared = {name.rpartition(".")[0] for name, groups in found.groups.items() if "conv1" in groups}
    stage = {f"layer1.{block}.{layer}" for block in range(3) for layer in ("conv1", "conv2", "bn2")}
    assert shared == {"conv1", "bn1"} | stage | {"layer2.0.conv1", "layer2.0.downsample.0"}
    assert found.groups["fc.weight"] == (None, "layer3.0.conv2")
    assert found.groups["layer2.0.downsample.1.running_var"] == ("layer2.0.conv2",)


@pytest.mark.parametrize(("name", "notes"), [
    ("reused on the inputs", ("no symmetry was found",)),
    ("groups of two", ("_1 (GroupNorm) fixes the order of its input neurons", "no symmetry was found")),
    ("depthwise", ("_3 (Conv1d) fixes the order of its input neurons",)),
])  # fmt: skip
def test_notes_name_the_operations_that_fix_neurons(name, notes):
    make, example, _ = NETWORKS[name]
    assert permutation_groups(make(), example).notes == notes


def test_a_wrong_rule_is_caught_by_running_the_network(monkeypatch):
    class Turned(Skip):
        def forward(self, x):
            return self.inner(x).flip(1)

    net = nn.Sequential(Turned(nn.Linear(3, 5)), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    monkeypatch.setattr(trace, "ALIKE", trace.ALIKE | {"flip"})
    found = permutation_groups(net, torch.ones(64, 3))  # with 2 inputs, all ReLUs of a layer can be inactive
    [note] = found.notes
    assert note.startswith("group 0.inner is dropped: the outputs change by ")
    assert found.groups["0.inner.weight"] == (None, None)
    assert found.groups["2.weight"] == ("2", None), "the other group stays"


def test_a_group_is_dropped_if_its_check_could_not_fail():
    class Silent(Skip):
        def forward(self, x):
            return 0 * self.inner(x) + x.sum()

    found = permutation_groups(Silent(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 3))), torch.ones(2, 3))
    assert found.notes[0] == (
        "group inner.0 is dropped: changing inner.0.weight alone does not change the outputs, "
        "so the check is inconclusive"
    )


def test_deep_networks_with_norms_carry_the_signal_to_the_check():
    layers = [part for _ in range(30) for part in (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())]
    found = permutation_groups(nn.Sequential(*layers, nn.Linear(6, 2)), torch.ones(4, 6))
    assert found.notes == ()


def test_tied_weights_are_changed_together_by_the_check():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.out(self.a(x).relu() + self.b(x))

    assert permutation_groups(Pair(), torch.ones(2, 3)).groups["b.weight"] == ("a", None)


# Written by hand


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.norm, self.out = nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.norm(self.into(x))
        return self.out(x.relu() if x.mean() > 0 else x)


WRITTEN = {"into.weight": ("a", None), "into.bias": ("a",), "out.weight": (None, "a")}
NORM = {f"norm.{key}": ("a",) for key in ("weight", "bias", "running_mean", "running_var")}


def test_groups_can_be_written_by_hand_where_tracing_fails():
    with pytest.raises(LayoutError, match="Write the groups by hand instead: groups="):
        permutation_groups(Branching(), torch.ones(2, 3))
    found = permutation_groups(Branching(), torch.ones(2, 3), WRITTEN | NORM)
    assert found.notes == ()
    assert {name for name, groups in found.groups.items() if "a" in groups} == {*WRITTEN, *NORM}


@pytest.mark.parametrize("name", [*WRITTEN, *NORM])
def test_a_written_group_that_leaves_out_a_tensor_is_dropped(name):
    """This includes running statistics, although those of a new network are all equal."""
    groups = {key: value for key, value in (WRITTEN | NORM).items() if key != name}
    found = permutation_groups(Branching(), torch.ones(2, 3), groups)
    assert found.notes[0].startswith("group a is dropped: the outputs change by ")
    assert found.notes[1] == "no symmetry was found"
    assert not any(any(groups) for groups in found.groups.values())


@pytest.mark.parametrize("groups", [{"into.wight": ("a", None)}, {"into.weight": ("a",)}])
def test_written_groups_must_fit_the_tensors(groups):
    [name] = groups
    with pytest.raises(LayoutError, match=rf"one entry for each axis of the module's tensors, got {name} \("):
        permutation_groups(Branching(), torch.ones(2, 3), groups)


def test_the_example_must_be_what_the_module_takes():
    message = r"^example_input must be a valid input of Sequential in float64 with float outputs, got RuntimeError"
    with pytest.raises(ArgumentError, match=message):
        permutation_groups(cnn(), torch.ones(2, 3))


def test_several_inputs_are_a_tuple_and_integer_inputs_are_kept():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 4), nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, x, index):
            return {"first": self.out(self.a(x).relu()), "second": [self.b(index), index]}

    found = permutation_groups(Two(), (torch.ones(2, 3), torch.tensor([8, 1])))
    assert found.groups["out.weight"] == (None, "a")
    assert found.groups["b.weight"] == (None, None)


def test_the_module_and_the_global_generator_are_left_alone():
    net = ResNet(width=4, blocks=1)
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    first = permutation_groups(net, torch.ones(2, 3, 8, 8))
    assert permutation_groups(net, torch.zeros(2, 3, 8, 8)) == first
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not net.bn1._forward_pre_hooks
    assert torch.equal(torch.get_rng_state(), state)


# Signs


def odd():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(18, 5),
        nn.Softsign(), Skip(nn.Linear(5, 5)), nn.Linear(5, 2),
    )  # fmt: skip


def test_flipped_groups_compute_the_same_function():
    found = sign_groups(odd(), torch.ones(2, 1, 8, 8))
    assert found.notes == ()
    net, layout, weights = randomised(odd)
    layout, state = layout.with_groups(found.groups), net.state_dict()
    assert layout.group_sizes == {"0": 3, "3": 2, "5": 5}
    inputs = torch.randn(4, 1, 8, 8, generator=gen(1))
    signs = {group: torch.tensor([-1.0, 1.0, -1.0, -1.0, 1.0])[:size] for group, size in layout.group_sizes.items()}
    flipped = {spec.name: flip(state[spec.name], spec, signs) for spec in layout.tensors}
    assert (layout.flatten(flipped) != weights).float().mean() > 0.4
    torch.testing.assert_close(functional_call(net, flipped, inputs), net(inputs), rtol=1e-4, atol=1e-5)
    flipped["5.bias"] = state["5.bias"]
    assert (functional_call(net, flipped, inputs) - net(inputs)).abs().max() > 0.01, "biases must flip, too"


def test_max_pooling_and_norms_break_signs():
    found = sign_groups(cnn(), IMAGES)
    assert Layout.of(cnn()).with_groups(found.groups).group_sizes == {"6": 4, "9": 20}
    assert found.notes[0] == "_1 (MaxPool2d) fixes the signs of its input neurons"
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
    assert sign_groups(net, torch.ones(2, 3)).notes == (
        "_1 (LayerNorm) fixes the signs of its input neurons", "no symmetry was found",
    )  # fmt: skip


def test_one_neuron_has_a_sign_but_no_order():
    net = nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 2))
    assert sign_groups(net, torch.ones(2, 3)).groups["2.weight"] == (None, "0")
    assert permutation_groups(net, torch.ones(2, 3)).groups["2.weight"] == (None, None)


def test_written_signs_are_checked_too():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    found = sign_groups(net, torch.ones(2, 3), {"0.weight": ("a", None), "0.bias": ("a",), "2.weight": (None, "a")})
    assert found.notes[0].startswith("group a is dropped")


def test_flip_goes_block_by_block():
    spec = TensorSpec("a", (2, 4), (None, "x"))
    assert flip(torch.ones(2, 4), spec, {"x": torch.tensor([-1.0, 1.0])}).tolist() == [[-1, -1, 1, 1]] * 2
