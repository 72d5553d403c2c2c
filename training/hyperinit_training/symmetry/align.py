"""Weight matching: reorder the hidden neurons of every network of a zoo so that it lies near a reference.

Two networks that differ only in the order of their neurons compute the same, yet their weight vectors are far
apart. Alignment takes this difference away; it changes no network's function.

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
TOLERANCE = 1e-9  # a change of order must gain this share of the largest similarity, so that ties cannot cycle


def match(
    weights: Tensor, reference: Tensor, layout: Layout, generator: torch.Generator, scale: Tensor | None = None
) -> dict[str, Tensor]:
    """Find the order of one network's neurons that brings it near a reference.

    Coordinate descent: one group after the other, in random order, gets its best order given the others', until
    none changes. This is a local optimum; the best over all groups together is NP-hard to find.

    Args:
        weights: the network to reorder, (D,).
        reference: the network, or mean of networks, to come near to, (D,).
        layout: names the permutation groups.
        generator: decides the order of the groups.
        scale: unit of every weight, (D,), the same within a layer; `losses.layer_std` keeps a layer of large
            weights from deciding alone. Without it all weights count as they are.

    Returns:
        For each group the order of its neurons, int64 (n,): `weights[layout.permutation_index(orders)]` is the
        matched network.

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
    """Reorder the neurons of every network of a zoo so that the networks lie near each other.

    The first round matches to the reference, every further one to the mean of what the last one gave; from then on
    the mean squared distance to the mean (in units of `scale`) never grows.

    Args:
        weights: the zoo, (N, D); not modified.
        layout: names the permutation groups; without any the zoo comes back as it is.
        generator: decides the order in which the groups are matched.
        rounds: how often to match, at least 1; with a reference, 1 brings other networks to an aligned zoo's mean.
        reference: network to start from, (D,). Default: the one whose neurons' norms are most typical.
        families: integer label of each network, (N,). The members of a family lie in one basin already, so they
            share one order, found for their mean. The snapshots of one model at several epochs are a family, too.
        scale: unit of every weight, (D,), see `match`.

    Returns:
        The reordered networks, (N, D): each computes what it computed before.

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
        orders = _match(means, target, positions, generator)
        for group, where in positions.items():
            means = permute(means, where, orders[group])
            aligned = permute(aligned, where, orders[group][labels])
        target = (means * sizes).sum(0) / len(weights)
    return aligned


def _match(weights: Tensor, reference: Tensor, positions: Positions, generator: torch.Generator) -> dict[str, Tensor]:
    """Match many networks (N, D) to one reference (D,) at once; returns an order (N, n) per group.

    All networks visit the groups in the same random order, so each gets what it would get alone.
    """
    current, reference = weights.double(), reference.double()
    orders = {group: torch.arange(len(where[0])).repeat(len(weights), 1) for group, where in positions.items()}
    names = list(positions)
    active = torch.arange(len(weights))  # networks that the last sweep changed
    while len(active) and names:
        part, changed = current[active], torch.zeros(len(active), dtype=torch.bool)
        for number in torch.randperm(len(names), generator=generator).tolist():
            where, order = positions[names[number]], orders[names[number]]
            similar = [torch.einsum("ik,njk->nij", reference[table], part[:, table]) for table in where]
            similarity = torch.stack(similar).sum(0)
            steps, better = _assign(similarity)
            moved = permute(part, where, steps)
            if len(where) > 1:  # the similarity holds one of a tensor's two axes still: see what both together gain
                better &= (moved - part) @ reference > TOLERANCE * similarity.abs().amax((1, 2))
                moved = torch.where(better[:, None], moved, part)
                steps = torch.where(better[:, None], steps, torch.arange(steps.shape[1]))
            part = moved
            order[active] = order[active].gather(1, steps)
            changed |= better
        current[active] = part
        active = active[changed]
    return orders


def _assign(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Solve one linear assignment for each network.

    Args:
        similarity: of the reference's neuron i and the network's neuron j, (N, n, n).

    Returns:
        The best orders (N, n), the identity where nothing is gained, and whether each network gained, (N,).
    """
    solved = [linear_sum_assignment(matrix, maximize=True)[1] for matrix in similarity.numpy()]
    steps = torch.stack([torch.from_numpy(columns) for columns in solved])
    best = similarity.gather(2, steps[:, :, None]).sum((1, 2))
    now = similarity.diagonal(dim1=1, dim2=2).sum(1)
    better = best - now > TOLERANCE * similarity.abs().amax((1, 2))
    return torch.where(better[:, None], steps, torch.arange(steps.shape[1])), better


def _typical(weights: Tensor, positions: Positions) -> Tensor:
    """Pick the network (D,) whose sorted neuron norms are nearest the zoo's mean of them.

    The choice does not depend on the order of any network's neurons.
    """
    norms = [weights[:, where[0]].norm(dim=2).sort(dim=1).values for where in positions.values()]
    if not norms:
        return weights[0]
    signature = torch.cat(norms, dim=1)
    return weights[(signature - signature.mean(0)).norm(dim=1).argmin()]


def _unit(scale: Tensor | None, layout: Layout, positions: Positions) -> Tensor:
    """Return the checked scale, (D,), or ones."""
    if scale is None:
        return torch.ones(layout.size)
    _check_vector("scale", scale, layout)
    if not (scale > 0).all():
        raise ArgumentError(f"scale must be > 0 everywhere, got a minimum of {scale.min():.3g}")
    for group, where in positions.items():
        # Otherwise a reordered network would have another length, and inner products would not rank distances.
        if not all((scale[table] == scale[table[:1]]).all() for table in where):
            raise ArgumentError(f"scale must be the same for all neurons of a layer, got several in group {group}")
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
