"""Train model zoos and hyper-representations. The package `hyperinit` itself does not need this one.

`train(zoo, model=factory)` makes a hyper-representation of a folder of checkpoints. `make` also returns its figures.
"""

from typing import Any

__all__ = ["make", "train"]


def __getattr__(name: str) -> Any:
    """Import the functions on first use, because most commands need neither."""
    if name in __all__:
        from hyperinit_training.sources import from_checkpoints

        return getattr(from_checkpoints, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
