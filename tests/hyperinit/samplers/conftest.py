"""Anchors that the tests of several samplers share."""

import pytest
import torch
from anchor_sets import anchors
from seeds import gen


@pytest.fixture
def zoo():
    """40 anchors with 5 latent numbers and 7 weights."""
    return anchors(torch.rand(40, 5, generator=gen(1)), torch.randn(40, 7, generator=gen(2)))


@pytest.fixture
def clusters():
    """Four groups of three anchors each, far from each other."""
    centres = torch.arange(4.0).repeat_interleave(3)[:, None] * 10
    return anchors(centres + torch.rand(12, 6, generator=gen(4)))
