"""How a tensor of the source lies in a parameter of another shape.

Three rules hold a resized layer at its scale. Inputs that mean the same (image channels, pixels of a flattened
channel) are repeated and divided by their number where the module has more, and summed where it has fewer. Inputs that
the source does not have (more neurons, a larger kernel) get weights that decode to zero: a wider module at full
strength computes what the source computes, and its new neurons start from their fill. Where inputs or a kernel are
cut, the rest is scaled up by the root of the ratio, so that outputs keep their variance.

How they compare with the plain leading block: docs/decisions/0004-resizing-and-strength.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inputs:
    """Where the input axis of a source weight goes: `weight[:, target] += gain * source_weight[:, source]`."""

    target: Tensor  # (P,) int64
    source: Tensor  # (P,) int64
    gain: Tensor  # (P,) float32

    @classmethod
    def leading(cls, source: int, target: int) -> Inputs:
        """Keep as many inputs as both have, each in its place; scaled up if some are cut.

        >>> Inputs.leading(8, 2).source, Inputs.leading(8, 2).gain
        (tensor([0, 1]), tensor([2., 2.]))
        """
        index = torch.arange(min(source, target), device="cpu")
        return cls(index, index, torch.full((len(index),), math.sqrt(max(1, source / max(1, target))), device="cpu"))

    @classmethod
    def alike(cls, source: int, target: int) -> Inputs:
        """Spread inputs that mean the same: repeat and divide if the target has more, sum if it has fewer.

        >>> Inputs.alike(1, 3).gain, Inputs.alike(4, 2).target
        (tensor([0.3333, 0.3333, 0.3333]), tensor([0, 0, 1, 1]))
        """
        count = torch.arange(max(source, target), device="cpu")
        to, of = count * target // len(count), count * source // len(count)
        copies = torch.bincount(of, minlength=source) if target > source else torch.ones(source, device="cpu")
        return cls(to, of, 1 / copies[of].float())

    def times(self, other: Inputs, source: int, target: int) -> Inputs:
        """Combine channels (self) with the `source` and `target` pixels of a channel (other).

        >>> Inputs.leading(2, 2).times(Inputs.alike(1, 2), 1, 2).target
        tensor([0, 1, 2, 3])
        """
        return Inputs(
            (self.target[:, None] * target + other.target).flatten(),
            (self.source[:, None] * source + other.source).flatten(),
            (self.gain[:, None] * other.gain).flatten(),
        )


@dataclass(frozen=True)
class Block:
    """How one source tensor lies in one parameter.

    Args:
        start: where the source tensor begins in the weight vector.
        shape: of the source tensor; (count,) for a run of the vector that is written without looking at shapes.
        inputs: where its input axis goes; None if the first axes alone decide.
        own_inputs: whether inputs that the source lacks are the module's own data and no new neurons, as those of a
            first linear layer are; they are filled then, and not decoded as zero.
    """

    start: int
    shape: tuple[int, ...]
    inputs: Inputs | None = field(default=None, compare=False)
    own_inputs: bool = field(default=False, repr=False)

    @property
    def silences(self) -> bool:
        """Whether decoded outputs get weights that decode to zero from inputs that the source lacks."""
        return self.inputs is not None and not self.own_inputs

    def decode(self, weights: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Cut the block out of a vector (D,) and lay it into a parameter's shape.

        Returns:
            The values, zero where the block does not reach, and the mask of what it reaches (None: everything).

        >>> Block(1, (1,)).decode(torch.tensor([1.0, 2.0]), (2,))
        (tensor([2., 0.]), tensor([ True, False]))
        """
        source = weights[self.start : self.start + math.prod(self.shape)]
        if self.inputs is None and len(source) == math.prod(shape):
            return source.reshape(shape), None
        values, mask = torch.zeros(shape, device="cpu"), torch.zeros(shape, dtype=torch.bool, device="cpu")
        if self.inputs is None:  # a bias, or a run of the vector: the leading part
            count = min(len(source), values.numel())
            values.view(-1)[:count], mask.view(-1)[:count] = source[:count], True
            return values, mask
        here, there = _windows(self.shape, shape)
        part = source.reshape(self.shape)[here].index_select(1, self.inputs.source)
        cut = math.prod(self.shape[2:]) / math.prod(part.shape[2:])
        gain = self.inputs.gain.reshape(-1, *(1 for _ in shape[2:])) * math.sqrt(cut)
        values[there].index_add_(1, self.inputs.target, part * gain)
        mask[there].index_fill_(1, self.inputs.target, True)
        return values, mask


def _windows(old: Sequence[int], new: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Keep the first outputs, all inputs, and the middle of the kernel; say where that is in `old` and in `new`."""
    sizes = [min(a, b) for a, b in zip(old[2:], new[2:], strict=True)]
    start = (slice(min(old[0], new[0])), slice(None))
    here, there = (
        (*start, *(slice((n - size) // 2, (n - size) // 2 + size) for n, size in zip(shape[2:], sizes, strict=True)))
        for shape in (old, new)
    )
    return here, there
