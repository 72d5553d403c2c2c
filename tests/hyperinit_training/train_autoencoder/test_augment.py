"""Permuting, sign-flipping and erasing weight vectors."""

import pytest
import torch
from seeds import gen
from torch import nn
from torch.func import functional_call

from hyperinit.errors import ArgumentError, LayoutError
from hyperinit.layout import Layout
from hyperinit.nets import ResNet, cnn
from hyperinit_training.symmetry import permutation_groups, sign_groups
from hyperinit_training.symmetry.positions import neuron_positions
from hyperinit_training.train_autoencoder.augment import PermutationAugmentation, erase, erase_

SIZE = 2464


@pytest.fixture(scope="module")
def layout():
    return Layout.of(cnn())


@pytest.fixture(scope="module")
def views(layout):
    return PermutationAugmentation(layout, 50, gen())


def zoo(count, seed=0):
    return 0.3 * torch.randn(count, SIZE, generator=gen(seed))


def outputs(weights, layout):
    """Outputs of each network (N, D) for four random images, (N, 4, 10)."""
    net, images = cnn(), torch.randn(4, 1, 28, 28, generator=gen(9))
    return torch.stack([functional_call(net, layout.raw_tensors(row), images) for row in weights]).detach()


def test_a_view_computes_the_function_of_its_network(layout, views):
    weights = zoo(20)
    view = views(weights, gen(1))
    assert (view != weights).any(1).all()
    torch.testing.assert_close(outputs(view, layout), outputs(weights, layout), rtol=0, atol=1e-5)


def test_a_shuffle_of_all_weights_changes_the_function(layout):
    weights = zoo(1)
    shuffled = weights[:, torch.randperm(SIZE, generator=gen())]
    assert (outputs(shuffled, layout) - outputs(weights, layout)).abs().max() > 0.1


def test_a_view_equals_indexing_row_by_row(views):
    weights = zoo(64)
    rows = torch.randint(50, (64,), generator=gen(1)).tolist()
    expected = torch.stack([weights[i][views.index[row].tolist()] for i, row in enumerate(rows)])
    assert len(set(rows)) > 10
    assert torch.equal(views(weights, gen(1)), expected)


def test_every_hidden_layer_is_permuted(layout, views):
    assert list(neuron_positions(layout)) == ["0", "3", "6", "9"]
    identity = torch.arange(SIZE)
    for where in layout.layer_slices.values():
        moved = (views.index[:, where] != identity[where]).any(1).float().mean()
        assert moved > 0.9
    assert torch.equal(views.index.long().sort(1).values, identity.expand(50, -1))
    assert torch.equal(views.index[:, -10:].long(), identity[-10:].expand(50, -1)), "classes keep their places"


def test_permutations_are_uniform():
    layout = Layout.of(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)))
    first = PermutationAugmentation(layout, 6000, gen()).index[:, :3]
    counts = first.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert ((counts - 1000).abs() < 150).all()  # five standard deviations


def test_indices_take_two_bytes_where_that_is_enough(views):
    """25,000 permutations of 2,464 weights must take at most 125 MB."""
    assert 25_000 * views.index[0].nbytes <= 125e6
    hidden = (1 << 14) - 1  # of a network with 2 * hidden + hidden + 1 weights
    for net, kind in ((nn.Linear(hidden, 2), torch.int16), (nn.Linear(hidden + 1, 2), torch.int32)):
        index = PermutationAugmentation(Layout.of(net), 1, gen()).index
        assert index.dtype == kind
        assert torch.equal(index[0].long(), torch.arange(index.shape[1]))


@pytest.mark.parametrize("signs", [False, True])
def test_compiled_views_equal_those_of_pytorch_bit_for_bit(layout, signs):
    """float64 takes the path without compiled loops. The generators end in the same state, too."""
    groups = sign_groups(cnn(), torch.ones(2, 1, 28, 28)).groups if signs else None
    augment, weights = PermutationAugmentation(layout, 50, gen(), signs=groups), zoo(30)
    found, expected = gen(5), gen(5)
    for _ in range(2):
        view = erase(augment(weights, found), found, value=2.5)
        assert torch.equal(view.double(), erase(augment(weights.double(), expected), expected, value=2.5))
        assert view.dtype == weights.dtype
    assert torch.equal(found.get_state(), expected.get_state())
    assert torch.equal(weights, zoo(30)), "the input is not modified"


def test_views_pass_gradients_on(views):
    weights = zoo(3).requires_grad_()
    erase(views(weights, gen()), gen(1), probability=1.0).sum().backward()
    assert set(weights.grad.unique().tolist()) == {0.0, 1.0}


def test_permutations_across_chunks_differ(monkeypatch, layout):
    monkeypatch.setattr("hyperinit_training.train_autoencoder.augment.CHUNK", 4)
    index = PermutationAugmentation(layout, 10, gen()).index
    assert len(index.unique(dim=0)) == 10


def test_generators_decide_and_the_global_one_is_unchanged(layout, views):
    state, weights = torch.get_rng_state(), zoo(8)
    assert torch.equal(PermutationAugmentation(layout, 50, gen()).index, views.index)
    assert not torch.equal(PermutationAugmentation(layout, 50, gen(1)).index, views.index)
    for augment in (views, erase):
        assert torch.equal(augment(weights, gen(3)), augment(weights, gen(3)))
        assert not torch.equal(augment(weights, gen(3)), augment(weights, gen(4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_without_groups_gives_itself():
    layout = Layout.of(nn.Linear(3, 2))
    weights = torch.randn(4, 8, generator=gen())
    assert torch.equal(PermutationAugmentation(layout, 3, gen())(weights, gen()), weights)


class Loop(nn.Module):
    """A residual block of one layer: its group moves rows and columns of the layer's weight."""

    def __init__(self):
        super().__init__()
        self.into, self.inner, self.out = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.into(x).tanh()
        return self.out(x + self.inner(x))


def shared_groups(net, example):
    layout = Layout.of(net).with_groups(permutation_groups(net, example).groups)
    weights = torch.rand(6, layout.size, generator=gen(3)) - 0.4
    for name, part in layout.raw_tensors(weights).items():
        if name.endswith("running_var"):
            part.abs_()
    return layout, weights


def assert_same_function(net, layout, views, weights, example):
    inputs = torch.randn(example.shape, generator=gen(4))
    for view, row in zip(views, weights, strict=True):
        expected, got = (functional_call(net, layout.raw_tensors(w), inputs) for w in (row, view))
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "example"), [(lambda: ResNet(width=4, blocks=1), torch.ones(2, 3, 8, 8)), (Loop, torch.ones(2, 3))]
)
def test_views_of_networks_with_shared_groups_compute_the_same(make, example):
    net = make().eval()
    layout, weights = shared_groups(net, example)
    view = PermutationAugmentation(layout, 10, gen())(weights, gen(1))
    assert (view != weights).any(1).sum() > 3
    assert_same_function(net, layout, view, weights, example)


@pytest.mark.parametrize("net", [Loop(), cnn()], ids=["two axes", "chain"])
def test_flipped_signs_keep_the_function(net):
    example = torch.ones(2, 3) if isinstance(net, Loop) else torch.ones(2, 1, 28, 28)
    layout, weights = shared_groups(net, example)
    signs = sign_groups(net, example).groups
    flipped = PermutationAugmentation(layout, 40, gen(), signs=signs)
    view = flipped(weights, gen(1))
    plain = PermutationAugmentation(layout, 40, gen())(weights, gen(1))
    assert torch.equal(view.abs(), plain.abs()), "the permutations are those without signs"
    assert ((view != plain).any(1)).sum() >= 5
    assert_same_function(net, layout, view, weights, example)


def test_signs_are_those_of_neurons_and_even_in_number(layout):
    signs = sign_groups(cnn(), torch.ones(2, 1, 28, 28)).groups
    drawn = PermutationAugmentation(layout, 2000, gen(), signs=signs).signs
    tensors = layout.raw_tensors(drawn)
    neurons = tensors["9.bias"]
    assert drawn.dtype == torch.int8
    assert neurons.float().mean(0).abs().max() < 0.1
    assert torch.equal(tensors["11.weight"], neurons[:, None].expand(2000, 10, 20))
    assert torch.equal(tensors["9.weight"][:, :, 0], neurons * tensors["6.bias"][:, :1])
    assert (tensors["3.weight"] == 1).all(), "max pooling follows"


def test_signs_must_fit_the_layout(layout):
    with pytest.raises(LayoutError, match="groups must give one entry for each axis"):
        PermutationAugmentation(layout, 2, gen(), signs={"12.weight": ("a", None)})


def blocks(mask):
    """Start and length of the only run of True in each row, as lists; fails if there are several runs."""
    starts, lengths = mask.float().argmax(1), mask.sum(1)
    column = torch.arange(mask.shape[1])
    run = (column >= starts[:, None]) & (column < (starts + lengths)[:, None])
    assert torch.equal(run, mask)
    return starts, lengths


def test_erased_blocks_are_contiguous_and_within_the_bounds():
    weights = torch.ones(4000, SIZE)
    starts, lengths = blocks(erase(weights, gen(), probability=1.0) == 0)
    assert lengths.min() >= round(0.02 * SIZE)
    assert lengths.max() <= round(0.33 * SIZE)
    assert lengths.float().mean().item() == pytest.approx(0.175 * SIZE, rel=0.03)
    assert starts.min() == 0, "a block may begin with the vector"
    assert (starts + lengths).max() == SIZE, "and end with it"
    assert (weights == 1).all(), "the input is not modified"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_erasing_in_place_equals_erasing_a_copy(dtype):
    weights = torch.rand(50, 40, generator=gen()).to(dtype)
    kept = weights.clone()
    expected = erase(weights, gen(1))
    assert torch.equal(weights, kept)
    assert not torch.equal(expected, kept)
    found = erase_(weights, gen(1))
    assert found is weights
    assert torch.equal(found, expected)


def test_about_half_the_rows_are_erased():
    erased = (erase(torch.ones(10_000, 50), gen()) == 0).any(1).float().mean()
    assert erased.item() == pytest.approx(0.5, abs=0.02)


def test_erasing_with_chance_0_or_1_and_another_value():
    weights = zoo(50)
    assert torch.equal(erase(weights, gen(), probability=0.0), weights)
    assert (erase(weights, gen(), probability=1.0, low=1.0, high=1.0, value=7.0) == 7).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.5}, r"probability must be in \[0, 1\], got 1.5"),
        ({"low": 0.5, "high": 0.1}, r"low and high must satisfy 0 <= low <= high <= 1, got 0.5 and 0.1"),
        ({"high": 1.1}, r"got 0.02 and 1.1"),
        ({"weights": torch.zeros(3)}, r"weights must have shape \(B, D\), got \(3,\)"),
    ],
)
def test_erase_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        erase(**{"weights": torch.zeros(2, 3), "generator": gen()} | arguments)


def test_permutation_refuses(layout, views):
    with pytest.raises(ArgumentError, match="count must be >= 1, got 0"):
        PermutationAugmentation(layout, 0, gen())
    with pytest.raises(ArgumentError, match=r"weights must have shape \(B, 2464\), got \(2464,\)"):
        views(torch.zeros(SIZE), gen())
