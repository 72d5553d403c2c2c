"""Alignment of modules: copies keep their functions exactly, and come close to each other."""

import copy

import pytest
import torch
from seeds import gen
from torch import nn

import hyperinit_training
from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import TensorSpec
from hyperinit.layout.layers import group_sizes, reorder
from hyperinit.nets import cnn, resnet
from hyperinit_training.symmetry import permutation_groups
from hyperinit_training.symmetry.networks import align, align_with_notes


def mlp(activation=nn.ReLU):
    return nn.Sequential(nn.Linear(6, 12), activation(), nn.Linear(12, 9), activation(), nn.Linear(9, 4))


class Transformer(nn.Module):
    """A vision transformer of one block on 4 patches."""

    def __init__(self):
        super().__init__()
        self.patch, self.first = nn.Conv2d(1, 8, 4, 4), nn.Parameter(torch.randn(1, 1, 8))
        self.place, self.norm = nn.Parameter(torch.randn(1, 5, 8)), nn.LayerNorm(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(x))[:, 0])


CASES = {
    "transformer": (Transformer, (1, 8, 8)),
    "mlp": (mlp, (6,)),
    "tanh": (lambda: mlp(nn.Tanh), (6,)),
    "cnn": (cnn, (1, 28, 28)),
    "resnet": (lambda: resnet(8, width=4), (3, 16, 16)),
}
each = pytest.mark.parametrize("case", CASES)


def drawn(case, count, seed=0):
    """Make networks, whose norms have statistics of their own, and 16 inputs."""
    make, shape = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        networks = [make() for _ in range(count)]
        x = torch.randn(16, *shape)
        for network in networks:
            for _ in range(3):
                network.train()(x + torch.randn(()))
    return [network.eval() for network in networks], x


def shuffled(network, x, seed=1):
    """Copy a network with its neurons in random orders."""
    groups, state = permutation_groups(network, x).groups, network.state_dict()
    specs = [TensorSpec(name, tuple(state[name].shape), axes) for name, axes in groups.items()]
    generator = gen(seed)
    orders = {name: torch.randperm(size, generator=generator) for name, size in group_sizes(specs).items()}
    other = copy.deepcopy(network)
    other.load_state_dict(state | {spec.name: reorder(state[spec.name], spec, orders) for spec in specs})
    return other


def distance(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum((a - b).square().sum().item() for a, b in pairs)


@each
@pytest.mark.parametrize("by", ["activations", "weights"])
def test_copies_keep_functions_and_networks_stay_as_they_were(case, by):
    networks, x = drawn(case, 3)
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    aligned = align(*networks, example_input=x, by=by, rounds=2, signs=case == "tanh")
    assert any(not torch.equal(a, b) for a, b in zip(aligned[1].parameters(), networks[1].parameters(), strict=True))
    for network, other, state in zip(networks, aligned, before, strict=True):
        torch.testing.assert_close(other(x), network(x), rtol=0, atol=1e-5)
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert not {id(p) for p in network.parameters()} & {id(p) for p in other.parameters()}


@each
@pytest.mark.parametrize("by", ["activations", "weights"])
def test_permuted_copies_become_equal(case, by):
    [network], x = drawn(case, 1)
    others = [shuffled(network, x, seed) for seed in range(3)]
    assert distance(network, others[0]) > 1
    aligned = align(network, *others, example_input=x, by=by)
    assert all(distance(network, other) == 0 for other in aligned)


@each
def test_weights_come_closer_by_weights(case):
    networks, x = drawn(case, 2)
    first, second = align(*networks, example_input=x, by="weights")
    assert distance(first, networks[0]) == 0, "the first is the reference"
    assert distance(first, second) < distance(*networks)


def test_equal_inputs_leave_the_decision_to_weights():
    networks, x = drawn("mlp", 2)
    found = [align(*networks, example_input=torch.ones(16, 6), by=by)[1] for by in ("activations", "weights")]
    assert distance(*found) == 0
    assert distance(found[0], align(*networks, example_input=x)[1]) > 0


def test_a_reference_beside_the_networks():
    [network], x = drawn("resnet", 1)
    [found] = align(shuffled(network, x), example_input=x, reference=network)
    assert distance(found, network) == 0


def test_signs_are_matched_for_odd_activations():
    [network], x = drawn("tanh", 1)
    flipped = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in (flipped[0].weight[3], flipped[0].bias[3], flipped[2].weight[:, 3]):
            tensor.neg_()
    assert distance(network, align(network, flipped, example_input=x)[1]) > 0.1
    assert distance(network, align(network, flipped, example_input=x, signs=True)[1]) == 0


def test_dtype_mode_and_frozen_parameters_are_kept():
    [network], x = drawn("mlp", 1)
    network.train().bfloat16()[0].weight.requires_grad_(False)
    [found] = align(network, example_input=x)
    assert found.training
    assert found[0].weight.dtype == torch.bfloat16
    assert not found[0].weight.requires_grad
    assert found[2].weight.requires_grad


def test_the_generator_decides_and_the_global_one_is_left_alone():
    networks, x = drawn("resnet", 2)
    state = torch.get_rng_state()
    found = [align(*networks, example_input=x, by="weights", generator=gen(seed))[1] for seed in (0, 0, 1)]
    assert distance(found[0], found[1]) == 0
    assert distance(found[0], found[2]) > 0
    assert torch.equal(torch.get_rng_state(), state)


class Branching(nn.Module):
    """Cannot be traced, because it branches on values."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        x = self.fc1(x).relu()
        return self.fc2(x if x.sum() > 0 else 2 * x)


def test_an_untraceable_network_is_refused_and_aligned_by_groups_written_by_hand():
    network, x = Branching(), torch.randn(16, 6, generator=gen())
    with pytest.raises(
        LayoutError, match=r"must be able to trace Branching, got TraceError: .* Write the groups by hand"
    ):
        align(network, network, example_input=x)
    groups = {"fc1.weight": ("a", None), "fc1.bias": ("a",), "fc2.weight": (None, "a")}
    other = copy.deepcopy(network)
    for tensor, axis in ((other.fc1.weight, 0), (other.fc1.bias, 0), (other.fc2.weight, 1)):
        tensor.data = tensor.data.roll(1, axis)
    assert distance(network, align(network, other, example_input=x, groups=groups)[1]) == 0


def test_a_network_whose_neurons_are_all_fixed_is_refused_with_the_reason():
    network = nn.Sequential(nn.Linear(6, 8), nn.GLU(), nn.Linear(4, 2))
    with pytest.raises(LayoutError, match=r"hidden neurons that can be permuted, got none: _1 \(GLU\) fixes"):
        align(network, network, example_input=torch.randn(16, 6))


def test_operations_that_fix_some_neurons_are_named():
    network = nn.Sequential(nn.Linear(6, 8), nn.GLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    found, notes = align_with_notes([network, copy.deepcopy(network)], torch.randn(16, 6, generator=gen()))
    assert len(found) == 2
    assert notes == ("_1 (GLU) fixes the order of its input neurons",)


def broken(**changes):
    network = mlp()
    for name, value in changes.items():
        with torch.no_grad():
            getattr(network[0], name).fill_(value)
    return network


@pytest.mark.parametrize(
    ("networks", "arguments", "message"),
    [
        ([], {}, "networks must be modules, got none"),
        ([mlp(), "a.pt"], {}, "networks must be modules, got str"),
        ([mlp(), mlp(nn.Tanh)], {}, "one architecture, network 1 differs from network 0: 1 is Tanh and not ReLU"),
        ([mlp(), nn.Sequential(*mlp()[:3])], {}, "network 1 differs from network 0: 3 is nothing and not ReLU"),
        ([mlp(), nn.Sequential(nn.Linear(6, 3), *mlp()[1:])], {}, r"0.weight is \(3, 6\) and not \(12, 6\)"),
        ([mlp(), nn.DataParallel(mlp())], {}, "must not be compiled, parallel or sharded, got network 1"),
        ([mlp(), broken(bias=torch.nan)], {}, "finite weights, got NaN or infinity in 0.bias of network 1"),
        ([mlp(), mlp().to("meta")], {}, "networks must hold values, got 0.weight of network 1 without any"),
        ([mlp()], {"reference": mlp(nn.Tanh)}, "network 1 differs from network 0"),
        ([mlp()], {"rounds": 0}, "rounds must be an integer of at least 1, got 0"),
        ([mlp()], {"by": "magic"}, "by must be 'activations' or 'weights', got 'magic'"),
        ([mlp()], {"example_input": torch.ones(16, 5)}, "example_input must be a valid input of Sequential"),
    ],
)
def test_align_refuses(networks, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        align(*networks, **{"example_input": torch.randn(16, 6, generator=gen())} | arguments)


def test_layers_with_equal_shapes_and_other_settings_are_refused():
    """The check of functions finds what classes and shapes do not tell."""
    one, other = (
        nn.Sequential(nn.Conv1d(2, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 3, groups=1), nn.Flatten(), nn.Linear(8 * 4, 2))
        for _ in range(2)
    )
    other[3] = nn.Flatten(1, 2)  # the same
    other[1].forward = lambda x: x * torch.arange(8.0).to(x.dtype)[:, None]
    with pytest.raises(
        ArgumentError, match=r"one architecture, got network 1 whose outputs change by .* of the largest"
    ):
        align(one, other, example_input=torch.randn(16, 2, 8, generator=gen()))


def test_the_public_name():
    assert hyperinit_training.align is align
