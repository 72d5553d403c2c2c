"""Distances between checkpoints against torch.cdist, and families of known sizes."""

import pytest
import torch
from branched_zoo import zoo

from hyperinit_training.checkpoints import families as families_module
from hyperinit_training.checkpoints.families import distances, families, spread
from hyperinit_training.checkpoints.read import Checkpoints


def labels(found):
    return families(distances(found), spread(found)).labels.tolist()


@pytest.mark.parametrize("chunk", [1 << 22, 50])
def test_distances_are_those_of_the_parameters(chunk, monkeypatch):
    monkeypatch.setattr(families_module, "CHUNK", chunk)
    found = zoo([3, 4, 3], noise=1e-3)
    rows = found.weights[:, ~found.layout.is_buffer].double()
    torch.testing.assert_close(distances(found), torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist"))


def test_the_distance_between_copies_is_zero():
    """Without a threshold for rounding, some copies among 21 networks are 5e-7 apart."""
    found = zoo([1] * 21, noise=1)
    found.weights[4:] = found.weights[3]
    matrix = distances(found)
    assert (matrix[3:, 3:] == 0).all()
    assert (matrix[:3, 3:] > 1).all()


def test_families_are_found_largest_first():
    assert labels(zoo([3, 5, 4])) == [2] * 3 + [0] * 5 + [1] * 4


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.4])
def test_one_family_is_found_and_independent_networks_stay_apart(noise):
    assert labels(zoo([12], noise)) == [0] * 12
    assert labels(zoo([1] * 12, noise)) == list(range(12))


def test_a_common_scale_and_shift_make_no_family():
    """Weights drawn from U(0, 1), or norm scales near 1, share a large mean, but not an ancestor."""
    found = zoo([1] * 12)
    assert labels(Checkpoints(found.layout, 0.1 * found.weights + 5, found.names, found.names)) == list(range(12))


def test_few_siblings_among_seeds_are_found():
    assert labels(zoo([3] + [1] * 20))[:3] == [0, 0, 0]
    assert max(labels(zoo([3] + [1] * 20))) == 20


def test_copies_do_not_hide_families():
    found = zoo([6, 6, 6])
    for index in (0, 6, 12):
        found.weights[index + 1] = found.weights[index] + 1e-6
    assert labels(found) == [0] * 6 + [1] * 6 + [2] * 6


def test_a_copy_does_not_break_a_family_up():
    found = zoo([12])
    found.weights[1] = found.weights[0]
    assert labels(found) == [0] * 12


def test_the_spread_is_the_length_after_centring_each_tensor():
    found = zoo([1] * 4)
    squares = torch.zeros(4)
    for tensor in found.layout.tensors:
        part = found.weights[:, found.layout.slices[tensor.name]]
        if not tensor.buffer:
            squares += (part - part.mean(1, keepdim=True)).square().sum(1)
    assert spread(found) == pytest.approx(squares.mean().sqrt().item(), rel=1e-5)


def test_the_cut_lies_inside_the_gap_or_is_the_unit():
    found = zoo([5, 4])
    matrix = distances(found)
    result = families(matrix, spread(found))
    within, between = matrix[:5, :5].max(), matrix[:5, 5:].min()
    low, high = result.gap
    assert low <= within < result.cut < between <= high + 1
    assert result.sizes == [5, 4]
    alone = families(distances(zoo([1] * 9)), 0.25)
    assert (alone.gap, alone.cut) == (None, 0.25)
