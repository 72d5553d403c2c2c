"""Rows of views gathered and filled, compiled: no indices in eight bytes and no copies between steps.

`torch.gather` wants int64 indices, so that the drawn rows of an index of two or four bytes are first picked out and
then widened: 30 kB written and read again for 10 kB of result. The loop here reads the index where it lies. It gives
the same numbers; what it does not take, PyTorch's operations do.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def takes(weights: Tensor) -> bool:
    """Say whether weights are what the loops are for: float32 on the CPU, whose gradient nobody wants.

    >>> takes(torch.zeros(1)), takes(torch.zeros(1, dtype=torch.float64)), takes(torch.zeros(1, requires_grad=True))
    (True, False, False)
    """
    return weights.device.type == "cpu" and weights.dtype == torch.float32 and not weights.requires_grad


def gathered(weights: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Return `weights.gather(1, index[rows].long())`, which is not written down.

    Args:
        weights: float32 (B, D), on the CPU.
        index: places in a row, each from 0 to D - 1: they are not checked. int16 or int32 (P, D).
        rows: a row of the index for each row of the weights, from 0 to P - 1, int64 (B,).

    >>> gathered(torch.tensor([[1.0, 2.0]]), torch.tensor([[0, 1], [1, 0]], dtype=torch.int16), torch.tensor([1]))
    tensor([[2., 1.]])
    """
    found = torch.empty_like(weights, memory_format=torch.contiguous_format)
    _loops()[0](weights.numpy(), index.numpy(), rows.numpy(), found.numpy())
    return found


def fill_(weights: Tensor, start: Tensor, stop: Tensor, value: float) -> None:
    """Write a value from `start` to before `stop`, int64 (B,) and within the row, into each row of weights (B, D).

    A mask of all weights would be made, read and forgotten.

    >>> weights = torch.ones(2, 3)
    >>> fill_(weights, torch.tensor([0, 1]), torch.tensor([2, 1]), 0.0)
    >>> weights
    tensor([[0., 0., 1.],
            [1., 1., 1.]])
    """
    _loops()[1](weights.numpy(), start.numpy(), stop.numpy(), value)


@lru_cache(maxsize=1)
def _loops() -> tuple[Any, Any]:
    """The loops, compiled at their first use: numba takes a second to import, and not all that trains needs it."""
    import numba

    @numba.njit(nogil=True, error_model="numpy")
    def gather(weights, index, rows, found):  # type: ignore[no-untyped-def]
        for b in range(len(rows)):
            source, places, target = weights[b], index[rows[b]], found[b]
            for i in range(len(target)):
                target[i] = source[places[i]]

    @numba.njit(nogil=True, error_model="numpy")
    def fill(weights, start, stop, value):  # type: ignore[no-untyped-def]
        for b in range(len(start)):
            weights[b, start[b] : stop[b]] = value

    return gather, fill
