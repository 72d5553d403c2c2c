"""Context managers that control torch's global CPU generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cpu_random(generator: torch.Generator | None) -> Iterator[None]:
    """Seed torch's global CPU generator from `generator` inside the block.

    A module's `reset_parameters` takes no generator and always draws from the global one. The global generator gets
    its old state back after the block, also after an error. Generators of other devices are unchanged.

    Args:
        generator: one number is drawn from it. None leaves the global generator alone: `torch.manual_seed` decides,
            and it moves on.

    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     first = torch.rand(1)
    >>> with cpu_random(torch.Generator().manual_seed(0)):
    ...     bool(torch.rand(1) == first)
    True
    """
    if generator is None:
        yield
        return
    # A generator on another device has a state of another format, so pass on a seed and not the state.
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def global_unmoved(generator: torch.Generator | None) -> Iterator[None]:
    """Restore the state of torch's global CPU generator after the block if a generator was passed.

    Wrap this around code of the user's that draws weights which are overwritten later, such as a constructor. Those
    weights need not depend on `generator`, but the global generator must not move.

    Args:
        generator: of the caller. None means that the global generator is in use, so that it moves on.

    >>> before = torch.get_rng_state()
    >>> with global_unmoved(torch.Generator()):
    ...     draw = torch.rand(1)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        yield
