"""Families of anchors: networks that branched off one ancestor lie close together, in one loss basin.

Draws from different families differ more than draws from one, so several of them make a better ensemble.

Letters: N anchors, D weights per network.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2048  # anchors whose distances to all others are computed at once
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
    blocks = torch.arange(count, device="cpu").split(BLOCK)  # all distances at once would take 4 N^2 bytes
    threshold = REACH * torch.cat([_distances(weights, rows).min(1).values for rows in blocks]).median()
    near = torch.cat([_distances(weights, rows) <= threshold for rows in blocks])  # (N, N)
    for first in range(count):
        if found[first] >= 0:
            continue
        label, new = int(found.max()) + 1, torch.tensor([first], device="cpu")
        while len(new):  # grow by the neighbours of the anchors that are new
            found[new] = label
            new = (near[new].any(0) & (found < 0)).nonzero().flatten()
    return found


def _distances(weights: Tensor, rows: Tensor) -> Tensor:
    """Return the distances of the anchors `rows` to all anchors, (rows, N); to itself, infinity."""
    found = torch.cdist(weights[rows], weights)
    found[torch.arange(len(rows), device="cpu"), rows] = torch.inf
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
