"""Several networks as one module.

Letters used for tensor shapes: n members, B inputs in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from hyperinit.errors import ArgumentError, UnknownNameError

COMBINE = ("probabilities", "logits")


class Ensemble(nn.Module):
    """Members that see the same input and answer together.

    `forward` returns logits like a single network's, (B, classes): they go into `cross_entropy` and `argmax` as they
    are. With "probabilities" they are the logarithm of the mean of the members' softmax, with "logits" the mean of
    the members' logits.

    Args:
        members: one or more modules that return logits of the same shape, (B, classes) or (B, classes, ...).
        combine: "probabilities" or "logits".

    Raises:
        ArgumentError: if there are no members, or one is no module.
        UnknownNameError: for another `combine`.

    Source: mean of the softmax: Lakshminarayanan et al. 2017, arXiv:1612.01474.

    >>> ensemble = Ensemble([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> probabilities = ensemble(torch.ones(5, 4)).exp()
    >>> torch.allclose(probabilities.sum(1), torch.ones(5))
    True
    """

    def __init__(self, members: Sequence[nn.Module], *, combine: str = "probabilities") -> None:
        super().__init__()
        if combine not in COMBINE:
            close = get_close_matches(combine, COMBINE, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(COMBINE)}"
            raise UnknownNameError(f"unknown combine {combine!r}; {hint}")
        if not members:
            raise ArgumentError("members must hold at least one module, got none")
        for member in members:
            if not isinstance(member, nn.Module):
                raise ArgumentError(f"members must be modules, got {type(member).__name__}")
        self.members = nn.ModuleList(members)
        self.combine = combine

    def member_outputs(self, x: Tensor) -> Tensor:
        """Return each member's logits, (n, B, classes).

        Raises:
            ArgumentError: if the members' outputs differ in shape, or are no logits of a batch.
        """
        outputs = [member(x) for member in self.members]
        shapes = list(dict.fromkeys(tuple(output.shape) for output in outputs))
        if len(shapes) > 1:
            raise ArgumentError(f"members must return tensors of one shape, got {', '.join(map(str, shapes))}")
        if len(shapes[0]) < 2:
            raise ArgumentError(f"members must return logits (B, classes), got {shapes[0]}")
        return torch.stack(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the combined logits, (B, classes)."""
        outputs = self.member_outputs(x)
        if self.combine == "logits":
            return outputs.mean(0)
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(outputs))

    def extra_repr(self) -> str:
        """Show how members are combined when the module is printed."""
        return f"combine={self.combine!r}"
