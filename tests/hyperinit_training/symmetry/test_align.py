"""Weight matching: known permutations are undone, and alignment never changes a network's function."""

import time
from itertools import pairwise, permutations

import pytest
import torch
from looped import looped
from reordered import permutation_index
from seeds import gen
from torch import nn
from torch.func import functional_call

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit.nets import ResNet, cnn
from hyperinit_training.symmetry import permutation_groups
from hyperinit_training.symmetry.align import align, match
from hyperinit_training.train_autoencoder.augment import PermutationAugmentation

SIZE = 2464


@pytest.fixture(scope="module")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="module")
def zoo():
    return 0.3 * torch.randn(24, SIZE, generator=gen())


def permuted(weights, layout, seed=1):
    return PermutationAugmentation(layout, 1000, gen(seed))(weights, gen(seed))


def spread(weights):
    """Mean squared distance to the mean network."""
    return (weights - weights.mean(0)).square().sum(1).mean().item()


def outputs(weights, layout):
    """What each network (N, D) computes on four random images, (N, 4, 10)."""
    net, images = cnn(), torch.randn(4, 1, 28, 28, generator=gen(9))
    return torch.stack([functional_call(net, layout.raw_tensors(row), images) for row in weights]).detach()


def test_permuted_copies_align_back_exactly(zoo, layout):
    copies = permuted(zoo[:1].expand(24, -1), layout)
    assert len(copies.unique(dim=0)) == 24
    aligned = align(copies, layout, generator=gen(), reference=zoo[0], rounds=1)
    assert torch.equal(aligned, zoo[:1].expand(24, -1))


def test_permuted_copies_with_noise_align_back(zoo, layout):
    noise = 0.05 * torch.randn(24, SIZE, generator=gen(2))
    noisy = zoo[0] + noise
    aligned = align(permuted(noisy, layout), layout, generator=gen(), reference=zoo[0], rounds=1)
    assert torch.equal(aligned, noisy)


def test_without_a_reference_copies_become_equal(zoo, layout):
    aligned = align(permuted(zoo[:1].expand(24, -1), layout), layout, generator=gen())
    assert len(aligned.unique(dim=0)) == 1


def test_the_start_does_not_depend_on_any_networks_order(zoo, layout):
    """The choice of the default reference is invariant to permutations, and round 1 does not change this network."""
    shuffled = [permuted(zoo, layout, seed) for seed in range(10)]
    starts = [(align(w, layout, generator=gen(), rounds=1) == w).all(1).nonzero().tolist() for w in [zoo, *shuffled]]
    assert len(starts[0]) == 1
    assert starts == starts[:1] * 11


def test_the_start_is_typical_of_sorted_neurons():
    """Two of three networks have a weak and a strong neuron, in opposite order. Unsorted, their mean is (3, 3)."""
    layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    zoo = torch.zeros(3, layout.size)
    zoo[:, :2] = torch.tensor([[1.0, 5.0], [5.0, 1.0], [3.0, 3.0]])
    aligned = align(zoo, layout, generator=gen(), rounds=1)
    assert aligned[:, :2].tolist() == [[1, 5], [1, 5], [3, 3]]


def test_a_random_order_does_not_align(zoo, layout):
    """Negative control: random orders do not reduce the spread of the zoo, and matching does."""
    before = spread(zoo)
    assert spread(permuted(zoo, layout)) == pytest.approx(before, rel=0.01)
    assert spread(align(zoo, layout, generator=gen())) < 0.97 * before


def test_alignment_keeps_what_every_network_computes(zoo, layout):
    aligned = align(zoo, layout, generator=gen())
    assert (aligned != zoo).any(1).sum() > 20
    torch.testing.assert_close(outputs(aligned, layout), outputs(zoo, layout), rtol=0, atol=1e-5)
    torch.testing.assert_close(aligned.sort(1).values, zoo.sort(1).values, rtol=0, atol=0)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_distance_to_the_mean_never_grows(zoo, layout, scaled):
    scale = layer_scale(layout) if scaled else None
    unit = 1 if scale is None else scale
    spreads = [spread(align(zoo, layout, generator=gen(), rounds=n, scale=scale) / unit) for n in range(1, 6)]
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise([spread(zoo / unit), *spreads]))
    assert spreads[2] < spreads[0]


def test_one_hidden_layer_gets_the_best_order_of_all():
    layout = Layout.of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    weights, reference = torch.randn(2, layout.size, generator=gen())
    orders = [torch.tensor(order) for order in permutations(range(4))]
    distances = [(weights[permutation_index(layout, {"0": order})] - reference).norm().item() for order in orders]
    found = match(weights, reference, layout, gen())["0"]
    assert torch.equal(found, orders[distances.index(min(distances))])


def test_match_finds_the_inverse_of_a_known_order(zoo, layout):
    orders = {group: torch.randperm(n, generator=gen(3)) for group, n in layout.group_sizes.items()}
    shuffled = zoo[0][permutation_index(layout, orders)]
    found = match(shuffled, zoo[0], layout, gen())
    assert {group: order.tolist() for group, order in found.items()} == {
        group: order.argsort().tolist() for group, order in orders.items()
    }


def test_a_batch_gives_every_network_what_it_gets_alone(zoo, layout):
    aligned = align(zoo, layout, generator=gen(), rounds=1, reference=zoo[5])
    alone = [row[permutation_index(layout, match(row, zoo[5], layout, gen()))] for row in zoo]
    assert torch.equal(aligned, torch.stack(alone))


def test_no_single_group_can_be_improved_after_matching(zoo, layout):
    matched = zoo[1][permutation_index(layout, match(zoo[1], zoo[0], layout, gen()))]
    for group, neurons in layout.group_sizes.items():
        for _ in range(50):
            swap = torch.arange(neurons)
            i, j = torch.randperm(neurons, generator=gen(_))[:2].tolist()
            swap[[i, j]] = swap[[j, i]]
            other = matched[permutation_index(layout, {group: swap})]
            assert (other - zoo[0]).norm() >= (matched - zoo[0]).norm()


def layer_scale(layout):
    """Make a scale that gives the first layer a large influence, and the others a small one."""
    scale = torch.full((layout.size,), 10.0)
    scale[layout.layer_slices["0"]] = 0.001
    return scale


def test_scale_lets_a_layer_of_small_weights_count(layout):
    """Only the first layer determines the order. The other layers are noise with larger weights."""
    first = layout.layer_slices["0"]
    reference, other = torch.randn(2, SIZE, generator=gen(4))
    other[first] = reference[first]
    reference[first] *= 0.001
    other[first] *= 0.001
    identity = torch.arange(8).tolist()
    assert match(other, reference, layout, gen(), layer_scale(layout))["0"].tolist() == identity
    assert match(other, reference, layout, gen())["0"].tolist() != identity


def test_members_of_a_family_share_one_order(zoo, layout):
    families = torch.tensor([7, 3, 7, 3, 5, 7])
    weights = zoo[[0, 1, 0, 1, 2, 0]] + 0.2 * torch.randn(6, SIZE, generator=gen(5))
    means = torch.stack([weights[families == family].mean(0) for family in families])
    aligned = align(weights, layout, generator=gen(), rounds=1, reference=zoo[3], families=families)
    expected = [
        row[permutation_index(layout, match(mean, zoo[3], layout, gen()))]
        for row, mean in zip(weights, means, strict=True)
    ]
    assert torch.equal(aligned, torch.stack(expected))
    assert not torch.equal(aligned, align(weights, layout, generator=gen(), rounds=1, reference=zoo[3]))


@pytest.mark.parametrize("families", [None, torch.tensor([0] * 12 + [1] * 6 + [2] * 3 + [3, 4, 5])])
def test_the_second_round_matches_to_the_mean_of_the_first(zoo, layout, families):
    """The mean is that of all networks, so a large family counts for more."""
    generator = gen()
    first = align(zoo, layout, generator=generator, rounds=1, families=families)
    second = align(first, layout, generator=generator, rounds=1, families=families, reference=first.mean(0))
    assert not torch.equal(second, first)
    assert torch.equal(align(zoo, layout, generator=gen(), rounds=2, families=families), second)


def test_two_thousand_networks_take_seconds_of_one_core(layout):
    weights = 0.3 * torch.randn(2000, SIZE, generator=gen())
    start = time.process_time()
    align(weights, layout, generator=gen())
    assert time.process_time() - start < 60


def test_families_of_one_are_no_families(zoo, layout):
    alone = align(zoo, layout, generator=gen(), families=torch.arange(24).flip(0))
    torch.testing.assert_close(alone, align(zoo, layout, generator=gen()), rtol=0, atol=0)


def test_the_generator_decides_and_the_global_one_is_left_alone(zoo, layout):
    state, before = torch.get_rng_state(), zoo.clone()
    first = align(zoo, layout, generator=gen())
    torch.manual_seed(123)
    assert torch.equal(align(zoo, layout, generator=gen()), first)
    assert not torch.equal(align(zoo, layout, generator=gen(1)), first)
    torch.set_rng_state(state)
    align(zoo, layout, generator=gen())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(zoo, before), "the input is not modified"


def test_a_zoo_without_groups_comes_back_as_it_is():
    layout = Layout.of(nn.Linear(3, 2))
    weights = torch.randn(4, 8, generator=gen())
    aligned = align(weights, layout, generator=gen())
    assert torch.equal(aligned, weights)
    assert aligned.data_ptr() != weights.data_ptr(), "a new tensor, as always"
    assert match(weights[0], weights[1], layout, gen()) == {}


@pytest.fixture(scope="module")
def residual():
    net = ResNet(width=4, blocks=1)
    return Layout.of(net).with_groups(permutation_groups(net, torch.ones(2, 3, 8, 8)).groups)


def test_residual_networks_with_norms_align_back_exactly(residual):
    weights = torch.randn(residual.size, generator=gen(6))
    copies = permuted(weights.expand(10, -1), residual)
    assert len(copies.unique(dim=0)) == 10
    aligned = align(copies, residual, generator=gen(), reference=weights, rounds=1)
    assert torch.equal(aligned, weights.expand(10, -1))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (4, 3, 3, 3)),
        ("bn1.running_mean", (4,)),
        ("layer1.0.conv2.weight", (4, 1, 3, 3)),
        ("layer2.0.conv1.weight", (1, 4, 3, 3)),
    ],
)
def test_every_tensor_of_a_shared_group_counts(residual, name, shape):
    """All other tensors are zero, so this one determines the order, as output, statistic, later block or input."""
    reference = torch.zeros(residual.size)
    residual.raw_tensors(reference)[name].copy_(torch.randn(shape, generator=gen(7)))
    order = torch.tensor([2, 0, 3, 1])
    found = match(reference[permutation_index(residual, {"conv1": order})], reference, residual, gen())
    assert torch.equal(found["conv1"], order.argsort())


def test_a_group_on_two_axes_of_a_tensor_aligns_back():
    layout, weights = looped(), torch.randn(looped().size, generator=gen(8))
    copies = permuted((weights + 0.02 * torch.randn(24, layout.size, generator=gen(9))), layout)
    aligned = align(copies, layout, generator=gen(), reference=weights, rounds=1)
    assert (aligned - weights).abs().max() < 0.1


def test_both_axes_of_a_tensor_count():
    """The rows are equal, so only the columns distinguish neurons."""
    layout = looped()
    reference = torch.zeros(layout.size)
    layout.raw_tensors(reference)["1.weight"].copy_(torch.tensor([1.0, 2.0, 4.0, 8.0]))
    order = torch.tensor([2, 0, 3, 1])
    found = match(reference[permutation_index(layout, {"a": order})], reference, layout, gen())
    assert torch.equal(found["a"], order.argsort())


def test_steps_of_a_group_on_two_axes_never_lead_away():
    """The similarity is a linear approximation, so a step that does not reduce the distance must be rejected."""
    layout = looped()
    weights, reference = torch.randn(2, 200, layout.size, generator=gen(10))
    for row, target in zip(weights, reference, strict=True):
        matched = row[permutation_index(layout, match(row, target, layout, gen()))]
        assert (matched - target).norm() <= (row - target).norm()


def test_ties_end_the_search():
    """All orders are equally good, so the search stops and returns the identity."""
    layout = Layout.of(nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)))
    zeros = torch.zeros(3, layout.size)
    assert torch.equal(align(zeros, layout, generator=gen()), zeros)
    assert match(zeros[0], zeros[0], layout, gen())["0"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": torch.zeros(SIZE)}, r"weights must have shape \(N, 2464\) with N >= 1, got \(2464,\)"),
        ({"weights": torch.zeros(3, SIZE).index_fill(0, torch.tensor([1]), torch.nan)}, r"NaN .* in networks \[1\]"),
        ({"rounds": 0}, "rounds must be >= 1, got 0"),
        ({"reference": torch.zeros(3)}, r"reference must have shape \(2464,\), got \(3,\)"),
        ({"reference": torch.full((SIZE,), torch.inf)}, "reference must be finite, got 2464 NaN or infinite values"),
        ({"families": torch.zeros(2)}, r"one integer for each of 3 networks, got torch.float32 \(2,\)"),
        ({"scale": torch.zeros(SIZE)}, "scale must be > 0 everywhere, got a minimum of 0"),
        (
            {"scale": torch.arange(1.0, SIZE + 1)},
            "scale must be equal for all neurons of a layer, got several values in",
        ),
    ],
)
def test_align_refuses(arguments, message, layout):
    with pytest.raises(ArgumentError, match=message):
        align(**{"weights": torch.zeros(3, SIZE), "layout": layout, "generator": gen()} | arguments)


def test_match_refuses(layout, zoo):
    with pytest.raises(ArgumentError, match=r"weights must have shape \(2464,\), got \(3,\)"):
        match(torch.zeros(3), zoo[0], layout, gen())
