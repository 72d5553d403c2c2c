"""Train model zoos and hyper-representations. The package `hyperinit` itself does not need this one.

`train(zoo, model=factory)` makes a hyper-representation of a folder of checkpoints. `make` also returns its figures.
`align(a, b, example_input=x)` permutes the neurons of networks to bring their weights close. `soup(networks,
example_input=x)` averages them and measures whether the average works.
"""

import importlib
from typing import Any

PLACES = {
    "align": "symmetry.networks",
    "make": "sources.from_checkpoints",
    "soup": "checkpoints.soup",
    "train": "sources.from_checkpoints",
}
__all__ = ["align", "make", "soup", "train"]


def __getattr__(name: str) -> Any:
    """Import the functions on first use, because most commands need none."""
    if name in PLACES:
        return getattr(importlib.import_module(f"hyperinit_training.{PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
