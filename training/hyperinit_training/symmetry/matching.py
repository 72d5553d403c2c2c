"""Weight matching of many networks at once: find orders and signs of neurons that bring weights close to a reference.

Letters: N networks, D weights per network, n neurons of a group, K weights that move with one neuron.

Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836, section 3.2 (weight matching).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hyperinit.errors import LayoutError
from hyperinit.layout import TensorSpec
from hyperinit_training.symmetry.positions import Groups, permute, positions_of

PREFERENCE = 1e3  # of activations over weights
TOLERANCE = 1e-9  # least gain of a change, as a share of the largest similarity; without it ties would cycle


@dataclass(frozen=True)
class Movable:
    """A group of neurons whose order, signs or both may change.

    Args:
        positions: tables (n, K) of each neuron's weights, see `positions.neuron_positions`.
        order: name of the permutation group, or None if the order is fixed.
        signs: name of the sign group, or None if the signs are fixed.
        tensors: names of the tensors that hold the weights.
    """

    positions: Sequence[Tensor]
    order: str | None
    signs: str | None
    tensors: frozenset[str]


@dataclass(frozen=True)
class Moves:
    """A new order and new signs of a group's neurons for each network.

    Args:
        order: int64 (N, n). New neuron i is old neuron `order[i]`, times its sign.
        signs: 1 or -1 for each new neuron, (N, n).
    """

    order: Tensor
    signs: Tensor

    @classmethod
    def none(cls, networks: int, neurons: int) -> Moves:
        """Return moves that change nothing."""
        return cls(torch.arange(neurons).repeat(networks, 1), torch.ones(networks, neurons, dtype=torch.float64))

    def __getitem__(self, rows: Tensor | int) -> Moves:
        """Return the moves of some networks."""
        return Moves(self.order[rows], self.signs[rows])

    def after(self, first: Moves) -> Moves:
        """Return the moves that equal `first` followed by these.

        >>> swap = Moves(torch.tensor([[1, 0]]), torch.tensor([[1.0, -1.0]]))
        >>> swap.after(swap).order.tolist(), swap.after(swap).signs.tolist()
        ([[0, 1]], [[-1.0, -1.0]])
        """
        return Moves(first.order.gather(1, self.order), first.signs.gather(1, self.order) * self.signs)

    def apply(self, weights: Tensor, positions: Sequence[Tensor]) -> Tensor:
        """Return weight vectors (N, D) with the neurons of one group moved."""
        moved = permute(weights, positions, self.order)
        if bool((self.signs < 0).any()):
            for where in positions:  # a weight in two tables flips twice
                moved[:, where] *= self.signs[:, :, None].to(moved.dtype)
        return moved


def movable(tensors: Sequence[TensorSpec], signs: Groups | None = None) -> dict[str, Movable]:
    """Return the groups to match: a sign group that holds the neurons of a permutation group is matched with it.

    Args:
        tensors: tensors with their permutation groups, in the order of the weight vector.
        signs: for each tensor by name, the sign group of each axis. None flips no signs.

    Raises:
        LayoutError: if a sign group shares an axis with a permutation group of other neurons.

    >>> tensors = [TensorSpec("a", (4, 3), ("x", None)), TensorSpec("b", (2, 4), (None, "x"))]
    >>> [(group.order, group.signs) for group in movable(tensors, {"a": ("s", None), "b": (None, "s")}).values()]
    [('x', 's')]
    """
    ordered = _axes(tensors)
    found = {
        name: Movable(where, name, None, frozenset(tensor for tensor, _ in ordered[name]))
        for name, where in positions_of(tensors).items()
    }
    if signs is None:
        return found
    flipped = [TensorSpec(t.name, t.shape, tuple(signs.get(t.name, (None,) * len(t.shape)))) for t in tensors]
    signed = _axes(flipped)
    for name, where in positions_of(flipped).items():
        met = [group for group, axes in ordered.items() if axes & signed[name]]
        same = len(met) == 1 and ordered[met[0]] == signed[name] and len(found[met[0]].positions[0]) == len(where[0])
        if met and not same:
            raise LayoutError(
                f"a sign group must hold the neurons of one permutation group or of none, got group {name} of signs "
                f"and {', '.join(met)} of orders with some axes in common"
            )
        order, held = met[0] if met else None, frozenset(tensor for tensor, _ in signed[name])
        found[order or f"signs of {name}"] = Movable(where, order, name, held)
    return found


def _axes(tensors: Sequence[TensorSpec]) -> dict[str, set[tuple[str, int]]]:
    """Return the axes of each group, as names of tensors and numbers of axes."""
    found: dict[str, set[tuple[str, int]]] = {}
    for tensor in tensors:
        for axis, group in enumerate(tensor.groups):
            if group is not None:
                found.setdefault(group, set()).add((tensor.name, axis))
    return found


def match_all(
    weights: Tensor,
    reference: Tensor,
    groups: Mapping[str, Movable],
    generator: torch.Generator,
    alike: Mapping[str, Tensor] | None = None,
) -> dict[str, Moves]:
    """Match networks (N, D) to one reference (D,), and return the moves of each group.

    All networks visit the groups in the same random order. Each network gets the moves that it would get alone.
    Minimising |reference - weights|^2 is maximising their inner product, because a move does not change the length of
    `weights`. For one group this is a linear assignment problem. Where signs are free, each pair of neurons takes the
    sign that makes its inner product positive, so the assignment maximises the sum of absolute values.

    A group is solved again for a network only if a group that shares weights with it has changed since.

    Args:
        weights: the networks.
        reference: the network, or the mean of networks, to match to.
        groups: from `movable`.
        generator: draws the order in which the groups are visited.
        alike: for groups by name, how much neuron j of a network does the same as neuron i of the reference, float64
            (N, n, n). It is added to the inner products of weights.

    Returns:
        The moves of each group.
    """
    alike = alike or {}
    current, reference = weights.double(), reference.double()
    found = {name: Moves.none(len(weights), len(group.positions[0])) for name, group in groups.items()}
    names = list(groups)
    touched = _touched(list(groups.values()))
    stale = torch.ones(len(weights), len(names), dtype=torch.bool)  # (N, G): not solved since its last change
    changed = torch.ones(len(weights), dtype=torch.bool)
    while names and changed.any():
        changed = torch.zeros(len(weights), dtype=torch.bool)
        for number in torch.randperm(len(names), generator=generator).tolist():
            rows = stale[:, number].nonzero()[:, 0]  # (A,)
            stale[:, number] = False
            if not len(rows):
                continue
            group, before = groups[names[number]], found[names[number]]
            more = _moved_columns(alike[names[number]][rows], before[rows]) if names[number] in alike else None
            steps, better = _step(current, rows, reference, group, more)
            rows, steps = rows[better], steps[better]
            fresh = steps.after(before[rows])
            before.order[rows], before.signs[rows] = fresh.order, fresh.signs
            stale[rows] |= touched[number]
            changed[rows] = True
    return found


def _moved_columns(alike: Tensor, moves: Moves) -> Tensor:
    """Return similarities (A, n, n) to the neurons of a network after its moves."""
    return alike.gather(2, moves.order[:, None].expand_as(alike)) * moves.signs[:, None]


def _touched(groups: Sequence[Movable]) -> Tensor:
    """Return which groups share a tensor, bool (G, G). A group with one table does not affect its own solution."""
    shared = [[not one.tensors.isdisjoint(other.tensors) for other in groups] for one in groups]
    for number, group in enumerate(groups):
        shared[number][number] = len(group.positions) > 1
    return torch.tensor(shared, dtype=torch.bool)


def _step(
    current: Tensor, rows: Tensor, reference: Tensor, group: Movable, alike: Tensor | None
) -> tuple[Moves, Tensor]:
    """Find the best moves of one group for the networks `rows` (A,) of `current` (N, D), and apply them in place.

    `alike` (A, n, n) is added to the inner products of weights.

    Returns:
        The moves, and for each network whether they gain anything, (A,). Without a gain the network is not changed.
    """
    blocks = [current[rows[:, None, None], where] for where in group.positions]  # each (A, n, K)
    # Inner products of the weights (n, K) of reference neuron i with the weights (A, n, K) of neuron j.
    similar = [reference[where] @ block.mT for where, block in zip(group.positions, blocks, strict=True)]
    similarity = torch.stack([*similar, *([] if alike is None else [alike])]).sum(0)  # (A, n, n)
    steps, better = _assign(similarity, group)
    rows, moves = rows[better], steps[better]
    if not len(rows):
        return steps, better
    # A group on both axes of a tensor makes a quadratic assignment problem. The similarity is linear: it keeps one axis
    # fixed while it moves the other. Accept a step only if the true inner product grows.
    if len(group.positions) > 1:
        part = current[rows]
        moved = moves.apply(part, group.positions)
        gain = (moved - part) @ reference
        if alike is not None:
            now, then = alike[better], _moved_columns(alike[better], moves)
            gain += (then - now).diagonal(dim1=1, dim2=2).sum(1)
        gain = gain > TOLERANCE * similarity[better].abs().amax((1, 2))
        current[rows[gain]] = moved[gain]
        better[better.clone()] = gain
        return steps, better
    [block], [where] = blocks, group.positions
    block = block[better]
    block = block.gather(1, moves.order[:, :, None].expand_as(block)) * moves.signs[:, :, None]
    current[rows[:, None, None], where] = block
    return steps, better


def _assign(similarity: Tensor, group: Movable) -> tuple[Moves, Tensor]:
    """Solve one linear assignment for each network.

    Args:
        similarity: inner product of the reference's neuron i and the network's neuron j, (A, n, n).
        group: says whether orders and signs are free.

    Returns:
        The best moves, and for each network whether they gain anything, (A,).
    """
    moves = Moves.none(*similarity.shape[:2])
    worth = similarity if group.signs is None else similarity.abs()
    if group.order is not None:
        solved = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in worth.numpy()]
        moves.order.copy_(torch.stack([torch.from_numpy(columns) for columns in solved]))
    paired = similarity.gather(2, moves.order[:, :, None])[:, :, 0]  # (A, n)
    if group.signs is not None:
        moves.signs[paired < 0] = -1.0
    best = (paired * moves.signs).sum(1)
    now = similarity.diagonal(dim1=1, dim2=2).sum(1)  # of the identity, (A,)
    return moves, best - now > TOLERANCE * similarity.abs().amax((1, 2))


def fit_all(  # noqa: PLR0913
    weights: Tensor,
    target: Tensor,
    groups: Mapping[str, Movable],
    generator: torch.Generator,
    rounds: int,
    sizes: Tensor | None = None,
    active: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> dict[str, Moves]:
    """Match networks (N, D) to a target (D,), then to the mean of the matched networks, for a number of rounds.

    Args:
        weights: the networks.
        target: of the first round.
        groups: from `movable`.
        generator: draws the order in which the groups are visited.
        rounds: number of rounds, at least 1.
        sizes: weight of each network in the mean, (N, 1). Default: 1 for each.
        active: for groups by name, activations of the networks (N, n, S) and of the target (n, S). They decide the
            matching of these groups, and weights decide between neurons that do the same.

    Returns:
        The moves of each group, from the networks as they were given.
    """
    total = {name: Moves.none(len(weights), len(group.positions[0])) for name, group in groups.items()}
    sizes = torch.ones(len(weights), 1, dtype=torch.int64) if sizes is None else sizes
    active = dict(active or {})
    for _ in range(rounds):
        alike = {name: (wanted @ rows.mT).double() for name, (rows, wanted) in active.items()}
        for name, matrix in alike.items():
            matrix *= _strength(weights, target, groups[name]) / matrix.abs().amax().clamp(min=1e-12)
        found = match_all(weights, target, groups, generator, alike)
        for name, moves in found.items():
            weights = moves.apply(weights, groups[name].positions)
            total[name] = moves.after(total[name])
            if name in active:
                rows = active[name][0]
                rows = rows.gather(1, moves.order[:, :, None].expand_as(rows)) * moves.signs[:, :, None].to(rows.dtype)
                active[name] = rows, (rows * sizes[:, :, None]).sum(0) / sizes.sum()
        target = (weights * sizes).sum(0) / sizes.sum()
    return total


def _strength(weights: Tensor, target: Tensor, group: Movable) -> float:
    """Return a similarity against which the greatest inner product of a neuron's weights is small."""
    longest = [weights[:, where].norm(dim=2).amax() * target[where].norm(dim=1).amax() for where in group.positions]
    return PREFERENCE * (sum(value.item() for value in longest) or 1.0)


def typical(weights: Tensor, groups: Mapping[str, Movable]) -> Tensor:
    """Return the network (D,) whose sorted neuron norms are closest to their mean over the networks (N, D).

    Norms and sorting make the choice independent of the signs and the order of each network's neurons.

    >>> group = Movable([torch.tensor([[0], [1]])], "x", None, frozenset("a"))
    >>> typical(torch.tensor([[1.0, 5.0], [5.0, 1.0], [3.0, 3.0], [5.0, 2.0]]), {"x": group})
    tensor([5., 2.])
    """
    norms = [weights[:, g.positions[0]].norm(dim=2).sort(dim=1).values for g in groups.values()]  # (N, n) each
    if not norms:
        return weights[0]
    signature = torch.cat(norms, dim=1)
    return weights[(signature - signature.mean(0)).norm(dim=1).argmin()]
