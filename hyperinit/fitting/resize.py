"""Resize: lay a tensor of the source into a parameter of another shape.

Three rules keep the outputs of a resized layer at their scale:

1. Inputs of one kind (image channels, pixels of a flattened channel) are spread. If the module has more of them, each
   source weight is repeated and divided by the number of its copies. If it has fewer, weights are summed.
2. Inputs that the source lacks (more neurons, a larger kernel) get zero. So a wider module at full strength has the
   source's outputs, and its new neurons start from their fill.
3. Where inputs or parts of a kernel are cut, the others are multiplied by the root of the ratio of the numbers, so
   that outputs keep their variance.

A layer that is k times as wide as the source's holds k networks side by side: network m has outputs of its own, reads
those of network m in the layer before, and gets zero as the weights from all others. The last layer has the outputs of
one network, and computes the mean of the k networks.

docs/decisions/0004-resizing-and-strength.md compares these rules with the plain leading block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Piece(Protocol):
    """Values that a plan writes into a parameter."""

    @property
    def silences(self) -> bool:
        """Whether outputs with any of these values get zero as their other weights."""

    def decode(self, weights: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Return the values in a parameter's shape, and the mask of the places that they reach; None if all."""


@dataclass(frozen=True)
class Inputs:
    """Map the input axis of a weight: `weight[:, target[p]] += gain[p] * source_weight[:, source[p]]` for all p."""

    target: Tensor  # (P,) int64: inputs of the module's weight
    source: Tensor  # (P,) int64: inputs of the source's weight
    gain: Tensor  # (P,) float32

    @classmethod
    def leading(cls, source: int, target: int) -> Inputs:
        """Keep each input in its place; if the target has fewer, scale those up that remain.

        Args:
            source: number of inputs of the source's weight.
            target: number of inputs of the module's weight.

        >>> Inputs.leading(8, 2).source, Inputs.leading(8, 2).gain
        (tensor([0, 1]), tensor([2., 2.]))
        """
        index = torch.arange(min(source, target), device="cpu")  # (P,)
        # the variance of a sum of n terms grows as n, so a share n / N of the terms needs the gain sqrt(N / n)
        gain = math.sqrt(max(1, source / max(1, target)))
        return cls(index, index, torch.full((len(index),), gain, dtype=torch.float32, device="cpu"))

    @classmethod
    def alike(cls, source: int, target: int) -> Inputs:
        """Spread inputs of one kind evenly: repeat and divide if the target has more, sum if it has fewer.

        Args:
            source: number of inputs of the source's weight.
            target: number of inputs of the module's weight.

        >>> Inputs.alike(1, 3).gain, Inputs.alike(4, 2).target
        (tensor([0.3333, 0.3333, 0.3333]), tensor([0, 0, 1, 1]))
        """
        step = torch.arange(
            max(source, target) if source and target else 0, device="cpu"
        )  # (P,): one entry for each input of the larger side
        to, of = step * target // len(step), step * source // len(step)  # those of the smaller side repeat, in order
        # the copies of one source weight add up to it, so that a constant input has the same effect on the outputs
        copies = (
            torch.bincount(of, minlength=source)
            if target > source
            else torch.ones(source, dtype=torch.float32, device="cpu")
        )
        return cls(to, of, 1 / copies[of].float())

    def times(self, other: Inputs, source: int, target: int) -> Inputs:
        """Combine a map of channels (self) with a map of the pixels in a channel (other): a Kronecker product.

        Args:
            other: of pixels.
            source: number of pixels in a channel of the source.
            target: number of pixels in a channel of the module.

        >>> Inputs.leading(2, 2).times(Inputs.alike(1, 2), 1, 2).target
        tensor([0, 1, 2, 3])
        """
        return Inputs(  # (C, 1) with (P,) -> (C, P) -> (C * P,); a channel's pixels lie next to each other
            (self.target[:, None] * target + other.target).flatten(),
            (self.source[:, None] * source + other.source).flatten(),
            (self.gain[:, None] * other.gain).flatten(),
        )


@dataclass(frozen=True)
class Members:
    """The places of k networks that lie side by side in one parameter.

    Args:
        count: number of networks, k.
        outputs: number of outputs from one network to the next; 0 if all share the outputs, which are their mean.
        inputs: number of inputs from one network to the next; 0 if all read the same inputs.
    """

    count: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class Block:
    """A part of the weight vector, and how it lies in one parameter.

    Args:
        start: where the source tensor begins in the weight vector.
        shape: of the source tensor; (count,) for a run of the vector that is written whatever the parameter's shape.
        inputs: map of its input axis; None if the tensor fits whole, or is a bias or a run.
        own_inputs: whether inputs that the source lacks carry the user's own data, as those of a first linear layer
            do, and are not new neurons. Their weights are filled and not set to zero.
        members: places of the networks that lie side by side; None for one network.
    """

    start: int
    shape: tuple[int, ...]
    inputs: Inputs | None = field(default=None, compare=False)
    own_inputs: bool = field(default=False, repr=False)
    members: Members | None = field(default=None, repr=False)

    @property
    def silences(self) -> bool:
        """Whether decoded outputs get zero as the weights from inputs that the source lacks."""
        return self.inputs is not None and not self.own_inputs

    def decode(self, weights: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Cut the block out of a weight vector and lay it into a parameter's shape.

        Args:
            weights: (D,), or (k, D) for k networks side by side; only read.
            shape: of the parameter, (outputs, inputs, *kernel) if the block has a map of inputs.

        Returns:
            The values, zero where the block does not reach, and the mask of the places that it reaches; None if it
            reaches all.

        >>> Block(1, (1,)).decode(torch.tensor([1.0, 2.0]), (2,))
        (tensor([2., 0.]), tensor([ True, False]))
        """
        source = weights[..., self.start : self.start + math.prod(self.shape)]
        if self.members is not None:
            return self._side_by_side(source, shape, self.members)
        if self.inputs is None and len(source) == math.prod(shape):
            return source.reshape(shape), None
        values, mask = (
            torch.zeros(shape, dtype=torch.float32, device="cpu"),
            torch.zeros(shape, dtype=torch.bool, device="cpu"),
        )
        if self.inputs is None:  # a bias, or a run of the vector: as many as both have, from the beginning
            count = min(len(source), values.numel())
            values.view(-1)[:count], mask.view(-1)[:count] = source[:count], True
            return values, mask
        here, there = _windows(self.shape, shape)
        part = self._part(source, here, self.inputs)
        values[there].index_add_(1, self.inputs.target, part)  # into a view; repeated targets are summed
        mask[there].index_fill_(1, self.inputs.target, True)
        return values, mask

    def _part(self, source: Tensor, here: tuple[slice, ...], inputs: Inputs) -> Tensor:
        """Return the window of a source tensor that is written, (outputs, P, *kernel), with its gains."""
        part = source.reshape(self.shape)[here].index_select(1, inputs.source)  # (outputs, P, *kernel)
        cut = math.prod(self.shape[2:]) / math.prod(part.shape[2:])  # >= 1; the gain is as in `leading`
        return part * inputs.gain.reshape(-1, *(1 for _ in self.shape[2:])) * math.sqrt(cut)  # gain: (P, 1, 1)

    def _side_by_side(self, source: Tensor, shape: tuple[int, ...], members: Members) -> tuple[Tensor, Tensor | None]:
        """Lay k networks into a parameter, from the rows of `source`, (k, numbers of the block)."""
        values = torch.zeros(shape, dtype=torch.float32, device="cpu")
        mask = torch.zeros(shape, dtype=torch.bool, device="cpu")
        share = 1 if members.outputs else 1 / members.count  # shared outputs are the mean of the networks
        here, there = _windows(self.shape, shape)
        for index, own in enumerate(source):
            first = index * members.outputs
            place = (slice(first, first + len(range(*here[0].indices(self.shape[0])))), *there[1:])
            if self.inputs is None:  # a bias, or a tensor of a norm
                values[place[0]] += own.reshape(self.shape)[here[0]] * share
                mask[place[0]] = True
                continue
            inputs = self.inputs.target + index * members.inputs
            values[place].index_add_(1, inputs, self._part(own, here, self.inputs) * share)
            mask[place].index_fill_(1, inputs, True)
        return values, None if mask.all() else mask


def _windows(old: Sequence[int], new: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices, in `old` and in `new`, of the first outputs, all inputs, and the middle of the kernel.

    The kernel is centred, so that what a smaller or larger one sees stays at the same place of the image.
    """
    sizes = [min(a, b) for a, b in zip(old[2:], new[2:], strict=True)]
    start = (slice(min(old[0], new[0])), slice(None))[: len(old)]
    here, there = (
        (*start, *(slice((n - size) // 2, (n - size) // 2 + size) for n, size in zip(shape[2:], sizes, strict=True)))
        for shape in (old, new)
    )
    return here, there
