"""Alignment of a zoo: permute the hidden neurons of every network to bring it close to a reference.

Two networks that differ only in the order of their neurons compute the same function, but their weight vectors are
far apart. Alignment removes this difference. It changes no network's function.

Letters: N networks, D weights per network, F families, n neurons of a permutation group, K weights that move with
one neuron.

Source: Ainsworth et al. 2022, "Git Re-Basin", arXiv:2209.04836, section 3.2 (weight matching).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hyperinit.errors import ArgumentError
from hyperinit.layout import Layout
from hyperinit_training.symmetry.matching import Movable, fit_all, match_all, movable, typical
from hyperinit_training.symmetry.positions import Groups


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
    groups = movable(layout.tensors)
    _check_vector("weights", weights, layout)
    _check_vector("reference", reference, layout)
    unit = _unit(scale, layout, groups)
    found = match_all((weights / unit)[None], reference / unit, groups, generator)
    return {group: moves.order[0] for group, moves in found.items()}


def align(  # noqa: PLR0913 - what to align, how long, to what, and in which units are independent choices
    weights: Tensor,
    layout: Layout,
    *,
    generator: torch.Generator,
    rounds: int = 3,
    reference: Tensor | None = None,
    families: Tensor | None = None,
    scale: Tensor | None = None,
    signs: Groups | None = None,
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
        signs: groups of neurons whose signs are matched, too, the `groups` of `symmetry.sign_groups`. Flipping a neuron
            behind an odd activation such as tanh changes no function. None flips no signs.

    Returns:
        The permuted networks, (N, D), each with an unchanged function.

    Raises:
        ArgumentError: as for `match`, and if `rounds` is below 1.
        LayoutError: if `signs` does not fit the layout or its permutation groups.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)))
    >>> zoo = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [2.5, 1.5, 4.5, 3.5, 6.5, 5.5, 7.5]])
    >>> align(zoo, layout, generator=torch.Generator(), reference=zoo[0])[1]
    tensor([1.5000, 2.5000, 3.5000, 4.5000, 5.5000, 6.5000, 7.5000])
    """
    groups = movable(layout.tensors, None if signs is None else _checked(signs, layout))
    _check_zoo(weights, layout, rounds, families)
    if reference is not None:
        _check_vector("reference", reference, layout)
    unit = _unit(scale, layout, groups)
    labels = torch.arange(len(weights)) if families is None else torch.unique(families, return_inverse=True)[1]
    sizes = labels.bincount()[:, None]
    means = weights.new_zeros(len(sizes), layout.size).index_add_(0, labels, weights / unit) / sizes  # (F, D)
    target = typical(means, groups) if reference is None else reference / unit
    aligned = weights.clone()
    # The mean that later rounds match to is one over networks, not over families.
    for name, moves in fit_all(means, target, groups, generator, rounds, sizes).items():
        aligned = moves[labels].apply(aligned, groups[name].positions)  # members follow their family's mean
    return aligned


def _checked(signs: Groups, layout: Layout) -> Groups:
    """Validate the names and axes of sign groups by those of the layout."""
    layout.with_groups(signs)
    return signs


def _unit(scale: Tensor | None, layout: Layout, groups: Mapping[str, Movable]) -> Tensor:
    """Validate the scale (D,), or return ones."""
    if scale is None:
        return torch.ones(layout.size)
    _check_vector("scale", scale, layout)
    if not (scale > 0).all():
        raise ArgumentError(f"scale must be > 0 everywhere, got a minimum of {scale.min():.3g}")
    for name, group in groups.items():
        # A varying scale would change a network's length with its order, and inner products would not rank distances.
        if not all((scale[table] == scale[table[:1]]).all() for table in group.positions):
            raise ArgumentError(f"scale must be equal for all neurons of a layer, got several values in group {name}")
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
