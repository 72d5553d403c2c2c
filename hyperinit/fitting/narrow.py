"""Narrower modules: of the source's neurons, keep those that matter most.

The neurons of a permutation group can be reordered without a change of the source's function (`hyperinit.layout`).
Before the leading block of each tensor is taken, the groups that lose neurons are reordered so that the neurons to
keep come first. So every layer that writes or reads these neurons keeps the same ones. Neurons without a group, as in
a source whose groups are not known, keep their order.

A neuron's score is the norm of its incoming weights times the norm of its outgoing weights. A norm layer sets the
scale of its inputs anew, so behind one its weight counts in place of the incoming weights.

docs/decisions/0004-resizing-and-strength.md compares this choice with the first neurons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperinit.layout import Layout
from hyperinit.layout.layers import NORM, reorder


@dataclass(frozen=True)
class Narrowed:
    """A group of neurons of the source of which a module holds only some.

    Args:
        group: name of the permutation group, which is the source layer that computes the neurons.
        kept: number of neurons that the module holds.
        count: number of neurons that the source holds.
    """

    group: str
    kept: int
    count: int


def narrowed(layout: Layout, found: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[Narrowed, ...]:
    """Return the groups of neurons that lose some.

    Args:
        layout: of the source.
        found: for each parameter that gets a source tensor, the tensor's name and the parameter's shape.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    >>> narrowed(layout, [("0.weight", (2, 3)), ("2.weight", (1, 2))])
    (Narrowed(group='0', kept=2, count=4),)
    """
    groups = {tensor.name: tensor.groups[0] for tensor in layout.tensors}
    kept: dict[str, int] = {}
    for name, shape in found:
        group = groups.get(name)
        if group is not None and shape:
            kept[group] = min(kept.get(group, shape[0]), shape[0])
    sizes = layout.group_sizes
    return tuple(Narrowed(group, count, sizes[group]) for group, count in kept.items() if count < sizes[group])


def best_first(state: Mapping[str, Tensor], layout: Layout, groups: Iterable[Narrowed]) -> dict[str, Tensor]:
    """Reorder the neurons of groups so that those to keep come first, in the order that they had.

    Args:
        state: the tensors of one network of the source, by name; only read.
        layout: of the source.
        groups: from `narrowed`.

    >>> from torch import nn
    >>> layout = Layout.of(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)))
    >>> state = layout.state(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 1.0, 5.0, 0.0]))
    >>> {name: value.tolist() for name, value in best_first(state, layout, [Narrowed("0", 2, 3)]).items()}
    {'0.weight': [[1.0], [3.0], [2.0]], '0.bias': [4.0, 6.0, 5.0], '2.weight': [[9.0, 5.0, 1.0]], '2.bias': [0.0]}
    """
    orders = {each.group: _order(_scores(state, layout, each), each.kept) for each in groups}
    return {tensor.name: reorder(state[tensor.name], tensor, orders) for tensor in layout.tensors}


def _order(scores: Tensor, kept: int) -> Tensor:
    """Return the indices of the `kept` highest scores, and then the others, each in rising order; first of equals."""
    order = scores.argsort(descending=True, stable=True)
    return torch.cat([order[:kept].sort().values, order[kept:].sort().values])


def _scores(state: Mapping[str, Tensor], layout: Layout, each: Narrowed) -> Tensor:
    """Return the squared scores of a group's neurons, (neurons,)."""
    scales: list[Tensor] = []
    incoming: list[Tensor] = []
    outgoing: list[Tensor] = []
    for layer in layout.layers:
        tensor = layer.tensors[0]
        if not tensor.name.endswith("weight"):
            continue
        value = state[tensor.name].double().square()
        if tensor.groups[0] == each.group:
            (scales if layer.kind == NORM else incoming).append(value.reshape(each.count, -1).sum(1))
        if len(tensor.groups) > 1 and tensor.groups[1] == each.group:
            outgoing.append(value.transpose(0, 1).reshape(each.count, -1).sum(1))
    score = torch.ones(each.count, dtype=torch.float64, device="cpu")
    for parts in (scales or incoming, outgoing):
        if parts:
            score = score * torch.stack(parts).sum(0)
    return score
