"""Training model zoos and hyper-representations: everything that needs a zoo, and nothing that `hyperinit` needs.

`train(zoo, model=factory)` makes a hyper-representation of a folder of checkpoints; `make` also says what was found.
"""

from typing import Any

__all__ = ["make", "train"]


def __getattr__(name: str) -> Any:
    """Load the functions on their first use: most commands need neither."""
    if name in __all__:
        from hyperinit_training.sources import from_checkpoints

        return getattr(from_checkpoints, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
