"""Inputs of a resized layer are mapped, and a block of the weight vector is laid into another shape."""

import pytest
import torch
from fitting_cases import place

from hyperinit.fitting.resize import Block, Inputs

# Inputs


@pytest.mark.parametrize(("old", "new"), [(1, 3), (3, 1), (3, 4), (4, 3), (2, 6), (5, 5)])
def test_spread_inputs_keep_the_response_to_a_constant(old, new):
    matrix = place(Inputs.alike(old, new), old, new)
    assert torch.allclose(matrix.sum(0), torch.ones(old))  # every source weight is given out exactly once
    assert (matrix.sum(1) > 0).all()


@pytest.mark.parametrize(("old", "new"), [(4, 9), (9, 4), (3, 3)])
def test_leading_inputs_keep_their_place(old, new):
    matrix = place(Inputs.leading(old, new), old, new)
    assert torch.equal(matrix != 0, torch.eye(new, old).bool())


@pytest.mark.parametrize(("old", "new", "gain"), [(9, 4, 1.5), (4, 9, 1.0), (4, 4, 1.0)])
def test_cut_inputs_are_scaled_up_so_that_outputs_keep_their_variance(old, new, gain):
    assert Inputs.leading(old, new).gain.tolist() == pytest.approx([gain] * min(old, new))
    weights = torch.randn(old, 4000, generator=torch.Generator().manual_seed(0))
    resized = place(Inputs.leading(old, new), old, new) @ weights
    assert resized.square().sum(0).mean().item() == pytest.approx(old, rel=0.1)


def test_inputs_are_spread_evenly_and_in_order():
    assert torch.equal(place(Inputs.alike(2, 4), 2, 4), torch.tensor([[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]]))
    assert torch.equal(place(Inputs.alike(4, 2), 4, 2), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
    assert torch.equal(place(Inputs.alike(3, 3), 3, 3), torch.eye(3))


@pytest.mark.parametrize(("channels", "pixels"), [((2, 3), (4, 9)), ((3, 2), (9, 4)), ((2, 2), (1, 4))])
def test_channels_times_pixels_is_the_kronecker_product(channels, pixels):
    outer, inner = Inputs.leading(*channels), Inputs.alike(*pixels)
    expected = torch.kron(place(outer, *channels), place(inner, *pixels))
    both = outer.times(inner, *pixels)
    torch.testing.assert_close(place(both, channels[0] * pixels[0], channels[1] * pixels[1]), expected)


# Blocks


def test_kernels_are_centred_and_cut_ones_keep_their_variance():
    source = torch.arange(25.0)
    large, mask = Block(0, (1, 1, 5, 5), Inputs.leading(1, 1)).decode(source, (1, 1, 7, 7))
    assert torch.equal(large[0, 0, 1:6, 1:6], source.reshape(5, 5))
    assert mask.sum() == 25
    small, _ = Block(0, (1, 1, 5, 5), Inputs.leading(1, 1)).decode(source, (1, 1, 3, 3))
    torch.testing.assert_close(small[0, 0], source.reshape(5, 5)[1:4, 1:4] * 5 / 3)


def test_a_block_of_the_same_shape_is_copied_whole():
    vector = torch.arange(10.0)
    values, mask = Block(2, (2, 3)).decode(vector, (2, 3))
    assert torch.equal(values, torch.tensor([[2.0, 3, 4], [5, 6, 7]]))
    assert mask is None


def test_a_run_fills_any_shape_in_order():
    vector = torch.arange(10.0)
    assert torch.equal(Block(4, (6,)).decode(vector, (3, 2))[0], torch.tensor([[4.0, 5], [6, 7], [8, 9]]))
    values, mask = Block(4, (3,)).decode(vector, (2, 2))
    assert torch.equal(values, torch.tensor([[4.0, 5], [6, 0]]))
    assert torch.equal(mask, torch.tensor([[True, True], [True, False]]))
    values, mask = Block(4, (6,)).decode(vector, (2,))
    assert torch.equal(values, torch.tensor([4.0, 5]))
    assert mask.all()


@pytest.mark.parametrize(("old", "new"), [((4, 3), (6, 5)), ((4, 5), (2, 3)), ((2, 5), (4, 3)), ((4, 3), (2, 5))])
def test_a_linear_weight_is_laid_by_its_inputs_and_first_outputs(old, new):
    source = torch.randn(old, generator=torch.Generator().manual_seed(0))
    inputs = Inputs.alike(old[1], new[1])
    values, mask = Block(0, old, inputs).decode(source.flatten(), new)
    rows = min(old[0], new[0])
    torch.testing.assert_close(values[:rows], source[:rows] @ place(inputs, old[1], new[1]).T)
    assert not values[rows:].any()
    assert mask[:rows].all()
    assert not mask[rows:].any()


def test_weights_beside_the_block_are_zero_and_outside_its_mask():
    values, mask = Block(0, (1, 1, 3, 3), Inputs.leading(1, 1)).decode(torch.ones(9), (2, 2, 5, 5))
    assert mask.sum() == 9
    assert mask[0, 0, 1:4, 1:4].all()
    assert torch.equal(values.bool(), mask)


def test_the_vector_is_only_read():
    vector = torch.ones(9)
    Block(0, (1, 1, 3, 3), Inputs.leading(1, 1)).decode(vector, (2, 2, 5, 5))[0].add_(1)
    assert torch.equal(vector, torch.ones(9))
