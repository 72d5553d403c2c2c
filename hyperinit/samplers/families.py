"""Families of anchors: networks that branched off one ancestor lie close together, in one loss basin.

Draws from different families differ more than draws from one, so several of them make a better ensemble.

Letters: N anchors, D weights per network.
"""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 3.0  # times the median distance to the nearest other anchor: as far as members of one family lie apart


def clusters(weights: Tensor) -> Tensor:
    """Find the families of anchors by single linkage: two anchors closer than a threshold are of one family.

    The threshold is three times the median distance to the nearest other anchor. A zoo of independent seeds, in which
    all distances are alike, is one family.

    Args:
        weights: (N, D).

    Returns:
        Number of the family of each anchor, int64 (N,), counted from 0 in order of appearance.

    >>> clusters(torch.tensor([[0.0], [9.0], [0.1], [9.1]]))
    tensor([0, 1, 0, 1])
    """
    count = len(weights)
    found = torch.full((count,), -1, device="cpu")
    if count < 2:
        return found + 1
    distances = torch.cdist(weights, weights).fill_diagonal_(torch.inf)  # (N, N)
    near = distances <= REACH * distances.min(1).values.median()
    for first in range(count):
        if found[first] >= 0:
            continue
        label, reached = int(found.max()) + 1, torch.zeros(count, dtype=torch.bool, device="cpu")
        reached[first] = True
        while True:  # grow by all neighbours until none is new
            grown = reached | near[reached].any(0)
            if torch.equal(grown, reached):
                break
            reached = grown
        found[reached] = label
    return found


def spread(family: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Choose anchors from as many families as there are, in turn.

    Families come in a random order that repeats. Within a family, no anchor comes again before all others have.

    Args:
        family: number of the family of each anchor, int64 (N,).
        count: number of rows.
        generator: the only source of randomness; None is torch's global one.

    Returns:
        Row numbers, int64 (count,).

    >>> rows = spread(torch.tensor([0, 0, 0, 1]), 4, torch.Generator().manual_seed(0))
    >>> sorted(rows[:2] == 3), sorted(rows[2:] == 3)
    ([tensor(False), tensor(True)], [tensor(False), tensor(True)])
    """
    _, own = family.unique(return_inverse=True)  # 0..F-1, (N,)
    shuffled = torch.randperm(len(family), generator=generator, device="cpu")  # (N,)
    members = [shuffled[own[shuffled] == label] for label in range(int(own.max()) + 1)]  # shuffled within each family
    order = torch.randperm(len(members), generator=generator, device="cpu").tolist()
    places = [divmod(index, len(members)) for index in range(count)]  # (round, place in the order of families)
    rows = [members[order[place]][turn % len(members[order[place]])] for turn, place in places]
    return torch.stack(rows) if rows else torch.empty(0, dtype=torch.int64, device="cpu")
