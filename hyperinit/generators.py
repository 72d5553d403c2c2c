"""Random generators: whose random numbers a step draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_random(generator: torch.Generator | None) -> Iterator[None]:
    """Let torch's global CPU generator be decided by `generator` for a while, and put it back afterwards.

    Resets know no generator but the global one. With `generator=None` nothing is exchanged, so `torch.manual_seed`
    decides and the global generator moves on. Other devices' generators are never touched.

    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     first = torch.rand(1)
    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     bool(torch.rand(1) == first)
    True
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
