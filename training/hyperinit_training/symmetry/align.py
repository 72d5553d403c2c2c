"""Weight matching: permute the hidden neurons of every network of a zoo to bring it close to a reference.

Two networks that differ only in the order of their neurons compute the same function, but their weight vectors are
far apart. Alignment removes this difference. It changes no network's function.

Letters: N networks, D weights per network, F families, n neurons of a permutation group, K weights that move with
one neuron.

Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836, section 3.2 (weight matching).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit_training.symmetry.positions import neuron_positions, permute

Positions = Mapping[str, Sequence[Tensor]]  # per permutation group, see `neuron_positions`
TOLERANCE = 1e-9  # least gain of a new order, as a share of the largest similarity; without it ties would cycle


def match(
    weights: Tensor, reference: Tensor, layout: Layout, generator: torch.Generator, scale: Tensor | None = None
) -> dict[str, Tensor]:
    """Find the order of one network's neurons that brings its weights close to a reference.

    The method is coordinate descent. It visits the groups in random order and finds the best order of each group for
    fixed orders of the other groups. It stops when a sweep changes no group. The result is a local optimum, because
    the joint optimum over all groups is NP-hard to find.

    Args:
        weights: the network to reorder, (D,).
        reference: the network, or the mean of networks, to match to, (D,).
        layout: names the permutation groups.
        generator: draws the order in which the groups are visited.
        scale: unit of every weight, (D,), constant within a layer. With `statistics.layer_std` all layers have a
            similar influence, also where their weights differ in size. Default: 1 for every weight.

    Returns:
        For each group the order of its neurons, int64 (n,): neuron i of the matched network is neuron `order[i]` of
        `weights`. `positions.permute` applies an order.

    Raises:
        ArgumentError: if a shape is wrong, a value is not finite, or `scale` differs within a layer or is not > 0.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> reference = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    >>> swapped = torch.tensor([2.0, 1.0, 4.0, 3.0, 6.0, 5.0, 7.0])
    >>> match(swapped, reference, layout, torch.Generator())
    {'0': tensor([1, 0])}
    """
    positions = neuron_positions(layout)
    _check_vector("weights", weights, layout)
    _check_vector("reference", reference, layout)
    unit = _unit(scale, layout, positions)
    orders = _match((weights / unit)[None], reference / unit, positions, generator)
    return {group: order[0] for group, order in orders.items()}


def align(  # noqa: PLR0913 - what to align, how long, to what, and in which units are independent choices
    weights: Tensor,
    layout: Layout,
    *,
    generator: torch.Generator,
    rounds: int = 3,
    reference: Tensor | None = None,
    families: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """Permute the neurons of every network of a zoo so that the networks lie close to each other.

    The first round matches to the reference. Every further round matches to the mean of the networks that the
    previous round returned. From the second round on, the mean squared distance to the mean (in units of `scale`)
    never grows.

    Args:
        weights: the zoo, (N, D); not modified.
        layout: names the permutation groups. Without groups the result is a copy of the zoo.
        generator: draws the order in which the groups are visited.
        rounds: number of rounds, at least 1. To match new networks to the mean of an aligned zoo, pass the mean as
            `reference` and 1 round.
        reference: target of the first round, (D,). Default: the network whose sorted neuron norms are closest to
            their mean over the zoo.
        families: integer label of each network, (N,). The members of a family have one ancestor, so their neurons
            already correspond. They get one common order, which is found for their mean. Snapshots of one model at
            several epochs are also a family.
        scale: unit of every weight, (D,), see `match`.

    Returns:
        The permuted networks, (N, D), each with an unchanged function.

    Raises:
        ArgumentError: as for `match`, and if `rounds` is below 1.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> zoo = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.5, 1.5, 4.5, 3.5, 6.5, 5.5, 7.5]])
    >>> align(zoo, layout, generator=torch.Generator(), reference=zoo[0])[1]
    tensor([1.5000, 2.5000, 3.5000, 4.5000, 5.5000, 6.5000, 7.5000])
    """
    positions = neuron_positions(layout)
    _check_zoo(weights, layout, rounds, families)
    if reference is not None:
        _check_vector("reference", reference, layout)
    unit = _unit(scale, layout, positions)
    labels = torch.arange(len(weights)) if families is None else torch.unique(families, return_inverse=True)[1]
    sizes = labels.bincount()[:, None]
    means = weights.new_zeros(len(sizes), layout.size).index_add_(0, labels, weights / unit) / sizes  # (F, D)
    target = _typical(means, positions) if reference is None else reference / unit
    aligned = weights.clone()
    for _ in range(rounds):
        orders = _match(means, target, positions, generator)  # per group (F, n)
        for group, where in positions.items():
            means = permute(means, where, orders[group])
            aligned = permute(aligned, where, orders[group][labels])  # members follow their family's mean
        target = (means * sizes).sum(0) / len(weights)  # mean over networks, not over families
    return aligned


def _match(weights: Tensor, reference: Tensor, positions: Positions, generator: torch.Generator) -> dict[str, Tensor]:
    """Match networks (N, D) to one reference (D,) in a batch, and return the orders (N, n) per group.

    All networks visit the groups in the same random order. Each network gets the orders that it would get alone.
    Minimising |reference - weights|^2 over orders is maximising their inner product, because an order does not change
    the length of `weights`. For one group this inner product is a linear assignment problem.
    """
    current, reference = weights.double(), reference.double()
    orders = {group: torch.arange(len(where[0])).repeat(len(weights), 1) for group, where in positions.items()}
    names = list(positions)
    active = torch.arange(len(weights))  # networks that the last sweep changed, (A,)
    while len(active) and names:
        part, changed = current[active], torch.zeros(len(active), dtype=torch.bool)  # (A, D), (A,)
        for number in torch.randperm(len(names), generator=generator).tolist():
            where, order = positions[names[number]], orders[names[number]]
            # Inner products of the weights (n, K) of reference neuron i with the weights (A, n, K) of neuron j.
            similar = [torch.einsum("ik,njk->nij", reference[table], part[:, table]) for table in where]
            similarity = torch.stack(similar).sum(0)  # (A, n, n)
            steps, better = _assign(similarity)  # (A, n), (A,)
            moved = permute(part, where, steps)  # (A, D)
            # A group on both axes of a tensor makes a quadratic assignment problem. The similarity is linear: it keeps
            # one axis fixed while it permutes the other. Accept a step only if the true inner product grows.
            if len(where) > 1:
                better &= (moved - part) @ reference > TOLERANCE * similarity.abs().amax((1, 2))
                moved = torch.where(better[:, None], moved, part)
                steps = torch.where(better[:, None], steps, torch.arange(steps.shape[1]))
            part = moved
            order[active] = order[active].gather(1, steps)  # new order after old order
            changed |= better
        current[active] = part
        active = active[changed]
    return orders


def _assign(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Solve one linear assignment for each network.

    Args:
        similarity: inner product of the reference's neuron i and the network's neuron j, (N, n, n).

    Returns:
        The best orders (N, n), and for each network whether the order gains anything, (N,). Without a gain the order is
        the identity.
    """
    solved = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in similarity.numpy()]
    steps = torch.stack([torch.from_numpy(columns) for columns in solved])
    best = similarity.gather(2, steps[:, :, None]).sum((1, 2))
    now = similarity.diagonal(dim1=1, dim2=2).sum(1)  # of the identity, (N,)
    better = best - now > TOLERANCE * similarity.abs().amax((1, 2))
    return torch.where(better[:, None], steps, torch.arange(steps.shape[1])), better


def _typical(weights: Tensor, positions: Positions) -> Tensor:
    """Return the network (D,) whose sorted neuron norms are closest to their mean over the zoo.

    Sorting makes the choice independent of the order of each network's neurons.
    """
    norms = [weights[:, where[0]].norm(dim=2).sort(dim=1).values for where in positions.values()]  # (N, n) each
    if not norms:
        return weights[0]
    signature = torch.cat(norms, dim=1)
    return weights[(signature - signature.mean(0)).norm(dim=1).argmin()]


def _unit(scale: Tensor | None, layout: Layout, positions: Positions) -> Tensor:
    """Validate the scale (D,), or return ones."""
    if scale is None:
        return torch.ones(layout.size)
    _check_vector("scale", scale, layout)
    if not (scale > 0).all():
        raise ArgumentError(f"scale must be > 0 everywhere, got a minimum of {scale.min():.3g}")
    for group, where in positions.items():
        # A varying scale would change a network's length with its order, and inner products would not rank distances.
        if not all((scale[table] == scale[table[:1]]).all() for table in where):
            raise ArgumentError(f"scale must be equal for all neurons of a layer, got several values in group {group}")
    return scale


def _check_vector(name: str, vector: Tensor, layout: Layout) -> None:
    if vector.shape != (layout.size,):
        raise ArgumentError(f"{name} must have shape ({layout.size},), got {tuple(vector.shape)}")
    if not vector.isfinite().all():
        raise ArgumentError(f"{name} must be finite, got {(~vector.isfinite()).sum()} NaN or infinite values")


def _check_zoo(weights: Tensor, layout: Layout, rounds: int, families: Tensor | None) -> None:
    if weights.ndim != 2 or weights.shape[1] != layout.size or not len(weights):
        raise ArgumentError(f"weights must have shape (N, {layout.size}) with N >= 1, got {tuple(weights.shape)}")
    broken = (~weights.isfinite()).any(1).nonzero()[:, 0].tolist()
    if broken:
        raise ArgumentError(f"weights must be finite, got NaN or infinite values in networks {broken[:5]}")
    if rounds < 1:
        raise ArgumentError(f"rounds must be >= 1, got {rounds}")
    if families is not None and (families.shape != weights.shape[:1] or families.is_floating_point()):
        got = f"{families.dtype} {tuple(families.shape)}"
        raise ArgumentError(f"families must hold one integer for each of {len(weights)} networks, got {got}")
