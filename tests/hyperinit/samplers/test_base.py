"""Anchors and options: the best share, and the values that are refused."""

import pytest
import torch
from seeds import gen

from hyperinit.errors import ArgumentError
from hyperinit.samplers import Anchors, SamplerOptions


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (2, 1), (10, 3), (11, 3), (20, 6)])
def test_the_best_share_is_rounded_and_never_empty(count, kept):
    z = torch.rand(count, 2, generator=gen())
    shuffled = torch.randperm(count, generator=gen())
    best = Anchors(z, shuffled / count, shuffled.float(), -z).best()
    assert len(best) == kept
    assert sorted(best.epoch.tolist()) == list(range(count - kept, count))
    assert torch.equal(best.z, -best.weights)  # rows stay together


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": -0.1}, r"^bandwidth and noise must be numbers from 0 to a million, got \(-0\.1, 0\.1\)$"),
        ({"bandwidth": float("nan")}, "bandwidth and noise"),
        ({"noise": float("inf")}, "bandwidth and noise"),
        ({"noise": "0.1"}, "bandwidth and noise"),
        ({"noise": True}, "bandwidth and noise"),
        ({"neighbours": 0}, "^neighbours must be an integer of at least 1, got 0$"),
        ({"neighbours": 2.0}, "^neighbours must be an integer of at least 1, got 2.0$"),
        ({"neighbours": None}, "^neighbours must be an integer of at least 1, got None$"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        SamplerOptions(**options)


Z, ROW = torch.zeros(3, 2), torch.zeros(3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            (Z[:0], ROW[:0], ROW[:0], Z[:0]),
            r"^z and weights must have shapes \(N, L\) and \(N, D\) with N >= 1, got \(0, 2\) and \(0, 2\)$",
        ),
        ((ROW, ROW, ROW, Z), r"got \(3,\) and \(3, 2\)$"),
        ((Z, ROW, ROW, ROW), r"got \(3, 2\) and \(3,\)$"),
        (
            (Z, ROW[:2], ROW, Z),
            r"^score, epoch and weights must have one row for each of 3 latents, got \[\(2,\), \(3,\), \(3, 2\)\]$",
        ),
        ((Z, ROW, Z, Z), "each of 3 latents"),
        ((Z, ROW, ROW, Z[:2]), "each of 3 latents"),
    ],
)
def test_anchors_of_inconsistent_shapes_are_refused(fields, message):
    with pytest.raises(ArgumentError, match=message):
        Anchors(*fields)
