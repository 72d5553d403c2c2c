from dataclasses import replace

import pytest
import torch
from seeds import gen
from torch.func import functional_call

from hyperinit.nets import build
from hyperinit_training.measure.yardstick import figures, mistakes, overlap

T, F = True, False


def test_mistakes_are_pytorchs(zoo, digits):
    images, labels = (torch.from_numpy(array) for array in digits.normalised("test"))
    network = build(zoo.architecture)
    found = mistakes(zoo.weights, digits.normalised("test"))
    logits = torch.stack([functional_call(network, zoo.layout.state(row), images).detach() for row in zoo.weights])
    assert torch.equal(found, logits.argmax(2) != labels)
    assert 0 < found.float().mean() < 0.5


def test_mistakes_know_the_activation(zoo, digits):
    """Negative control: the same weights are another network with another activation."""
    data = digits.normalised("test")
    assert not torch.equal(mistakes(zoo.weights[:3], data, "relu"), mistakes(zoo.weights[:3], data))


def test_mistakes_follow_their_labels(zoo, digits):
    wrong = mistakes(zoo.weights[:3], replace(digits, y_test=(digits.y_test + 1) % 10).normalised("test"))
    assert wrong.float().mean() > 0.8


def test_overlap_equals_counting_sets():
    wrong, others = (torch.rand(rows, 40, generator=gen(rows)) < 0.3 for rows in (7, 5))
    wrong[0] = False

    def naive(a, b):
        first, second = set(a.nonzero()[:, 0].tolist()), set(b.nonzero()[:, 0].tolist())
        return len(first & second) / max(1, len(first | second))

    expected = [max(naive(a, b) for b in others) for a in wrong]
    assert overlap(wrong, others).tolist() == pytest.approx(expected)


def test_a_copy_overlaps_fully_and_a_stranger_not_at_all():
    wrong = torch.tensor([[T, T, F, F]])
    assert overlap(wrong, torch.tensor([[F, F, T, T], [T, T, F, F]])).item() == 1
    assert overlap(wrong, torch.tensor([[F, F, T, T]])).item() == 0


def test_figures_of_a_case_worked_out_by_hand():
    weights = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    snapshots = torch.tensor([[0.0, 1.0], [3.0, 1.0]])
    wrong = torch.tensor([[T, F, F, F], [T, T, T, F]])
    snapshots_wrong = torch.tensor([[T, T, F, F], [F, F, F, T]])
    assert figures(weights, wrong, snapshots, snapshots_wrong) == {
        "accuracy": 0.5,  # 0.75 and 0.25
        "std": 0.25,
        "n": 2,
        "images": 4,
        "distance": 2.0,  # 1 and 3
        "overlap": pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-4),
        "diversity": 0.5,  # images 1 and 2 of four
    }


def test_diversity_is_the_mean_disagreement_of_pairs():
    wrong = torch.rand(6, 30, generator=gen()) < 0.4
    pairs = [(wrong[i] ^ wrong[j]).float().mean().item() for i in range(6) for j in range(i)]
    weights = torch.zeros(6, 2)
    assert figures(weights, wrong, weights, wrong)["diversity"] == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)


def test_a_single_network_has_no_spread_and_no_diversity():
    found = figures(torch.zeros(1, 2), torch.tensor([[T, F]]), torch.ones(1, 2), torch.tensor([[T, F]]))
    assert (found["std"], found["diversity"], found["n"]) == (0, 0, 1)


def test_copies_have_distance_zero_exactly():
    """A distance by matrix product gives 0.01 instead, as soon as there are more than 25 networks."""
    weights = torch.randn(40, 2464, generator=gen())
    wrong = torch.rand(40, 9, generator=gen()) < 0.5
    assert figures(weights, wrong, weights, wrong)["distance"] == 0
    assert figures(weights + 0.1, wrong, weights, wrong)["distance"] == pytest.approx(0.1 * 2464**0.5, rel=1e-4)
